//! Starting coordinators and workers: the composition of the other crates.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use skyflight_catalog::{CatalogStore, SqliteStore, Worker, WorkerCapacity, WorkerId};
use skyflight_proto::tls::{Dialer, NodeTls};
use skyflight_proto::{ClusterKeys, RegisterWorker};
use skyflight_server::dispatch::{DispatchConfig, FlightDispatcher, StoreDirectory};
use skyflight_server::{CoordinatorConfig, JobsConfig, RunningCoordinator, ShuffleConfig, UploadLimits};
use skyflight_worker::{Registrar, RemoteRegistrar, RunningWorker, WorkerConfig, WorkerError};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use crate::cli::{CoordinatorArgs, ServeArgs, WorkerArgs};
use crate::config::{AuthSection, Config, JobsSection, seconds, threads};
use crate::follow::{follow_keys, follow_tls, rotate_keys};
use crate::http::{Figures, HttpPort, Observed};
use crate::sweep::sweep;
use crate::telemetry::Telemetry;
use crate::uploads::IngestWriter;

/// The keys' file in a coordinator's data folder.
const KEY_FILE: &str = "cluster.key";

/// The file of the keys of session tokens, beside it. Workers do without: whoever reads their files cannot log in.
const SESSION_KEY_FILE: &str = "session.key";

/// A coordinator's data folder: the catalog, the keys and the lock.
pub(crate) struct Home {
    pub(crate) folder: PathBuf,
    pub(crate) store: Arc<dyn CatalogStore>,
    pub(crate) keys: Arc<ClusterKeys>,
    session_keys: Arc<ClusterKeys>,
    /// TLS of the coordinator, and of the workers in its process.
    pub(crate) tls: Option<Arc<NodeTls>>,
}

