//! The same workers as shuffled queries see them: which of those that hold chunks answer now.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use skyflight_catalog::WorkerId;
use skyflight_engine::Result;
use skyflight_engine::shuffle::ShuffleCluster;
use skyflight_proto::ClusterKeys;
use skyflight_proto::tls::Dialer;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::directory::Listing;
use super::silence::ping;
use super::{FlightDispatcher, Shared};

#[async_trait]
impl ShuffleCluster for FlightDispatcher {
    /// Asks them all at once. A shuffled query needs every worker it uses from beginning to end, so
    /// one that has fallen silent a moment ago is better found before.
    async fn reachable(&self, workers: &[WorkerId]) -> Result<Vec<Option<String>>> {
        let listing = self.shared.book.listing().await?;
        let asked = workers.iter().map(|worker| {
            let (shared, listing, worker) = (Arc::clone(&self.shared), Arc::clone(&listing), worker.clone());
            // Connections are made on the runtime that drives them.
            let asking = self.shared.runtime.spawn(async move { shared.reach(&worker, &listing).await });
            async move { AbortOnDropHandle::new(asking).await.ok().flatten() }
        });
        Ok(join_all(asked).await)
    }

    fn keys(&self) -> Arc<ClusterKeys> {
        Arc::clone(&self.shared.keys)
    }

    fn dialer(&self) -> Dialer {
        self.shared.config.dialer.clone()
    }

    fn network(&self) -> Handle {
        self.shared.runtime.clone()
    }
}

impl Shared {
    /// The worker's address, if it answers a ping there.
    pub(super) async fn reach(&self, worker: &WorkerId, listing: &Listing) -> Option<String> {
        let address = &listing.get(worker)?.address;
        let lease = self.pool.lease(address).await.ok()?;
        let answer = tokio::time::timeout(self.config.connect_timeout, ping(&mut lease.client())).await;
        // A worker that was started again elsewhere may have left its port to another.
        if answer.ok().flatten().is_some_and(|status| status.worker == worker.0) {
            return Some(address.clone());
        }
        lease.condemn();
        self.book.record_failure(worker);
        None
    }
}
