//! A job on a server of Skyflight: a query that goes on without its client.

use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt;

use crate::{ClientError, Connection, Result, Rows};

/// Pauses between two looks at a job.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A job, on a connection of its user's.
#[derive(Debug, Clone)]
pub struct Job {
    connection: Connection,
    id: String,
}

/// How a job is, as `system.queries` tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStatus {
    /// `queued`, `running`, `finished`, `failed`, `cancelled` or `expired`.
    pub state: String,
    /// The part of its chunks that is done, from 0 to 1.
    pub progress: f64,
    /// Rows of its result, so far.
    pub rows: i64,
    /// What to know of it.
    pub warnings: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl JobStatus {
    /// True where nothing more is computed.
    pub fn has_ended(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running")
    }
}

impl Connection {
    /// Submits a query as a job; it goes on when the connection is gone.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn submit(&mut self, sql: &str) -> Result<Job> {
        let told = self.only_row(&format!("SUBMIT {sql}")).await?;
        Ok(Job { connection: self.clone(), id: text(&told, "id")?.ok_or_else(|| missing("id"))? })
    }

    /// A job that was submitted before, by its id. Nothing is asked of the server yet.
    pub fn job(&self, id: &str) -> Job {
        Job { connection: self.clone(), id: id.to_string() }
    }

    async fn only_row(&mut self, sql: &str) -> Result<RecordBatch> {
        let batches: Vec<RecordBatch> = self.query(sql).await?.try_collect().await?;
        let found = batches.into_iter().find(|batch| batch.num_rows() == 1);
        found.ok_or_else(|| ClientError::Protocol(format!("no row in the answer to {sql:?}")))
    }
}

impl Job {
    /// The id, by which it is found again.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it is.
    ///
    /// # Errors
    /// The server's own; `Protocol` where the user has no such job.
    pub async fn status(&mut self) -> Result<JobStatus> {
        let sql = format!(
            "SELECT state, progress, result_rows, warnings, error FROM system.queries WHERE kind = 'job' AND id = {}",
            quoted(&self.id)
        );
        let told = self.connection.only_row(&sql).await?;
        let progress = told.column_by_name("progress").and_then(|c| c.as_primitive_opt::<Float64Type>());
        let rows = told.column_by_name("result_rows").and_then(|c| c.as_primitive_opt::<Int64Type>());
        Ok(JobStatus {
            state: text(&told, "state")?.ok_or_else(|| missing("state"))?,
            progress: progress.ok_or_else(|| missing("progress"))?.value(0),
            rows: rows.ok_or_else(|| missing("result_rows"))?.value(0),
            warnings: text(&told, "warnings")?,
            error: text(&told, "error")?,
        })
    }

    /// Waits until it has ended, and tells how.
    ///
    /// # Errors
    /// As [`Job::status`].
    pub async fn wait(&mut self) -> Result<JobStatus> {
        let mut pause = FIRST_PAUSE;
        loop {
            let status = self.status().await?;
            if status.has_ended() {
                return Ok(status);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Its rows, as often as wanted until they expire. A fetch that breaks off goes on where it was.
    ///
    /// # Errors
    /// The server's own: it has not finished, failed, was cancelled or has expired.
    pub async fn rows(&mut self) -> Result<Rows> {
        let sql = format!("SELECT * FROM job({})", quoted(&self.id));
        self.connection.query(&sql).await
    }

    /// Cancels it; what became of that: `cancelled`, `cancelling` or `not cancellable`.
    ///
    /// # Errors
    /// The server's own.
    pub async fn cancel(&mut self) -> Result<String> {
        let told = self.connection.only_row(&format!("CANCEL {}", quoted(&self.id))).await?;
        text(&told, "state")?.ok_or_else(|| missing("state"))
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The value of a text column of the only row.
fn text(row: &RecordBatch, column: &str) -> Result<Option<String>> {
    let values = row.column_by_name(column).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(|| missing(column))?;
    Ok(values.is_valid(0).then(|| values.value(0).to_string()))
}

fn missing(column: &str) -> ClientError {
    ClientError::Protocol(format!("an answer about a job without {column}"))
}
