//! What the requests of one worker share.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use skyflight_engine::fragment::FragmentRuntime;
use skyflight_engine::shuffle::host::{ChunkFiles, StageHost};
use skyflight_proto::tls::Dialer;
use skyflight_proto::{ClusterKeys, Ticket, WorkerStatus};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::direct::Recalls;
use crate::store::ChunkStore;
use crate::task::{Fragments, Slots, panicked};
use crate::{Result, WorkerConfig};

/// Files that come in at a time, at most; later ones wait.
const MAX_PUTS: usize = 64;

/// One worker, without its port.
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) keys: Arc<ClusterKeys>,
    pub(crate) cores: usize,
    pub(crate) store: Arc<ChunkStore>,
    pub(crate) fragments: Fragments,
    decoder: Arc<FragmentRuntime>,
    /// Tasks of shuffled queries.
    pub(crate) stages: StageHost,
    pub(crate) slots: Arc<Slots>,
    /// Queries whose rows clients read here.
    pub(crate) recalls: Arc<Recalls>,
    pub(crate) puts: Semaphore,
    pub(crate) counters: Counters,
    /// Where fragments run; Flight runs elsewhere.
    pub(crate) runtime: Handle,
    /// Cancelled when whatever still runs is to end now.
    pub(crate) stop: CancellationToken,
}

impl Worker {
    pub(crate) fn new(
        id: String,
        config: &WorkerConfig,
        store: Arc<ChunkStore>,
        decoder: FragmentRuntime,
        runtime: Handle,
    ) -> Worker {
        let decoder = Arc::new(decoder);
        let files: Arc<dyn ChunkFiles> = Arc::<ChunkStore>::clone(&store);
        let dialer = Dialer::new(config.tls.clone());
        // What this is called on is the network's runtime.
        let stages = StageHost::new(Arc::clone(&decoder), files, Arc::clone(&config.keys), dialer, Handle::current());
        Worker {
            id,
            keys: Arc::clone(&config.keys),
            cores: config.cores.max(1),
            store,
            fragments: Fragments::new(Arc::clone(&decoder), runtime.clone()),
            decoder,
            stages,
            slots: Arc::new(Slots::new(config.cores)),
            recalls: Recalls::new(),
            puts: Semaphore::new(MAX_PUTS),
            counters: Counters::default(),
            runtime,
            stop: CancellationToken::new(),
        }
    }

    /// The ticket in `bytes`, if this cluster issued it and it has not expired.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Result<Ticket> {
        Ok(self.keys.verify(bytes, unix_ms())?)
    }

    /// Bytes taken from its memory pool now.
    pub(crate) fn memory_reserved(&self) -> usize {
        self.decoder.memory_reserved()
    }

    pub(crate) async fn status(&self) -> WorkerStatus {
        WorkerStatus {
            worker: self.id.clone(),
            running_tasks: self.counters.running_tasks(),
            chunks_done: self.counters.chunks_done(),
            fragments_cached: self.fragments.len().await,
            rows_sent: self.counters.rows_sent(),
            memory_bytes: self.counters.bytes_waiting(),
        }
    }
}

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Runs what blocks where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}
