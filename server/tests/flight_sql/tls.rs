//! The coordinator's port by TLS.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use skyflight_proto::tls::{Dialer, NodeTls, TlsFiles, development_files};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::coordinator::{Client, TestCoordinator, integers, query};

fn files(folder: &std::path::Path) -> TlsFiles {
    development_files(folder, &[]).unwrap()
}

fn node(files: TlsFiles) -> Arc<NodeTls> {
    Arc::new(NodeTls::load(files).unwrap())
}

async fn serving(tls: &Arc<NodeTls>) -> (TestCoordinator, String) {
    let coordinator = TestCoordinator::start_with(|config| config.tls = Some(Arc::clone(tls))).await;
    let address = format!("https://{}", coordinator.running.address());
    (coordinator, address)
}

async fn connect(endpoint: Endpoint) -> Result<Client, String> {
    let channel = endpoint.connect_timeout(Duration::from_secs(5)).connect().await.map_err(|e| format!("{e:?}"))?;
    Ok(FlightSqlServiceClient::new(channel))
}

async fn one(client: &mut Client) {
    let (_, rows) = query(client, "SELECT 1").await;
    assert_eq!(integers(&rows, 0), [1]);
}

/// A client that has the authority and no certificate of its own.
fn stranger(address: &str, authority: &std::path::Path) -> Endpoint {
    let authority = Certificate::from_pem(std::fs::read(authority).unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(authority);
    Channel::from_shared(address.to_owned()).unwrap().tls_config(tls).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_authority_comes_in_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (files(&folder.path().join("a")), files(&folder.path().join("b")));
    let tls = node(ours.clone());
    let (_coordinator, address) = serving(&tls).await;
    one(&mut connect(stranger(&address, ours.ca.as_ref().unwrap())).await.unwrap()).await;
    one(&mut connect(Dialer::new(Some(tls)).endpoint(&address).unwrap()).await.unwrap()).await;

    let unknown = connect(stranger(&address, others.ca.as_ref().unwrap())).await.unwrap_err();
    assert!(unknown.contains("UnknownIssuer") || unknown.contains("BadSignature"), "{unknown}");
    let plain = address.replace("https", "http");
    let in_clear = async {
        let mut client = connect(Endpoint::from_shared(plain).unwrap()).await?;
        client.execute("SELECT 1".into(), None).await.map_err(|e| e.to_string())
    };
    assert!(in_clear.await.is_err());
    assert!(Dialer::default().endpoint(&address).unwrap_err().to_string().contains("tls.ca"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_without_a_restart_and_without_a_broken_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (live, next) = (folder.path().join("live"), folder.path().join("next"));
    let ours = files(&live);
    let old_authority = folder.path().join("old.pem");
    std::fs::copy(ours.ca.as_ref().unwrap(), &old_authority).unwrap();
    let fresh = files(&next);
    let tls = node(ours.clone());
    let (_coordinator, address) = serving(&tls).await;
    let mut before = connect(stranger(&address, &old_authority)).await.unwrap();
    one(&mut before).await;

    assert!(!tls.reload().unwrap(), "nothing has changed yet");
    std::fs::copy(&fresh.key, &ours.key).unwrap();
    assert!(tls.reload().is_err(), "a key that is not the certificate's is not taken");
    one(&mut connect(stranger(&address, &old_authority)).await.unwrap()).await;
    std::fs::copy(&fresh.certificate, &ours.certificate).unwrap();
    assert!(tls.reload().unwrap());
    one(&mut connect(stranger(&address, fresh.ca.as_ref().unwrap())).await.unwrap()).await;
    assert!(connect(stranger(&address, &old_authority)).await.is_err());
    one(&mut before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_can_be_demanded() {
    let folder = tempfile::tempdir().unwrap();
    let ours = TlsFiles { demand_client: true, ..files(&folder.path().join("a")) };
    let tls = node(ours.clone());
    let (_coordinator, address) = serving(&tls).await;
    one(&mut connect(Dialer::new(Some(tls)).endpoint(&address).unwrap()).await.unwrap()).await;

    // With TLS 1.3 a client hears only with its first answer that it was turned away.
    let without = async {
        let mut client = connect(stranger(&address, ours.ca.as_ref().unwrap())).await?;
        client.execute("SELECT 1".into(), None).await.map(drop).map_err(|e| e.to_string())
    };
    assert!(without.await.is_err());
    let others = files(&folder.path().join("b"));
    let forged = node(TlsFiles { ca: ours.ca.clone(), ..others });
    let forged = async {
        let mut client = connect(Dialer::new(Some(forged)).endpoint(&address).unwrap()).await?;
        client.execute("SELECT 1".into(), None).await.map(drop).map_err(|e| e.to_string())
    };
    assert!(forged.await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_silent_in_the_door_keeps_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let tls = node(files(folder.path()));
    let (coordinator, address) = serving(&tls).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(coordinator.running.address()).await.unwrap());
    }
    let connecting = connect(Dialer::new(Some(tls)).endpoint(&address).unwrap());
    let mut client = tokio::time::timeout(Duration::from_secs(5), connecting).await.unwrap().unwrap();
    one(&mut client).await;
    drop(silent);
}

#[test]
fn files_that_are_wrong_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = files(folder.path());
    let missing = NodeTls::load(TlsFiles { certificate: folder.path().join("none.pem"), ..ours.clone() }).unwrap_err();
    assert!(missing.to_string().contains("none.pem"), "{missing}");
    let swapped = NodeTls::load(TlsFiles { key: ours.certificate.clone(), ..ours.clone() }).unwrap_err();
    assert!(swapped.to_string().contains("private key"), "{swapped}");
    assert!(NodeTls::load(ours).is_ok());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join("node.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
