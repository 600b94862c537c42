//! Which workers take which chunk: those that have other tables of it, else the ones with the least to hold.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use skyflight_catalog::{FileKind, Snapshot, Worker, WorkerId};
use skyflight_sky::ChunkId;

use crate::error::{IngestError, Result};

/// The places of a database's chunks, old and new.
#[derive(Debug)]
pub(crate) struct Placement {
    replicas: usize,
    /// Alive, by id.
    workers: Vec<Worker>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chunks: BTreeMap<ChunkId, Vec<WorkerId>>,
    /// Of each alive worker.
    bytes: Vec<u64>,
}

impl Placement {
    /// `workers` are those alive; `snapshots` are the current ones of all databases, `base` this one's.
    pub(crate) fn new(
        mut workers: Vec<Worker>,
        replicas: usize,
        base: Option<&Snapshot>,
        load: &BTreeMap<WorkerId, u64>,
    ) -> Result<Placement> {
        if workers.is_empty() || workers.len() < replicas {
            return Err(IngestError::TooFewWorkers { alive: workers.len(), replicas: replicas.max(1) });
        }
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        let replicas = if replicas == 0 { workers.len().min(2) } else { replicas };
        let mut chunks: BTreeMap<ChunkId, Vec<WorkerId>> = BTreeMap::new();
        for file in base.iter().flat_map(|snapshot| &snapshot.tables).flat_map(|table| &table.files) {
            if file.kind != FileKind::DirectorIndex && file.chunk != ChunkId::EVERYWHERE {
                chunks.entry(file.chunk).or_insert_with(|| file.workers.clone());
            }
        }
        let bytes = workers.iter().map(|worker| load.get(&worker.id).copied().unwrap_or(0)).collect();
        Ok(Placement { replicas, workers, state: Mutex::new(State { chunks, bytes }) })
    }

    /// The workers for a file of the chunk. All tables of a chunk lie together, or its joins could not run there.
    pub(crate) fn place(&self, chunk: ChunkId, bytes: u64) -> Result<Vec<Worker>> {
        let mut state = self.state.lock();
        let chosen: Vec<usize> = if chunk == ChunkId::EVERYWHERE {
            (0..self.workers.len()).collect()
        } else if let Some(known) = state.chunks.get(&chunk) {
            known.iter().map(|id| self.index_of(chunk, id)).collect::<Result<_>>()?
        } else {
            let mut by_load: Vec<usize> = (0..self.workers.len()).collect();
            by_load.sort_by_key(|at| (state.bytes.get(*at).copied(), *at));
            by_load.truncate(self.replicas);
            let ids = by_load.iter().filter_map(|at| self.workers.get(*at)).map(|worker| worker.id.clone());
            let ids = ids.collect();
            state.chunks.insert(chunk, ids);
            by_load
        };
        for at in &chosen {
            if let Some(total) = state.bytes.get_mut(*at) {
                *total += bytes;
            }
        }
        Ok(chosen.into_iter().filter_map(|at| self.workers.get(at).cloned()).collect())
    }

    fn index_of(&self, chunk: ChunkId, id: &WorkerId) -> Result<usize> {
        let at = self.workers.iter().position(|worker| worker.id == *id);
        at.ok_or_else(|| IngestError::WorkerMissing { chunk, worker: id.to_string() })
    }
}

/// Bytes each worker holds in the given snapshots.
pub(crate) fn load<'a>(snapshots: impl IntoIterator<Item = &'a Snapshot>) -> BTreeMap<WorkerId, u64> {
    let mut load = BTreeMap::new();
    for file in snapshots.into_iter().flat_map(|snapshot| &snapshot.tables).flat_map(|table| &table.files) {
        for worker in &file.workers {
            *load.entry(worker.clone()).or_default() += file.bytes;
        }
    }
    load
}
