//! The tables of the database `system`: queries and jobs of the user who asks, and the workers.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use skyflight_catalog::{CatalogStore, Estimated, QueryRecord, QueryState, Worker};
use skyflight_engine::dispatch::QueryCounters;
use skyflight_engine::{EngineError, Result, SystemTables};
use skyflight_proto::wire::HEARTBEAT_INTERVAL;

use crate::clock::unix_ms;
use crate::jobs::{JobBook, JobView};
use crate::query::{LiveQuery, RunningQueries};

const QUERIES: &str = "queries";
const WORKERS: &str = "workers";

/// The latest queries and jobs of a user that are shown, of each so many.
const SHOWN: u32 = 2_000;

/// A worker that has said nothing for so many heartbeats is shown as gone.
const MISSED_HEARTBEATS: i64 = 5;

static QUERIES_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("id", DataType::Utf8, "its id, by which it can be cancelled"),
        ("kind", DataType::Utf8, "query, whose client waits for its rows, or job"),
        ("state", DataType::Utf8, "waiting to be fetched, queued, running, finished, failed, cancelled or expired"),
        ("sql", DataType::Utf8, "its text"),
        ("submitted", time(), "when it was accepted"),
        ("started", time(), "when it began"),
        ("ended", time(), "when it ended"),
        ("expires", time(), "until when the result of a job is kept"),
        ("chunks_planned", DataType::Int64, "chunks it reads"),
        ("chunks_done", DataType::Int64, "chunks whose rows have come; of an ended job, the chunk runs that counted"),
        ("progress", DataType::Float64, "the part of its chunks that is done, 0 to 1"),
        ("result_rows", DataType::Int64, "rows given, or written so far"),
        ("result_bytes", DataType::Int64, "bytes given, or written so far"),
        ("estimated_rows", DataType::Int64, "rows it was expected to read, at most"),
        ("estimated_bytes", DataType::Int64, "bytes it was expected to read, at most"),
        ("estimated_s", DataType::Float64, "seconds it was expected to take"),
        ("starts", DataType::Int64, "how often a job was begun: more than once where the coordinator was restarted"),
        ("warnings", DataType::Utf8, "what to know of a job"),
        ("error", DataType::Utf8, "why it failed"),
    ])
});

