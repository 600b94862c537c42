//! Jobs as rows.

use futures::TryStreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

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
    // One text for all filters: the states as words between spaces.
    let states: String = filter.states.iter().map(|state| format!(" {state} ")).collect();
    let mut rows = sqlx::query(
        "SELECT * FROM jobs WHERE ($1 IS NULL OR user_name = $1) AND ($2 = '' OR $2 LIKE '% ' || state || ' %') \
           AND ($3 IS NULL OR expires_unix_ms <= $3) \
         ORDER BY submitted_unix_ms DESC, id DESC LIMIT $4",
    )
    .bind(filter.user)
    .bind(states)
    .bind(filter.expired_at_unix_ms)
    .bind(i64::from(filter.limit))
    .fetch(pool);
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
    let change = Change::of(step)?;
    let [from, or_from] = step.from();
    let changed = sqlx::query(
        "UPDATE jobs SET state = $2, starts = starts + $3, started_unix_ms = COALESCE(started_unix_ms, $4), \
           ended_unix_ms = COALESCE($5, ended_unix_ms), expires_unix_ms = COALESCE($6, expires_unix_ms), \
           chunk_count = COALESCE($7, chunk_count), error_code = COALESCE($8, error_code), error = COALESCE($9, error), \
           result_rows = COALESCE($10, result_rows), result_bytes = COALESCE($11, result_bytes), \
           result_batches = COALESCE($12, result_batches), result_sha256 = COALESCE($13, result_sha256) \
         WHERE id = $1 AND state IN ($14, $15)",
    )
    .bind(id)
    .bind(step.to().as_str())
    .bind(i64::from(change.started.is_some()))
    .bind(change.started)
    .bind(change.ended)
    .bind(change.expires)
    .bind(change.chunks)
    .bind(change.failure.map(|failure| i64::from(failure.code)))
    .bind(change.failure.map(|failure| &failure.message))
    .bind(change.result.map(|result| result.0))
    .bind(change.result.map(|result| result.1))
    .bind(change.result.map(|result| result.2))
    .bind(change.sha256.map(|digest| digest.to_vec()))
    .bind(from.as_str())
    .bind(or_from.as_str())
    .execute(&mut *write)
    .await?;
    if changed.rows_affected() > 0 {
        return Ok(true);
    }
    let known: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM jobs WHERE id = $1").bind(id).fetch_optional(write).await?;
    known.map(|_| false).ok_or_else(|| no_job(id))
}

pub(super) async fn bytes_of(pool: &SqlitePool, user: &str) -> Result<u64> {
    let sum: Option<i64> =
        sqlx::query_scalar("SELECT SUM(result_bytes) FROM jobs WHERE user_name = $1 AND state = 'finished'")
            .bind(user)
            .fetch_one(pool)
            .await?;
    count_from_sql("the results of a user", sum.unwrap_or(0))
}

/// What a step writes; nothing where it leaves a column as it is.
#[derive(Default)]
struct Change<'a> {
    started: Option<i64>,
    ended: Option<i64>,
    expires: Option<i64>,
    chunks: Option<i64>,
    failure: Option<&'a JobFailure>,
    /// Rows, bytes and batches.
    result: Option<(i64, i64, i64)>,
    sha256: Option<&'a [u8; 32]>,
}

impl<'a> Change<'a> {
    fn of(step: &'a JobStep) -> Result<Change<'a>> {
        let ended = |at: i64, chunks: u64| -> Result<Change<'a>> {
            Ok(Change { ended: Some(at), chunks: Some(count_to_sql("chunks", chunks)?), ..Change::default() })
        };
        Ok(match step {
            JobStep::Start { at_unix_ms } => Change { started: Some(*at_unix_ms), ..Change::default() },
            JobStep::Finish { at_unix_ms, expires_unix_ms, chunks, result } => Change {
                expires: Some(*expires_unix_ms),
                result: Some((
                    count_to_sql("rows", result.rows)?,
                    count_to_sql("bytes", result.bytes)?,
                    count_to_sql("batches", result.batches)?,
                )),
                sha256: Some(&result.sha256),
                ..ended(*at_unix_ms, *chunks)?
            },
            JobStep::Fail { at_unix_ms, chunks, failure } => {
                Change { failure: Some(failure), ..ended(*at_unix_ms, *chunks)? }
            }
            JobStep::Cancel { at_unix_ms, chunks } => ended(*at_unix_ms, *chunks)?,
            JobStep::Expire => Change::default(),
        })
    }
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
