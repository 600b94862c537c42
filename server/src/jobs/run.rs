//! One job from its turn to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;
use opentelemetry::Context;
use skyflight_catalog::{CatalogError, Job, JobFailure, JobResult, JobState, JobStep};
use skyflight_engine::dispatch::{ChunkDispatcher, QueryContext};
use skyflight_engine::frames::{Frame, decode_batches, decode_schema};
use skyflight_engine::{EngineError, PlannedQuery, Result, SessionOptions};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::book::ActiveJob;
use super::ledger::Ledger;
use super::result::ResultWriter;
use super::{Shared, chunks_in};
use crate::clock::unix_ms;
use crate::error::status_of;
use crate::figures;
use crate::query::{frames_of, trace};
use skyflight_engine::message_limit::MessageLimit;

/// Pauses before a job whose workers cannot be reached is tried again; then it fails. Its finished
/// chunks are kept meanwhile.
const PATIENCE: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30)];

/// Frames between the query and the disk.
const FRAMES_AHEAD: usize = 4;

/// Pauses before a record is read or written again that could not be; the last is repeated.
const RECORD_PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Brings a job to its end and records it. When the coordinator stops, the job stays as it is.
pub(super) async fn run(shared: Arc<Shared>, active: Arc<ActiveJob>) {
    let recorded = run_recorded(&shared, &active, &active.id.to_string()).await;
    match recorded {
        Ok(()) => shared.book.end(active.id),
        Err(error) => fail(shared, active, error.to_string()).await,
    }
}

/// Closes the record of a job whose task panicked, or whose record cannot be written as it should.
pub(super) async fn fail(shared: Arc<Shared>, active: Arc<ActiveJob>, why: String) {
    let id = active.id.to_string();
    let failure = JobFailure { code: Code::Internal as i32, message: format!("running the job failed: {why}") };
    let step = JobStep::Fail { at_unix_ms: unix_ms(), chunks: 0, failure };
    match insist(&shared.stop, &id, || shared.store.step_job(&id, &step)).await {
        Some(Err(error)) => tracing::error!(job = id, %error, "the record of a job is lost"),
        Some(Ok(true)) => {
            figures::job_closed(JobState::Failed, active.submitted_unix_ms, None, &active.counters);
            shared.forget(&id).await;
        }
        // It had ended before, perhaps with a result.
        Some(Ok(false)) | None => {}
    }
    shared.book.end(active.id);
}

async fn run_recorded(shared: &Arc<Shared>, active: &Arc<ActiveJob>, id: &str) -> Result<()> {
    let begin = JobStep::Start { at_unix_ms: unix_ms() };
    let Some(begun) = insist(&shared.stop, id, || shared.store.step_job(id, &begin)).await else {
        return Ok(());
    };
    if !begun? {
        // Cancelled on its way here.
        shared.forget(id).await;
        return Ok(());
    }
    let Some(job) = insist(&shared.stop, id, || shared.store.job(id)).await else { return Ok(()) };
    let job = job?;
    let folder = chunks_in(&shared.book.folder(id));
    let begun = unix_ms();
    let span = trace::begin("job", job.traceparent.as_deref(), &active.id, &job.user);
    let (ended, chunks) = tries(shared, active, &job, &folder, &span).await;
    let now = unix_ms();
    let step = match ended {
        // Whatever it says: it may have failed because the rest of the coordinator has stopped.
        Err(_) if shared.stop.is_cancelled() => return Ok(()),
        Err(EngineError::Cancelled) if active.cancel.is_cancelled() => JobStep::Cancel { at_unix_ms: now, chunks },
        Err(error) => {
            let status = status_of(&error, Some(active.id));
            let failure = JobFailure { code: status.code() as i32, message: status.message().to_owned() };
            JobStep::Fail { at_unix_ms: now, chunks, failure }
        }
        Ok(result) => {
            let ttl = i64::try_from(shared.book.config().result_ttl.as_millis()).unwrap_or(i64::MAX);
            JobStep::Finish { at_unix_ms: now, expires_unix_ms: now.saturating_add(ttl), chunks, result }
        }
    };
    let Some(taken) = insist(&shared.stop, id, || shared.store.step_job(id, &step)).await else {
        return Ok(());
    };
    let outcome = if taken? {
        step.to()
    } else {
        // Its canceller was here first, or the step was taken before and its answer lost: its result must stay.
        let Some(job) = insist(&shared.stop, id, || shared.store.job(id)).await else { return Ok(()) };
        job?.state
    };
    let (rows, bytes) = match &step {
        JobStep::Finish { result, .. } => (result.rows, result.bytes),
        _ => (0, 0),
    };
    let error = if let JobStep::Fail { failure, .. } = &step { Some(failure.message.as_str()) } else { None };
    trace::end(&span, outcome.as_str(), rows, bytes, chunks, error);
    figures::job_closed(outcome, job.submitted_unix_ms, Some(begun), &active.counters);
    tracing::info!(job = id, user = active.user, outcome = %outcome, chunks, "job closed");
    if outcome == JobState::Finished {
        shared.book.finished(active, bytes);
        remove(folder).await;
    } else {
        shared.forget(id).await;
    }
    Ok(())
}

