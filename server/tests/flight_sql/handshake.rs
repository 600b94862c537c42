//! Handshake in the forms that clients use, and the token that comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, BasicAuth, HandshakeRequest};
use prost::Message;
use skyflight_catalog::QueryState;
use skyflight_proto::{ClusterKeys, SessionClaims};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request};

use super::coordinator::{TestCoordinator, query, status};

/// Handshakes with an `authorization` header and messages; the token in the answer's header.
pub(crate) async fn handshake(
    coordinator: &TestCoordinator,
    authorization: Option<&str>,
    messages: Vec<HandshakeRequest>,
) -> Result<String, tonic::Status> {
    let mut client = FlightServiceClient::new(coordinator.channel().await);
    let mut request = Request::new(futures::stream::iter(messages));
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    let response = client.handshake(request).await?;
    let header = response.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
    let token = header.strip_prefix("Bearer ").unwrap().to_owned();
    let mut answers = response.into_inner();
    let answer = answers.message().await?.unwrap();
    assert_eq!(answer.payload, token.as_bytes(), "the oldest clients take the token from the payload");
    assert!(answers.message().await?.is_none(), "Handshake answers once");
    Ok(token)
}

pub(crate) fn message(payload: impl Into<bytes::Bytes>) -> HandshakeRequest {
    HandshakeRequest { protocol_version: 0, payload: payload.into() }
}

/// The user under whom a query with these headers is recorded.
async fn user_of(headers: &[(&str, &str)]) -> String {
    let coordinator = TestCoordinator::start().await;
    user_at(&coordinator, headers).await
}

