//! The records themselves: values without behaviour beyond finding one's way in them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skyflight_sky::{ChunkId, SchemeSpec};

use crate::ids::{DatabaseId, FileId, SnapshotId, TableId, TransactionId, WorkerId};

/// A named set of tables partitioned alike, for example a data release `dr1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Its id.
    pub id: DatabaseId,
    /// The name as declared; unique whatever the case.
    pub name: String,
    /// How the sky is cut; fixed by the first ingest of a partitioned table.
    pub scheme: Option<SchemeSpec>,
    /// The snapshot new queries run on; none before the first ingest.
    pub current: Option<SnapshotId>,
    /// One sentence for people.
    pub description: Option<String>,
}

/// What a table is to the others of its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Owns positions and ids (Object).
    Director,
    /// Rows that belong to a director's row and live in its chunk (Source).
    Child,
    /// At most one further row of each director's row, in its chunk (Object_Extra).
    Companion,
    /// Pairs of two directors' rows, kept in the chunks of both (RefSrcMatch).
    Match,
    /// Small, whole on every worker.
    Replicated,
}

/// What a stored file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// The chunk's own rows. Of a match table: pairs of two rows of the chunk, or of one and a row that is nowhere.
    Rows,
    /// Copies of rows outside the chunk within the overlap radius of its border.
    Overlap,
    /// Id to chunk, kept at the coordinator: of a director's rows, or of those of a child that lie without one.
    DirectorIndex,
    /// Pairs of a match table whose first row lies in the chunk and whose second lies in another.
    FirstOnly,
    /// Copies of pairs whose second row lies in the chunk and whose first lies in another.
    SecondOnly,
}

impl FileKind {
    /// Whether its rows are rows of the table that no other file has.
    #[must_use]
    pub fn counts(self) -> bool {
        matches!(self, FileKind::Rows | FileKind::FirstOnly)
    }
}

/// Where a query is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryState {
    /// Accepted and not ended.
    Running,
    /// Every row was given.
    Finished,
    /// Handed out: the client fetches its rows from the workers.
    Direct,
    /// Ended by an error.
    Failed,
    /// Ended by its user.
    Cancelled,
}

/// A word that names none of the kinds it was read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{word}\" is no {what}; use one of: {known}")]
pub struct UnknownWord {
    /// The word read.
    pub word: String,
    /// The noun it was read as.
    pub what: &'static str,
    /// The words there are.
    pub known: String,
}

macro_rules! words {
    ($kind:ident, $what:literal, { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $kind {
            /// The word it is stored and shown as.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($kind::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $kind {
            type Err = $crate::UnknownWord;

            fn from_str(word: &str) -> Result<$kind, $crate::UnknownWord> {
                match word.to_ascii_lowercase().as_str() {
                    $($word => Ok($kind::$variant),)+
                    _ => Err($crate::UnknownWord { word: word.to_owned(), what: $what, known: [$($word),+].join(", ") }),
                }
            }
        }
    };
}

pub(crate) use words;

words!(TableKind, "kind of table", {
    Director => "director", Child => "child", Companion => "companion", Match => "match", Replicated => "replicated",
});
words!(FileKind, "kind of file", {
    Rows => "rows", Overlap => "overlap", DirectorIndex => "director_index", FirstOnly => "first_only",
    SecondOnly => "second_only",
});
words!(QueryState, "state of a query", {
    Running => "running", Finished => "finished", Direct => "direct", Failed => "failed", Cancelled => "cancelled",
});

/// A column of a table, with what an astronomer needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name as declared. Two columns may differ in case alone.
    pub name: String,
    /// The Arrow data type as Arrow displays it (`Float64`, `Utf8`, …); read by the engine.
    pub data_type: String,
    /// Whether nulls may occur.
    pub nullable: bool,
    /// Unit in VOUnit spelling.
    pub unit: Option<String>,
    /// IVOA unified content descriptor.
    pub ucd: Option<String>,
    /// One sentence for people.
    pub description: Option<String>,
}

/// A table as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its id.
    pub id: TableId,
    /// The database it belongs to.
    pub database: DatabaseId,
    /// The name as declared; unique in its database whatever the case.
    pub name: String,
    /// What it is to the others.
    pub kind: TableKind,
    /// In declared order, the trailing `_healpix_29` included where it is stored.
    pub columns: Vec<Column>,
    /// The column that identifies a row; every director has one.
    pub id_column: Option<String>,
    /// Right ascension, ICRS degrees; every director has one.
    pub ra_column: Option<String>,
    /// Declination, ICRS degrees; every director has one.
    pub dec_column: Option<String>,
    /// The director of a child or companion and the first one of a match, by its declared name.
    pub director: Option<String>,
    /// The column that holds that director's id.
    pub director_key: Option<String>,
    /// A match's second director, by its declared name.
    pub second_director: Option<String>,
    /// The column that holds the second director's id.
    pub second_director_key: Option<String>,
    /// One sentence for people.
    pub description: Option<String>,
}

impl Table {
    /// The directors it belongs to, each with the column that holds its id.
    pub fn directors(&self) -> impl Iterator<Item = (&str, &str)> {
        let first = self.director.as_deref().zip(self.director_key.as_deref());
        let second = self.second_director.as_deref().zip(self.second_director_key.as_deref());
        first.into_iter().chain(second)
    }

