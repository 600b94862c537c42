//! What can go wrong between an input file and a committed snapshot, said so that the user knows what to do next.

use std::fmt;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use skyflight_catalog::CatalogError;
use skyflight_sky::SkyError;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, IngestError>;

/// Where in an input file a row is; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPlace {
    /// The line of a text file on which the row begins.
    Line(u64),
    /// The row of a Parquet file.
    Row(u64),
}

impl fmt::Display for RowPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowPlace::Line(line) => write!(f, "line {line}"),
            RowPlace::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// Why an ingest or a generation stopped. The previous snapshot is untouched whichever it is.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A table description says something impossible or unknown.
    #[error("table description {origin}: {reason}")]
    Description {
        /// The file, or the table's name.
        origin: String,
        /// What is wrong and how to put it right.
        reason: String,
    },
    /// The request as a whole does not fit the database.
    #[error("{0}")]
    Request(String),
    /// The input as a whole cannot be read as the table.
    #[error("{}: {reason}", .file.display())]
    Input {
        /// The file or folder.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A row without a usable position, with an unreadable value or a wrong number of columns.
    #[error(
        "{}, {place}: {reason}; correct the file, or give a rejects file to go on without such rows",
        .file.display()
    )]
    BadRow {
        /// The input file.
        file: PathBuf,
        /// Where in it.
        place: RowPlace,
        /// What is wrong with the row.
        reason: String,
    },
    /// Fewer workers are alive than copies are wanted.
    #[error(
        "{replicas} copies of each chunk need {replicas} workers, but {alive} gave a sign of life in the last 30 s; start workers or ask for fewer replicas"
    )]
    TooFewWorkers {
        /// Workers alive.
        alive: usize,
        /// Copies asked for.
        replicas: usize,
    },
    /// A worker that must take a file is not alive.
    #[error(
        "chunk {chunk} lives on worker {worker}, which gave no sign of life in the last 30 s; start that worker again"
    )]
    WorkerMissing {
        /// The chunk whose other tables the worker holds.
        chunk: skyflight_sky::ChunkId,
        /// The worker.
        worker: String,
    },
    /// A worker refused, failed or answered nonsense, also when asked again.
    #[error("worker {worker} at {address} could not {what}: {reason}")]
    Worker {
        /// Its id.
        worker: String,
        /// Its address.
        address: String,
        /// What it was asked to do.
        what: String,
        /// What it answered.
        reason: String,
    },
    /// A file written does not read back as it was written.
    #[error("{} reads back differently from what was written ({reason}); check the disk", .file.display())]
    Unverified {
        /// The file.
        file: PathBuf,
        /// The difference.
        reason: String,
    },
    /// The catalog refused or failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The scheme cannot be built.
    #[error(transparent)]
    Sky(#[from] SkyError),
    /// The file system failed.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Arrow failed on rows that were already checked.
    #[error("rows could not be rearranged: {0}")]
    Arrow(#[from] ArrowError),
    /// A Parquet file could not be written or read back.
    #[error("parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// The ingest was stopped from outside.
    #[error("the ingest was stopped; the database is as it was")]
    Cancelled,
    /// A thread of the ingest ended abnormally: a bug, to be reported with the log.
    #[error("a thread of the ingest ended abnormally while it was to {0}; please report this with the log")]
    Thread(&'static str),
}

/// Adds the verb and the path to an error of the file system.
pub(crate) trait IoContext<T> {
    /// `what` is a verb: `cannot {what} {path}`.
    fn at(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| IngestError::Io { what, path: path.to_owned(), source })
    }
}
