//! A dispatcher, fake workers, and a directory that knows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use skyflight_catalog::{FileId, WorkerId};
use skyflight_engine::dispatch::{
    ChunkDispatcher, ChunkList, DispatchRequest, EncodedFragment, PlannedChunk, QueryContext,
};
use skyflight_engine::{EngineError, Result};
use skyflight_proto::ClusterKeys;
use skyflight_server::dispatch::{DispatchConfig, FlightDispatcher, WorkerAddress, WorkerDirectory};
use tokio::runtime::Handle;

use super::fake::{Fault, Manners, Worker};
use super::sky::{Harvest, SCHEMA, unix_ms};

/// Addresses that can be changed while queries run.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) entries: Mutex<Vec<(String, String)>>,
    pub(crate) listings: AtomicUsize,
}

#[async_trait]
impl WorkerDirectory for Addresses {
    async fn workers(&self) -> Result<Vec<WorkerAddress>> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        let entries = self.entries.lock();
        let entry = |(id, address): &(String, String)| WorkerAddress {
            id: WorkerId::from(id.as_str()),
            address: address.clone(),
            last_seen_unix_ms: unix_ms(),
        };
        Ok(entries.iter().map(entry).collect())
    }
}

pub(crate) struct Cluster {
    pub(crate) workers: Vec<Worker>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) dispatcher: FlightDispatcher,
    pub(crate) keys: Arc<ClusterKeys>,
}

/// Short pauses, but patience with workers: the machine may be busy.
pub(crate) fn quick() -> DispatchConfig {
    DispatchConfig {
        silence_timeout: Duration::from_secs(10),
        retry_backoff: Duration::from_millis(5),
        ..DispatchConfig::default()
    }
}

/// For tests of silence.
pub(crate) fn impatient() -> DispatchConfig {
    DispatchConfig {
        silence_timeout: Duration::from_millis(400),
        stall_timeout: Duration::from_millis(1_200),
        ..quick()
    }
}

impl Cluster {
    pub(crate) fn new(workers: usize) -> Cluster {
        Cluster::of(workers, quick())
    }

    pub(crate) fn of(workers: usize, config: DispatchConfig) -> Cluster {
        let manners = (0..workers).map(|i| Manners {
            // Frames are cut differently by each worker: only rows may count in a resume.
            frame_rows: 5 + i as u64 * 3,
            seed: i as u64 + 1,
            ..Manners::default()
        });
        Cluster::with(config, manners.collect(), Handle::current())
    }

    pub(crate) fn with(config: DispatchConfig, manners: Vec<Manners>, runtime: Handle) -> Cluster {
        let keys = Arc::new(ClusterKeys::generate());
        let workers: Vec<Worker> = manners.into_iter().map(|manners| Worker::start(&keys, manners)).collect();
        let addresses = Arc::new(Addresses::default());
        *addresses.entries.lock() =
            workers.iter().enumerate().map(|(i, worker)| (format!("w{i}"), worker.address.clone())).collect();
        let directory: Arc<dyn WorkerDirectory> = Arc::clone(&addresses) as _;
        Cluster {
            workers,
            addresses,
            dispatcher: FlightDispatcher::new(config, Arc::clone(&keys), directory, runtime),
            keys,
        }
    }

    /// Scripts the worker's next streams.
    pub(crate) fn script(&self, worker: usize, faults: &[Fault]) {
        self.workers[worker].script(faults);
    }

    /// All chunks on all workers.
    pub(crate) fn request(&self, chunks: &[u64], deterministic: bool) -> DispatchRequest {
        let all: Vec<u16> = (0..self.workers.len() as u16).collect();
        self.request_on(chunks, deterministic, |_| all.clone())
    }

    pub(crate) fn request_on(
        &self,
        chunks: &[u64],
        deterministic: bool,
        holders: impl Fn(u64) -> Vec<u16>,
    ) -> DispatchRequest {
        let planned = |chunk: &u64| PlannedChunk {
            chunk: skyflight_sky::ChunkId(*chunk),
            files: vec![FileId((1 << 32) | *chunk as i64)],
            files_per_scan: vec![1],
            workers: holders(*chunk),
        };
        DispatchRequest {
            query: QueryContext::new("ada"),
            fragment: Arc::new(EncodedFragment { hash: [7; 32], bytes: Bytes::from_static(b"a fragment") }),
            schema: Arc::clone(&SCHEMA),
            chunks: Arc::new(ChunkList {
                chunks: chunks.iter().map(planned).collect(),
                workers: (0..self.workers.len()).map(|i| WorkerId(format!("w{i}"))).collect(),
                total: chunks.len(),
            }),
            deterministic,
            commits: None,
        }
    }

    /// Runs a request to its end; the rows that came, and the error if there was one.
    pub(crate) async fn run(&self, request: DispatchRequest) -> (Harvest, Option<EngineError>) {
        let mut stream = self.dispatcher.dispatch(request);
        let mut harvest = Harvest::default();
        while let Some(item) = stream.next().await {
            match item {
                Ok(frame) => harvest.add(&frame),
                Err(error) => {
                    assert!(stream.next().await.is_none(), "an error is the last item");
                    return (harvest, Some(error));
                }
            }
        }
        (harvest, None)
    }

    /// Runs chunks in both modes under a script and expects an exact answer.
    pub(crate) async fn exact(&self, chunks: &[u64], deterministic: bool) {
        let (harvest, error) = self.run(self.request(chunks, deterministic)).await;
        assert!(error.is_none(), "deterministic {deterministic}: {}", error.unwrap());
        harvest.check(chunks).unwrap();
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..400 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come true in 4 s");
}
