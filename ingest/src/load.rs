//! One table from its input to its chunk files: what all kinds of tables have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt};
use skyflight_catalog::{
    CommitMode, FileId, FileKind, NewFile, PairFacts, TableKind, TransactionId, Worker, index_folder,
};
use skyflight_sky::{ChunkId, Scheme};
use tokio::sync::mpsc;

use crate::chunk_file::{ChunkFileWriter, FileLayout, WrittenFile};
use crate::delivery::{Courier, FileLabel};
use crate::error::{IngestError, IoContext, Result};
use crate::input::{BATCH_ROWS, Input};
use crate::merge::merge_runs;
use crate::placement::Placement;
use crate::progress::{ProgressSink, Stage};
use crate::rejects::{BadRows, RejectsFile};
use crate::schema::HEALPIX_COLUMN;
use crate::spill::{Destination, Run, SpillArea, remove_files};
use crate::threads::{Stop, share_out};
use crate::types::value_bytes;

/// Files on their way to workers at once.
const DELIVERIES: usize = 4;

/// What every table of an ingest shares.
#[derive(Debug)]
pub(crate) struct Loading {
    pub(crate) database: String,
    pub(crate) transaction: TransactionId,
    pub(crate) scheme: Option<Arc<dyn Scheme>>,
    pub(crate) staging: PathBuf,
    pub(crate) index_dir: PathBuf,
    pub(crate) budget: Budget,
    pub(crate) threads: usize,
    pub(crate) placement: Placement,
    pub(crate) courier: Arc<Courier>,
    pub(crate) progress: Arc<dyn ProgressSink>,
    pub(crate) stop: Stop,
    sequence: AtomicU32,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// Shares of the memory an ingest may take, in bytes. The rest is for the batches being read, frames being
/// sent, and what the libraries take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    memory: usize,
    threads: usize,
}

impl Budget {
    pub(crate) fn new(memory: usize, threads: usize) -> Budget {
        Budget { memory, threads: threads.max(1) }
    }

    /// Of each thread for rows on their way to chunks.
    pub(crate) fn router(self) -> usize {
        self.memory * 2 / 5 / self.threads
    }

    /// Of each thread for ids on their way to the director index.
    pub(crate) fn index(self) -> usize {
        self.memory / 8 / self.threads
    }

    /// For the part of a director index held in memory.
    pub(crate) fn lookup(self) -> usize {
        self.memory / 4
    }

    /// Of each thread for the row group being written.
    pub(crate) fn row_group(self) -> usize {
        self.memory / 3 / self.threads
    }
}

/// What an ingest is made of, before a transaction exists.
pub(crate) struct LoadingParts {
    pub(crate) database: String,
    pub(crate) transaction: TransactionId,
    pub(crate) staging: PathBuf,
    pub(crate) index_dir: PathBuf,
    pub(crate) memory_bytes: usize,
    pub(crate) threads: usize,
    pub(crate) placement: Placement,
    pub(crate) courier: Arc<Courier>,
    pub(crate) progress: Arc<dyn ProgressSink>,
    pub(crate) stop: Stop,
}

