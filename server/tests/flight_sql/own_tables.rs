//! Tables of users' own, with a writer that keeps rows in memory: what the face asks of a writer, how
//! often, and what it tells clients. The real writer is tested in `integration`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::sql::{
    CommandGetTables, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementUpdate,
    DoPutUpdateResult, ProstMessageExt, TableDefinitionOptions,
};
use arrow_flight::{FlightData, FlightDescriptor};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use skyflight_catalog::{
    CatalogStore, Column, Commit, CommitMode, NewTable, Owner, TableCommit, TableFacts, TableKind,
};
use skyflight_engine::EngineError;
use skyflight_server::{DirectorColumns, RowStream, TableWriter, Upload, UploadLimits, UploadMode};
use tonic::{Code, Status};

use super::coordinator::{Client, TestCoordinator, column, fetch, prepare, status, texts, ticket};
use super::parameters::values;
use super::prepared::{bind, command};

/// Declares the tables in the catalog, as the ingest would, and keeps their rows.
#[derive(Debug)]
struct InMemory {
    store: Arc<dyn CatalogStore>,
    written: Mutex<Vec<(Upload, RecordBatch)>>,
}

#[async_trait]
impl TableWriter for InMemory {
    async fn write(&self, upload: Upload, rows: RowStream) -> Result<u64, EngineError> {
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        let rows = concat_batches(&upload.schema, &batches).unwrap();
        let database = match self.store.database(&upload.database).await {
            Ok(database) => database,
            Err(_) => self.store.create_database(&upload.database, None).await?,
        };
        let owner = Owner::this_process("test");
        let transaction = self.store.open_transaction(database.id, &owner).await?;
        let columns: Vec<Column> = upload
            .schema
            .fields()
            .iter()
            .map(|field| Column { nullable: true, ..column(field.name(), &field.data_type().to_string(), None, None) })
            .collect();
        let table = NewTable {
            name: upload.table.clone(),
            kind: TableKind::Replicated,
            columns,
            id_column: None,
            ra_column: None,
            dec_column: None,
            director: None,
            director_key: None,
            second_director: None,
            second_director_key: None,
            description: None,
        };
        let mode = match upload.mode {
            UploadMode::Append => CommitMode::Append,
            UploadMode::Replace => CommitMode::Replace,
        };
        let commit = TableCommit { table, mode, facts: TableFacts::default(), files: Vec::new(), ended: Vec::new() };
        self.store.commit(transaction.id, Commit { scheme: None, tables: vec![commit] }).await?;
        let count = rows.num_rows() as u64;
        self.written.lock().push((upload, rows));
        Ok(count)
    }
}

struct Rig {
    coordinator: TestCoordinator,
    writer: Arc<InMemory>,
}

impl Rig {
    async fn start() -> Rig {
        let store: Arc<dyn CatalogStore> = Arc::new(skyflight_catalog::SqliteStore::in_memory().await.unwrap());
        let writer = Arc::new(InMemory { store: Arc::clone(&store), written: Mutex::default() });
        let keys = Arc::new(skyflight_proto::ClusterKeys::generate());
        let table_writer: Arc<dyn TableWriter> = writer.clone();
        let coordinator =
            TestCoordinator::start_on(store, keys, |config| config.table_writer = Some(table_writer)).await;
        Rig { coordinator, writer }
    }

    /// What was written since the last call: table, mode, and rows as text.
    fn written(&self) -> Vec<(String, UploadMode, Vec<String>)> {
        let written: Vec<_> = self.writer.written.lock().drain(..).collect();
        let shown = |rows: &RecordBatch| -> Vec<String> {
            let columns: Vec<_> = rows
                .columns()
                .iter()
                .map(|c| arrow::util::display::ArrayFormatter::try_new(c, &Default::default()).unwrap())
                .collect();
            let row = |at: usize| columns.iter().map(|c| c.value(at).to_string()).collect::<Vec<_>>().join(",");
            (0..rows.num_rows()).map(row).collect()
        };
        written
            .iter()
            .map(|(upload, rows)| (format!("{}.{}", upload.database, upload.table), upload.mode, shown(rows)))
            .collect()
    }
}

/// DoPut of messages: the count in the answer.
async fn put(client: &mut Client, messages: Vec<FlightData>) -> Result<i64, Status> {
    let mut results = client.inner_mut().do_put(futures::stream::iter(messages)).await?.into_inner();
    let result = results.message().await?.unwrap();
    Ok(DoPutUpdateResult::decode(result.app_metadata).unwrap().record_count)
}

