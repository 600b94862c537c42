//! A query from its acceptance to its one closing record.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use skyflight_catalog::{Estimated, QueryRecord, QueryState};
use skyflight_engine::EngineError;
use skyflight_engine::dispatch::{QueryContext, QueryCounters};
use tokio_util::sync::CancellationToken;

use super::running::TEXT_BYTES;
use super::{Journal, LiveQuery, trace};
use crate::clock::unix_ms;
use crate::error::shortened;
use crate::figures::{self, Closed};

/// An open record. It is closed exactly once: by [`QueryLife::finish`], by [`QueryLife::handed_out`], by
/// [`QueryLife::fail`], or, when it is dropped open, as cancelled. Whatever is not finished has its work stopped.
#[derive(Debug)]
pub(crate) struct QueryLife {
    live: Arc<LiveQuery>,
    journal: Journal,
    phase: Phase,
    planning_ms: u64,
    messages: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Planning { since: Instant },
    Waiting,
    Executing { since: Instant },
    Closed,
}

impl QueryLife {
    /// Opens the record of a query that was just accepted; planning begins.
    pub(crate) fn open(query: &QueryContext, sql: &str, journal: &Journal) -> Self {
        QueryLife::of(LiveQuery::new(query.clone(), sql, unix_ms()), journal)
    }

    /// The same for one endpoint of a query that was handed out. The log has its end; the query's own
    /// record stays as it is, because other endpoints may be under way elsewhere.
    pub(crate) fn open_part(query: &QueryContext, sql: &str, journal: &Journal) -> Self {
        QueryLife::of(LiveQuery::part(query.clone(), sql, unix_ms()), journal)
    }

    fn of(live: LiveQuery, journal: &Journal) -> Self {
        QueryLife {
            live: journal.running().enter(live),
            journal: journal.clone(),
            phase: Phase::Planning { since: Instant::now() },
            planning_ms: 0,
            messages: 0,
        }
    }

    /// Planning has ended well, with an estimate; the query waits to be fetched.
    pub(crate) fn planned(&mut self, estimate: Estimated) {
        // Set once: a plan is made once in a life.
        let _ = self.live.estimate.set(estimate);
        if let Phase::Planning { since } = self.phase {
            self.planning_ms = millis(since);
            self.phase = Phase::Waiting;
        }
    }

    /// How much memory its plan takes, in chunks of about a hundred bytes: those it reads, and its text as a
    /// tree, about one for each byte.
    pub(crate) fn weight(&self) -> u64 {
        self.live.expected().chunks.saturating_add(self.live.sql_bytes as u64)
    }

    /// The token by which it is cancelled.
    pub(crate) fn cancel_token(&self) -> CancellationToken {
        self.live.query.cancel.clone()
    }

    /// Its rows are being fetched.
    pub(crate) fn executing(&mut self) {
        self.phase = Phase::Executing { since: Instant::now() };
        self.live.executing.store(true, Ordering::Relaxed);
        if !self.live.is_part {
            self.journal.record(self.record(QueryState::Running, None));
        }
    }

    /// A message left for the client.
    pub(crate) fn sent(&mut self, rows: u64, bytes: u64) {
        self.live.sent(rows, bytes);
        self.messages += 1;
    }

    /// Closes the record: every row was given.
    pub(crate) fn finish(&mut self) {
        self.close(QueryState::Finished, None);
    }

    /// Closes the record: the client has tickets for as many endpoints, by which the workers give it the
    /// rows of so many chunks. How that goes is not known here.
    pub(crate) fn handed_out(&mut self, endpoints: usize, chunks: u64) {
        tracing::info!(query_id = %self.live.query.id, endpoints, chunks, "query handed out to workers");
        self.close(QueryState::Direct, None);
    }

    /// Closes the record with an error; a cancelled query is no failed one.
    pub(crate) fn fail(&mut self, error: &EngineError) {
        let state = match error {
            EngineError::Cancelled => QueryState::Cancelled,
            _ => QueryState::Failed,
        };
        self.close(state, Some(shortened(&error.to_string(), TEXT_BYTES)));
    }

