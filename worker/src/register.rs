//! Telling the coordinator, again and again, that this worker lives and where.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use async_trait::async_trait;
use skyflight_proto::ticket::Body;
use skyflight_proto::tls::Dialer;
use skyflight_proto::{ClusterKeys, RegisterWorker, Ticket, wire};
use tokio::sync::watch;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::worker::{Worker, unix_ms};
use crate::{Result, WorkerError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one registration may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
const TICKET_LIFE_MS: i64 = 60_000;

/// Where a worker makes itself known.
#[async_trait]
pub trait Registrar: Send + Sync + Debug {
    /// Says that the worker lives. Called at every heartbeat, and repeated soon after an error.
    ///
    /// # Errors
    /// Whatever keeps the registration from being recorded; it is logged once.
    async fn register(&self, worker: &RegisterWorker) -> Result<()>;
}

/// Registers with a coordinator over Flight.
#[derive(Debug)]
pub struct RemoteRegistrar {
    url: String,
    keys: Arc<ClusterKeys>,
    channel: Channel,
}

impl RemoteRegistrar {
    /// A registrar for the coordinator at `url` (`http://host:port` or `https://host:port`), reached
    /// with `dialer`. Does not connect yet; must be called within a Tokio runtime.
    ///
    /// # Errors
    /// `Config` when `url` is none, or wants TLS where there is none.
    pub fn new(url: &str, keys: Arc<ClusterKeys>, dialer: &Dialer) -> Result<RemoteRegistrar> {
        let endpoint = dialer
            .endpoint(url)
            .map_err(|e| WorkerError::Config(format!("the coordinator's address cannot be used: {e}")))?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT).tcp_nodelay(true).connect_lazy();
        Ok(RemoteRegistrar { url: url.to_owned(), keys, channel })
    }
}

#[async_trait]
impl Registrar for RemoteRegistrar {
    async fn register(&self, worker: &RegisterWorker) -> Result<()> {
        let ticket = Ticket {
            expires_unix_ms: unix_ms().saturating_add(TICKET_LIFE_MS),
            body: Some(Body::RegisterWorker(worker.clone())),
            ..Ticket::default()
        };
        let action = Action { r#type: wire::ACTION_REGISTER_WORKER.to_owned(), body: self.keys.sign(&ticket) };
        let failed = |status: tonic::Status| WorkerError::Registration {
            url: self.url.clone(),
            reason: format!("{:?}: {}", status.code(), status.message()),
        };
        let answer = FlightServiceClient::new(self.channel.clone()).do_action(action).await.map_err(failed)?;
        let mut answers = answer.into_inner();
        // To the end: an error may come after the headers.
        while answers.message().await.map_err(failed)?.is_some() {}
        Ok(())
    }
}

/// Registers for ever; tells `registered` after the first success.
pub(crate) async fn heartbeat(
    worker: Arc<Worker>,
    address: String,
    registrar: Arc<dyn Registrar>,
    registered: watch::Sender<bool>,
) {
    let started_unix_ms = unix_ms();
    let mut retry = FIRST_RETRY;
    let mut failing = false;
    loop {
        let (files, bytes) = worker.store.totals();
        let message = RegisterWorker {
            worker: worker.id.clone(),
            address: address.clone(),
            started_unix_ms,
            files,
            bytes,
            cores: u32::try_from(worker.cores).unwrap_or(u32::MAX),
        };
        let pause = match within_time(registrar.as_ref(), &message).await {
            Ok(()) => {
                if failing || !*registered.borrow() {
                    info!(worker = %worker.id, %address, files, "registered");
                }
                failing = false;
                retry = FIRST_RETRY;
                registered.send_replace(true);
                wire::HEARTBEAT_INTERVAL
            }
            Err(error) => {
                if !failing {
                    warn!(worker = %worker.id, %error, "registration failed; trying again until it succeeds");
                }
                failing = true;
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn within_time(registrar: &dyn Registrar, message: &RegisterWorker) -> Result<()> {
    match tokio::time::timeout(TIMEOUT, registrar.register(message)).await {
        Ok(registered) => registered,
        Err(_elapsed) => Err(WorkerError::Registration {
            url: "the registrar".into(),
            reason: format!("no answer within {} s", TIMEOUT.as_secs()),
        }),
    }
}