fn alone(descriptor: FlightDescriptor) -> Vec<FlightData> {
    vec![FlightData { flight_descriptor: Some(descriptor), ..FlightData::default() }]
}

async fn with_rows(descriptor: FlightDescriptor, rows: RecordBatch) -> Vec<FlightData> {
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor)).with_schema(rows.schema());
    encoder.build(futures::stream::iter([Ok(rows)])).try_collect().await.unwrap()
}

async fn update(client: &mut Client, sql: &str) -> Result<i64, Status> {
    let command = CommandStatementUpdate { query: sql.into(), transaction_id: None };
    put(client, alone(FlightDescriptor::new_cmd(command.as_any().encode_to_vec()))).await
}

fn rows(numbers: &[i64]) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    RecordBatch::try_from_iter([("n", numbers)]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_runs_once_whichever_call_brings_it() {
    let rig = Rig::start().await;
    let mut client = rig.coordinator.client().await;
    // GetFlightInfo runs it; DoGet, as often as it is called, does not.
    let info = client.execute("CREATE TABLE mydb.t AS SELECT 1 AS n UNION ALL SELECT 2 ORDER BY n".into(), None).await;
    let info = info.unwrap();
    assert_eq!(info.total_records, 2);
    let expect = vec![("user_local.t".to_owned(), UploadMode::Append, vec!["1".to_owned(), "2".to_owned()])];
    assert_eq!(rig.written(), expect);
    for _ in 0..2 {
        let (schema, batches) = fetch(&mut client, info.clone()).await;
        assert_eq!(schema.fields().len(), 0);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
    assert_eq!(rig.written(), []);
    // Preparing and describing run nothing.
    let (prepared, unknown) = prepare(&mut client, "INSERT INTO mydb.t VALUES (3)").await;
    assert_eq!(unknown, [0x20, 0x01]);
    assert_eq!(Schema::try_from(arrow_flight::IpcMessage(prepared.dataset_schema)).unwrap(), Schema::empty());
    let handle = prepared.prepared_statement_handle;
    client.inner_mut().get_schema(command(&handle)).await.unwrap();
    assert_eq!(rig.written(), []);
    // A prepared one by GetFlightInfo or DoPut.
    client.inner_mut().get_flight_info(command(&handle)).await.unwrap();
    let run = CommandPreparedStatementUpdate { prepared_statement_handle: handle };
    let run = FlightDescriptor::new_cmd(run.as_any().encode_to_vec());
    assert_eq!(put(&mut client, alone(run)).await.unwrap(), 1);
    let once = || ("user_local.t".to_owned(), UploadMode::Append, vec!["3".to_owned()]);
    assert_eq!(rig.written(), [once(), once()]);
    assert_eq!(update(&mut client, "INSERT INTO t (N) SELECT 4").await.unwrap(), 1);
    assert_eq!(update(&mut client, "CREATE TABLE IF NOT EXISTS t AS SELECT 5 AS n").await.unwrap(), 0);
    assert_eq!(update(&mut client, "CREATE OR REPLACE TABLE t AS SELECT 'x' AS s, 6 AS n").await.unwrap(), 1);
    assert_eq!(update(&mut client, "CREATE TABLE u (a BIGINT, b DOUBLE)").await.unwrap(), 0);
    let found = rig.written();
    let found: Vec<_> = found.iter().map(|(name, mode, rows)| (name.as_str(), *mode, rows.join(" "))).collect();
    assert_eq!(
        found,
        [
            ("user_local.t", UploadMode::Append, "4".to_owned()),
            ("user_local.t", UploadMode::Replace, "x,6".to_owned()),
            ("user_local.u", UploadMode::Append, String::new()),
        ]
    );
    // The text is not sent back twice, so the answer to a long statement reaches its client.
    let long = format!("INSERT INTO u SELECT 1, 2 -- {}", "x".repeat(2_500_000));
    let info = client.execute(long, None).await.unwrap();
    assert_eq!(info.total_records, 1);
    assert!(ticket(&info).ticket.len() < 10_000);
    rig.written();
    let long = format!("SELECT 1 AS one -- {}", "x".repeat(2_500_000));
    let info = client.execute(long, None).await.unwrap();
    fetch(&mut client, info).await;
    update(&mut client, "DROP TABLE mydb.U").await.unwrap();
    update(&mut client, "DROP TABLE IF EXISTS mydb.u").await.unwrap();
    let gone = update(&mut client, "DROP TABLE u").await.unwrap_err();
    assert!(gone.code() == Code::NotFound && gone.message().contains("yours are t"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_inserted_row_by_row_and_many_at_once() {
    let rig = Rig::start().await;
    let mut client = rig.coordinator.client().await;
    update(&mut client, "CREATE TABLE t (n BIGINT, x FLOAT, s VARCHAR)").await.unwrap();
    rig.written();
    let (prepared, _) = prepare(&mut client, "INSERT INTO t (s, n) VALUES (?, ?)").await;
    let parameters = Schema::try_from(arrow_flight::IpcMessage(prepared.parameter_schema)).unwrap();
    let types: Vec<_> = parameters.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, [&DataType::Utf8, &DataType::Int64]);
    let handle = prepared.prepared_statement_handle;
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
    let three = values(vec![texts, Arc::new(Int64Array::from(vec![1, 2, 3]))]);
    // Go, Java and C++ send the values with the update.
    let run = CommandPreparedStatementUpdate { prepared_statement_handle: handle.clone() };
    let run = FlightDescriptor::new_cmd(run.as_any().encode_to_vec());
    assert_eq!(put(&mut client, with_rows(run, three.slice(0, 3)).await).await.unwrap(), 3);
    // The Rust client binds first.
    let bound = bind(&mut client, &handle, Some(three.slice(1, 1))).await.unwrap().unwrap();
    let run = CommandPreparedStatementUpdate { prepared_statement_handle: bound.clone() };
    let run = FlightDescriptor::new_cmd(run.as_any().encode_to_vec());
    assert_eq!(put(&mut client, alone(run)).await.unwrap(), 1);
    // ADBC's cursor.execute binds and asks for a FlightInfo.
    let info = client.inner_mut().get_flight_info(command(&bound)).await.unwrap().into_inner();
    assert_eq!(info.total_records, 1);
    let (_, _, found) = rig.written().into_iter().next().unwrap();
    assert_eq!(found, ["1,,a", "2,,", "3,,c"]);
    // No rows of values insert no rows, not those bound before.
    for handle in [&handle, &bound] {
        let run = CommandPreparedStatementUpdate { prepared_statement_handle: handle.clone() };
        let run = FlightDescriptor::new_cmd(run.as_any().encode_to_vec());
        assert_eq!(put(&mut client, with_rows(run, three.slice(0, 0)).await).await.unwrap(), 0);
    }
    let none = bind(&mut client, &handle, Some(three.slice(0, 0))).await.unwrap().unwrap();
    let info = client.inner_mut().get_flight_info(command(&none)).await.unwrap().into_inner();
    assert_eq!((info.total_records, rig.written()), (0, vec![]));
    let refused = update(&mut client, "INSERT INTO t VALUES (1, 2)").await.unwrap_err();
    assert!(refused.message().contains("has 3 columns, and the rows have 2"), "{refused}");
    let refused = update(&mut client, "INSERT INTO t (n, z) VALUES (1, 2)").await.unwrap_err();
    assert!(refused.message().contains("no column \"z\""), "{refused}");
    let refused = update(&mut client, "INSERT INTO t (n) VALUES ('many')").await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("\"n\" is Int64"), "{refused}");
    let queries = update(&mut client, "SELECT 1").await.unwrap_err();
    assert!(queries.code() == Code::InvalidArgument && queries.message().contains("run it as a query"));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_come_in_four_modes() {
    let rig = Rig::start().await;
    let mut client = rig.coordinator.client().await;
    // TableDefinitionOptions as the drivers' modes set them: (if_not_exist, if_exists).
    let (create, append, replace, create_append) = ((1, 1), (2, 2), (1, 3), (1, 2));
    let descriptor = |(if_not_exist, if_exists): (i32, i32), schema: Option<&str>| {
        let command = CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions { if_not_exist, if_exists }),
            table: "list".into(),
            schema: schema.map(str::to_owned),
            catalog: None,
            temporary: false,
            transaction_id: None,
            options: Default::default(),
        };
        FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
    };
    let mut ingest = async |mode, schema, rows| put(&mut client, with_rows(descriptor(mode, schema), rows).await).await;
    let absent = ingest(append, None, rows(&[1])).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound, "{absent}");
    assert_eq!(ingest(create, None, rows(&[1, 2])).await.unwrap(), 2);
    let exists = ingest(create, Some("mydb"), rows(&[3])).await.unwrap_err();
    assert!(exists.code() == Code::AlreadyExists && exists.message().contains("list"), "{exists}");
    assert_eq!(ingest(append, Some("user_local"), rows(&[4])).await.unwrap(), 1);
    assert_eq!(ingest(create_append, Some("MyDB"), rows(&[5])).await.unwrap(), 1);
    assert_eq!(ingest(replace, None, rows(&[6])).await.unwrap(), 1);
    assert_eq!(ingest(append, None, rows(&[])).await.unwrap(), 0);
    let foreign = ingest(create, Some("Sky"), rows(&[7])).await.unwrap_err();
    let others = ingest(create, Some("user_vera"), rows(&[7])).await.unwrap_err();
    for refused in [foreign, others] {
        assert!(refused.code() == Code::PermissionDenied && refused.message().contains("mydb"), "{refused}");
    }
    let other_columns = RecordBatch::try_from_iter([("m", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let refused = ingest(append, None, other_columns).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("\"m\""), "{refused}");
    let found = rig.written();
    let found: Vec<_> = found.iter().map(|(_, mode, rows)| (*mode, rows.join(" "))).collect();
    assert_eq!(
        found,
        [
            (UploadMode::Append, "1 2".to_owned()),
            (UploadMode::Append, "4".to_owned()),
            (UploadMode::Append, "5".to_owned()),
            (UploadMode::Replace, "6".to_owned()),
            (UploadMode::Append, String::new()),
        ]
    );
    // A descriptor alone has no schema, and an empty stream not even a table.
    let nothing = put(&mut client, alone(descriptor(create, None))).await.unwrap_err();
    assert!(nothing.code() == Code::InvalidArgument && nothing.message().contains("no schema"), "{nothing}");
    let nothing = put(&mut client, Vec::new()).await.unwrap_err();
    assert!(nothing.message().contains("CREATE TABLE"), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_and_metadata_make_a_director() {
    let rig = Rig::start().await;
    let mut client = rig.coordinator.client().await;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("star", Arc::new(Int64Array::from(vec![1, 2]))),
        ("alpha", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
        ("delta", Arc::new(Float64Array::from(vec![3.0, 4.0]))),
    ];
    let plain = RecordBatch::try_from_iter(columns).unwrap();
    let roles = [("skyflight.ra", "alpha"), ("skyflight.dec", "delta"), ("skyflight.id", "star")];
    let metadata = roles.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let schema = plain.schema().as_ref().clone().with_metadata(metadata);
    let marked = plain.clone().with_schema(Arc::new(schema)).unwrap();
    let path = |parts: &[&str]| FlightDescriptor::new_path(parts.iter().map(|p| (*p).to_owned()).collect());
    assert_eq!(put(&mut client, with_rows(path(&["mydb", "stars"]), marked).await).await.unwrap(), 2);
    assert_eq!(put(&mut client, with_rows(path(&["plain"]), plain).await).await.unwrap(), 2);
    let directors: Vec<_> = rig.writer.written.lock().iter().map(|(upload, _)| upload.director.clone()).collect();
    let expect = DirectorColumns { ra: "alpha".into(), dec: "delta".into(), id: "star".into() };
    assert_eq!(directors, [Some(expect.clone()), None]);
    rig.written();
    let sql =
        "CREATE TABLE d WITH (ra = alpha, dec = 'delta', id = star) AS SELECT 1 AS star, 2.0 AS alpha, 3.0 AS delta";
    update(&mut client, sql).await.unwrap();
    assert_eq!(rig.writer.written.lock()[0].0.director, Some(expect));
    for (options, word) in
        [("ra = alpha", "all of the options"), ("kind = x", "kind"), ("ra = a, dec = delta, id = star", "\"a\"")]
    {
        let sql = format!("CREATE TABLE e WITH ({options}) AS SELECT 1 AS star, 2.0 AS alpha, 3.0 AS delta");
        let refused = update(&mut client, &sql).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains(word), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_named() {
    let rig = Rig::start().await;
    let mut client = rig.coordinator.client().await;
    for (query, code, word) in [
        ("SELECT INTERVAL '1 day' AS wait", Code::Unimplemented, "\"wait\""),
        ("SELECT NULL AS nothing", Code::Unimplemented, "\"nothing\""),
        ("SELECT 1 AS a, 2 AS A", Code::InvalidArgument, "two columns"),
        ("SELECT 1 / 0 AS a", Code::InvalidArgument, ""),
        ("SELECT * FROM nowhere", Code::NotFound, "nowhere"),
    ] {
        let refused = update(&mut client, &format!("CREATE TABLE t AS {query}")).await.unwrap_err();
        assert!(refused.code() == code && refused.message().contains(word), "{query}: {refused}");
    }
    assert_eq!(rig.written(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_uploads_arrive_in_pieces() {
    let rig = Rig::start().await;
    let mut client = rig.coordinator.client().await;
    let rows = 300_000;
    let bands: DictionaryArray<Int32Type> = (0..rows).map(|n| ["g", "r", "i"].get(n % 4).copied()).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        ("band", Arc::new(bands)),
        ("nothing", Arc::new(FixedSizeBinaryArray::new_null(256, rows))),
    ];
    let sent = RecordBatch::try_from_iter(columns).unwrap();
    let path = |table: &str| FlightDescriptor::new_path(vec![table.into()]);
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let encode = async |table: &str, batch: RecordBatch| -> Vec<FlightData> {
        let encoder = FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(path(table)))
            .with_schema(batch.schema())
            .with_options(options.clone())
            .with_dictionary_handling(DictionaryHandling::Resend)
            .with_max_flight_data_size(8 << 20);
        encoder.build(futures::stream::iter([Ok(batch)])).try_collect().await.unwrap()
    };
    assert_eq!(put(&mut client, encode("t", sent.clone()).await).await.unwrap(), rows as i64);
    let (_, kept) = rig.writer.written.lock().pop().unwrap();
    assert_eq!(kept.column(0), sent.column(0));
    assert_eq!(kept.column(1), &arrow::compute::cast(sent.column(1), &DataType::Utf8).unwrap());
    assert_eq!(kept.column(2).null_count(), rows);
    // A column that is not sent is NULL, however wide: made in pieces.
    assert_eq!(put(&mut client, encode("t", sent.project(&[0]).unwrap()).await).await.unwrap(), rows as i64);
    let (_, kept) = rig.writer.written.lock().pop().unwrap();
    assert_eq!((kept.num_rows(), kept.column(2).null_count()), (rows, rows));
    let wide = RecordBatch::try_from_iter([("w", Arc::new(FixedSizeBinaryArray::new_null(2 << 20, 0)) as ArrayRef)]);
    let refused = put(&mut client, encode("w", wide.unwrap()).await).await.unwrap_err();
    assert!(refused.code() == Code::Unimplemented && refused.message().contains("Binary"), "{refused}");
}

/// Takes the first rows, then waits to be told to go on, and goes on though nobody waits for it.
#[derive(Debug)]
struct Slow {
    began: tokio::sync::Semaphore,
    go_on: tokio::sync::Semaphore,
    ended: Mutex<Vec<bool>>,
}

#[async_trait]
impl TableWriter for Slow {
    async fn write(&self, _: Upload, rows: RowStream) -> Result<u64, EngineError> {
        self.began.add_permits(1);
        self.go_on.acquire().await.unwrap().forget();
        let rows: Result<Vec<RecordBatch>, _> = rows.try_collect().await;
        self.ended.lock().push(rows.is_ok());
        rows.map(|batches| batches.iter().map(|batch| batch.num_rows() as u64).sum())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_lasts_as_long_as_the_writing() {
    let store: Arc<dyn CatalogStore> = Arc::new(skyflight_catalog::SqliteStore::in_memory().await.unwrap());
    let slow = Arc::new(Slow {
        began: tokio::sync::Semaphore::new(0),
        go_on: tokio::sync::Semaphore::new(0),
        ended: Mutex::default(),
    });
    let writer: Arc<dyn TableWriter> = slow.clone();
    let keys = Arc::new(skyflight_proto::ClusterKeys::generate());
    let coordinator = TestCoordinator::start_on(store, keys, |config| config.table_writer = Some(writer)).await;
    let begin = |mut client: Client, sql: &'static str| tokio::spawn(async move { update(&mut client, sql).await });
    let first = begin(coordinator.client().await, "CREATE TABLE a AS SELECT value FROM generate_series(1, 9)");
    slow.began.acquire().await.unwrap().forget();
    first.abort();
    let second = begin(coordinator.client().await, "CREATE TABLE b AS SELECT value FROM generate_series(1, 5)");
    // The first one's client is gone, and its writer is not: the second has to wait.
    let waited = tokio::time::timeout(std::time::Duration::from_millis(500), slow.began.acquire()).await;
    assert!(waited.is_err() && slow.ended.lock().is_empty());
    slow.go_on.add_permits(2);
    assert_eq!(second.await.unwrap().unwrap(), 5);
    assert_eq!(*slow.ended.lock(), [false, true], "rows of a client that is gone end with an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_tables_are_nobody_elses() {
    let rig = Rig::start().await;
    let mut vera = rig.coordinator.client().await;
    vera.handshake("vera", "").await.unwrap();
    let mut other = rig.coordinator.client().await;
    other.handshake("other", "").await.unwrap();
    // The client's own calls carry its token.
    vera.execute_update("CREATE TABLE mydb.secret AS SELECT 1 AS n".into(), None).await.unwrap();
    let databases =
        "SELECT DISTINCT schema_name AS name FROM information_schema.schemata WHERE schema_name LIKE 'user%'";
    let info = vera.execute(databases.into(), None).await.unwrap();
    assert_eq!(texts(&fetch(&mut vera, info).await.1, "name"), ["user_vera"]);
    let info = other.execute(databases.into(), None).await.unwrap();
    assert_eq!(texts(&fetch(&mut other, info).await.1, "name"), [""; 0]);
    // Its owner finds it under all of its names; with no files there is no worker to ask.
    for name in ["mydb.secret", "user_vera.secret", "secret", "skyflight.MyDb.SECRET"] {
        let info = vera.execute(format!("SELECT mydb.secret.n FROM {name}"), None).await.unwrap();
        fetch(&mut vera, info).await;
    }
    let named = |schema: &str| CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some(schema.into()),
        table_name_filter_pattern: None,
        table_types: Vec::new(),
        include_schema: false,
    };
    for (of_vera, schema, expect) in [(true, "MyDb", vec!["secret"]), (false, "mydb", vec![]), (false, "user%", vec![])]
    {
        let client = if of_vera { &mut vera } else { &mut other };
        let info = client.get_tables(named(schema)).await.unwrap();
        let mut stream = client.do_get(ticket(&info)).await.unwrap();
        let batches: Vec<RecordBatch> = stream.by_ref().try_collect().await.unwrap();
        assert_eq!(texts(&batches, "table_name"), expect);
    }
    let absent = status(&other.execute("SELECT * FROM user_nobody.secret".into(), None).await.unwrap_err());
    let hidden = status(&other.execute("SELECT * FROM user_vera.secret".into(), None).await.unwrap_err());
    assert_eq!(absent.0, Code::NotFound);
    assert_eq!((hidden.0, hidden.1.replace("vera", "nobody")), absent);
    for (sql, code) in [("DROP TABLE user_vera.secret", Code::PermissionDenied), ("DROP TABLE secret", Code::NotFound)]
    {
        let refused = other.execute_update(sql.into(), None).await.unwrap_err();
        assert_eq!(status(&refused).0, code, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_kept() {
    let store: Arc<dyn CatalogStore> = Arc::new(skyflight_catalog::SqliteStore::in_memory().await.unwrap());
    let writer: Arc<dyn TableWriter> = Arc::new(InMemory { store: Arc::clone(&store), written: Mutex::default() });
    let keys = Arc::new(skyflight_proto::ClusterKeys::generate());
    let coordinator = TestCoordinator::start_on(store, keys, |config| {
        config.table_writer = Some(writer);
        config.user_quota = UploadLimits { rows: 0, bytes: 1 };
    })
    .await;
    let mut client = coordinator.client().await;
    let refused = update(&mut client, "CREATE TABLE t AS SELECT 1 AS n").await.unwrap_err();
    assert!(refused.code() == Code::ResourceExhausted && refused.message().contains("may hold 0"), "{refused}");
    let field = Field::new("n", DataType::Int64, true);
    let empty = RecordBatch::new_empty(Arc::new(Schema::new(vec![field])));
    let path = FlightDescriptor::new_path(vec!["t".into()]);
    assert_eq!(put(&mut client, with_rows(path, empty).await).await.unwrap_err().code(), Code::ResourceExhausted);
}