    /// Whether its rows lie where those of `director` do, whatever the case of the name.
    #[must_use]
    pub fn lies_with(&self, director: &str) -> bool {
        self.directors().any(|(name, _)| name.eq_ignore_ascii_case(director))
    }
}

/// What is known of a column's values in one file, for pruning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// The column's name.
    pub column: String,
    /// The smallest value as text; empty when every value is null.
    pub min: String,
    /// The largest value as text; empty when every value is null.
    pub max: String,
    /// How many values are null.
    pub null_count: u64,
    /// How many are NaN, which `min` and `max` leave out; `None` where nobody counted.
    pub nan_count: Option<u64>,
}

/// An immutable file and the workers that hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkFile {
    /// Its id, which names the transaction that wrote it.
    pub id: FileId,
    /// The table whose rows it holds.
    pub table: TableId,
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
    /// Who holds a copy, in the order given at commit; empty for [`FileKind::DirectorIndex`].
    pub workers: Vec<WorkerId>,
}

/// Files that may leave the disk, because nobody can read them any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superseded {
    /// Transactions none of whose files is needed, with the workers that may still have some; ascending.
    pub transactions: Vec<(TransactionId, Vec<WorkerId>)>,
    /// Index files of directors, also such as are removed already; in no order.
    pub index_files: Vec<FileId>,
}

/// Where the files of a table's index lie: `<index_dir>/<database>/<table>`.
#[must_use]
pub fn index_folder(index_dir: &Path, database: &str, table: &str) -> PathBuf {
    index_dir.join(database).join(table)
}

/// Where an index file lies: `<index_dir>/<database>/<table>/<file_id>.parquet`.
#[must_use]
pub fn index_path(index_dir: &Path, database: &str, table: &str, id: FileId) -> PathBuf {
    index_folder(index_dir, database, table).join(format!("{id}.parquet"))
}

/// What is known of a whole table in one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Rows in all, orphans included, copies not: the sum over files whose kind [`FileKind::counts`].
    pub rows: u64,
    /// Rows of a child or companion that have no director row; pairs of a match that have no first one.
    pub orphans: u64,
    /// Whether one id occurs in two chunks, so that work per id cannot be done per chunk.
    pub ids_span_chunks: bool,
    /// What else is known of a match.
    pub pairs: PairFacts,
}

/// What is known of a match table besides its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairFacts {
    /// Pairs that have no row of the second director.
    pub second_orphans: u64,
    /// Whether one id of the second director occurs in two chunks.
    pub second_ids_span_chunks: bool,
    /// Pairs of two chunks of which one row may lie outside the overlap of the other's chunk.
    pub out_of_reach: u64,
}

/// A table in one snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSnapshot {
    /// The table as declared then.
    pub table: Table,
    /// Its facts then.
    pub facts: TableFacts,
    /// Its files, sorted by chunk, then kind, then id.
    pub files: Vec<ChunkFile>,
}

impl TableSnapshot {
    /// The files of one chunk, sorted by kind, then id; empty when the table has nothing there.
    #[must_use]
    pub fn chunk_files(&self, chunk: ChunkId) -> &[ChunkFile] {
        let from = self.files.partition_point(|file| file.chunk < chunk);
        let to = from + self.files.iter().skip(from).take_while(|file| file.chunk == chunk).count();
        self.files.get(from..to).unwrap_or_default()
    }
}

/// An immutable version of a database: the files it consists of. Every query runs on one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The database as of this snapshot (`current` is this snapshot).
    pub database: Database,
    /// When it was committed, milliseconds of Unix time.
    pub created_unix_ms: i64,
    /// Its tables, oldest first.
    pub tables: Vec<TableSnapshot>,
}

impl Snapshot {
    /// The table of that name, whatever its case.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&TableSnapshot> {
        self.tables.iter().find(|table| table.table.name.eq_ignore_ascii_case(name))
    }
}

/// What a worker said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCapacity {
    /// Processor cores it may use.
    pub cores: u32,
    /// Files it holds.
    pub files: u64,
    /// Bytes it holds.
    pub bytes: u64,
}

/// A worker as it last registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its own name, the same after a restart.
    pub id: WorkerId,
    /// `http://host:port`.
    pub address: String,
    /// When it last registered, milliseconds of Unix time.
    pub last_seen_unix_ms: i64,
    /// When its process started, milliseconds of Unix time.
    pub started_unix_ms: i64,
    /// What it has.
    pub capacity: WorkerCapacity,
}

/// What a query was expected to read when it was planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimated {
    /// Chunks that fragments run on.
    pub chunks: u64,
    /// Rows of those chunks.
    pub rows: u64,
    /// Bytes of the columns read.
    pub bytes: u64,
    /// Wall time, milliseconds.
    pub millis: u64,
}

/// One query's record, from start to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryRecord {
    /// A UUID as text.
    pub id: String,
    /// Who asked.
    pub user: String,
    /// The statement as sent.
    pub sql: String,
    /// Where it is in its life.
    pub state: QueryState,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was accepted, milliseconds of Unix time.
    pub started_ms: i64,
    /// When it ended, milliseconds of Unix time.
    pub finished_ms: Option<i64>,
    /// Rows given.
    pub rows: u64,
    /// Bytes given.
    pub bytes: u64,
    /// Chunks done.
    pub chunks: u64,
    /// What was expected of it.
    pub estimate: Estimated,
}
