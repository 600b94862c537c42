//! Indexes that grow by many small ingests, with shards of a few entries so that they are cut and merged.

use std::cell::Cell;
use std::collections::BTreeMap;

use arrow::array::StringArray;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use skyflight_catalog::FileId;

use super::shards::Due;
use super::*;

const GROWTH: Growth = Growth { shard_rows: 500, most_files: 4 };

/// An entry as the tests know it: id, chunk and cell.
type Entry = (i64, u64, i64);

struct Rig {
    folder: tempfile::TempDir,
    index: DirectorIndex,
    transaction: i64,
    /// Every file that some snapshot lists.
    listed: BTreeMap<i64, Vec<FileId>>,
}

impl Rig {
    fn new(id_type: DataType) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        Rig { folder, index: DirectorIndex::empty(id_type), transaction: 0, listed: BTreeMap::new() }
    }

    /// One ingest, as far as the index goes.
    fn ingest(&mut self, entries: &[Entry]) -> Grown {
        self.transaction += 1;
        let transaction = TransactionId(self.transaction);
        let staging = self.folder.path().join(format!("staging-{transaction}"));
        let area = SpillArea::create(staging, index_schema(&self.index.id_type)).unwrap();
        let mut buffer = IndexBuffer::new(&area, 0, 60_000);
        for part in entries.chunks(97) {
            let places: Vec<Place> = part
                .iter()
                .map(|(_, chunk, cell)| Place { chunk: ChunkId(*chunk), sub_chunk: 3, healpix29: *cell as u64 })
                .collect();
            let ids: ArrayRef = match self.index.id_type {
                DataType::Utf8 => Arc::new(part.iter().map(|(id, ..)| Some(text(*id))).collect::<StringArray>()),
                _ => Arc::new(part.iter().map(|(id, ..)| Some(*id)).collect::<Int64Array>()),
            };
            buffer.add(&ids, &places).unwrap();
        }
        buffer.flush().unwrap();
        let sequence = Cell::new(0);
        let home = IndexHome {
            folder: self.folder.path().join("index"),
            next_file: &|| {
                sequence.set(sequence.get() + 1);
                FileId::new(transaction, sequence.get())
            },
            budget: 1 << 20,
            stop: &Stop::default(),
        };
        let grown = self.index.grow(&area, &home, GROWTH).unwrap();
        area.remove();
        self.check(&grown);
        grown
    }

    /// What must be true of an index after every ingest.
    fn check(&mut self, grown: &Grown) {
        let mut files = self.listed.last_key_value().map(|(_, files)| files.clone()).unwrap_or_default();
        for ended in &grown.ended {
            let at = files.iter().position(|id| id == ended).expect("ended what was not there");
            files.remove(at);
        }
        files.extend(grown.new.iter().map(|file| file.id));
        files.sort();
        let mut mine: Vec<FileId> = self.index.shards.iter().flat_map(|s| &s.files).map(|file| file.id).collect();
        mine.sort();
        assert_eq!(mine, files, "what the commit says is what the index is");
        self.listed.insert(self.transaction, files);
        for shard in &self.index.shards {
            assert!(shard.files.len() <= GROWTH.most_files, "{} files in a shard", shard.files.len());
            for file in &shard.files {
                let read = ends(&file.path, &self.index.id_type, file.rows).unwrap();
                assert_eq!(read, (file.least.clone(), file.greatest.clone()));
            }
            assert!(shard.files.len() == 1 || shard.rows <= 2 * GROWTH.shard_rows, "{} entries", shard.rows);
        }
        let ends: Vec<_> = self
            .index
            .shards
            .iter()
            .flat_map(|shard| {
                let greatest = shard.files.iter().map(|file| &file.greatest).max().unwrap();
                [shard.least.clone(), greatest.clone()]
            })
            .collect();
        assert!(ends.windows(2).all(|pair| pair[0] <= pair[1]), "shards overlap");
        assert!(ends.chunks(2).zip(ends.chunks(2).skip(1)).all(|(a, b)| a[1] < b[0]), "shards touch");
    }

    fn entries(&self) -> Vec<(Id<'static>, u64, u64)> {
        let mut all = Vec::new();
        self.index
            .each(&Stop::default(), &mut |id, place| {
                all.push((id.into_owned(), place.chunk.0, place.healpix29));
                Ok(())
            })
            .unwrap();
        all
    }

    fn expected(&self, entries: &[Entry]) -> Vec<(Id<'static>, u64, u64)> {
        let id = |id: i64| match self.index.id_type {
            DataType::Utf8 => Id::Text(text(id).into()),
            _ => Id::Signed(id),
        };
        let mut all: Vec<_> = entries.iter().map(|(i, chunk, cell)| (id(*i), *chunk, *cell as u64)).collect();
        all.sort();
        all
    }
}

