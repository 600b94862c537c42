//! Tasks of shuffled queries: DoExchange sets one up and holds it, DoGet reads its partitions.
//!
//! What a task does is the engine's affair ([`skyflight_engine::shuffle::host`]); here tickets are
//! verified, work is put on the runtime that computes, and rows leave as those of fragments do.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightData;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::{Stream, TryStreamExt};
use skyflight_catalog::FileId;
use skyflight_engine::EngineError;
use skyflight_engine::fragment::{FragmentScan, ScanFile, error_of};
use skyflight_engine::frames::{encode_batch, encode_schema};
use skyflight_engine::shuffle::host::{ChunkFiles, RunningStage};
use skyflight_proto::task_message::Body as Mark;
use skyflight_proto::ticket::Body;
use skyflight_proto::{BatchMark, ChunkTrailer, Digest, FailureKind, PartitionTicket, ScanCounters, TaskDone, Ticket};
use skyflight_sky::ChunkId;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::counters::Running;
use crate::store::ChunkStore;
use crate::task::{MAX_TASKS, Output, TaskStream, mark, output, panicked};
use crate::worker::Worker;
use crate::{Result, WorkerError};

/// How long a caller may take to send the ticket of a task.
const SILENCE: Duration = Duration::from_secs(60);

impl ChunkFiles for ChunkStore {
    fn find(&self, scan: &FragmentScan, chunk: ChunkId, file: FileId) -> skyflight_engine::Result<ScanFile> {
        self.scan_file(scan, chunk, file).map_err(|missing| EngineError::Unavailable(missing.to_string()))
    }
}

/// Sets up the task that the stream's first message has a ticket for. The answer comes when the
/// caller ends its side; if either side breaks off, the task ends.
pub(crate) async fn hold(
    worker: &Arc<Worker>,
    mut asked: Streaming<FlightData>,
) -> Result<impl Stream<Item = Result<FlightData, Status>> + Send + use<>, Status> {
    let first = tokio::time::timeout(SILENCE, asked.message()).await;
    let first = first.map_err(|_elapsed| WorkerError::PutStalled { seconds: SILENCE.as_secs() })??;
    let signed = first.as_ref().and_then(|m| m.flight_descriptor.as_ref()).map(|d| d.cmd.as_ref()).unwrap_or_default();
    let Ticket { user, query_id, body, .. } = worker.verify(signed)?;
    let Some(Body::Stage(ticket)) = body else {
        return Err(WorkerError::Invalid("DoExchange on a worker takes the ticket of a stage's task".into()).into());
    };
    let running = worker.counters.begin_task(MAX_TASKS)?;
    let query = Uuid::from_slice(&query_id).unwrap_or_default();
    let (host, stop) = (Arc::clone(worker), worker.stop.clone());
    let begin = worker.runtime.spawn(async move { host.stages.begin(query, user, ticket, &host.stop).await });
    let stage = AbortOnDropHandle::new(begin).await.map_err(panicked)?.map_err(WorkerError::Engine)?;
    debug!(%query, "a stage's task begins");
    let held = async move {
        // Messages have no meaning here, only their end has.
        let ended = async {
            while asked.message().await?.is_some() {}
            Ok::<_, Status>(())
        };
        tokio::select! {
            ended = ended => ended?,
            () = stop.cancelled() => return Err(WorkerError::ShuttingDown.into()),
        }
        Ok(done(&stage, running))
    };
    Ok(futures::stream::once(held))
}

fn done(stage: &RunningStage, _running: Running) -> FlightData {
    let (chunks, totals) = stage.cost();
    mark(Mark::Done(TaskDone { totals: Some(totals), chunks: u32::try_from(chunks).unwrap_or(u32::MAX) }))
}

/// Starts to read the partition that a verified ticket names.
pub(crate) async fn read(worker: &Arc<Worker>, ticket: PartitionTicket) -> Result<TaskStream> {
    let host = Arc::clone(worker);
    let opening = worker.runtime.spawn(async move { host.stages.read(ticket).await });
    let rows = AbortOnDropHandle::new(opening).await.map_err(panicked)??;
    let schema = FlightData { data_header: encode_schema(&rows.schema()), ..FlightData::default() };
    let (output, receiver) = output(worker.counters.waiting_bytes());
    let supervisor = AbortOnDropHandle::new(worker.runtime.spawn(supervise(Arc::clone(worker), rows, output)));
    let stop = worker.stop.clone();
    Ok(TaskStream::new(schema, receiver, stop.clone(), stop.child_token(), supervisor))
}

/// Sends the rows and the last word. A panic below ends this without one, which its reader takes for
/// the failure it is.
async fn supervise(worker: Arc<Worker>, rows: SendableRecordBatchStream, output: Output) {
    match send(&worker, rows, &output).await {
        Ok(totals) => {
            output.finish(mark(Mark::Done(TaskDone { totals: Some(totals), chunks: 1 }))).await;
        }
        Err(error) => {
            // Who cancels knows why; anything else is news.
            if worker.stop.is_cancelled() || error.kind() == FailureKind::Cancelled {
                debug!(%error, "a partition was cancelled");
            } else {
                warn!(%error, "a partition failed");
            }
            output.fail(error).await;
        }
    }
}

async fn send(worker: &Worker, mut rows: SendableRecordBatchStream, output: &Output) -> Result<ScanCounters> {
    let (mut batches, mut sent, mut digest) = (0, 0, Digest::new());
    while let Some(batch) = rows.try_next().await.map_err(error_of)? {
        for frame in encode_batch(&batch)? {
            let mut data = mark(Mark::Batch(BatchMark { chunk_index: 0, sequence: batches }));
            batches += 1;
            sent += frame.rows;
            digest.update(&frame.body);
            worker.counters.sent(frame.rows);
            data.data_header = frame.header;
            data.data_body = frame.body;
            output.pass(data).await?;
        }
    }
    let totals = ScanCounters { rows_sent: sent, ..ScanCounters::default() };
    let trailer = ChunkTrailer { chunk_index: 0, rows: sent, batches, digest: digest.finish(), counters: Some(totals) };
    output.pass(mark(Mark::Trailer(trailer))).await?;
    Ok(totals)
}
