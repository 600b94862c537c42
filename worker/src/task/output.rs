//! The way of frames from the lanes of a task to its Flight stream, bounded in bytes.
//!
//! A lane that finds no room gives its slot to others and waits, so that a slow consumer costs
//! memory up to the bound, and nobody else's time.
//!
//! Small messages wait for company: a stream of ten thousand small chunks that woke its reader for
//! each would cost the coordinator more in wake-ups than in work.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::FlightData;
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tracing::warn;

use super::slots::Slot;
use crate::{Result, WorkerError};

/// How many bytes of frames of one task wait for its consumer, at most; one larger frame may.
pub(crate) const OUTPUT_BYTES: u32 = 4 << 20;

// What a message costs besides its parts, so that empty ones are bounded too.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// As many bytes as this are company enough.
const COMPANY_BYTES: u64 = 64 << 10;

/// A message waits for company at most this part of the time that its stream has run, so that what
/// takes a moment is not held up at all and the rest by little.
const WAIT_PART: u32 = 8;

/// Waits between these two are made; a timer cannot tell shorter ones.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// The sending side; clones share one bound.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    /// Bytes waiting in all tasks of the worker.
    waiting_bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Queued {
    Data(FlightData, Room),
    Last(FlightData),
    Failed(WorkerError),
}

/// The bytes that one message takes of the bound, until dropped.
#[derive(Debug)]
struct Room {
    bytes: u64,
    waiting_bytes: Arc<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A new way, and the side that receives.
pub(crate) fn output(waiting_bytes: Arc<AtomicU64>) -> (Output, OutputReceiver) {
    // Never full: the bound on bytes is reached first, and leaves place for the last word.
    let messages = OUTPUT_BYTES as usize / MESSAGE_OVERHEAD_BYTES + 16;
    let (queue, receiver) = mpsc::channel(messages);
    let room = Arc::new(Semaphore::new(OUTPUT_BYTES as usize));
    (Output { queue, room, waiting_bytes }, OutputReceiver(receiver))
}

impl Output {
    /// Sends one message. While there is no room for it the slot is given to others; it is held
    /// again when this returns.
    ///
    /// # Errors
    /// `Cancelled` when nobody receives any more.
    pub(crate) async fn send(&self, data: FlightData, slot: &mut Slot) -> Result<()> {
        let bytes = bytes_of(&data);
        let permit = match Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) => {
                slot.release();
                Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_closed| gone())?
            }
        };
        self.queue(data, bytes, permit).await?;
        slot.hold().await
    }

    /// Sends one message on behalf of work that holds no slot, when there is room for it.
    ///
    /// # Errors
    /// `Cancelled` when nobody receives any more.
    pub(crate) async fn pass(&self, data: FlightData) -> Result<()> {
        let bytes = bytes_of(&data);
        let permit = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_closed| gone())?;
        self.queue(data, bytes, permit).await
    }

    async fn queue(&self, data: FlightData, bytes: u32, permit: OwnedSemaphorePermit) -> Result<()> {
        let bytes = u64::from(bytes);
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { bytes, waiting_bytes: Arc::clone(&self.waiting_bytes), _permit: permit };
        self.queue.send(Queued::Data(data, room)).await.map_err(|_| gone())
    }

    /// Sends the last message of a task that went well.
    pub(crate) async fn finish(self, data: FlightData) {
        // Where nobody receives any more, nobody wants to know.
        let _ = self.queue.send(Queued::Last(data)).await;
    }

    /// Ends the stream with an error; what others send after it is not passed on.
    pub(crate) async fn fail(self, error: WorkerError) {
        let _ = self.queue.send(Queued::Failed(error)).await;
    }
}

/// What a message takes of the bound.
fn bytes_of(data: &FlightData) -> u32 {
    let bytes = data.data_header.len() + data.data_body.len() + data.app_metadata.len() + MESSAGE_OVERHEAD_BYTES;
    u32::try_from(bytes).unwrap_or(u32::MAX).min(OUTPUT_BYTES)
}

fn gone() -> WorkerError {
    WorkerError::Engine(skyflight_engine::EngineError::Cancelled)
}

/// The receiving side, before it is a stream.
#[derive(Debug)]
pub(crate) struct OutputReceiver(mpsc::Receiver<Queued>);