/// Reads or writes a record of a job, again while the store fails: a job whose step is lost would neither
/// run nor end. `None` when the coordinator stops before; then the next goes on with it.
///
/// Errors: those that do not pass by themselves.
async fn insist<T, F: Future<Output = skyflight_catalog::Result<T>>>(
    stop: &CancellationToken,
    id: &str,
    attempt: impl Fn() -> F,
) -> Option<Result<T>> {
    let [.., longest] = RECORD_PAUSES;
    let mut pauses = RECORD_PAUSES.into_iter();
    loop {
        let error = match attempt().await {
            Err(error @ CatalogError::Database(_)) => error,
            ended => return Some(ended.map_err(EngineError::from)),
        };
        let pause = pauses.next().unwrap_or(longest);
        tracing::warn!(job = id, %error, pause_s = pause.as_secs_f32(), "the record of a job cannot be read or written");
        stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
    }
}

/// Runs the job until it has rows, or an error that does not pass by itself; and how many chunk runs
/// counted.
async fn tries(
    shared: &Arc<Shared>,
    active: &Arc<ActiveJob>,
    job: &Job,
    folder: &Path,
    span: &Context,
) -> (Result<JobResult>, u64) {
    let mut pauses = PATIENCE.into_iter();
    loop {
        let (ended, chunks) = attempt(shared, active, job, folder, span).await;
        let (why, pause) = match (ended, pauses.next()) {
            (Err(EngineError::Unavailable(why)), Some(pause)) => (why, pause),
            (ended, _) => return (ended, chunks),
        };
        tracing::warn!(job = job.id, why, pause_s = pause.as_secs(), "workers cannot be reached, the job waits");
        if active.cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return (Err(EngineError::Cancelled), chunks);
        }
    }
}

/// One run, with what earlier ones have kept: the ledger is read anew, as after a restart.
async fn attempt(
    shared: &Arc<Shared>,
    active: &Arc<ActiveJob>,
    job: &Job,
    folder: &Path,
    span: &Context,
) -> (Result<JobResult>, u64) {
    match Ledger::open(folder, shared.book.config().kept_bytes_per_job, active.cancel.clone()).await {
        Err(error) => (Err(error), job.chunks),
        Ok(ledger) => {
            let ledger = Arc::new(ledger);
            let _keeping = shared.dispatcher.keep(active.id, Arc::clone(&ledger));
            (result(shared, active, job, span).await, ledger.runs())
        }
    }
}

async fn result(shared: &Arc<Shared>, active: &Arc<ActiveJob>, job: &Job, span: &Context) -> Result<JobResult> {
    active.begin();
    // A token of its own: rows that are dropped cancel their query.
    let query = QueryContext {
        id: active.id,
        cancel: active.cancel.child_token(),
        counters: Arc::clone(&active.counters),
        trace: span.clone(),
        ..QueryContext::new(job.user.clone())
    };
    let planned = tokio::select! {
        () = active.cancel.cancelled() => return Err(EngineError::Cancelled),
        planned = plan(shared, job, query) => planned?,
    };
    let schema = decode_schema(&job.schema)?;
    if planned.schema() != schema {
        return Err(EngineError::Internal("the query has another schema than when it was submitted".into()));
    }
    let dispatcher: Arc<dyn ChunkDispatcher> = Arc::clone(&shared.dispatcher) as _;
    let frames = frames_of(&planned, &dispatcher, &shared.cpu)?;
    write(shared, active, schema, frames).await
}

async fn plan(shared: &Shared, job: &Job, query: QueryContext) -> Result<PlannedQuery> {
    let session = shared.engine.session(session_options(job)).await?;
    let values = job.values.as_deref().map(decode_batches).transpose()?;
    let values = values.and_then(|(_, batches)| batches.into_iter().next());
    session.plan_bound(&job.sql, values, query).await
}

