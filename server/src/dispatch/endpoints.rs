//! The chunks of a dispatch divided into endpoints: each chunk in exactly one, and every worker that
//! an endpoint names holds all files of all its chunks, so that a client may go to any of them.

use std::collections::BTreeMap;

use skyflight_engine::dispatch::ChunkList;

use super::ticket::chunk_bytes;

/// Endpoints of one query, at most: clients open a stream for each, some of them all at once.
const MOST_ENDPOINTS: usize = 64;

/// Bounds of one endpoint's ticket.
const CHUNKS: usize = 20_000;
const TICKET_BYTES: usize = 1 << 20;

/// The chunks of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Who serves them, in the order in which they are to be tried; indices into
    /// [`ChunkList::workers`]. Empty where only the coordinator can.
    pub(crate) workers: Vec<u16>,
    /// Indices into [`ChunkList::chunks`].
    pub(crate) chunks: Vec<u32>,
}

/// A group's first worker, and all that hold its chunks, in ascending order.
type Holders = (Option<u16>, Vec<u16>);

/// Divides the chunks among the workers for which `usable` is true; as many files for each as can be.
/// `None` where there would be too many endpoints.
pub(crate) fn divide(list: &ChunkList, usable: &[bool]) -> Option<Vec<Part>> {
    let is_usable = |worker: &u16| usable.get(*worker as usize).copied().unwrap_or(false);
    let mut load = vec![0_u64; usable.len()];
    let mut groups: BTreeMap<Holders, Vec<u32>> = BTreeMap::new();
    for (index, chunk) in list.chunks.iter().enumerate() {
        let mut holders: Vec<u16> = chunk.workers.iter().copied().filter(is_usable).collect();
        holders.sort_unstable();
        holders.dedup();
        let first = holders.iter().copied().min_by_key(|worker| load[*worker as usize]);
        if let Some(first) = first {
            load[first as usize] += chunk.files.len().max(1) as u64;
        }
        groups.entry((first, holders)).or_default().push(u32::try_from(index).ok()?);
    }
    if groups.len() > MOST_ENDPOINTS {
        groups = merged(groups);
    }
    let mut parts = Vec::with_capacity(groups.len());
    for ((first, holders), chunks) in groups {
        let at = first.and_then(|first| holders.iter().position(|worker| *worker == first)).unwrap_or(0);
        // Whoever comes after the first in the list is its second: other firsts have other seconds.
        let workers: Vec<u16> = holders[at..].iter().chain(&holders[..at]).copied().collect();
        parts.extend(pieces(list, chunks).into_iter().map(|chunks| Part { workers: workers.clone(), chunks }));
    }
    (parts.len() <= MOST_ENDPOINTS).then(|| in_turn(parts))
}

/// One group for each first worker; its chunks have fewer holders in common.
fn merged(groups: BTreeMap<Holders, Vec<u32>>) -> BTreeMap<Holders, Vec<u32>> {
    let mut by_first: BTreeMap<Option<u16>, (Vec<u16>, Vec<u32>)> = BTreeMap::new();
    for ((first, holders), chunks) in groups {
        match by_first.get_mut(&first) {
            Some((common, all)) => {
                common.retain(|worker| holders.binary_search(worker).is_ok());
                all.extend(chunks);
            }
            None => {
                by_first.insert(first, (holders, chunks));
            }
        }
    }
    by_first.into_iter().map(|(first, (common, chunks))| ((first, common), chunks)).collect()
}

/// Chunks cut to what one ticket takes.
fn pieces(list: &ChunkList, chunks: Vec<u32>) -> Vec<Vec<u32>> {
    let mut pieces = Vec::new();
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for index in chunks {
        let chunk = &list.chunks[index as usize];
        let more = chunk_bytes(chunk) + 4 + 5 * chunk.workers.len();
        if !piece.is_empty() && (piece.len() >= CHUNKS || bytes + more > TICKET_BYTES) {
            pieces.push(std::mem::take(&mut piece));
            bytes = 0;
        }
        piece.push(index);
        bytes += more;
    }
    pieces.push(piece);
    pieces
}

