//! The queries that live now, by id, so that they can be seen and cancelled. The registry owns none of
//! them: an entry is gone with the query's record, which always closes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use skyflight_catalog::Estimated;
use skyflight_engine::dispatch::QueryContext;
use uuid::Uuid;

use crate::error::shortened;

/// Bytes that are kept of a query's text, and of the reason why it failed: records outlive their queries.
pub(crate) const TEXT_BYTES: usize = 16 << 10;

/// A query that lives, as others may see it.
#[derive(Debug)]
pub(crate) struct LiveQuery {
    pub(crate) query: QueryContext,
    /// Its text, or the beginning of a long one.
    pub(crate) sql: String,
    /// The length of its whole text, in bytes.
    pub(crate) sql_bytes: usize,
    pub(crate) started_ms: i64,
    /// Set when it is planned.
    pub(crate) estimate: OnceLock<Estimated>,
    /// Whether its rows are being fetched, and not only waited for.
    pub(crate) executing: AtomicBool,
    /// Whether this is one endpoint of a query that was handed out, redeemed here.
    pub(crate) is_part: bool,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl LiveQuery {
    pub(crate) fn new(query: QueryContext, sql: &str, started_ms: i64) -> Self {
        LiveQuery {
            query,
            sql: shortened(sql, TEXT_BYTES),
            sql_bytes: sql.len(),
            started_ms,
            estimate: OnceLock::new(),
            executing: AtomicBool::new(false),
            is_part: false,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// One endpoint of a query that was handed out.
    pub(crate) fn part(query: QueryContext, sql: &str, started_ms: i64) -> Self {
        LiveQuery { is_part: true, ..LiveQuery::new(query, sql, started_ms) }
    }

    /// A message left for the client.
    pub(crate) fn sent(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Rows and bytes that left for the client.
    pub(crate) fn gone(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// What was expected of it; nothing before it is planned.
    pub(crate) fn expected(&self) -> Estimated {
        self.estimate.get().copied().unwrap_or_default()
    }
}

/// See the module. Cheap to clone. It is as large as the number of queries that plan, wait and run,
/// each of which is bounded.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunningQueries {
    // A ticket that is redeemed twice gives two queries of one id.
    entries: Arc<Mutex<HashMap<Uuid, Vec<Weak<LiveQuery>>>>>,
}

impl RunningQueries {
    pub(crate) fn enter(&self, live: LiveQuery) -> Arc<LiveQuery> {
        let live = Arc::new(live);
        self.entries.lock().entry(live.query.id).or_default().push(Arc::downgrade(&live));
        live
    }

    /// Takes a query out.
    pub(crate) fn leave(&self, live: &Arc<LiveQuery>) {
        let mut entries = self.entries.lock();
        if let Some(same) = entries.get_mut(&live.query.id) {
            same.retain(|entry| !std::ptr::eq(entry.as_ptr(), Arc::as_ptr(live)));
            if same.is_empty() {
                entries.remove(&live.query.id);
            }
        }
    }

    /// The queries of that id which belong to `user`.
    pub(crate) fn find(&self, user: &str, id: Uuid) -> Vec<Arc<LiveQuery>> {
        let entries = self.entries.lock();
        let found = entries.get(&id).into_iter().flatten().filter_map(Weak::upgrade);
        found.filter(|live| live.query.user == user).collect()
    }

    /// All queries of a user.
    pub(crate) fn of_user(&self, user: &str) -> Vec<Arc<LiveQuery>> {
        let entries = self.entries.lock();
        let all = entries.values().flatten().filter_map(Weak::upgrade);
        all.filter(|live| live.query.user == user).collect()
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_found_by_its_user_until_it_leaves() {
        let running = RunningQueries::default();
        let query = QueryContext::new("ann");
        let enter = || running.enter(LiveQuery::new(query.clone(), "SELECT 1", 5));
        let (first, second) = (enter(), enter());
        assert_eq!(running.find("ann", query.id).len(), 2);
        assert!(running.find("bob", query.id).is_empty() && running.of_user("bob").is_empty());
        running.leave(&first);
        assert_eq!(running.of_user("ann").len(), 1);
        first.query.cancel.cancel();
        assert!(second.query.cancel.is_cancelled(), "one token for one query");
        running.leave(&second);
        assert_eq!(running.len(), 0);
    }

    #[test]
    fn the_registry_owns_nothing() {
        let running = RunningQueries::default();
        let live = running.enter(LiveQuery::new(QueryContext::new("ann"), "SELECT 1", 5));
        let seen = Arc::downgrade(&live);
        drop(live);
        assert!(seen.upgrade().is_none() && running.of_user("ann").is_empty());
    }
}
