//! What comes and goes: workers and queries.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use super::value::{LISTED_CHARS, corrupt, count_from_sql, count_to_sql, word_from_sql};
use crate::error::{CatalogError, Result};
use crate::ids::WorkerId;
use crate::names;
use crate::records::{Estimated, QueryRecord, Worker, WorkerCapacity};

pub(super) async fn register_worker(pool: &SqlitePool, worker: &Worker) -> Result<()> {
    names::check_worker_id(&worker.id.0)?;
    sqlx::query(
        "INSERT INTO workers (id, address, last_seen_unix_ms, started_unix_ms, cores, file_count, byte_count) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (id) DO UPDATE SET address = excluded.address, last_seen_unix_ms = excluded.last_seen_unix_ms, \
           started_unix_ms = excluded.started_unix_ms, cores = excluded.cores, file_count = excluded.file_count, \
           byte_count = excluded.byte_count",
    )
    .bind(&worker.id.0)
    .bind(&worker.address)
    .bind(worker.last_seen_unix_ms)
    .bind(worker.started_unix_ms)
    .bind(i64::from(worker.capacity.cores))
    .bind(count_to_sql("files", worker.capacity.files)?)
    .bind(count_to_sql("bytes", worker.capacity.bytes)?)
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn workers(pool: &SqlitePool) -> Result<Vec<Worker>> {
    type Columns = (String, String, i64, i64, i64, i64, i64);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT id, address, last_seen_unix_ms, started_unix_ms, cores, file_count, byte_count FROM workers ORDER BY id",
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(id, address, last_seen_unix_ms, started_unix_ms, cores, files, bytes)| {
            let what = format!("worker {id}");
            let capacity = WorkerCapacity {
                cores: u32::try_from(cores).map_err(|_| corrupt(&what, format!("{cores} cores")))?,
                files: count_from_sql(&what, files)?,
                bytes: count_from_sql(&what, bytes)?,
            };
            Ok(Worker { id: WorkerId(id), address, last_seen_unix_ms, started_unix_ms, capacity })
        })
        .collect()
}

pub(super) async fn record_query(pool: &SqlitePool, query: &QueryRecord) -> Result<()> {
    let estimate = &query.estimate;
    sqlx::query(
        "INSERT INTO queries (id, user_name, sql_text, state, error, started_unix_ms, finished_unix_ms, \
           row_count, byte_count, chunk_count, planned_chunk_count, estimated_rows, estimated_bytes, estimated_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, error = excluded.error, \
           finished_unix_ms = excluded.finished_unix_ms, row_count = excluded.row_count, \
           byte_count = excluded.byte_count, chunk_count = excluded.chunk_count, \
           planned_chunk_count = excluded.planned_chunk_count, estimated_rows = excluded.estimated_rows, \
           estimated_bytes = excluded.estimated_bytes, estimated_ms = excluded.estimated_ms",
    )
    .bind(&query.id)
    .bind(&query.user)
    .bind(&query.sql)
    .bind(query.state.as_str())
    .bind(&query.error)
    .bind(query.started_ms)
    .bind(query.finished_ms)
    .bind(count_to_sql("rows", query.rows)?)
    .bind(count_to_sql("bytes", query.bytes)?)
    .bind(count_to_sql("chunks", query.chunks)?)
    .bind(count_to_sql("chunks", estimate.chunks)?)
    .bind(count_to_sql("rows", estimate.rows)?)
    .bind(count_to_sql("bytes", estimate.bytes)?)
    .bind(count_to_sql("milliseconds", estimate.millis)?)
    .execute(pool)
    .await?;
    Ok(())
}

/// The latest queries, of one user or of all.
pub(super) async fn queries(pool: &SqlitePool, user: Option<&str>, limit: u32) -> Result<Vec<QueryRecord>> {
    let rows = sqlx::query(
        "SELECT id, user_name, substr(sql_text, 1, $3) AS sql_text, state, substr(error, 1, $3) AS error, \
           started_unix_ms, finished_unix_ms, row_count, byte_count, chunk_count, planned_chunk_count, \
           estimated_rows, estimated_bytes, estimated_ms \
         FROM queries WHERE $1 IS NULL OR user_name = $1 ORDER BY started_unix_ms DESC, id DESC LIMIT $2",
    )
    .bind(user)
    .bind(i64::from(limit))
    .bind(LISTED_CHARS as i64)
    .fetch_all(pool)
    .await?;
    rows.iter().map(query_from_row).collect()
}

pub(super) async fn query(pool: &SqlitePool, id: &str) -> Result<QueryRecord> {
    let row = sqlx::query("SELECT * FROM queries WHERE id = $1").bind(id).fetch_optional(pool).await?;
    let row = row.ok_or_else(|| CatalogError::NotFound { what: "query", name: id.to_owned(), suggestion: None })?;
    query_from_row(&row)
}

pub(super) async fn prune_queries(pool: &SqlitePool, before_unix_ms: i64, keep: u32) -> Result<u64> {
    // Those that began together with the last one that is kept are kept as well.
    let pruned = sqlx::query(
        "DELETE FROM queries WHERE state <> 'running' AND (started_unix_ms < $1 OR started_unix_ms < \
           (SELECT started_unix_ms FROM queries ORDER BY started_unix_ms DESC LIMIT 1 OFFSET $2 - 1))",
    )
    .bind(before_unix_ms)
    .bind(i64::from(keep.max(1)))
    .execute(pool)
    .await?;
    Ok(pruned.rows_affected())
}

/// Closes every open record as failed.
pub(super) async fn close_left_queries(pool: &SqlitePool, at_unix_ms: i64, error: &str) -> Result<u64> {
    let closed =
        sqlx::query("UPDATE queries SET state = 'failed', error = $1, finished_unix_ms = $2 WHERE state = 'running'")
            .bind(error)
            .bind(at_unix_ms)
            .execute(pool)
            .await?;
    Ok(closed.rows_affected())
}

fn query_from_row(row: &SqliteRow) -> Result<QueryRecord> {
    let id: String = row.try_get("id")?;
    let what = format!("query {id}");
    let count = |column: &str| count_from_sql(&what, row.try_get(column)?);
    Ok(QueryRecord {
        user: row.try_get("user_name")?,
        sql: row.try_get("sql_text")?,
        state: word_from_sql(&what, row.try_get("state")?)?,
        error: row.try_get("error")?,
        started_ms: row.try_get("started_unix_ms")?,
        finished_ms: row.try_get("finished_unix_ms")?,
        rows: count("row_count")?,
        bytes: count("byte_count")?,
        chunks: count("chunk_count")?,
        estimate: Estimated {
            chunks: count("planned_chunk_count")?,
            rows: count("estimated_rows")?,
            bytes: count("estimated_bytes")?,
            millis: count("estimated_ms")?,
        },
        id,
    })
}