/// What a task sends, as Flight takes it. Ends after the last message or the first error.
/// Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct TaskStream {
    first: Option<FlightData>,
    receiver: mpsc::Receiver<Queued>,
    company: Company,
    ended: bool,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _cancel: DropGuard,
    _supervisor: AbortOnDropHandle<()>,
}

impl TaskStream {
    /// A stream of `first` and then of what comes by `receiver`. It ends with an error when
    /// `stop` is cancelled, and cancels `cancel` and aborts `supervisor` when dropped.
    pub(crate) fn new(
        first: FlightData,
        receiver: OutputReceiver,
        stop: CancellationToken,
        cancel: CancellationToken,
        supervisor: AbortOnDropHandle<()>,
    ) -> TaskStream {
        TaskStream {
            first: Some(first),
            receiver: receiver.0,
            company: Company::new(),
            ended: false,
            stop: Box::pin(stop.cancelled_owned()),
            _cancel: cancel.drop_guard(),
            _supervisor: supervisor,
        }
    }

    fn failed(&mut self, error: WorkerError) -> Poll<Option<Result<FlightData, Status>>> {
        self.ended = true;
        // Frees the lanes at once, even while the transport still holds the stream.
        self.receiver.close();
        while self.receiver.try_recv().is_ok() {}
        self.company.waiting.clear();
        Poll::Ready(Some(Err(error.into())))
    }
}

impl Stream for TaskStream {
    type Item = Result<FlightData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.stop.as_mut().poll(cx).is_ready() {
            return self.failed(WorkerError::ShuttingDown);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let this = self.as_mut().get_mut();
        this.company.gather(&mut this.receiver, cx);
        match std::task::ready!(this.company.poll_next(cx)) {
            Queued::Data(data, _room) => Poll::Ready(Some(Ok(data))),
            Queued::Last(data) => {
                self.ended = true;
                Poll::Ready(Some(Ok(data)))
            }
            Queued::Failed(error) => self.failed(error),
        }
    }
}

/// Messages that were taken from the queue together, or are waiting to be.
#[derive(Debug)]
struct Company {
    began: Instant,
    waiting: VecDeque<Queued>,
    waiting_bytes: u64,
    /// When those that wait go, whoever has come.
    departure: Option<Pin<Box<Sleep>>>,
    /// They are going: no more waiting until all are gone.
    going: bool,
}

impl Company {
    fn new() -> Self {
        Company { began: Instant::now(), waiting: VecDeque::new(), waiting_bytes: 0, departure: None, going: false }
    }

    /// Takes what the queue has, while it is to wait for more; the queue's own bound still holds for
    /// what was taken.
    fn gather(&mut self, receiver: &mut mpsc::Receiver<Queued>, cx: &mut Context<'_>) {
        while !self.going {
            let Poll::Ready(next) = receiver.poll_recv(cx) else { return };
            let next = next.unwrap_or_else(|| {
                // The supervisor always has a last word; without it the task was cut off.
                warn!("a task ended without a last word");
                Queued::Failed(WorkerError::Panicked("the task was cut off".into()))
            });
            match &next {
                Queued::Data(_, room) => self.waiting_bytes += room.bytes,
                Queued::Last(_) | Queued::Failed(_) => self.going = true,
            }
            self.going |= self.waiting_bytes >= COMPANY_BYTES;
            self.waiting.push_back(next);
        }
    }

    /// The next of those that go; pending while they wait, or none is there.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Queued> {
        if self.waiting.is_empty() {
            return Poll::Pending;
        }
        if !self.going {
            if self.departure.is_none() {
                let now = Instant::now();
                let wait = (now.duration_since(self.began) / WAIT_PART).min(LONGEST_WAIT);
                self.departure = (wait >= SHORTEST_WAIT).then(|| Box::pin(sleep_until(now + wait)));
            }
            if let Some(departure) = &mut self.departure {
                std::task::ready!(departure.as_mut().poll(cx));
            }
            self.going = true;
        }
        let Some(next) = self.waiting.pop_front() else { return Poll::Pending };
        if self.waiting.is_empty() {
            *self = Company { began: self.began, ..Company::new() };
        }
        Poll::Ready(next)
    }
}
