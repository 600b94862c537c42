//! Queries through GetFlightInfo and DoGet: rows, schemas, planning again, many rows in little
//! memory.

use arrow::datatypes::{DataType, Schema};
use arrow_flight::sql::{CommandGetTables, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, IpcMessage};
use futures::TryStreamExt;
use prost::Message;
use skyflight_catalog::QueryState;

use super::coordinator::{TestCoordinator, fetch, integers, query, ticket};

#[tokio::test(flavor = "multi_thread")]
async fn a_query_without_tables() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let (schema, batches) = query(&mut client, "SELECT 1 + 1 AS two, 'é' AS text, NULL AS nothing").await;
    let fields: Vec<_> =
        schema.fields().iter().map(|f| (f.name().as_str(), f.data_type().clone(), f.is_nullable())).collect();
    // The client profile: everything nullable, no views.
    assert_eq!(
        fields,
        [("two", DataType::Int64, true), ("text", DataType::Utf8, true), ("nothing", DataType::Null, true)]
    );
    assert_eq!(integers(&batches, 0), [2]);
    let record = coordinator.closed_record().await;
    assert_eq!((record.state, record.rows, record.user.as_str()), (QueryState::Finished, 1, "local"));
    assert_eq!(record.sql, "SELECT 1 + 1 AS two, 'é' AS text, NULL AS nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_without_rows_has_its_schema() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let (schema, batches) = query(&mut client, "SELECT 1 AS a WHERE 1 = 2").await;
    assert_eq!(schema.field(0).name(), "a");
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_many_comes_once_and_messages_stay_small() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let rows = 3_000_000_i64;
    let info = client.execute(format!("SELECT value FROM generate_series(1, {rows})"), None).await.unwrap();
    let mut stream = client.inner_mut().do_get(ticket(&info)).await.unwrap().into_inner();
    let mut largest = 0;
    let mut messages = 0;
    let mut data = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        largest = largest.max(message.encoded_len());
        messages += 1;
        data.push(message);
    }
    assert!(largest < 4_000_000, "a message of {largest} bytes");
    assert!(messages > 20, "{messages} messages for 24 MB");
    let batches: Vec<_> = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(
        data.into_iter().map(Ok),
    ))
    .try_collect()
    .await
    .unwrap();
    let mut values = integers(&batches, 0);
    values.sort_unstable();
    assert_eq!(values.len() as i64, rows);
    assert!(values.iter().zip(1..).all(|(found, expected)| *found == expected), "rows lost or doubled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_stops_the_query_instead_of_filling_memory() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    // 80 GB, were it ever made.
    let info = client.execute("SELECT value FROM generate_series(1, 10000000000)".into(), None).await.unwrap();
    let mut stream = client.inner_mut().do_get(ticket(&info)).await.unwrap().into_inner();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    // The default windows of the client hold 64 KiB; the server must stand still meanwhile.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    drop(stream);
    let record = coordinator.closed_record().await;
    assert_eq!(record.state, QueryState::Cancelled);
    assert!(record.bytes < 64 << 20, "{} bytes left for a client that read three messages", record.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_coordinator_serves_the_ticket_by_planning_again() {
    let first = TestCoordinator::start().await;
    let second = TestCoordinator::start_on(first.store.clone(), first.keys.clone(), |_| ()).await;
    let info = first.client().await.execute("SELECT value FROM generate_series(1, 5)".into(), None).await.unwrap();
    let (_, batches) = fetch(&mut second.client().await, info).await;
    assert_eq!(integers(&batches, 0), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_redeemed_as_often_as_wanted() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT value FROM generate_series(1, 3)".into(), None).await.unwrap();
    for _ in 0..3 {
        let (_, batches) = fetch(&mut client, info.clone()).await;
        assert_eq!(integers(&batches, 0), [1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn get_schema_says_what_the_query_gives() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let sql = "SELECT 1.5 AS x, 'a' AS y".to_string();
    let commands = [
        CommandStatementQuery { query: sql.clone(), transaction_id: None }.as_any(),
        CommandGetTables { include_schema: true, ..Default::default() }.as_any(),
    ];
    let (by_query, _) = query(&mut client, &sql).await;
    let info = client.get_tables(CommandGetTables { include_schema: true, ..Default::default() }).await.unwrap();
    let (by_metadata, _) = fetch(&mut client, info).await;
    for (command, expected) in commands.into_iter().zip([by_query, by_metadata]) {
        let descriptor = FlightDescriptor::new_cmd(command.encode_to_vec());
        let told = client.inner_mut().get_schema(descriptor).await.unwrap().into_inner();
        let told = Schema::try_from(IpcMessage(told.schema)).unwrap();
        assert_eq!(told, *expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_and_information_schema_are_queries_too() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let (schema, batches) = query(&mut client, "EXPLAIN SELECT 1").await;
    assert_eq!(schema.field(0).name(), "plan_type");
    assert!(batches.iter().map(|b| b.num_rows()).sum::<usize>() > 0);
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'Sky' ORDER BY table_name";
    let (_, batches) = query(&mut client, sql).await;
    assert_eq!(super::coordinator::texts(&batches, "table_name"), ["Filter_Names", "Object", "Source"]);
}
