//! How the files of an index are arranged: in shards of ids that do not overlap, each of a few sorted runs.
//!
//! Nothing is written down of shards: they follow from the ids between which each file's entries lie, which the
//! catalog knows. Files that have ids between them lie in one shard, and so do small ones next to each other.

use std::path::PathBuf;

use skyflight_catalog::{FileId, NewFile};

use super::ids::Id;

/// One sorted run of one shard, or a part of it.
#[derive(Clone, Debug)]
pub(crate) struct IndexFile {
    pub(crate) id: FileId,
    pub(crate) path: PathBuf,
    pub(crate) rows: u64,
    pub(crate) least: Id<'static>,
    pub(crate) greatest: Id<'static>,
    /// What the catalog is told of it, where this ingest wrote it.
    pub(crate) new: Option<NewFile>,
}

/// When the files of a shard become fewer, and when it becomes several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// Entries of a shard that was just cut; twice as many are cut again.
    pub(crate) shard_rows: u64,
    /// Files of a shard at most, each of which a look-up may have to read.
    pub(crate) most_files: usize,
}

impl Default for Growth {
    fn default() -> Growth {
        Growth { shard_rows: 2 << 20, most_files: 8 }
    }
}

/// A file joins smaller ones only where it has at most so many times their entries: then an entry is written
/// again each time its run has grown by a part, and not with every ingest.
const LIKE_SIZE: u64 = 4;

/// What is to be done with a shard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// So many of its smallest files become one.
    Merge(usize),
    /// All of its files are merged and cut anew.
    Cut,
}

/// Files whose ids do not overlap those of another shard.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    /// By their least id.
    pub(crate) files: Vec<IndexFile>,
    pub(crate) rows: u64,
    pub(crate) least: Id<'static>,
    greatest: Id<'static>,
}

impl Shard {
    fn of(file: IndexFile) -> Shard {
        Shard { rows: file.rows, least: file.least.clone(), greatest: file.greatest.clone(), files: vec![file] }
    }

    fn add(&mut self, file: IndexFile) {
        self.rows += file.rows;
        if file.greatest > self.greatest {
            self.greatest = file.greatest.clone();
        }
        self.files.push(file);
    }

    /// The files as few sequences as can be, each of files that follow one another.
    pub(crate) fn sequences(&self) -> Vec<Vec<&IndexFile>> {
        let mut sequences: Vec<Vec<&IndexFile>> = Vec::new();
        for file in &self.files {
            let follows = |sequence: &&mut Vec<&IndexFile>| sequence.last().is_some_and(|l| l.greatest < file.least);
            match sequences.iter_mut().find(follows) {
                Some(sequence) => sequence.push(file),
                None => sequences.push(vec![file]),
            }
        }
        sequences
    }

    pub(crate) fn due(&self, growth: Growth) -> Due {
        if self.files.len() > 1 && self.rows > 2 * growth.shard_rows {
            return Due::Cut;
        }
        if self.files.len() <= growth.most_files {
            return Due::Nothing;
        }
        let mut sizes: Vec<u64> = self.files.iter().map(|file| file.rows).collect();
        sizes.sort_unstable();
        let mut sum = 0;
        for (smaller, size) in sizes.iter().enumerate() {
            if smaller >= 2 && *size > LIKE_SIZE * sum {
                return Due::Merge(smaller);
            }
            sum += size;
        }
        Due::Merge(sizes.len())
    }
}

/// The shards that files make, in order.
pub(crate) fn arrange(mut files: Vec<IndexFile>, growth: Growth) -> Vec<Shard> {
    files.sort_by(|a, b| a.least.cmp(&b.least).then(a.id.cmp(&b.id)));
    let mut shards: Vec<Shard> = Vec::new();
    for file in files {
        match shards.last_mut() {
            Some(shard) if file.least <= shard.greatest || shard.rows + file.rows <= growth.shard_rows => {
                shard.add(file);
            }
            _ => shards.push(Shard::of(file)),
        }
    }
    shards
}
