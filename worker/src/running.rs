//! Starting and ending a worker.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::Stream;
use skyflight_engine::fragment::{FragmentConfig, FragmentRuntime};
use skyflight_proto::tls::{Connection, incoming};
use skyflight_proto::wire;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;
use tracing::{info, warn};
use uuid::Uuid;

use crate::config::check_id;
use crate::figures::WorkerFigures;
use crate::register::heartbeat;
use crate::service::WorkerService;
use crate::store::ChunkStore;
use crate::worker::{Worker, blocking};
use crate::{Result, WorkerConfig, WorkerError};

/// DataFusion recurses; deep plans need more than the usual 2 MiB.
const STACK_BYTES: usize = 16 << 20;
const STREAMS_PER_CONNECTION: u32 = 1_024;
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long the streams have to say that the worker is shutting down, once they must.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A worker that serves. Dropping it ends everything at once: running tasks fail.
pub struct RunningWorker {
    address: String,
    worker: Arc<Worker>,
    drain: CancellationToken,
    drain_time: Duration,
    health: HealthReporter,
    server: AbortOnDropHandle<()>,
    heartbeat: Option<AbortOnDropHandle<()>>,
    registered: watch::Receiver<bool>,
    _compute: ComputeRuntime,
    _lock: File,
}

/// Starts a worker: opens its folder, its port and its heartbeat. Flight runs on the runtime this
/// is called on, fragments on one of the worker's own.
///
/// # Errors
/// `Config`, `FolderInUse`, `Listen`, `Io`, and what the engine says to its own configuration.
pub async fn start(config: WorkerConfig) -> Result<RunningWorker> {
    config.check()?;
    // Chunk files are named to the engine by absolute paths.
    let data_dir = std::path::absolute(&config.data_dir).map_err(WorkerError::io("find", &config.data_dir))?;
    let config = WorkerConfig { data_dir, ..config };
    let (lock, id, store) = blocking({
        let config = config.clone();
        move || open_folder(&config)
    })
    .await?;
    let compute = ComputeRuntime::new(config.cores)?;
    let decoder = FragmentRuntime::new(FragmentConfig {
        memory_bytes: config.memory_bytes,
        spill_dir: config.data_dir.join("spill"),
        spill_bytes: config.spill_bytes,
        batch_rows: config.batch_rows,
    })?;
    let worker = Arc::new(Worker::new(id, &config, Arc::new(store), decoder, compute.handle.clone()));

    let failed = |source| WorkerError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = config.address(listener.local_addr().map_err(failed)?);
    let drain = CancellationToken::new();
    let here = Handle::current();
    let incoming = incoming(listener, config.tls.clone());
    WorkerFigures::describe();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<FlightServiceServer<WorkerService>>().await;
    let server = here.spawn(serve(Arc::clone(&worker), health_service, incoming, drain.clone()));
    let (tell, registered) = watch::channel(false);
    let heartbeat = config.registrar.map(|registrar| {
        let heartbeat = heartbeat(Arc::clone(&worker), address.clone(), registrar, tell);
        AbortOnDropHandle::new(here.spawn(heartbeat))
    });
    let (files, bytes) = worker.store.totals();
    info!(worker = %worker.id, %address, files, bytes, cores = config.cores, "worker serves");
    Ok(RunningWorker {
        address,
        worker,
        drain,
        drain_time: config.drain,
        health,
        server: AbortOnDropHandle::new(server),
        heartbeat,
        registered,
        _compute: compute,
        _lock: lock,
    })
}

impl RunningWorker {
    /// The worker's id.
    pub fn id(&self) -> &str {
        &self.worker.id
    }

    /// Where others reach it: `http://host:port` or `https://host:port`, with the real port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it is doing, for those who watch it.
    pub fn figures(&self) -> WorkerFigures {
        WorkerFigures(Arc::clone(&self.worker))
    }

