//! How many queries may plan or run at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skyflight_proto::FailureKind;
use tonic::Status;

use crate::places::{self, Full, Places};

/// How often a draining coordinator looks whether all queries have ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Lets in as many queries as the limit says and refuses the rest at once: a queue without an end
/// would only hide that there are too many.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    places: Places<String>,
    limit: usize,
    /// The most places of one user, where users are told apart.
    share: usize,
    /// No new query is let in any more.
    closed: Arc<AtomicBool>,
}

/// The place of one query; given back on drop.
pub(crate) type Place = places::Place<String>;

impl Gate {
    /// So many places; of those a user gets half, where users are told apart.
    pub(crate) fn new(limit: usize, by_user: bool) -> Self {
        let limit = limit.max(1);
        let share = if by_user { limit.div_ceil(2) } else { limit };
        Gate { places: Places::new(limit, share), limit, share, closed: Arc::default() }
    }

    /// Lets a new query of `user` in.
    ///
    /// Errors: `ResourceExhausted`, naming the limit; `Unavailable` when the gate is closed.
    pub(crate) fn enter(&self, user: &str) -> Result<Place, Status> {
        if self.is_closed() {
            return Err(FailureKind::Unavailable
                .status("this coordinator is shutting down and takes no new queries; try again or ask another"));
        }
        self.enter_announced(user)
    }

    /// Lets in a query that was announced before, also when the gate is closed.
    ///
    /// Errors: `ResourceExhausted`, naming the limit.
    pub(crate) fn enter_announced(&self, user: &str) -> Result<Place, Status> {
        self.places.enter(user.to_owned()).map_err(|Full { all, own }| {
            let is_share = own >= self.share && self.share < self.limit;
            let (running, whose) = if is_share { (own, " of yours") } else { (all, "") };
            FailureKind::ResourceExhausted.status(format!(
                "{running} queries{whose} are running, which is the limit (max_queries); try again when one has ended"
            ))
        })
    }

    /// Lets no new query in from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// How many queries plan or run now.
    pub(crate) fn running(&self) -> usize {
        self.places.taken()
    }

    /// Waits until none does.
    pub(crate) async fn idle(&self) {
        // Waiting for all places would take those away that become free meanwhile.
        while self.running() > 0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_named_and_places_are_given_back() {
        let gate = Gate::new(2, false);
        let first = gate.enter("ada").unwrap();
        let _second = gate.enter("ada").unwrap();
        let refused = gate.enter("ada").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("max_queries") && refused.message().contains('2'));
        drop(first);
        assert!(gate.enter("ada").is_ok());
    }

    #[test]
    fn one_user_leaves_half_for_the_others() {
        let gate = Gate::new(5, true);
        let places: Vec<Place> = (0..3).map(|_| gate.enter("ada").unwrap()).collect();
        let refused = gate.enter("ada").unwrap_err();
        assert!(refused.message().contains("3 queries of yours"), "{refused}");
        let others = [gate.enter("vera").unwrap(), gate.enter("vera").unwrap()];
        assert!(gate.enter("eve").unwrap_err().message().contains("5 queries are"));
        drop((places, others));
        assert!(gate.places.is_forgotten() && gate.running() == 0);
        let only = Gate::new(1, true);
        let place = only.enter("ada").unwrap();
        assert!(only.enter("vera").is_err());
        drop(place);
        assert!(only.enter("vera").is_ok());
    }

    #[tokio::test]
    async fn a_closed_gate_lets_nobody_new_in_and_waits_for_the_others() {
        let gate = Gate::new(2, false);
        let place = gate.enter("ada").unwrap();
        assert_eq!(gate.running(), 1);
        gate.close();
        assert_eq!(gate.enter("ada").unwrap_err().code(), tonic::Code::Unavailable);
        assert!(gate.enter_announced("ada").is_ok());
        assert!(tokio::time::timeout(Duration::from_millis(50), gate.idle()).await.is_err());
        drop(place);
        tokio::time::timeout(Duration::from_secs(5), gate.idle()).await.unwrap();
        assert_eq!(gate.running(), 0);
    }
}
