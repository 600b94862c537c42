//! The asking side of the shuffle's transport: sets up tasks on workers and reads their partitions.
//!
//! A partition is read like a task of dispatch: frames in sequence, then a trailer with rows,
//! batches and digest, then the end. A stream that breaks off before, or whose trailer does not
//! agree with what came, gives an error; a partition never just ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_flight::{FlightData, FlightDescriptor};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, internal_err, not_impl_err};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest, GetWorkerInfoResponse,
    ProducerHead, SetPlanRequest, TaskKey, WorkerChannel, WorkerToCoordinatorMsg,
};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use http::HeaderMap;
use skyflight_proto::task_message::Body as Mark;
use skyflight_proto::ticket::Body;
use skyflight_proto::{
    ChunkTrailer, ClusterKeys, Digest, Message, PartitionTicket, StageTask, StageTicket, TaskMessage, Ticket, retryable,
};
use tonic::{Code, Status, Streaming};
use url::Url;
use uuid::Uuid;

use super::lines::{Lines, Place};
use crate::EngineError;
use crate::dispatch::QueryCounters;
use crate::frames::{Frame, decode_frame, decode_schema, frame_rows};
use crate::plan::dispatch::into_plan_error;

/// How long a ticket may be redeemed after it was signed; each is signed for one request.
const TICKET_TTL: Duration = Duration::from_secs(300);

/// On whose behalf stages are asked for.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) keys: Arc<ClusterKeys>,
    pub(super) query: Uuid,
    pub(super) user: String,
}

impl Asker {
    fn sign(&self, body: Body) -> Bytes {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.keys.sign(&Ticket {
            expires_unix_ms: i64::try_from((now + TICKET_TTL).as_millis()).unwrap_or(i64::MAX),
            user: self.user.clone(),
            query_id: Bytes::copy_from_slice(self.query.as_bytes()),
            body: Some(body),
        })
    }
}

/// Finds the way to the workers of one query.
#[derive(Debug, Clone)]
pub(super) struct StageChannels {
    asker: Asker,
    lines: Arc<Lines>,
    /// Where what the tasks have cost is added up; on the coordinator only.
    counters: Option<Arc<QueryCounters>>,
}

impl StageChannels {
    pub(super) fn new(asker: Asker, lines: Arc<Lines>, counters: Option<Arc<QueryCounters>>) -> Self {
        StageChannels { asker, lines, counters }
    }
}

#[async_trait]
impl ChannelResolver for StageChannels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        Ok(Box::new(StageChannel { channels: self.clone(), address: url.to_string() }))
    }
}

/// The way to one worker.
struct StageChannel {
    channels: StageChannels,
    address: String,
}

fn task_of(key: TaskKey) -> StageTask {
    StageTask {
        run: Bytes::copy_from_slice(key.query_id.as_bytes()),
        stage: key.stage_id as u32,
        task: key.task_number as u32,
    }
}

#[async_trait]
impl WorkerChannel for StageChannel {
    /// Sets up a task. The stream it gives ends when the task has ended, after the query has.
    async fn coordinator_channel(
        &mut self,
        _: HeaderMap,
        request: SetPlanRequest,
        until: BoxStream<'static, CoordinatorToWorkerMsg>,
        _: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        let ticket = StageTicket {
            task: Some(task_of(request.task_key)),
            tasks: request.task_count as u32,
            plan: request.plan.encode(context)?.into(),
            address: request.target_worker_url.to_string(),
        };
        let signed = self.channels.asker.sign(Body::Stage(ticket));
        let first = FlightData { flight_descriptor: Some(FlightDescriptor::new_cmd(signed)), ..FlightData::default() };
        let (mut client, place) = self.channels.lines.client(&self.address).map_err(into_plan_error)?;
        if let Some(counters) = &self.channels.counters {
            QueryCounters::add(&counters.streams, 1);
        }
        let asked = client.do_exchange(Held { first: Some(first), until }).boxed().await;
        let answer = asked.map_err(|status| failure(&status, &self.address))?.into_inner();
        let (address, counters) = (self.address.clone(), self.channels.counters.clone());
        let ended = async move {
            let ended = until_done(answer, counters).await;
            drop(place);
            ended.map_err(|status| failure(&status, &address))
        };
        Ok(silent(ended))
    }

    async fn execute_task(
        &mut self,
        _: HeaderMap,
        request: ExecuteTaskRequest,
        _: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let partitioning = match request.producer_head {
            ProducerHead::None => None,
            ProducerHead::RepartitionExec { partitioning } => Some(partitioning.encode(context)?),
            ProducerHead::BroadcastExec { .. } => return not_impl_err!("stages that broadcast"),
        };
        let opened = (request.target_partition_start..request.target_partition_end).map(|partition| {
            let ticket = PartitionTicket {
                task: Some(task_of(request.task_key)),
                partition: partition as u32,
                partitioning: partitioning.clone().map(Bytes::from),
            };
            self.open(ticket)
        });
        futures::future::try_join_all(opened).await
    }