    /// Waits until the worker has registered for the first time; for ever when it has no
    /// registrar.
    pub async fn registered(&self) {
        let mut registered = self.registered.clone();
        if registered.wait_for(|&is| is).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until the worker serves no more, which by itself it never does unless its port fails.
    pub async fn ended(&mut self) {
        // How it ended has been logged.
        let _ = (&mut self.server).await;
    }

    /// Takes no more requests, waits for those that run until the drain time is over, fails those
    /// that still run then, and ends.
    pub async fn shutdown(mut self) {
        self.heartbeat = None;
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.health.set_not_serving::<FlightServiceServer<WorkerService>>().await;
        self.drain.cancel();
        if tokio::time::timeout(self.drain_time, &mut self.server).await.is_err() {
            warn!(worker = %self.worker.id, tasks = self.worker.counters.running_tasks(), "ending tasks that still run");
            self.worker.stop.cancel();
            // A consumer that reads nothing keeps its connection; it is left behind.
            let _ = tokio::time::timeout(LAST_WORDS, &mut self.server).await;
        }
        info!(worker = %self.worker.id, "worker ended");
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.drain.cancel();
        self.worker.stop.cancel();
    }
}

impl std::fmt::Debug for RunningWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningWorker")
            .field("id", &self.worker.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

async fn serve(
    worker: Arc<Worker>,
    health: HealthServer<impl Health>,
    incoming: impl Stream<Item = std::io::Result<Connection>> + Send + 'static,
    drain: CancellationToken,
) {
    let service = FlightServiceServer::new(WorkerService::new(Arc::clone(&worker)))
        .max_decoding_message_size(wire::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(usize::MAX);
    let served = Server::builder()
        .initial_stream_window_size(wire::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(wire::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(service)
        .add_service(health)
        .serve_with_incoming_shutdown(incoming, drain.cancelled_owned())
        .await;
    if let Err(error) = served {
        warn!(worker = %worker.id, %error, "the worker's port failed");
    }
}

/// Locks the data folder, reads or makes the id, and opens the store.
fn open_folder(config: &WorkerConfig) -> Result<(File, String, ChunkStore)> {
    let data = &config.data_dir;
    fs::create_dir_all(data).map_err(WorkerError::io("make the folder", data))?;
    let lock = lock(data)?;
    let id = id(config)?;
    let spill = data.join("spill");
    // Spill files are worthless to another process.
    match fs::remove_dir_all(&spill) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.map_err(WorkerError::io("clear the folder", &spill))?,
    }
    fs::create_dir_all(&spill).map_err(WorkerError::io("make the folder", &spill))?;
    Ok((lock, id, ChunkStore::open(data)?))
}

fn lock(data: &Path) -> Result<File> {
    let path = data.join("worker.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(WorkerError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WorkerError::FolderInUse(data.to_owned())),
        Err(TryLockError::Error(source)) => Err(WorkerError::io("lock", &path)(source)),
    }
}

/// The id kept in the folder, which must be the one asked for; made on the first start.
fn id(config: &WorkerConfig) -> Result<String> {
    let path = config.data_dir.join("worker.id");
    let kept = match fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(WorkerError::io("read", &path)(error)),
    };
    match (kept, config.id.clone()) {
        (Some(kept), None) => check_id(&kept).map(|()| kept),
        (Some(kept), Some(asked)) if kept == asked => Ok(kept),
        (Some(kept), Some(asked)) => Err(WorkerError::Config(format!(
            "the folder {} belongs to worker {kept}, not {asked}; files in it are on record under that id",
            config.data_dir.display()
        ))),
        (None, asked) => {
            let id = asked.unwrap_or_else(|| format!("worker-{}", Uuid::new_v4().simple()));
            let written = write_durably(&config.data_dir, "worker.id", &format!("{id}\n"));
            written.map_err(WorkerError::io("write", &path)).map(|()| id)
        }
    }
}

fn write_durably(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let temporary = folder.join(format!(".{name}.part"));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// The runtime fragments run on. A runtime must not be dropped where blocking is forbidden, so
/// its end is left to the background.
struct ComputeRuntime {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl ComputeRuntime {
    fn new(cores: usize) -> Result<ComputeRuntime> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores)
            .max_blocking_threads(cores * 4 + 16)
            .thread_stack_size(STACK_BYTES)
            .thread_name("skyflight-compute")
            .enable_all()
            .build()
            .map_err(|e| WorkerError::Config(format!("cannot start {cores} threads: {e}")))?;
        Ok(ComputeRuntime { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for ComputeRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
