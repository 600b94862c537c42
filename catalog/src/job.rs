//! Jobs, and the one place that says how a job may go from state to state.

use serde::{Deserialize, Serialize};

use crate::ids::{DatabaseId, SnapshotId};
use crate::records::{Estimated, words};

/// Where a job is in its life: `queued → running → finished → expired`, or on the way `failed` or
/// `cancelled`, which are the end. A job that was running when its coordinator died is still running:
/// the next coordinator goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted; waits for its turn.
    Queued,
    /// Begun and not ended.
    Running,
    /// Its result is whole and can be fetched.
    Finished,
    /// Ended by an error.
    Failed,
    /// Ended by its user.
    Cancelled,
    /// Finished once; its result has been removed.
    Expired,
}

words!(JobState, "state of a job", {
    Queued => "queued", Running => "running", Finished => "finished", Failed => "failed",
    Cancelled => "cancelled", Expired => "expired",
});

impl JobState {
    /// True where nothing more is computed.
    #[must_use]
    pub fn has_ended(self) -> bool {
        !matches!(self, JobState::Queued | JobState::Running)
    }
}

/// An asynchronous query: all it takes to run it, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The id of its query: a UUID as text.
    pub id: String,
    /// Who submitted it; nobody else sees it.
    pub user: String,
    /// The query.
    pub sql: String,
    /// The values bound to its parameters, as an Arrow IPC stream.
    pub values: Option<Vec<u8>>,
    /// The database of its unqualified names.
    pub default_database: Option<String>,
    /// Whether its session asked for shuffling.
    pub shuffle: Option<String>,
    /// Whether its rows have signed integers alone.
    pub signed_integers: bool,
    /// The trace of its client, of which it is a part: a W3C `traceparent` header.
    pub traceparent: Option<String>,
    /// What it runs on.
    pub snapshots: Vec<(DatabaseId, SnapshotId)>,
    /// The schema of its rows, as an IPC message.
    pub schema: Vec<u8>,
    /// What its user should know beforehand.
    pub warnings: Vec<String>,
    /// What was expected of it.
    pub estimate: Estimated,
    /// Where it is.
    pub state: JobState,
    /// When it was submitted, milliseconds of Unix time; `now()` in it means this moment.
    pub submitted_unix_ms: i64,
    /// When it first began.
    pub started_unix_ms: Option<i64>,
    /// When it ended.
    pub ended_unix_ms: Option<i64>,
    /// Until when its result is kept.
    pub expires_unix_ms: Option<i64>,
    /// How often it was begun: once, and once more for each coordinator that died on it.
    pub starts: u64,
    /// Chunk runs that counted, over all starts.
    pub chunks: u64,
    /// Why it failed.
    pub failure: Option<JobFailure>,
    /// What it gave.
    pub result: Option<JobResult>,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// The gRPC code that its user is told.
    pub code: i32,
    /// What its user can do.
    pub message: String,
}

/// The file with a job's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// Rows.
    pub rows: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Record batches, by whose number a fetch goes on where it broke off.
    pub batches: u64,
    /// Digest of the file.
    pub sha256: [u8; 32],
}

/// A job's way from one state to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStep {
    /// It begins, or begins again after its coordinator died.
    Start {
        /// Now, milliseconds of Unix time.
        at_unix_ms: i64,
    },
    /// Its result is on disk.
    Finish {
        /// Now.
        at_unix_ms: i64,
        /// Until when the result is kept.
        expires_unix_ms: i64,
        /// Chunk runs that counted.
        chunks: u64,
        /// The result.
        result: JobResult,
    },
    /// It cannot be brought to an end.
    Fail {
        /// Now.
        at_unix_ms: i64,
        /// Chunk runs that counted.
        chunks: u64,
        /// Why.
        failure: JobFailure,
    },
    /// Its user does not want it any more.
    Cancel {
        /// Now.
        at_unix_ms: i64,
        /// Chunk runs that counted.
        chunks: u64,
    },
    /// Its result is about to be removed.
    Expire,
}

impl JobStep {
    /// The states in which the step can be taken.
    #[must_use]
    pub fn from(&self) -> [JobState; 2] {
        match self {
            JobStep::Start { .. } | JobStep::Fail { .. } | JobStep::Cancel { .. } => {
                [JobState::Queued, JobState::Running]
            }
            JobStep::Finish { .. } => [JobState::Running; 2],
            JobStep::Expire => [JobState::Finished; 2],
        }
    }

    /// The state to which it leads.
    #[must_use]
    pub fn to(&self) -> JobState {
        match self {
            JobStep::Start { .. } => JobState::Running,
            JobStep::Finish { .. } => JobState::Finished,
            JobStep::Fail { .. } => JobState::Failed,
            JobStep::Cancel { .. } => JobState::Cancelled,
            JobStep::Expire => JobState::Expired,
        }
    }
}

/// Which jobs to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobFilter<'a> {
    /// Those of this user; of all where there is none.
    pub user: Option<&'a str>,
    /// Those in one of these states; in any where there are none.
    pub states: &'a [JobState],
    /// Those whose result was kept until this moment or an earlier one, milliseconds of Unix time.
    pub expired_at_unix_ms: Option<i64>,
    /// At most so many, the latest.
    pub limit: u32,
}
