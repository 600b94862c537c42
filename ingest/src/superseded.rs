//! Removes the files of replaced and dropped tables when nobody can read them any more.
//!
//! Every step can be taken again: index files first, which are here; then each worker is asked, and only what
//! it has removed is taken off the records. Whoever stops in between, or is down, is asked at the next sweep.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use skyflight_catalog::{ABANDONED_AFTER_MS, CatalogStore, FileId, Superseded, Worker, WorkerId};
use skyflight_proto::ClusterKeys;
use skyflight_proto::tls::Dialer;

use crate::delivery::{Courier, unix_ms};
use crate::error::Result;
use crate::leftovers::remove_index_files;

/// Transactions that one sweep takes from workers; the next goes on.
const MOST_AT_ONCE: usize = 500;

/// Takes superseded files from the workers of a catalog, and from its folder of director indexes.
#[derive(Debug)]
pub struct Sweeper {
    store: Arc<dyn CatalogStore>,
    courier: Courier,
    index_dir: PathBuf,
}

impl Sweeper {
    /// For the catalog in `store`, whose workers are reached with `dialer`.
    pub fn new(store: Arc<dyn CatalogStore>, keys: Arc<ClusterKeys>, dialer: Dialer, index_dir: PathBuf) -> Sweeper {
        Sweeper { store, courier: Courier::new(keys, dialer), index_dir }
    }

    /// Removes what was superseded at that moment (milliseconds of Unix time) or before it; how many files
    /// that were. A worker that cannot be reached is left for a later sweep.
    ///
    /// # Errors
    /// The catalog cannot be read or written, or an index file cannot be removed.
    pub async fn sweep(&self, until_unix_ms: i64) -> Result<u64> {
        let Superseded { transactions, index_files } = self.store.superseded(until_unix_ms).await?;
        let mut removed = self.remove_index_files(index_files.into_iter().collect()).await?;
        let mut alive = self.alive().await?;
        let mut asked = 0;
        for (transaction, holders) in transactions {
            for holder in holders {
                let Some(worker) = alive.get(&holder) else { continue };
                if asked == MOST_AT_ONCE {
                    return Ok(removed);
                }
                asked += 1;
                let dropped = self.courier.drop_transaction(worker, transaction).await;
                match dropped {
                    Ok(files) => {
                        self.store.forget_replicas(transaction, &holder).await?;
                        removed += files;
                        tracing::info!(%transaction, worker = %holder, files, "superseded files removed from worker");
                    }
                    Err(error) => {
                        tracing::warn!(worker = %holder, %error, "superseded files stay until the next sweep");
                        alive.remove(&holder);
                    }
                }
            }
        }
        Ok(removed)
    }

    async fn remove_index_files(&self, doomed: HashSet<FileId>) -> Result<u64> {
        if doomed.is_empty() {
            return Ok(0);
        }
        let folder = self.index_dir.clone();
        let removing =
            tokio::task::spawn_blocking(move || remove_index_files(&folder, &|id: FileId| doomed.contains(&id), 0));
        removing.await.map_err(|_| crate::IngestError::Thread("remove index files"))?
    }

    async fn alive(&self) -> Result<HashMap<WorkerId, Worker>> {
        let now = unix_ms(SystemTime::now());
        let workers = self.store.workers().await?.into_iter();
        let lately = workers.filter(|worker| now - worker.last_seen_unix_ms <= ABANDONED_AFTER_MS);
        Ok(lately.map(|worker| (worker.id.clone(), worker)).collect())
    }
}
