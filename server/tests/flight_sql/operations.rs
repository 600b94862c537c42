//! What operators ask of a coordinator: health, reflection, and that it goes without breaking anything.

use std::time::Duration;

use futures::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::coordinator::{TestCoordinator, fetch, query, status, ticket};

const FLIGHT: &str = "arrow.flight.protocol.FlightService";

async fn health(coordinator: &TestCoordinator, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(coordinator.channel().await);
    let answer = client.check(HealthCheckRequest { service: service.into() }).await.unwrap();
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_ask_for_no_credentials() {
    let coordinator = TestCoordinator::start_with(|config| config.auth = skyflight_server::AuthMode::Users).await;
    assert_eq!(health(&coordinator, "").await, ServingStatus::Serving);
    assert_eq!(health(&coordinator, FLIGHT).await, ServingStatus::Serving);

    let ask = |question| ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let questions =
        [ask(MessageRequest::ListServices(String::new())), ask(MessageRequest::FileContainingSymbol(FLIGHT.into()))];
    let mut client = ServerReflectionClient::new(coordinator.channel().await);
    let mut answers = client.server_reflection_info(futures::stream::iter(questions)).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let mut names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, [FLIGHT, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
    let found = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::FileDescriptorResponse(found) = found else { panic!("{found:?}") };
    let text = String::from_utf8_lossy(&found.file_descriptor_proto[0]).into_owned();
    assert!(text.contains("PollFlightInfo") && text.contains("DoExchange"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_coordinator_says_so_and_ends_what_runs() {
    let coordinator = TestCoordinator::start_with(|config| config.shutdown_grace = Duration::from_secs(30)).await;
    let mut client = coordinator.client().await;
    let rows = 3_000_000;
    let running = client.execute(format!("SELECT value FROM generate_series(1, {rows})"), None).await.unwrap();
    let announced = client.execute("SELECT 1 AS a".into(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&running)).await.unwrap();
    let mut read = stream.next().await.unwrap().unwrap().num_rows();
    let mut other = coordinator.client().await;
    let mut watcher = HealthClient::new(coordinator.channel().await);

    let stopping = tokio::spawn(coordinator.running.shutdown());
    let mut now = ServingStatus::Serving;
    for _ in 0..100 {
        now = watcher.check(HealthCheckRequest { service: FLIGHT.into() }).await.unwrap().into_inner().status();
        if now == ServingStatus::NotServing {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(now, ServingStatus::NotServing);
    let (code, text) = status(&other.execute("SELECT 2".into(), None).await.unwrap_err());
    assert!(code == Code::Unavailable && text.contains("shutting down"), "{text}");
    let (_, batches) = fetch(&mut client, announced).await;
    assert_eq!(batches[0].num_rows(), 1, "what was announced is still given");
    assert!(!stopping.is_finished(), "it waits for what runs");
    while let Some(batch) = stream.next().await {
        read += batch.unwrap().num_rows();
    }
    assert_eq!(read, rows);
    drop((stream, client, other, watcher));
    tokio::time::timeout(Duration::from_secs(10), stopping).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_coordinator_stops_at_once() {
    let coordinator = TestCoordinator::start_with(|config| config.shutdown_grace = Duration::from_secs(30)).await;
    let mut client = coordinator.client().await;
    query(&mut client, "SELECT 1").await;
    drop(client);
    tokio::time::timeout(Duration::from_secs(5), coordinator.running.shutdown()).await.unwrap().unwrap();
}
