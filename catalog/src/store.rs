//! The one way to read and change the records. SQLite implements it; PostgreSQL comes next, so
//! nothing here assumes a single process, a single connection or a file.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::commit::Commit;
use crate::error::Result;
use crate::ids::{DatabaseId, SnapshotId, TransactionId, WorkerId};
use crate::job::{Job, JobFilter, JobStep};
use crate::owner::Owner;
use crate::records::{Database, QueryRecord, Snapshot, Superseded, Worker};
use crate::user::{PasswordHash, User};

/// A transaction without a heartbeat for longer than this is abandoned (milliseconds).
pub const ABANDONED_AFTER_MS: i64 = 30_000;

/// A transaction just opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedTransaction {
    /// Its id, the upper half of the ids of its files.
    pub id: TransactionId,
    /// The snapshot it builds on.
    pub base: Option<SnapshotId>,
    /// Earlier transactions whose owner is gone. Their leftovers are to be removed from every worker,
    /// then each is to be given to [`CatalogStore::forget_transaction`]; until then every opening returns them.
    pub abandoned: Vec<TransactionId>,
}

/// The records, shared by every process that works on the same catalog. Names of databases and
/// tables are found whatever their case.
///
/// Every method may fail with [`crate::CatalogError::Database`] when the store itself fails.
#[async_trait]
pub trait CatalogStore: Send + Sync + Debug {
    /// Every database, by name.
    async fn databases(&self) -> Result<Vec<Database>>;

    /// Makes an empty database.
    ///
    /// Errors: `AlreadyExists` whatever the case; `Invalid` when the name breaks the rules
    /// (`[A-Za-z_][A-Za-z0-9_]*`, at most 64 bytes, not `information_schema` or `system`).
    async fn create_database(&self, name: &str, description: Option<&str>) -> Result<Database>;

    /// The database of that name.
    ///
    /// Errors: `NotFound` with the nearest name.
    async fn database(&self, name: &str) -> Result<Database>;

    /// Takes the database away. Snapshots of it that are in use can still be read by their id.
    ///
    /// Errors: `NotFound`; `Busy` while an ingest into it is alive.
    async fn drop_database(&self, name: &str) -> Result<()>;

    /// Begins an ingest; one at a time per database. Call [`CatalogStore::heartbeat`] every few seconds.
    ///
    /// A transaction whose owner is gone (no heartbeat for [`ABANDONED_AFTER_MS`], or its process no longer
    /// exists on the opener's host) is taken over: it can no longer commit, and is returned as abandoned.
    ///
    /// Errors: `NotFound`; `Busy` while another ingest into it is alive.
    async fn open_transaction(&self, database: DatabaseId, owner: &Owner) -> Result<OpenedTransaction>;

    /// Says that the transaction's owner is alive.
    ///
    /// Errors: `NotFound`; `TransactionClosed` when it was taken over, and the ingest should stop.
    async fn heartbeat(&self, transaction: TransactionId) -> Result<()>;

    /// Gives the transaction up: from here on it cannot commit, and its leftovers may be removed. False, with
    /// nothing changed, where it is not open, as when it was committed after all: then its files are needed.
    async fn abandon_transaction(&self, transaction: TransactionId) -> Result<bool>;

    /// Records that the leftovers of the transaction are gone. A transaction already forgotten stays so.
    ///
    /// Errors: `NotFound`; `TransactionClosed` when it is committed.
    async fn forget_transaction(&self, transaction: TransactionId) -> Result<()>;

    /// Makes the transaction's files the next snapshot, at once and durably, or changes nothing.
    ///
    /// Errors: `NotFound`; `TransactionClosed`; `Conflict` when the current snapshot is no longer the
    /// transaction's base; `Invalid` when tables, files, facts and scheme do not fit together.
    async fn commit(&self, transaction: TransactionId, commit: Commit) -> Result<SnapshotId>;

    /// The snapshot new queries run on: one small SQL query.
    ///
    /// Errors: `NotFound`.
    async fn current_snapshot(&self, database: DatabaseId) -> Result<Option<SnapshotId>>;

    /// A whole snapshot, loaded once and kept while it is in use.
    ///
    /// Errors: `NotFound`.
    async fn snapshot(&self, id: SnapshotId) -> Result<Arc<Snapshot>>;

