//! Runs a fragment on chunks of many workers, each exactly once, over Arrow Flight.
//!
//! The way of one dispatch:
//!
//! 1. [`FlightDispatcher`] gives a `relay` stream; when it is first polled, a `driver` starts.
//! 2. The driver gives each chunk to the least loaded worker that holds it (`roster`) and opens
//!    one DoGet stream per worker, with all of that worker's chunks in one signed `ticket`.
//! 3. A `task` reads such a stream. Its `ledger` knows what has come of each chunk and what of
//!    it counts; frames that must wait for their trailer wait in a `hold`; the others go, as
//!    bytes, through a channel bounded in bytes to the consumer. When that is full, nobody reads
//!    the sockets, and HTTP/2 stops the workers.
//! 4. A stream that fails gives its unfinished chunks back, each with the number of rows the
//!    consumer already has, and the driver gives them to replicas.
//! 5. The relay ends well only when the driver has counted every chunk as committed and the rows
//!    that left the relay are those the tasks put in.
//!
//! What is proved of a row before it is passed on: in a held dispatch everything (rows, batches and
//! digest of its whole chunk). In a streamed one its frame's header, schema and place in the
//! sequence, and for the last frame of every chunk, thus for every chunk of one frame, the digest
//! too. When the digest of a longer streamed chunk turns out wrong, rows that were altered on the
//! way may have been passed on; the query ends with `EngineError::Corrupt` (`DataLoss`), never as
//! if it were complete. When a worker dies or talks nonsense in mid-chunk, the rows that went before
//! are under no digest, only under TCP's checksum and the checks of the headers: a running digest
//! would have to travel with each batch to close that gap.
//!
//! Where a client fetches rows from the workers itself, `endpoints` divides the chunks among them,
//! `endpoint_ticket` writes what each endpoint's ticket asks for, and `direct` knows who can be
//! reached. Such a ticket holds a whole dispatch of its chunks, so any coordinator runs it too.
//!
//! The work of one chunk is two Flight messages read and a few counters in vectors: no RPC, no
//! task, no log line, no map entry of its own.

mod config;
mod direct;
mod directory;
mod driver;
mod endpoint_ticket;
mod endpoints;
mod failure;
mod hold;
mod ledger;
mod pool;
mod relay;
mod roster;
mod shape;
mod shuffle;
mod silence;
mod task;
mod ticket;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use futures::StreamExt;
use parking_lot::Mutex;
use skyflight_engine::dispatch::{ChunkDispatcher, DirectWorkers, DispatchRequest, FrameStream};
use skyflight_engine::shuffle::ShuffleCluster;
use skyflight_proto::ClusterKeys;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use config::DispatchConfig;
pub use directory::{StoreDirectory, WorkerAddress, WorkerDirectory};

pub(crate) use endpoint_ticket::{endpoint_ticket, request_of};
pub(crate) use endpoints::divide;

use directory::AddressBook;
use hold::Hold;
use pool::Pool;
use relay::{Outlet, Relay};
use shape::FrameShape;
use task::Work;

/// The [`ChunkDispatcher`] of a cluster whose workers speak Arrow Flight. Cheap to clone; clones
/// share connections.
#[derive(Clone)]
pub struct FlightDispatcher {
    shared: Arc<Shared>,
}

/// What all dispatches share.
struct Shared {
    config: DispatchConfig,
    keys: Arc<ClusterKeys>,
    book: AddressBook,
    pool: Pool,
    /// The room for held frames of each running query, over its dispatches.
    holds: Mutex<HashMap<Uuid, Weak<Hold>>>,
    runtime: Handle,
}

impl FlightDispatcher {
    /// A dispatcher that signs tickets with the first of `keys`, finds workers in `directory`, and
    /// does its network work on `runtime`. Connections are made when they are first needed.
    pub fn new(
        config: DispatchConfig,
        keys: Arc<ClusterKeys>,
        directory: Arc<dyn WorkerDirectory>,
        runtime: Handle,
    ) -> Self {
        FlightDispatcher {
            shared: Arc::new(Shared {
                pool: Pool::new(&config),
                config,
                keys,
                book: AddressBook::new(directory),
                holds: Mutex::default(),
                runtime,
            }),
        }
    }
}

impl ChunkDispatcher for FlightDispatcher {
    /// Errors of the stream, always its last item: `Unavailable` when a chunk has no worker left,
    /// `Corrupt` when rows already given turn out to be altered, `ResourceExhausted` when held rows
    /// need too much disk or a worker has too many streams, `Cancelled`, or what a worker says of
    /// the query itself.
    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        let shared = Arc::clone(&self.shared);
        let buffer_bytes = shared.config.buffer_bytes;
        let start = move |outlet: Outlet, end: tokio::sync::oneshot::Sender<_>| {
            let runtime = shared.runtime.clone();
            let work = Arc::new(Work {
                shape: FrameShape::new(&request.schema),
                hold: shared.hold(request.query.id),
                request,
                shared,
            });
            AbortOnDropHandle::new(runtime.spawn(async move {
                let ended = driver::drive(work, outlet).await;
                // The consumer may have gone; then nobody wants to know.
                let _ = end.send(ended);
            }))
        };
        Relay::new(buffer_bytes, start).boxed()
    }

    fn direct(&self) -> Option<Arc<dyn DirectWorkers>> {
        Some(Arc::new(self.clone()))
    }

    fn shuffle(&self) -> Option<Arc<dyn ShuffleCluster>> {
        Some(Arc::new(self.clone()))
    }
}

impl Shared {
    fn hold(&self, query: Uuid) -> Arc<Hold> {
        let mut holds = self.holds.lock();
        if let Some(hold) = holds.get(&query).and_then(Weak::upgrade) {
            return hold;
        }
        holds.retain(|_, hold| hold.strong_count() > 0);
        let hold = Arc::new(Hold::new(&self.config));
        holds.insert(query, Arc::downgrade(&hold));
        hold
    }
}

impl fmt::Debug for FlightDispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightDispatcher").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