async fn user_at(coordinator: &TestCoordinator, headers: &[(&str, &str)]) -> String {
    let mut client = coordinator.client().await;
    for (name, value) in headers {
        client.set_header(*name, *value);
    }
    query(&mut client, "SELECT 1").await;
    let record = coordinator.closed_record().await;
    assert_eq!(record.state, QueryState::Finished);
    record.user
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_handshake_gives_a_token_for_its_user() {
    // `:`, `ada:`, `ada`, `ada:secret` in base64; protobuf BasicAuth; nothing; somebody's token.
    let old = BasicAuth { username: "ada".into(), password: "secret".into() }.encode_to_vec();
    let forms: Vec<(Option<&str>, Vec<HandshakeRequest>, &str)> = vec![
        (Some("Basic Og=="), vec![], "local"),
        (Some("Basic YWRhOg=="), vec![message("")], "ada"),
        (Some("Basic YWRh"), vec![], "ada"),
        (Some("basic YWRhOnNlY3JldA=="), vec![message("")], "ada"),
        (None, vec![message(old)], "ada"),
        (None, vec![message("")], "local"),
        (None, vec![], "local"),
        (Some("Bearer eyJhbGciOi"), vec![], "local"),
    ];
    for (authorization, messages, user) in forms {
        let coordinator = TestCoordinator::start().await;
        let token = handshake(&coordinator, authorization, messages).await.unwrap();
        let bearer = format!("Bearer {token}");
        // A token is as good as what it was got for.
        let again = handshake(&coordinator, Some(&bearer), vec![]).await.unwrap();
        let bearer_again = format!("Bearer {again}");
        assert_eq!(user_at(&coordinator, &[("authorization", &bearer_again)]).await, user, "{authorization:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_flights_own_client_logs_in() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    client.handshake("", "").await.unwrap();
    // A second Handshake of this client would send its token, not the new user.
    let mut client = coordinator.client().await;
    client.handshake("ada", "secret").await.unwrap();
    assert!(client.token().is_some());
    query(&mut client, "SELECT 1").await;
    assert_eq!(coordinator.closed_record().await.user, "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_handshake_requests_are_local_or_basic() {
    assert_eq!(user_of(&[]).await, "local");
    assert_eq!(user_of(&[("authorization", "Basic YWRhOnNlY3JldA==")]).await, "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_clients_send_the_payload_back() {
    let coordinator = TestCoordinator::start().await;
    let old = BasicAuth { username: "ada".into(), password: String::new() }.encode_to_vec();
    let token = handshake(&coordinator, None, vec![message(old)]).await.unwrap();
    let mut client = FlightServiceClient::new(coordinator.channel().await);
    let mut request = Request::new(Action { r#type: "GetSessionOptions".into(), body: Default::default() });
    request.metadata_mut().insert_bin("auth-token-bin", tonic::metadata::MetadataValue::from_bytes(token.as_bytes()));
    client.do_action(request).await.unwrap();
    let mut altered = token.into_bytes();
    altered[20] ^= 1;
    let mut request = Request::new(Action { r#type: "GetSessionOptions".into(), body: Default::default() });
    request.metadata_mut().insert_bin("auth-token-bin", tonic::metadata::MetadataValue::from_bytes(&altered));
    assert_eq!(client.do_action(request).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_or_expired_token_is_refused_everywhere() {
    let coordinator = TestCoordinator::start_with(|config| config.token_ttl = Duration::from_secs(2)).await;
    let mut client = coordinator.client().await;
    client.handshake("ada", "").await.unwrap();
    let token = client.token().unwrap().clone();
    client.execute("SELECT 1".into(), None).await.unwrap();

    let mut altered = coordinator.client().await;
    let last = if token.ends_with('0') { '1' } else { '0' };
    altered.set_token(format!("{}{last}", &token[..token.len() - 1]));
    assert_eq!(status(&altered.execute("SELECT 1".into(), None).await.unwrap_err()).0, Code::Unauthenticated);

    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let (code, text) = status(&client.execute("SELECT 1".into(), None).await.unwrap_err());
    assert!(code == Code::Unauthenticated && text.contains("log in again"), "{text}");
    assert_eq!(status(&client.get_catalogs().await.unwrap_err()).0, Code::Unauthenticated);
    let refused = handshake(&coordinator, Some(&format!("Bearer {token}")), vec![]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_read_are_refused() {
    let coordinator = TestCoordinator::start().await;
    let claims =
        SessionClaims { sub: "ada".into(), iat: 0, exp: i64::MAX, login: None, since: None, options: BTreeMap::new() };
    let of_another_cluster = format!("Bearer {}", ClusterKeys::generate().sign_token(&claims).unwrap());
    for authorization in ["Basic", "Basic ?", "Digest abc", of_another_cluster.as_str()] {
        let refused = handshake(&coordinator, Some(authorization), vec![]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{authorization}");
    }
    let refused = handshake(&coordinator, None, vec![message(vec![0xff, 0xff])]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// An action's answer and the headers it came with.
async fn act(
    client: &mut FlightServiceClient<tonic::transport::Channel>,
    bearer: Option<&str>,
    name: &str,
    body: Vec<u8>,
) -> (Vec<u8>, MetadataMap) {
    let mut request = Request::new(Action { r#type: name.into(), body: body.into() });
    if let Some(bearer) = bearer {
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    }
    let response = client.do_action(request).await.unwrap();
    let headers = response.metadata().clone();
    let answer = response.into_inner().message().await.unwrap().unwrap();
    (answer.body.to_vec(), headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn session_options_travel_in_a_new_token() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = FlightServiceClient::new(coordinator.channel().await);
    // SetSessionOptionsRequest{session_options: {"schema": {string_value: "sky"}}}, by hand.
    let set = b"\x0a\x0f\x0a\x06schema\x12\x05\x0a\x03sky".to_vec();
    let (answer, headers) = act(&mut client, Some("Basic YWRhOg=="), "SetSessionOptions", set).await;
    assert!(answer.is_empty(), "no errors: {answer:?}");
    let bearer = headers.get("authorization").unwrap().to_str().unwrap().to_owned();
    let (answer, _) = act(&mut client, Some(&bearer), "GetSessionOptions", vec![]).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("Sky") && answer.contains("skyflight"), "{answer}");
    let (answer, _) = act(&mut client, Some(&bearer), "CloseSession", vec![]).await;
    assert_eq!(answer, [0x08, 0x01], "closed");

    // Unqualified names are looked up in the schema of the token, or of a header.
    for (name, value) in [("authorization", bearer.as_str()), ("schema", "sky"), ("x-skyflight-schema", "SKY")] {
        let mut client = coordinator.client().await;
        client.set_header(name, value);
        client.execute("SELECT objectId FROM Object".into(), None).await.unwrap();
    }
    let mut nowhere = coordinator.client().await;
    let (code, _) = status(&nowhere.execute("SELECT objectId FROM Objectx".into(), None).await.unwrap_err());
    assert_eq!(code, Code::NotFound);
    let set = b"\x0a\x10\x0a\x06schema\x12\x06\x0a\x04none".to_vec();
    let (answer, headers) = act(&mut client, None, "SetSessionOptions", set).await;
    assert!(!answer.is_empty() && headers.get("authorization").is_none());
}
