//! The jobs of this coordinator as anybody may ask about them: those that wait or run, from memory,
//! and all of them, from their records. A job that is absent and a job of somebody else are the same
//! to whoever asks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use skyflight_catalog::{CatalogError, CatalogStore, Job, JobFilter, JobState};
use skyflight_engine::dispatch::QueryCounters;
use skyflight_engine::{EngineError, Result};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::config::JobsConfig;
use super::queue::FairQueue;
use super::result::ResultFile;

/// A job that waits or runs.
#[derive(Debug)]
pub(super) struct ActiveJob {
    pub(super) id: Uuid,
    pub(super) user: String,
    pub(super) submitted_unix_ms: i64,
    /// Cancelled by its user, or with the coordinator.
    pub(super) cancel: CancellationToken,
    pub(super) counters: Arc<QueryCounters>,
    /// Cancelled when the job is no longer active, for those who wait.
    pub(super) ended: CancellationToken,
    /// Whether its turn has come.
    has_turn: AtomicBool,
    expected_chunks: u64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl ActiveJob {
    pub(super) fn new(id: Uuid, job: &Job, cancel: CancellationToken) -> ActiveJob {
        ActiveJob {
            id,
            user: job.user.clone(),
            submitted_unix_ms: job.submitted_unix_ms,
            cancel,
            counters: Arc::default(),
            ended: CancellationToken::new(),
            has_turn: AtomicBool::new(false),
            expected_chunks: job.estimate.chunks,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The job begins from its start: what is kept of its chunks is counted again.
    pub(super) fn begin(&self) {
        for counter in [&self.counters.chunks_done, &self.counters.chunks_planned, &self.rows, &self.bytes] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Rows that went into the result, and how long it is now.
    pub(super) fn wrote(&self, rows: u64, result_bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.store(result_bytes, Ordering::Relaxed);
    }

    fn progress(&self) -> Progress {
        let done = QueryCounters::get(&self.counters.chunks_done);
        Progress {
            chunks_done: done,
            // Leaves say their chunks when they begin; the estimate knows all of them before.
            chunks_planned: self.expected_chunks.max(QueryCounters::get(&self.counters.chunks_planned)).max(done),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) chunks_done: u64,
    pub(crate) chunks_planned: u64,
    /// Of the result, so far.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// A job and how far it is.
#[derive(Debug, Clone)]
pub(crate) struct JobView {
    pub(crate) job: Job,
    pub(crate) progress: Progress,
}

impl JobView {
    /// The part that is done, from 0 to 1; 1 when nothing more is computed.
    pub(crate) fn part_done(&self) -> f64 {
        if self.job.state.has_ended() {
            return 1.0;
        }
        let Progress { chunks_done, chunks_planned, .. } = self.progress;
        if chunks_planned == 0 { 0.0 } else { chunks_done as f64 / chunks_planned as f64 }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct JobBook {
    config: JobsConfig,
    store: Arc<dyn CatalogStore>,
    active: Mutex<Active>,
}

#[derive(Debug, Default)]
struct Active {
    jobs: HashMap<Uuid, Arc<ActiveJob>>,
    queue: FairQueue,
    /// Jobs whose turn has come, by user.
    running: HashMap<String, usize>,
    /// Jobs that are about to be recorded, by user.
    reserved: HashMap<String, usize>,
    /// Bytes of the results that are kept, by user. Below zero for a moment where one expires at once.
    kept: HashMap<String, i64>,
}

impl Active {
    fn change_kept(&mut self, user: &str, by: i64) {
        let kept = self.kept.entry(user.to_owned()).or_default();
        *kept += by;
        if *kept == 0 {
            self.kept.remove(user);
        }
    }
}

/// A place among the jobs of a user, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    book: Arc<JobBook>,
    user: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        count_down(&mut self.book.active.lock().reserved, &self.user);
    }
}

fn count_down(counts: &mut HashMap<String, usize>, user: &str) {
    if let Some(count) = counts.get_mut(user) {
        *count -= 1;
        if *count == 0 {
            counts.remove(user);
        }
    }
}

impl JobBook {
    pub(crate) fn new(config: JobsConfig, store: Arc<dyn CatalogStore>) -> Self {
        JobBook { config, store, active: Mutex::default() }
    }

    pub(super) fn config(&self) -> &JobsConfig {
        &self.config
    }

    /// The folder of one job.
    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.config.folder.join(id)
    }

    /// The file of its rows.
    pub(super) fn result_path(&self, id: &str) -> PathBuf {
        self.folder(id).join("result.arrow")
    }

    /// A place for one more job of the user, held until the job has been added.
    ///
    /// Errors: `ResourceExhausted` when the user has as many open jobs as may be.
    pub(super) fn reserve(self: &Arc<Self>, user: &str) -> Result<Place> {
        let mut active = self.active.lock();
        let added = active.jobs.values().filter(|job| job.user == user).count();
        let open = added + active.reserved.get(user).copied().unwrap_or(0);
        if open < self.config.open_per_user {
            *active.reserved.entry(user.to_owned()).or_default() += 1;
            return Ok(Place { book: Arc::clone(self), user: user.to_owned() });
        }
        Err(EngineError::ResourceExhausted(format!(
            "{open} of your jobs wait or run, which is the limit (jobs.open_per_user); submit more when some have ended, \
             or cancel some"
        )))
    }

    /// How many jobs wait for their turn, and how many run.
    pub(crate) fn waiting_and_running(&self) -> (usize, usize) {
        let active = self.active.lock();
        let waiting = active.queue.len();
        (waiting, active.jobs.len().saturating_sub(waiting))
    }

    pub(super) fn add(&self, job: ActiveJob) {
        let job = Arc::new(job);
        let mut active = self.active.lock();
        active.queue.push(&job.user, job.id);
        active.jobs.insert(job.id, job);
    }

    /// The job whose turn it is: of a user who has not as many running as one user may.
    pub(super) fn next(&self) -> Option<Arc<ActiveJob>> {
        let most = self.config.running_per_user.max(1);
        let mut active = self.active.lock();
        let Active { jobs, queue, running, .. } = &mut *active;
        let id = queue.pop(|user| running.get(user).is_none_or(|running| *running < most))?;
        let job = jobs.get(&id).cloned()?;
        *running.entry(job.user.clone()).or_default() += 1;
        job.has_turn.store(true, Ordering::Relaxed);
        Some(job)
    }

    /// Takes a job that still waits out of the queue.
    pub(super) fn withdraw(&self, id: Uuid) -> bool {
        self.active.lock().queue.remove(id)
    }

    pub(super) fn active(&self, id: Uuid) -> Option<Arc<ActiveJob>> {
        self.active.lock().jobs.get(&id).cloned()
    }

    /// The job is no longer active.
    pub(super) fn end(&self, id: Uuid) {
        let mut active = self.active.lock();
        if let Some(job) = active.jobs.remove(&id) {
            if job.has_turn.load(Ordering::Relaxed) {
                count_down(&mut active.running, &job.user);
            }
            job.ended.cancel();
        }
    }

    /// Bytes of a user's results: those that are kept, and those that are being written.
    pub(super) fn bytes_of(&self, user: &str) -> u64 {
        let active = self.active.lock();
        let written: u64 =
            active.jobs.values().filter(|job| job.user == user).map(|job| job.bytes.load(Ordering::Relaxed)).sum();
        written.saturating_add_signed(active.kept.get(user).copied().unwrap_or(0))
    }

    /// What the job has written is kept from now on. In one step: at no moment is it counted twice, or not at all.
    pub(super) fn finished(&self, job: &ActiveJob, bytes: u64) {
        let mut active = self.active.lock();
        job.bytes.store(0, Ordering::Relaxed);
        active.change_kept(&job.user, bytes.cast_signed());
    }

    /// A result is there that an earlier coordinator wrote.
    pub(super) fn keep(&self, user: &str, bytes: u64) {
        self.active.lock().change_kept(user, bytes.cast_signed());
    }

    /// A result is gone.
    pub(super) fn release(&self, user: &str, bytes: u64) {
        self.active.lock().change_kept(user, -bytes.cast_signed());
    }

    /// The job of that id.
    ///
    /// Errors: `NotFound` where the user has none.
    pub(crate) async fn view(&self, user: &str, id: Uuid) -> Result<JobView> {
        match self.store.job(&id.to_string()).await {
            Ok(job) if job.user == user => Ok(self.viewed(job)),
            Ok(_) | Err(CatalogError::NotFound { .. }) => Err(no_job(&id.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// The latest jobs of a user, newest first.
    pub(crate) async fn views(&self, user: &str, limit: u32) -> Result<Vec<JobView>> {
        let jobs = self.store.jobs(JobFilter { user: Some(user), limit, ..JobFilter::default() }).await?;
        Ok(jobs.into_iter().map(|job| self.viewed(job)).collect())
    }

    /// Waits until a job has ended or gone on, or for as long as `patience`.
    ///
    /// Errors: as [`JobBook::view`].
    pub(crate) async fn wait(&self, user: &str, id: Uuid, patience: Duration) -> Result<JobView> {
        const STEP: Duration = Duration::from_millis(250);
        let deadline = tokio::time::Instant::now() + patience;
        let first = self.view(user, id).await?;
        while let Some(active) = self.active(id) {
            let _ = tokio::time::timeout(STEP, active.ended.cancelled()).await;
            if active.progress() != first.progress || tokio::time::Instant::now() >= deadline {
                break;
            }
        }
        self.view(user, id).await
    }

    /// The rows of a finished job.
    ///
    /// Errors: as [`JobBook::view`]; otherwise why it has no rows.
    pub(crate) async fn result(&self, user: &str, id: Uuid) -> Result<(JobView, ResultFile)> {
        let view = self.view(user, id).await?;
        let recorded = match (&view.job.state, &view.job.result) {
            (JobState::Finished, Some(recorded)) => *recorded,
            _ => return Err(without_rows(&view)),
        };
        let path = self.result_path(&view.job.id);
        let opened = tokio::task::spawn_blocking(move || ResultFile::open(&path, &recorded)).await;
        let opened = opened.map_err(|e| EngineError::Internal(format!("a result cannot be opened: {e}")))?;
        let file = opened.map_err(|error| lost(&view.job.id, &error))?;
        Ok((view, file))
    }

    pub(super) fn viewed(&self, job: Job) -> JobView {
        let active = job.id.parse().ok().and_then(|id| self.active(id)).filter(|_| !job.state.has_ended());
        let progress = match (active, job.result) {
            (Some(active), _) => active.progress(),
            (None, result) => Progress {
                chunks_done: job.chunks,
                chunks_planned: job.estimate.chunks,
                rows: result.map_or(0, |result| result.rows),
                bytes: result.map_or(0, |result| result.bytes),
            },
        };
        JobView { job, progress }
    }
}

pub(crate) fn no_job(id: &str) -> EngineError {
    EngineError::NotFound(format!("you have no query or job \"{id}\"; system.queries lists those you have"))
}

/// A result that was recorded and is not there as it was.
pub(crate) fn lost(id: &str, error: &std::io::Error) -> EngineError {
    EngineError::Corrupt(format!("the result of job {id} cannot be read: {error}; submit the query again"))
}

/// Why a job has no rows to read.
pub(crate) fn without_rows(view: &JobView) -> EngineError {
    let id = &view.job.id;
    match view.job.state {
        JobState::Queued => {
            EngineError::Invalid(format!("job {id} waits for its turn; read its rows when it has finished"))
        }
        JobState::Running => EngineError::Invalid(format!(
            "job {id} is running ({:.0} % done); read its rows when it has finished",
            100.0 * view.part_done()
        )),
        JobState::Failed => {
            let why = view.job.failure.as_ref().map_or("no reason is recorded", |failure| failure.message.as_str());
            EngineError::Invalid(format!("job {id} failed: {why}"))
        }
        JobState::Cancelled => EngineError::Invalid(format!("job {id} was cancelled; submit the query again")),
        JobState::Expired => {
            EngineError::NotFound(format!("the result of job {id} has expired; submit the query again"))
        }
        JobState::Finished => EngineError::Corrupt(format!(
            "job {id} has finished, and where its result lies is not recorded; submit the query again"
        )),
    }
}
