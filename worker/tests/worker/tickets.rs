//! Who may have a task run, and how a fragment becomes known.

use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, ListFilesTicket, TaskTicket, wire};
use tonic::Code;

use crate::rig::{Rig, get, refused, sign, unix_ms};
use crate::sky::{Sky, objects, read};

async fn ready() -> (Rig, TaskTicket) {
    let mut rig = Rig::new().await;
    let sky = Sky::with_objects(&[(16, objects(16, 100))]);
    sky.fill(&mut rig).await;
    let task = sky.task("SELECT objectId FROM Object").await;
    (rig, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_and_expired_tickets_open_nothing() {
    let (mut rig, task) = ready().await;
    let body = Body::Task(task);
    let good = rig.sign(body.clone());
    let step = good.len() * 8 / 40;
    for bit in (0..good.len() * 8).step_by(step.max(1)) {
        let mut altered = good.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        refused(get(&mut rig.client, altered.into()).await, Code::Unauthenticated, "");
    }
    let expired = sign(&rig.keys, body.clone(), unix_ms() - 1);
    refused(get(&mut rig.client, expired).await, Code::Unauthenticated, "expired");
    let forged = sign(&ClusterKeys::generate(), body, unix_ms() + 60_000);
    refused(get(&mut rig.client, forged).await, Code::Unauthenticated, "key");
    refused(get(&mut rig.client, bytes::Bytes::new()).await, Code::Unauthenticated, "ticket");
    let other = rig.sign(Body::ListFiles(ListFilesTicket { database: String::new() }));
    refused(get(&mut rig.client, other).await, Code::InvalidArgument, "DoGet");

    let answer = read(get(&mut rig.client, good).await.unwrap()).await;
    assert_eq!(answer.chunk(0).num_rows(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_is_sent_once() {
    let (mut rig, task) = ready().await;
    let mut without = task.clone();
    without.fragment = None;
    refused(rig.get(without.clone()).await, Code::FailedPrecondition, wire::FRAGMENT_UNKNOWN);

    let mut wrong = task.clone();
    wrong.fragment_hash = vec![3; 32].into();
    refused(rig.get(wrong).await, Code::InvalidArgument, "SHA-256");
    let mut short = task.clone();
    short.fragment_hash = vec![3; 31].into();
    refused(rig.get(short).await, Code::InvalidArgument, "32 bytes");
    assert_eq!(rig.ping().await.fragments_cached, 0);

    assert_eq!(read(rig.get(task).await.unwrap()).await.chunk(0).num_rows(), 100);
    assert_eq!(rig.ping().await.fragments_cached, 1);
    assert_eq!(read(rig.get(without).await.unwrap()).await.chunk(0).num_rows(), 100);
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fragment_is_refused() {
    use sha2::{Digest, Sha256};
    let (mut rig, mut task) = ready().await;
    let noise = b"this is no plan".to_vec();
    task.fragment_hash = Sha256::digest(&noise).to_vec().into();
    task.fragment = Some(noise.into());
    assert!(rig.get(task).await.is_err());
    assert_eq!(rig.ping().await.fragments_cached, 0);
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_flight_is_not_here() {
    let mut rig = Rig::new().await;
    let client = &mut rig.client;
    let descriptor = arrow_flight::FlightDescriptor::new_cmd("SELECT 1");
    refused(client.get_flight_info(descriptor.clone()).await, Code::Unimplemented, "coordinator");
    refused(client.get_schema(descriptor.clone()).await, Code::Unimplemented, "coordinator");
    refused(client.poll_flight_info(descriptor).await, Code::Unimplemented, "coordinator");
    refused(client.list_flights(arrow_flight::Criteria::default()).await, Code::Unimplemented, "coordinator");
    refused(client.list_actions(arrow_flight::Empty {}).await, Code::Unimplemented, "coordinator");
    refused(rig.act("skyflight.nonsense", bytes::Bytes::new()).await, Code::Unimplemented, "nonsense");
}
