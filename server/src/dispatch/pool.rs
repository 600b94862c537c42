//! Connections to workers, shared by queries.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use parking_lot::Mutex;
use skyflight_proto::tls::Dialer;
use skyflight_proto::wire::{MAX_MESSAGE_BYTES, STREAM_WINDOW_BYTES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::Channel;

use super::config::DispatchConfig;

/// Streams on one connection. A stream whose consumer is slow keeps up to a stream window of the
/// connection's window occupied; were there more streams than windows, slow clients would stop the
/// streams of everybody else on the connection.
const STREAMS_PER_CONNECTION: usize = 15;

/// Room for every stream of a connection at rest, and one more for those that move.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * (STREAMS_PER_CONNECTION as u32 + 1);

/// The largest HTTP/2 frame workers may send us. The default of 16 KiB cuts a 1 MiB batch into 64.
const HTTP2_FRAME_BYTES: u32 = 256 << 10;

/// A connection without streams is closed after this long.
const IDLE_AGE: Duration = Duration::from_secs(120);

/// The open connections, by address.
#[derive(Debug)]
pub(super) struct Pool {
    routes: Mutex<HashMap<String, Route>>,
    streams_per_worker: usize,
    dialer: Dialer,
    connect_timeout: Duration,
    keepalive: Duration,
    wait: Duration,
}

#[derive(Debug)]
struct Route {
    slots: Arc<Semaphore>,
    lines: Vec<Arc<Line>>,
}

#[derive(Debug)]
struct Line {
    channel: Channel,
    streams: AtomicUsize,
    broken: AtomicBool,
    used: Mutex<Instant>,
}

/// The right to one stream on a connection; given back on drop.
#[derive(Debug)]
pub(super) struct Lease {
    line: Arc<Line>,
    _slot: OwnedSemaphorePermit,
}

/// Why there is no connection to try.
#[derive(Debug)]
pub(super) enum LeaseError {
    /// The address is none.
    Address(String),
    /// All streams to the worker have been in use for the whole wait.
    Busy(usize),
}

impl Pool {
    pub(super) fn new(config: &DispatchConfig) -> Self {
        Pool {
            routes: Mutex::default(),
            streams_per_worker: config.streams_per_worker.max(1),
            dialer: config.dialer.clone(),
            connect_timeout: config.connect_timeout,
            keepalive: config.keepalive,
            wait: config.silence_timeout,
        }
    }

    /// A connection to `address` with room for one more stream. The connection is made by its
    /// first request. To be called on the runtime that is to drive it.
    pub(super) async fn lease(&self, address: &str) -> Result<Lease, LeaseError> {
        let slots = match self.routes.lock().get(address) {
            Some(route) => Arc::clone(&route.slots),
            None => Arc::new(Semaphore::new(self.streams_per_worker)),
        };
        let waited = tokio::time::timeout(self.wait, Arc::clone(&slots).acquire_owned()).await;
        let Ok(Ok(slot)) = waited else {
            return Err(LeaseError::Busy(self.streams_per_worker));
        };

        let mut routes = self.routes.lock();
        // Two first callers may each have made slots; the second set only weakens the bound.
        let route = routes.entry(address.to_owned()).or_insert_with(|| Route { slots, lines: Vec::new() });
        route.lines.retain(|line| !line.broken.load(Ordering::Relaxed));
        let free = route.lines.iter().find(|line| line.streams.load(Ordering::Relaxed) < STREAMS_PER_CONNECTION);
        let line = match free {
            Some(line) => Arc::clone(line),
            None => {
                let line = Arc::new(Line {
                    channel: self.connect(address)?,
                    streams: AtomicUsize::new(0),
                    broken: AtomicBool::new(false),
                    used: Mutex::new(Instant::now()),
                });
                route.lines.push(Arc::clone(&line));
                line
            }
        };
        line.streams.fetch_add(1, Ordering::Relaxed);
        *line.used.lock() = Instant::now();
        close_idle(&mut routes);
        Ok(Lease { line, _slot: slot })
    }

    fn connect(&self, address: &str) -> Result<Channel, LeaseError> {
        let endpoint = self.dialer.endpoint(address).map_err(|e| LeaseError::Address(e.to_string()))?;
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES)
            .http2_keep_alive_interval(self.keepalive)
            .keep_alive_timeout(self.keepalive)
            .connect_lazy())
    }
}

fn close_idle(routes: &mut HashMap<String, Route>) {
    let idle = |line: &Line| line.streams.load(Ordering::Relaxed) == 0 && line.used.lock().elapsed() > IDLE_AGE;
    routes.retain(|_, route| {
        route.lines.retain(|line| !idle(line));
        !route.lines.is_empty()
    });
}

impl Lease {
    /// A Flight client on the connection.
    pub(super) fn client(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.line.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Takes the connection out of the pool; streams that are open on it may end in peace.
    pub(super) fn condemn(&self) {
        self.line.broken.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.line.used.lock() = Instant::now();
        self.line.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
