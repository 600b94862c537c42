//! Snapshots read whole, once, and kept while they are in use: they never change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use skyflight_sky::ChunkId;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::databases::scheme_from_sql;
use super::statistics;
use super::value::{corrupt, count_from_sql, word_from_sql};
use crate::error::{CatalogError, Result};
use crate::ids::{DatabaseId, FileId, SnapshotId, TableId, WorkerId};
use crate::names;
use crate::records::{ChunkFile, Column, Database, PairFacts, Snapshot, Table, TableFacts, TableSnapshot};

// A cached file costs some hundred bytes, so the cache stays below a few hundred MB.
const CACHED_FILES: u64 = 500_000;
// A snapshot of more files than this counts as this many, so that even the largest is kept.
const HEAVIEST: u32 = 125_000;
const KEPT_UNUSED: Duration = Duration::from_secs(3600);

pub(super) struct SnapshotCache(Cache<SnapshotId, Arc<Snapshot>>);

impl SnapshotCache {
    pub(super) fn new() -> SnapshotCache {
        let weight = |_: &SnapshotId, snapshot: &Arc<Snapshot>| {
            let files: usize = snapshot.tables.iter().map(|table| table.files.len()).sum();
            u32::try_from(files).unwrap_or(HEAVIEST).clamp(1, HEAVIEST)
        };
        SnapshotCache(Cache::builder().max_capacity(CACHED_FILES).weigher(weight).time_to_idle(KEPT_UNUSED).build())
    }

    /// The snapshot, loaded by the first of those who ask at the same time.
    pub(super) async fn get(&self, pool: &SqlitePool, id: SnapshotId) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = self.0.get(&id).await {
            return Ok(snapshot);
        }
        let loading = async {
            let mut connection = pool.acquire().await?;
            Ok(Arc::new(load(&mut connection, id).await?))
        };
        self.0.try_get_with(id, loading).await.map_err(|error: Arc<CatalogError>| CatalogError::clone(&error))
    }
}

async fn load(connection: &mut SqliteConnection, id: SnapshotId) -> Result<Snapshot> {
    type Row = (i64, i64, String, Option<String>, Option<String>);
    let row: Option<Row> = sqlx::query_as(
        "SELECT s.created_unix_ms, d.id, d.name, d.scheme, d.description \
         FROM snapshots s JOIN databases d ON d.id = s.database_id WHERE s.id = $1",
    )
    .bind(id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let (created_unix_ms, database, name, scheme, description) =
        row.ok_or_else(|| names::not_found("snapshot", &id.to_string(), []))?;
    let scheme = scheme.map(|text| scheme_from_sql(&name, &text)).transpose()?;
    let database = Database { id: DatabaseId(database), name, scheme, current: Some(id), description };

    let mut tables = Vec::new();
    for (table, facts) in load_tables(connection, database.id, id).await? {
        let files = load_files(connection, table.id, id).await?;
        tables.push(TableSnapshot { table, facts, files });
    }
    Ok(Snapshot { id, database, created_unix_ms, tables })
}

/// The tables of a snapshot without their files, oldest first.
pub(super) async fn load_tables(
    connection: &mut SqliteConnection,
    database: DatabaseId,
    snapshot: SnapshotId,
) -> Result<Vec<(Table, TableFacts)>> {
    let rows = sqlx::query(
        "SELECT t.id, d.name, d.kind, d.description, d.id_column, d.ra_column, d.dec_column, \
                d.director, d.director_key, d.second_director, d.second_director_key, \
                f.row_count, f.orphans, f.ids_span_chunks, f.second_orphans, f.second_ids_span_chunks, f.out_of_reach \
         FROM tables t JOIN table_definitions d ON d.table_id = t.id JOIN table_facts f ON f.table_id = t.id \
         WHERE t.database_id = $1 \
           AND t.since_snapshot <= $2 AND (t.until_snapshot IS NULL OR t.until_snapshot > $2) \
           AND d.since_snapshot <= $2 AND (d.until_snapshot IS NULL OR d.until_snapshot > $2) \
           AND f.since_snapshot <= $2 AND (f.until_snapshot IS NULL OR f.until_snapshot > $2) \
         ORDER BY t.id",
    )
    .bind(database.0)
    .bind(snapshot.0)
    .fetch_all(&mut *connection)
    .await?;
    let mut columns = load_columns(connection, database, snapshot).await?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        let name: String = row.try_get("name")?;
        let what = format!("table \"{name}\"");
        let table = Table {
            id: TableId(id),
            database,
            kind: word_from_sql(&what, row.try_get("kind")?)?,
            columns: columns.remove(&id).unwrap_or_default(),
            name,
            id_column: row.try_get("id_column")?,
            ra_column: row.try_get("ra_column")?,
            dec_column: row.try_get("dec_column")?,
            director: row.try_get("director")?,
            director_key: row.try_get("director_key")?,
            second_director: row.try_get("second_director")?,
            second_director_key: row.try_get("second_director_key")?,
            description: row.try_get("description")?,
        };
        tables.push((table, facts(&what, row)?));
    }
    name_directors(&mut tables);
    Ok(tables)
}

