//! A cluster for tests: a catalog in a file, and workers that store what they are sent after checking it
//! themselves, independently of the code under test.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as FlightResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, stream};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};
use skyflight_catalog::{
    CatalogStore, ChunkFile, FileId, FileKind, Snapshot, SqliteStore, TransactionId, Worker, WorkerCapacity, WorkerId,
};
use skyflight_ingest::{CommitMode, IngestError, IngestReport, IngestRequest, TableDescription, TableSource, ingest};
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, DropTransactionResult, FileReceipt, Message, wire};
use skyflight_sky::ChunkId;
use tempfile::TempDir;
use tonic::{Request, Response, Status, Streaming};

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What a worker does with the files it is sent.
#[derive(Debug, Default)]
pub struct Behaviour {
    /// So many files are refused as unavailable before it works.
    pub refuse: AtomicI64,
    /// After so many files it never answers again; negative for never.
    pub hang_after: AtomicI64,
    pub puts: AtomicU64,
}

#[derive(Clone, Debug)]
pub struct FakeWorker {
    pub id: String,
    pub folder: PathBuf,
    pub address: String,
    keys: Arc<ClusterKeys>,
    pub behaviour: Arc<Behaviour>,
}

impl FakeWorker {
    pub async fn start(id: &str, folder: PathBuf, keys: Arc<ClusterKeys>) -> FakeWorker {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let behaviour = Arc::new(Behaviour { hang_after: AtomicI64::new(-1), ..Behaviour::default() });
        let worker = FakeWorker { id: id.to_owned(), folder, address, keys, behaviour };
        let service = FlightServiceServer::new(worker.clone());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(async move {
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        worker
    }

    pub fn record(&self) -> Worker {
        Worker {
            id: WorkerId(self.id.clone()),
            address: self.address.clone(),
            last_seen_unix_ms: now_ms(),
            started_unix_ms: now_ms(),
            capacity: WorkerCapacity::default(),
        }
    }

    pub fn path(&self, database: &str, table: &str, chunk: ChunkId, id: FileId, kind: FileKind) -> PathBuf {
        let name = match kind {
            FileKind::Overlap => format!("{id}.overlap.parquet"),
            _ => format!("{id}.parquet"),
        };
        self.folder.join(database).join(table).join(chunk.to_string()).join(name)
    }

    /// Every file it holds.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        walk(&self.folder, &mut found);
        found
    }

    fn drop_transaction(&self, transaction: i64) -> u64 {
        let mut dropped = 0;
        for path in self.files() {
            if transaction_of(&path) == Some(TransactionId(transaction)) {
                std::fs::remove_file(path).unwrap();
                dropped += 1;
            }
        }
        dropped
    }

    async fn store(&self, mut frames: Streaming<FlightData>) -> Result<FileReceipt, Status> {
        let first = frames.next().await.ok_or_else(|| Status::invalid_argument("nothing sent"))??;
        let signed = first.flight_descriptor.unwrap().cmd;
        let ticket = self.keys.verify(&signed, now_ms())?;
        let Some(Body::PutFile(put)) = ticket.body else { return Err(Status::invalid_argument("another ticket")) };
        let mut bytes = Vec::new();
        while let Some(frame) = frames.next().await {
            let body = frame?.data_body;
            assert!(body.len() <= wire::FRAME_BYTES, "a frame of {} bytes", body.len());
            bytes.extend_from_slice(&body);
        }
        let puts = self.behaviour.puts.fetch_add(1, Ordering::SeqCst);
        if self.behaviour.refuse.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(Status::unavailable("not now"));
        }
        let hang_after = self.behaviour.hang_after.load(Ordering::SeqCst);
        if hang_after >= 0 && puts >= hang_after as u64 {
            std::future::pending::<()>().await;
        }
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        if sha256[..] != put.sha256[..] || bytes.len() as u64 != put.bytes {
            return Err(Status::data_loss("other bytes"));
        }
        let kind = match put.kind() {
            skyflight_proto::FileKind::Rows => FileKind::Rows,
            skyflight_proto::FileKind::Overlap => FileKind::Overlap,
        };
        let path = self.path(&put.database, &put.table, ChunkId(put.chunk), FileId(put.file), kind);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let rows = read(&path).num_rows() as u64;
        if rows != put.rows {
            return Err(Status::data_loss("another number of rows"));
        }
        Ok(FileReceipt {
            database: put.database,
            table: put.table,
            chunk: put.chunk,
            file: put.file,
            kind: put.kind,
            rows,
            bytes: bytes.len() as u64,
            sha256: sha256.to_vec().into(),
        })
    }
}

