//! The bounds of jobs.

use std::path::PathBuf;
use std::time::Duration;

/// Where jobs keep what they have, for how long, and how many there may be.
#[derive(Debug, Clone)]
pub struct JobsConfig {
    /// The folder of results and of the chunks of jobs that run. It belongs to the coordinator alone:
    /// what is of no job is removed from it.
    pub folder: PathBuf,
    /// Jobs that run at a time; the rest wait their turn. Default 4.
    pub running: usize,
    /// Jobs of one user that run at a time, so that others need not wait for the end of them. Default 3.
    pub running_per_user: usize,
    /// Jobs of one user that wait or run; one more is refused. Default 1,000.
    pub open_per_user: usize,
    /// How long a result is kept. Default 7 days.
    pub result_ttl: Duration,
    /// Bytes of all results of one user. Default 64 GiB.
    pub result_bytes_per_user: u64,
    /// Bytes of finished chunks that one running job keeps for the case that the coordinator dies.
    /// Default 64 GiB.
    pub kept_bytes_per_job: u64,
    /// A query that waits for its rows is refused when its estimate is longer, and told to be a job;
    /// `None` refuses none. Default 1 h.
    pub blocking_limit: Option<Duration>,
}

impl JobsConfig {
    /// The defaults, with everything in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        JobsConfig {
            folder,
            running: 4,
            running_per_user: 3,
            open_per_user: 1_000,
            result_ttl: Duration::from_secs(7 * 24 * 3_600),
            result_bytes_per_user: 64 << 30,
            kept_bytes_per_job: 64 << 30,
            blocking_limit: Some(Duration::from_secs(3_600)),
        }
    }
}
