//! What comes and goes: workers and queries.

use sqlx::SqlitePool;

use super::value::{corrupt, count_from_sql, count_to_sql, word_from_sql};
use crate::error::Result;
use crate::ids::WorkerId;
use crate::names;
use crate::records::{QueryRecord, Worker, WorkerCapacity};

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
    type Row = (String, String, i64, i64, i64, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(
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
    sqlx::query(
        "INSERT INTO queries (id, user_name, sql_text, state, error, started_unix_ms, finished_unix_ms, \
           row_count, byte_count, chunk_count) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, error = excluded.error, \
           finished_unix_ms = excluded.finished_unix_ms, row_count = excluded.row_count, \
           byte_count = excluded.byte_count, chunk_count = excluded.chunk_count",
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
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn queries(pool: &SqlitePool, limit: u32) -> Result<Vec<QueryRecord>> {
    type Row = (String, String, String, String, Option<String>, i64, Option<i64>, i64, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, user_name, sql_text, state, error, started_unix_ms, finished_unix_ms, \
                row_count, byte_count, chunk_count \
         FROM queries ORDER BY started_unix_ms DESC, id DESC LIMIT $1",
    )
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(id, user, sql, state, error, started_ms, finished_ms, rows, bytes, chunks)| {
            let what = format!("query {id}");
            Ok(QueryRecord {
                state: word_from_sql(&what, &state)?,
                rows: count_from_sql(&what, rows)?,
                bytes: count_from_sql(&what, bytes)?,
                chunks: count_from_sql(&what, chunks)?,
                id,
                user,
                sql,
                error,
                started_ms,
                finished_ms,
            })
        })
        .collect()
}