fn facts(what: &str, row: &SqliteRow) -> Result<TableFacts> {
    let count = |column: &str| count_from_sql(what, row.try_get(column)?);
    let is = |column: &str| Ok::<bool, CatalogError>(row.try_get::<i64, _>(column)? != 0);
    Ok(TableFacts {
        rows: count("row_count")?,
        orphans: count("orphans")?,
        ids_span_chunks: is("ids_span_chunks")?,
        pairs: PairFacts {
            second_orphans: count("second_orphans")?,
            second_ids_span_chunks: is("second_ids_span_chunks")?,
            out_of_reach: count("out_of_reach")?,
        },
    })
}

// A table may have named its director in another case, or the director may have been replaced under one.
fn name_directors(tables: &mut [(Table, TableFacts)]) {
    let declared: HashMap<String, String> =
        tables.iter().map(|(table, _)| (names::key(&table.name), table.name.clone())).collect();
    for (table, _) in tables {
        for director in [&mut table.director, &mut table.second_director].into_iter().flatten() {
            if let Some(name) = declared.get(&names::key(director)) {
                director.clone_from(name);
            }
        }
    }
}

async fn load_columns(
    connection: &mut SqliteConnection,
    database: DatabaseId,
    snapshot: SnapshotId,
) -> Result<HashMap<i64, Vec<Column>>> {
    type Row = (i64, String, String, i64, Option<String>, Option<String>, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT c.table_id, c.name, c.data_type, c.nullable, c.unit, c.ucd, c.description \
         FROM tables t JOIN table_definitions d ON d.table_id = t.id \
           JOIN table_columns c ON c.table_id = d.table_id AND c.since_snapshot = d.since_snapshot \
         WHERE t.database_id = $1 \
           AND d.since_snapshot <= $2 AND (d.until_snapshot IS NULL OR d.until_snapshot > $2) \
         ORDER BY c.table_id, c.position",
    )
    .bind(database.0)
    .bind(snapshot.0)
    .fetch_all(connection)
    .await?;
    let mut columns: HashMap<i64, Vec<Column>> = HashMap::new();
    for (table, name, data_type, nullable, unit, ucd, description) in rows {
        let column = Column { name, data_type, nullable: nullable != 0, unit, ucd, description };
        columns.entry(table).or_default().push(column);
    }
    Ok(columns)
}

async fn load_files(connection: &mut SqliteConnection, table: TableId, snapshot: SnapshotId) -> Result<Vec<ChunkFile>> {
    type Row = (i64, i64, String, i64, i64, Vec<u8>, String);
    let mut holders = load_holders(connection, table, snapshot).await?;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT f.id, f.chunk, f.kind, f.row_count, f.byte_count, f.sha256, f.statistics FROM files f \
         WHERE f.table_id = $1 AND f.since_snapshot <= $2 AND (f.until_snapshot IS NULL OR f.until_snapshot > $2)",
    )
    .bind(table.0)
    .bind(snapshot.0)
    .fetch_all(connection)
    .await?;
    let mut files = Vec::with_capacity(rows.len());
    for (id, chunk, kind, rows, bytes, sha256, statistics) in rows {
        let what = || format!("file {id}");
        files.push(ChunkFile {
            id: FileId(id),
            table,
            chunk: ChunkId(chunk.cast_unsigned()),
            kind: kind.parse().map_err(|error| corrupt(what(), error))?,
            rows: u64::try_from(rows).map_err(|_| corrupt(what(), format!("{rows} rows")))?,
            bytes: u64::try_from(bytes).map_err(|_| corrupt(what(), format!("{bytes} bytes")))?,
            sha256: sha256.try_into().map_err(|_| corrupt(what(), "a digest that is not of 32 bytes"))?,
            statistics: statistics::from_sql(&what, &statistics)?,
            workers: holders.remove(&id).unwrap_or_default(),
        });
    }
    // Not by SQL, which takes the chunk for a signed number.
    files.sort_unstable_by_key(|file| (file.chunk, file.kind, file.id));
    Ok(files)
}

/// The workers of each file, in the order given at commit.
async fn load_holders(
    connection: &mut SqliteConnection,
    table: TableId,
    snapshot: SnapshotId,
) -> Result<HashMap<i64, Vec<WorkerId>>> {
    // A row for every worker with its files in one text, not a row for every replica: that takes a quarter of the time.
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT r.worker_id, STRING_AGG(CAST(r.file_id AS TEXT), ' ') FROM files f JOIN replicas r ON r.file_id = f.id \
         WHERE f.table_id = $1 AND f.since_snapshot <= $2 AND (f.until_snapshot IS NULL OR f.until_snapshot > $2) \
         GROUP BY r.position, r.worker_id ORDER BY r.position",
    )
    .bind(table.0)
    .bind(snapshot.0)
    .fetch_all(connection)
    .await?;
    let mut holders: HashMap<i64, Vec<WorkerId>> = HashMap::new();
    for (worker, files) in rows {
        for file in files.split(' ') {
            let file = file.parse().map_err(|error| corrupt(format!("the files of worker {worker}"), error))?;
            holders.entry(file).or_default().push(WorkerId(worker.clone()));
        }
    }
    Ok(holders)
}
