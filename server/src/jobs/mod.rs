//! Jobs: queries that outlive their client, and the coordinator.
//!
//! The way of a job: [`Jobs::submit`] plans it, records it (from there on it cannot be lost) and puts it
//! into the fair queue (`queue`); when its turn comes, `run` plans it again on the same snapshots and
//! writes its rows to a file (`result`), while `ledger` keeps each finished chunk. [`JobBook`] answers
//! questions about it. A coordinator that starts puts back what waited or ran: what the ledger has is
//! not run again, and the rest of the way is the same.

mod book;
mod config;
mod ledger;
mod queue;
mod result;
mod run;
mod table;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::CancelStatus;
use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use skyflight_catalog::{CatalogStore, Estimated, Job, JobFilter, JobState, JobStep};
use skyflight_engine::dispatch::{QueryContext, QueryCounters};
use skyflight_engine::frames::{encode_batches, encode_schema};
use skyflight_engine::{Engine, EngineError, Estimate, PlannedQuery, Result, SessionOptions};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use self::book::ActiveJob;
pub(crate) use self::book::{JobBook, JobView, no_job, without_rows};
pub use self::config::JobsConfig;
pub(crate) use self::ledger::KeepingDispatcher;
pub(crate) use self::table::frames;
use crate::clock::unix_ms;
use crate::figures;
use crate::session::Caller;

/// How often results are looked at that may have expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// Results removed in one sweep.
const SWEPT_AT_ONCE: u32 = 1_000;

/// How long a cancelled job may take to stop before its canceller is told that it still does.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

/// The jobs of a coordinator. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Shared>);

/// What jobs are made of.
pub(crate) struct JobsParts {
    pub(crate) book: Arc<JobBook>,
    pub(crate) store: Arc<dyn CatalogStore>,
    pub(crate) engine: Engine,
    pub(crate) dispatcher: Arc<KeepingDispatcher>,
    pub(crate) cpu: Handle,
    /// Cancelled when the coordinator stops.
    pub(crate) stop: CancellationToken,
}

pub(super) struct Shared {
    book: Arc<JobBook>,
    store: Arc<dyn CatalogStore>,
    engine: Engine,
    dispatcher: Arc<KeepingDispatcher>,
    cpu: Handle,
    /// Where a record is written together with what follows from it, also when its caller goes away.
    runtime: Handle,
    stop: CancellationToken,
    /// A job has come into the queue.
    came: Notify,
}

impl Jobs {
    /// Takes up the jobs that an earlier coordinator left, and runs them, and others, on `runtime`, for
    /// as long as the second value is held.
    ///
    /// Errors: the records or the folder of jobs cannot be read.
    pub(crate) async fn start(parts: JobsParts, runtime: &Handle) -> Result<(Jobs, AbortOnDropHandle<()>)> {
        let JobsParts { book, store, engine, dispatcher, cpu, stop } = parts;
        let came = Notify::new();
        let shared = Arc::new(Shared { book, store, engine, dispatcher, cpu, runtime: runtime.clone(), stop, came });
        shared.take_up().await?;
        let turns = AbortOnDropHandle::new(runtime.spawn(take_turns(Arc::clone(&shared))));
        Ok((Jobs(shared), turns))
    }

    /// Accepts a query, with rows of values for its parameters, as a job. When this returns, the job
    /// cannot be lost.
    ///
    /// Errors: those of planning; `ResourceExhausted` when its user has too many jobs.
    pub(crate) async fn submit(&self, caller: &Caller, sql: &str, values: Option<&RecordBatch>) -> Result<JobView> {
        let shared = &self.0;
        let place = shared.book.reserve(&caller.user)?;
        let now = unix_ms();
        let session = shared
            .engine
            .session(SessionOptions {
                user: caller.user.clone(),
                default_database: caller.default_database.clone(),
                snapshots: None,
                shuffle: caller.shuffle,
                signed_integers: caller.agent.wants_signed_integers(),
                clock_unix_ms: Some(now),
            })
            .await?;
        let query = QueryContext::new(caller.user.clone());
        let id = query.id;
        let planned = session.plan_bound(sql, values.cloned(), query).await?;
        let encoded =
            values.map(|values| encode_batches(&values.schema(), std::slice::from_ref(values))).transpose()?;
        let job = Job {
            id: id.to_string(),
            user: caller.user.clone(),
            sql: sql.to_owned(),
            values: encoded.map(|values| values.to_vec()),
            default_database: caller.default_database.clone(),
            shuffle: caller.shuffle.map(|mode| mode.name().to_owned()),
            signed_integers: caller.agent.wants_signed_integers(),
            traceparent: caller.traceparent.clone(),
            snapshots: session.snapshots(),
            schema: encode_schema(&planned.schema()).to_vec(),
            warnings: warnings(&planned)?,
            estimate: estimated(&planned.estimate()?),
            state: JobState::Queued,
            submitted_unix_ms: now,
            started_unix_ms: None,
            ended_unix_ms: None,
            expires_unix_ms: None,
            starts: 0,
            chunks: 0,
            failure: None,
            result: None,
        };
        let shared = Arc::clone(shared);
        self.to_the_end(async move {
            shared.store.submit_job(&job).await?;
            tracing::info!(job = job.id, user = job.user, chunks = job.estimate.chunks, "job submitted");
            shared.book.add(ActiveJob::new(id, &job, shared.stop.child_token()));
            drop(place);
            shared.came.notify_one();
            Ok(shared.book.viewed(job))
        })
        .await
    }

