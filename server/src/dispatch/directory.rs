//! Where workers are: ids come from the catalog's file records, addresses from their heartbeats.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use skyflight_catalog::{CatalogStore, WorkerId};
use skyflight_engine::Result;
use tracing::warn;

/// Where a worker is, and when it last said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerAddress {
    /// The worker.
    pub id: WorkerId,
    /// `http://host:port` of its Flight service.
    pub address: String,
    /// Its last heartbeat, in milliseconds since 1970-01-01 UTC.
    pub last_seen_unix_ms: i64,
}

/// Knows the workers of the cluster.
#[async_trait]
pub trait WorkerDirectory: Debug + Send + Sync {
    /// Every worker ever registered, in any order, dead ones too. Asked every few seconds at most,
    /// and after a worker has failed.
    async fn workers(&self) -> Result<Vec<WorkerAddress>>;
}

/// The directory kept in the catalog store, written by heartbeats.
#[derive(Debug)]
pub struct StoreDirectory(pub Arc<dyn CatalogStore>);

#[async_trait]
impl WorkerDirectory for StoreDirectory {
    async fn workers(&self) -> Result<Vec<WorkerAddress>> {
        let workers = self.0.workers().await?;
        Ok(workers
            .into_iter()
            .map(|worker| WorkerAddress {
                id: worker.id,
                address: worker.address,
                last_seen_unix_ms: worker.last_seen_unix_ms,
            })
            .collect())
    }
}

/// How long a listing is believed without asking again.
const LISTING_AGE: Duration = Duration::from_secs(2);

/// A worker whose last heartbeat is older is used only where no other holds the chunk. Five times
/// [`skyflight_proto::wire::HEARTBEAT_INTERVAL`].
const HEARTBEAT_AGE: Duration = Duration::from_secs(10);

/// For how long a worker that failed in one query is the last choice of others.
const FAILURE_AGE: Duration = Duration::from_secs(10);

pub(super) type Listing = Arc<HashMap<WorkerId, WorkerAddress>>;

/// A [`WorkerDirectory`] with memory: of its last answer, and of who failed lately.
#[derive(Debug)]
pub(super) struct AddressBook {
    source: Arc<dyn WorkerDirectory>,
    listing: Mutex<Option<(Instant, Listing)>>,
    failed: Mutex<HashMap<WorkerId, Instant>>,
}

impl AddressBook {
    pub(super) fn new(source: Arc<dyn WorkerDirectory>) -> Self {
        AddressBook { source, listing: Mutex::default(), failed: Mutex::default() }
    }

    /// The workers as of a moment ago.
    pub(super) async fn listing(&self) -> Result<Listing> {
        let last = self.listing.lock().clone();
        if let Some((at, listing)) = &last
            && at.elapsed() < LISTING_AGE
        {
            return Ok(Arc::clone(listing));
        }
        match self.source.workers().await {
            Ok(workers) => {
                let listing: Listing = Arc::new(workers.into_iter().map(|w| (w.id.clone(), w)).collect());
                *self.listing.lock() = Some((Instant::now(), Arc::clone(&listing)));
                Ok(listing)
            }
            Err(error) => match last {
                // Workers rarely move: an old listing serves better than none.
                Some((_, listing)) => {
                    warn!(%error, "the directory of workers does not answer; its last answer is used");
                    Ok(listing)
                }
                None => Err(error),
            },
        }
    }

    /// Whether `worker` has given no sign of life lately.
    pub(super) fn silent(&self, worker: &WorkerId, listing: &Listing) -> bool {
        listing
            .get(worker)
            .is_none_or(|entry| unix_ms().saturating_sub(entry.last_seen_unix_ms) > HEARTBEAT_AGE.as_millis() as i64)
    }

    /// Whether others should be tried before `worker`.
    pub(super) fn doubtful(&self, worker: &WorkerId, listing: &Listing) -> bool {
        self.silent(worker, listing) || self.failed.lock().get(worker).is_some_and(|at| at.elapsed() < FAILURE_AGE)
    }

    /// Records that a worker failed; it may have moved, so the next listing is a fresh one.
    pub(super) fn record_failure(&self, worker: &WorkerId) {
        let mut failed = self.failed.lock();
        failed.retain(|_, at| at.elapsed() < FAILURE_AGE);
        failed.insert(worker.clone(), Instant::now());
        drop(failed);
        if let Some((at, _)) = self.listing.lock().as_mut()
            && let Some(old) = Instant::now().checked_sub(LISTING_AGE)
        {
            *at = old;
        }
    }

    /// Records that a worker did what it was asked.
    pub(super) fn record_success(&self, worker: &WorkerId) {
        self.failed.lock().remove(worker);
    }
}

/// Milliseconds since 1970-01-01 UTC.
pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}
