//! The workers as the coordinator knows them: each says every two seconds that it lives, and what
//! it said last stands in the catalog store, where the dispatcher looks it up
//! ([`crate::dispatch::StoreDirectory`]).

use skyflight_catalog::{CatalogError, CatalogStore, Worker, WorkerCapacity, WorkerId};
use skyflight_engine::EngineError;
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, FailureKind, RegisterWorker};
use tonic::Status;

use crate::clock::unix_ms;
use crate::error::{bad_request, status_of};

/// Records a worker's sign of life, given as a signed ticket.
///
/// Errors: `Unauthenticated` for a ticket that is not good, or not a registration;
/// `InvalidArgument` for a worker id or an address that cannot be used.
pub(crate) async fn register_worker(keys: &ClusterKeys, store: &dyn CatalogStore, signed: &[u8]) -> Result<(), Status> {
    let now = unix_ms();
    let Some(Body::RegisterWorker(said)) = keys.verify(signed, now)?.body else {
        return Err(FailureKind::Unauthenticated.status("this ticket does not register a worker"));
    };
    if !(said.address.starts_with("http://") || said.address.starts_with("https://")) {
        return Err(bad_request(format!("a worker's address is http://host:port, not \"{}\"", said.address)));
    }
    let worker = record(said, now);
    tracing::trace!(worker = %worker.id, address = worker.address, "worker lives");
    store.register_worker(&worker).await.map_err(|error| match error {
        CatalogError::Invalid(message) => bad_request(message),
        other => status_of(&EngineError::Catalog(other), None),
    })
}

fn record(said: RegisterWorker, now_unix_ms: i64) -> Worker {
    Worker {
        id: WorkerId(said.worker),
        address: said.address,
        // The coordinator's clock, not the worker's: ages are compared with it.
        last_seen_unix_ms: now_unix_ms,
        started_unix_ms: said.started_unix_ms,
        capacity: WorkerCapacity { cores: said.cores, files: said.files, bytes: said.bytes },
    }
}