impl Loading {
    pub(crate) fn new(parts: LoadingParts, scheme: Option<Arc<dyn Scheme>>) -> Loading {
        Loading {
            database: parts.database,
            transaction: parts.transaction,
            scheme,
            staging: parts.staging,
            index_dir: parts.index_dir,
            budget: Budget::new(parts.memory_bytes, parts.threads),
            threads: parts.threads,
            placement: parts.placement,
            courier: parts.courier,
            progress: parts.progress,
            stop: parts.stop,
            sequence: AtomicU32::new(1),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The id of the next file.
    pub(crate) fn next_file(&self) -> FileId {
        FileId::new(self.transaction, self.sequence.fetch_add(1, Ordering::Relaxed))
    }

    /// Files stored so far, and their bytes; a copy on another worker does not count again.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Counts a stored file.
    pub(crate) fn count(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Where the index files of a table lie.
    pub(crate) fn index_folder(&self, table: &str) -> PathBuf {
        index_folder(&self.index_dir, &self.database, table)
    }

    /// The scheme, which a partitioned table cannot do without.
    pub(crate) fn scheme(&self) -> Result<&Arc<dyn Scheme>> {
        self.scheme.as_ref().ok_or_else(|| {
            IngestError::Request(format!("database {} has no scheme yet; ingest its director first", self.database))
        })
    }
}

/// One table of an ingest.
#[derive(Debug)]
pub(crate) struct TableInput {
    pub(crate) input: Input,
    pub(crate) mode: CommitMode,
    pub(crate) rejects: Option<Arc<RejectsFile>>,
}

impl TableInput {
    pub(crate) fn name(&self) -> &str {
        &self.input.schema.table
    }

    pub(crate) fn bad_rows(&self) -> BadRows<'_> {
        BadRows {
            table: self.name(),
            files: &self.input.files,
            rejects: self.rejects.as_deref(),
            count: AtomicU64::new(0),
        }
    }

    /// How the table's chunk files are written.
    fn layout(&self, sub_chunk_first: bool) -> FileLayout {
        let schema = &self.input.schema;
        let name = |at: Option<usize>| at.and_then(|at| schema.columns.get(at)).map(|column| column.name.clone());
        let ids = [schema.id, schema.director_key, schema.second_director_key];
        let ids: Vec<String> = ids.into_iter().filter_map(name).collect();
        let keys = [name(schema.ra), name(schema.dec)].into_iter().flatten().collect();
        let by_cell = schema.kind != TableKind::Replicated && !sub_chunk_first;
        FileLayout::new(schema.stored(), ids, keys, by_cell.then(|| HEALPIX_COLUMN.to_owned()))
    }
}

/// What routing a table gave.
#[derive(Debug)]
pub(crate) struct Routed {
    /// Its rows and overlap rows, by file.
    pub(crate) area: SpillArea,
    /// Rows that lack the director's row, the first one of a pair.
    pub(crate) orphans: u64,
    /// Rows that lack a director's row, either one of a pair.
    pub(crate) incomplete: u64,
    pub(crate) pairs: PairFacts,
    pub(crate) rejected: u64,
}

impl Routed {
    /// Rows that all have what they need.
    pub(crate) fn whole(area: SpillArea, rejected: u64) -> Routed {
        Routed { area, orphans: 0, incomplete: 0, pairs: PairFacts::default(), rejected }
    }
}

/// Turns what was routed into chunk files on workers. Gives the files in the order of their chunks.
pub(crate) async fn store_table(
    loading: &Arc<Loading>,
    table: &Arc<TableInput>,
    routed: Routed,
) -> Result<Vec<NewFile>> {
    let (send, receive) = mpsc::channel(loading.threads);
    let build = {
        let (loading, table) = (Arc::clone(loading), Arc::clone(table));
        tokio::task::spawn_blocking(move || build_files(&loading, &table, &routed, &send))
    };
    let finished = futures::stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|file: Finished| (file, receive))
    });
    let delivered: Result<Vec<NewFile>> =
        finished.map(|file| deliver(loading, file)).buffer_unordered(DELIVERIES).try_collect().await;
    // A failed delivery has closed the channel, which ends the threads.
    let built = build.await.map_err(|_| IngestError::Thread("write chunk files"))?;
    let mut files = match (delivered, built) {
        (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
        (Ok(files), Ok(())) => files,
    };
    files.sort_by_key(|file| (file.chunk, file.kind, file.id));
    Ok(files)
}

/// A file that is on local disk and verified.
struct Finished {
    label: FileLabel,
    workers: Vec<Worker>,
    file: WrittenFile,
}

