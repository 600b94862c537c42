//! What a job has of its chunks already, on disk, so that none of them runs again when the coordinator
//! dies and the next one goes on.
//!
//! [`KeepingDispatcher`] stands before the dispatcher of all queries. A dispatch of a job is planned
//! again after a restart, on the same snapshots and by the same clock; where it has the `fingerprint` of
//! one before, the frames of its finished chunks are read from that one's `file`, and only the other
//! chunks are dispatched. Above it nothing differs: the merge plan is fed from both.

mod file;
mod fingerprint;

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use skyflight_engine::dispatch::{
    ChunkCommits, ChunkDispatcher, ChunkList, DirectWorkers, DispatchRequest, FrameStream, QueryCounters,
};
use skyflight_engine::frames::Frame;
use skyflight_engine::shuffle::ShuffleCluster;
use skyflight_engine::{EngineError, Result};
use skyflight_sky::ChunkId;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::file::{Extent, KeptFile};
use self::fingerprint::{Fingerprint, fingerprint};

/// Keeps the finished chunks of those queries that are told to it, and hands the rest on.
pub(crate) struct KeepingDispatcher {
    inner: Arc<dyn ChunkDispatcher>,
    ledgers: Mutex<HashMap<Uuid, Arc<Ledger>>>,
}

impl KeepingDispatcher {
    pub(crate) fn new(inner: Arc<dyn ChunkDispatcher>) -> Self {
        KeepingDispatcher { inner, ledgers: Mutex::default() }
    }

    /// Keeps the chunks of a query in `ledger` until what is returned is dropped.
    pub(crate) fn keep(self: &Arc<Self>, query: Uuid, ledger: Arc<Ledger>) -> Keeping {
        self.ledgers.lock().insert(query, ledger);
        Keeping { dispatcher: Arc::clone(self), query }
    }
}

/// A query whose chunks are kept.
pub(crate) struct Keeping {
    dispatcher: Arc<KeepingDispatcher>,
    query: Uuid,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.dispatcher.ledgers.lock().remove(&self.query);
    }
}

impl ChunkDispatcher for KeepingDispatcher {
    fn direct(&self) -> Option<Arc<dyn DirectWorkers>> {
        self.inner.direct()
    }

    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        let Some(ledger) = self.ledgers.lock().get(&request.query.id).cloned() else {
            return self.inner.dispatch(request);
        };
        let inner = Arc::clone(&self.inner);
        futures::stream::once(async move {
            let leaf = Arc::new(ledger.leaf(&request).await?);
            let (kept, missing) = leaf.divide(&request.chunks);
            tracing::debug!(query_id = %request.query.id, kept = kept.chunks, missing = missing.chunks.len(), "leaf begins");
            QueryCounters::add(&request.query.counters.chunks_done, kept.chunks);
            let replayed = replay(Arc::clone(&leaf), kept.frames);
            if missing.chunks.is_empty() {
                return Ok(replayed);
            }
            let rest = DispatchRequest {
                chunks: Arc::new(missing),
                // Nothing of a chunk passes on before the chunk is whole, and kept.
                deterministic: false,
                commits: Some(leaf),
                ..request
            };
            Ok::<_, EngineError>(replayed.chain(inner.dispatch(rest)).boxed())
        })
        .try_flatten()
        .boxed()
    }

    fn shuffle(&self) -> Option<Arc<dyn ShuffleCluster>> {
        self.inner.shuffle()
    }
}

impl fmt::Debug for KeepingDispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepingDispatcher").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The finished chunks of one job.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
    /// What is on disk of leaves that nobody has asked for yet, and how many of each kind were given
    /// out. Leaves of one fingerprint are alike, so it does not matter which gets which file.
    leaves: Mutex<Leaves>,
    room: Room,
    runs: AtomicU64,
}

#[derive(Debug, Default)]
struct Leaves {
    found: HashMap<PathBuf, KeptFile>,
    given: HashMap<Fingerprint, u32>,
}

/// The disk a job may take for its chunks.
#[derive(Debug)]
struct Room {
    used: AtomicU64,
    limit: u64,
    full: AtomicBool,
}

