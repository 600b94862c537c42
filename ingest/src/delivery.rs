//! Chunk files on their way to workers, and the receipts that say they arrived.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor};
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use skyflight_catalog::{FileId, FileKind, TransactionId, Worker, WorkerId};
use skyflight_proto::ticket::Body;
use skyflight_proto::tls::Dialer;
use skyflight_proto::{
    ClusterKeys, DropTransactionResult, DropTransactionTicket, FileReceipt, PutFileTicket, Ticket, retryable, wire,
};
use skyflight_sky::ChunkId;
use tokio::io::AsyncReadExt;
use tonic::transport::Channel;

use crate::chunk_file::WrittenFile;
use crate::error::{IngestError, Result};

/// How often a worker is asked before the ingest gives up.
const ATTEMPTS: u32 = 4;

/// How long a worker may take for one file.
const FILE_DEADLINE: Duration = Duration::from_secs(600);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose a file is.
#[derive(Clone, Debug)]
pub(crate) struct FileLabel {
    pub(crate) database: String,
    pub(crate) table: String,
    pub(crate) chunk: ChunkId,
    pub(crate) kind: FileKind,
    pub(crate) id: FileId,
}

/// Talks to workers; keeps one connection to each.
#[derive(Debug)]
pub(crate) struct Courier {
    keys: Arc<ClusterKeys>,
    dialer: Dialer,
    clients: parking_lot::Mutex<HashMap<WorkerId, FlightServiceClient<Channel>>>,
}

impl Courier {
    pub(crate) fn new(keys: Arc<ClusterKeys>, dialer: Dialer) -> Courier {
        Courier { keys, dialer, clients: parking_lot::Mutex::new(HashMap::new()) }
    }

    /// Sends a file to one worker and checks its receipt; tries again where that may help.
    pub(crate) async fn deliver(&self, worker: &Worker, label: &FileLabel, file: &WrittenFile) -> Result<()> {
        self.attempt(worker, "store a file", || self.put(worker, label, file)).await
    }

    /// Asks a worker to remove all that a transaction left there; how many files that were.
    pub(crate) async fn drop_transaction(&self, worker: &Worker, transaction: TransactionId) -> Result<u64> {
        self.attempt(worker, "remove the files of a dead ingest", || async move {
            let body = Body::DropTransaction(DropTransactionTicket { transaction: transaction.0 });
            let action = Action { r#type: wire::ACTION_DROP_TRANSACTION.to_owned(), body: self.sign(body) };
            let mut answers = self.client(worker)?.do_action(action).await?.into_inner();
            let answer = answers.next().await.ok_or_else(|| tonic::Status::internal("no answer"))??;
            let result =
                DropTransactionResult::decode(answer.body).map_err(|_| tonic::Status::internal("not an answer"))?;
            Ok(result.files)
        })
        .await
    }

    async fn attempt<T, F>(&self, worker: &Worker, what: &str, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, tonic::Status>>,
    {
        let mut attempt = 1;
        loop {
            let answer = tokio::time::timeout(FILE_DEADLINE, call()).await;
            let status = match answer {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(status)) => status,
                Err(_) => tonic::Status::deadline_exceeded("no answer in time"),
            };
            if attempt >= ATTEMPTS || !retryable(status.code()) {
                return Err(IngestError::Worker {
                    worker: worker.id.to_string(),
                    address: worker.address.clone(),
                    what: what.to_owned(),
                    reason: format!("{}: {}", status.code(), status.message()),
                });
            }
            tracing::warn!(worker = %worker.id, what, code = ?status.code(), attempt, "worker is asked again");
            tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(attempt)).await;
            attempt += 1;
        }
    }

    async fn put(
        &self,
        worker: &Worker,
        label: &FileLabel,
        file: &WrittenFile,
    ) -> std::result::Result<(), tonic::Status> {
        let kind = match label.kind {
            // Pairs belong to either chunk as its rows do; which of them a scan reads the coordinator says.
            FileKind::Rows | FileKind::FirstOnly | FileKind::SecondOnly => skyflight_proto::FileKind::Rows,
            FileKind::Overlap => skyflight_proto::FileKind::Overlap,
            FileKind::DirectorIndex => return Err(tonic::Status::invalid_argument("an index is no chunk file")),
        };
        let receipt = FileReceipt {
            database: label.database.clone(),
            table: label.table.clone(),
            chunk: label.chunk.0,
            file: label.id.0,
            kind: kind.into(),
            rows: file.rows,
            bytes: file.bytes,
            sha256: Bytes::copy_from_slice(&file.sha256),
        };
        let ticket = self.sign(Body::PutFile(PutFileTicket {
            database: receipt.database.clone(),
            table: receipt.table.clone(),
            chunk: receipt.chunk,
            file: receipt.file,
            kind: receipt.kind,
            rows: receipt.rows,
            bytes: receipt.bytes,
            sha256: receipt.sha256.clone(),
        }));
        // A file that cannot be read ends the stream early, and the worker refuses what is too short.
        let frames =
            futures::stream::once(async move { FlightData::new().with_descriptor(FlightDescriptor::new_cmd(ticket)) })
                .chain(frames(&file.path).await?);
        let mut answers = self.client(worker)?.do_put(frames).await?.into_inner();
        let answer = answers.next().await.ok_or_else(|| tonic::Status::internal("no receipt"))??;
        match FileReceipt::decode(answer.app_metadata) {
            Ok(given) if given == receipt => Ok(()),
            Ok(_) => Err(tonic::Status::data_loss("the receipt is for another file than the one sent")),
            Err(_) => Err(tonic::Status::internal("not a receipt")),
        }
    }

    fn sign(&self, body: Body) -> Bytes {
        let expires = SystemTime::now() + FILE_DEADLINE;
        self.keys.sign(&Ticket {
            expires_unix_ms: unix_ms(expires),
            user: String::new(),
            query_id: Bytes::new(),
            body: Some(body),
        })
    }

    fn client(&self, worker: &Worker) -> std::result::Result<FlightServiceClient<Channel>, tonic::Status> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&worker.id) {
            return Ok(client.clone());
        }
        let endpoint = self
            .dialer
            .endpoint(&worker.address)
            .map_err(|error| tonic::Status::invalid_argument(error.to_string()))?;
        let channel = endpoint
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(wire::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(wire::CONNECTION_WINDOW_BYTES)
            .connect_lazy();
        let client = FlightServiceClient::new(channel).max_decoding_message_size(wire::MAX_MESSAGE_BYTES);
        clients.insert(worker.id.clone(), client.clone());
        Ok(client)
    }
}

/// The bytes of a file in frames.
async fn frames(
    path: &Path,
) -> std::result::Result<impl futures::Stream<Item = FlightData> + Send + 'static + use<>, tonic::Status> {
    let open = tokio::fs::File::open(path).await;
    let file =
        open.map_err(|error| tonic::Status::invalid_argument(format!("the file sent cannot be opened: {error}")))?;
    Ok(futures::stream::unfold(file, |mut file| async move {
        let mut buffer = Vec::with_capacity(wire::FRAME_BYTES);
        let read = (&mut file).take(wire::FRAME_BYTES as u64).read_to_end(&mut buffer).await;
        if let Err(error) = &read {
            tracing::error!(%error, "chunk file cannot be read back");
        }
        match read {
            Ok(length) if length > 0 => Some((FlightData { data_body: buffer.into(), ..FlightData::default() }, file)),
            Ok(_) | Err(_) => None,
        }
    }))
}

/// Milliseconds of Unix time.
pub(crate) fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
