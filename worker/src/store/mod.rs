//! The worker's folder of chunk files, and the index that answers where a file is without asking
//! the file system: a task of ten thousand chunks must not cost ten thousand `stat` calls.
//!
//! A file is in the index only when it is whole, verified and durable; it never changes after
//! that. What a writer has begun and not finished lies in `chunks/.incoming` and is removed when
//! the writer gives up, or at the next start.

mod incoming;
mod layout;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use skyflight_catalog::{FileId, TransactionId};
use skyflight_engine::fragment::{FragmentScan, ScanFile};
use skyflight_proto::{FileKind, FileReceipt};
use skyflight_sky::ChunkId;
use tracing::warn;

pub use incoming::IncomingFile;
pub use layout::FileKey;

use crate::{Result, WorkerError};

/// Ids of dropped transactions that are remembered, so that a late file of one is refused.
const DROPPED_REMEMBERED: usize = 10_000;

/// The folder `<data>/chunks` of one worker. One process has it at a time; all methods block.
#[derive(Debug)]
pub struct ChunkStore {
    root: PathBuf,
    incoming: PathBuf,
    index: RwLock<Index>,
    // Never locked while `index` is, nor while a file is written or made durable.
    publishing: Mutex<Publishing>,
}

/// What keeps two writers, or a writer and a drop, from each other's files.
#[derive(Debug, Default)]
struct Publishing {
    /// Files that are being given their names.
    files: HashSet<FileId>,
    dropped: BTreeSet<TransactionId>,
}

#[derive(Debug, Default)]
struct Index {
    files: HashMap<FileId, StoredFile>,
    tables: Vec<Arc<TableFolder>>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct StoredFile {
    table: Arc<TableFolder>,
    chunk: ChunkId,
    kind: FileKind,
    bytes: u64,
    /// Known once this process has read the file whole.
    content: Option<Content>,
}

/// What a file was found to contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    rows: u64,
    sha256: [u8; 32],
}

/// A table's folder, shared by the entries of its files.
#[derive(Debug)]
struct TableFolder {
    database: String,
    table: String,
    path: PathBuf,
}

/// Where a chunk file is and how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlace {
    /// Absolute where the data folder was given so.
    pub path: PathBuf,
    /// Length in bytes.
    pub bytes: u64,
}

impl ChunkStore {
    /// Opens the store below `data`, makes its folders where missing, removes what unfinished
    /// writers left and finds the files that are there.
    ///
    /// # Errors
    /// `Io` when a folder cannot be made or read.
    pub fn open(data: &Path) -> Result<ChunkStore> {
        let root = data.join("chunks");
        let incoming = root.join(".incoming");
        fs::create_dir_all(&incoming).map_err(WorkerError::io("make the folder", &incoming))?;
        clear(&incoming)?;
        let index = scan(&root)?;
        Ok(ChunkStore { root, incoming, index: RwLock::new(index), publishing: Mutex::default() })
    }

    /// How many files there are, and how many bytes they take.
    pub fn totals(&self) -> (u64, u64) {
        let index = self.index.read();
        (index.files.len() as u64, index.bytes)
    }

    /// Where a file is; `None` when it is not here, or belongs to another table or chunk than
    /// said. Reads only the index. Names compare without regard to case.
    pub fn find(&self, database: &str, table: &str, chunk: ChunkId, file: FileId, kind: FileKind) -> Option<FilePlace> {
        let index = self.index.read();
        let stored = index.files.get(&file)?;
        let same = stored.chunk == chunk
            && stored.kind == kind
            && stored.table.table.eq_ignore_ascii_case(table)
            && stored.table.database.eq_ignore_ascii_case(database);
        same.then(|| FilePlace { path: layout::chunk_path(&stored.table.path, chunk, file, kind), bytes: stored.bytes })
    }

    /// The file of a chunk that a scan reads.
    ///
    /// # Errors
    /// `FileMissing`: it is not here.
    pub fn scan_file(&self, scan: &FragmentScan, chunk: ChunkId, file: FileId) -> Result<ScanFile> {
        let kind = if scan.overlap { FileKind::Overlap } else { FileKind::Rows };
        let missing =
            || WorkerError::FileMissing { file, chunk, database: scan.database.clone(), table: scan.table.clone() };
        let place = self.find(&scan.database, &scan.table, chunk, file, kind).ok_or_else(missing)?;
        Ok(ScanFile { path: place.path, bytes: place.bytes })
    }

    /// The ids of the files of `database`, or of all where it is empty; ascending.
    pub fn files_of(&self, database: &str) -> Vec<FileId> {
        let index = self.index.read();
        let mut files: Vec<FileId> = index
            .files
            .iter()
            .filter(|(_, stored)| database.is_empty() || stored.table.database.eq_ignore_ascii_case(database))
            .map(|(&file, _)| file)
            .collect();
        files.sort_unstable();
        files
    }

    /// A receipt for a file; `None` when it is not here, or no more. Reads the file whole unless
    /// this process has done so before.
    ///
    /// # Errors
    /// `Io` or `Corrupt` when the file cannot be read or is no Parquet file.
    pub fn receipt(&self, file: FileId) -> Result<Option<FileReceipt>> {
        let Some(stored) = self.index.read().files.get(&file).cloned() else {
            return Ok(None);
        };
        let content = self.content(file, &stored)?;
        Ok(Some(receipt(file, &stored, content)))
    }

