//! A coordinator from its start to its end: what it is made of, who owns what, and in which order
//! it stops.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use skyflight_catalog::CatalogStore;
use skyflight_engine::dispatch::ChunkDispatcher;
use skyflight_engine::{Engine, EngineConfig};
use skyflight_proto::wire::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::config::CoordinatorConfig;
use crate::error::ServerError;
use crate::flight_sql::{EndpointPolicy, Face, OwnTables, Statements, StatementsConfig};
use crate::query::{Gate, Journal, JournalKeeper, WaitingQueries};
use crate::session::Sessions;

/// The largest message a client may send. SQL text of 1 MiB travels in tickets and handles too.
const MOST_RECEIVED_BYTES: usize = 16 << 20;

/// Planners recurse: the deepest statement that the guard lets pass needs several MiB of stack.
const STACK_BYTES: usize = 16 << 20;

/// HTTP/2 pings on silent connections find clients that are gone without a word.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls that one connection may have open at a time.
const STREAMS_PER_CONNECTION: u32 = 1_024;

/// How often plans that have waited too long are dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long cancelled queries may take to tell their clients.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);

/// How long the last query records may take to be written.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(5);

/// A coordinator that serves. Dropping it stops it at once; [`RunningCoordinator::shutdown`] lets
/// what runs come to its end first.
pub struct RunningCoordinator {
    address: SocketAddr,
    grace: Duration,
    /// Takes no more calls.
    close: Option<oneshot::Sender<()>>,
    /// Stops every query.
    stop: DropGuard,
    server: AbortOnDropHandle<Result<(), tonic::transport::Error>>,
    sweeper: AbortOnDropHandle<()>,
    waiting: WaitingQueries,
    keeper: JournalKeeper,
    // Last: what runs on it is stopped by those above.
    cpu: CpuRuntime,
}

impl fmt::Debug for RunningCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningCoordinator").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts a coordinator on the records in `store`, whose fragments run where `dispatcher` sends
/// them. To be called on the runtime that is to do the network work; planning and merging get
/// threads of their own.
///
/// # Errors
/// The address cannot be listened on, the threads cannot be made, or the spill folder cannot be used.
pub async fn start(
    config: CoordinatorConfig,
    store: Arc<dyn CatalogStore>,
    dispatcher: Arc<dyn ChunkDispatcher>,
) -> Result<RunningCoordinator, ServerError> {
    let failed = |cause| ServerError::Listen { address: config.listen, cause };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let network = Handle::current();
    let cpu = CpuRuntime::new(config.threads)?;
    let (journal, keeper) = Journal::open(Arc::clone(&store), &network);
    let stop = CancellationToken::new();
    let waiting = WaitingQueries::new(config.plan_ttl, config.plans_waiting);
    let engine = Engine::new(engine_config(&config, cpu.handle()), Arc::clone(&store), Arc::clone(&dispatcher))?;

    let statements = Statements::new(StatementsConfig {
        engine,
        dispatcher,
        keys: Arc::clone(&config.keys),
        journal,
        waiting: waiting.clone(),
        gate: Gate::new(config.max_queries),
        cpu: cpu.handle(),
        stop: stop.clone(),
        ticket_ttl: config.ticket_ttl,
        endpoints: EndpointPolicy { mode: config.endpoints, direct_bytes: config.direct_bytes, secure: false },
        sql_limits: config.sql_limits.clone(),
        own_tables: OwnTables::new(config.table_writer.clone(), Arc::clone(&store), config.user_quota),
    });
    let sessions = Sessions::new(Arc::clone(&config.keys), config.token_ttl, config.default_database.clone());
    let face = Face { sessions, statements, store, keys: Arc::clone(&config.keys) };

    let (close, closed) = oneshot::channel();
    let server = AbortOnDropHandle::new(network.spawn(serve(face, listener, closed)));
    let sweeper = AbortOnDropHandle::new(network.spawn(sweep(waiting.clone())));
    tracing::info!(%address, "coordinator serves Flight SQL");
    Ok(RunningCoordinator {
        address,
        grace: config.shutdown_grace,
        close: Some(close),
        stop: stop.drop_guard(),
        server,
        sweeper,
        waiting,
        keeper,
        cpu,
    })
}

impl RunningCoordinator {
    /// Where it listens, with the port it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, lets those that run end within the configured grace, cancels the rest,
    /// and writes the last query records.
    ///
    /// # Errors
    /// The server had failed before.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        if let Some(close) = self.close.take() {
            // The server may have ended by itself; its result says why.
            let _ = close.send(());
        }
        let mut served = tokio::time::timeout(self.grace, &mut self.server).await;
        if served.is_err() {
            drop(self.stop);
            served = tokio::time::timeout(CANCEL_PATIENCE, &mut self.server).await;
        }
        self.server.abort();
        self.sweeper.abort();
        // Plans that wait hold the journal open. So do the streams of clients that neither read nor
        // go away; their records stay open.
        self.waiting.clear();
        self.keeper.close(JOURNAL_PATIENCE).await;
        drop(self.cpu);
        tracing::info!(address = %self.address, "coordinator stopped");
        match served {
            Ok(Ok(ended)) => ended.map_err(ServerError::from),
            // Cut off by us, or still busy with a client that does not read.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }
}

async fn serve(
    face: Face,
    listener: TcpListener,
    closed: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    // Without nodelay a tiny DoGet waits 40 ms for an acknowledgement.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE_INTERVAL));
    let service = FlightServiceServer::new(face).max_decoding_message_size(MOST_RECEIVED_BYTES);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, async {
            // An error means that the coordinator was dropped, which is a stop as well.
            let _ = closed.await;
        })
        .await
}

async fn sweep(waiting: WaitingQueries) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        waiting.sweep();
    }
}

fn engine_config(config: &CoordinatorConfig, runtime: Handle) -> EngineConfig {
    EngineConfig {
        target_partitions: config.merge_partitions,
        memory_bytes: config.memory_bytes,
        spill_dir: config.spill_dir.clone(),
        spill_bytes: config.spill_bytes,
        index_dir: config.index_dir.clone(),
        limits: config.sql_limits.clone(),
        default_database: config.default_database.clone(),
        shuffle: config.shuffle.clone(),
        runtime,
    }
}

/// The threads that plan and merge. A runtime must not be dropped where others wait; this one is
/// let go without waiting.
struct CpuRuntime(Option<Runtime>);

impl CpuRuntime {
    fn new(threads: usize) -> Result<Self, ServerError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_stack_size(STACK_BYTES)
            .thread_name("skyflight-plan")
            .enable_all()
            .build()
            .map_err(ServerError::Threads)?;
        Ok(CpuRuntime(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        match &self.0 {
            Some(runtime) => runtime.handle().clone(),
            // Only between take and the end of drop, which nobody sees.
            None => Handle::current(),
        }
    }
}

impl Drop for CpuRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
