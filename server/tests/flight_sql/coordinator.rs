//! A coordinator of its own for each test, on a free port, with records in memory.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, ProstMessageExt,
};
use arrow_flight::{Action, FlightInfo, Ticket};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use skyflight_catalog::{
    CatalogStore, Column, Commit, CommitMode, NewTable, Owner, QueryRecord, QueryState, SqliteStore, TableCommit,
    TableFacts, TableKind,
};
use skyflight_engine::EngineError;
use skyflight_engine::dispatch::{ChunkDispatcher, DispatchRequest, FrameStream};
use skyflight_proto::ClusterKeys;
use skyflight_server::{CoordinatorConfig, RunningCoordinator};
use tonic::transport::Channel;

/// There are no workers.
#[derive(Debug)]
struct NoWorkers;

impl ChunkDispatcher for NoWorkers {
    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        if request.chunks.chunks.is_empty() {
            return futures::stream::empty().boxed();
        }
        futures::stream::iter([Err(EngineError::Unavailable("there are no workers in this test".into()))]).boxed()
    }
}

pub(crate) struct TestCoordinator {
    pub(crate) running: RunningCoordinator,
    pub(crate) store: Arc<dyn CatalogStore>,
    pub(crate) keys: Arc<ClusterKeys>,
    _spill: tempfile::TempDir,
}

pub(crate) type Client = FlightSqlServiceClient<Channel>;

impl TestCoordinator {
    pub(crate) async fn start() -> TestCoordinator {
        TestCoordinator::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut CoordinatorConfig)) -> TestCoordinator {
        let store: Arc<dyn CatalogStore> = Arc::new(SqliteStore::in_memory().await.unwrap());
        TestCoordinator::start_on(store, Arc::new(ClusterKeys::generate()), adjust).await
    }

    pub(crate) async fn start_on(
        store: Arc<dyn CatalogStore>,
        keys: Arc<ClusterKeys>,
        adjust: impl FnOnce(&mut CoordinatorConfig),
    ) -> TestCoordinator {
        TestCoordinator::start_over(store, keys, Arc::new(NoWorkers), adjust).await
    }

    pub(crate) async fn start_over(
        store: Arc<dyn CatalogStore>,
        keys: Arc<ClusterKeys>,
        dispatcher: Arc<dyn ChunkDispatcher>,
        adjust: impl FnOnce(&mut CoordinatorConfig),
    ) -> TestCoordinator {
        let spill = tempfile::tempdir().unwrap();
        let mut config =
            CoordinatorConfig::new("127.0.0.1:0".parse().unwrap(), Arc::clone(&keys), spill.path().to_owned());
        config.threads = 2;
        adjust(&mut config);
        let running = skyflight_server::start(config, Arc::clone(&store), dispatcher).await.unwrap();
        TestCoordinator { running, store, keys, _spill: spill }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = format!("http://{}", self.running.address());
        Channel::from_shared(address).unwrap().tcp_nodelay(true).connect().await.unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        FlightSqlServiceClient::new(self.channel().await)
    }

    /// The record of the only query, once it is closed.
    pub(crate) async fn closed_record(&self) -> QueryRecord {
        for _ in 0..400 {
            let records = self.store.queries(10).await.unwrap();
            assert!(records.len() < 2, "more than one query was recorded: {records:?}");
            if let Some(record) = records.into_iter().find(|r| r.state != QueryState::Running) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no query record was closed within 10 s");
    }

    /// A database `Sky` with a director, its child and a replicated table, all without rows.
    pub(crate) async fn add_tables(&self) {
        let database = self.store.create_database("Sky", Some("a test")).await.unwrap();
        let owner = Owner { host: "here".into(), pid: std::process::id(), program: "test".into() };
        let transaction = self.store.open_transaction(database.id, &owner).await.unwrap();
        let commit = Commit {
            scheme: Some(skyflight_sky::SchemeSpec::Stripes { stripes: 18, sub_stripes: 10, overlap_deg: 0.01 }),
            tables: vec![
                TableCommit {
                    ended: Vec::new(),
                    table: director(
                        "Object",
                        ["objectId", "ra_PS", "decl_PS"],
                        vec![
                            column("objectId", "Int64", None, Some("the object's id")),
                            column("ra_PS", "Float64", Some("deg"), Some("right ascension")),
                            column("decl_PS", "Float64", Some("deg"), None),
                            column("name", "Utf8", None, None),
                            column("_healpix_29", "Int64", None, None),
                        ],
                    ),
                    mode: CommitMode::Append,
                    facts: TableFacts::default(),
                    files: Vec::new(),
                },
                TableCommit {
                    ended: Vec::new(),
                    table: NewTable {
                        name: "Source".into(),
                        kind: TableKind::Child,
                        columns: vec![
                            column("sourceId", "Int64", None, None),
                            column("objectId", "Int64", None, None),
                            column("_healpix_29", "Int64", None, None),
                        ],
                        id_column: Some("sourceId".into()),
                        ra_column: None,
                        dec_column: None,
                        director: Some("Object".into()),
                        director_key: Some("objectId".into()),
                        second_director: None,
                        second_director_key: None,
                        description: None,
                    },
                    mode: CommitMode::Append,
                    facts: TableFacts::default(),
                    files: Vec::new(),
                },
                TableCommit {
                    ended: Vec::new(),
                    table: NewTable {
                        name: "Filter_Names".into(),
                        kind: TableKind::Replicated,
                        columns: vec![column("band", "Utf8", None, None)],
                        id_column: None,
                        ra_column: None,
                        dec_column: None,
                        director: None,
                        director_key: None,
                        second_director: None,
                        second_director_key: None,
                        description: None,
                    },
                    mode: CommitMode::Append,
                    facts: TableFacts::default(),
                    files: Vec::new(),
                },
            ],
        };
        self.store.commit(transaction.id, commit).await.unwrap();
    }
}

