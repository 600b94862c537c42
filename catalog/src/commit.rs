//! What an ingest hands over to become the next snapshot.

use skyflight_sky::{ChunkId, SchemeSpec};

use crate::ids::{FileId, WorkerId};
use crate::records::{Column, ColumnStatistics, FileKind, TableFacts, TableKind};

/// Everything one transaction changes; it becomes visible at once or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// The cut of the sky: required with the first partitioned table of a database; later none, or the same.
    pub scheme: Option<SchemeSpec>,
    /// The tables written, each once. Tables of the database that are not named stay as they are.
    pub tables: Vec<TableCommit>,
}

/// One table of a [`Commit`].
#[derive(Clone, Debug, PartialEq)]
pub struct TableCommit {
    /// Its declaration.
    pub table: NewTable,
    /// Whether the table's earlier files stay.
    pub mode: CommitMode,
    /// Of the whole table after the commit, earlier rows included.
    pub facts: TableFacts,
    /// The new files, all written by this transaction.
    pub files: Vec<NewFile>,
    /// Index files of the table whose entries the new ones hold: they leave the snapshot, and earlier
    /// snapshots keep them. None when the table is replaced, which ends them all.
    pub ended: Vec<FileId>,
}

/// What becomes of the files a table already has. Both modes create a table that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// They stay; the declaration must agree with the table's.
    Append,
    /// They leave the snapshot; the declaration may be another.
    Replace,
}

/// A table as declared to an ingest; the fields are those of [`crate::Table`] without ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTable {
    /// The name, `[A-Za-z_][A-Za-z0-9_]*`, at most 64 bytes.
    pub name: String,
    /// What it is to the others.
    pub kind: TableKind,
    /// In declared order, the trailing `_healpix_29` included where it is stored.
    pub columns: Vec<Column>,
    /// The column that identifies a row, in its declared case.
    pub id_column: Option<String>,
    /// Right ascension, ICRS degrees, in its declared case.
    pub ra_column: Option<String>,
    /// Declination, ICRS degrees, in its declared case.
    pub dec_column: Option<String>,
    /// The director of a child or companion and the first one of a match, whatever its case.
    pub director: Option<String>,
    /// The column that holds that director's id, in its declared case.
    pub director_key: Option<String>,
    /// A match's second director, whatever its case.
    pub second_director: Option<String>,
    /// The column that holds the second director's id, in its declared case.
    pub second_director_key: Option<String>,
    /// One sentence for people.
    pub description: Option<String>,
}

/// A file as written by an ingest; the fields are those of [`crate::ChunkFile`] without the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Of the committing transaction: [`FileId::new`].
    pub id: FileId,
    /// The chunk; [`ChunkId::EVERYWHERE`] for a replicated table.
    pub chunk: ChunkId,
    /// What it holds.
    pub kind: FileKind,
    /// How many rows.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Digest of its bytes.
    pub sha256: [u8; 32],
    /// Of the columns worth pruning by.
    pub statistics: Vec<ColumnStatistics>,
    /// Who holds a copy.
    pub workers: Vec<WorkerId>,
}
