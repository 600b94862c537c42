//! What goes wrong, with the code and the words that a user can act on.

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{Any, CommandStatementSubstraitPlan, ProstMessageExt};
use arrow_flight::{Action, Criteria, FlightData, FlightDescriptor, Ticket};
use futures::StreamExt;
use prost::Message;
use skyflight_catalog::QueryState;
use tonic::Code;

use super::coordinator::{TestCoordinator, fetch, query, status, ticket};

#[tokio::test(flavor = "multi_thread")]
async fn a_users_mistake_is_never_internal() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let cases = [
        ("SELEC 1", Code::InvalidArgument, ""),
        ("", Code::InvalidArgument, ""),
        ("SELECT 1; SELECT 2", Code::InvalidArgument, ""),
        ("SELECT * FROM Sky.Objct", Code::NotFound, "Object"),
        ("SELECT objectid2 FROM Sky.Object", Code::InvalidArgument, "objectId"),
        ("SELECT nosuchfunction(1)", Code::InvalidArgument, ""),
        ("CREATE VIEW v AS SELECT 1", Code::PermissionDenied, ""),
        ("CREATE TABLE Sky.t (a INT)", Code::PermissionDenied, "mydb"),
        ("CREATE TABLE t (a INT)", Code::Unimplemented, ""),
        ("DROP TABLE t", Code::NotFound, "mydb.t"),
        ("SELECT ?", Code::InvalidArgument, "no values"),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", Code::PermissionDenied, ""),
        ("SET datafusion.execution.batch_size = 1", Code::PermissionDenied, ""),
    ];
    for (sql, code, word) in cases {
        let error = client.execute(sql.into(), None).await.unwrap_err();
        let (found, message) = status(&error);
        assert!(found == code && message.contains(word), "{sql}: {found:?} {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_ends_with_an_error() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    // Rows 1 to 99,999 are fine; then one divides by zero.
    let sql = "SELECT 1 / (100000 - value) AS x FROM generate_series(1, 200000)";
    let info = client.execute(sql.into(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    let error = loop {
        match stream.next().await.expect("the stream ended as if it were complete") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(status(&error).0, Code::InvalidArgument, "{error}");
    let record = coordinator.closed_record().await;
    assert_eq!(record.state, QueryState::Failed);
    assert!(record.error.unwrap().to_lowercase().contains("zero"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_larger_than_a_message_is_refused_unless_the_client_takes_it() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let sql = "SELECT repeat('x', 4500000 * value) AS long FROM generate_series(1, 1)".to_string();
    let info = client.execute(sql.clone(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    let (code, message) = status(&error);
    assert_eq!(code, Code::ResourceExhausted);
    assert!(message.contains("x-skyflight-max-message-bytes") && message.contains("450"), "{message}");

    let inner = FlightServiceClient::new(coordinator.channel().await).max_decoding_message_size(32 << 20);
    let mut client = super::coordinator::Client::new_from_inner(inner);
    client.set_header("x-skyflight-max-message-bytes", "16777216");
    let (_, batches) = query(&mut client, &sql).await;
    assert_eq!(batches.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_queries_are_refused_with_the_limits_name() {
    let coordinator = TestCoordinator::start_with(|config| config.max_queries = 1).await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT value FROM generate_series(1, 1000000000)".into(), None).await.unwrap();
    let mut running = client.do_get(ticket(&info)).await.unwrap();
    running.next().await.unwrap().unwrap();
    let (code, message) = status(&client.execute("SELECT 1".into(), None).await.unwrap_err());
    assert_eq!(code, Code::ResourceExhausted);
    assert!(message.contains("max_queries"), "{message}");
    drop(running);
    // The place is free again as soon as the server has seen that the reader is gone.
    for _ in 0..200 {
        if let Ok(info) = client.execute("SELECT 1".into(), None).await {
            fetch(&mut client, info).await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the place of a dropped query was not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_says_so() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let substrait = CommandStatementSubstraitPlan::default().as_any().encode_to_vec();
    let inner = client.inner_mut();

    let refused = inner.get_flight_info(FlightDescriptor::new_cmd(substrait)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let refused = inner.get_flight_info(FlightDescriptor::new_path(vec!["a".into()])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let garbage = Any {
        type_url: "type.googleapis.com/arrow.flight.protocol.sql.CommandGetTables".into(),
        value: vec![0xff].into(),
    };
    let refused = inner.get_flight_info(FlightDescriptor::new_cmd(garbage.encode_to_vec())).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = inner.poll_flight_info(FlightDescriptor::new_cmd(vec![])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = inner.do_exchange(futures::stream::empty::<FlightData>()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(inner.list_flights(Criteria::default()).await.unwrap().into_inner().count().await, 0);
    for (action, code) in [
        ("BeginTransaction", Code::Unimplemented),
        ("skyflight.nonsense", Code::Unimplemented),
        ("CancelQuery", Code::InvalidArgument),
        ("CancelFlightInfo", Code::InvalidArgument),
        ("RenewFlightEndpoint", Code::InvalidArgument),
    ] {
        let action = Action { r#type: action.into(), body: Default::default() };
        assert_eq!(inner.do_action(action).await.unwrap_err().code(), code);
    }
    let refused = inner.do_put(futures::stream::empty::<FlightData>()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let (code, message) = status(&client.execute_update("SELECT 1".into(), None).await.unwrap_err());
    assert!(code == Code::InvalidArgument && message.contains("query"), "{message}");
    let (code, _) = status(&client.execute_update("DELETE FROM Sky.Object".into(), None).await.unwrap_err());
    assert_eq!(code, Code::PermissionDenied);
    let refused = client.do_get(Ticket::new("not a ticket")).await.unwrap_err();
    assert_eq!(status(&refused).0, Code::Unauthenticated);
}