    /// The current snapshot of every database that has one, by the database's name: one small SQL query
    /// when none has changed.
    async fn current_snapshots(&self) -> Result<Vec<Arc<Snapshot>>>;

    /// Makes a snapshot without the table current.
    ///
    /// Errors: `NotFound` with the nearest name; `Invalid` while children of it remain; `Busy` while an
    /// ingest into the database is alive.
    async fn drop_table(&self, database: DatabaseId, table: &str) -> Result<SnapshotId>;

    /// The files that snapshots took away at that moment (milliseconds of Unix time) or before it, and whose
    /// earlier snapshots no open job runs on. Those of dropped databases are among them.
    async fn superseded(&self, until_unix_ms: i64) -> Result<Superseded>;

    /// Bytes of the files of a database that snapshots took away and that are still on workers, copies not
    /// counted.
    async fn superseded_bytes(&self, database: DatabaseId) -> Result<u64>;

    /// Records that a worker has no file of the transaction any more. The files stay on record without the
    /// worker, so that whoever still reads a snapshot that names them gets an error and no empty table.
    async fn forget_replicas(&self, transaction: TransactionId, worker: &WorkerId) -> Result<()>;

    /// Every user, by name.
    async fn users(&self) -> Result<Vec<User>>;

    /// The user of that name, whatever its case.
    async fn user(&self, name: &str) -> Result<Option<User>>;

    /// Adds a user, durably.
    ///
    /// Errors: `AlreadyExists` whatever the case; `Invalid` when the name breaks the rules of
    /// [`crate::check_user_name`].
    async fn add_user(&self, name: &str, password: &PasswordHash) -> Result<()>;

    /// Gives a user another password, durably.
    ///
    /// Errors: `NotFound` with the nearest name.
    async fn set_password(&self, name: &str, password: &PasswordHash) -> Result<()>;

    /// Takes a user away, durably. The user's own database stays.
    ///
    /// Errors: `NotFound` with the nearest name.
    async fn remove_user(&self, name: &str) -> Result<()>;

    /// Records what a worker says of itself; the later call with the same id wins.
    ///
    /// Errors: `Invalid` when the id breaks the rules of [`crate::WorkerId`].
    async fn register_worker(&self, worker: &Worker) -> Result<()>;

    /// Every worker that ever registered, by id.
    async fn workers(&self) -> Result<Vec<Worker>>;

    /// Records where a query is; the later call with the same id wins. Not made durable against a power cut.
    async fn record_query(&self, query: &QueryRecord) -> Result<()>;

    /// The latest queries, newest first, at most `limit`. Of long texts and errors they have the beginning.
    async fn queries(&self, limit: u32) -> Result<Vec<QueryRecord>>;

    /// The same of one user.
    async fn queries_of(&self, user: &str, limit: u32) -> Result<Vec<QueryRecord>>;

    /// The record of one query.
    ///
    /// Errors: `NotFound`.
    async fn query(&self, id: &str) -> Result<QueryRecord>;

    /// Removes the records of queries that ended and began before `before_unix_ms`, and of those that ended
    /// all but the latest `keep`; how many there were.
    async fn prune_queries(&self, before_unix_ms: i64, keep: u32) -> Result<u64>;

    /// Closes the records that an earlier coordinator left open, as failed; how many there were.
    async fn close_left_queries(&self, at_unix_ms: i64, error: &str) -> Result<u64>;

    /// Records a new job, durably.
    ///
    /// Errors: `AlreadyExists` for an id that is taken.
    async fn submit_job(&self, job: &Job) -> Result<()>;

    /// The job of that id.
    ///
    /// Errors: `NotFound`.
    async fn job(&self, id: &str) -> Result<Job>;

    /// Jobs, newest first. Of long texts they have the beginning.
    async fn jobs(&self, filter: JobFilter<'_>) -> Result<Vec<Job>>;

    /// Takes a job one step on, durably. False, with nothing changed, where it is not in a state
    /// from which the step leads: somebody else was first.
    ///
    /// Errors: `NotFound`.
    async fn step_job(&self, id: &str, step: &JobStep) -> Result<bool>;
}
