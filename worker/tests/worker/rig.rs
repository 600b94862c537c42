//! A worker in a folder of its own, and a client that speaks to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor};
use bytes::Bytes;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use skyflight_proto::ticket::Body;
use skyflight_proto::{
    ClusterKeys, DropTransactionResult, DropTransactionTicket, FileKind, FileReceipt, ListFilesTicket, Message,
    PutFileTicket, TaskTicket, Ticket, WorkerStatus, wire,
};
use skyflight_worker::{RunningWorker, WorkerConfig, start};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

pub(crate) type Client = FlightServiceClient<Channel>;

pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) keys: Arc<ClusterKeys>,
    pub(crate) worker: RunningWorker,
    pub(crate) client: Client,
}

pub(crate) fn unix_ms() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

impl Rig {
    pub(crate) async fn new() -> Rig {
        Rig::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut WorkerConfig)) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(ClusterKeys::generate());
        let mut config = WorkerConfig::new(folder.path(), Arc::clone(&keys));
        config.cores = 2;
        change(&mut config);
        let worker = start(config).await.unwrap();
        let client = connect(worker.address()).await;
        Rig { folder, keys, worker, client }
    }

    /// A ticket good for a minute.
    pub(crate) fn sign(&self, body: Body) -> Bytes {
        sign(&self.keys, body, unix_ms() + 60_000)
    }

    pub(crate) async fn put(&mut self, ticket: &PutFileTicket, content: &[u8]) -> Result<FileReceipt, Status> {
        let signed = self.sign(Body::PutFile(ticket.clone()));
        self.put_with(signed, content).await
    }

    pub(crate) async fn put_with(&mut self, signed: Bytes, content: &[u8]) -> Result<FileReceipt, Status> {
        // Pieces that do not divide the file, to see that nothing depends on it.
        let messages = std::iter::once(put_start(signed)).chain(content.chunks(100_003).map(put_piece));
        let messages: Vec<FlightData> = messages.collect();
        let mut answer = self.client.do_put(futures::stream::iter(messages)).await?.into_inner();
        let result = answer.message().await?.expect("one answer");
        assert!(answer.message().await?.is_none(), "one answer only");
        Ok(FileReceipt::decode(result.app_metadata).unwrap())
    }

    /// Puts a whole file and expects that it works.
    pub(crate) async fn hold(&mut self, table: &str, chunk: u64, file: i64, kind: FileKind, content: &[u8], rows: u64) {
        let ticket = put_ticket("dr1", table, chunk, file, kind, content, rows);
        self.put(&ticket, content).await.unwrap();
    }

    pub(crate) async fn get(&mut self, task: TaskTicket) -> Result<Streaming<FlightData>, Status> {
        let ticket = self.sign(Body::Task(task));
        get(&mut self.client, ticket).await
    }

    pub(crate) async fn ping(&mut self) -> WorkerStatus {
        let mut answers = self.act(wire::ACTION_PING, Bytes::new()).await.unwrap();
        assert_eq!(answers.len(), 1);
        WorkerStatus::decode(answers.remove(0)).unwrap()
    }

    pub(crate) async fn drop_transaction(&mut self, transaction: i64) -> u64 {
        let signed = self.sign(Body::DropTransaction(DropTransactionTicket { transaction }));
        let answers = self.act(wire::ACTION_DROP_TRANSACTION, signed).await.unwrap();
        DropTransactionResult::decode(answers[0].clone()).unwrap().files
    }

    pub(crate) async fn list(&mut self, database: &str) -> Vec<FileReceipt> {
        let signed = self.sign(Body::ListFiles(ListFilesTicket { database: database.into() }));
        let answers = self.act(wire::ACTION_LIST_FILES, signed).await.unwrap();
        answers.into_iter().map(|a| FileReceipt::decode(a).unwrap()).collect()
    }

    pub(crate) async fn act(&mut self, action: &str, body: Bytes) -> Result<Vec<Bytes>, Status> {
        let action = Action { r#type: action.into(), body };
        let answers = self.client.do_action(action).await?.into_inner();
        answers.map_ok(|r| r.body).try_collect().await
    }

    /// Every file below `chunks`, whole or not.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files_below(self.folder.path().join("chunks"))
    }

    /// Waits until no task runs; fails after a second.
    pub(crate) async fn idle(&mut self) {
        let begun = Instant::now();
        while self.ping().await.running_tasks > 0 {
            assert!(begun.elapsed() < Duration::from_secs(1), "the worker still works");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) async fn connect(address: &str) -> Client {
    let endpoint = Endpoint::from_shared(address.to_owned()).unwrap().tcp_nodelay(true);
    FlightServiceClient::new(endpoint.connect().await.unwrap()).max_decoding_message_size(wire::MAX_MESSAGE_BYTES)
}

pub(crate) async fn get(client: &mut Client, ticket: Bytes) -> Result<Streaming<FlightData>, Status> {
    Ok(client.do_get(arrow_flight::Ticket { ticket }).await?.into_inner())
}

pub(crate) fn sign(keys: &ClusterKeys, body: Body, expires_unix_ms: i64) -> Bytes {
    keys.sign(&Ticket { expires_unix_ms, user: "tester".into(), query_id: vec![7; 16].into(), body: Some(body) })
}

pub(crate) fn put_start(signed: Bytes) -> FlightData {
    FlightData { flight_descriptor: Some(FlightDescriptor::new_cmd(signed)), ..FlightData::default() }
}

pub(crate) fn put_piece(piece: &[u8]) -> FlightData {
    FlightData { data_body: Bytes::copy_from_slice(piece), ..FlightData::default() }
}

pub(crate) fn put_ticket(
    database: &str,
    table: &str,
    chunk: u64,
    file: i64,
    kind: FileKind,
    content: &[u8],
    rows: u64,
) -> PutFileTicket {
    PutFileTicket {
        database: database.into(),
        table: table.into(),
        chunk,
        file,
        kind: kind.into(),
        rows,
        bytes: content.len() as u64,
        sha256: Sha256::digest(content).to_vec().into(),
    }
}

pub(crate) fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(path)) } else { found.push(path) }
    }
    found
}

/// Expects a failure of that code whose message has `part` in it.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T, Status>, code: Code, part: &str) {
    match result {
        Ok(_) => panic!("expected {code:?}, got an answer"),
        Err(status) => {
            assert_eq!(status.code(), code, "{status:?}");
            assert!(status.message().contains(part), "{:?} lacks {part:?}", status.message());
        }
    }
}