/// The transaction in a file's name.
pub fn transaction_of(path: &Path) -> Option<TransactionId> {
    let name = path.file_name()?.to_str()?;
    Some(FileId(name.split('.').next()?.parse().ok()?).transaction())
}

pub fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.insert(path);
        }
    }
}

pub fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    walk(folder, &mut found);
    found
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl FlightService for FakeWorker {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<FlightResult>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let receipt = self.store(request.into_inner()).await?;
        let answer = PutResult { app_metadata: receipt.encode_to_vec().into() };
        Ok(Response::new(Box::pin(stream::iter([Ok(answer)]))))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let action = request.into_inner();
        assert_eq!(action.r#type, wire::ACTION_DROP_TRANSACTION);
        let ticket = self.keys.verify(&action.body, now_ms())?;
        let Some(Body::DropTransaction(drop)) = ticket.body else { return Err(Status::invalid_argument("another")) };
        let files = self.drop_transaction(drop.transaction);
        let answer = FlightResult { body: DropTransactionResult { files }.encode_to_vec().into() };
        Ok(Response::new(Box::pin(stream::iter([Ok(answer)]))))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("handshake"))
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("list_flights"))
    }
    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented("get_flight_info"))
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("poll_flight_info"))
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented("get_schema"))
    }
    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(Status::unimplemented("do_get"))
    }
    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("list_actions"))
    }
    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("do_exchange"))
    }
}

pub struct Cluster {
    pub folder: TempDir,
    pub store: Arc<SqliteStore>,
    pub keys: Arc<ClusterKeys>,
    pub workers: Vec<FakeWorker>,
}

impl Cluster {
    pub async fn start(workers: usize) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&folder.path().join("catalog.sqlite")).await.unwrap());
        let keys = Arc::new(ClusterKeys::create_if_missing(&folder.path().join("cluster.key")).unwrap());
        let mut started = Vec::new();
        for n in 0..workers {
            let files = folder.path().join(format!("worker{n}"));
            started.push(FakeWorker::start(&format!("w{n}"), files, Arc::clone(&keys)).await);
        }
        let cluster = Cluster { folder, store, keys, workers: started };
        cluster.register().await;
        cluster
    }

    /// Tests may take longer than a worker's sign of life lasts.
    pub async fn register(&self) {
        for worker in &self.workers {
            self.store.register_worker(&worker.record()).await.unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn request(&self, tables: Vec<TableSource>) -> IngestRequest {
        request_in(self.folder.path(), tables)
    }

    pub async fn ingest(&self, tables: Vec<TableSource>) -> Result<IngestReport, IngestError> {
        self.run(self.request(tables)).await
    }

    pub async fn run(&self, request: IngestRequest) -> Result<IngestReport, IngestError> {
        self.register().await;
        ingest(request, Arc::<SqliteStore>::clone(&self.store), Arc::clone(&self.keys)).await
    }

    pub async fn snapshot(&self, database: &str) -> Arc<Snapshot> {
        let database = self.store.database(database).await.unwrap();
        self.store.snapshot(database.current.expect("nothing committed")).await.unwrap()
    }

    /// A file's rows, after comparing every copy with the catalog.
    pub fn rows_of(&self, snapshot: &Snapshot, table: &str, file: &ChunkFile) -> RecordBatch {
        assert!(!file.workers.is_empty());
        let mut batch = None;
        for id in &file.workers {
            let worker = self.workers.iter().find(|worker| worker.id == id.0).unwrap();
            let path = worker.path(&snapshot.database.name, table, file.chunk, file.id, file.kind);
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, file.bytes);
            assert_eq!(<[u8; 32]>::from(Sha256::digest(&bytes)), file.sha256);
            let rows = read(&path);
            assert_eq!(rows.num_rows() as u64, file.rows);
            batch = Some(rows);
        }
        batch.unwrap()
    }

    /// A table's files of a kind with their rows, by chunk.
    pub fn chunks(&self, snapshot: &Snapshot, table: &str, kind: FileKind) -> BTreeMap<ChunkId, Vec<RecordBatch>> {
        let table = snapshot.table(table).unwrap();
        let mut chunks: BTreeMap<ChunkId, Vec<RecordBatch>> = BTreeMap::new();
        for file in table.files.iter().filter(|file| file.kind == kind) {
            chunks.entry(file.chunk).or_default().push(self.rows_of(snapshot, &table.table.name, file));
        }
        chunks
    }

    /// What the workers hold is exactly what the snapshots given list, and nothing waits in staging.
    pub fn assert_nothing_else(&self, snapshots: &[&Snapshot]) {
        for worker in &self.workers {
            let mut listed = BTreeSet::new();
            for snapshot in snapshots {
                for table in &snapshot.tables {
                    for file in table.files.iter().filter(|file| file.workers.iter().any(|id| id.0 == worker.id)) {
                        let (database, name) = (&snapshot.database.name, &table.table.name);
                        listed.insert(worker.path(database, name, file.chunk, file.id, file.kind));
                    }
                }
            }
            assert_eq!(worker.files(), listed, "files of {}", worker.id);
        }
        assert_eq!(files_below(&self.path("staging")), BTreeSet::new());
    }
}

