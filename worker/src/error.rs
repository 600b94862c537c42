//! What can go wrong on a worker, and which gRPC code a caller sees for it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skyflight_catalog::{FileId, TransactionId};
use skyflight_engine::EngineError;
use skyflight_proto::error::FailureKind;
use skyflight_proto::{TicketError, wire};
use skyflight_sky::ChunkId;
use tonic::Status;

// A status travels in an HTTP/2 header, escaped to up to three times its length, and many clients
// take no more than 16 KiB of headers.
const MESSAGE_BYTES: usize = 4 << 10;

/// The result of everything in this crate.
pub type Result<T, E = WorkerError> = std::result::Result<T, E>;

/// A failure of a worker or of one request to it.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// Another process works in the data folder.
    #[error("the folder {} is in use by another worker; give each worker a folder of its own", .0.display())]
    FolderInUse(PathBuf),
    /// The port cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file or folder of the worker's own cannot be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The ticket is not believed.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The request is well signed, but what it asks for is impossible.
    #[error("{0}")]
    Invalid(String),
    /// A chunk file that the request names is not here.
    #[error("this worker has no file {file} for chunk {chunk} of {database}.{table}; another replica may have it")]
    FileMissing {
        /// The file asked for.
        file: FileId,
        /// The chunk it should belong to.
        chunk: ChunkId,
        /// Database of the scan.
        database: String,
        /// Table of the scan.
        table: String,
    },
    /// A file of that id is here already, and it is another one.
    #[error(
        "this worker already holds another file {0}; if the catalog store was made anew, remove the worker's folder `chunks`"
    )]
    FileExists(FileId),
    /// The same file is arriving on another stream, which has not ended yet.
    #[error("file {0} is arriving on another stream; wait for its end")]
    FileArriving(FileId),
    /// The sender of a file has fallen silent.
    #[error("nothing of the file came for {seconds} s; send it again")]
    PutStalled {
        /// How long was waited.
        seconds: u64,
    },
    /// The transaction was dropped while files of it were still coming.
    #[error("transaction {0} was dropped; start the ingest again")]
    TransactionDropped(TransactionId),
    /// Bytes received or stored are not what they should be.
    #[error("{0}")]
    Corrupt(String),
    /// The task names a fragment that is not in the cache.
    #[error("{}: {hash}; send the task again with the fragment in it", wire::FRAGMENT_UNKNOWN)]
    FragmentUnknown {
        /// SHA-256 of the fragment, hexadecimal.
        hash: String,
    },
    /// The fragment failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The failure of work that several requests waited for.
    #[error(transparent)]
    Shared(#[from] Arc<WorkerError>),
    /// A bug met while running a request; only that request fails.
    #[error("internal: {0}")]
    Panicked(String),
    /// More requests than the worker takes at a time.
    #[error("the worker is busy with {running} requests; try another replica, or again later")]
    Busy {
        /// How many of the kind are running.
        running: usize,
    },
    /// Whoever may has cancelled the query.
    #[error("the query was cancelled")]
    Recalled,
    /// The worker is going away.
    #[error("the worker is shutting down; try another replica")]
    ShuttingDown,
    /// The coordinator cannot be reached or refuses the registration.
    #[error("cannot register with the coordinator at {url}: {reason}")]
    Registration {
        /// The coordinator.
        url: String,
        /// What went wrong.
        reason: String,
    },
}

impl WorkerError {
    /// An [`WorkerError::Io`] from its parts, in the form `map_err` takes.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorkerError {
        let path = path.to_owned();
        move |source| WorkerError::Io { action, path, source }
    }

    /// The kind of failure, from which the gRPC code follows.
    pub fn kind(&self) -> FailureKind {
        match self {
            WorkerError::Config(_) | WorkerError::FolderInUse(_) | WorkerError::Listen { .. } => {
                FailureKind::FailedPrecondition
            }
            WorkerError::Io { source, .. } => io_kind(source),
            WorkerError::Ticket(error) => FailureKind::from(error),
            WorkerError::Invalid(_) => FailureKind::BadRequest,
            WorkerError::FileMissing { .. } => FailureKind::NotFound,
            WorkerError::FileExists(_) => FailureKind::AlreadyExists,
            WorkerError::TransactionDropped(_) | WorkerError::FragmentUnknown { .. } => FailureKind::FailedPrecondition,
            WorkerError::Corrupt(_) => FailureKind::DataLoss,
            WorkerError::PutStalled { .. } => FailureKind::DeadlineExceeded,
            WorkerError::Engine(error) => error.kind(),
            WorkerError::Panicked(_) => FailureKind::Internal,
            WorkerError::Recalled => FailureKind::Cancelled,
            WorkerError::FileArriving(_)
            | WorkerError::Busy { .. }
            | WorkerError::ShuttingDown
            | WorkerError::Registration { .. } => FailureKind::Unavailable,
            WorkerError::Shared(error) => error.kind(),
        }
    }
}

fn io_kind(error: &io::Error) -> FailureKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::ResourceExhausted,
        _ => FailureKind::Internal,
    }
}

impl From<WorkerError> for Status {
    fn from(error: WorkerError) -> Status {
        let mut message = error.to_string();
        if message.len() > MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
            message.push('…');
        }
        error.kind().status(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        for ascii in 0..4 {
            let long = "x".repeat(ascii) + &"é€😀".repeat(10_000);
            let status = Status::from(WorkerError::Invalid(long.clone()));
            let cut = status.message().strip_suffix('…').unwrap_or_default();
            assert!(long.starts_with(cut) && cut.len() > MESSAGE_BYTES - 4 && cut.len() <= MESSAGE_BYTES);
        }
        let short = Status::from(WorkerError::Invalid("é".into()));
        assert_eq!((short.code(), short.message()), (tonic::Code::InvalidArgument, "é"));
    }
}
