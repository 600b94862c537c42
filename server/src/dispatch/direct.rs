//! The same workers as clients are sent to them: who can be reached, and how a query is called back.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Action;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use skyflight_catalog::WorkerId;
use skyflight_engine::Result;
use skyflight_engine::dispatch::DirectWorkers;
use skyflight_proto::ticket::Body;
use skyflight_proto::wire::ACTION_RECALL;
use skyflight_proto::{RecallTicket, Ticket};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::directory::unix_ms;
use super::{FlightDispatcher, Shared};

/// How long one worker may take to hear of a recall, and how many are told at a time.
const RECALL_PATIENCE: Duration = Duration::from_secs(1);
const RECALLS_AT_ONCE: usize = 64;

#[async_trait]
impl DirectWorkers for FlightDispatcher {
    /// Asks those that have not failed lately, all at once: a client that is sent to a worker in vain
    /// is slower to find another than we are.
    async fn addresses(&self, workers: &[WorkerId]) -> Result<Vec<Option<String>>> {
        let book = &self.shared.book;
        let listing = book.listing().await?;
        let asked = workers.iter().map(|worker| {
            let asking = (!book.doubtful(worker, &listing)).then(|| {
                let (shared, listing, worker) = (Arc::clone(&self.shared), Arc::clone(&listing), worker.clone());
                // Connections are made on the runtime that drives them.
                AbortOnDropHandle::new(self.shared.runtime.spawn(async move { shared.reach(&worker, &listing).await }))
            });
            async move {
                match asking {
                    Some(asking) => asking.await.ok().flatten(),
                    None => None,
                }
            }
        });
        Ok(join_all(asked).await)
    }

    async fn recall(&self, user: &str, query: Uuid) {
        let listing = match self.shared.book.listing().await {
            Ok(listing) => listing,
            Err(error) => {
                tracing::warn!(query_id = %query, %error, "a query is not recalled: the workers are not known");
                return;
            }
        };
        let signed = self.shared.keys.sign(&Ticket {
            expires_unix_ms: unix_ms().saturating_add(self.shared.config.ticket_ttl.as_millis() as i64),
            user: user.to_owned(),
            query_id: Bytes::copy_from_slice(query.as_bytes()),
            body: Some(Body::Recall(RecallTicket {})),
        });
        let living = listing.values().filter(|worker| !self.shared.book.silent(&worker.id, &listing));
        let told: Vec<_> = living
            .map(|worker| {
                let (shared, signed) = (Arc::clone(&self.shared), signed.clone());
                let (id, address) = (worker.id.clone(), worker.address.clone());
                async move {
                    let runtime = shared.runtime.clone();
                    let telling =
                        async move { tokio::time::timeout(RECALL_PATIENCE, shared.recall(&address, signed)).await };
                    if !matches!(AbortOnDropHandle::new(runtime.spawn(telling)).await, Ok(Ok(true))) {
                        tracing::warn!(query_id = %query, worker = %id, "a worker did not hear of a recall");
                    }
                }
            })
            .collect();
        futures::stream::iter(told).buffer_unordered(RECALLS_AT_ONCE).collect::<()>().await;
    }
}

impl Shared {
    /// Whether the worker at `address` has heard of it.
    async fn recall(&self, address: &str, signed: Bytes) -> bool {
        let Ok(lease) = self.pool.lease(address).await else { return false };
        lease.client().do_action(Action { r#type: ACTION_RECALL.to_owned(), body: signed }).await.is_ok()
    }
}
