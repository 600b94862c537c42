//! The way of frames from the task streams to the consumer: one channel, bounded in bytes.
//!
//! Task streams stop reading their sockets when the channel is full, and HTTP/2 flow control stops
//! the workers; so the memory of a dispatch does not depend on how slow its consumer is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{FutureExt, Stream};
use skyflight_engine::frames::Frame;
use skyflight_engine::{EngineError, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// Frames travel in parcels: as many as are at hand, up to these bounds.
const PARCEL_BYTES: usize = 1 << 20;
const PARCEL_FRAMES: usize = 256;

/// What a frame costs besides its bytes.
const OVERHEAD_BYTES: usize = 128;

/// Parcels on their way; the bound that matters is the one in bytes.
const PARCELS: usize = 1_024;

struct Parcel {
    frames: Vec<Frame>,
    _room: OwnedSemaphorePermit,
}

/// The sending end; one for each task stream.
pub(super) struct Outlet {
    channel: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
    capacity: u32,
    pending: Vec<Frame>,
    pending_bytes: usize,
}

/// The consumer has dropped its stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// How a dispatch ended, when it ended well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Chunks committed.
    pub(super) chunks: usize,
    /// Rows of committed chunks that were put into the channel, over all attempts.
    pub(super) rows: u64,
}

impl Outlet {
    /// Another sending end of the same channel.
    pub(super) fn another(&self) -> Outlet {
        Outlet {
            channel: self.channel.clone(),
            room: Arc::clone(&self.room),
            capacity: self.capacity,
            pending: Vec::new(),
            pending_bytes: 0,
        }
    }

    /// Adds a frame to the parcel; to be flushed when [`Outlet::full`], and before any wait.
    pub(super) fn push(&mut self, frame: Frame) {
        // A frame without rows says nothing.
        if frame.rows > 0 {
            self.pending_bytes += frame.header.len() + frame.body.len() + OVERHEAD_BYTES;
            self.pending.push(frame);
        }
    }

    pub(super) fn full(&self) -> bool {
        self.pending_bytes >= PARCEL_BYTES || self.pending.len() >= PARCEL_FRAMES
    }

    /// Sends the parcel as soon as there is room for it.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.pending.is_empty() {
            return Ok(());
        }
        // A parcel larger than the whole room goes when the room is empty.
        let bytes = u32::try_from(self.pending_bytes).unwrap_or(u32::MAX).min(self.capacity);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Gone)?;
        let frames = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        self.channel.send(Parcel { frames, _room: room }).await.map_err(|_| Gone)
    }
}

/// The consumer's end: a stream of frames that ends in an error unless the driver said that all
/// is there, and all is there.
pub(super) struct Relay<F> {
    state: State<F>,
}

enum State<F> {
    /// Nothing has been asked for yet.
    Idle(Option<(F, usize)>),
    Running(Running),
    Ended,
}

struct Running {
    channel: mpsc::Receiver<Parcel>,
    current: std::vec::IntoIter<Frame>,
    /// Room of the parcel that `current` is of.
    room: Option<OwnedSemaphorePermit>,
    ending: oneshot::Receiver<Result<Totals>>,
    totals: Option<Totals>,
    rows: u64,
    _driver: AbortOnDropHandle<()>,
}

impl<F> Relay<F>
where
    F: FnOnce(Outlet, oneshot::Sender<Result<Totals>>) -> AbortOnDropHandle<()> + Unpin,
{
    /// A relay whose work begins, by `start`, when it is first polled.
    pub(super) fn new(buffer_bytes: usize, start: F) -> Self {
        Relay { state: State::Idle(Some((start, buffer_bytes))) }
    }

    fn start(start: F, buffer_bytes: usize) -> Running {
        let capacity = u32::try_from(buffer_bytes).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        let (sender, channel) = mpsc::channel(PARCELS);
        let (end, ending) = oneshot::channel();
        let outlet = Outlet {
            channel: sender,
            room: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            pending: Vec::new(),
            pending_bytes: 0,
        };
        Running {
            channel,
            current: Vec::new().into_iter(),
            room: None,
            ending,
            totals: None,
            rows: 0,
            _driver: start(outlet, end),
        }
    }
}

impl Running {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        loop {
            if let Some(frame) = self.current.next() {
                self.rows += frame.rows;
                return Poll::Ready(Some(Ok(frame)));
            }
            self.room = None;
            // An error overtakes the frames before it: nobody needs them any more.
            if self.totals.is_none()
                && let Poll::Ready(ended) = self.ending.poll_unpin(context)
            {
                match ended {
                    Ok(Ok(totals)) => self.totals = Some(totals),
                    Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Err(_) => {
                        let what = "the dispatch of the query's chunks stopped before its end".to_owned();
                        return Poll::Ready(Some(Err(EngineError::Internal(what))));
                    }
                }
            }
            if let Some(parcel) = ready!(self.channel.poll_recv(context)) {
                self.current = parcel.frames.into_iter();
                self.room = Some(parcel._room);
                continue;
            }
            // The channel is closed: either the driver has said how it went, or it is about to.
            let Some(totals) = self.totals else {
                return Poll::Pending;
            };
            if totals.rows == self.rows {
                return Poll::Ready(None);
            }
            return Poll::Ready(Some(Err(EngineError::Internal(format!(
                "{} rows were committed but {} passed on",
                totals.rows, self.rows
            )))));
        }
    }
}

impl<F> Stream for Relay<F>
where
    F: FnOnce(Outlet, oneshot::Sender<Result<Totals>>) -> AbortOnDropHandle<()> + Unpin,
{
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if let State::Idle(start) = &mut self.state
            && let Some((start, buffer_bytes)) = start.take()
        {
            self.state = State::Running(Self::start(start, buffer_bytes));
        }
        let State::Running(running) = &mut self.state else {
            return Poll::Ready(None);
        };
        let item = ready!(running.poll_frame(context));
        if !matches!(item, Some(Ok(_))) {
            self.state = State::Ended;
        }
        Poll::Ready(item)
    }
}
