//! Connections between the tasks of shuffled queries.
//!
//! A task reads as many streams at a time as it has partitions and inputs, and reads them in an
//! order of its own. So every stream has a window of its own and its connection room for all of
//! them: a stream that nobody reads for now never stops another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use parking_lot::Mutex;
use skyflight_proto::tls::Dialer;
use skyflight_proto::wire::MAX_MESSAGE_BYTES;
use tokio::runtime::Handle;
use tonic::transport::Channel;

use crate::{EngineError, Result};

/// HTTP/2 window of one stream.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Streams on one connection; beyond them another is made. Servers take 1,024.
const STREAMS_PER_CONNECTION: u32 = 500;
/// Room for every stream of a connection at rest, and as many again for those that move.
const CONNECTION_WINDOW_BYTES: u32 = 2 * STREAM_WINDOW_BYTES * STREAMS_PER_CONNECTION;
/// The default of 16 KiB cuts a frame of 1 MiB into 64.
const HTTP2_FRAME_BYTES: u32 = 256 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A worker that answers no HTTP/2 ping for so long is gone.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// A connection without streams is closed after this long.
const IDLE_AGE: Duration = Duration::from_secs(120);

/// The open connections, by address.
#[derive(Debug)]
pub(crate) struct Lines {
    network: Handle,
    dialer: Dialer,
    routes: Mutex<HashMap<String, Vec<Line>>>,
}

#[derive(Debug)]
struct Line {
    channel: Channel,
    streams: Arc<()>,
    used: Instant,
}

/// A stream's place on its connection, until dropped.
#[derive(Debug, Clone)]
pub(super) struct Place {
    _stream: Arc<()>,
}

impl Lines {
    /// No connections yet; they will be driven by `network`.
    pub(crate) fn new(network: Handle, dialer: Dialer) -> Lines {
        Lines { network, dialer, routes: Mutex::default() }
    }

    /// A client for one more stream to `address`. The connection is made by its first request, and
    /// again after it has broken.
    pub(super) fn client(&self, address: &str) -> Result<(FlightServiceClient<Channel>, Place)> {
        let mut routes = self.routes.lock();
        routes.retain(|_, lines| {
            lines.retain(|line| !line.is_idle());
            !lines.is_empty()
        });
        let lines = routes.entry(address.to_owned()).or_default();
        let free = lines.iter_mut().find(|line| Arc::strong_count(&line.streams) <= STREAMS_PER_CONNECTION as usize);
        let (channel, streams) = match free {
            Some(line) => {
                line.used = Instant::now();
                (line.channel.clone(), Arc::clone(&line.streams))
            }
            None => {
                let line = Line { channel: self.connect(address)?, streams: Arc::new(()), used: Instant::now() };
                let found = (line.channel.clone(), Arc::clone(&line.streams));
                lines.push(line);
                found
            }
        };
        let client = FlightServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok((client, Place { _stream: streams }))
    }

    fn connect(&self, address: &str) -> Result<Channel> {
        let endpoint = self.dialer.endpoint(address).map_err(|e| EngineError::Internal(e.to_string()))?;
        // What drives the connection is spawned where it is made.
        let _network = self.network.enter();
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .connect_lazy())
    }
}

impl Line {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.streams) == 1 && self.used.elapsed() > IDLE_AGE
    }
}
