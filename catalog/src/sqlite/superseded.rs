//! Which files nobody can read any more: those that a snapshot took away so long ago that no ticket names
//! an earlier one, and no open job either.

use std::collections::BTreeMap;

use sqlx::{SqliteConnection, SqlitePool};

use super::jobs;
use super::value::count_from_sql;
use crate::error::Result;
use crate::ids::{DatabaseId, FileId, SnapshotId, TransactionId, WorkerId};
use crate::job::{JobFilter, JobState};
use crate::records::{FileKind, Superseded};

pub(super) async fn superseded(pool: &SqlitePool, until_unix_ms: i64) -> Result<Superseded> {
    // Before the files: a job that comes later is on a later snapshot.
    let held = held(pool).await?;
    let mut connection = pool.acquire().await?;
    let is_held = |database: i64, since: i64, until: i64| {
        held.iter().any(|(of, snapshot)| of.0 == database && (since..until).contains(&snapshot.0))
    };
    let mut transactions = BTreeMap::<TransactionId, Vec<WorkerId>>::new();
    for (transaction, database, since, until) in ended_transactions(&mut connection, until_unix_ms).await? {
        if !is_held(database, since, until) {
            transactions.insert(TransactionId(transaction), holders(&mut connection, transaction).await?);
        }
    }
    let index_files = ended_index_files(&mut connection, until_unix_ms).await?;
    let index_files = index_files.into_iter().filter(|(_, database, since, until)| !is_held(*database, *since, *until));
    Ok(Superseded {
        index_files: index_files.map(|(file, ..)| FileId(file)).collect(),
        transactions: transactions.into_iter().collect(),
    })
}

pub(super) async fn bytes(pool: &SqlitePool, database: DatabaseId) -> Result<u64> {
    let sum: Option<i64> = sqlx::query_scalar(
        "SELECT CAST(SUM(f.byte_count) AS BIGINT) FROM tables t JOIN files f ON f.table_id = t.id \
         WHERE t.database_id = $1 AND f.until_snapshot IS NOT NULL \
           AND EXISTS (SELECT 1 FROM replicas r WHERE r.file_id = f.id)",
    )
    .bind(database.0)
    .fetch_one(pool)
    .await?;
    count_from_sql("the superseded files of a database", sum.unwrap_or(0))
}

pub(super) async fn forget_replicas(
    write: &mut SqliteConnection,
    transaction: TransactionId,
    worker: &WorkerId,
) -> Result<()> {
    sqlx::query("DELETE FROM replicas WHERE worker_id = $3 AND file_id >= ($1 << 32) AND file_id < ($2 << 32)")
        .bind(transaction.0)
        .bind(transaction.0 + 1)
        .bind(&worker.0)
        .execute(write)
        .await?;
    Ok(())
}

/// The snapshots that open jobs run on.
async fn held(pool: &SqlitePool) -> Result<Vec<(DatabaseId, SnapshotId)>> {
    let open = JobFilter { states: &[JobState::Queued, JobState::Running], limit: u32::MAX, ..JobFilter::default() };
    Ok(jobs::list(pool, open).await?.into_iter().flat_map(|job| job.snapshots).collect())
}

/// Transaction, database, and from which snapshot on to which.
type Ended = (i64, i64, i64, i64);

/// Transactions all of whose files had ended by then, and some of whose are still on workers. A transaction's
/// files leave a worker together.
async fn ended_transactions(connection: &mut SqliteConnection, until_unix_ms: i64) -> Result<Vec<Ended>> {
    let found = sqlx::query_as(
        "WITH ended AS ( \
           SELECT e.id >> 32 AS transaction_id FROM files e \
           WHERE e.until_snapshot IS NOT NULL AND EXISTS (SELECT 1 FROM replicas r WHERE r.file_id = e.id) \
           UNION SELECT e.id >> 32 FROM files e \
           WHERE e.table_id IN (SELECT t.id FROM tables t JOIN databases d ON d.id = t.database_id WHERE d.dropped_unix_ms <= $1) \
             AND EXISTS (SELECT 1 FROM replicas r WHERE r.file_id = e.id)) \
         SELECT e.transaction_id, t.database_id, MIN(f.since_snapshot), \
                MAX(COALESCE(f.until_snapshot, 9223372036854775807)) \
         FROM ended e \
           JOIN files f ON f.id >= (e.transaction_id << 32) AND f.id < ((e.transaction_id + 1) << 32) \
           JOIN tables t ON t.id = f.table_id JOIN databases d ON d.id = t.database_id \
           LEFT JOIN snapshots s ON s.id = f.until_snapshot \
         GROUP BY e.transaction_id, t.database_id \
         HAVING COUNT(*) = COUNT(CASE WHEN s.created_unix_ms <= $1 OR d.dropped_unix_ms <= $1 THEN 1 END)",
    )
    .bind(until_unix_ms)
    .fetch_all(connection)
    .await?;
    Ok(found)
}

/// Index files of directors that had ended by then, whether or not they are still there.
async fn ended_index_files(connection: &mut SqliteConnection, until_unix_ms: i64) -> Result<Vec<Ended>> {
    let found = sqlx::query_as(
        "SELECT f.id, t.database_id, f.since_snapshot, COALESCE(f.until_snapshot, 9223372036854775807) \
         FROM files f JOIN tables t ON t.id = f.table_id JOIN databases d ON d.id = t.database_id \
           LEFT JOIN snapshots s ON s.id = f.until_snapshot \
         WHERE f.kind = $2 AND (s.created_unix_ms <= $1 OR d.dropped_unix_ms <= $1) \
           AND (f.until_snapshot IS NOT NULL OR f.table_id IN ( \
             SELECT t.id FROM tables t JOIN databases d ON d.id = t.database_id WHERE d.dropped_unix_ms <= $1))",
    )
    .bind(until_unix_ms)
    .bind(FileKind::DirectorIndex.as_str())
    .fetch_all(connection)
    .await?;
    Ok(found)
}

async fn holders(connection: &mut SqliteConnection, transaction: i64) -> Result<Vec<WorkerId>> {
    let found: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT worker_id FROM replicas WHERE file_id >= ($1 << 32) AND file_id < ($2 << 32) ORDER BY worker_id",
    )
    .bind(transaction)
    .bind(transaction + 1)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(WorkerId).collect())
}
