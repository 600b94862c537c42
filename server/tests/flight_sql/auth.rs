//! A coordinator that only users may ask.

use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{Action, BasicAuth, HandshakeRequest};
use prost::Message;
use skyflight_catalog::QueryState;
use skyflight_proto::KeyStep;
use skyflight_server::{AuthMode, hash_password};
use tonic::{Code, Request};

use super::coordinator::{Client, TestCoordinator, integers, query, status};
use super::handshake::{handshake, message};

/// Basic credentials in base64, made with Python's base64: `ada:correct horse`, `ADA:correct horse`,
/// `ada:wrong`, `eve:correct horse`, `:`.
const ADA: &str = "Basic YWRhOmNvcnJlY3QgaG9yc2U=";
const ADA_LOUD: &str = "Basic QURBOmNvcnJlY3QgaG9yc2U=";
const ADA_WRONG: &str = "Basic YWRhOndyb25n";
const EVE: &str = "Basic ZXZlOmNvcnJlY3QgaG9yc2U=";
const NOBODY: &str = "Basic Og==";

async fn guarded() -> TestCoordinator {
    let coordinator = TestCoordinator::start_with(|config| config.auth = AuthMode::Users).await;
    coordinator.store.add_user("ada", &hash_password("correct horse").unwrap()).await.unwrap();
    coordinator
}

async fn client_with(coordinator: &TestCoordinator, authorization: &str) -> Client {
    let mut client = coordinator.client().await;
    client.set_header("authorization", authorization);
    client
}

