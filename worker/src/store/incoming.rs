//! Taking a file in: written under a temporary name, made durable, read back and compared with
//! what was promised, and only then given its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::parquet::file::metadata::ParquetMetaDataReader;
use sha2::{Digest, Sha256};
use skyflight_proto::{FileReceipt, PutFileTicket};
use uuid::Uuid;

use super::{ChunkStore, Content, FileKey, StoredFile, receipt};
use crate::{Result, WorkerError};

const READ_BYTES: usize = 1 << 20;

/// A file on its way in. Dropping it before [`IncomingFile::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct IncomingFile {
    store: Arc<ChunkStore>,
    key: FileKey,
    promised: Promise,
    /// `None` when the store has the very file already and the bytes only need to pass by.
    file: Option<TemporaryFile>,
    received: u64,
}

/// What the ticket says the file will be.
#[derive(Debug, Clone, Copy)]
struct Promise {
    bytes: u64,
    content: Content,
}

/// A file under a temporary name, removed when dropped.
#[derive(Debug)]
struct TemporaryFile {
    file: File,
    path: PathBuf,
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // Gone already when it was given its name. A leftover is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl IncomingFile {
    /// Begins to take in the file that `ticket` allows. Blocks.
    ///
    /// # Errors
    /// `Invalid` for names and digests that are none, `FileExists` when another file of this id
    /// is here, `Io` when the temporary file cannot be made.
    pub fn begin(store: Arc<ChunkStore>, ticket: &PutFileTicket) -> Result<IncomingFile> {
        let key = FileKey::checked(&ticket.database, &ticket.table, ticket.chunk, ticket.file, ticket.kind)?;
        let sha256: [u8; 32] =
            ticket.sha256.as_ref().try_into().map_err(|_| WorkerError::Invalid("a SHA-256 has 32 bytes".into()))?;
        let promised = Promise { bytes: ticket.bytes, content: Content { rows: ticket.rows, sha256 } };
        let file = match store.held(&key, promised)? {
            Some(_) => None,
            None => Some(TemporaryFile::create(&store.incoming)?),
        };
        Ok(IncomingFile { store, key, promised, file, received: 0 })
    }

    /// Adds the next bytes. Blocks.
    ///
    /// # Errors
    /// `Corrupt` when they are more than promised, `Io` when they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.received += bytes.len() as u64;
        if self.received > self.promised.bytes {
            return Err(self.mismatch("bytes, or more", self.received, self.promised.bytes));
        }
        match &mut self.file {
            Some(file) => file.file.write_all(bytes).map_err(WorkerError::io("write", &file.path)),
            None => Ok(()),
        }
    }

    /// Ends the file: durable, verified and in its place when this returns. Blocks.
    ///
    /// # Errors
    /// `Corrupt` or `Invalid` when it is not what was promised; `TransactionDropped`;
    /// `FileExists`; `Io`. After an error nothing of the file remains.
    pub fn finish(mut self) -> Result<FileReceipt> {
        if self.received != self.promised.bytes {
            return Err(self.mismatch("bytes", self.received, self.promised.bytes));
        }
        if let Some(file) = self.file.take() {
            // A failed fsync may have lost pages that a second one would not write again, so it
            // is never retried: the file is discarded.
            file.file.sync_all().map_err(WorkerError::io("make durable", &file.path))?;
            self.verify(&file.path)?;
            self.store.publish(&self.key, self.promised, file)?;
        }
        let stored = self.store.held(&self.key, self.promised)?;
        stored.ok_or(WorkerError::TransactionDropped(self.key.file.transaction()))
    }

    fn verify(&self, path: &Path) -> Result<()> {
        let promised = self.promised;
        let (sha256, bytes) = sha256_of(path)?;
        if bytes != promised.bytes {
            return Err(self.mismatch("bytes", bytes, promised.bytes));
        }
        if sha256 != promised.content.sha256 {
            let (found, promised) = (hex::encode(sha256), hex::encode(promised.content.sha256));
            return Err(self.mismatch("as its SHA-256", found, promised));
        }
        // The bytes are those that were signed. If they are no Parquet file, or of other rows,
        // whoever signed is wrong, and sending them again would not help.
        let file = self.key.file;
        let rows = match rows_in(path) {
            Err(WorkerError::Corrupt(reason)) => return Err(WorkerError::Invalid(format!("file {file}: {reason}"))),
            rows => rows?,
        };
        if rows != promised.content.rows {
            let promised = promised.content.rows;
            return Err(WorkerError::Invalid(format!("file {file} has {rows} rows, its ticket says {promised}")));
        }
        Ok(())
    }

    fn mismatch(&self, of: &str, found: impl std::fmt::Display, promised: impl std::fmt::Display) -> WorkerError {
        let file = self.key.file;
        WorkerError::Corrupt(format!(
            "file {file} arrived with {found} {of}, its ticket says {promised}; send it again"
        ))
    }
}

