//! Writes tables of users' own with the ingest: rows are gathered in a file, then one transaction brings
//! them to the workers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use futures::StreamExt;
use skyflight_catalog::{CatalogError, CatalogStore};
use skyflight_engine::EngineError;
use skyflight_ingest::{
    CommitMode, IngestError, IngestRequest, PositionColumns, Spool, TableDescription, TableKind, TableSource, ingest,
};
use skyflight_proto::ClusterKeys;
use skyflight_proto::tls::Dialer;
use skyflight_server::{RowStream, TableWriter, Upload, UploadLimits, UploadMode};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use crate::config::IngestSection;

/// Ingests that run at a time, and the most memory of each.
const MOST_AT_ONCE: usize = 4;
const MOST_MEMORY_MIB: usize = 64;

/// Batches that may wait for the file.
const BATCHES_AHEAD: usize = 2;

/// How often, and how far apart, the database is asked for while another process writes into it.
const TRIES: usize = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Writes uploads through the ingest of this process.
#[derive(Debug)]
pub(crate) struct IngestWriter {
    store: Arc<dyn CatalogStore>,
    keys: Arc<ClusterKeys>,
    dialer: Dialer,
    data_dir: PathBuf,
    config: IngestSection,
    runtime: Handle,
    turns: Arc<Semaphore>,
}

impl IngestWriter {
    /// For the process that serves `data_dir`; removes what uploads of an earlier one left there.
    pub(crate) fn new(
        store: Arc<dyn CatalogStore>,
        keys: Arc<ClusterKeys>,
        dialer: Dialer,
        data_dir: &Path,
        config: IngestSection,
    ) -> Result<IngestWriter> {
        let spools = spool_folder(data_dir);
        if spools.exists() {
            std::fs::remove_dir_all(&spools).with_context(|| format!("cannot empty {}", spools.display()))?;
        }
        let (data_dir, turns) = (data_dir.to_owned(), Arc::new(Semaphore::new(MOST_AT_ONCE)));
        Ok(IngestWriter { store, keys, dialer, data_dir, config, runtime: Handle::current(), turns })
    }

    fn request(&self, upload: &Upload, rows: &Path) -> IngestRequest {
        let mut description = TableDescription::new(&upload.table, TableKind::Replicated);
        if let Some(director) = &upload.director {
            description.kind = TableKind::Director;
            description.id = Some(director.id.clone());
            description.position = Some(PositionColumns {
                ra: director.ra.clone(),
                dec: director.dec.clone(),
                unit: Default::default(),
                wrap_ra: false,
            });
        }
        IngestRequest {
            database: upload.database.clone(),
            tables: vec![TableSource {
                description,
                inputs: vec![rows.to_owned()],
                mode: match upload.mode {
                    UploadMode::Append => CommitMode::Append,
                    UploadMode::Replace => CommitMode::Replace,
                },
            }],
            replicas: self.config.replicas,
            staging_dir: self.data_dir.join("staging").join(&upload.database),
            index_dir: self.data_dir.join("index"),
            memory_bytes: self.config.memory_mib.min(MOST_MEMORY_MIB) << 20,
            threads: self.config.threads,
            rejects: None,
            dialer: self.dialer.clone(),
            progress: None,
        }
    }
}

#[async_trait]
impl TableWriter for IngestWriter {
    async fn write(&self, upload: Upload, rows: RowStream) -> Result<u64, EngineError> {
        let name = format!("{}-{:x}.parquet", upload.database, unique());
        let path = spool_folder(&self.data_dir).join(name);
        let spool = gather(path, &upload, rows).await?;
        let count = spool.rows();
        let request = self.request(&upload, spool.path());
        let (store, keys, turns) = (Arc::clone(&self.store), Arc::clone(&self.keys), Arc::clone(&self.turns));
        // Begun, it runs to its end though the client goes away: half a transaction would stand in the way
        // of the user's next statement until it is found to be abandoned.
        let loading = self.runtime.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            let loaded = load(request, store, keys).await;
            drop(spool);
            loaded
        });
        match loading.await {
            Ok(loaded) => loaded.map(|()| count).map_err(into_engine),
            Err(failure) => Err(EngineError::Internal(format!("the upload ended abnormally: {failure}"))),
        }
    }
}

fn spool_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("staging").join("uploads")
}

/// A number no other upload of this process has.
fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Writes all rows to a file, on a thread that may wait for the disk.
async fn gather(path: PathBuf, upload: &Upload, mut rows: RowStream) -> Result<Spool, EngineError> {
    let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
    let (schema, limits) = (Arc::clone(&upload.schema), upload.limits);
    let writing = tokio::task::spawn_blocking(move || {
        let mut spool = Spool::create(&path, &schema).map_err(into_engine)?;
        while let Some(batch) = batches.blocking_recv() {
            // An error ends the rows; the file goes with the spool.
            spool.write(&batch?).map_err(into_engine)?;
            check_limits(&spool, limits)?;
        }
        spool.finish().map_err(into_engine)?;
        Ok(spool)
    });
    while let Some(batch) = rows.next().await {
        let failed = batch.is_err();
        // The writer may have ended; it says why.
        if sender.send(batch).await.is_err() || failed {
            break;
        }
    }
    drop(sender);
    writing.await.map_err(|failure| EngineError::Internal(format!("the rows could not be gathered: {failure}")))?
}

fn check_limits(spool: &Spool, limits: UploadLimits) -> Result<(), EngineError> {
    if spool.rows() > limits.rows || spool.bytes() > limits.bytes {
        return Err(EngineError::ResourceExhausted(format!(
            "the rows are more than your tables may still hold, {} rows and {} bytes; drop a table or write fewer rows",
            limits.rows, limits.bytes
        )));
    }
    Ok(())
}

async fn load(request: IngestRequest, store: Arc<dyn CatalogStore>, keys: Arc<ClusterKeys>) -> Result<(), IngestError> {
    for _ in 0..TRIES {
        match ingest(request.clone(), Arc::clone(&store), Arc::clone(&keys)).await {
            Err(IngestError::Catalog(CatalogError::Busy { .. })) => tokio::time::sleep(BETWEEN_TRIES).await,
            loaded => return loaded.map(drop),
        }
    }
    ingest(request, store, keys).await.map(drop)
}

/// Errors of an ingest in the words of an upload, which knows no files.
fn into_engine(error: IngestError) -> EngineError {
    match error {
        IngestError::Description { reason, .. } | IngestError::Request(reason) => EngineError::Invalid(reason),
        IngestError::BadRow { place, reason, .. } => EngineError::Invalid(format!("{place} of the rows: {reason}")),
        IngestError::Input { reason, .. } => EngineError::Invalid(format!("the rows: {reason}")),
        IngestError::TooFewWorkers { .. } | IngestError::WorkerMissing { .. } | IngestError::Worker { .. } => {
            EngineError::Unavailable(error.to_string())
        }
        IngestError::Catalog(CatalogError::Busy { .. } | CatalogError::Conflict { .. }) => {
            EngineError::ResourceExhausted(error.to_string())
        }
        IngestError::Catalog(CatalogError::Invalid(reason)) => EngineError::Invalid(reason),
        IngestError::Catalog(error) => EngineError::Catalog(error),
        IngestError::Cancelled => EngineError::Cancelled,
        IngestError::Unverified { .. }
        | IngestError::Sky(_)
        | IngestError::Io { .. }
        | IngestError::Arrow(_)
        | IngestError::Parquet(_)
        | IngestError::Thread(_) => EngineError::Internal(error.to_string()),
    }
}