async fn refusal(client: &mut Client) -> (Code, String) {
    status(&client.execute("SELECT 1".into(), None).await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_handshake_logs_a_user_in() {
    let coordinator = guarded().await;
    let old = |user: &str, password: &str| {
        message(BasicAuth { username: user.into(), password: password.into() }.encode_to_vec())
    };
    let token = handshake(&coordinator, Some(ADA), vec![]).await.unwrap();
    let bearer = format!("Bearer {token}");
    let as_password = basic(&format!("anything:{token}"));
    for (authorization, messages) in [
        (Some(ADA), vec![message("")]),
        (Some(ADA_LOUD), vec![]),
        (Some(bearer.as_str()), vec![]),
        (Some(as_password.as_str()), vec![]),
        (None, vec![old("ada", "correct horse")]),
        (None, vec![old("", &token)]),
        (None, vec![message(token.clone())]),
    ] {
        let token = handshake(&coordinator, authorization, messages).await.unwrap();
        let mut client = client_with(&coordinator, &format!("Bearer {token}")).await;
        let (_, rows) = query(&mut client, "SELECT 1").await;
        assert_eq!(integers(&rows, 0), [1], "{authorization:?}");
    }
    let users: Vec<String> =
        coordinator.store.queries(100).await.unwrap().into_iter().map(|record| record.user).collect();
    assert!(
        users.len() >= 7 && users.iter().all(|user| user == "ada"),
        "the declared name, whatever was sent: {users:?}"
    );

    for (authorization, messages) in [
        (None, vec![]),
        (None, vec![message("")]),
        (Some(NOBODY), vec![]),
        (Some(ADA_WRONG), vec![]),
        (Some(EVE), vec![]),
        (Some("Bearer eyJhbGciOi"), vec![]),
        (None, vec![old("ada", "wrong")]),
        (None, vec![old("", "")]),
    ] {
        let refused = handshake(&coordinator, authorization, messages).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{authorization:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_every_call_says_what_to_do() {
    let coordinator = guarded().await;
    let mut client = coordinator.client().await;
    let (code, text) = refusal(&mut client).await;
    assert!(code == Code::Unauthenticated && text.contains("skyflight user add"), "{text}");
    assert_eq!(status(&client.get_catalogs().await.unwrap_err()).0, Code::Unauthenticated);
    assert_eq!(status(&client.prepare("SELECT 1".into(), None).await.err().unwrap()).0, Code::Unauthenticated);
    assert_eq!(coordinator.store.queries(10).await.unwrap(), [], "nothing was planned for a stranger");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_takes_little_of_the_server() {
    let coordinator = guarded().await;
    let token = handshake(&coordinator, Some(ADA), vec![]).await.unwrap();
    let mut service = FlightServiceClient::new(coordinator.channel().await);
    let large = vec![b'x'; 1 << 20];
    let action = || Action { r#type: "NoSuchAction".into(), body: large.clone().into() };
    let refused = service.do_action(action()).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let mut known = Request::new(action());
    known.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    assert_eq!(service.do_action(known).await.unwrap_err().code(), Code::Unimplemented, "a user may send as much");
    let refused = handshake(&coordinator, None, vec![message(large.clone())]).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    // Of other calls not even the message is waited for.
    for _ in 0..200 {
        let silent = futures::stream::pending::<arrow_flight::FlightData>();
        let refused = tokio::time::timeout(Duration::from_secs(5), service.do_put(silent)).await.unwrap();
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
    // Those who could say who they are, but do not, are few at a time.
    let waiting: Vec<_> = (0..80)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move { service.handshake(futures::stream::pending::<HandshakeRequest>()).await })
        })
        .collect();
    let mut refused = 0;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        refused = waiting.iter().filter(|call| call.is_finished()).count();
        if refused == 16 {
            break;
        }
    }
    assert_eq!(refused, 16);
    query(&mut client_with(&coordinator, &format!("Bearer {token}")).await, "SELECT 1").await;
    for call in waiting {
        call.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_with_every_call_are_good_too() {
    let coordinator = guarded().await;
    let mut client = client_with(&coordinator, ADA).await;
    let started = Instant::now();
    for _ in 0..20 {
        query(&mut client, "SELECT 1").await;
    }
    // 40 calls with a hash each would take seconds.
    println!("20 queries with Basic credentials: {:?}", started.elapsed());
    let records = coordinator.store.queries(100).await.unwrap();
    assert!(records.iter().all(|record| record.user == "ada"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_and_a_wrong_password_look_alike() {
    let coordinator = guarded().await;
    let wrong = refusal(&mut client_with(&coordinator, ADA_WRONG).await).await;
    let unknown = refusal(&mut client_with(&coordinator, EVE).await).await;
    assert_eq!(wrong, unknown);
    assert_eq!(wrong.0, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down_and_tokens_that_are_out_still_work() {
    let coordinator = guarded().await;
    let token = handshake(&coordinator, Some(ADA), vec![]).await.unwrap();
    let mut texts = Vec::new();
    for _ in 0..7 {
        texts.push(refusal(&mut client_with(&coordinator, ADA_WRONG).await).await.1);
    }
    assert!(texts[0].contains("wrong") && texts[6].contains("try again in"), "{texts:?}");
    query(&mut client_with(&coordinator, &format!("Bearer {token}")).await, "SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_or_a_removed_user_ends_old_tokens() {
    let coordinator = guarded().await;
    let token = handshake(&coordinator, Some(ADA), vec![]).await.unwrap();
    let mut client = client_with(&coordinator, &format!("Bearer {token}")).await;
    query(&mut client, "SELECT 1").await;
    coordinator.store.set_password("ada", &hash_password("battery staple").unwrap()).await.unwrap();
    // Records are believed for two seconds.
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    let (code, text) = refusal(&mut client).await;
    assert!(code == Code::Unauthenticated && text.contains("log in again"), "{text}");
    assert_eq!(refusal(&mut client_with(&coordinator, ADA).await).await.0, Code::Unauthenticated);

    let fresh = basic("ada:battery staple");
    let token = handshake(&coordinator, Some(&fresh), vec![]).await.unwrap();
    coordinator.store.remove_user("ada").await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    assert_eq!(
        refusal(&mut client_with(&coordinator, &format!("Bearer {token}")).await).await.0,
        Code::Unauthenticated
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_a_restart_and_a_change_of_keys() {
    let first = guarded().await;
    let token = handshake(&first, Some(ADA), vec![]).await.unwrap();
    let (store, keys) = (first.store.clone(), first.keys.clone());
    first.running.shutdown().await.unwrap();
    let keys = std::sync::Arc::new(keys.stepped(KeyStep::Add).unwrap().stepped(KeyStep::Promote).unwrap());
    let second = TestCoordinator::start_on(store.clone(), keys.clone(), |config| config.auth = AuthMode::Users).await;
    query(&mut client_with(&second, &format!("Bearer {token}")).await, "SELECT 1").await;
    second.running.shutdown().await.unwrap();
    let keys = std::sync::Arc::new(keys.stepped(KeyStep::Retire).unwrap());
    let third = TestCoordinator::start_on(store, keys, |config| config.auth = AuthMode::Users).await;
    assert_eq!(refusal(&mut client_with(&third, &format!("Bearer {token}")).await).await.0, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_open_coordinator_is_no_login() {
    let open = TestCoordinator::start().await;
    let token = handshake(&open, Some(ADA_WRONG), vec![]).await.unwrap();
    let store = open.store.clone();
    store.add_user("ada", &hash_password("correct horse").unwrap()).await.unwrap();
    let guarded = TestCoordinator::start_on(store, open.keys.clone(), |config| config.auth = AuthMode::Users).await;
    assert_eq!(refusal(&mut client_with(&guarded, &format!("Bearer {token}")).await).await.0, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_at_once_do_not_keep_queries_waiting() {
    let coordinator = guarded().await;
    let token = handshake(&coordinator, Some(ADA), vec![]).await.unwrap();
    let mut client = client_with(&coordinator, &format!("Bearer {token}")).await;
    query(&mut client, "SELECT 1").await;
    let channel = coordinator.channel().await;
    let crowd: Vec<_> = (0..100)
        .map(|n| {
            let mut client = FlightSqlServiceClient::new(channel.clone());
            tokio::spawn(async move { client.handshake(&format!("guest{n}"), "let me in, please").await.is_err() })
        })
        .collect();
    let started = Instant::now();
    for _ in 0..10 {
        query(&mut client, "SELECT 1").await;
    }
    println!("10 queries beside 100 logins: {:?}", started.elapsed());
    for one in crowd {
        assert!(one.await.unwrap(), "no guest was let in");
    }
    let finished = coordinator.store.queries(100).await.unwrap();
    assert!(finished.iter().filter(|record| record.state == QueryState::Finished).count() >= 10);
}

/// `Basic` with base64 (RFC 4648) of `plain`.
fn basic(plain: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
}
