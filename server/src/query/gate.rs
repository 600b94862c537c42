//! How many queries may plan or run at a time.

use std::sync::Arc;

use skyflight_proto::FailureKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Lets in as many queries as the limit says and refuses the rest at once: a queue without an end
/// would only hide that there are too many.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    limit: usize,
}

/// The place of one query; given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Gate { places: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Errors: `ResourceExhausted`, naming the limit.
    pub(crate) fn enter(&self) -> Result<Place, Status> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(_) => Err(FailureKind::ResourceExhausted.status(format!(
                "{} queries are running, which is the limit (max_queries); try again when one has ended",
                self.limit
            ))),
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
}
