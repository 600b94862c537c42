//! What an ingest that died left behind: files on workers, index files, spilled rows.

use std::path::{Path, PathBuf};

use skyflight_catalog::{CatalogStore, FileId, TransactionId, Worker};

use crate::delivery::Courier;
use crate::error::{IoContext, Result};

/// The folder an ingest keeps its spilled rows and unsent files in.
pub(crate) fn staging_folder(staging_dir: &Path, transaction: TransactionId) -> PathBuf {
    staging_dir.join(format!("transaction-{transaction}"))
}

/// Removes everything a transaction that will not commit wrote, and then forgets it.
///
/// `workers` are all that ever registered. Those that are not alive cannot be asked; then the transaction is
/// not forgotten, and the next ingest tries again.
pub(crate) async fn remove_leftovers(
    store: &dyn CatalogStore,
    courier: &Courier,
    transaction: TransactionId,
    workers: &[Worker],
    alive: &[Worker],
    staging_dir: &Path,
    index_dir: &Path,
) -> Result<()> {
    for worker in alive {
        let files = courier.drop_transaction(worker, transaction).await?;
        tracing::info!(%transaction, worker = %worker.id, files, "leftovers removed from worker");
    }
    let (staging, index) = (staging_folder(staging_dir, transaction), index_dir.to_owned());
    let local = tokio::task::spawn_blocking(move || {
        if staging.exists() {
            std::fs::remove_dir_all(&staging).at("remove", &staging)?;
        }
        remove_index_files(&index, &|id: FileId| id.transaction() == transaction, 0).map(|_files| ())
    });
    local.await.map_err(|_| crate::IngestError::Thread("remove leftovers"))??;
    if alive.len() < workers.len() {
        tracing::warn!(%transaction, unreachable = workers.len() - alive.len(), "leftovers may remain on workers that are down");
        return Ok(());
    }
    Ok(store.forget_transaction(transaction).await?)
}

/// Removes the files below `<index_dir>/<database>/<table>/` whose ids are meant; how many.
pub(crate) fn remove_index_files(folder: &Path, is_meant: &dyn Fn(FileId) -> bool, depth: u32) -> Result<u64> {
    if !folder.exists() {
        return Ok(0);
    }
    let mut removed = 0;
    for entry in std::fs::read_dir(folder).at("list", folder)? {
        let path = entry.at("list", folder)?.path();
        if depth < 2 {
            if path.is_dir() {
                removed += remove_index_files(&path, is_meant, depth + 1)?;
            }
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let id = name.split('.').next().and_then(|number| number.parse().ok()).map(FileId);
        if id.is_some_and(is_meant) {
            std::fs::remove_file(&path).at("remove", &path)?;
            removed += 1;
        }
    }
    Ok(removed)
}