fn build_files(loading: &Loading, table: &TableInput, routed: &Routed, send: &mpsc::Sender<Finished>) -> Result<()> {
    let destinations: Vec<(Destination, Vec<Run>)> = routed.area.take_runs().into_iter().collect();
    let rows = destinations.iter().flat_map(|(_, runs)| runs).map(|run| run.rows).sum();
    loading.progress.stage(table.name(), Stage::Store, Some(rows));
    let sub_chunk_first = loading.scheme.as_ref().is_some_and(|scheme| scheme.sub_chunk_first());
    let layout = table.layout(sub_chunk_first);
    share_out(
        "write chunk files",
        loading.threads,
        &loading.stop,
        destinations,
        |_| Ok(()),
        |(), (destination, runs)| {
            let file = build_file(loading, table, &routed.area, &layout, destination, runs)?;
            // The receiver is gone when a delivery failed, and has the error.
            send.blocking_send(file).map_err(|_| IngestError::Cancelled)
        },
        Ok,
    )?;
    routed.area.remove();
    Ok(())
}

fn build_file(
    loading: &Loading,
    table: &TableInput,
    area: &SpillArea,
    layout: &FileLayout,
    destination: Destination,
    runs: Vec<Run>,
) -> Result<Finished> {
    let id = loading.next_file();
    let rows = runs.iter().map(|run| run.rows).sum();
    let path = loading.staging.join(format!("{id}.parquet"));
    let mut writer = ChunkFileWriter::create(layout, path, rows, loading.budget.row_group())?;
    let width = table.input.schema.columns.len();
    let row_bytes: usize = layout.schema().fields().iter().map(|field| value_bytes(field.data_type())).sum();
    let batch_rows = (loading.budget.router() / 16 / row_bytes.max(1)).clamp(16, BATCH_ROWS);
    merge_runs(area, runs.clone(), &sort_keys(destination.kind, width), batch_rows, &loading.stop, &mut |batch| {
        loading.progress.rows(batch.num_rows() as u64);
        writer.write(&batch)
    })?;
    remove_files(&runs);
    let file = writer.finish(false)?;
    let workers = loading.placement.place(destination.chunk, file.bytes)?;
    let label = FileLabel {
        database: loading.database.clone(),
        table: table.name().to_owned(),
        chunk: destination.chunk,
        kind: destination.kind,
        id,
    };
    Ok(Finished { label, workers, file })
}

/// Columns of a spilled row after the user's: `_healpix_29`, sub-chunk, row number. Rows are sorted by
/// sub-chunk (zero where the scheme does not sort by it), then cell, then their order in the input; copies of rows
/// of another chunk without the sub-chunk, which is one of that.
fn sort_keys(kind: FileKind, width: usize) -> Vec<usize> {
    match kind {
        FileKind::Rows | FileKind::FirstOnly | FileKind::DirectorIndex => vec![width + 1, width, width + 2],
        FileKind::Overlap | FileKind::SecondOnly => vec![width, width + 2],
    }
}

async fn deliver(loading: &Loading, finished: Finished) -> Result<NewFile> {
    let Finished { label, workers, file } = finished;
    let sent = workers.iter().map(|worker| loading.courier.deliver(worker, &label, &file));
    futures::future::try_join_all(sent).await?;
    tokio::fs::remove_file(&file.path).await.at("remove", &file.path)?;
    loading.count(file.bytes);
    Ok(NewFile {
        id: label.id,
        chunk: label.chunk,
        kind: label.kind,
        rows: file.rows,
        bytes: file.bytes,
        sha256: file.sha256,
        statistics: file.statistics,
        workers: workers.into_iter().map(|worker| worker.id).collect(),
    })
}

/// The catalog's record of a director's index file.
pub(crate) fn index_record(id: FileId, file: WrittenFile) -> NewFile {
    NewFile {
        id,
        chunk: ChunkId::EVERYWHERE,
        kind: FileKind::DirectorIndex,
        rows: file.rows,
        bytes: file.bytes,
        sha256: file.sha256,
        statistics: file.statistics,
        workers: Vec::new(),
    }
}
