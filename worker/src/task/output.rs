//! The way of frames from the lanes of a task to its Flight stream, bounded in bytes.
//!
//! A lane that finds no room gives its slot to others and waits, so that a slow consumer costs
//! memory up to the bound, and nobody else's time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use arrow_flight::FlightData;
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
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
        let bytes = data.data_header.len() + data.data_body.len() + data.app_metadata.len() + MESSAGE_OVERHEAD_BYTES;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(OUTPUT_BYTES);
        let permit = match Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) => {
                slot.release();
                Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_closed| gone())?
            }
        };
        let bytes = u64::from(bytes);
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { bytes, waiting_bytes: Arc::clone(&self.waiting_bytes), _permit: permit };
        self.queue.send(Queued::Data(data, room)).await.map_err(|_| gone())?;
        slot.hold().await
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
        match std::task::ready!(self.receiver.poll_recv(cx)) {
            Some(Queued::Data(data, _room)) => Poll::Ready(Some(Ok(data))),
            Some(Queued::Last(data)) => {
                self.ended = true;
                Poll::Ready(Some(Ok(data)))
            }
            Some(Queued::Failed(error)) => self.failed(error),
            None => {
                // The supervisor always has a last word; without it the task was cut off.
                warn!("a task ended without a last word");
                self.failed(WorkerError::Panicked("the task was cut off".into()))
            }
        }
    }
}