    /// Removes every file of `transaction`, and refuses those that may still come.
    /// Gives how many there were.
    ///
    /// # Errors
    /// `Io` when a file cannot be removed; those removed before stay removed.
    pub fn drop_transaction(&self, transaction: TransactionId) -> Result<u64> {
        // From here on no file of it is published: a writer asks again after its last step.
        self.refuse(transaction);
        let doomed: Vec<(FileId, PathBuf)> = {
            let index = self.index.read();
            let files = index.files.iter().filter(|(file, _)| file.transaction() == transaction);
            files.map(|(&file, s)| (file, layout::chunk_path(&s.table.path, s.chunk, file, s.kind))).collect()
        };
        for (file, path) in &doomed {
            match fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(WorkerError::io("remove", path)(source));
                }
                _ => self.index.write().remove(*file),
            }
        }
        Ok(doomed.len() as u64)
    }

    fn refuse(&self, transaction: TransactionId) {
        let dropped = &mut self.publishing.lock().dropped;
        dropped.insert(transaction);
        if dropped.len() > DROPPED_REMEMBERED {
            dropped.pop_first();
        }
    }

    fn content(&self, file: FileId, stored: &StoredFile) -> Result<Content> {
        if let Some(content) = stored.content {
            return Ok(content);
        }
        let path = layout::chunk_path(&stored.table.path, stored.chunk, file, stored.kind);
        let content = Content { sha256: incoming::sha256_of(&path)?.0, rows: incoming::rows_in(&path)? };
        if let Some(stored) = self.index.write().files.get_mut(&file) {
            stored.content = Some(content);
        }
        Ok(content)
    }
}

fn receipt(file: FileId, stored: &StoredFile, content: Content) -> FileReceipt {
    FileReceipt {
        database: stored.table.database.clone(),
        table: stored.table.table.clone(),
        chunk: stored.chunk.0,
        file: file.0,
        kind: stored.kind.into(),
        rows: content.rows,
        bytes: stored.bytes,
        sha256: content.sha256.to_vec().into(),
    }
}

impl Index {
    fn table(&mut self, database: &str, table: &str, path: impl FnOnce() -> PathBuf) -> Arc<TableFolder> {
        let known = self.tables.iter().find(|t| t.table == table && t.database == database);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let (database, table) = (database.to_owned(), table.to_owned());
        let made = Arc::new(TableFolder { database, table, path: path() });
        self.tables.push(Arc::clone(&made));
        made
    }

    fn insert(&mut self, file: FileId, stored: StoredFile) {
        self.bytes += stored.bytes;
        if let Some(before) = self.files.insert(file, stored) {
            self.bytes -= before.bytes;
        }
    }

    fn remove(&mut self, file: FileId) {
        if let Some(before) = self.files.remove(&file) {
            self.bytes -= before.bytes;
        }
    }
}

/// Removes everything in a folder of leftovers.
fn clear(folder: &Path) -> Result<()> {
    for (path, _) in entries(folder)? {
        warn!(path = %path.display(), "removing what an unfinished writer left");
        fs::remove_file(&path).map_err(WorkerError::io("remove", &path))?;
    }
    Ok(())
}

/// Finds the files below `root`. Whatever has a name that no store gave is left alone.
fn scan(root: &Path) -> Result<Index> {
    let mut index = Index::default();
    for (database_path, database) in folders(root)? {
        for (table_path, table) in folders(&database_path)? {
            let folder = index.table(&database, &table, || table_path);
            for (chunk_path, chunk) in folders(&folder.path)? {
                match layout::parse_chunk_name(&chunk) {
                    Some(chunk) => scan_chunk(&mut index, &folder, chunk, &chunk_path)?,
                    None => warn!(path = %chunk_path.display(), "not a chunk's folder; left alone"),
                }
            }
        }
    }
    Ok(index)
}

fn scan_chunk(index: &mut Index, folder: &Arc<TableFolder>, chunk: ChunkId, path: &Path) -> Result<()> {
    for (path, name) in entries(path)? {
        let Some((file, kind)) = layout::parse_file_name(&name) else {
            warn!(path = %path.display(), "not a chunk file; left alone");
            continue;
        };
        let bytes = fs::metadata(&path).map_err(WorkerError::io("look at", &path))?.len();
        if index.files.contains_key(&file) {
            warn!(path = %path.display(), "a second file of the same id; left alone");
            continue;
        }
        index.insert(file, StoredFile { table: Arc::clone(folder), chunk, kind, bytes, content: None });
    }
    Ok(())
}

/// The folders in `parent` whose names a database, table or chunk can have.
fn folders(parent: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut folders = entries(parent)?;
    folders.retain(|(path, name)| !name.starts_with('.') && path.is_dir());
    Ok(folders)
}

/// What is in `folder`: paths and names, in no order.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let read = || -> io::Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
        }
        Ok(found)
    };
    read().map_err(WorkerError::io("read the folder", folder))
}

#[cfg(test)]
mod tests;
