//! Running a fragment on chunks.
//!
//! A task is a few lanes on the runtime that computes. Each lane takes the next chunk nobody has
//! begun, runs the fragment on its files, and sends its frames and its trailer; so chunks of
//! different lanes interleave, and a chunk costs neither a spawn nor a look at the file system.
//! A supervisor waits for the lanes and has the last word: what the task did, or why it failed.

mod chunk;
mod fragments;
mod output;
mod slots;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_flight::FlightData;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use skyflight_engine::fragment::Fragment;
use skyflight_engine::frames::encode_schema;
use skyflight_engine::trace;
use skyflight_proto::task_message::Body;
use skyflight_proto::{ChunkTask, Message, ScanCounters, TaskDone, TaskMessage, TaskTicket};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span, debug, info_span, warn};
use uuid::Uuid;

pub(crate) use fragments::Fragments;
pub(crate) use output::{Output, TaskStream, output};
pub(crate) use slots::{Class, Slot, Slots};

use crate::counters::Running;
use crate::worker::Worker;
use crate::{Result, WorkerError};

/// Tasks that run at a time, at most; each holds some memory even when its consumer sleeps.
pub(crate) const MAX_TASKS: u32 = 1_024;

/// What all lanes of a task share.
struct Task {
    worker: Arc<Worker>,
    fragment: Arc<Fragment>,
    chunks: Vec<ChunkTask>,
    /// Index of the next chunk that no lane has begun.
    next: AtomicUsize,
    class: Class,
    cancel: CancellationToken,
    output: Output,
    /// The span that the task is, below its query's.
    trace: opentelemetry::Context,
    /// Keeps the task counted as running until its last lane is gone.
    _running: Running,
}

/// What chunks have cost, and how many there were.
#[derive(Default)]
struct Totals {
    counters: ScanCounters,
    chunks: u32,
}

/// Starts the task that a verified ticket asks for, and gives its stream.
///
/// # Errors
/// `FragmentUnknown`, `Invalid` for a ticket that contradicts itself or its fragment, `Busy`,
/// `ShuttingDown`, and what decoding the fragment says. Whatever goes wrong later ends the stream.
pub(crate) async fn start(worker: &Arc<Worker>, query_id: &[u8], ticket: TaskTicket) -> Result<TaskStream> {
    let running = worker.counters.begin_task(MAX_TASKS)?;
    let hash = ticket.fragment_hash.as_ref().try_into();
    let hash = hash.map_err(|_| WorkerError::Invalid("a fragment's hash has 32 bytes".into()))?;
    let fragment = worker.fragments.get(hash, ticket.fragment.clone()).await?;
    check(&ticket, &fragment)?;

    let query_id = Uuid::from_slice(query_id).unwrap_or_default();
    let span = info_span!("task", %query_id, attempt = ticket.attempt, traceparent = %ticket.traceparent);
    let trace = trace::begin("task", SpanKind::Server, &ticket.traceparent);
    trace.span().set_attributes([
        KeyValue::new("skyflight.query_id", query_id.to_string()),
        KeyValue::new("skyflight.worker", worker.id.clone()),
        KeyValue::new("skyflight.attempt", i64::from(ticket.attempt)),
    ]);
    let schema = FlightData { data_header: encode_schema(&fragment.schema()), ..FlightData::default() };
    let (output, receiver) = output(worker.counters.waiting_bytes());
    let cancel = worker.stop.child_token();
    let task = Arc::new(Task {
        worker: Arc::clone(worker),
        fragment,
        chunks: ticket.chunks,
        next: AtomicUsize::new(0),
        class: if ticket.interactive { Class::Interactive } else { Class::Scan },
        cancel: cancel.clone(),
        output,
        trace,
        _running: running,
    });
    let supervisor = worker.runtime.spawn(supervise(task, span.clone()).instrument(span));
    let supervisor = AbortOnDropHandle::new(supervisor);
    Ok(TaskStream::new(schema, receiver, worker.stop.clone(), cancel, supervisor))
}