    async fn get_worker_info(&mut self, _: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse> {
        not_impl_err!("the versions of workers")
    }
}

impl StageChannel {
    async fn open(&self, ticket: PartitionTicket) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let signed = self.channels.asker.sign(Body::Partition(ticket));
        let (mut client, place) = self.channels.lines.client(&self.address).map_err(into_plan_error)?;
        let asked = client.do_get(arrow_flight::Ticket { ticket: signed }).await;
        let mut answer = asked.map_err(|status| failure(&status, &self.address))?.into_inner();
        let opening = answer.message().await.map_err(|status| failure(&status, &self.address))?;
        let Some(opening) = opening else { return internal_err!("a partition without a schema") };
        let schema = decode_schema(&opening.data_header).map_err(into_plan_error)?;
        let reader = PartitionReader {
            answer,
            schema,
            address: self.address.clone(),
            counters: self.channels.counters.clone(),
            batches: 0,
            rows: 0,
            digest: Digest::new(),
            whole: false,
            _place: place,
        };
        let batches = futures::stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(batches.boxed())
    }
}

/// The ticket, and then nothing until the end: there are no feeds of work in our plans.
struct Held {
    first: Option<FlightData>,
    until: BoxStream<'static, CoordinatorToWorkerMsg>,
}

impl Stream for Held {
    type Item = FlightData;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FlightData>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        while ready!(self.until.poll_next_unpin(context)).is_some() {}
        Poll::Ready(None)
    }
}

/// A stream that says nothing but how `ended` went.
fn silent(
    ended: impl Future<Output = Result<()>> + Send + 'static,
) -> BoxStream<'static, Result<WorkerToCoordinatorMsg>> {
    let nothing = |()| std::future::ready(Ok(None::<WorkerToCoordinatorMsg>));
    futures::stream::once(ended).try_filter_map(nothing).boxed()
}

/// Waits for the end of a task and adds what it has cost.
async fn until_done(mut answer: Streaming<FlightData>, counters: Option<Arc<QueryCounters>>) -> Result<(), Status> {
    while let Some(data) = answer.message().await? {
        if let Some(Mark::Done(done)) = mark_of(&data)? {
            let totals = done.totals.unwrap_or_default();
            if let Some(counters) = &counters {
                QueryCounters::add(&counters.chunks_done, u64::from(done.chunks));
                QueryCounters::add(&counters.rows_read, totals.rows_read);
                QueryCounters::add(&counters.bytes_read, totals.bytes_read);
            }
            return Ok(());
        }
    }
    Err(Status::unavailable("a task ended without saying so"))
}

fn mark_of(data: &FlightData) -> Result<Option<Mark>, Status> {
    let message = TaskMessage::decode(data.app_metadata.clone());
    Ok(message.map_err(|e| Status::data_loss(format!("a mark that cannot be read: {e}")))?.body)
}

/// Reads one partition of one task.
struct PartitionReader {
    answer: Streaming<FlightData>,
    schema: SchemaRef,
    address: String,
    counters: Option<Arc<QueryCounters>>,
    batches: u32,
    rows: u64,
    digest: Digest,
    /// The trailer has come and agrees.
    whole: bool,
    _place: Place,
}

impl PartitionReader {
    /// The next batch; `None` only after the last.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let message = self.answer.message().await.map_err(|status| failure(&status, &self.address))?;
            let Some(data) = message else {
                return Err(self.broken("ended before its trailer"));
            };
            match mark_of(&data).map_err(|status| failure(&status, &self.address))? {
                Some(Mark::Batch(mark)) if !self.whole && mark.sequence == self.batches => {
                    return self.batch(data).map(Some);
                }
                Some(Mark::Trailer(trailer)) if !self.whole => self.check(&trailer)?,
                Some(Mark::Done(_)) if self.whole => return Ok(None),
                _ => return Err(self.broken("has messages out of order")),
            }
        }
    }

    fn batch(&mut self, data: FlightData) -> Result<RecordBatch> {
        let rows = frame_rows(&data.data_header).map_err(into_plan_error)?;
        self.digest.update(&data.data_body);
        self.batches += 1;
        self.rows += rows;
        if let Some(counters) = &self.counters {
            QueryCounters::add(&counters.rows_received, rows);
            QueryCounters::add(&counters.bytes_received, (data.data_header.len() + data.data_body.len()) as u64);
        }
        let frame = Frame { header: data.data_header, body: data.data_body, rows };
        decode_frame(&frame, &self.schema).map_err(into_plan_error)
    }

    fn check(&mut self, trailer: &ChunkTrailer) -> Result<()> {
        let came = (self.rows, self.batches, self.digest.finish());
        if came != (trailer.rows, trailer.batches, trailer.digest) {
            return Err(self.broken("does not agree with its trailer"));
        }
        self.whole = true;
        Ok(())
    }

    fn broken(&self, how: &str) -> DataFusionError {
        into_plan_error(EngineError::Corrupt(format!("a partition read from the worker at {} {how}", self.address)))
    }
}

/// What a worker, or the connection to it, answered.
fn failure(status: &Status, address: &str) -> DataFusionError {
    let message = status.message().to_owned();
    let at = || format!("the worker at {address}: {message}");
    into_plan_error(match status.code() {
        Code::InvalidArgument => EngineError::Invalid(message),
        Code::ResourceExhausted => EngineError::ResourceExhausted(message),
        Code::PermissionDenied => EngineError::Refused(message),
        Code::Unimplemented => EngineError::Unsupported(message),
        Code::DataLoss => EngineError::Corrupt(message),
        Code::Unauthenticated => EngineError::Internal(format!(
            "{}; check that all workers have the same cluster key and that their clocks agree",
            at()
        )),
        code if retryable(code) => EngineError::Unavailable(at()),
        _ => EngineError::Internal(at()),
    })
}