/// Parts in an order in which neighbours are at different workers: clients read them from the front.
fn in_turn(parts: Vec<Part>) -> Vec<Part> {
    let mut given: BTreeMap<Option<u16>, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, Part)> = Vec::with_capacity(parts.len());
    for part in parts {
        let rank = given.entry(part.workers.first().copied()).or_default();
        ranked.push((*rank, part));
        *rank += 1;
    }
    ranked.sort_by_key(|(rank, part)| (*rank, part.workers.first().copied()));
    ranked.into_iter().map(|(_, part)| part).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use skyflight_catalog::{FileId, WorkerId};
    use skyflight_engine::dispatch::PlannedChunk;
    use skyflight_sky::ChunkId;

    use super::*;

    fn list(workers: usize, holders: impl IntoIterator<Item = (usize, Vec<u16>)>) -> ChunkList {
        let chunk = |(id, (files, workers)): (usize, (usize, Vec<u16>))| PlannedChunk {
            chunk: ChunkId(id as u64),
            files: vec![FileId(1); files],
            files_per_scan: vec![files as u32],
            workers,
        };
        let chunks: Vec<PlannedChunk> = holders.into_iter().enumerate().map(chunk).collect();
        let total = chunks.len();
        ChunkList { chunks, workers: (0..workers).map(|i| WorkerId(format!("w{i}"))).collect(), total }
    }

    /// What must hold of any division.
    fn check(list: &ChunkList, usable: &[bool], parts: &[Part]) {
        let mut seen = vec![0; list.chunks.len()];
        for part in parts {
            assert!(!part.chunks.is_empty());
            for &index in &part.chunks {
                seen[index as usize] += 1;
                let chunk = &list.chunks[index as usize];
                for worker in &part.workers {
                    assert!(chunk.workers.contains(worker), "{worker} does not hold chunk {index}");
                    assert!(usable[*worker as usize]);
                }
                if part.workers.is_empty() {
                    assert!(!chunk.workers.iter().any(|worker| usable[*worker as usize]));
                }
            }
            let mut workers = part.workers.clone();
            workers.sort_unstable();
            workers.dedup();
            assert_eq!(workers.len(), part.workers.len(), "a worker twice");
        }
        assert!(seen.iter().all(|count| *count == 1), "a chunk is in no part or in two");
        assert!(parts.len() <= MOST_ENDPOINTS);
    }

    #[test]
    fn each_chunk_is_in_one_part_and_each_location_holds_all_its_chunks() {
        let mut seed = 7_u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let mut divided = 0;
        for round in 0..500 {
            let workers = 1 + below(12);
            let replicas = 1 + below(workers.min(4));
            let chunks = below(400);
            let holders: Vec<(usize, Vec<u16>)> = (0..chunks)
                .map(|_| (below(5) as usize, (0..replicas).map(|_| below(workers) as u16).collect()))
                .collect();
            let list = list(workers as usize, holders);
            let usable: Vec<bool> = (0..workers).map(|_| below(4) > 0).collect();
            let Some(parts) = divide(&list, &usable) else { continue };
            check(&list, &usable, &parts);
            assert_eq!(parts, divide(&list, &usable).unwrap(), "round {round}: the same again");
            divided += 1;
        }
        assert!(divided > 450, "{divided} of 500 could be divided");
    }

    #[test]
    fn first_workers_have_alike_much_to_do() {
        let pairs = [vec![0, 1], vec![1, 2], vec![2, 0]];
        let list = list(3, (0..3_000).map(|i| (1 + i % 7, pairs[i % 3].clone())));
        let parts = divide(&list, &[true; 3]).unwrap();
        check(&list, &[true; 3], &parts);
        let mut load = [0; 3];
        for part in &parts {
            let files: usize = part.chunks.iter().map(|index| list.chunks[*index as usize].files.len()).sum();
            load[part.workers[0] as usize] += files;
        }
        let even = load.iter().sum::<usize>() / 3;
        assert!(load.iter().all(|load| load.abs_diff(even) < 20), "{load:?}");
        let firsts: Vec<u16> = parts.iter().take(3).map(|part| part.workers[0]).collect();
        assert_eq!(firsts, [0, 1, 2], "neighbours are at different workers");
    }

    #[test]
    fn endpoints_are_bounded_in_number_and_in_size() {
        // Every pair of 40 workers: 780 sets of holders, which become one endpoint for each worker.
        let pairs: Vec<Vec<u16>> = (0..40).flat_map(|a| (0..a).map(move |b| vec![a, b])).collect();
        let many = list(40, pairs.into_iter().map(|pair| (1, pair)));
        let parts = divide(&many, &[true; 40]).unwrap();
        check(&many, &[true; 40], &parts);
        assert!(parts.len() <= 40);

        let large = list(1, (0..50_000).map(|_| (1, vec![0])));
        let parts = divide(&large, &[true]).unwrap();
        check(&large, &[true], &parts);
        assert!(parts.len() >= 3);
        let endless = list(1, (0..40_000).map(|_| (200, vec![0])));
        assert_eq!(divide(&endless, &[true]), None);
    }

    #[test]
    fn chunks_that_nobody_serves_are_for_the_coordinator() {
        let list = list(2, [(1, vec![0]), (1, vec![1]), (1, vec![0, 1])]);
        let parts = divide(&list, &[false, true]).unwrap();
        check(&list, &[false, true], &parts);
        assert_eq!(parts, [Part { workers: vec![], chunks: vec![0] }, Part { workers: vec![1], chunks: vec![1, 2] }]);
        assert_eq!(divide(&ChunkList::default(), &[]), Some(vec![]));
    }
}
