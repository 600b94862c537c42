//! Consumers that go away, or read slowly, and workers that end.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use skyflight_worker::WorkerConfig;
use tonic::{Code, Streaming};

use crate::rig::{Rig, connect, get, refused};
use crate::sky::{Sky, named_objects, read};
use skyflight_proto::ticket::Body;

/// 4 chunks of 13 MB each: far more than any buffer on the way.
async fn large(change: impl FnOnce(&mut WorkerConfig)) -> (Rig, Sky, Vec<(u64, RecordBatch)>) {
    let mut rig = Rig::with(|config| {
        config.batch_rows = 32;
        change(config);
    })
    .await;
    let chunks: Vec<_> = [16, 17, 18, 19].map(|c| (c, named_objects(c, 400, 32 << 10))).into();
    let sky = Sky::with_objects(&chunks);
    sky.fill(&mut rig).await;
    (rig, sky, chunks)
}

const SCAN: &str = "SELECT objectId, name FROM Object";

/// Waits until the worker has sent all that fits on the way, and gives the most it held itself.
async fn until_it_stands_still(rig: &mut Rig) -> u64 {
    let (mut most, mut rows, mut since) = (0, u64::MAX, Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        let status = rig.ping().await;
        most = most.max(status.memory_bytes);
        if status.rows_sent != rows {
            (rows, since) = (status.rows_sent, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    most
}

fn rows_of<T>(_: &Streaming<T>, chunks: &[(u64, RecordBatch)]) -> u64 {
    chunks.iter().map(|(_, rows)| rows.num_rows() as u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_goes_frees_the_worker() {
    let (mut rig, sky, chunks) = large(|_| {}).await;
    let mut stream = rig.get(sky.task(SCAN).await).await.unwrap();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    assert_eq!(rig.ping().await.running_tasks, 1);
    let all = rows_of(&stream, &chunks);
    drop(stream);
    rig.idle().await;
    let status = rig.ping().await;
    assert!(status.rows_sent < all, "it stopped in the midst");
    assert_eq!(status.memory_bytes, 0);

    // A connection that dies is a consumer that goes.
    let mut client = connect(rig.worker.address()).await;
    let mut stream = get(&mut client, rig.sign(Body::Task(sky.task(SCAN).await))).await.unwrap();
    stream.message().await.unwrap().unwrap();
    drop((client, stream));
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_consumers_cost_bounded_memory_and_nobodys_turn() {
    const SLOW: usize = 5;
    let (mut rig, sky, chunks) = large(|_| {}).await;
    let task = sky.task(SCAN).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        // A connection each, so that they do not share a window.
        let mut client = connect(rig.worker.address()).await;
        slow.push(get(&mut client, rig.sign(Body::Task(task.clone()))).await.unwrap());
    }
    let most = until_it_stands_still(&mut rig).await;
    assert!(most > 0, "frames wait");
    assert!(most <= SLOW as u64 * (4 << 20), "{most} bytes wait in {SLOW} tasks");
    assert_eq!(rig.ping().await.running_tasks, SLOW as u32);

    // More slow scans than slots, and yet another scan has its turn.
    let other = tokio::time::timeout(Duration::from_secs(20), read(rig.get(task).await.unwrap()));
    let other = other.await.expect("a scan waits for slow consumers");
    let check = |index: usize, found: RecordBatch| {
        assert_eq!(found.columns(), chunks[index].1.project(&[0, 4]).unwrap().columns());
    };
    for index in 0..chunks.len() {
        check(index, other.chunk(index as u32));
    }

    // Slow is not lost: one of them reads to the end after all.
    let late = read(slow.swap_remove(0)).await;
    assert!(late.error.is_none(), "{:?}", late.error);
    for index in 0..chunks.len() {
        check(index, late.chunk(index as u32));
    }
    drop(slow);
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_tasks_finish() {
    let (mut rig, sky, chunks) = large(|_| {}).await;
    let stream = rig.get(sky.task(SCAN).await).await.unwrap();
    let all = rows_of(&stream, &chunks);
    let address = rig.worker.address().to_owned();
    let ending = tokio::spawn(rig.worker.shutdown());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer = read(stream).await;
    assert!(answer.error.is_none(), "{:?}", answer.error);
    assert_eq!(answer.all().num_rows() as u64, all);
    drop(rig.client);
    tokio::time::timeout(Duration::from_secs(5), ending).await.expect("it ends").unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
    assert!(endpoint.connect().await.is_err(), "the port is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_ever() {
    let (mut rig, sky, _) = large(|config| config.drain = Duration::from_millis(100)).await;
    let mut stream = rig.get(sky.task(SCAN).await).await.unwrap();
    stream.message().await.unwrap().unwrap();
    let begun = Instant::now();
    let ending = tokio::spawn(rig.worker.shutdown());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = read_on(stream).await;
    refused(answer, Code::Unavailable, "shutting down");
    ending.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_worker_fails_its_streams() {
    let (mut rig, sky, _) = large(|_| {}).await;
    let mut stream = rig.get(sky.task(SCAN).await).await.unwrap();
    stream.message().await.unwrap().unwrap();
    drop(rig.worker);
    assert!(read_on(stream).await.is_err(), "never as if it were complete");
}

/// Reads to the end or the error.
async fn read_on(mut stream: Streaming<arrow_flight::FlightData>) -> Result<(), tonic::Status> {
    while stream.message().await?.is_some() {}
    Ok(())
}
