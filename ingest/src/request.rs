//! What an ingest is asked to do, what it answers, and whether the request fits the database.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::DataType;
use skyflight_catalog::{CommitMode, Snapshot, SnapshotId, Table, TableKind};
use skyflight_proto::tls::Dialer;

use crate::description::TableDescription;
use crate::error::{IngestError, Result};
use crate::input::find_schema;
use crate::load::TableInput;
use crate::progress::ProgressSink;
use crate::rejects::RejectsFile;
use crate::schema::{HEALPIX_COLUMN, TableSchema};

/// Least memory an ingest works with, in bytes (16 MiB).
const LEAST_MEMORY: usize = 16 << 20;

/// What to bring into a database in one transaction.
#[derive(Clone, Debug)]
pub struct IngestRequest {
    /// The database; made when it does not exist.
    pub database: String,
    /// The tables. They are loaded directors first whatever their order here.
    pub tables: Vec<TableSource>,
    /// Copies of each chunk; 0 means 2, or 1 where there is one worker.
    pub replicas: usize,
    /// A folder for spilled rows and unsent files, about the size of the input. Its content is removed.
    pub staging_dir: PathBuf,
    /// Where director indexes are kept: `<data>/index`.
    pub index_dir: PathBuf,
    /// Memory for rows, in bytes; at least 16 MiB is taken.
    pub memory_bytes: usize,
    /// Threads that read, sort and write; 0 means one for each processor.
    pub threads: usize,
    /// A CSV file for bad rows of all tables; without it the first bad row stops the ingest. A description's own
    /// rejects file comes before it.
    pub rejects: Option<PathBuf>,
    /// How workers are reached.
    pub dialer: Dialer,
    /// Hears how far the ingest is.
    pub progress: Option<Arc<dyn ProgressSink>>,
}

/// One table of an ingest.
#[derive(Clone, Debug)]
pub struct TableSource {
    /// What it is.
    pub description: TableDescription,
    /// Files and folders with its rows.
    pub inputs: Vec<PathBuf>,
    /// Whether the rows it has stay.
    pub mode: CommitMode,
}

/// What an ingest did.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestReport {
    /// The snapshot that is current now.
    pub snapshot: SnapshotId,
    /// Its tables, in the order they were loaded.
    pub tables: Vec<TableReport>,
    /// Files stored; a copy on another worker does not count again.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What an ingest did with one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// The table's name.
    pub table: String,
    /// Rows stored.
    pub rows: u64,
    /// Copies of rows stored in other chunks too: a director's in their overlap, pairs in that of the second row.
    pub overlap_rows: u64,
    /// Of `rows`, those that lack a director row; pairs that lack one or both.
    pub orphans: u64,
    /// Rows left out, and written to the rejects file.
    pub rejected: u64,
    /// Chunks that got rows.
    pub chunks: u64,
}

/// The schema a table would be ingested with: types found in Parquet files or guessed from the first rows of
/// text files, overridden by the description. `Display` shows it.
///
/// # Errors
/// Files that cannot be read or do not agree with each other; a description that does not fit them.
pub async fn infer(inputs: &[PathBuf], description: &TableDescription) -> Result<TableSchema> {
    let (inputs, description) = (inputs.to_vec(), description.clone());
    let found = tokio::task::spawn_blocking(move || find_schema(&inputs, &description));
    Ok(found.await.map_err(|_| IngestError::Thread("find types"))??.schema)
}

