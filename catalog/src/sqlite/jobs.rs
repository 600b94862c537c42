//! Jobs as rows.

use futures::TryStreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, SqlitePool};

use super::value::{LISTED_CHARS, corrupt, count_from_sql, count_to_sql, word_from_sql};
use crate::error::{CatalogError, Result};
use crate::job::{Job, JobFailure, JobFilter, JobResult, JobState, JobStep};
use crate::records::Estimated;

pub(super) async fn submit(write: &mut SqliteConnection, job: &Job) -> Result<()> {
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM jobs WHERE id = $1").bind(&job.id).fetch_optional(&mut *write).await?;
    if taken.is_some() {
        return Err(CatalogError::AlreadyExists { what: "job", name: job.id.clone() });
    }
    sqlx::query(
        "INSERT INTO jobs (id, user_name, sql_text, default_database, shuffle, snapshots, result_schema, warnings, \
           estimated_chunks, estimated_rows, estimated_bytes, estimated_ms, state, submitted_unix_ms, starts, chunk_count, \
           bound_values, traceparent, signed_integers) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(&job.id)
    .bind(&job.user)
    .bind(&job.sql)
    .bind(&job.default_database)
    .bind(&job.shuffle)
    .bind(json(&job.snapshots)?)
    .bind(&job.schema)
    .bind(json(&job.warnings)?)
    .bind(count_to_sql("chunks", job.estimate.chunks)?)
    .bind(count_to_sql("rows", job.estimate.rows)?)
    .bind(count_to_sql("bytes", job.estimate.bytes)?)
    .bind(count_to_sql("milliseconds", job.estimate.millis)?)
    .bind(job.state.as_str())
    .bind(job.submitted_unix_ms)
    .bind(count_to_sql("starts", job.starts)?)
    .bind(count_to_sql("chunks", job.chunks)?)
    .bind(&job.values)
    .bind(&job.traceparent)
    .bind(job.signed_integers)
    .execute(write)
    .await?;
    Ok(())
}

pub(super) async fn by_id(pool: &SqlitePool, id: &str) -> Result<Job> {
    let row = sqlx::query("SELECT * FROM jobs WHERE id = $1").bind(id).fetch_optional(pool).await?;
    job_from_row(&row.ok_or_else(|| no_job(id))?)
}

pub(super) async fn list(pool: &SqlitePool, filter: JobFilter<'_>) -> Result<Vec<Job>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM jobs WHERE TRUE");
    if let Some(user) = filter.user {
        query.push(" AND user_name = ").push_bind(user);
    }
    if !filter.states.is_empty() {
        query.push(" AND ");
        in_states(&mut query, filter.states);
    }
    if let Some(moment) = filter.expired_at_unix_ms {
        query.push(" AND expires_unix_ms <= ").push_bind(moment);
    }
    query.push(" ORDER BY submitted_unix_ms DESC, id DESC LIMIT ").push_bind(i64::from(filter.limit));
    let mut rows = query.build().fetch(pool);
    let mut jobs = Vec::new();
    while let Some(row) = rows.try_next().await? {
        // Whole texts are held one at a time.
        let mut job = job_from_row(&row)?;
        if let Some((end, _)) = job.sql.char_indices().nth(LISTED_CHARS) {
            job.sql = job.sql[..end].to_owned();
        }
        jobs.push(job);
    }
    Ok(jobs)
}

pub(super) async fn step(write: &mut SqliteConnection, id: &str, step: &JobStep) -> Result<bool> {
    let mut update = QueryBuilder::<Sqlite>::new("UPDATE jobs SET state = ");
    update.push_bind(step.to().as_str());
    match step {
        JobStep::Start { at_unix_ms } => {
            update.push(", starts = starts + 1, started_unix_ms = COALESCE(started_unix_ms, ");
            update.push_bind(*at_unix_ms).push(")");
        }
        JobStep::Finish { at_unix_ms, expires_unix_ms, chunks, result } => {
            end(&mut update, *at_unix_ms, *chunks)?;
            update.push(", expires_unix_ms = ").push_bind(*expires_unix_ms);
            update.push(", result_rows = ").push_bind(count_to_sql("rows", result.rows)?);
            update.push(", result_bytes = ").push_bind(count_to_sql("bytes", result.bytes)?);
            update.push(", result_batches = ").push_bind(count_to_sql("batches", result.batches)?);
            update.push(", result_sha256 = ").push_bind(result.sha256.as_slice());
        }
        JobStep::Fail { at_unix_ms, chunks, failure } => {
            end(&mut update, *at_unix_ms, *chunks)?;
            update.push(", error_code = ").push_bind(i64::from(failure.code));
            update.push(", error = ").push_bind(&failure.message);
        }
        JobStep::Cancel { at_unix_ms, chunks } => end(&mut update, *at_unix_ms, *chunks)?,
        JobStep::Expire => {}
    }
    update.push(" WHERE id = ").push_bind(id).push(" AND ");
    in_states(&mut update, &step.from());
    if update.build().execute(&mut *write).await?.rows_affected() > 0 {
        return Ok(true);
    }
    let known: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM jobs WHERE id = $1").bind(id).fetch_optional(write).await?;
    known.map(|_| false).ok_or_else(|| no_job(id))
}

/// What every end of a job records.
fn end(update: &mut QueryBuilder<Sqlite>, at_unix_ms: i64, chunks: u64) -> Result<()> {
    update.push(", ended_unix_ms = ").push_bind(at_unix_ms);
    update.push(", chunk_count = ").push_bind(count_to_sql("chunks", chunks)?);
    Ok(())
}

fn in_states(query: &mut QueryBuilder<Sqlite>, states: &[JobState]) {
    query.push("state IN (");
    let mut listed = query.separated(", ");
    for state in states {
        listed.push_bind(state.as_str());
    }
    query.push(")");
}

fn job_from_row(row: &SqliteRow) -> Result<Job> {
    let id: String = row.try_get("id")?;
    let what = format!("job {id}");
    let count = |column: &str| count_from_sql(&what, row.try_get(column)?);
    let state: JobState = word_from_sql(&what, row.try_get("state")?)?;
    let error: Option<String> = row.try_get("error")?;
    let failure = error.map(|message| -> Result<JobFailure> {
        let code: Option<i64> = row.try_get("error_code")?;
        let code =
            code.and_then(|code| i32::try_from(code).ok()).ok_or_else(|| corrupt(&what, "an error without a code"))?;
        Ok(JobFailure { code, message })
    });
    let digest: Option<Vec<u8>> = row.try_get("result_sha256")?;
    let result = digest.map(|digest| -> Result<JobResult> {
        Ok(JobResult {
            rows: count("result_rows")?,
            bytes: count("result_bytes")?,
            batches: count("result_batches")?,
            sha256: digest.try_into().map_err(|_| corrupt(&what, "a digest of another length"))?,
        })
    });
    Ok(Job {
        user: row.try_get("user_name")?,
        sql: row.try_get("sql_text")?,
        values: row.try_get("bound_values")?,
        default_database: row.try_get("default_database")?,
        shuffle: row.try_get("shuffle")?,
        signed_integers: row.try_get("signed_integers")?,
        traceparent: row.try_get("traceparent")?,
        snapshots: from_json(&what, row.try_get("snapshots")?)?,
        schema: row.try_get("result_schema")?,
        warnings: from_json(&what, row.try_get("warnings")?)?,
        estimate: Estimated {
            chunks: count("estimated_chunks")?,
            rows: count("estimated_rows")?,
            bytes: count("estimated_bytes")?,
            millis: count("estimated_ms")?,
        },
        state,
        submitted_unix_ms: row.try_get("submitted_unix_ms")?,
        started_unix_ms: row.try_get("started_unix_ms")?,
        ended_unix_ms: row.try_get("ended_unix_ms")?,
        expires_unix_ms: row.try_get("expires_unix_ms")?,
        starts: count("starts")?,
        chunks: count("chunk_count")?,
        failure: failure.transpose()?,
        result: result.transpose()?,
        id,
    })
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt("a job to be written", error))
}

fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| corrupt(what, error))
}

fn no_job(id: &str) -> CatalogError {
    CatalogError::NotFound { what: "job", name: id.to_owned(), suggestion: None }
}
