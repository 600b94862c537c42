//! One attempt at some chunks on one worker: a DoGet stream, read to its end.

use std::future::Future;
use std::sync::Arc;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, Ticket};
use futures::FutureExt;
use skyflight_catalog::WorkerId;
use skyflight_engine::EngineError;
use skyflight_engine::dispatch::{DispatchRequest, QueryCounters};
use skyflight_proto::task_message::Body;
use skyflight_proto::{BatchMark, ChunkTrailer, Message, TaskMessage};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::Shared;
use super::failure::Failure;
use super::hold::Hold;
use super::ledger::{Job, Ledger, Violation};
use super::pool::{Lease, LeaseError};
use super::relay::{Gone, Outlet};
use super::roster::Batch;
use super::shape::FrameShape;
use super::silence::Silence;
use super::ticket::task_ticket;

/// What the streams of one dispatch have in common.
pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    pub(super) request: DispatchRequest,
    pub(super) shape: FrameShape,
    pub(super) hold: Arc<Hold>,
}

/// A stream about to be opened.
pub(super) struct Task {
    pub(super) work: Arc<Work>,
    pub(super) worker: u16,
    pub(super) id: WorkerId,
    pub(super) attempt: u32,
    /// Whether to send the fragment with the first ticket.
    pub(super) inline: bool,
    pub(super) ledger: Ledger,
    pub(super) outlet: Outlet,
    /// Whether the worker has sent anything.
    answered: bool,
    /// Rows put into the outlet.
    rows: u64,
    received: Received,
}

/// What came since the query's counters were last brought up to date.
#[derive(Default)]
struct Received {
    rows: u64,
    bytes: u64,
}

/// How a stream ended.
pub(super) struct Outcome {
    pub(super) worker: u16,
    /// Whether the worker sent anything at all.
    pub(super) answered: bool,
    pub(super) committed: usize,
    /// Rows passed on.
    pub(super) rows: u64,
    /// Chunks without a valid trailer, with this attempt counted.
    pub(super) unfinished: Vec<Job>,
    pub(super) ended: Result<(), Failure>,
}

impl Task {
    pub(super) fn new(work: &Arc<Work>, batch: Batch, id: WorkerId, inline: bool, outlet: Outlet) -> Self {
        Task {
            work: Arc::clone(work),
            worker: batch.worker,
            id,
            attempt: batch.attempt,
            inline,
            ledger: Ledger::new(batch.jobs, work.request.deterministic),
            outlet,
            answered: false,
            rows: 0,
            received: Received::default(),
        }
    }

    /// Runs the attempt. Never fails itself: how it went is in the outcome.
    pub(super) async fn run(mut self) -> Outcome {
        let mut ended = self.attempt().await;
        // What the ledger counts as delivered must be, before anybody resumes after it.
        if self.outlet.flush().await.is_err() {
            ended = Err(Failure::Gone);
        }
        self.count_received();
        // A stream that broke after its last chunk's trailer has done its work.
        if matches!(ended, Err(Failure::Worker(_))) && self.ledger.complete() {
            ended = Ok(());
        }
        Outcome {
            worker: self.worker,
            answered: self.answered,
            committed: self.ledger.committed(),
            rows: self.rows,
            unfinished: self.ledger.into_unfinished(),
            ended,
        }
    }

    async fn attempt(&mut self) -> Result<(), Failure> {
        let work = Arc::clone(&self.work);
        let listing = work.shared.book.listing().await.map_err(Failure::Query)?;
        let Some(entry) = listing.get(&self.id) else {
            return Err(Failure::Worker("has never registered with this coordinator".into()));
        };
        let lease = work.shared.pool.lease(&entry.address).await.map_err(|error| match error {
            LeaseError::Address(why) => Failure::Worker(format!("has no usable address ({}): {why}", entry.address)),
            LeaseError::Busy(streams) => Failure::Query(EngineError::ResourceExhausted(format!(
                "{streams} streams to worker {} are in use already; run the query again when others have ended",
                self.id
            ))),
        })?;
        let ended = self.stream(&lease).await;
        if matches!(ended, Err(Failure::Worker(_))) {
            lease.condemn();
        }
        ended.map_err(|failure| match failure {
            Failure::Worker(why) => Failure::Worker(format!("at {}: {why}", entry.address)),
            other => other,
        })
    }