impl IngestRequest {
    pub(crate) fn memory(&self) -> usize {
        self.memory_bytes.max(LEAST_MEMORY)
    }

    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads.min(256),
        }
    }

    /// What can be said before anything is opened.
    pub(crate) fn check(&self) -> Result<()> {
        if self.tables.is_empty() {
            return Err(IngestError::Request("no table was given".into()));
        }
        for (at, source) in self.tables.iter().enumerate() {
            source.description.checked()?;
            let name = &source.description.name;
            if self.tables.iter().take(at).any(|other| other.description.name.eq_ignore_ascii_case(name)) {
                return Err(IngestError::Request(format!("table {name} is given twice; give all its files at once")));
            }
        }
        Ok(())
    }

    /// Opens the inputs and finds their schemas: directors first, then what belongs to them, then the others.
    pub(crate) fn open(&self, base: Option<&Snapshot>) -> Result<Vec<TableInput>> {
        let shared = self.rejects.as_deref().map(RejectsFile::create).transpose()?.map(Arc::new);
        let mut sources: Vec<&TableSource> = self.tables.iter().collect();
        sources.sort_by_key(|source| match source.description.kind {
            TableKind::Director => 0,
            TableKind::Child | TableKind::Companion | TableKind::Match => 1,
            TableKind::Replicated => 2,
        });
        let mut tables = Vec::with_capacity(sources.len());
        for source in sources {
            let existing = base.and_then(|base| base.table(&source.description.name)).map(|table| &table.table);
            self.check_fits(source, existing, base)?;
            let mut input = find_schema(&source.inputs, &source.description)?;
            if let Some(table) = existing.filter(|_| source.mode == CommitMode::Append) {
                adopt(&mut input.schema, table, source)?;
            }
            let own = source.description.rejects.as_deref().map(RejectsFile::create).transpose()?.map(Arc::new);
            tables.push(TableInput { input, mode: source.mode, rejects: own.or_else(|| shared.clone()) });
        }
        Ok(tables)
    }

    fn check_fits(&self, source: &TableSource, existing: Option<&Table>, base: Option<&Snapshot>) -> Result<()> {
        let description = &source.description;
        let name = &description.name;
        let given = |table: &str| self.tables.iter().find(|other| other.description.name.eq_ignore_ascii_case(table));
        if let Some(existing) = existing.filter(|existing| existing.kind != description.kind) {
            return Err(description.error(format!(
                "the table exists and is {}, not {}; choose another name or drop it first",
                existing.kind, description.kind
            )));
        }
        for director in [&description.director, &description.second_director].into_iter().flatten() {
            let kind = given(director).map(|source| source.description.kind);
            let kind = kind.or_else(|| base.and_then(|base| base.table(director)).map(|table| table.table.kind));
            if kind != Some(TableKind::Director) {
                return Err(description.error(format!(
                    "its director {director} is neither in the database nor given with it; ingest the director first"
                )));
            }
        }
        let replaces_director =
            existing.is_some_and(|existing| existing.kind == TableKind::Director) && source.mode == CommitMode::Replace;
        if !replaces_director {
            return Ok(());
        }
        // Children lie where their directors lay; without them a join in the chunk would lose rows.
        for child in base.into_iter().flat_map(|base| &base.tables) {
            let replaced = given(&child.table.name).is_some_and(|source| source.mode == CommitMode::Replace);
            if child.table.lies_with(name) && !replaced {
                return Err(description.error(format!(
                    "the rows of {0} lie where those of {name} lie; replace {0} in the same ingest",
                    child.table.name
                )));
            }
        }
        Ok(())
    }
}

/// Rows that join a table take its columns: their order, types and nullability.
fn adopt(schema: &mut TableSchema, table: &Table, source: &TableSource) -> Result<()> {
    let description = &source.description;
    let mut columns = Vec::with_capacity(schema.columns.len());
    for column in table.columns.iter().filter(|column| column.name != HEALPIX_COLUMN) {
        let Some(at) = schema.columns.iter().position(|new| new.name == column.name) else {
            return Err(
                description.error(format!("the rows to append have no column \"{}\", the table has", column.name))
            );
        };
        let mut new = schema.columns.swap_remove(at);
        new.data_type = column.data_type.parse::<DataType>().map_err(|error| {
            description
                .error(format!("the table's column {} has the unknown type {}: {error}", column.name, column.data_type))
        })?;
        new.nullable = column.nullable;
        columns.push(new);
    }
    if let Some(extra) = schema.columns.first() {
        return Err(
            description.error(format!("the rows to append have a column \"{}\", the table has not", extra.name))
        );
    }
    schema.columns = columns;
    schema.table.clone_from(&table.name);
    let find =
        |name: &Option<String>| name.as_ref().and_then(|name| schema.columns.iter().position(|c| c.name == *name));
    schema.id = find(&table.id_column);
    schema.ra = find(&table.ra_column);
    schema.dec = find(&table.dec_column);
    schema.director_key = find(&table.director_key);
    schema.second_director_key = find(&table.second_director_key);
    Ok(())
}
