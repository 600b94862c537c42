//! Query records on their way into the catalog store: written behind the queries' backs, so that
//! no row waits for the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skyflight_catalog::{CatalogStore, QueryRecord};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::RunningQueries;
use crate::clock::unix_ms;

/// Records that may wait for the store. When it falls further behind, records are lost (with a
/// warning): the log has them too, and queries come first.
const RECORDS_WAITING: usize = 4_096;

/// Records taken in one go; of several records of one query in it only the last is written.
const RECORDS_AT_ONCE: usize = 256;

/// How long records of queries that ended are kept, in milliseconds (90 days), and how many of them.
const KEPT_MS: i64 = 90 * 24 * 3_600 * 1_000;
const KEPT: u32 = 200_000;

/// How long [`Journal::settled`] waits at most.
const SETTLING: Duration = Duration::from_secs(1);

/// Where queries leave their records. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    entries: mpsc::Sender<Entry>,
    running: RunningQueries,
}

#[derive(Debug)]
enum Entry {
    Record(Box<QueryRecord>),
    /// Answered once everything before it is written.
    Settle(oneshot::Sender<()>),
}

/// Owns the task that writes the records.
#[derive(Debug)]
pub(crate) struct JournalKeeper {
    writer: AbortOnDropHandle<()>,
}

impl Journal {
    /// A journal written to `store` by a task on `runtime`.
    pub(crate) fn open(store: Arc<dyn CatalogStore>, runtime: &Handle) -> (Journal, JournalKeeper) {
        let (entries, waiting) = mpsc::channel(RECORDS_WAITING);
        let writer = AbortOnDropHandle::new(runtime.spawn(write(store, waiting)));
        (Journal { entries, running: RunningQueries::default() }, JournalKeeper { writer })
    }

    /// The queries whose records are open.
    pub(crate) fn running(&self) -> &RunningQueries {
        &self.running
    }

    /// Leaves a record; never waits.
    pub(crate) fn record(&self, record: QueryRecord) {
        if let Err(error) = self.entries.try_send(Entry::Record(Box::new(record))) {
            tracing::warn!(%error, "a query record was not written to the catalog");
        }
    }

    /// Waits until the store has what was recorded before, for a second at most: whoever asks what became
    /// of a query that was closed a moment ago has to.
    pub(crate) async fn settled(&self) {
        let (settle, settled) = oneshot::channel();
        let written = async {
            if self.entries.send(Entry::Settle(settle)).await.is_ok() {
                // An error: the writer has ended, and nothing more is written.
                let _ = settled.await;
            }
        };
        if tokio::time::timeout(SETTLING, written).await.is_err() {
            tracing::warn!("query records wait longer than usual for the catalog");
        }
    }
}

impl JournalKeeper {
    /// Waits until what was recorded is written, for as long as there are no more journals and at
    /// most `patience`.
    pub(crate) async fn close(self, patience: Duration) {
        if tokio::time::timeout(patience, self.writer).await.is_err() {
            tracing::warn!("some query records were not written to the catalog in time");
        }
    }
}

async fn write(store: Arc<dyn CatalogStore>, mut waiting: mpsc::Receiver<Entry>) {
    let mut taken = Vec::with_capacity(RECORDS_AT_ONCE);
    while waiting.recv_many(&mut taken, RECORDS_AT_ONCE).await > 0 {
        let (mut records, mut settling) = (Vec::with_capacity(taken.len()), Vec::new());
        for entry in taken.drain(..) {
            match entry {
                Entry::Record(record) => records.push(*record),
                Entry::Settle(settle) => settling.push(settle),
            }
        }
        for record in last_of_each(&mut records) {
            if let Err(error) = store.record_query(&record).await {
                tracing::warn!(query_id = record.id, %error, "a query record was not written to the catalog");
            }
        }
        for settle in settling {
            // Whoever waited may have given up.
            let _ = settle.send(());
        }
    }
}

/// Removes records whose time is over.
pub(crate) async fn prune(store: &dyn CatalogStore) {
    match store.prune_queries(unix_ms().saturating_sub(KEPT_MS), KEPT).await {
        Ok(0) => {}
        Ok(pruned) => tracing::info!(pruned, "old query records removed"),
        Err(error) => tracing::warn!(%error, "old query records were not removed"),
    }
}

/// Empties `taken` into the last record of each query, queries in their first order.
fn last_of_each(taken: &mut Vec<QueryRecord>) -> Vec<QueryRecord> {
    let mut last: Vec<QueryRecord> = Vec::with_capacity(taken.len());
    let mut places: HashMap<String, usize> = HashMap::with_capacity(taken.len());
    for record in taken.drain(..) {
        match places.get(&record.id) {
            Some(&at) => last[at] = record,
            None => {
                places.insert(record.id.clone(), last.len());
                last.push(record);
            }
        }
    }
    last
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use skyflight_catalog::{QueryState, SqliteStore};

    use super::*;

    fn record(id: &str, state: QueryState) -> QueryRecord {
        QueryRecord {
            id: id.into(),
            user: "vera".into(),
            sql: "SELECT 1".into(),
            state,
            error: None,
            started_ms: 1,
            finished_ms: None,
            rows: 0,
            bytes: 0,
            chunks: 0,
            estimate: Default::default(),
        }
    }

    #[test]
    fn only_the_last_record_of_a_query_is_written() {
        let mut taken =
            vec![record("a", QueryState::Running), record("b", QueryState::Running), record("a", QueryState::Finished)];
        let last: Vec<_> = last_of_each(&mut taken).into_iter().map(|r| (r.id, r.state)).collect();
        assert_eq!(last, [("a".into(), QueryState::Finished), ("b".into(), QueryState::Running)]);
        assert!(taken.is_empty());
    }

    #[tokio::test]
    async fn what_was_recorded_before_is_in_the_store_once_settled() {
        let store: Arc<dyn CatalogStore> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let (journal, keeper) = Journal::open(Arc::clone(&store), &Handle::current());
        for n in 0..600 {
            journal.record(record(&format!("q{n}"), QueryState::Direct));
        }
        journal.settled().await;
        assert_eq!(store.queries(1_000).await.unwrap().len(), 600);
        drop(keeper);
        journal.settled().await;
    }

    #[tokio::test]
    async fn what_was_recorded_is_in_the_store_after_close() {
        let store: Arc<dyn CatalogStore> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let (journal, keeper) = Journal::open(Arc::clone(&store), &Handle::current());
        for n in 0..100 {
            journal.record(record(&format!("q{n}"), QueryState::Finished));
        }
        drop(journal);
        keeper.close(Duration::from_secs(10)).await;
        assert_eq!(store.queries(1_000).await.unwrap().len(), 100);
    }
}