    async fn stream(&mut self, lease: &Lease) -> Result<(), Failure> {
        let mut client = lease.client();
        let mut stream = self.open(&mut client).await?;
        let Some(first) = self.next(&mut stream, &mut client).await? else {
            return Err(Failure::Worker("ended the stream before its schema".into()));
        };
        self.answered = true;
        if !first.app_metadata.is_empty() {
            return Err(Failure::Worker("sent no schema before its first chunk".into()));
        }
        self.work.shape.check_schema(&first.data_header).map_err(Failure::Worker)?;
        while let Some(message) = self.next(&mut stream, &mut client).await? {
            if self.accept(message).await? {
                // All is said. The rest of the stream, its status, is awaited for a moment so that
                // the worker does not see a stream that was dropped.
                self.outlet.flush().await?;
                let _ = timeout(self.work.shared.config.connect_timeout.div_f32(10.0), stream.message()).await;
                return Ok(());
            }
        }
        Err(Failure::Worker("ended the stream before its task was done".into()))
    }

    /// Sends the ticket; a second time, with the fragment, to a worker that does not know it.
    async fn open(&mut self, client: &mut FlightServiceClient<Channel>) -> Result<Streaming<FlightData>, Failure> {
        let mut inline = self.inline;
        loop {
            let work = &self.work;
            let config = &work.shared.config;
            let bytes = task_ticket(&work.request, config, &work.shared.keys, self.ledger.jobs(), self.attempt, inline);
            QueryCounters::add(&work.request.query.counters.streams, 1);
            let mut pinger = client.clone();
            let answer = listen(config, &mut pinger, client.do_get(Ticket { ticket: bytes })).await?;
            match answer.map_err(|status| Failure::of(&status)) {
                Ok(response) => return Ok(response.into_inner()),
                Err(Failure::FragmentUnknown) if !inline => inline = true,
                Err(Failure::FragmentUnknown) => {
                    return Err(Failure::Worker("does not take the fragment it was sent".into()));
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// The stream's next message. While messages are at hand nothing else is done; before a wait,
    /// what has come is passed on.
    ///
    /// tonic collects a message from HTTP/2 frames in one buffer (the one copy on the way); prost
    /// takes header and body out of it as slices of that buffer, without copying.
    async fn next(
        &mut self,
        stream: &mut Streaming<FlightData>,
        client: &mut FlightServiceClient<Channel>,
    ) -> Result<Option<FlightData>, Failure> {
        let answer = match stream.message().now_or_never() {
            Some(answer) => answer,
            None => {
                self.outlet.flush().await?;
                self.count_received();
                listen(&self.work.shared.config, client, stream.message()).await?
            }
        };
        answer.map_err(|status| match Failure::of(&status) {
            // The worker took the task; what it says of the fragment now is its own confusion.
            Failure::FragmentUnknown => Failure::Worker("forgot the fragment while it ran".into()),
            other => other,
        })
    }

    /// Takes one message; true when it was the task's last.
    async fn accept(&mut self, message: FlightData) -> Result<bool, Failure> {
        let body = TaskMessage::decode(message.app_metadata.clone()).ok().and_then(|mark| mark.body);
        match body {
            Some(Body::Batch(mark)) => {
                self.batch(mark, message).await?;
                Ok(false)
            }
            Some(Body::Trailer(trailer)) => {
                self.trailer(&trailer).await?;
                Ok(false)
            }
            Some(Body::Done(done)) => {
                if self.ledger.complete() && done.chunks as usize == self.ledger.jobs().len() {
                    return Ok(true);
                }
                Err(Failure::Worker(format!(
                    "said it was done with {} chunks, but {} of {} had come whole",
                    done.chunks,
                    self.ledger.committed(),
                    self.ledger.jobs().len()
                )))
            }
            None => Err(Failure::Worker("sent a message that is no part of a task's stream".into())),
        }
    }

    async fn batch(&mut self, mark: BatchMark, message: FlightData) -> Result<(), Failure> {
        let work = &self.work;
        let bytes = message.data_header.len() + message.data_body.len();
        let (index, frame) = self
            .ledger
            .batch(&work.shape, mark, message.data_header, message.data_body)
            .map_err(|violation| failure_of(work, &self.id, violation))?;
        self.received.rows += frame.rows;
        self.received.bytes += bytes as u64;
        if work.request.deterministic {
            for frame in self.ledger.lag(index, frame).into_iter().flatten() {
                self.rows += frame.rows;
                self.outlet.push(frame);
            }
            if self.outlet.full() {
                self.outlet.flush().await?;
            }
        } else {
            let held = work.hold.keep(frame).await.map_err(Failure::Query)?;
            self.ledger.hold(index, held);
        }
        Ok(())
    }

    async fn trailer(&mut self, trailer: &ChunkTrailer) -> Result<(), Failure> {
        let closed = self.ledger.trailer(trailer).map_err(|violation| failure_of(&self.work, &self.id, violation))?;
        let Some(closed) = closed else {
            tracing::debug!(worker = %self.id, chunk_index = trailer.chunk_index, "second trailer dropped");
            return Ok(());
        };
        let chunk = self.work.request.chunks.chunks[closed.planned as usize].chunk;
        let counters = &self.work.request.query.counters;
        QueryCounters::add(&counters.chunks_done, 1);
        QueryCounters::add(&counters.bytes_read, closed.counters.bytes_read);
        QueryCounters::add(&counters.rows_read, closed.counters.rows_read);
        let commits = self.work.request.commits.clone();
        for held in closed.frames {
            // From here on the chunk is committed: what cannot be read back is lost to the query.
            let frame = held.release().await.map_err(Failure::Query)?;
            if let Some(commits) = &commits {
                commits.frame(chunk, &frame).await.map_err(Failure::Query)?;
            }
            self.rows += frame.rows;
            self.outlet.push(frame);
            if self.outlet.full() {
                self.outlet.flush().await?;
            }
        }
        if let Some(commits) = &commits {
            commits.committed(chunk).await.map_err(Failure::Query)?;
        }
        Ok(())
    }

    fn count_received(&mut self) {
        let counters = &self.work.request.query.counters;
        QueryCounters::add(&counters.rows_received, std::mem::take(&mut self.received.rows));
        QueryCounters::add(&counters.bytes_received, std::mem::take(&mut self.received.bytes));
    }
}

/// Waits for an answer for as long as the worker seems alive.
async fn listen<T>(
    config: &super::DispatchConfig,
    client: &mut FlightServiceClient<Channel>,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<Result<T, Status>, Failure> {
    tokio::pin!(answer);
    let mut silence = Silence::new(config);
    loop {
        match timeout(silence.step(), &mut answer).await {
            Ok(answer) => return Ok(answer),
            Err(_) => silence.judge(client).await.map_err(Failure::Worker)?,
        }
    }
}

fn failure_of(work: &Work, worker: &WorkerId, violation: Violation) -> Failure {
    match violation {
        Violation::Attempt(what) => Failure::Worker(what),
        Violation::Lost { planned, reason } => {
            let chunk = work.request.chunks.chunks[planned as usize].chunk;
            Failure::Query(EngineError::Corrupt(format!(
                "worker {worker} {reason}, after rows of chunk {chunk} had been passed on; discard this result, \
                 check the worker's files and run the query again"
            )))
        }
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Failure {
        Failure::Gone
    }
}
