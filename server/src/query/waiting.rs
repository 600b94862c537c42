//! Planned queries between GetFlightInfo and DoGet, so that planning is done once.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use skyflight_engine::PlannedQuery;
use uuid::Uuid;

use super::QueryLife;

/// Most chunks of memory in all plans that wait, of about a hundred bytes each: see [`QueryLife::weight`].
const CHUNKS_WAITING: u64 = 1_000_000;

/// Most cancelled queries whose tickets are remembered as void.
const TICKETS_VOID: u64 = 100_000;

/// A plan and its open record. It runs once: its cancel token and counters are of one run.
#[derive(Debug)]
pub(crate) struct WaitingQuery {
    pub(crate) planned: PlannedQuery,
    pub(crate) life: QueryLife,
}

/// The plans that wait, by query id. A plan that is not fetched in time, or has to make room, is
/// dropped, which closes its record; its ticket stays good and is planned again.
#[derive(Debug, Clone)]
pub(crate) struct WaitingQueries {
    // The mutex gives the plan to the one fetch that takes it: cached values can only be cloned.
    plans: Cache<Uuid, Arc<Mutex<Option<WaitingQuery>>>>,
    /// Queries whose tickets are void, because they were cancelled.
    void: Cache<Uuid, ()>,
}

impl WaitingQueries {
    /// Plans wait for at most `patience`, and at most `most` of them; tickets are good for `ticket_ttl`.
    pub(crate) fn new(patience: Duration, most: usize, ticket_ttl: Duration) -> Self {
        let share = (CHUNKS_WAITING / most.max(1) as u64).max(1);
        let weigh = move |_: &Uuid, plan: &Arc<Mutex<Option<WaitingQuery>>>| {
            let chunks = plan.lock().as_ref().map_or(0, |waiting| waiting.life.weight());
            u32::try_from(chunks.max(share)).unwrap_or(u32::MAX)
        };
        // The newest are the ones that are about to be fetched, or redeemed though they are void.
        let plans = Cache::builder().max_capacity(CHUNKS_WAITING).weigher(weigh).time_to_live(patience);
        let void = Cache::builder().max_capacity(TICKETS_VOID).time_to_live(ticket_ttl);
        WaitingQueries {
            plans: plans.eviction_policy(EvictionPolicy::lru()).build(),
            void: void.eviction_policy(EvictionPolicy::lru()).build(),
        }
    }

    /// Keeps a plan for its fetch.
    pub(crate) fn put(&self, id: Uuid, waiting: WaitingQuery) {
        self.plans.insert(id, Arc::new(Mutex::new(Some(waiting))));
    }

    /// Takes the plan away; the next fetch of the same query plans again.
    pub(crate) fn take(&self, id: Uuid) -> Option<WaitingQuery> {
        self.plans.remove(&id)?.lock().take()
    }

    /// A query was cancelled: its ticket gives no rows any more.
    pub(crate) fn void(&self, id: Uuid) {
        self.void.insert(id, ());
    }

    /// Whether a query's ticket is void.
    pub(crate) fn is_void(&self, id: Uuid) -> bool {
        self.void.contains_key(&id)
    }

    /// How many wait, nearly: those that have just come or gone may not be counted yet.
    pub(crate) fn len(&self) -> u64 {
        self.plans.entry_count()
    }

    /// Drops what has waited too long. The cache itself does so only when it is used.
    pub(crate) fn sweep(&self) {
        self.plans.run_pending_tasks();
        self.void.run_pending_tasks();
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.plans.invalidate_all();
        self.plans.run_pending_tasks();
    }
}
