//! What a chunk costs the coordinator. Prints, and fails only when it is wildly off.

use std::time::Instant;

use futures::StreamExt;
use skyflight_engine::dispatch::ChunkDispatcher;

use super::cluster::{Cluster, quick};
use super::fake::Manners;
use super::sky::rows_of;

const CHUNKS: u64 = 10_000;
const ROUNDS: u32 = 5;

/// CPU time of the threads of that name, in nanoseconds, as the kernel counts it.
fn cpu_ns(thread_name: &str) -> Option<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        if name.trim() == thread_name {
            let schedstat = std::fs::read_to_string(path.join("schedstat")).ok()?;
            sum += schedstat.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    Some(sum)
}

/// The dispatcher and its consumer have a runtime of their own, so that what they cost can be told
/// from what the workers cost.
#[test]
fn ten_thousand_chunks() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("dispatch-cost")
        .enable_all()
        .build()
        .unwrap();
    let manners = |seed| Manners { frame_rows: 100, seed, ..Manners::default() };
    let cluster = Cluster::with(quick(), (1..=3).map(manners).collect(), runtime.handle().clone());
    let chunks: Vec<u64> = (0..CHUNKS).collect();
    let expected: u64 = chunks.iter().map(|chunk| rows_of(*chunk)).sum();
    for deterministic in [true, false] {
        let mut wall_us = f64::MAX;
        let before = cpu_ns("dispatch-cost");
        for _ in 0..ROUNDS {
            let stream = cluster.dispatcher.dispatch(cluster.request(&chunks, deterministic));
            let consume = async move {
                let mut rows = 0;
                let mut stream = stream;
                while let Some(frame) = stream.next().await {
                    rows += frame.unwrap().rows;
                }
                rows
            };
            let begun = Instant::now();
            let rows = runtime.block_on(runtime.spawn(consume)).unwrap();
            wall_us = wall_us.min(begun.elapsed().as_secs_f64() * 1e6);
            assert_eq!(rows, expected);
        }
        let cpu_us = before.zip(cpu_ns("dispatch-cost")).map(|(before, after)| (after - before) as f64 / 1e3);
        let per_chunk = cpu_us.map(|us| us / f64::from(ROUNDS) / CHUNKS as f64);
        println!(
            "{CHUNKS} chunks on 3 workers, deterministic {deterministic}: {per_chunk:.1?} us of CPU per chunk at the \
             coordinator, {:.1} us of time with the workers' part (best of {ROUNDS})",
            wall_us / CHUNKS as f64
        );
        assert!(per_chunk.is_none_or(|us| us < 1_000.0), "{per_chunk:?} us per chunk");
    }
    let streams: usize = cluster.workers.iter().map(|worker| worker.asked().len()).sum();
    assert_eq!(streams, 2 * ROUNDS as usize * 3, "no call per chunk");
}