    fn close(&mut self, state: QueryState, error: Option<String>) {
        let unasked = matches!(self.phase, Phase::Waiting) && state == QueryState::Cancelled;
        let executing_ms = match self.phase {
            Phase::Closed => return,
            Phase::Planning { since } => {
                self.planning_ms = millis(since);
                0
            }
            Phase::Waiting => 0,
            Phase::Executing { since } => millis(since),
        };
        self.phase = Phase::Closed;
        if !matches!(state, QueryState::Finished | QueryState::Direct) {
            self.live.query.cancel.cancel();
        }
        self.journal.running().leave(&self.live);
        let query = &self.live.query;
        let (rows, bytes) = self.live.gone();
        let counters = &query.counters;
        tracing::info!(
            query_id = %query.id,
            user = query.user,
            outcome = %state,
            rows,
            bytes,
            chunks = QueryCounters::get(&counters.chunks_done),
            chunks_planned = QueryCounters::get(&counters.chunks_planned),
            retries = QueryCounters::get(&counters.retries),
            planning_ms = self.planning_ms,
            executing_ms,
            error,
            "query closed"
        );
        trace::end(
            &query.trace,
            state.as_str(),
            rows,
            bytes,
            QueryCounters::get(&counters.chunks_done),
            error.as_deref(),
        );
        figures::query_closed(&Closed {
            outcome: state,
            planning_ms: self.planning_ms,
            executing_ms,
            rows,
            bytes,
            messages: self.messages,
            counters,
        });
        // What nobody fetched leaves no trace but the line above.
        if !unasked && !self.live.is_part {
            let mut record = self.record(state, error);
            record.finished_ms = Some(unix_ms());
            self.journal.record(record);
        }
    }

    fn record(&self, state: QueryState, error: Option<String>) -> QueryRecord {
        let LiveQuery { query, sql, started_ms, .. } = self.live.as_ref();
        let (rows, bytes) = self.live.gone();
        QueryRecord {
            id: query.id.to_string(),
            user: query.user.clone(),
            sql: sql.clone(),
            state,
            error,
            started_ms: *started_ms,
            finished_ms: None,
            rows,
            bytes,
            chunks: QueryCounters::get(&query.counters.chunks_done),
            estimate: self.live.expected(),
        }
    }
}