impl Ledger {
    /// Opens the ledger in `folder`, which may take `limit_bytes`; beyond that no more chunks are kept,
    /// and a restart runs those again.
    ///
    /// Errors: also `Cancelled`, when `stop` is cancelled before all is read.
    pub(crate) async fn open(folder: &Path, limit_bytes: u64, stop: CancellationToken) -> Result<Ledger> {
        let folder = folder.to_owned();
        blocking(move || {
            let failed = |error: &dyn fmt::Display| disk(&folder, error);
            std::fs::create_dir_all(&folder).map_err(|e| failed(&e))?;
            let mut found = HashMap::new();
            for entry in std::fs::read_dir(&folder).map_err(|e| failed(&e))? {
                let path = entry.map_err(|e| failed(&e))?.path();
                let kept = KeptFile::open(&path, &stop).map_err(|e| match e.kind() {
                    ErrorKind::Interrupted => EngineError::Cancelled,
                    _ => failed(&e),
                })?;
                found.insert(path, kept);
            }
            let runs = found.values().map(KeptFile::marks).sum();
            let used = found.values().map(KeptFile::bytes).sum();
            Ok(Ledger {
                leaves: Mutex::new(Leaves { found, given: HashMap::new() }),
                room: Room { used: AtomicU64::new(used), limit: limit_bytes, full: AtomicBool::new(false) },
                runs: AtomicU64::new(runs),
                folder,
            })
        })
        .await
    }

    /// Chunk runs that counted, over all lives of the job.
    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    async fn leaf(self: Arc<Self>, request: &DispatchRequest) -> Result<Leaf> {
        let request = request.clone();
        blocking(move || {
            let print = fingerprint(&request);
            let mut leaves = self.leaves.lock();
            let given = leaves.given.entry(print).or_default();
            let path = self.folder.join(format!("{}-{given}.kept", hex::encode(&print[..16])));
            *given += 1;
            let found = leaves.found.remove(&path);
            drop(leaves);
            let kept = match found {
                Some(kept) => kept,
                // A new file.
                None => KeptFile::open(&path, &CancellationToken::new()).map_err(|e| disk(&path, &e))?,
            };
            Ok(Leaf { kept: Arc::new(Mutex::new(kept)), path, ledger: self })
        })
        .await
    }
}

/// The finished chunks of one leaf of the job's plan.
#[derive(Debug)]
struct Leaf {
    kept: Arc<Mutex<KeptFile>>,
    path: PathBuf,
    ledger: Arc<Ledger>,
}

/// What of a dispatch is there already.
struct Kept {
    chunks: u64,
    frames: Vec<Extent>,
}

impl Leaf {
    /// The frames of chunks that are there, and the chunks that are not.
    fn divide(&self, wanted: &ChunkList) -> (Kept, ChunkList) {
        let kept = self.kept.lock();
        let there: HashMap<ChunkId, &[Extent]> = kept.chunks().collect();
        let mut found = Kept { chunks: 0, frames: Vec::new() };
        let mut missing = ChunkList { chunks: Vec::new(), workers: wanted.workers.clone(), total: wanted.total };
        for chunk in &wanted.chunks {
            match there.get(&chunk.chunk) {
                Some(frames) => {
                    found.chunks += 1;
                    found.frames.extend_from_slice(frames);
                }
                None => missing.chunks.push(chunk.clone()),
            }
        }
        (found, missing)
    }

    /// Writes, unless the room is used up.
    async fn write(
        &self,
        bytes: u64,
        write: impl FnOnce(&mut KeptFile) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let room = &self.ledger.room;
        if room.full.load(Ordering::Relaxed) {
            return Ok(());
        }
        if room.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > room.limit {
            room.full.store(true, Ordering::Relaxed);
            tracing::warn!(
                ledger = %self.ledger.folder.display(),
                limit_bytes = room.limit,
                "a job's chunks need too much disk; no more are kept, and a restart runs them again"
            );
            return Ok(());
        }
        let kept = Arc::clone(&self.kept);
        let path = self.path.clone();
        blocking(move || write(&mut kept.lock()).map_err(|e| disk(&path, &e))).await
    }
}

#[async_trait]
impl ChunkCommits for Leaf {
    async fn frame(&self, chunk: ChunkId, frame: &Frame) -> Result<()> {
        let frame = frame.clone();
        let bytes = (frame.header.len() + frame.body.len()) as u64;
        self.write(bytes, move |kept| kept.frame(chunk, &frame)).await
    }

    async fn committed(&self, chunk: ChunkId) -> Result<()> {
        self.write(0, move |kept| kept.commit(chunk)).await?;
        self.ledger.runs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn replay(leaf: Arc<Leaf>, frames: Vec<Extent>) -> FrameStream {
    futures::stream::iter(frames)
        .then(move |extent| {
            let kept = Arc::clone(&leaf.kept);
            let path = leaf.path.clone();
            blocking(move || kept.lock().read(&extent).map_err(|e| disk(&path, &e)))
        })
        .boxed()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| EngineError::Internal(format!("reading or writing the chunks of a job stopped: {e}")))?
}

fn disk(path: &Path, error: &dyn fmt::Display) -> EngineError {
    EngineError::Internal(format!(
        "the finished chunks of a job cannot be kept in {}: {error}; check that the folder of jobs exists and has room",
        path.display()
    ))
}
