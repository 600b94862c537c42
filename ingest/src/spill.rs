//! Sorted runs of rows on local disk, between reading the input and writing chunk files.
//!
//! A spill file is a sequence of runs, each appended in one go, so that no file stays open while others are
//! written. A run is Arrow IPC messages without the schema, which all runs of an area share in memory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Chain, Cursor, Read, Seek, SeekFrom, Take, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, write_message};
use parking_lot::Mutex;
use skyflight_catalog::FileKind;
use skyflight_sky::ChunkId;

use crate::error::{IoContext, Result};

/// Read at once from a run; as many as are merged are open, so it is small.
const READ_BYTES: usize = 32 << 10;

/// Written at once to a run.
const WRITE_BYTES: usize = 256 << 10;

/// What a spilled row is for: a file of a chunk, or a part of the director index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Destination {
    /// The chunk, or the number of the part.
    pub(crate) chunk: ChunkId,
    /// Rows or overlap.
    pub(crate) kind: FileKind,
}

impl Destination {
    pub(crate) fn rows(chunk: ChunkId) -> Destination {
        Destination { chunk, kind: FileKind::Rows }
    }

    pub(crate) fn overlap(chunk: ChunkId) -> Destination {
        Destination { chunk, kind: FileKind::Overlap }
    }
}

/// Rows that lie together and are in order.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    path: Arc<Path>,
    offset: u64,
    bytes: u64,
    pub(crate) rows: u64,
}

/// A folder of spill files with one schema.
#[derive(Debug)]
pub(crate) struct SpillArea {
    folder: PathBuf,
    schema: SchemaRef,
    /// The schema message each run is read behind.
    prefix: Arc<[u8]>,
    runs: Mutex<BTreeMap<Destination, Vec<Run>>>,
    files: AtomicU64,
}

impl SpillArea {
    pub(crate) fn create(folder: PathBuf, schema: SchemaRef) -> Result<SpillArea> {
        std::fs::create_dir_all(&folder).at("create", &folder)?;
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            &schema,
            &mut DictionaryTracker::new(true),
            &IpcWriteOptions::default(),
        );
        let mut prefix = Vec::new();
        write_message(&mut prefix, encoded, &IpcWriteOptions::default())?;
        Ok(SpillArea {
            folder,
            schema,
            prefix: prefix.into(),
            runs: Mutex::new(BTreeMap::new()),
            files: AtomicU64::new(0),
        })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A file of its own for one writer and destination. Writers do not share files, so they need no lock.
    pub(crate) fn file(&self, writer: usize, destination: Destination) -> PathBuf {
        self.folder.join(format!("{writer}-{}-{}.runs", destination.chunk, destination.kind))
    }

    /// A file for runs merged from others.
    pub(crate) fn scratch_file(&self) -> PathBuf {
        self.folder.join(format!("merged-{}.runs", self.files.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn add(&self, destination: Destination, run: Run) {
        self.runs.lock().entry(destination).or_default().push(run);
    }

    /// Every run written, by destination.
    pub(crate) fn take_runs(&self) -> BTreeMap<Destination, Vec<Run>> {
        std::mem::take(&mut *self.runs.lock())
    }

    pub(crate) fn read(&self, run: &Run) -> Result<RunReader> {
        let mut file = File::open(&run.path).at("open", &run.path)?;
        file.seek(SeekFrom::Start(run.offset)).at("read", &run.path)?;
        let rows = BufReader::with_capacity(READ_BYTES, file.take(run.bytes));
        let reader = StreamReader::try_new(Cursor::new(Arc::clone(&self.prefix)).chain(rows), None)?;
        Ok(RunReader { reader })
    }

    /// Removes the folder with everything in it.
    pub(crate) fn remove(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            // The ingest's own staging folder goes at its end in any case.
            tracing::warn!(folder = %self.folder.display(), %error, "spill folder not removed");
        }
    }
}

/// Removes the files behind runs that will not be read again. Files whose runs are still needed must not be
/// among them.
pub(crate) fn remove_files(runs: &[Run]) {
    let mut paths: Vec<&Arc<Path>> = runs.iter().map(|run| &run.path).collect();
    paths.dedup();
    for path in paths {
        // Already gone when several runs were in it.
        let _ = std::fs::remove_file(path);
    }
}

/// The schema message, then the bytes of one run.
type RunBytes = Chain<Cursor<Arc<[u8]>>, BufReader<Take<File>>>;

/// The batches of a run, in order.
pub(crate) struct RunReader {
    reader: StreamReader<RunBytes>,
}

impl Iterator for RunReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.reader.next().map(|batch| batch.map_err(Into::into))
    }
}

/// Appends one run to a file.
pub(crate) struct RunWriter {
    path: PathBuf,
    file: BufWriter<File>,
    offset: u64,
    bytes: u64,
    rows: u64,
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
}

impl RunWriter {
    pub(crate) fn append(path: PathBuf) -> Result<RunWriter> {
        let file = OpenOptions::new().create(true).append(true).open(&path).at("open", &path)?;
        let offset = file.metadata().at("open", &path)?.len();
        Ok(RunWriter {
            file: BufWriter::with_capacity(WRITE_BYTES, file),
            path,
            offset,
            bytes: 0,
            rows: 0,
            generator: IpcDataGenerator::default(),
            options: IpcWriteOptions::default(),
        })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut tracker = DictionaryTracker::new(true);
        let (_, encoded) = self.generator.encode(batch, &mut tracker, &self.options, &mut Default::default())?;
        let (header, body) = write_message(&mut self.file, encoded, &self.options)?;
        self.bytes += (header + body) as u64;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Run> {
        self.file.flush().at("write", &self.path)?;
        Ok(Run { path: self.path.into(), offset: self.offset, bytes: self.bytes, rows: self.rows })
    }
}