impl Drop for QueryLife {
    fn drop(&mut self) {
        let why = match self.phase {
            Phase::Closed => return,
            Phase::Planning { .. } => "the client went away while the query was planned",
            Phase::Waiting => "planned, but its rows were never fetched",
            Phase::Executing { .. } => "the client went away before the last row",
        };
        self.close(QueryState::Cancelled, Some(why.to_owned()));
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use skyflight_catalog::{CatalogStore, SqliteStore};
    use tokio::runtime::Handle;

    use super::*;

    /// The records that lives leave, by what was done to each.
    async fn closed_by(acts: Vec<fn(QueryLife)>) -> Vec<QueryRecord> {
        let store: Arc<dyn CatalogStore> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let (journal, keeper) = Journal::open(Arc::clone(&store), &Handle::current());
        let mut ids = Vec::new();
        for act in acts {
            let query = QueryContext::new("vera");
            ids.push(query.id.to_string());
            let life = QueryLife::open(&query, "SELECT 1", &journal);
            act(life);
        }
        drop(journal);
        keeper.close(Duration::from_secs(10)).await;
        let all = store.queries(100).await.unwrap();
        ids.iter().map(|id| all.iter().find(|r| &r.id == id).unwrap().clone()).collect()
    }

    #[tokio::test]
    async fn a_record_closes_whatever_happens() {
        let records = closed_by(vec![
            |mut life| {
                life.planned(Estimated::default());
                life.executing();
                life.sent(3, 100);
                life.sent(4, 200);
                life.finish();
            },
            |mut life| life.fail(&EngineError::Invalid("no such column".into())),
            |mut life| {
                life.planned(Estimated::default());
                life.executing();
                life.fail(&EngineError::Cancelled);
            },
            |life| drop(life),
            |mut life| {
                life.planned(Estimated::default());
                life.handed_out(3, 12);
            },
            |mut life| {
                life.planned(Estimated::default());
                life.executing();
                life.sent(5, 50);
            },
        ])
        .await;
        let seen: Vec<_> = records.iter().map(|r| (r.state, r.rows, r.bytes)).collect();
        assert_eq!(
            seen,
            [
                (QueryState::Finished, 7, 300),
                (QueryState::Failed, 0, 0),
                (QueryState::Cancelled, 0, 0),
                (QueryState::Cancelled, 0, 0),
                (QueryState::Direct, 0, 0),
                (QueryState::Cancelled, 5, 50),
            ]
        );
        assert!(records.iter().all(|r| r.finished_ms.is_some()));
        assert_eq!(records[1].error.as_deref(), Some("no such column"));
    }

    #[tokio::test]
    async fn long_texts_are_cut_in_records() {
        let store: Arc<dyn CatalogStore> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let (journal, keeper) = Journal::open(Arc::clone(&store), &Handle::current());
        let sql = format!("SELECT '{}'", "é".repeat(500_000));
        let mut life = QueryLife::open(&QueryContext::new("vera"), &sql, &journal);
        assert!(life.weight() > 1_000_000, "the plan is of the whole text");
        life.fail(&EngineError::Invalid("x".repeat(1 << 20)));
        drop(journal);
        keeper.close(Duration::from_secs(10)).await;
        let record = store.queries(1).await.unwrap().remove(0);
        assert!(record.sql.len() < TEXT_BYTES + 10 && record.sql.ends_with("é …"), "{} bytes", record.sql.len());
        assert!(record.error.unwrap().len() < TEXT_BYTES + 10);
    }

    #[tokio::test]
    async fn what_was_never_fetched_leaves_no_trace() {
        let store: Arc<dyn CatalogStore> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let (journal, keeper) = Journal::open(Arc::clone(&store), &Handle::current());
        for _ in 0..10 {
            let mut life = QueryLife::open(&QueryContext::new("vera"), "SELECT 1", &journal);
            life.planned(Estimated::default());
        }
        assert_eq!(journal.running().len(), 0);
        drop(journal);
        keeper.close(Duration::from_secs(10)).await;
        assert_eq!(store.queries(100).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_part_that_is_served_here_leaves_the_record_of_its_query_as_it_is() {
        let store: Arc<dyn CatalogStore> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let (journal, keeper) = Journal::open(Arc::clone(&store), &Handle::current());
        let query = QueryContext::new("vera");
        QueryLife::open(&query, "SELECT 1", &journal).handed_out(2, 2);
        assert!(!query.cancel.is_cancelled());
        for finishes in [true, false] {
            let mut part = QueryLife::open_part(&query, "SELECT 1", &journal);
            part.planned(Estimated::default());
            part.executing();
            part.sent(5, 50);
            assert!(journal.running().find("vera", query.id).iter().all(|live| live.is_part));
            if finishes {
                part.finish();
            }
        }
        assert!(query.cancel.is_cancelled(), "what did not finish is stopped");
        drop(journal);
        keeper.close(Duration::from_secs(10)).await;
        let records = store.queries(10).await.unwrap();
        assert_eq!(records.iter().map(|r| (r.state, r.rows)).collect::<Vec<_>>(), [(QueryState::Direct, 0)]);
    }

    #[tokio::test]
    async fn what_is_not_finished_is_stopped() {
        let store: Arc<dyn CatalogStore> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let (journal, _keeper) = Journal::open(store, &Handle::current());
        let query = QueryContext::new("vera");
        drop(QueryLife::open(&query, "SELECT 1", &journal));
        assert!(query.cancel.is_cancelled());
        let query = QueryContext::new("vera");
        QueryLife::open(&query, "SELECT 1", &journal).finish();
        assert!(!query.cancel.is_cancelled());
    }
}
