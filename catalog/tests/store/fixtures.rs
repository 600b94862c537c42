//! A small release to commit, and a look into the file that does not go through the store.

use std::path::Path;

use skyflight_catalog::{
    CatalogStore, Column, ColumnStatistics, Commit, CommitMode, FileId, FileKind, NewFile, NewTable, Owner, SnapshotId,
    SqliteStore, TableCommit, TableFacts, TableKind, TransactionId, WorkerId,
};
use skyflight_sky::{ChunkId, SchemeSpec};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

pub(crate) fn stripes() -> SchemeSpec {
    SchemeSpec::Stripes { stripes: 85, sub_stripes: 12, overlap_deg: 0.01667 }
}

pub(crate) fn this_process() -> Owner {
    Owner::this_process("test")
}

/// An owner on this host whose process is gone: it was waited for.
pub(crate) fn dead_process() -> Owner {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    Owner { pid, ..this_process() }
}

pub(crate) fn column(name: &str, data_type: &str) -> Column {
    Column {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        nullable: name == "mag",
        unit: (name == "ra").then(|| "deg".to_owned()),
        ucd: (name == "ra").then(|| "pos.eq.ra;meta.main".to_owned()),
        description: (name == "ra").then(|| "right ascension, ICRS — \"mean\" position".to_owned()),
    }
}

pub(crate) fn object() -> NewTable {
    NewTable {
        name: "Object".to_owned(),
        kind: TableKind::Director,
        columns: vec![
            column("objectId", "Int64"),
            column("ra", "Float64"),
            column("dec", "Float64"),
            column("mag", "Float32"),
            column("_healpix_29", "Int64"),
        ],
        id_column: Some("objectId".to_owned()),
        ra_column: Some("ra".to_owned()),
        dec_column: Some("dec".to_owned()),
        director: None,
        director_key: None,
        second_director: None,
        second_director_key: None,
        description: Some("one row per object".to_owned()),
    }
}

pub(crate) fn source() -> NewTable {
    NewTable {
        name: "Source".to_owned(),
        kind: TableKind::Child,
        columns: vec![column("sourceId", "Int64"), column("objectId", "Int64"), column("_healpix_29", "Int64")],
        id_column: Some("sourceId".to_owned()),
        ra_column: None,
        dec_column: None,
        director: Some("object".to_owned()),
        director_key: Some("objectId".to_owned()),
        second_director: None,
        second_director_key: None,
        description: None,
    }
}

/// Pairs of objects and stars; `Star` is a director like `Object`.
pub(crate) fn pairs() -> NewTable {
    NewTable {
        name: "Pair".to_owned(),
        kind: TableKind::Match,
        columns: vec![column("objectId", "Int64"), column("starId", "Int64"), column("_healpix_29", "Int64")],
        director_key: Some("objectId".to_owned()),
        second_director: Some("STAR".to_owned()),
        second_director_key: Some("starId".to_owned()),
        id_column: None,
        ..source()
    }
}

pub(crate) fn filter_table() -> NewTable {
    NewTable {
        name: "Filter".to_owned(),
        kind: TableKind::Replicated,
        columns: vec![column("band", "Utf8")],
        id_column: None,
        ra_column: None,
        dec_column: None,
        director: None,
        director_key: None,
        second_director: None,
        second_director_key: None,
        description: None,
    }
}

/// A file of ten rows for every chunk, the sequence starting at `first`.
pub(crate) fn files(transaction: TransactionId, first: u32, chunks: &[u64]) -> Vec<NewFile> {
    (first..)
        .zip(chunks)
        .map(|(sequence, chunk)| NewFile {
            id: FileId::new(transaction, sequence),
            chunk: ChunkId(*chunk),
            kind: FileKind::Rows,
            rows: 10,
            bytes: 1000 + chunk % 1000,
            sha256: std::array::from_fn(|i| chunk.to_le_bytes()[i % 8] ^ u8::try_from(i).unwrap()),
            statistics: vec![ColumnStatistics {
                column: "ra".to_owned(),
                min: "10.5".to_owned(),
                max: "11.25".to_owned(),
                null_count: 3,
                nan_count: None,
            }],
            workers: vec![WorkerId::from("worker-2"), WorkerId::from("worker-1")],
        })
        .collect()
}

pub(crate) fn facts(rows: u64) -> TableFacts {
    TableFacts { rows, ..TableFacts::default() }
}

pub(crate) fn write(table: NewTable, mode: CommitMode, rows: u64, files: Vec<NewFile>) -> TableCommit {
    TableCommit { table, mode, facts: facts(rows), files, ended: Vec::new() }
}

/// Commits one table into the database of that name, as a whole ingest would.
pub(crate) async fn ingest(
    store: &SqliteStore,
    database: &str,
    table: NewTable,
    mode: CommitMode,
    rows: u64,
    chunks: &[u64],
) -> SnapshotId {
    let database = store.database(database).await.unwrap();
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let tables = vec![write(table, mode, rows, files(opened.id, 0, chunks))];
    store.commit(opened.id, Commit { scheme: Some(stripes()), tables }).await.unwrap()
}

pub(crate) struct OnDisk {
    pub(crate) folder: tempfile::TempDir,
}

impl OnDisk {
    pub(crate) fn new() -> OnDisk {
        OnDisk { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("data").join("catalog.sqlite")
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path()).await.unwrap()
    }

    /// A connection of its own to the file.
    pub(crate) async fn raw(&self) -> SqliteConnection {
        raw(&self.path()).await
    }

    /// How many rows each table that belongs to snapshots has.
    pub(crate) async fn counts(&self) -> Vec<i64> {
        let mut raw = self.raw().await;
        let mut counts = Vec::new();
        for statement in [
            "SELECT count(*) FROM snapshots",
            "SELECT count(*) FROM tables",
            "SELECT count(*) FROM table_definitions",
            "SELECT count(*) FROM table_columns",
            "SELECT count(*) FROM table_facts",
            "SELECT count(*) FROM files",
            "SELECT count(*) FROM replicas",
        ] {
            counts.push(sqlx::query_scalar(statement).fetch_one(&mut raw).await.unwrap());
        }
        counts
    }
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}
