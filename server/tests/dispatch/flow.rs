//! What dispatch does with time and room: memory, disk, slow consumers, cancelled queries.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use skyflight_engine::EngineError;
use skyflight_engine::dispatch::{ChunkDispatcher, QueryCounters};
use skyflight_proto::FailureKind;
use skyflight_server::dispatch::DispatchConfig;
use tokio::runtime::Handle;

use super::cluster::{Cluster, quick, until};
use super::fake::{Fault, Manners};
use super::sky::Harvest;

/// Chunks of 4,000 rows, of about 130 KB; see `sky::rows_of`.
fn wide(n: u64) -> Vec<u64> {
    (0..n).map(|i| super::sky::WIDE + i).collect()
}

fn one(config: DispatchConfig) -> Cluster {
    let manners = Manners { frame_rows: 1_000, ..Manners::default() };
    Cluster::with(config, vec![manners], Handle::current())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_rows_go_to_disk_beyond_the_bound_and_come_back_exact() {
    let chunks: Vec<u64> = (0..300).chain(wide(20)).collect();
    let spool_dir = tempfile::tempdir().unwrap();
    for hold_bytes in [0, 1_000, 100_000] {
        let config = DispatchConfig { hold_bytes, spool_dir: spool_dir.path().to_owned(), ..quick() };
        let manners = |seed| Manners { abreast: 40, frame_rows: 500, seed, ..Manners::default() };
        let cluster = Cluster::with(config, vec![manners(1), manners(2)], Handle::current());
        cluster.script(0, &[Fault::End { at: 200 }]);
        cluster.exact(&chunks, false).await;
    }
    assert_eq!(std::fs::read_dir(spool_dir.path()).unwrap().count(), 0, "the file has no name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_needs_too_much_disk_says_so() {
    let cluster = one(DispatchConfig { hold_bytes: 10_000, spool_bytes: 50_000, ..quick() });
    let (_, error) = cluster.run(cluster.request(&wide(3), false)).await;
    let error = error.expect("a chunk does not fit");
    assert_eq!(error.kind(), FailureKind::ResourceExhausted, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_stream_frees_the_workers() {
    for deterministic in [true, false] {
        let cluster = Cluster::new(2);
        cluster.script(0, &[Fault::Slow { millis: 20 }]);
        cluster.script(1, &[Fault::Slow { millis: 20 }]);
        let chunks: Vec<u64> = (0..500).collect();
        let mut stream = cluster.dispatcher.dispatch(cluster.request(&chunks, deterministic));
        stream.next().await.unwrap().unwrap();
        let open = || cluster.workers.iter().map(|w| w.state.open.load(Ordering::SeqCst)).sum::<usize>();
        assert_eq!(open(), 2);
        drop(stream);
        until("both streams are closed", || open() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_the_query_ends_the_stream_and_frees_the_workers() {
    let cluster = Cluster::new(2);
    cluster.script(0, &[Fault::Hang { at: 4 }]);
    cluster.script(1, &[Fault::Hang { at: 4 }]);
    let chunks: Vec<u64> = (0..50).collect();
    let request = cluster.request(&chunks, true);
    let cancel = request.query.cancel.clone();
    let begun = Instant::now();
    let stop = async {
        let open = || cluster.workers.iter().all(|w| w.state.open.load(Ordering::SeqCst) == 1);
        until("both streams are open", open).await;
        cancel.cancel();
    };
    let ((_, error), ()) = tokio::join!(cluster.run(request), stop);
    assert!(matches!(error, Some(EngineError::Cancelled)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "sooner than the silence timeout");
    let open = || cluster.workers.iter().map(|w| w.state.open.load(Ordering::SeqCst)).sum::<usize>();
    until("both streams are closed", || open() == 0).await;
}

/// A consumer that is not there at all: cancelled by token alone, without a poll.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_works_while_nobody_polls() {
    let cluster = one(DispatchConfig { buffer_bytes: 100_000, ..quick() });
    let request = cluster.request(&wide(400), true);
    let cancel = request.query.cancel.clone();
    let mut stream = cluster.dispatcher.dispatch(request);
    stream.next().await.unwrap().unwrap();
    let state = Arc::clone(&cluster.workers[0].state);
    assert_eq!(state.open.load(Ordering::SeqCst), 1);
    cancel.cancel();
    until("the stream is closed", || state.open.load(Ordering::SeqCst) == 0).await;
    let rest: Vec<_> = stream.collect().await;
    assert!(matches!(rest.last(), Some(Err(EngineError::Cancelled))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_happens_before_the_first_poll() {
    let cluster = Cluster::new(1);
    let stream = cluster.dispatcher.dispatch(cluster.request(&[1, 2], true));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(cluster.workers[0].asked().is_empty());
    drop(stream);
}

/// 52 MB of frames, a consumer that stops after one: the worker is stopped by flow control.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_stops_the_worker_and_then_gets_every_row() {
    for deterministic in [true, false] {
        let cluster = one(DispatchConfig { buffer_bytes: 1 << 20, ..quick() });
        let chunks = wide(400);
        let request = cluster.request(&chunks, deterministic);
        let counters = Arc::clone(&request.query.counters);
        let mut stream = cluster.dispatcher.dispatch(request);
        let mut harvest = Harvest::default();
        harvest.add(&stream.next().await.unwrap().unwrap());
        let sent = || cluster.workers[0].state.sent.load(Ordering::SeqCst);
        let mut last = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if sent() == last {
                break;
            }
            last = sent();
        }
        // 1 MiB of buffer, a parcel of 1 MiB, a window of 4 MiB, and what lies in the sockets.
        let received = QueryCounters::get(&counters.bytes_received);
        assert!(received < 4 << 20, "{received} bytes came while nobody took them");
        assert!(last < 1_000, "{last} of 2,001 messages were sent while nobody took them");
        while let Some(frame) = stream.next().await {
            harvest.add(&frame.unwrap());
        }
        harvest.check(&chunks).unwrap();
    }
}

/// Streams at rest fill their windows; were these a large part of their connection's window, the
/// next query to the same worker would never get a byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_stopped_queries_do_not_stop_the_next() {
    let cluster = one(DispatchConfig { buffer_bytes: 100_000, ..quick() });
    let mut stopped = Vec::new();
    for _ in 0..20 {
        let mut stream = cluster.dispatcher.dispatch(cluster.request(&wide(80), true));
        stream.next().await.unwrap().unwrap();
        stopped.push(stream);
    }
    let sent = || cluster.workers[0].state.sent.load(Ordering::SeqCst);
    let mut last = 0;
    while sent() != last {
        last = sent();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let next = tokio::time::timeout(Duration::from_secs(20), cluster.exact(&wide(5), true)).await;
    next.expect("the next query runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_to_a_worker_are_bounded() {
    let config = DispatchConfig {
        streams_per_worker: 2,
        silence_timeout: Duration::from_secs(5),
        buffer_bytes: 1_000,
        ..quick()
    };
    let cluster = one(config);
    let mut stopped = Vec::new();
    for _ in 0..2 {
        let mut stream = cluster.dispatcher.dispatch(cluster.request(&wide(80), true));
        stream.next().await.unwrap().unwrap();
        stopped.push(stream);
    }
    let (_, error) = cluster.run(cluster.request(&[1, 2, 3], true)).await;
    assert_eq!(error.expect("no stream is free").kind(), FailureKind::ResourceExhausted);
    drop(stopped);
    cluster.exact(&[1, 2, 3], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_tickets_are_cut() {
    let chunks: Vec<u64> = (0..1_000).collect();
    let cluster = one(DispatchConfig { chunks_per_stream: 300, ..quick() });
    cluster.exact(&chunks, true).await;
    let sizes: Vec<usize> = cluster.workers[0].asked().iter().map(|a| a.task.chunks.len()).collect();
    assert_eq!(sizes, [300, 300, 300, 100]);

    let cluster = one(DispatchConfig { ticket_bytes: 20_000, ..quick() });
    cluster.exact(&chunks, true).await;
    let asked = cluster.workers[0].asked();
    assert!(asked.len() > 1);
    assert!(asked.iter().all(|a| skyflight_proto::Message::encoded_len(&a.task) <= 20_100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_chunks_are_interactive() {
    let cluster = Cluster::new(1);
    cluster.exact(&[5, 6], true).await;
    let asked = cluster.workers[0].asked().remove(0);
    assert!(asked.task.interactive);
    let parts: Vec<&str> = asked.task.traceparent.split('-').collect();
    assert_eq!((parts[0], parts[1].len(), parts[2].len(), parts[3]), ("00", 32, 16, "01"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_trace_goes_on_at_the_workers() {
    let cluster = Cluster::new(1);
    // The example of W3C Trace Context, 3.2.4.
    let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut request = cluster.request(&[5, 6], true);
    request.query.trace = skyflight_engine::trace::begin("query", opentelemetry::trace::SpanKind::Server, header);
    cluster.run(request).await;
    assert_eq!(cluster.workers[0].asked().remove(0).task.traceparent, header);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_is_not_asked_for_every_query() {
    let cluster = Cluster::new(1);
    for _ in 0..50 {
        cluster.exact(&[1], true).await;
    }
    let listings = cluster.addresses.listings.load(Ordering::SeqCst);
    assert!(listings <= 10, "{listings} listings");
}
