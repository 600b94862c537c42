//! The bounds of dispatch: every wait, buffer and retry has one.

use std::path::PathBuf;
use std::time::Duration;

use skyflight_proto::tls::Dialer;

/// Queries of at most so many chunks may use the slots that workers reserve for small ones.
pub(super) const INTERACTIVE_CHUNKS: usize = 8;

/// How a [`super::FlightDispatcher`] divides, waits, holds and retries.
#[derive(Debug, Clone)]
pub struct DispatchConfig {
    /// Most chunks one task ticket carries; what is beyond goes in a later stream to the same worker.
    pub chunks_per_stream: usize,
    /// Most bytes of chunk descriptions one task ticket carries; workers take messages of 64 MiB.
    pub ticket_bytes: usize,
    /// Most task streams open to one worker at a time, over all queries. A query that finds no free
    /// one within `silence_timeout` ends with `ResourceExhausted`.
    pub streams_per_worker: usize,
    /// Queries of at most this many chunks are marked interactive, for the slots workers reserve.
    pub interactive_chunks: usize,
    /// Bytes of frames that wait for the consumer, per dispatch. When they are as many, nothing is
    /// read from the workers, and HTTP/2 flow control stops them.
    pub buffer_bytes: usize,
    /// A worker that has sent nothing for so long is treated as failed, unless it answers a ping and
    /// its counts have moved.
    pub silence_timeout: Duration,
    /// The same for a worker that answers pings and says that it runs tasks, but whose counts do not
    /// move: it may be at work on one large chunk.
    pub stall_timeout: Duration,
    /// How often a chunk is tried in all before the query ends with `Unavailable`.
    pub attempts_per_chunk: u32,
    /// The wait before a worker that has failed in this query is used again, doubled for each
    /// further failure up to 5 s. A worker that has not failed is used at once.
    pub retry_backoff: Duration,
    /// Memory for frames that wait for their chunk's trailer, in bytes per query.
    pub hold_bytes: usize,
    /// Disk for such frames beyond that, in bytes per query; then `ResourceExhausted`.
    pub spool_bytes: u64,
    /// The folder of the nameless file they go to.
    pub spool_dir: PathBuf,
    /// How workers are reached.
    pub dialer: Dialer,
    /// How long a TCP connection to a worker may take.
    pub connect_timeout: Duration,
    /// Interval and timeout of HTTP/2 pings on connections with open streams.
    pub keepalive: Duration,
    /// How long a task ticket may be redeemed after it was signed. Covers the difference between
    /// the clocks of the machines; the stream itself may last longer.
    pub ticket_ttl: Duration,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        DispatchConfig {
            chunks_per_stream: 50_000,
            ticket_bytes: 32 << 20,
            streams_per_worker: 256,
            interactive_chunks: INTERACTIVE_CHUNKS,
            buffer_bytes: 16 << 20,
            silence_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(120),
            attempts_per_chunk: 4,
            retry_backoff: Duration::from_millis(200),
            hold_bytes: 256 << 20,
            spool_bytes: 64 << 30,
            spool_dir: std::env::temp_dir(),
            dialer: Dialer::default(),
            connect_timeout: Duration::from_secs(2),
            keepalive: Duration::from_secs(5),
            ticket_ttl: Duration::from_secs(300),
        }
    }
}