/// A director with its columns of ids and positions.
pub(crate) fn director(name: &str, [id, ra, dec]: [&str; 3], columns: Vec<Column>) -> NewTable {
    NewTable {
        name: name.into(),
        kind: TableKind::Director,
        columns,
        id_column: Some(id.into()),
        ra_column: Some(ra.into()),
        dec_column: Some(dec.into()),
        director: None,
        director_key: None,
        second_director: None,
        second_director_key: None,
        description: None,
    }
}

pub(crate) fn column(name: &str, data_type: &str, unit: Option<&str>, description: Option<&str>) -> Column {
    Column {
        name: name.into(),
        data_type: data_type.into(),
        nullable: !name.starts_with('_'),
        unit: unit.map(str::to_owned),
        ucd: None,
        description: description.map(str::to_owned),
    }
}

/// The one ticket of a FlightInfo with one endpoint and no locations.
pub(crate) fn ticket(info: &FlightInfo) -> Ticket {
    assert_eq!(info.endpoint.len(), 1);
    assert!(info.endpoint[0].location.is_empty(), "no location means: here");
    info.endpoint[0].ticket.clone().unwrap()
}

/// All batches of a FlightInfo, and the schema its stream began with, which the info must promise.
pub(crate) async fn fetch(client: &mut Client, info: FlightInfo) -> (SchemaRef, Vec<RecordBatch>) {
    let promised = info.clone().try_decode_schema().unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    let batches: Vec<RecordBatch> = stream.by_ref().try_collect().await.unwrap();
    let schema = stream.schema().expect("a schema message comes even without rows").clone();
    assert_eq!(*schema, promised, "DoGet and GetFlightInfo say the same schema");
    for batch in &batches {
        assert_eq!(batch.schema(), schema);
    }
    (schema, batches)
}

/// Runs a query by GetFlightInfo and DoGet.
pub(crate) async fn query(client: &mut Client, sql: &str) -> (SchemaRef, Vec<RecordBatch>) {
    let info = client.execute(sql.into(), None).await.unwrap();
    fetch(client, info).await
}

/// The values of a text column, over batches; panics on nulls.
pub(crate) fn texts(batches: &[RecordBatch], column: &str) -> Vec<String> {
    let mut found = Vec::new();
    for batch in batches {
        let column = batch.column_by_name(column).unwrap().as_string::<i32>();
        assert_eq!(column.null_count(), 0);
        found.extend((0..column.len()).map(|row| column.value(row).to_owned()));
    }
    found
}

/// The values of a BIGINT column, over batches.
pub(crate) fn integers(batches: &[RecordBatch], column: usize) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// Prepares a statement as the wire has it: the message, and the bytes of its encoding that
/// arrow-flight's form of the message does not know.
pub(crate) async fn prepare(client: &mut Client, sql: &str) -> (ActionCreatePreparedStatementResult, Vec<u8>) {
    let request = ActionCreatePreparedStatementRequest { query: sql.into(), transaction_id: None };
    let action = Action { r#type: "CreatePreparedStatement".into(), body: request.as_any().encode_to_vec().into() };
    let mut results = client.do_action(action).await.unwrap();
    let any = Any::decode(results.message().await.unwrap().unwrap().body).unwrap();
    let message = any.unpack::<ActionCreatePreparedStatementResult>().unwrap().unwrap();
    assert!(results.message().await.unwrap().is_none());
    let unknown = any.value[message.encoded_len()..].to_vec();
    (message, unknown)
}

/// The gRPC code and message of an error of the client.
pub(crate) fn status(error: &(dyn std::error::Error + 'static)) -> (tonic::Code, String) {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(status) = error.downcast_ref::<tonic::Status>() {
            return (status.code(), status.message().to_owned());
        }
        if let Some(arrow_flight::error::FlightError::Tonic(status)) = error.downcast_ref() {
            return (status.code(), status.message().to_owned());
        }
        next = error.source();
    }
    panic!("not a gRPC status: {error:?}");
}