/// Longer than what statistics keep, so that the ends of a file are read from it.
fn text(id: i64) -> String {
    format!("{}-{:06}", "star".repeat(20), id + 500_000)
}

fn random(rng: &mut ChaCha8Rng, count: usize, ids: std::ops::Range<i64>) -> Vec<Entry> {
    (0..count)
        .map(|_| (rng.random_range(ids.clone()), rng.random_range(4..9), rng.random_range(0..1_000_000)))
        .collect()
}

#[test]
fn many_small_ingests_with_ids_all_over() {
    for id_type in [DataType::Int64, DataType::Utf8] {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut rig = Rig::new(id_type);
        let mut all = Vec::new();
        let (mut written, mut ingests) = (0, 0);
        for size in (0..60).map(|n| [1, 40, 7, 300, 2][n % 5]) {
            // Ids are few, so many occur twice and more.
            let more = random(&mut rng, size, -3_000..3_000);
            let grown = rig.ingest(&more);
            written += grown.new.iter().map(|file| file.rows).sum::<u64>();
            ingests += 1;
            all.extend(more);
            if ingests % 10 == 0 {
                assert_eq!(rig.entries(), rig.expected(&all));
            }
        }
        assert!(all.len() > 4_000 && rig.index.shards.len() > 4, "{} shards", rig.index.shards.len());
        assert!(written < 8 * all.len() as u64, "{written} entries were written of {}", all.len());
    }
}

#[test]
fn ids_that_only_grow_are_hardly_written_again() {
    let mut rig = Rig::new(DataType::Int64);
    let mut all = Vec::new();
    let mut written = 0;
    for n in 0..120_i64 {
        let more: Vec<Entry> = (n * 25..n * 25 + 25).map(|id| (id, 4, id)).collect();
        written += rig.ingest(&more).new.iter().map(|file| file.rows).sum::<u64>();
        all.extend(more);
    }
    assert_eq!(rig.entries(), rig.expected(&all));
    assert!(rig.index.shards.len() >= 5);
    assert!(written < 5 * all.len() as u64, "{written}");
}

#[test]
fn one_large_load_is_cut_and_no_id_lies_in_two_files() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut rig = Rig::new(DataType::Int64);
    let mut all = random(&mut rng, 6_000, 0..2_000);
    // More of one id than a shard has.
    all.extend((0..1_300).map(|n| (777, 5, n)));
    rig.ingest(&all);
    assert_eq!(rig.entries(), rig.expected(&all));
    assert!(rig.index.shards.len() > 8);
    let more = random(&mut rng, 2_500, -500..2_500);
    rig.ingest(&more);
    all.extend(more);
    assert_eq!(rig.entries(), rig.expected(&all));
}

/// What an ingest that dies has written is nobody's: the index made of the catalog's records is as before.
#[test]
fn files_of_an_earlier_snapshot_still_make_its_index() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut rig = Rig::new(DataType::Int64);
    let mut states = Vec::new();
    let mut all = Vec::new();
    for _ in 0..12 {
        let more = random(&mut rng, 90, 0..400);
        rig.ingest(&more);
        all.extend(more);
        states.push((rig.index.clone(), rig.expected(&all)));
    }
    let merged_away = rig.listed[&1].iter().any(|id| !rig.listed[&12].contains(id));
    assert!(merged_away, "nothing was merged");
    for (index, expected) in states {
        let earlier = Rig { folder: tempfile::tempdir().unwrap(), index, transaction: 0, listed: BTreeMap::new() };
        assert_eq!(earlier.entries(), expected);
    }
}

#[test]
fn a_file_joins_smaller_ones_only_where_it_is_like_them() {
    let shard = |sizes: &[u64]| {
        let file = |n: usize, rows: u64| IndexFile {
            id: FileId(n as i64),
            path: PathBuf::new(),
            rows,
            least: Id::Signed(0),
            greatest: Id::Signed(9),
            new: None,
        };
        let files = sizes.iter().enumerate().map(|(n, rows)| file(n, *rows)).collect();
        arrange(files, Growth::default()).remove(0)
    };
    let due = |sizes: &[u64]| shard(sizes).due(Growth { shard_rows: 1_000, most_files: 4 });
    assert_eq!(due(&[1, 2, 3, 4]), Due::Nothing);
    assert_eq!(due(&[1, 1, 1, 1, 900]), Due::Merge(4));
    assert_eq!(due(&[900, 1, 1, 30, 200]), Due::Merge(2));
    assert_eq!(due(&[90, 30, 10, 200, 300]), Due::Merge(5));
    assert_eq!(due(&[1_990, 20]), Due::Cut);
    assert_eq!(due(&[5_000]), Due::Nothing);
}