    /// Cancels a job of `user`; `None` where there is none.
    ///
    /// Errors: the records cannot be read or written.
    pub(crate) async fn cancel(&self, user: &str, id: Uuid) -> Result<Option<CancelStatus>> {
        let view = match self.0.book.view(user, id).await {
            Ok(view) => view,
            Err(EngineError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let shared = Arc::clone(&self.0);
        self.to_the_end(async move { shared.cancel(&view.job, id).await.map(Some) }).await
    }

    /// Runs what must not stop half way, whether or not its caller still waits: a record and the work that
    /// goes with it. It is short.
    async fn to_the_end<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let ended = self.0.runtime.spawn(work).await;
        ended.map_err(|error| EngineError::Internal(format!("changing the record of a job stopped: {error}")))?
    }

    /// What is known of the jobs.
    pub(crate) fn book(&self) -> &Arc<JobBook> {
        &self.0.book
    }
}

impl JobBook {
    /// The rows of a finished job as a table.
    ///
    /// Errors: as [`JobBook::result`].
    pub(crate) async fn table(&self, user: &str, id: &str) -> Result<Arc<dyn TableProvider>> {
        let uuid = id.parse().map_err(|_| no_job(id))?;
        let (_, file) = self.result(user, uuid).await?;
        Ok(table::job_table(id, file)?)
    }
}

impl Shared {
    /// Cancels a job that was `job` a moment ago.
    async fn cancel(&self, job: &Job, id: Uuid) -> Result<CancelStatus> {
        let active = self.book.active(id);
        match job.state {
            // What it runs is told again: the coordinator may have died, or failed, between record and work.
            JobState::Cancelled => {}
            state if state.has_ended() => return Ok(CancelStatus::NotCancellable),
            _ => {
                let chunks = active.as_ref().map_or(0, |active| QueryCounters::get(&active.counters.chunks_done));
                // From here on it is cancelled, whatever happens to the coordinator.
                if !self.store.step_job(&job.id, &JobStep::Cancel { at_unix_ms: unix_ms(), chunks }).await? {
                    return Ok(CancelStatus::NotCancellable);
                }
            }
        }
        let Some(active) = active else { return Ok(CancelStatus::Cancelled) };
        active.cancel.cancel();
        if self.book.withdraw(id) {
            figures::job_closed(JobState::Cancelled, job.submitted_unix_ms, None, &active.counters);
            self.book.end(id);
            self.forget(&job.id).await;
        }
        let stopped = tokio::time::timeout(CANCEL_PATIENCE, active.ended.cancelled()).await;
        Ok(if stopped.is_ok() { CancelStatus::Cancelled } else { CancelStatus::Cancelling })
    }

