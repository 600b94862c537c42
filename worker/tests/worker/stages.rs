//! Who may set up and read the tasks of shuffled queries.

use arrow_flight::FlightData;
use bytes::Bytes;
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, ListFilesTicket, PartitionTicket, StageTask, StageTicket};
use tonic::{Code, Status, Streaming};

use crate::rig::{Client, Rig, get, put_start, refused, sign, unix_ms};

fn task() -> Option<StageTask> {
    Some(StageTask { run: vec![7; 16].into(), stage: 1, task: 0 })
}

fn stage(plan: &[u8], address: &str) -> Body {
    Body::Stage(StageTicket { task: task(), tasks: 2, plan: plan.to_vec().into(), address: address.into() })
}

async fn exchange(client: &mut Client, signed: Bytes) -> Result<Streaming<FlightData>, Status> {
    Ok(client.do_exchange(futures::stream::iter([put_start(signed)])).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_decoded_only_under_a_good_ticket() {
    let mut rig = Rig::new().await;
    let body = stage(b"no plan", rig.worker.address());
    let good = rig.sign(body.clone());
    let step = good.len() * 8 / 40;
    for bit in (0..good.len() * 8).step_by(step.max(1)) {
        let mut altered = good.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        refused(exchange(&mut rig.client, altered.into()).await, Code::Unauthenticated, "");
    }
    let expired = sign(&rig.keys, body.clone(), unix_ms() - 1);
    refused(exchange(&mut rig.client, expired).await, Code::Unauthenticated, "expired");
    let forged = sign(&ClusterKeys::generate(), body, unix_ms() + 60_000);
    refused(exchange(&mut rig.client, forged).await, Code::Unauthenticated, "key");
    refused(exchange(&mut rig.client, Bytes::new()).await, Code::Unauthenticated, "ticket");
    let other = rig.sign(Body::ListFiles(ListFilesTicket { database: String::new() }));
    refused(exchange(&mut rig.client, other).await, Code::InvalidArgument, "DoExchange");
    // The good one is believed, and then found to hold no plan.
    let status = exchange(&mut rig.client, good).await.expect_err("there is no plan in it");
    assert_ne!(status.code(), Code::Unauthenticated, "{status}");
    let no_address = rig.sign(stage(b"", "nowhere"));
    assert!(exchange(&mut rig.client, no_address).await.is_err());
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_read_only_under_a_good_ticket() {
    let mut rig = Rig::new().await;
    let body = Body::Partition(PartitionTicket { task: task(), partition: 0, partitioning: None });
    let forged = sign(&ClusterKeys::generate(), body.clone(), unix_ms() + 60_000);
    refused(get(&mut rig.client, forged).await, Code::Unauthenticated, "key");
    let expired = sign(&rig.keys, body, unix_ms() - 1);
    refused(get(&mut rig.client, expired).await, Code::Unauthenticated, "expired");
    let nameless = rig.sign(Body::Partition(PartitionTicket::default()));
    refused(get(&mut rig.client, nameless).await, Code::Internal, "names no task");
}
