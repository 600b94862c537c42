//! The seam between a plan and the workers: what a leaf asks for, and what comes back.
//!
//! The engine knows chunks, files and fragments, not sockets. A [`ChunkDispatcher`] runs one
//! fragment on many chunks, exactly once each, and hands back undecoded IPC frames.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use skyflight_catalog::{FileId, WorkerId};
use skyflight_sky::ChunkId;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Result;
use crate::frames::Frame;
use crate::shuffle::ShuffleCluster;

/// A fragment as it travels: the encoded plan and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFragment {
    /// SHA-256 of `bytes`; workers cache decoded fragments by it.
    pub hash: [u8; 32],
    /// The physical plan as written by the codec.
    pub bytes: Bytes,
}

/// One chunk to run a fragment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedChunk {
    /// The chunk.
    pub chunk: ChunkId,
    /// Files of each scan of the fragment, in scan order, flattened.
    pub files: Vec<FileId>,
    /// How many of `files` belong to each scan; as long as the fragment has scans.
    pub files_per_scan: Vec<u32>,
    /// Indices into [`ChunkList::workers`] of the workers that hold all of `files`; never empty.
    pub workers: Vec<u16>,
}

/// The chunks a leaf reads, out of how many.
#[derive(Debug, Clone, Default)]
pub struct ChunkList {
    /// The chunks to read, ascending by chunk id.
    pub chunks: Vec<PlannedChunk>,
    /// The workers that the indices in `chunks` mean.
    pub workers: Vec<WorkerId>,
    /// How many chunks the tables have in all, before pruning.
    pub total: usize,
}

/// Who runs the query and how it can be stopped.
#[derive(Debug, Clone)]
pub struct QueryContext {
    /// The query's id, in every log line and ticket of it.
    pub id: Uuid,
    /// The user on whose behalf tickets are signed.
    pub user: String,
    /// Cancelled when the client is gone or says so.
    pub cancel: CancellationToken,
    /// What the query has cost so far.
    pub counters: Arc<QueryCounters>,
    /// The span that the query is, for whoever follows it through the cluster; see [`crate::trace`].
    pub trace: opentelemetry::Context,
}

impl QueryContext {
    /// A fresh query of `user`.
    pub fn new(user: impl Into<String>) -> Self {
        QueryContext {
            id: Uuid::now_v7(),
            user: user.into(),
            cancel: CancellationToken::new(),
            counters: Arc::default(),
            trace: opentelemetry::Context::new(),
        }
    }
}

/// Noise-free counters of one query, summed over its leaves.
#[derive(Debug, Default)]
pub struct QueryCounters {
    /// Chunks whose trailer has been accepted.
    pub chunks_done: AtomicU64,
    /// Chunks chosen by pruning.
    pub chunks_planned: AtomicU64,
    /// Chunks of the tables before pruning.
    pub chunks_total: AtomicU64,
    /// Bytes that workers read from chunk files.
    pub bytes_read: AtomicU64,
    /// Rows that workers decoded from chunk files.
    pub rows_read: AtomicU64,
    /// Rows that workers sent.
    pub rows_received: AtomicU64,
    /// Bytes of frames received from workers.
    pub bytes_received: AtomicU64,
    /// Chunk attempts that failed and were given to another worker or tried again.
    pub retries: AtomicU64,
    /// Task streams opened.
    pub streams: AtomicU64,
}

impl QueryCounters {
    /// Adds `n` to one counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Reads one counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// One leaf's work: a fragment on chunks.
#[derive(Debug, Clone)]
pub struct DispatchRequest {
    /// The query it is part of.
    pub query: QueryContext,
    /// The plan to run beside each chunk.
    pub fragment: Arc<EncodedFragment>,
    /// Schema of the fragment's rows, as the frames carry them.
    pub schema: SchemaRef,
    /// The chunks, each wanted exactly once.
    pub chunks: Arc<ChunkList>,
    /// Proved: the same chunk gives the same rows in the same order on every attempt, so rows may
    /// pass on before the chunk's trailer has come and a retry resumes in mid-chunk.
    pub deterministic: bool,
    /// Who keeps what comes of each chunk; `None` where nobody does. What is kept must be whole, so
    /// such a dispatch is not deterministic.
    pub commits: Option<Arc<dyn ChunkCommits>>,
}

/// Keeps the rows of each chunk of one dispatch, so that the chunk need not run again.
#[async_trait]
pub trait ChunkCommits: Debug + Send + Sync {
    /// One frame of a chunk whose trailer has come and agrees; before the frame passes on.
    ///
    /// # Errors
    /// The frame cannot be kept; the dispatch ends.
    async fn frame(&self, chunk: ChunkId, frame: &Frame) -> Result<()>;

    /// All frames of the chunk have been given. Called once for each chunk.
    ///
    /// # Errors
    /// As [`ChunkCommits::frame`].
    async fn committed(&self, chunk: ChunkId) -> Result<()>;
}

/// Record batches as undecoded frames; ends with an error unless every chunk was received whole.
pub type FrameStream = BoxStream<'static, Result<Frame>>;

/// Runs fragments on chunks.
pub trait ChunkDispatcher: Debug + Send + Sync {
    /// Starts the work and gives its frames, chunk by chunk in no particular order; frames of
    /// different chunks may interleave. Dropping the stream stops the work on the workers.
    /// Never blocks; work begins when the stream is first polled.
    fn dispatch(&self, request: DispatchRequest) -> FrameStream;

    /// The same workers as places that clients fetch rows from; `None` where they cannot.
    fn direct(&self) -> Option<Arc<dyn DirectWorkers>> {
        None
    }

    /// The same workers for shuffled queries; `None` where there is no shuffling.
    fn shuffle(&self) -> Option<Arc<dyn ShuffleCluster>> {
        None
    }
}

/// Workers that clients can be sent to, with the chunks of one dispatch in signed tickets.
#[async_trait]
pub trait DirectWorkers: Debug + Send + Sync {
    /// For each of `workers` its address (`http://host:port` or `https://host:port`) if it answers
    /// there now, in the same order.
    ///
    /// # Errors
    /// It is not known where workers are.
    async fn addresses(&self, workers: &[WorkerId]) -> Result<Vec<Option<String>>>;

    /// Tells all workers that can be reached to end what they send to clients of `query`, and not to
    /// begin it again. Takes about a second at most; a worker that does not hear it is logged.
    async fn recall(&self, user: &str, query: Uuid);
}
