//! Which worker runs which chunks of a shuffled query: decided for all leaves at once, when it runs.

use std::collections::HashMap;

use datafusion::common::{Result, internal_datafusion_err};
use skyflight_catalog::WorkerId;
use url::Url;

use crate::EngineError;
use crate::dispatch::{ChunkList, PlannedChunk};
use crate::plan::dispatch::into_plan_error;

/// The chunks of each leaf, by task: task *k* of every stage runs on worker *k*.
#[derive(Debug, Default)]
pub(super) struct Placement {
    /// The workers' addresses; none where nothing is to run yet.
    pub(super) urls: Vec<Url>,
    /// How many tasks a stage has.
    pub(super) tasks: usize,
    /// For each leaf, in the order of the lists it was made from, the chunks of each task.
    pub(super) leaves: Vec<Vec<Vec<PlannedChunk>>>,
}

/// The workers that hold any chunk of any list, ascending.
pub(super) fn holders(lists: &[ChunkList]) -> Vec<WorkerId> {
    let mut workers: Vec<WorkerId> = lists
        .iter()
        .flat_map(|list| {
            list.chunks.iter().flat_map(|c| &c.workers).filter_map(|w| list.workers.get(*w as usize)).cloned()
        })
        .collect();
    workers.sort_unstable();
    workers.dedup();
    workers
}

impl Placement {
    /// Gives every chunk to exactly one worker that holds it and is not `None` in `addresses`, which
    /// go with `workers`. Workers that get nothing have no task.
    ///
    /// # Errors
    /// `Unavailable` where none of a chunk's workers can be reached.
    pub(super) fn new(lists: &[ChunkList], workers: &[WorkerId], addresses: &[Option<String>]) -> Result<Placement> {
        let numbers: HashMap<&WorkerId, usize> = workers
            .iter()
            .zip(addresses)
            .enumerate()
            .filter(|(_, (_, address))| address.is_some())
            .map(|(number, (worker, _))| (worker, number))
            .collect();
        let mut load = vec![0_usize; workers.len()];
        let mut leaves = Vec::with_capacity(lists.len());
        for list in lists {
            let mut shares = vec![Vec::new(); workers.len()];
            for chunk in &list.chunks {
                let able = chunk.workers.iter().filter_map(|w| numbers.get(list.workers.get(*w as usize)?).copied());
                let chosen = able.min_by_key(|number| (load[*number], *number)).ok_or_else(|| {
                    into_plan_error(EngineError::Unavailable(format!(
                        "no worker that holds all files of chunk {} can be reached; start the workers that do",
                        chunk.chunk
                    )))
                })?;
                load[chosen] += 1;
                shares[chosen].push(chunk.clone());
            }
            leaves.push(shares);
        }
        let used: Vec<usize> = (0..workers.len()).filter(|number| load[*number] > 0).collect();
        let mut urls = Vec::with_capacity(used.len());
        for number in &used {
            let address = addresses[*number].as_deref().unwrap_or_default();
            urls.push(Url::parse(address).map_err(|e| {
                internal_datafusion_err!("worker {} has no usable address ({address}): {e}", workers[*number])
            })?);
        }
        for shares in &mut leaves {
            *shares = used.iter().map(|number| std::mem::take(&mut shares[*number])).collect();
        }
        Ok(Placement { urls, tasks: used.len(), leaves })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use skyflight_sky::ChunkId;

    use super::*;

    fn list(workers: &[&str], chunks: &[(u64, &[u16])]) -> ChunkList {
        ChunkList {
            chunks: chunks
                .iter()
                .map(|(chunk, workers)| PlannedChunk {
                    chunk: ChunkId(*chunk),
                    files: Vec::new(),
                    files_per_scan: Vec::new(),
                    workers: workers.to_vec(),
                })
                .collect(),
            workers: workers.iter().map(|w| WorkerId((*w).to_owned())).collect(),
            total: chunks.len(),
        }
    }

    fn at(worker: &WorkerId) -> Option<String> {
        Some(format!("http://{}:1", worker.0))
    }

    #[test]
    fn every_chunk_goes_to_one_worker_that_holds_it_however_the_lists_number_them() {
        // The two lists number their workers differently.
        let lists = [
            list(&["a", "b", "c"], &[(1, &[0, 1]), (2, &[1, 2]), (3, &[0, 2]), (4, &[2])]),
            list(&["c", "a"], &[(9, &[0]), (10, &[1]), (11, &[0, 1])]),
        ];
        let workers = holders(&lists);
        assert_eq!(workers.iter().map(|w| w.0.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let addresses: Vec<_> = workers.iter().map(at).collect();
        let placement = Placement::new(&lists, &workers, &addresses).unwrap();
        assert_eq!(placement.tasks, 3);
        for (list, shares) in lists.iter().zip(&placement.leaves) {
            let mut seen = Vec::new();
            for (url, share) in placement.urls.iter().zip(shares) {
                for chunk in share {
                    let holders = chunk.workers.iter().map(|w| list.workers[*w as usize].0.as_str());
                    assert!(holders.into_iter().any(|holder| Some(holder) == url.host_str()));
                    seen.push(chunk.chunk.0);
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, list.chunks.iter().map(|c| c.chunk.0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn unreachable_workers_get_nothing_and_idle_ones_no_task() {
        let lists = [list(&["a", "b", "c"], &[(1, &[0, 1]), (2, &[0, 1])])];
        let workers = holders(&lists);
        let placement = Placement::new(&lists, &workers, &[None, at(&workers[1])]).unwrap();
        assert_eq!((placement.tasks, placement.leaves[0][0].len()), (1, 2));
        assert_eq!(placement.urls[0].host_str(), Some("b"));
        let error = Placement::new(&lists, &workers, &[None, None]).unwrap_err();
        assert!(matches!(crate::fragment::error_of(error), EngineError::Unavailable(_)));
    }
}