impl TemporaryFile {
    fn create(folder: &Path) -> Result<TemporaryFile> {
        let path = folder.join(format!("{}.part", Uuid::new_v4()));
        let file =
            OpenOptions::new().write(true).create_new(true).open(&path).map_err(WorkerError::io("make", &path))?;
        Ok(TemporaryFile { file, path })
    }
}

impl ChunkStore {
    /// The receipt of `key` if the store holds exactly the promised file, `None` if it holds no
    /// file of that id.
    fn held(&self, key: &FileKey, promised: Promise) -> Result<Option<FileReceipt>> {
        let Some(stored) = self.index.read().files.get(&key.file).cloned() else {
            return Ok(None);
        };
        let same_place = stored.chunk == key.chunk
            && stored.kind == key.kind
            && stored.table.table == key.table
            && stored.table.database == key.database;
        if !same_place || stored.bytes != promised.bytes {
            return Err(WorkerError::FileExists(key.file));
        }
        let content = self.content(key.file, &stored)?;
        if content != promised.content {
            return Err(WorkerError::FileExists(key.file));
        }
        Ok(Some(receipt(key.file, &stored, content)))
    }

    /// Gives a verified file its name and enters it in the index, unless its transaction was
    /// dropped meanwhile.
    fn publish(&self, key: &FileKey, promised: Promise, file: TemporaryFile) -> Result<()> {
        if !self.publishing.lock().files.insert(key.file) {
            return Err(WorkerError::FileArriving(key.file));
        }
        let published = self.publish_alone(key, promised, file);
        self.publishing.lock().files.remove(&key.file);
        published
    }

    fn publish_alone(&self, key: &FileKey, promised: Promise, file: TemporaryFile) -> Result<()> {
        // The same file may have come by another stream since this one began.
        if self.held(key, promised)?.is_some() {
            return Ok(());
        }
        let path = key.path(&self.root);
        let folder = make_folders(&self.root, &path)?;
        fs::rename(&file.path, &path).map_err(WorkerError::io("put in place", &path))?;
        if let Err(source) = sync_folder(&folder) {
            // Whether the name is durable is unknown, so the file is not to be there.
            let _ = fs::remove_file(&path);
            return Err(WorkerError::io("make durable", &folder)(source));
        }
        // The lock is held until the file is in the index: a drop either finds it there or has
        // been seen here.
        let publishing = self.publishing.lock();
        let transaction = key.file.transaction();
        if publishing.dropped.contains(&transaction) {
            fs::remove_file(&path).map_err(WorkerError::io("remove", &path))?;
            return Err(WorkerError::TransactionDropped(transaction));
        }
        let mut index = self.index.write();
        let table = index.table(&key.database, &key.table, || self.root.join(&key.database).join(&key.table));
        let stored = StoredFile {
            table,
            chunk: key.chunk,
            kind: key.kind,
            bytes: promised.bytes,
            content: Some(promised.content),
        };
        index.insert(key.file, stored);
        Ok(())
    }
}

/// Makes the folders between `root` and the file `path`, each durable in its parent; gives the
/// last.
fn make_folders(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut folder = root.to_owned();
    let below = path.parent().and_then(|p| p.strip_prefix(root).ok()).unwrap_or(Path::new(""));
    for part in below {
        let parent = folder.clone();
        folder.push(part);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made.map_err(WorkerError::io("make the folder", &folder))?,
        }
        if let Err(source) = sync_folder(&parent) {
            let _ = fs::remove_dir(&folder);
            return Err(WorkerError::io("make durable", &parent)(source));
        }
    }
    Ok(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads a file from end to end: its digest and its length in bytes.
pub(super) fn sha256_of(path: &Path) -> Result<([u8; 32], u64)> {
    let mut file = File::open(path).map_err(WorkerError::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer).map_err(WorkerError::io("read", path))?;
        if n == 0 {
            return Ok((hasher.finalize().into(), bytes));
        }
        hasher.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// How many rows a file has, by its Parquet footer.
pub(super) fn rows_in(path: &Path) -> Result<u64> {
    let file = File::open(path).map_err(WorkerError::io("read", path))?;
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&file)
        .map_err(|e| WorkerError::Corrupt(format!("not a Parquet file: {e}")))?;
    u64::try_from(metadata.file_metadata().num_rows())
        .map_err(|_| WorkerError::Corrupt("a Parquet file with a negative number of rows".into()))
}
