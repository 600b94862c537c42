//! A worker makes itself known, and again when the coordinator comes back.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::Stream;
use skyflight_proto::ticket::Body;
use skyflight_proto::tls::Dialer;
use skyflight_proto::{ClusterKeys, FileKind, RegisterWorker, wire};
use skyflight_worker::{Registrar, RemoteRegistrar, WorkerConfig, WorkerError, start};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::rig::{Rig, unix_ms};
use crate::sky;

#[derive(Debug)]
struct InProcess(mpsc::Sender<RegisterWorker>);

#[async_trait::async_trait]
impl Registrar for InProcess {
    async fn register(&self, worker: &RegisterWorker) -> Result<(), WorkerError> {
        let failed =
            |e: mpsc::error::SendError<_>| WorkerError::Registration { url: "here".into(), reason: e.to_string() };
        self.0.send(worker.clone()).await.map_err(failed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_registers_in_process() {
    let (send, mut receive) = mpsc::channel(16);
    let mut rig = Rig::with(|config| {
        config.registrar = Some(Arc::new(InProcess(send)));
        config.id = Some("w1".into());
    })
    .await;
    let first = receive.recv().await.unwrap();
    rig.worker.registered().await;
    assert_eq!((first.worker.as_str(), first.address.as_str()), ("w1", rig.worker.address()));
    assert_eq!((first.files, first.bytes, first.cores), (0, 0, 2));
    assert!((unix_ms() - first.started_unix_ms).abs() < 60_000);

    let content = sky::parquet(&sky::objects(20, 10));
    rig.hold("Object", 20, 1 << 32, FileKind::Rows, &content, 10).await;
    let again = tokio::time::timeout(wire::HEARTBEAT_INTERVAL * 2, async {
        loop {
            let beat = receive.recv().await.unwrap();
            if beat.files == 1 {
                return beat;
            }
        }
    });
    let again = again.await.expect("a heartbeat");
    assert_eq!((again.bytes, again.started_unix_ms), (content.len() as u64, first.started_unix_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_registers_with_a_coordinator_that_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(ClusterKeys::generate());
    // A port that was free a moment ago; nobody answers there yet.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = WorkerConfig::new(folder.path(), Arc::clone(&keys));
    config.registrar = Some(Arc::new(
        RemoteRegistrar::new(&format!("http://{address}"), Arc::clone(&keys), &Dialer::default()).unwrap(),
    ));
    let worker = start(config).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;

    for _ in 0..2 {
        let (send, mut receive) = mpsc::channel(16);
        let coordinator = coordinator(address, Arc::clone(&keys), send).await;
        let beat =
            tokio::time::timeout(Duration::from_secs(15), receive.recv()).await.expect("a registration").unwrap();
        assert_eq!((beat.worker.as_str(), beat.address.as_str()), (worker.id(), worker.address()));
        coordinator.abort();
        // Connections are told to end when their server goes.
        assert!(coordinator.await.unwrap_err().is_cancelled());
    }
    worker.registered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_refused_at_once() {
    let keys = Arc::new(ClusterKeys::generate());
    // The last wants TLS where there is none.
    for url in ["", "no address", "http://", "https://127.0.0.1:1"] {
        let refused = RemoteRegistrar::new(url, Arc::clone(&keys), &Dialer::default());
        assert!(matches!(refused, Err(WorkerError::Config(_))), "{url:?}: {refused:?}");
    }
}

async fn coordinator(
    address: SocketAddr,
    keys: Arc<ClusterKeys>,
    beats: mpsc::Sender<RegisterWorker>,
) -> JoinHandle<()> {
    let service = FlightServiceServer::new(Coordinator { keys, beats });
    let incoming = loop {
        match TcpIncoming::bind(address) {
            Ok(incoming) => break incoming,
            Err(_in_use_still) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let serving = Server::builder().add_service(service);
    let never = std::future::pending::<()>();
    tokio::spawn(async move { serving.serve_with_incoming_shutdown(incoming, never).await.unwrap() })
}

/// As much of a coordinator as a worker sees.
struct Coordinator {
    keys: Arc<ClusterKeys>,
    beats: mpsc::Sender<RegisterWorker>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Coordinator {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let action = request.into_inner();
        assert_eq!(action.r#type, wire::ACTION_REGISTER_WORKER);
        let Some(Body::RegisterWorker(worker)) = self.keys.verify(&action.body, unix_ms())?.body else {
            return Err(Status::invalid_argument("not a registration"));
        };
        let _ = self.beats.try_send(worker);
        Ok(Response::new(Box::pin(futures::stream::empty())))
    }

    async fn do_get(&self, _: Request<Ticket>) -> Answer<Self::DoGetStream> {
        Err(Status::unimplemented(""))
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        Err(Status::unimplemented(""))
    }
    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        Err(Status::unimplemented(""))
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(Status::unimplemented(""))
    }
    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(Status::unimplemented(""))
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(Status::unimplemented(""))
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(Status::unimplemented(""))
    }
    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(Status::unimplemented(""))
    }
    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(Status::unimplemented(""))
    }
}