pub fn request_in(folder: &Path, tables: Vec<TableSource>) -> IngestRequest {
    IngestRequest {
        database: "dr1".into(),
        tables,
        replicas: 0,
        staging_dir: folder.join("staging"),
        index_dir: folder.join("index"),
        memory_bytes: 64 << 20,
        threads: 2,
        rejects: None,
        dialer: Default::default(),
        progress: None,
    }
}

pub fn describe(text: &str) -> TableDescription {
    TableDescription::parse(text, "test").unwrap()
}

pub fn source(description: &TableDescription, inputs: &[PathBuf]) -> TableSource {
    TableSource { description: description.clone(), inputs: inputs.to_vec(), mode: CommitMode::Append }
}

pub fn read(path: &Path) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = Arc::clone(builder.schema());
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

pub fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.unwrap();
    // Random numbers have no use for dictionaries, which their reader would have to hold.
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The folder of real catalogs, where it is.
pub fn real_data() -> Option<PathBuf> {
    let folder =
        std::env::var_os("SKYFLIGHT_TEST_DATA").map_or_else(|| PathBuf::from("../../shared/data"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is absent", folder.display());
    None
}

/// The variable that tells a process which folder it ingests from until it is killed.
const CRASH_FOLDER: &str = "SKYFLIGHT_INGEST_CRASH_FOLDER";

/// In the process that [`kill_child`] starts: ingests a file of the cluster's folder. Else nothing.
pub async fn ingest_as_child(table: &TableDescription, file: &str) {
    let Some(folder) = std::env::var_os(CRASH_FOLDER) else { return };
    let folder = Path::new(&folder);
    let store = Arc::new(SqliteStore::open(&folder.join("catalog.sqlite")).await.unwrap());
    let keys = Arc::new(ClusterKeys::load(&folder.join("cluster.key")).unwrap());
    ingest(request_in(folder, vec![source(table, &[folder.join(file)])]), store, keys).await.unwrap();
}

/// Runs the test of that name, which calls [`ingest_as_child`], in a process of its own, and kills that once
/// it is far enough.
pub async fn kill_child(cluster: &Cluster, test: &str, far_enough: impl Fn() -> bool) {
    let mut killed = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CRASH_FOLDER, cluster.folder.path())
        .spawn()
        .unwrap();
    let mut waited = 0;
    while !far_enough() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        waited += 1;
        assert!(waited < 1_200, "the child does not store files");
        assert!(killed.try_wait().unwrap().is_none(), "the child ended by itself");
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
}
