//! The coordinator's figures, for Prometheus. Their names and labels stand here only; without a
//! recorder in the process they cost nothing.

use std::sync::Arc;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use skyflight_catalog::{JobState, QueryState};
use skyflight_engine::Engine;
use skyflight_engine::dispatch::QueryCounters;

use crate::clock::unix_ms;
use crate::jobs::JobBook;
use crate::query::{Gate, WaitingQueries};

const QUERIES: &str = "skyflight_queries_total";
const SECONDS: &str = "skyflight_query_seconds";
const ROWS: &str = "skyflight_query_rows_total";
const BYTES: &str = "skyflight_query_bytes_total";
const MESSAGES: &str = "skyflight_query_messages_total";
const CHUNKS: &str = "skyflight_query_chunks_total";
const RETRIES: &str = "skyflight_query_retries_total";
const STREAMS: &str = "skyflight_worker_streams_total";
const BYTES_READ: &str = "skyflight_worker_bytes_read_total";
const JOBS: &str = "skyflight_jobs_total";
const JOB_SECONDS: &str = "skyflight_job_seconds";
const JOBS_OPEN: &str = "skyflight_jobs";
const LOGINS: &str = "skyflight_logins_total";
const RUNNING: &str = "skyflight_queries_running";
const WAITING: &str = "skyflight_plans_waiting";
const MEMORY: &str = "skyflight_merge_memory_bytes";

/// Says what the figures mean.
pub(crate) fn describe() {
    describe_counter!(QUERIES, "Queries that have ended, by outcome");
    describe_histogram!(SECONDS, "Time of queries by phase, planning or executing");
    describe_counter!(ROWS, "Rows given to clients");
    describe_counter!(BYTES, "Bytes given to clients");
    describe_counter!(MESSAGES, "Flight messages with rows given to clients");
    describe_counter!(CHUNKS, "Chunks finished for queries");
    describe_counter!(RETRIES, "Attempts at chunks that failed and were made again");
    describe_counter!(STREAMS, "Streams opened to workers");
    describe_counter!(BYTES_READ, "Bytes that workers read from chunk files");
    describe_counter!(JOBS, "Jobs that have ended, by outcome");
    describe_histogram!(JOB_SECONDS, "Time of jobs by phase, waiting for their turn or running");
    describe_gauge!(JOBS_OPEN, "Jobs that have not ended, by state");
    describe_counter!(LOGINS, "Passwords checked, by outcome");
    describe_gauge!(RUNNING, "Queries that plan or run now");
    describe_gauge!(WAITING, "Planned queries that wait to be fetched");
    describe_gauge!(MEMORY, "Memory taken by merge plans now");
}

/// What a query was when it ended.
pub(crate) struct Closed<'a> {
    pub(crate) outcome: QueryState,
    pub(crate) planning_ms: u64,
    pub(crate) executing_ms: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    pub(crate) counters: &'a QueryCounters,
}

/// A query has ended.
pub(crate) fn query_closed(closed: &Closed<'_>) {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    counter!(QUERIES, "outcome" => closed.outcome.as_str()).increment(1);
    histogram!(SECONDS, "phase" => "planning").record(seconds(closed.planning_ms));
    if closed.executing_ms > 0 || closed.outcome == QueryState::Finished {
        histogram!(SECONDS, "phase" => "executing").record(seconds(closed.executing_ms));
    }
    counter!(ROWS).increment(closed.rows);
    counter!(BYTES).increment(closed.bytes);
    counter!(MESSAGES).increment(closed.messages);
    work_done(closed.counters);
}

/// A job has ended that was submitted at one moment, and began, in this life of the coordinator, at another
/// (milliseconds of Unix time).
pub(crate) fn job_closed(outcome: JobState, submitted_ms: i64, begun_ms: Option<i64>, counters: &QueryCounters) {
    let now = unix_ms();
    let seconds = |from: i64, to: i64| to.saturating_sub(from).max(0) as f64 / 1_000.0;
    counter!(JOBS, "outcome" => outcome.as_str()).increment(1);
    histogram!(JOB_SECONDS, "phase" => "waiting").record(seconds(submitted_ms, begun_ms.unwrap_or(now)));
    if let Some(begun_ms) = begun_ms {
        histogram!(JOB_SECONDS, "phase" => "running").record(seconds(begun_ms, now));
    }
    work_done(counters);
}

/// What was done beside the chunks for a query or a job.
fn work_done(counters: &QueryCounters) {
    counter!(CHUNKS).increment(QueryCounters::get(&counters.chunks_done));
    counter!(RETRIES).increment(QueryCounters::get(&counters.retries));
    counter!(STREAMS).increment(QueryCounters::get(&counters.streams));
    counter!(BYTES_READ).increment(QueryCounters::get(&counters.bytes_read));
}

/// A password was checked.
pub(crate) fn login(succeeded: bool) {
    counter!(LOGINS, "outcome" => if succeeded { "succeeded" } else { "failed" }).increment(1);
}

/// What a coordinator is doing, looked at when somebody asks. Clones look at the same one.
#[derive(Debug, Clone)]
pub struct CoordinatorFigures {
    pub(crate) gate: Gate,
    pub(crate) waiting: WaitingQueries,
    pub(crate) engine: Engine,
    pub(crate) jobs: Arc<JobBook>,
}

impl CoordinatorFigures {
    /// Sets the gauges to what is true now.
    pub fn report(&self) {
        gauge!(RUNNING).set(self.gate.running() as f64);
        gauge!(WAITING).set(self.waiting.len() as f64);
        let (waiting, running) = self.jobs.waiting_and_running();
        gauge!(JOBS_OPEN, "state" => "queued").set(waiting as f64);
        gauge!(JOBS_OPEN, "state" => "running").set(running as f64);
        gauge!(MEMORY).set(self.engine.state().runtime_env().memory_pool.reserved() as f64);
    }

    /// Whether new queries are taken.
    pub fn is_ready(&self) -> bool {
        !self.gate.is_closed()
    }
}