    /// Puts the jobs that wait or ran into the queue, those that ran first, and removes what is of no job.
    async fn take_up(&self) -> Result<()> {
        let folder = &self.book.config().folder;
        let unreadable = |error: std::io::Error| {
            EngineError::Internal(format!("the folder of jobs {} cannot be used: {error}", folder.display()))
        };
        tokio::fs::create_dir_all(folder).await.map_err(unreadable)?;
        let states = [JobState::Queued, JobState::Running];
        let mut open = self.store.jobs(JobFilter { states: &states, limit: u32::MAX, ..JobFilter::default() }).await?;
        open.sort_by_key(|job| (job.state == JobState::Queued, job.submitted_unix_ms));
        let finished = JobFilter { states: &[JobState::Finished], limit: u32::MAX, ..JobFilter::default() };
        let finished = self.store.jobs(finished).await?;
        let waiting: HashSet<&str> = open.iter().map(|job| job.id.as_str()).collect();
        let with_result: HashSet<&str> = finished.iter().map(|job| job.id.as_str()).collect();
        let mut entries = tokio::fs::read_dir(folder).await.map_err(unreadable)?;
        while let Some(entry) = entries.next_entry().await.map_err(unreadable)? {
            let name = entry.file_name();
            match name.to_str().filter(|name| name.parse::<Uuid>().is_ok()) {
                // Whatever else lies there is not ours.
                None => {}
                Some(id) if waiting.contains(id) => {}
                // The coordinator died between the record and the removal.
                Some(id) if with_result.contains(id) => run::remove(chunks_in(&entry.path())).await,
                Some(_) => run::remove(entry.path()).await,
            }
        }
        for job in &finished {
            self.book.keep(&job.user, job.result.map_or(0, |result| result.bytes));
        }
        for job in &open {
            let id = job.id.parse().map_err(|_| EngineError::Internal(format!("job {} has no id", job.id)))?;
            self.book.add(ActiveJob::new(id, job, self.stop.child_token()));
        }
        if !open.is_empty() {
            tracing::info!(jobs = open.len(), "jobs taken up");
        }
        Ok(())
    }

    /// Removes all that is on disk of a job.
    async fn forget(&self, id: &str) {
        run::remove(self.book.folder(id)).await;
    }

    /// Removes the results whose time is over.
    async fn expire(&self) -> Result<()> {
        let now = unix_ms();
        let over = JobFilter {
            states: &[JobState::Finished],
            expired_at_unix_ms: Some(now),
            limit: SWEPT_AT_ONCE,
            ..JobFilter::default()
        };
        for job in self.store.jobs(over).await? {
            if self.store.step_job(&job.id, &JobStep::Expire).await? {
                tracing::info!(job = job.id, user = job.user, "result expired");
                self.book.release(&job.user, job.result.map_or(0, |result| result.bytes));
                self.forget(&job.id).await;
            }
        }
        Ok(())
    }
}

/// Runs jobs whose turn it is, as many at a time as may be, and removes results whose time is over.
async fn take_turns(shared: Arc<Shared>) {
    let mut running = JoinSet::new();
    let mut jobs = HashMap::new();
    let mut sweeps = tokio::time::interval(shared.book.config().result_ttl.clamp(LEAST_INTERVAL, SWEEP_INTERVAL));
    while !shared.stop.is_cancelled() {
        while running.len() < shared.book.config().running.max(1)
            && let Some(job) = shared.book.next()
        {
            let task = running.spawn(run::run(Arc::clone(&shared), Arc::clone(&job)));
            jobs.insert(task.id(), job);
        }
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = shared.came.notified() => {}
            Some(ended) = running.join_next_with_id(), if !running.is_empty() => match ended {
                Ok((task, ())) => drop(jobs.remove(&task)),
                Err(failure) => {
                    if let Some(job) = jobs.remove(&failure.id()) {
                        running.spawn(run::fail(Arc::clone(&shared), job, failure.to_string()));
                    }
                }
            },
            _ = sweeps.tick() => {
                if let Err(error) = shared.expire().await {
                    tracing::warn!(%error, "results whose time is over were not removed");
                }
            }
        }
    }
    // Their queries are cancelled with the coordinator; their records stay as they are.
    while running.join_next().await.is_some() {}
}

/// Where the finished chunks of a job lie that runs, in its folder.
fn chunks_in(folder: &Path) -> PathBuf {
    folder.join("chunks")
}

/// An estimate as it is recorded.
pub(crate) fn estimated(estimate: &Estimate) -> Estimated {
    let Estimate { chunks, rows, bytes, seconds } = *estimate;
    Estimated { chunks, rows, bytes, millis: (seconds * 1e3) as u64 }
}

/// What the user of a job should know of its query.
fn warnings(planned: &PlannedQuery) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if planned.is_volatile()? {
        warnings.push(
            "the query draws random values or the like: they are drawn anew where the coordinator restarts".to_owned(),
        );
    }
    if planned.is_shuffled() {
        warnings.push(
            "the workers exchange rows among themselves for this query: it begins anew where the coordinator restarts; \
             with the session option shuffle = never it would go on"
                .to_owned(),
        );
    }
    Ok(warnings)
}