/// The session of a job: whenever it is opened, the same query is planned in it.
fn session_options(job: &Job) -> SessionOptions {
    SessionOptions {
        user: job.user.clone(),
        default_database: job.default_database.clone(),
        snapshots: Some(job.snapshots.clone()),
        shuffle: job.shuffle.as_deref().and_then(|mode| mode.parse().ok()),
        signed_integers: job.signed_integers,
        clock_unix_ms: Some(job.submitted_unix_ms),
    }
}

enum Piece {
    Frame(Frame),
    /// Nothing is missing.
    End,
}

/// Writes the rows as the job's result.
async fn write(
    shared: &Arc<Shared>,
    active: &Arc<ActiveJob>,
    schema: SchemaRef,
    mut frames: BoxStream<'static, Result<Frame>>,
) -> Result<JobResult> {
    let (pieces, waiting) = mpsc::channel(FRAMES_AHEAD);
    let disk = Disk { shared: Arc::clone(shared), active: Arc::clone(active), schema: Arc::clone(&schema) };
    let writer = tokio::task::spawn_blocking(move || disk.write(waiting));
    let mut ended = Ok(());
    while let Some(frame) = frames.next().await {
        match frame {
            // A writer that has gone says why below.
            Ok(frame) => {
                if send(&pieces, frame, &schema).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    // Rows may end because they are cancelled.
    if ended.is_ok() && active.cancel.is_cancelled() {
        ended = Err(EngineError::Cancelled);
    }
    if ended.is_ok() {
        let _ = pieces.send(Piece::End).await;
    }
    drop((pieces, frames));
    let written = writer.await.map_err(|e| EngineError::Internal(format!("writing the result stopped: {e}")))?;
    ended?;
    written?.ok_or_else(|| EngineError::Internal("the result ended before its end".into()))
}

/// Cuts what most clients could not take; then a batch is a message, and its number that of the message.
async fn send(
    pieces: &mpsc::Sender<Piece>,
    frame: Frame,
    schema: &SchemaRef,
) -> Result<(), mpsc::error::SendError<Piece>> {
    let limit = MessageLimit::default();
    if limit.fits(&frame) {
        return pieces.send(Piece::Frame(frame)).await;
    }
    match limit.cut(frame.clone(), schema) {
        Ok(cut) => {
            for frame in cut {
                pieces.send(Piece::Frame(frame)).await?;
            }
            Ok(())
        }
        // A row too long for most; its client may take it.
        Err(_) => pieces.send(Piece::Frame(frame)).await,
    }
}

/// The blocking end of a job's rows.
struct Disk {
    shared: Arc<Shared>,
    active: Arc<ActiveJob>,
    schema: SchemaRef,
}

impl Disk {
    /// `None` where the rows broke off.
    fn write(self, mut pieces: mpsc::Receiver<Piece>) -> Result<Option<JobResult>> {
        let path = self.shared.book.result_path(&self.active.id.to_string());
        let failed = |error: std::io::Error| {
            // Where it lies is the operator's affair, not the client's.
            tracing::error!(path = %path.display(), %error, "the result of a job cannot be written");
            EngineError::Internal(format!("the result cannot be written: {}", error.kind()))
        };
        let mut writer = ResultWriter::create(&path, &self.schema).map_err(failed)?;
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Frame(frame) => {
                    writer.push(&frame).map_err(failed)?;
                    self.active.wrote(frame.rows, writer.bytes());
                    self.check_room()?;
                }
                Piece::End => {
                    let result = writer.finish().map_err(failed)?;
                    self.active.wrote(0, result.bytes);
                    self.check_room()?;
                    return Ok(Some(result));
                }
            }
        }
        Ok(None)
    }

    fn check_room(&self) -> Result<()> {
        let limit = self.shared.book.config().result_bytes_per_user;
        if self.shared.book.bytes_of(&self.active.user) <= limit {
            return Ok(());
        }
        Err(EngineError::ResourceExhausted(format!(
            "your results take more than the {} MiB they may (jobs.result_gib_per_user); select fewer rows or columns, \
             or wait until older results have expired",
            limit >> 20
        )))
    }
}

/// Removes a folder, whether it is there or not.
pub(super) async fn remove(folder: PathBuf) {
    let removed = tokio::fs::remove_dir_all(&folder).await;
    if let Err(error) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "a folder of a job cannot be removed");
    }
}
