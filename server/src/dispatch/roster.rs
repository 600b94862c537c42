//! Which worker runs which chunk: the least loaded one that holds it and has not failed.

use std::time::{Duration, Instant};

use skyflight_catalog::WorkerId;
use skyflight_engine::dispatch::PlannedChunk;
use uuid::Uuid;

use super::config::DispatchConfig;
use super::ledger::Job;

/// The longest wait before a worker that has failed is used again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// A stream to a worker that has failed before carries this part of what waits for the worker, so
/// that one bad chunk does not use up the attempts of all others.
const CAUTIOUS_PART: usize = 8;

/// One worker, in one query.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) id: WorkerId,
    /// Chunks for its next stream.
    queue: Vec<Job>,
    /// Whether a stream to it is open; one at a time.
    running: bool,
    /// Files of all chunks it has been given.
    load: u64,
    /// Of workers that failed as often the last choice: it gives no sign of life.
    doubtful: bool,
    failures: u32,
    /// Counts over the query's failures; 0 for none.
    last_failure: u32,
    not_before: Option<Instant>,
    reason: String,
    streams: u32,
    /// Whether the worker has been sent the fragment.
    pub(super) knows_fragment: bool,
}

/// The workers of one query.
#[derive(Debug)]
pub(super) struct Roster {
    desks: Vec<Desk>,
    failures: u32,
    salt: u64,
}

/// Work for one stream.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) worker: u16,
    pub(super) jobs: Vec<Job>,
    /// Counts the streams of this query to this worker.
    pub(super) attempt: u32,
}

impl Roster {
    /// `doubtful` tells whether a worker should be the last choice from the start.
    pub(super) fn new(workers: &[WorkerId], query: Uuid, doubtful: impl Fn(&WorkerId) -> bool) -> Self {
        let desk = |id: &WorkerId| Desk {
            id: id.clone(),
            queue: Vec::new(),
            running: false,
            load: 0,
            doubtful: doubtful(id),
            failures: 0,
            last_failure: 0,
            not_before: None,
            reason: String::new(),
            streams: 0,
            knows_fragment: false,
        };
        Roster { desks: workers.iter().map(desk).collect(), failures: 0, salt: query.as_u64_pair().1 }
    }

    pub(super) fn desk(&mut self, worker: u16) -> &mut Desk {
        &mut self.desks[worker as usize]
    }

    /// Gives a chunk to a worker. Ties between workers are broken by chunk and query, so that
    /// queries of one chunk spread over its replicas.
    pub(super) fn give(&mut self, job: Job, chunk: &PlannedChunk) {
        let holders = &chunk.workers;
        let first = mix(chunk.chunk.0 ^ self.salt) as usize % holders.len();
        let order = holders[first..].iter().chain(&holders[..first]);
        let rank = |worker: &&u16| {
            let desk = &self.desks[**worker as usize];
            (desk.failures, desk.doubtful, desk.last_failure, desk.load)
        };
        if let Some(worker) = order.min_by_key(rank) {
            let desk = &mut self.desks[*worker as usize];
            desk.load += chunk.files.len().max(1) as u64;
            desk.queue.push(job);
        }
    }

    /// The stream to a worker has ended well.
    pub(super) fn succeeded(&mut self, worker: u16) {
        self.desk(worker).running = false;
    }

    /// The stream to a worker has failed, after an answer or without one. Gives what waited for the
    /// worker, to be given anew.
    pub(super) fn failed(&mut self, worker: u16, answered: bool, reason: String, config: &DispatchConfig) -> Vec<Job> {
        self.failures += 1;
        let last_failure = self.failures;
        let desk = self.desk(worker);
        desk.running = false;
        desk.doubtful = !answered;
        desk.reason = reason;
        desk.last_failure = last_failure;
        let backoff = config.retry_backoff.saturating_mul(1 << desk.failures.min(16));
        desk.failures += 1;
        desk.not_before = Some(Instant::now() + backoff.min(LONGEST_BACKOFF));
        std::mem::take(&mut desk.queue)
    }

    /// Work for a worker that has some, has no stream, and need not wait. `bytes_of` gives what a
    /// chunk takes in a ticket.
    pub(super) fn next(&mut self, config: &DispatchConfig, bytes_of: impl Fn(&Job) -> usize) -> Option<Batch> {
        let now = Instant::now();
        let ready = |desk: &Desk| !desk.running && !desk.queue.is_empty() && desk.not_before.is_none_or(|at| at <= now);
        let worker = self.desks.iter().position(ready)?;
        let desk = &mut self.desks[worker];
        let mut most = config.chunks_per_stream.max(1);
        if desk.failures > 0 {
            most = most.min(desk.queue.len().div_ceil(CAUTIOUS_PART));
        }
        let mut bytes = 0;
        let mut taken = 0;
        for job in desk.queue.iter().take(most) {
            bytes += bytes_of(job);
            if taken > 0 && bytes > config.ticket_bytes {
                break;
            }
            taken += 1;
        }
        let rest = desk.queue.split_off(taken);
        let jobs = std::mem::replace(&mut desk.queue, rest);
        let attempt = desk.streams;
        desk.streams += 1;
        desk.running = true;
        Some(Batch { worker: worker as u16, jobs, attempt })
    }

