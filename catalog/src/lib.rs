//! What is stored where, and every record that must survive a restart.
//!
//! The records (databases, tables, chunk files, replicas, snapshots, workers, queries, jobs, users) are plain
//! values; [`CatalogStore`] is the one way to read and change them, and [`SqliteStore`] keeps them
//! in one SQLite file. A [`Snapshot`] is immutable: a query that holds one sees the same files
//! for as long as it runs, whatever is ingested or dropped meanwhile.

mod check;
mod commit;
mod error;
mod ids;
mod job;
mod names;
mod owner;
mod records;
mod sqlite;
mod store;
mod user;

pub use commit::{Commit, CommitMode, NewFile, NewTable, TableCommit};
pub use error::{CatalogError, Result};
pub use ids::{DatabaseId, FileId, SnapshotId, TableId, TransactionId, WorkerId};
pub use job::{Job, JobFailure, JobFilter, JobResult, JobState, JobStep};
pub use names::{MAX_NAME_BYTES, check_name};
pub use owner::Owner;
pub use records::{
    ChunkFile, Column, ColumnStatistics, Database, Estimated, FileKind, PairFacts, QueryRecord, QueryState, Snapshot,
    Superseded, Table, TableFacts, TableKind, TableSnapshot, UnknownWord, Worker, WorkerCapacity, index_folder,
    index_path,
};
pub use sqlite::SqliteStore;
pub use store::{ABANDONED_AFTER_MS, CatalogStore, OpenedTransaction};
pub use user::{MAX_USER_BYTES, PasswordHash, User, check_user_name};
