//! The record of a query closes, whatever its client does; a coordinator stops when told.

use std::time::Duration;

use arrow_flight::{Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus};
use futures::StreamExt;
use prost::Message;
use skyflight_catalog::QueryState;
use tonic::Code;

use super::coordinator::{TestCoordinator, query, status, texts, ticket};

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_stream_cancels_the_query() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT value FROM generate_series(1, 100000000000)".into(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let record = coordinator.closed_record().await;
    assert_eq!(record.state, QueryState::Cancelled);
    assert!(record.rows > 0 && record.finished_ms.is_some(), "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_stream_whose_plan_gives_nothing_for_a_long_time_cancels_it() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    // A cross join that counts 10^14 pairs: no row comes, and the operator does not yield by itself.
    let sql = "SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b \
               WHERE a.value + b.value < 0";
    let info = client.execute(sql.into(), None).await.unwrap();
    let stream = client.do_get(ticket(&info)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(stream);
    assert_eq!(coordinator.closed_record().await.state, QueryState::Cancelled);
    let (_, batches) = tokio::time::timeout(Duration::from_secs(10), query(&mut client, "SELECT 1")).await.unwrap();
    assert_eq!(batches.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_keeps_no_place_after_a_cancel() {
    let coordinator = TestCoordinator::start_with(|config| config.max_queries = 1).await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT value FROM generate_series(1, 100000000000)".into(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    stream.next().await.unwrap().unwrap();
    // The connection's window fills, and nobody takes anything out of it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let record = &coordinator.store.queries(10).await.unwrap()[0];
    assert_eq!(record.state, QueryState::Running);
    let request = CancelFlightInfoRequest::new(info).encode_to_vec();
    let action = Action { r#type: "CancelFlightInfo".into(), body: request.into() };
    let mut told = client.do_action(action).await.unwrap();
    let told = CancelFlightInfoResult::decode(told.message().await.unwrap().unwrap().body).unwrap();
    assert_eq!(told.status(), CancelStatus::Cancelled);
    assert_eq!(coordinator.closed_record().await.state, QueryState::Cancelled);
    query(&mut client, "SELECT 1").await;
    // Who reads on gets what was under way, and then the reason.
    let mut last = None;
    while let Some(next) = stream.next().await {
        last = Some(next);
    }
    assert_eq!(status(&last.unwrap().unwrap_err()).0, Code::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_nobody_fetches_is_dropped_without_a_trace() {
    let coordinator = TestCoordinator::start_with(|config| config.plan_ttl = Duration::from_millis(100)).await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT 1 AS a".into(), None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(coordinator.store.queries(10).await.unwrap(), []);
    // Its ticket is good all the same.
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_plan_makes_room_for_the_newest() {
    let coordinator = TestCoordinator::start_with(|config| config.plans_waiting = 4).await;
    let mut client = coordinator.client().await;
    for n in 1..=8 {
        client.execute(format!("SELECT {n} AS n"), None).await.unwrap();
    }
    let waiting = "SELECT sql FROM system.queries WHERE state = 'waiting' AND sql LIKE '% AS n' ORDER BY sql";
    for _ in 0..100 {
        let left = texts(&query(&mut client, waiting).await.1, "sql");
        if left.len() <= 4 {
            assert_eq!(left.last().map(String::as_str), Some("SELECT 8 AS n"), "{left:?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no plan has made room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_query_is_recorded_as_failed() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    client.execute("SELECT * FROM nowhere".into(), None).await.unwrap_err();
    let record = coordinator.closed_record().await;
    assert_eq!((record.state, record.sql.as_str()), (QueryState::Failed, "SELECT * FROM nowhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_a_query_that_would_never_end() {
    let coordinator = TestCoordinator::start_with(|config| config.shutdown_grace = Duration::from_millis(300)).await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT value FROM generate_series(1, 100000000000)".into(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let stopping = coordinator.running.shutdown();
    let reading = async {
        while let Some(Ok(_)) = stream.next().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ((), stopped) =
        tokio::time::timeout(Duration::from_secs(20), futures::future::join(reading, stopping)).await.unwrap();
    stopped.unwrap();
    let records = coordinator.store.queries(10).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].state, QueryState::Cancelled);
}
