//! The store on one SQLite file: the default, for one machine.
//!
//! The statements are kept to what PostgreSQL understands too; what is SQLite's own is in this file
//! (how to connect and how a write begins) and in `migrate`.

mod activity;
mod committing;
mod databases;
mod jobs;
mod migrate;
mod snapshots;
mod statistics;
mod superseded;
mod transactions;
mod users;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::commit::Commit;
use crate::error::{CatalogError, Result};
use crate::ids::{DatabaseId, SnapshotId, TransactionId, WorkerId};
use crate::job::{Job, JobFilter, JobStep};
use crate::owner::Owner;
use crate::records::{Database, QueryRecord, Snapshot, Superseded, Worker};
use crate::store::{CatalogStore, OpenedTransaction};
use crate::user::{PasswordHash, User};
use snapshots::SnapshotCache;

// How long a statement waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const SHARED_CONNECTIONS: u32 = 4;

// Rows under way between SQLite's thread and the reader's: enough that a snapshot's thousands do not cost a
// switch of threads every few.
const ROWS_UNDER_WAY: usize = 1024;

/// The records in one SQLite file, which several processes may have open at once.
pub struct SqliteStore {
    path: PathBuf,
    // Reads, and the writes that may be lost with the power: heartbeats, workers, query records.
    shared: SqlitePool,
    // One connection: the writes of this process stand in line here rather than at the file's lock.
    // Each is on the disk when it returns.
    durable: SqlitePool,
    snapshots: SnapshotCache,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the catalog at `path`; makes the file and its folder where they are missing, and brings an
    /// older catalog to this program's schema.
    ///
    /// Errors: `Open` when the file cannot be made or read; `NewerSchema` when a later version wrote it.
    pub async fn open(path: &Path) -> Result<SqliteStore> {
        let failed = |reason: String| CatalogError::Open { path: path.to_owned(), reason };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY_TIMEOUT)
            .row_buffer_size(ROWS_UNDER_WAY);
        let durable = connect_patiently(options.clone().synchronous(SqliteSynchronous::Full))
            .await
            .map_err(|error| failed(error.to_string()))?;
        // In WAL mode NORMAL cannot damage the file; it only leaves the last writes to the next sync.
        let shared = pool(SHARED_CONNECTIONS).connect_lazy_with(options.synchronous(SqliteSynchronous::Normal));
        SqliteStore::migrated(path.to_owned(), shared, durable).await
    }

    /// An empty catalog that is gone with this value; for tests.
    pub async fn in_memory() -> Result<SqliteStore> {
        // Each connection to `:memory:` would be a catalog of its own, so there is one for everything.
        let only = pool(1).connect_with(SqliteConnectOptions::new().in_memory(true)).await?;
        SqliteStore::migrated(PathBuf::from(":memory:"), only.clone(), only).await
    }

    async fn migrated(path: PathBuf, shared: SqlitePool, durable: SqlitePool) -> Result<SqliteStore> {
        let store = SqliteStore { path, shared, durable, snapshots: SnapshotCache::new() };
        let mut write = store.begin_write().await?;
        migrate::migrate(&mut write).await?;
        write.commit().await?;
        Ok(store)
    }

    // IMMEDIATE takes the file's write lock at once: what the transaction reads cannot change under it, and
    // it cannot fail in the middle because another process wrote first. Dropped, it changes nothing.
    async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.durable.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        // A connection to a file does not go stale, and one to memory must not be closed.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

