//! Queries that were cancelled while clients read their rows from this worker.
//!
//! A client that goes away ends its streams by itself. A query that is cancelled by somebody else, or
//! whose endpoints are not all open yet, is recalled: what runs of it ends, and its tickets open
//! nothing here any more.

use std::collections::HashMap;
use std::sync::Arc;

use moka::sync::Cache;
use parking_lot::Mutex;
use skyflight_proto::wire::RECALL_MEMORY;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use uuid::Uuid;

use crate::{Result, WorkerError};

/// Recalled queries that are remembered at most.
const REMEMBERED: u64 = 100_000;

/// Knows which queries have streams to clients here, and which were recalled.
#[derive(Debug)]
pub(crate) struct Recalls {
    running: Mutex<HashMap<Uuid, Streams>>,
    recalled: Cache<Uuid, ()>,
}

#[derive(Debug)]
struct Streams {
    token: CancellationToken,
    count: u32,
}

/// One stream of a query; on record until dropped.
#[derive(Debug)]
pub(crate) struct RunningStream {
    recalls: Arc<Recalls>,
    query: Uuid,
    token: CancellationToken,
}

impl Recalls {
    pub(crate) fn new() -> Arc<Recalls> {
        let recalled = Cache::builder().max_capacity(REMEMBERED).time_to_live(RECALL_MEMORY).build();
        Arc::new(Recalls { running: Mutex::default(), recalled })
    }

    /// Puts a stream of `query` on record. There are no more of them than tasks.
    ///
    /// # Errors
    /// `Recalled`.
    pub(crate) fn enter(self: &Arc<Self>, query: Uuid) -> Result<RunningStream> {
        let mut running = self.running.lock();
        // Under the lock, so that a recall either is seen here or sees this stream.
        if self.recalled.contains_key(&query) {
            return Err(WorkerError::Recalled);
        }
        let streams = running.entry(query).or_insert_with(|| Streams { token: CancellationToken::new(), count: 0 });
        streams.count += 1;
        Ok(RunningStream { recalls: Arc::clone(self), query, token: streams.token.clone() })
    }

    /// Ends the streams of `query`, and lets none begin; how many were running.
    pub(crate) fn recall(&self, query: Uuid) -> u32 {
        let running = self.running.lock();
        self.recalled.insert(query, ());
        running.get(&query).map_or(0, |streams| {
            streams.token.cancel();
            streams.count
        })
    }
}

impl RunningStream {
    /// Ready once the query is recalled.
    pub(super) fn recalled(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }
}

impl Drop for RunningStream {
    fn drop(&mut self) {
        let mut running = self.recalls.running.lock();
        if let Some(streams) = running.get_mut(&self.query) {
            streams.count -= 1;
            if streams.count == 0 {
                running.remove(&self.query);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_recall_ends_the_streams_of_its_query_and_lets_none_begin() {
        let recalls = Recalls::new();
        let (ours, others) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = recalls.enter(ours).unwrap();
        let second = recalls.enter(ours).unwrap();
        let other = recalls.enter(others).unwrap();
        drop(first);
        assert_eq!(second.recalled().now_or_never(), None);
        assert_eq!(recalls.recall(ours), 1);
        assert_eq!(second.recalled().now_or_never(), Some(()));
        assert_eq!(other.recalled().now_or_never(), None);
        assert!(matches!(recalls.enter(ours), Err(WorkerError::Recalled)));
        drop(second);
        assert_eq!(recalls.recall(ours), 0);
        assert!(matches!(recalls.enter(ours), Err(WorkerError::Recalled)));
        drop(other);
        assert!(recalls.running.lock().is_empty(), "nothing is kept of streams that ended");
    }
}