    /// When the first worker that has work and must wait may be used again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let waiting = self.desks.iter().filter(|desk| !desk.running && !desk.queue.is_empty());
        waiting.filter_map(|desk| desk.not_before).min()
    }

    /// The workers that hold a chunk and how each failed, for the user.
    pub(super) fn reasons(&self, chunk: &PlannedChunk) -> String {
        let each = chunk.workers.iter().map(|worker| {
            let desk = &self.desks[*worker as usize];
            let reason = if desk.reason.is_empty() { "was not tried" } else { desk.reason.as_str() };
            format!("worker {}: {reason}", desk.id)
        });
        each.collect::<Vec<_>>().join("; ")
    }
}

/// The finalizer of SplitMix64: chunk ids of one order differ in few bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use skyflight_catalog::FileId;
    use skyflight_sky::ChunkId;

    use super::*;

    fn chunk(id: u64, files: usize, workers: &[u16]) -> PlannedChunk {
        PlannedChunk {
            chunk: ChunkId(id),
            files: vec![FileId(1); files],
            files_per_scan: vec![files as u32],
            workers: workers.to_vec(),
        }
    }

    fn job(planned: u32) -> Job {
        Job { planned, attempts: 0, delivered: 0 }
    }

    fn roster(n: usize) -> Roster {
        let workers: Vec<WorkerId> = (0..n).map(|i| WorkerId(format!("w{i}"))).collect();
        Roster::new(&workers, Uuid::from_u128(7), |_| false)
    }

    #[test]
    fn load_is_balanced_over_replicas_by_files() {
        let mut roster = roster(3);
        let pairs: [&[u16]; 3] = [&[0, 1], &[1, 2], &[2, 0]];
        for i in 0..3_000_u32 {
            roster.give(job(i), &chunk(u64::from(i), 1 + i as usize % 7, pairs[i as usize % 3]));
        }
        let loads: Vec<u64> = roster.desks.iter().map(|desk| desk.load).collect();
        let total: u64 = loads.iter().sum();
        assert_eq!(total, (0..3_000).map(|i| 1 + i % 7).sum::<u64>());
        for load in loads {
            assert!(load.abs_diff(total / 3) < 20, "{load} of {total}");
        }
    }

    #[test]
    fn one_chunk_queries_spread_over_the_replicas() {
        let mut first = 0;
        for i in 0..1_000_u128 {
            let workers = [WorkerId::from("a"), WorkerId::from("b")];
            let mut roster = Roster::new(&workers, Uuid::from_u128(i), |_| false);
            roster.give(job(0), &chunk(42, 1, &[0, 1]));
            first += roster.desks[0].queue.len();
        }
        assert!((400..600).contains(&first), "{first} of 1,000 to the first replica");
    }

    #[test]
    fn a_failed_worker_is_the_last_choice_and_then_the_one_that_failed_first() {
        let config = DispatchConfig::default();
        let mut roster = roster(3);
        let everywhere = chunk(1, 1, &[0, 1, 2]);
        roster.failed(1, true, "x".into(), &config);
        for i in 0..100 {
            roster.give(job(i), &everywhere);
        }
        assert!(roster.desks[1].queue.is_empty());
        let queued = roster.failed(0, true, "y".into(), &config);
        assert_eq!(queued.len(), 50);
        roster.failed(2, true, "z".into(), &config);
        roster.give(job(0), &everywhere);
        assert_eq!(roster.desks[1].queue.len(), 1);
        assert_eq!(roster.reasons(&everywhere), "worker w0: y; worker w1: x; worker w2: z");
    }

    #[test]
    fn streams_are_bounded_in_chunks_and_bytes_and_one_at_a_time() {
        let config = DispatchConfig { chunks_per_stream: 10, ticket_bytes: 100, ..DispatchConfig::default() };
        let mut roster = roster(1);
        for i in 0..25 {
            roster.give(job(i), &chunk(u64::from(i), 1, &[0]));
        }
        let sizes = |job: &Job| if job.planned < 12 { 1 } else { 40 };
        let mut taken = Vec::new();
        while let Some(batch) = roster.next(&config, sizes) {
            assert!(roster.next(&config, sizes).is_none(), "a second stream to the same worker");
            taken.push(batch.jobs.iter().map(|job| job.planned).collect::<Vec<_>>());
            roster.succeeded(0);
        }
        assert_eq!(taken[0], (0..10).collect::<Vec<_>>());
        assert_eq!(taken[1], [10, 11, 12, 13]);
        assert!(taken[2..].iter().all(|batch| batch.len() <= 2));
        assert_eq!(taken.concat(), (0..25).collect::<Vec<_>>());
    }

    #[test]
    fn after_a_failure_streams_are_small_and_wait() {
        let config = DispatchConfig { retry_backoff: Duration::from_millis(20), ..DispatchConfig::default() };
        let mut roster = roster(1);
        for i in 0..80 {
            roster.give(job(i), &chunk(u64::from(i), 1, &[0]));
        }
        let batch = roster.next(&config, |_| 1).unwrap();
        assert_eq!(batch.jobs.len(), 80);
        assert!(roster.failed(0, true, "x".into(), &config).is_empty());
        for job in batch.jobs {
            roster.give(job, &chunk(1, 1, &[0]));
        }
        assert!(roster.next(&config, |_| 1).is_none());
        let at = roster.wake_at().unwrap();
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let batch = roster.next(&config, |_| 1).unwrap();
        assert_eq!((batch.jobs.len(), batch.attempt), (10, 1));
    }
}