// SQLite's busy timeout does not cover the moment in which a new file is put into WAL mode.
async fn connect_patiently(options: SqliteConnectOptions) -> Result<SqlitePool> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match pool(1).connect_with(options.clone()).await {
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

fn is_locked(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY is 5 and SQLITE_LOCKED 6; extended codes keep them in the low byte.
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

#[async_trait]
impl CatalogStore for SqliteStore {
    async fn databases(&self) -> Result<Vec<Database>> {
        databases::all(&self.shared).await
    }

    async fn create_database(&self, name: &str, description: Option<&str>) -> Result<Database> {
        let mut write = self.begin_write().await?;
        let database = databases::create(&mut write, name, description).await?;
        write.commit().await?;
        Ok(database)
    }

    async fn database(&self, name: &str) -> Result<Database> {
        let mut connection = self.shared.acquire().await?;
        databases::by_name(&mut connection, name).await
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        let mut write = self.begin_write().await?;
        let database = databases::by_name(&mut write, name).await?;
        transactions::refuse_if_busy(&mut write, &database).await?;
        databases::mark_dropped(&mut write, database.id).await?;
        Ok(write.commit().await?)
    }

    async fn open_transaction(&self, database: DatabaseId, owner: &Owner) -> Result<OpenedTransaction> {
        let mut write = self.begin_write().await?;
        let database = databases::by_id(&mut write, database).await?;
        let opened = transactions::open(&mut write, &database, owner).await?;
        write.commit().await?;
        Ok(opened)
    }

    async fn heartbeat(&self, transaction: TransactionId) -> Result<()> {
        let mut connection = self.shared.acquire().await?;
        transactions::heartbeat(&mut connection, transaction).await
    }

    async fn forget_transaction(&self, transaction: TransactionId) -> Result<()> {
        let mut write = self.begin_write().await?;
        transactions::forget(&mut write, transaction).await?;
        Ok(write.commit().await?)
    }

    async fn abandon_transaction(&self, transaction: TransactionId) -> Result<bool> {
        let mut write = self.begin_write().await?;
        let abandoned = transactions::abandon(&mut write, transaction).await?;
        write.commit().await?;
        Ok(abandoned)
    }

    async fn commit(&self, transaction: TransactionId, commit: Commit) -> Result<SnapshotId> {
        let mut write = self.begin_write().await?;
        let snapshot = committing::commit(&mut write, transaction, &commit).await?;
        write.commit().await?;
        tracing::info!(%transaction, %snapshot, tables = commit.tables.len(), "snapshot committed");
        Ok(snapshot)
    }

    async fn current_snapshot(&self, database: DatabaseId) -> Result<Option<SnapshotId>> {
        databases::current_snapshot(&self.shared, database).await
    }

    async fn snapshot(&self, id: SnapshotId) -> Result<Arc<Snapshot>> {
        self.snapshots.get(&self.shared, id).await
    }

    async fn current_snapshots(&self) -> Result<Vec<Arc<Snapshot>>> {
        let ids = databases::current_snapshots(&self.shared).await?;
        let mut current = Vec::with_capacity(ids.len());
        for id in ids {
            current.push(self.snapshots.get(&self.shared, id).await?);
        }
        Ok(current)
    }

    async fn drop_table(&self, database: DatabaseId, table: &str) -> Result<SnapshotId> {
        let mut write = self.begin_write().await?;
        let database = databases::by_id(&mut write, database).await?;
        transactions::refuse_if_busy(&mut write, &database).await?;
        let snapshot = committing::drop_table(&mut write, &database, table).await?;
        write.commit().await?;
        Ok(snapshot)
    }

    async fn superseded(&self, until_unix_ms: i64) -> Result<Superseded> {
        superseded::superseded(&self.shared, until_unix_ms).await
    }

    async fn superseded_bytes(&self, database: DatabaseId) -> Result<u64> {
        superseded::bytes(&self.shared, database).await
    }

    async fn forget_replicas(&self, transaction: TransactionId, worker: &WorkerId) -> Result<()> {
        let mut write = self.begin_write().await?;
        superseded::forget_replicas(&mut write, transaction, worker).await?;
        Ok(write.commit().await?)
    }

    async fn users(&self) -> Result<Vec<User>> {
        users::all(&self.shared).await
    }

    async fn user(&self, name: &str) -> Result<Option<User>> {
        users::find(&self.shared, name).await
    }

    async fn add_user(&self, name: &str, password: &PasswordHash) -> Result<()> {
        let mut write = self.begin_write().await?;
        users::add(&mut write, name, password).await?;
        Ok(write.commit().await?)
    }

    async fn set_password(&self, name: &str, password: &PasswordHash) -> Result<()> {
        let mut write = self.begin_write().await?;
        users::set_password(&mut write, name, password).await?;
        Ok(write.commit().await?)
    }

    async fn remove_user(&self, name: &str) -> Result<()> {
        let mut write = self.begin_write().await?;
        users::remove(&mut write, name).await?;
        Ok(write.commit().await?)
    }

    async fn register_worker(&self, worker: &Worker) -> Result<()> {
        activity::register_worker(&self.shared, worker).await
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        activity::workers(&self.shared).await
    }

    async fn record_query(&self, query: &QueryRecord) -> Result<()> {
        activity::record_query(&self.shared, query).await
    }

    async fn queries(&self, limit: u32) -> Result<Vec<QueryRecord>> {
        activity::queries(&self.shared, None, limit).await
    }

    async fn queries_of(&self, user: &str, limit: u32) -> Result<Vec<QueryRecord>> {
        activity::queries(&self.shared, Some(user), limit).await
    }

    async fn query(&self, id: &str) -> Result<QueryRecord> {
        activity::query(&self.shared, id).await
    }

    async fn prune_queries(&self, before_unix_ms: i64, keep: u32) -> Result<u64> {
        activity::prune_queries(&self.shared, before_unix_ms, keep).await
    }

    async fn close_left_queries(&self, at_unix_ms: i64, error: &str) -> Result<u64> {
        activity::close_left_queries(&self.shared, at_unix_ms, error).await
    }

    async fn submit_job(&self, job: &Job) -> Result<()> {
        let mut write = self.begin_write().await?;
        jobs::submit(&mut write, job).await?;
        Ok(write.commit().await?)
    }

    async fn job(&self, id: &str) -> Result<Job> {
        jobs::by_id(&self.shared, id).await
    }

    async fn jobs(&self, filter: JobFilter<'_>) -> Result<Vec<Job>> {
        jobs::list(&self.shared, filter).await
    }

    async fn step_job(&self, id: &str, step: &JobStep) -> Result<bool> {
        let mut write = self.begin_write().await?;
        let taken = jobs::step(&mut write, id, step).await?;
        write.commit().await?;
        Ok(taken)
    }
}