/// Refuses a ticket whose chunks do not fit the fragment, before anything runs.
fn check(ticket: &TaskTicket, fragment: &Fragment) -> Result<()> {
    let scans = fragment.scans().len();
    for chunk in &ticket.chunks {
        let files: u64 = chunk.files_per_scan.iter().map(|&n| u64::from(n)).sum();
        if chunk.files_per_scan.len() != scans || files != chunk.files.len() as u64 {
            let listed = chunk.files_per_scan.len();
            return Err(WorkerError::Invalid(format!(
                "chunk {} lists {} files for {listed} scans, which sum to {files}; the fragment has {scans} scans",
                chunk.chunk,
                chunk.files.len(),
            )));
        }
        if chunk.skip_rows > 0 && !ticket.deterministic {
            return Err(WorkerError::Invalid("rows can only be skipped where a fragment is deterministic".into()));
        }
    }
    Ok(())
}

async fn supervise(task: Arc<Task>, span: Span) {
    let lanes = task.worker.cores.min(task.chunks.len());
    let mut running = JoinSet::new();
    for _ in 0..lanes {
        running.spawn(lane(Arc::clone(&task)).instrument(span.clone()));
    }
    let mut totals = Totals::default();
    while let Some(ended) = running.join_next().await {
        match ended.unwrap_or_else(|error| Err(panicked(error))) {
            Ok(lane) => {
                totals.counters += &lane.counters;
                totals.chunks += lane.chunks;
            }
            Err(error) => {
                // Who cancels knows why; anything else is news.
                if task.cancel.is_cancelled() {
                    debug!(%error, "task cancelled");
                } else {
                    warn!(%error, "task failed");
                }
                task.cancel.cancel();
                task.trace.span().set_status(Status::error(error.to_string()));
                task.trace.span().end();
                return task.output.clone().fail(error).await;
            }
        }
    }
    debug!(chunks = totals.chunks, rows = totals.counters.rows_sent, "task done");
    task.trace.span().set_attributes([
        KeyValue::new("skyflight.chunks", i64::from(totals.chunks)),
        KeyValue::new("skyflight.rows", i64::try_from(totals.counters.rows_sent).unwrap_or(i64::MAX)),
    ]);
    task.trace.span().end();
    let done = TaskDone { totals: Some(totals.counters), chunks: totals.chunks };
    task.output.clone().finish(mark(Body::Done(done))).await;
}

async fn lane(task: Arc<Task>) -> Result<Totals> {
    let mut slot = Slot::new(Arc::clone(&task.worker.slots), task.class);
    let mut totals = Totals::default();
    loop {
        let index = task.next.fetch_add(1, Ordering::Relaxed);
        let Some(chunk) = task.chunks.get(index) else {
            return Ok(totals);
        };
        slot.hold().await?;
        let counters = chunk::run(&task, index as u32, chunk, &mut slot).await?;
        // Between chunks others have their turn.
        slot.release();
        task.worker.counters.chunk_done();
        totals.counters += &counters;
        totals.chunks += 1;
    }
}

/// A message that carries no rows, only a mark.
pub(crate) fn mark(body: Body) -> FlightData {
    FlightData { app_metadata: TaskMessage { body: Some(body) }.encode_to_vec().into(), ..FlightData::default() }
}

/// What a panic said, as an error of the request that met it.
pub(crate) fn panicked(error: JoinError) -> WorkerError {
    if error.is_cancelled() {
        return WorkerError::ShuttingDown;
    }
    let payload: Box<dyn Any + Send> = match error.try_into_panic() {
        Ok(payload) => payload,
        Err(error) => return WorkerError::Panicked(error.to_string()),
    };
    let words =
        payload.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
    WorkerError::Panicked(words.unwrap_or_else(|| "a panic without a message".into()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_with_its_words() {
        let mut tasks: JoinSet<()> = JoinSet::new();
        tasks.spawn(async { panic!("no such luck") });
        let error = panicked(tasks.join_next().await.unwrap().unwrap_err());
        assert_eq!(error.to_string(), "internal: no such luck");
        tasks.spawn(async { panic!("chunk {}", 7) });
        let error = panicked(tasks.join_next().await.unwrap().unwrap_err());
        assert_eq!(error.to_string(), "internal: chunk 7");
        assert_eq!(tonic::Status::from(error).code(), tonic::Code::Internal);
        tasks.spawn(std::future::pending());
        tasks.abort_all();
        let error = panicked(tasks.join_next().await.unwrap().unwrap_err());
        assert!(matches!(error, WorkerError::ShuttingDown));
    }
}