/// Held by the one process that serves a data folder.
pub(crate) struct HomeLock(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Home {
    pub(crate) async fn open(folder: &Path, config: &Config) -> Result<Home> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the data folder {}", folder.display()))?;
        let folder =
            folder.canonicalize().with_context(|| format!("cannot use the data folder {}", folder.display()))?;
        let keys = ClusterKeys::create_if_missing(&folder.join(KEY_FILE))?;
        let session_keys = Arc::new(ClusterKeys::create_if_missing(&folder.join(SESSION_KEY_FILE))?);
        let store = SqliteStore::open(&folder.join("catalog.sqlite")).await?;
        let tls = config.tls.load(&folder.join("tls"), &config.own_names())?;
        Ok(Home { folder, tls, store: Arc::new(store), keys: Arc::new(keys), session_keys })
    }

    /// Takes the folder; `None` where another process serves it.
    pub(crate) fn try_lock(&self) -> Result<Option<HomeLock>> {
        let path = self.folder.join("LOCK");
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(HomeLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Follows changes of the keys and certificates on disk, and changes the keys of session tokens when they
    /// are old, until what this gives is dropped.
    pub(crate) fn follow(&self, auth: &AuthSection) -> Vec<AbortOnDropHandle<()>> {
        let keys = follow_keys(Arc::clone(&self.keys), self.folder.join(KEY_FILE));
        let session_keys = rotate_keys(
            Arc::clone(&self.session_keys),
            self.folder.join(SESSION_KEY_FILE),
            seconds(auth.key_age_s),
            seconds(auth.token_ttl_s),
        );
        [keys, session_keys].into_iter().chain(self.tls.clone().map(follow_tls)).collect()
    }

    /// Where its coordinator is reached from this machine.
    pub(crate) fn url(&self, coordinator: &RunningCoordinator) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", coordinator.address())
    }

    fn lock(&self) -> Result<HomeLock> {
        match self.try_lock()? {
            Some(lock) => Ok(lock),
            None => bail!("another process serves {}; give another --data-dir or stop it", self.folder.display()),
        }
    }
}

/// Registers workers of this process straight in the catalog.
#[derive(Debug)]
struct LocalRegistrar(Arc<dyn CatalogStore>);

#[async_trait]
impl Registrar for LocalRegistrar {
    async fn register(&self, worker: &RegisterWorker) -> Result<(), WorkerError> {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let worker = Worker {
            id: WorkerId(worker.worker.clone()),
            address: worker.address.clone(),
            last_seen_unix_ms: now,
            started_unix_ms: worker.started_unix_ms,
            capacity: WorkerCapacity { cores: worker.cores, files: worker.files, bytes: worker.bytes },
        };
        self.0
            .register_worker(&worker)
            .await
            .map_err(|e| WorkerError::Registration { url: "the catalog".to_string(), reason: e.to_string() })
    }
}

/// Starts the workers that `serve` has, on free ports, and waits until they are known.
pub(crate) async fn start_workers(home: &Home, config: &Config) -> Result<Vec<RunningWorker>> {
    let mut workers = Vec::new();
    for number in 1..=config.worker.count {
        let mut worker = worker_config(home.folder.join(format!("worker-{number}")), Arc::clone(&home.keys), config);
        worker.tls = home.tls.clone();
        worker.id = Some(format!("local-{number}"));
        worker.listen = SocketAddr::new(config.worker.listen.ip(), 0);
        worker.registrar = Some(Arc::new(LocalRegistrar(Arc::clone(&home.store))));
        // The machine's cores and memory are shared among its workers.
        worker.cores = threads(config.worker.cores).div_ceil(config.worker.count).max(1);
        worker.memory_bytes = (config.worker.memory_mib << 20) / config.worker.count;
        let running = skyflight_worker::start(worker).await?;
        running.registered().await;
        workers.push(running);
    }
    Ok(workers)
}

fn worker_config(data_dir: PathBuf, keys: Arc<ClusterKeys>, config: &Config) -> WorkerConfig {
    let section = &config.worker;
    let mut worker = WorkerConfig::new(data_dir, keys);
    worker.listen = section.listen;
    worker.advertise = (!section.advertise.is_empty()).then(|| section.advertise.clone());
    worker.cores = threads(section.cores);
    worker.memory_bytes = section.memory_mib << 20;
    worker.spill_bytes = section.spill_gib << 30;
    worker.batch_rows = section.batch_rows;
    worker
}

pub(crate) async fn start_coordinator(home: &Home, config: &Config) -> Result<RunningCoordinator> {
    let section = &config.coordinator;
    let mut coordinator = CoordinatorConfig::new(section.listen, Arc::clone(&home.keys), home.folder.join("spill"));
    coordinator.default_database = (!section.default_database.is_empty()).then(|| section.default_database.clone());
    coordinator.tls = home.tls.clone();
    coordinator.token_keys = Arc::clone(&home.session_keys);
    coordinator.auth = config.auth_mode()?;
    coordinator.session_max = seconds(config.auth.session_max_s);
    coordinator.token_ttl = seconds(config.auth.token_ttl_s);
    coordinator.ticket_ttl = seconds(section.ticket_ttl_s);
    coordinator.renewal_limit = seconds(section.superseded_grace_s);
    coordinator.shutdown_grace = seconds(section.drain_s);
    coordinator.max_queries = section.max_queries;
    coordinator.threads = threads(section.threads);
    coordinator.merge_partitions = coordinator.threads.max(2);
    coordinator.memory_bytes = section.memory_mib << 20;
    coordinator.spill_bytes = section.spill_gib << 30;
    coordinator.index_dir = Some(home.folder.join("index"));
    coordinator.jobs = jobs_config(home.folder.join("jobs"), &config.jobs);
    coordinator.shuffle = ShuffleConfig {
        mode: config.shuffle_mode()?,
        rows: section.shuffle_rows,
        bytes: section.shuffle_mib << 20,
        sort_merge_bytes: section.sort_merge_mib << 20,
        partitions: coordinator.merge_partitions,
    };
    coordinator.user_quota = UploadLimits { rows: config.ingest.user_rows, bytes: config.ingest.user_gib << 30 };
    let dialer = Dialer::new(home.tls.clone());
    let writer = IngestWriter::new(
        Arc::clone(&home.store),
        Arc::clone(&home.keys),
        dialer.clone(),
        &home.folder,
        config.ingest.clone(),
    )?;
    coordinator.table_writer = Some(Arc::new(writer));
    coordinator.endpoints = config.endpoint_mode()?;
    coordinator.direct_bytes = section.direct_mib << 20;
    let dispatch = DispatchConfig {
        silence_timeout: seconds(section.silence_timeout_s),
        hold_bytes: section.hold_mib << 20,
        dialer,
        spool_dir: home.folder.join("spill"),
        ..DispatchConfig::default()
    };
    let directory = Arc::new(StoreDirectory(Arc::clone(&home.store)));
    let dispatcher = FlightDispatcher::new(dispatch, Arc::clone(&home.keys), directory, Handle::current());
    Ok(skyflight_server::start(coordinator, Arc::clone(&home.store), Arc::new(dispatcher)).await?)
}

fn jobs_config(folder: PathBuf, section: &JobsSection) -> JobsConfig {
    JobsConfig {
        running: section.running,
        running_per_user: section.running_per_user,
        open_per_user: section.open_per_user,
        result_ttl: seconds(section.result_ttl_s),
        result_bytes_per_user: section.result_gib_per_user << 30,
        kept_bytes_per_job: section.kept_gib_per_job << 30,
        blocking_limit: (section.blocking_limit_s > 0).then(|| seconds(section.blocking_limit_s)),
        ..JobsConfig::new(folder)
    }
}

/// What watches a server process: collected before it starts, open while it runs.
struct Watch {
    figures: Option<(Figures, SocketAddr)>,
    ending: Arc<AtomicBool>,
    _telemetry: Option<Telemetry>,
}

impl Watch {
    fn start(config: &Config, service: &'static str) -> Result<Watch> {
        let figures = config.http_listen()?.map(|listen| Ok::<_, anyhow::Error>((Figures::collect()?, listen)));
        let endpoint = &config.operations.otlp_endpoint;
        let telemetry = (!endpoint.is_empty()).then(|| Telemetry::start(endpoint, service));
        Ok(Watch { figures: figures.transpose()?, ending: Arc::default(), _telemetry: telemetry.transpose()? })
    }

    async fn open<'a>(
        &mut self,
        coordinator: Option<&RunningCoordinator>,
        workers: impl Iterator<Item = &'a RunningWorker>,
    ) -> Result<Option<HttpPort>> {
        let Some((figures, listen)) = self.figures.take() else { return Ok(None) };
        let observed = Observed {
            coordinator: coordinator.map(RunningCoordinator::figures),
            workers: workers.map(RunningWorker::figures).collect(),
            ending: Arc::clone(&self.ending),
        };
        Ok(Some(figures.serve(listen, observed).await?))
    }

    /// Waits until the process is told to end, and says from then on that it is not ready.
    async fn until_told_to_end(&self) -> Result<()> {
        stop_signal().await?;
        self.ending.store(true, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) async fn serve(args: ServeArgs, mut config: Config) -> Result<()> {
    override_listen(&mut config, args.listen, args.tls_dev)?;
    if let Some(workers) = args.workers {
        ensure!(workers > 0, "--workers must be at least 1");
        config.worker.count = workers;
    }
    let home = Home::open(&args.data_dir, &config).await?;
    let _lock = home.lock()?;
    let _followers = home.follow(&config.auth);
    let mut watch = Watch::start(&config, "skyflight")?;
    let workers = start_workers(&home, &config).await?;
    let coordinator = start_coordinator(&home, &config).await?;
    let _sweeps = sweep(&home, &config);
    let _http = watch.open(Some(&coordinator), workers.iter()).await?;
    say_listening("skyflight", &home.url(&coordinator))?;
    watch.until_told_to_end().await?;
    coordinator.shutdown().await?;
    for worker in workers {
        worker.shutdown().await;
    }
    Ok(())
}

pub(crate) async fn coordinator(args: CoordinatorArgs, mut config: Config) -> Result<()> {
    override_listen(&mut config, args.listen, args.tls_dev)?;
    let home = Home::open(&args.data_dir, &config).await?;
    let _lock = home.lock()?;
    let _followers = home.follow(&config.auth);
    let mut watch = Watch::start(&config, "skyflight-coordinator")?;
    let coordinator = start_coordinator(&home, &config).await?;
    let _sweeps = sweep(&home, &config);
    let _http = watch.open(Some(&coordinator), std::iter::empty()).await?;
    say_listening("skyflight coordinator", &home.url(&coordinator))?;
    watch.until_told_to_end().await?;
    Ok(coordinator.shutdown().await?)
}

fn override_listen(config: &mut Config, listen: Option<SocketAddr>, tls_dev: bool) -> Result<()> {
    config.coordinator.listen = listen.unwrap_or(config.coordinator.listen);
    config.tls.development |= tls_dev;
    config.check()
}

pub(crate) async fn worker(args: WorkerArgs, config: Config) -> Result<()> {
    let keys = Arc::new(ClusterKeys::load(&args.cluster_key_file)?);
    let _keys = follow_keys(Arc::clone(&keys), args.cluster_key_file);
    let mut worker = worker_config(args.data_dir, Arc::clone(&keys), &config);
    worker.id = args.id;
    if let Some(listen) = args.listen {
        worker.listen = listen;
    }
    config.check_worker(worker.listen)?;
    if args.advertise.is_some() {
        worker.advertise = args.advertise;
    }
    ensure!(
        !config.tls.development,
        "tls.development makes a certificate that only its own process knows; for a worker set tls.certificate, \
         tls.key and tls.ca to node.pem, node.key and ca.pem in the folder tls of the coordinator's data"
    );
    worker.tls = config.tls.load(Path::new(""), &[])?;
    let _tls = worker.tls.clone().map(follow_tls);
    worker.registrar = Some(Arc::new(RemoteRegistrar::new(&args.coordinator, keys, &Dialer::new(worker.tls.clone()))?));
    let mut watch = Watch::start(&config, "skyflight-worker")?;
    let mut running = skyflight_worker::start(worker).await?;
    let _http = watch.open(None, std::iter::once(&running)).await?;
    tokio::select! {
        () = running.registered() => {}
        stopped = stop_signal() => {
            stopped?;
            running.shutdown().await;
            return Ok(());
        }
    }
    say_listening(&format!("skyflight worker {}", running.id()), running.address())?;
    tokio::select! {
        stopped = watch.until_told_to_end() => {
            stopped?;
            running.shutdown().await;
            Ok(())
        }
        () = running.ended() => bail!("the worker's server ended by itself"),
    }
}

/// The line that scripts wait for.
fn say_listening(who: &str, address: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{who} listening on {address}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Waits for Ctrl-C or a request to terminate.
pub(crate) async fn stop_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for signals"),
        _ = terminate.recv() => Ok(()),
    }
}
