//! How many queries may plan or run at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skyflight_proto::FailureKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// How often a draining coordinator looks whether all queries have ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Lets in as many queries as the limit says and refuses the rest at once: a queue without an end
/// would only hide that there are too many.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    limit: usize,
    /// No new query is let in any more.
    closed: Arc<AtomicBool>,
}

/// The place of one query; given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Gate { places: Arc::new(Semaphore::new(limit)), limit, closed: Arc::default() }
    }

    /// Lets a new query in.
    ///
    /// Errors: `ResourceExhausted`, naming the limit; `Unavailable` when the gate is closed.
    pub(crate) fn enter(&self) -> Result<Place, Status> {
        if self.is_closed() {
            return Err(FailureKind::Unavailable
                .status("this coordinator is shutting down and takes no new queries; try again or ask another"));
        }
        self.enter_announced()
    }

    /// Lets in a query that was announced before, also when the gate is closed.
    ///
    /// Errors: `ResourceExhausted`, naming the limit.
    pub(crate) fn enter_announced(&self) -> Result<Place, Status> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(_) => Err(FailureKind::ResourceExhausted.status(format!(
                "{} queries are running, which is the limit (max_queries); try again when one has ended",
                self.limit
            ))),
        }
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
        self.limit.saturating_sub(self.places.available_permits())
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
        let gate = Gate::new(2);
        let first = gate.enter().unwrap();
        let _second = gate.enter().unwrap();
        let refused = gate.enter().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("max_queries") && refused.message().contains('2'));
        drop(first);
        assert!(gate.enter().is_ok());
    }

    #[tokio::test]
    async fn a_closed_gate_lets_nobody_new_in_and_waits_for_the_others() {
        let gate = Gate::new(2);
        let place = gate.enter().unwrap();
        assert_eq!(gate.running(), 1);
        gate.close();
        assert_eq!(gate.enter().unwrap_err().code(), tonic::Code::Unavailable);
        assert!(gate.enter_announced().is_ok());
        assert!(tokio::time::timeout(Duration::from_millis(50), gate.idle()).await.is_err());
        drop(place);
        tokio::time::timeout(Duration::from_secs(5), gate.idle()).await.unwrap();
        assert_eq!(gate.running(), 0);
    }
}