static WORKERS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("id", DataType::Utf8, "its name"),
        ("address", DataType::Utf8, "where it serves"),
        ("live", DataType::Boolean, "whether it has lately said that it lives"),
        ("last_seen", time(), "when it last said so"),
        ("started", time(), "when its process started"),
        ("cores", DataType::Int64, "chunks it computes at once"),
        ("files", DataType::Int64, "chunk files it holds"),
        ("file_bytes", DataType::Int64, "bytes of them"),
    ])
});

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn schema(columns: &[(&str, DataType, &str)]) -> SchemaRef {
    let field = |(name, data_type, description): &(&str, DataType, &str)| {
        let metadata = HashMap::from([("description".to_owned(), (*description).to_owned())]);
        Field::new(*name, data_type.clone(), true).with_metadata(metadata)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Knows all there is to show.
#[derive(Debug)]
pub(crate) struct SystemView {
    pub(crate) store: Arc<dyn CatalogStore>,
    pub(crate) running: RunningQueries,
    pub(crate) book: Arc<JobBook>,
}

/// The tables by name, in no user's session.
pub(crate) fn tables() -> Vec<(&'static str, SchemaRef)> {
    vec![(QUERIES, Arc::clone(&QUERIES_SCHEMA)), (WORKERS, Arc::clone(&WORKERS_SCHEMA))]
}

#[async_trait]
impl SystemTables for SystemView {
    fn tables(&self) -> Vec<(&'static str, SchemaRef)> {
        tables()
    }

    async fn rows(&self, table: &str, user: &str) -> Result<RecordBatch> {
        match table {
            QUERIES => queries(&self.lines(user).await?),
            WORKERS => workers(&self.store.workers().await?),
            other => Err(EngineError::NotFound(format!("there is no table system.{other}"))),
        }
    }

    async fn job(&self, id: &str, user: &str) -> Result<Arc<dyn TableProvider>> {
        self.book.table(user, id).await
    }
}

impl SystemView {
    /// All that is known of a user's queries: what lives, then jobs, then what has ended.
    async fn lines(&self, user: &str) -> Result<Vec<Line>> {
        let recorded = self.store.queries_of(user, SHOWN).await?;
        let jobs = self.book.views(user, SHOWN).await?;
        let live = self.running.of_user(user);
        let mut lines: Vec<Line> = live.iter().map(|live| Line::of_live(live)).collect();
        let living: std::collections::HashSet<String> = lines.iter().map(|line| line.id.clone()).collect();
        lines.extend(jobs.into_iter().map(Line::of_job));
        // What lives is newer than its record.
        lines.extend(recorded.into_iter().filter(|record| !living.contains(&record.id)).map(Line::of_record));
        Ok(lines)
    }
}

/// One row of `system.queries`.
#[derive(Default)]
struct Line {
    id: String,
    kind: &'static str,
    state: &'static str,
    sql: String,
    submitted_ms: i64,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
    expires_ms: Option<i64>,
    chunks_planned: u64,
    chunks_done: u64,
    progress: f64,
    rows: u64,
    bytes: u64,
    estimate: Estimated,
    starts: Option<u64>,
    warnings: Option<String>,
    error: Option<String>,
}

impl Line {
    fn of_live(live: &LiveQuery) -> Line {
        let counters = &live.query.counters;
        let estimate = live.expected();
        let done = QueryCounters::get(&counters.chunks_done);
        let planned = estimate.chunks.max(QueryCounters::get(&counters.chunks_planned));
        let (rows, bytes) = live.gone();
        let executing = live.executing.load(std::sync::atomic::Ordering::Relaxed);
        Line {
            id: live.query.id.to_string(),
            kind: "query",
            state: if executing { QueryState::Running.as_str() } else { "waiting" },
            sql: live.sql.clone(),
            submitted_ms: live.started_ms,
            started_ms: Some(live.started_ms),
            chunks_planned: planned,
            chunks_done: done,
            progress: if planned == 0 { 0.0 } else { done as f64 / planned as f64 },
            rows,
            bytes,
            estimate,
            ..Line::default()
        }
    }

    fn of_record(record: QueryRecord) -> Line {
        Line {
            kind: "query",
            state: record.state.as_str(),
            submitted_ms: record.started_ms,
            started_ms: Some(record.started_ms),
            ended_ms: record.finished_ms,
            chunks_planned: record.estimate.chunks,
            chunks_done: record.chunks,
            progress: match (record.state, record.estimate.chunks) {
                (QueryState::Finished, _) => 1.0,
                (_, 0) => 0.0,
                (_, planned) => (record.chunks as f64 / planned as f64).min(1.0),
            },
            rows: record.rows,
            bytes: record.bytes,
            estimate: record.estimate,
            error: record.error,
            id: record.id,
            sql: record.sql,
            ..Line::default()
        }
    }

    fn of_job(view: JobView) -> Line {
        let progress = view.part_done();
        let JobView { job, progress: at } = view;
        Line {
            kind: "job",
            state: job.state.as_str(),
            submitted_ms: job.submitted_unix_ms,
            started_ms: job.started_unix_ms,
            ended_ms: job.ended_unix_ms,
            expires_ms: job.expires_unix_ms,
            chunks_planned: at.chunks_planned,
            chunks_done: at.chunks_done,
            progress,
            rows: at.rows,
            bytes: at.bytes,
            estimate: job.estimate,
            starts: Some(job.starts),
            warnings: (!job.warnings.is_empty()).then(|| job.warnings.join("; ")),
            error: job.failure.map(|failure| failure.message),
            id: job.id,
            sql: job.sql,
        }
    }
}

fn queries(lines: &[Line]) -> Result<RecordBatch> {
    let texts =
        |of: &dyn Fn(&Line) -> Option<String>| -> ArrayRef { Arc::new(lines.iter().map(of).collect::<StringArray>()) };
    let counts = |of: &dyn Fn(&Line) -> Option<u64>| -> ArrayRef {
        Arc::new(lines.iter().map(|line| of(line).map(signed)).collect::<Int64Array>())
    };
    let times = |of: &dyn Fn(&Line) -> Option<i64>| -> ArrayRef { timestamps(lines.iter().map(of)) };
    let parts =
        |of: &dyn Fn(&Line) -> f64| -> ArrayRef { Arc::new(lines.iter().map(of).map(Some).collect::<Float64Array>()) };
    let columns = vec![
        texts(&|line| Some(line.id.clone())),
        texts(&|line| Some(line.kind.to_owned())),
        texts(&|line| Some(line.state.to_owned())),
        texts(&|line| Some(line.sql.clone())),
        times(&|line| Some(line.submitted_ms)),
        times(&|line| line.started_ms),
        times(&|line| line.ended_ms),
        times(&|line| line.expires_ms),
        counts(&|line| Some(line.chunks_planned)),
        counts(&|line| Some(line.chunks_done)),
        parts(&|line| line.progress),
        counts(&|line| Some(line.rows)),
        counts(&|line| Some(line.bytes)),
        counts(&|line| Some(line.estimate.rows)),
        counts(&|line| Some(line.estimate.bytes)),
        parts(&|line| line.estimate.millis as f64 / 1e3),
        counts(&|line| line.starts),
        texts(&|line| line.warnings.clone()),
        texts(&|line| line.error.clone()),
    ];
    batch(&QUERIES_SCHEMA, columns)
}

fn workers(workers: &[Worker]) -> Result<RecordBatch> {
    let now = unix_ms();
    let patience = HEARTBEAT_INTERVAL.as_millis() as i64 * MISSED_HEARTBEATS;
    let counts = |of: &dyn Fn(&Worker) -> u64| -> ArrayRef {
        Arc::new(workers.iter().map(|worker| Some(signed(of(worker)))).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(workers.iter().map(|worker| &worker.id.0))),
        Arc::new(StringArray::from_iter_values(workers.iter().map(|worker| &worker.address))),
        Arc::new(
            workers
                .iter()
                .map(|worker| Some(now.saturating_sub(worker.last_seen_unix_ms) <= patience))
                .collect::<BooleanArray>(),
        ),
        timestamps(workers.iter().map(|worker| Some(worker.last_seen_unix_ms))),
        timestamps(workers.iter().map(|worker| Some(worker.started_unix_ms))),
        counts(&|worker| u64::from(worker.capacity.cores)),
        counts(&|worker| worker.capacity.files),
        counts(&|worker| worker.capacity.bytes),
    ];
    batch(&WORKERS_SCHEMA, columns)
}

fn timestamps(times: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(times.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| EngineError::Internal(format!("a table of the system cannot be made: {error}")))
}
