//! A coordinator from its start to its end: what it is made of, who owns what, and in which order
//! it stops.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::Stream;
use skyflight_catalog::CatalogStore;
use skyflight_engine::dispatch::ChunkDispatcher;
use skyflight_engine::{Engine, EngineConfig, EngineError};
use skyflight_proto::tls::{Connection, incoming};
use skyflight_proto::wire::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use crate::auth::{self, Auth, AuthMode, Door};
use crate::clock::unix_ms;
use crate::config::CoordinatorConfig;
use crate::error::ServerError;
use crate::figures::{self, CoordinatorFigures};
use crate::flight_sql::{EndpointPolicy, Face, OwnTables, Statements, StatementsConfig};
use crate::jobs::{JobBook, Jobs, JobsParts, KeepingDispatcher};
use crate::query::{Gate, Journal, JournalKeeper, WaitingQueries, prune};
use crate::session::{Lifetimes, Sessions};
use crate::system::SystemView;

/// The largest message a client may send. SQL text, of at most 3 MiB (`SqlLimits`), travels in tickets and
/// handles too, with values beside it.
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

/// How often old query records are removed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// How long calls that are no queries may take to end.
const LAST_CALLS: Duration = Duration::from_millis(500);

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
    turns: AbortOnDropHandle<()>,
    waiting: WaitingQueries,
    figures: CoordinatorFigures,
    health: HealthReporter,
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
    let waiting = WaitingQueries::new(config.plan_ttl.min(config.ticket_ttl), config.plans_waiting, config.ticket_ttl);
    let gate = Gate::new(config.max_queries, config.auth == AuthMode::Users);
    let closed = store.close_left_queries(unix_ms(), "the coordinator stopped before the query had ended").await;
    if closed.map_err(EngineError::Catalog)? > 0 {
        tracing::info!("records of queries closed that an earlier coordinator left open");
    }
    let keeping = Arc::new(KeepingDispatcher::new(dispatcher));
    let dispatcher: Arc<dyn ChunkDispatcher> = Arc::clone(&keeping) as _;
    let book = Arc::new(JobBook::new(config.jobs.clone(), Arc::clone(&store)));
    let system = SystemView { store: Arc::clone(&store), running: journal.running().clone(), book: Arc::clone(&book) };
    let engine = Engine::new(engine_config(&config, cpu.handle()), Arc::clone(&store), Arc::clone(&dispatcher))?
        .with_system(Arc::new(system));
    let parts = JobsParts {
        book: Arc::clone(&book),
        store: Arc::clone(&store),
        engine: engine.clone(),
        dispatcher: keeping,
        cpu: cpu.handle(),
        stop: stop.clone(),
    };
    let (jobs, turns) = Jobs::start(parts, &network).await?;

    figures::describe();
    let figures =
        CoordinatorFigures { gate: gate.clone(), waiting: waiting.clone(), engine: engine.clone(), jobs: book };
    let statements = Statements::new(StatementsConfig {
        engine,
        dispatcher,
        keys: Arc::clone(&config.keys),
        journal,
        waiting: waiting.clone(),
        gate,
        cpu: cpu.handle(),
        stop: stop.clone(),
        ticket_ttl: config.ticket_ttl,
        renewal_limit: config.renewal_limit,
        endpoints: EndpointPolicy {
            mode: config.endpoints,
            direct_bytes: config.direct_bytes,
            secure: config.tls.is_some(),
        },
        jobs,
        store: Arc::clone(&store),
        blocking_limit: config.jobs.blocking_limit,
        sql_limits: config.sql_limits.clone(),
        own_tables: OwnTables::new(config.table_writer.clone(), Arc::clone(&store), config.user_quota),
    });
    let auth = match config.auth {
        AuthMode::Open => None,
        AuthMode::Users => Some(Auth::new(Arc::clone(&store))),
    };
    let lifetimes = Lifetimes { token: config.token_ttl, session: config.session_max };
    let sessions =
        Arc::new(Sessions::new(Arc::clone(&config.token_keys), lifetimes, config.default_database.clone(), auth));
    let face = Face { sessions, statements, store: Arc::clone(&store), keys: Arc::clone(&config.keys) };

    let (close, closed) = oneshot::channel();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<FlightServiceServer<Face>>().await;
    let server = AbortOnDropHandle::new(network.spawn(serve(
        face,
        health_service,
        incoming(listener, config.tls.clone()),
        closed,
    )));
    let sweeper = AbortOnDropHandle::new(network.spawn(sweep(waiting.clone(), Arc::clone(&store))));
    tracing::info!(%address, "coordinator serves Flight SQL");
    Ok(RunningCoordinator {
        address,
        grace: config.shutdown_grace,
        close: Some(close),
        stop: stop.drop_guard(),
        server,
        sweeper,
        turns,
        waiting,
        figures,
        health,
        keeper,
        cpu,
    })
}

impl RunningCoordinator {
    /// Where it listens, with the port it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is doing, for those who watch it.
    pub fn figures(&self) -> CoordinatorFigures {
        self.figures.clone()
    }

    /// Says that it is going and takes no new queries; lets those that run, and those announced that
    /// are fetched meanwhile, end within the configured grace; takes no more calls, cancels the rest,
    /// and writes the last query records.
    ///
    /// # Errors
    /// The server had failed before.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        self.figures.gate.close();
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.health.set_not_serving::<FlightServiceServer<Face>>().await;
        let end = Instant::now() + self.grace;
        // Whether or not all have ended, the rest of the way is the same.
        let _ = tokio::time::timeout_at(end, self.figures.gate.idle()).await;
        if let Some(close) = self.close.take() {
            // The server may have ended by itself; its result says why.
            let _ = close.send(());
        }
        let mut served = tokio::time::timeout_at(end + LAST_CALLS, &mut self.server).await;
        // What still runs is cancelled. Jobs stay as they are; the next coordinator goes on with them.
        drop(self.stop);
        if served.is_err() {
            served = tokio::time::timeout(CANCEL_PATIENCE, &mut self.server).await;
        }
        self.server.abort();
        self.sweeper.abort();
        if tokio::time::timeout(CANCEL_PATIENCE, &mut self.turns).await.is_err() {
            tracing::debug!("some jobs did not stop in time");
        }
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
    health: HealthServer<impl Health>,
    incoming: impl Stream<Item = std::io::Result<Connection>> + Send + 'static,
    closed: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    let (door, face) = (Arc::clone(&face.sessions), Arc::new(face));
    let service = |bytes| FlightServiceServer::from_arc(Arc::clone(&face)).max_decoding_message_size(bytes);
    let service = Door::new(door, service(MOST_RECEIVED_BYTES), service(auth::MESSAGE_BYTES));
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service)
        .add_service(health)
        .add_optional_service(reflection())
        .serve_with_incoming_shutdown(incoming, async {
            // An error means that the coordinator was dropped, which is a stop as well.
            let _ = closed.await;
        })
        .await
}

/// Tells tools such as grpcurl which calls there are.
fn reflection() -> Option<ServerReflectionServer<impl ServerReflection>> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(skyflight_proto::FLIGHT_DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .inspect_err(|error| tracing::error!(%error, "gRPC reflection is not served"))
        .ok()
}

async fn sweep(waiting: WaitingQueries, store: Arc<dyn CatalogStore>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    let mut records = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => waiting.sweep(),
            _ = records.tick() => prune(store.as_ref()).await,
        }
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
