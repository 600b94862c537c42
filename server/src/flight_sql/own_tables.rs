//! Tables of a user's own: made, filled and dropped by SQL and by uploads.
//!
//! Each write runs to its end within the call that brings it, or, when its client goes away, to the end of
//! whatever it began. Writes of one user wait for each other, so that what a statement found out about a
//! table still holds when it writes.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use futures::stream::PollNext;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use skyflight_catalog::{CatalogError, CatalogStore, FileKind, Snapshot, TableSnapshot, check_name};
use skyflight_engine::EngineError;
use skyflight_engine::fragment::error_of;
use skyflight_engine::guard::{CreateTable, Existing, Name, TableName, parameters_as_row};
use skyflight_engine::own::{OWN_ALIAS, own_database};
use skyflight_engine::schema::{HEALPIX_COLUMN, arrow_schema};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::columns::{Fit, storable};
use super::statement::{Statement, Statements, session_options};
use crate::error::{status_of, unsupported};
use crate::session::{Agent, Caller};
use crate::uploads::{DirectorColumns, RowStream, TableWriter, Upload, UploadLimits, UploadMode};

/// How long a write waits for the same user's other writes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How users' tables are written.
pub(crate) struct OwnTables {
    pub(crate) writer: Option<Arc<dyn TableWriter>>,
    pub(crate) store: Arc<dyn CatalogStore>,
    /// What all tables of one user may hold.
    pub(crate) quota: UploadLimits,
    /// One writer at a time, by database; known as long as somebody writes or waits to.
    turns: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl OwnTables {
    pub(crate) fn new(
        writer: Option<Arc<dyn TableWriter>>,
        store: Arc<dyn CatalogStore>,
        quota: UploadLimits,
    ) -> OwnTables {
        OwnTables { writer, store, quota, turns: Mutex::default() }
    }

    fn turns_of(&self, database: &str) -> Arc<Semaphore> {
        let mut turns = self.turns.lock();
        if let Some(known) = turns.get(database).and_then(Weak::upgrade) {
            return known;
        }
        turns.retain(|_, turns| turns.strong_count() > 0);
        let fresh = Arc::new(Semaphore::new(1));
        turns.insert(database.to_owned(), Arc::downgrade(&fresh));
        fresh
    }
}

/// What to do with the table, told apart by whether it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Whether an absent table is made.
    pub(super) create: bool,
    pub(super) existing: IfExists,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfExists {
    Fail,
    Append,
    Replace,
}

/// Rows to be written, and how their columns meet the table's.
pub(super) struct NewRows {
    pub(super) schema: SchemaRef,
    pub(super) batches: RowStream,
    pub(super) matching: Matching,
}

/// How columns of rows find their columns of a table that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matching {
    /// By name, in any case.
    Name,
    /// By order, into these columns; into all where there are none.
    Order(Vec<Name>),
}

/// A table of the caller's own, whether it exists or not.
pub(super) struct Target {
    database: String,
    pub(super) table: String,
    snapshot: Option<Arc<Snapshot>>,
    turn: Option<Turn>,
}

/// The turn of one writer. The semaphore is known as long as a permit of it is out.
type Turn = (OwnedSemaphorePermit, Arc<Semaphore>);

impl Target {
    fn existing(&self) -> Option<&TableSnapshot> {
        self.snapshot.as_ref().and_then(|snapshot| snapshot.table(&self.table))
    }

    /// The columns of the table that rows have to fit, if it exists.
    fn columns(&self) -> Result<Option<SchemaRef>, EngineError> {
        let Some(existing) = self.existing() else { return Ok(None) };
        let stored = arrow_schema(&existing.table)?;
        let fields = stored.fields().iter().filter(|field| field.name() != HEALPIX_COLUMN);
        Ok(Some(Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))))
    }

    fn shown(&self) -> String {
        format!("{OWN_ALIAS}.{}", self.table)
    }
}

impl Statements {
    /// The types of the columns that INSERT writes into, for parameters on their way there.
    ///
    /// Errors: as [`Statements::insert`].
    pub(super) async fn insert_types(
        &self,
        caller: &Caller,
        table: &TableName,
        columns: &[Name],
    ) -> Result<Vec<DataType>, Status> {
        let target = self.target(caller, table, false).await?;
        let known = target.columns().map_err(failed)?.ok_or_else(|| absent(&target))?;
        let fields = known.fields();
        if columns.is_empty() {
            return Ok(fields.iter().map(|field| field.data_type().clone()).collect());
        }
        let of = |name: &Name| {
            let field = fields.iter().find(|field| field.name().eq_ignore_ascii_case(&name.text));
            field.map_or(DataType::Null, |field| field.data_type().clone())
        };
        Ok(columns.iter().map(of).collect())
    }

    /// CREATE TABLE: rows written; `None` where the table stays as it is.
    ///
    /// Errors: `AlreadyExists`; `PermissionDenied` for a table that is not the caller's own; those of the
    /// query and of the writing.
    pub(super) async fn create_table(
        &self,
        caller: &Caller,
        create: &CreateTable,
        values: Option<&RecordBatch>,
    ) -> Result<Option<u64>, Status> {
        let director = director(create.options.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        let target = self.target(caller, &create.table, true).await?;
        if create.existing == Existing::Keep && target.existing().is_some() {
            return Ok(None);
        }
        let existing = if create.existing == Existing::Replace { IfExists::Replace } else { IfExists::Fail };
        let policy = Policy { create: true, existing };
        self.check_policy(&target, policy)?;
        let rows = self.rows_of(caller, &create.query, values, Matching::Name).await?;
        self.write(target, policy, director, rows).await.map(Some)
    }

    /// INSERT: rows written.
    ///
    /// Errors: `NotFound` for a table that does not exist; otherwise as [`Statements::create_table`].
    pub(super) async fn insert(
        &self,
        caller: &Caller,
        table: &TableName,
        columns: Vec<Name>,
        query: &str,
        values: Option<&RecordBatch>,
    ) -> Result<u64, Status> {
        let target = self.target(caller, table, true).await?;
        let policy = Policy { create: false, existing: IfExists::Append };
        self.check_policy(&target, policy)?;
        let matching = Matching::Order(columns);
        let as_row = parameters_as_row(query, self.sql_limits()).map_err(failed)?;
        let rows = match (as_row, values) {
            // Many rows of values are the rows to insert, without a plan for each.
            (Some(row), Some(values)) if values.num_rows() > 1 => bound_rows(values, &row, matching).map_err(failed)?,
            _ => self.rows_of(caller, query, values, matching).await?,
        };
        self.write(target, policy, None, rows).await
    }

    /// DROP TABLE.
    ///
    /// Errors: `NotFound` unless `if_exists`; `PermissionDenied` for a table that is not the caller's own.
    pub(super) async fn drop_table(&self, caller: &Caller, table: &TableName, if_exists: bool) -> Result<(), Status> {
        let target = self.target(caller, table, true).await?;
        match (&target.snapshot, target.existing()) {
            (Some(snapshot), Some(_)) => {
                let dropped = self.own_tables().store.drop_table(snapshot.database.id, &target.table).await;
                dropped.map(drop).map_err(|error| match error {
                    busy @ CatalogError::Busy { .. } => failed(EngineError::ResourceExhausted(busy.to_string())),
                    CatalogError::Invalid(why) => failed(EngineError::Invalid(why)),
                    other => failed(EngineError::Catalog(other)),
                })
            }
            _ if if_exists => Ok(()),
            _ => Err(absent(&target)),
        }
    }

    /// Rows that a client sends: their number.
    ///
    /// Errors: as [`Statements::create_table`].
    pub(super) async fn upload(
        &self,
        caller: &Caller,
        table: &TableName,
        policy: Policy,
        director: Option<DirectorColumns>,
        rows: NewRows,
    ) -> Result<u64, Status> {
        let target = self.target(caller, table, true).await?;
        self.check_policy(&target, policy)?;
        self.write(target, policy, director, rows).await
    }

    /// Finds the caller's table, and takes the turn to write it.
    async fn target(&self, caller: &Caller, name: &TableName, to_write: bool) -> Result<Target, Status> {
        let own = own_database(&caller.user);
        if let Some(database) = &name.database
            && !database.text.eq_ignore_ascii_case(OWN_ALIAS)
            && !database.text.eq_ignore_ascii_case(&own)
        {
            // The same words whether it exists or not.
            return Err(failed(EngineError::Refused(format!(
                "{name} cannot be changed here; your own tables are in {OWN_ALIAS}, and others are made and filled by \
                 `skyflight ingest`"
            ))));
        }
        check_name("table", &name.table.text).map_err(|error| failed(EngineError::Invalid(error.to_string())))?;
        let turn = if to_write { Some(self.turn(&own).await?) } else { None };
        let session = self.engine().session(session_options(caller, None)).await.map_err(failed)?;
        let snapshot = session.catalog().iter().find(|known| known.database.name.eq_ignore_ascii_case(&own)).cloned();
        Ok(Target { database: own, table: name.table.text.clone(), snapshot, turn })
    }

    async fn turn(&self, database: &str) -> Result<Turn, Status> {
        let turns = self.own_tables().turns_of(database);
        match tokio::time::timeout(PATIENCE, Arc::clone(&turns).acquire_owned()).await {
            Ok(Ok(permit)) => Ok((permit, turns)),
            Ok(Err(_)) | Err(_) => Err(failed(EngineError::ResourceExhausted(format!(
                "another statement of yours has been writing into {OWN_ALIAS} for {} s; try again when it has ended",
                PATIENCE.as_secs()
            )))),
        }
    }

    fn check_policy(&self, target: &Target, policy: Policy) -> Result<(), Status> {
        match (target.existing(), policy) {
            (None, Policy { create: false, .. }) => Err(absent(target)),
            (Some(existing), Policy { existing: IfExists::Fail, .. }) => {
                let name = format!("{OWN_ALIAS}.{}", existing.table.name);
                Err(failed(EngineError::Catalog(CatalogError::AlreadyExists { what: "table", name })))
            }
            _ => Ok(()),
        }
    }

    /// The rows of a query, as a query of its own with its record.
    async fn rows_of(
        &self,
        caller: &Caller,
        sql: &str,
        values: Option<&RecordBatch>,
        matching: Matching,
    ) -> Result<NewRows, Status> {
        // A table keeps the types of its query, whatever the driver that asks for it reads.
        let caller = Caller { agent: Agent::Other, ..caller.clone() };
        let (waiting, place) = self.plan_now(&caller, Statement { values, ..Statement::plain(sql) }).await?;
        let (planned, mut life) = (waiting.planned, waiting.life);
        life.executing();
        let schema = planned.schema();
        let batches = planned.execute().map_err(|error| {
            let status = status_of(&error, Some(planned.query().id));
            life.fail(&error);
            status
        })?;
        let batches = futures::stream::unfold(Some((batches, life, place)), |running| async move {
            let (mut batches, mut life, place) = running?;
            match batches.next().await {
                Some(Ok(batch)) => {
                    life.sent(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
                    Some((Ok(batch), Some((batches, life, place))))
                }
                Some(Err(error)) => {
                    let error = error_of(error);
                    life.fail(&error);
                    Some((Err(error), None))
                }
                None => {
                    life.finish();
                    None
                }
            }
        });
        Ok(NewRows { schema, batches: batches.boxed(), matching })
    }

    async fn write(
        &self,
        target: Target,
        policy: Policy,
        director: Option<DirectorColumns>,
        rows: NewRows,
    ) -> Result<u64, Status> {
        let own = self.own_tables();
        let Some(writer) = &own.writer else {
            return Err(unsupported("this coordinator writes no tables; use `skyflight ingest`"));
        };
        let kept = target.existing().filter(|_| policy.existing == IfExists::Append);
        let (schema, fit, director) = match (kept, target.columns().map_err(failed)?) {
            (Some(_), Some(columns)) => {
                if director.is_some() {
                    return Err(failed(EngineError::Invalid(format!(
                        "{} exists; what it is was said when it was made",
                        target.shown()
                    ))));
                }
                let fit = Fit::into(&target.shown(), &rows.schema, &columns, &rows.matching).map_err(failed)?;
                (columns, fit, kept.and_then(director_of))
            }
            _ => {
                let (schema, fit) = storable(&rows.schema).map_err(failed)?;
                if let Some(director) = &director {
                    check_director(director, &schema)?;
                }
                (schema, fit, director)
            }
        };
        let limits = self.left(&target, policy).await?;
        let upload = Upload {
            database: target.database.clone(),
            table: kept.map_or(&target.table, |kept| &kept.table.name).clone(),
            mode: if policy.existing == IfExists::Replace { UploadMode::Replace } else { UploadMode::Append },
            schema,
            director,
            limits,
        };
        let fit = Arc::new(fit);
        let fitted = rows.batches.map_ok(move |batch| futures::stream::iter(Arc::clone(&fit).pieces(batch)));
        let batches = fitted.try_flatten().boxed();
        let (database, table, mode) = (upload.database.clone(), upload.table.clone(), upload.mode);
        let written = write_in_turn(Arc::clone(writer), upload, batches, target.turn).await.map_err(failed)?;
        tracing::info!(database, table, ?mode, rows = written, "table written");
        Ok(written)
    }

    /// What the user may still write.
    async fn left(&self, target: &Target, policy: Policy) -> Result<UploadLimits, Status> {
        let quota = self.own_tables().quota;
        let replaced = |table: &TableSnapshot| {
            policy.existing == IfExists::Replace && table.table.name.eq_ignore_ascii_case(&target.table)
        };
        let tables = target.snapshot.iter().flat_map(|snapshot| &snapshot.tables).filter(|table| !replaced(table));
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        for table in tables {
            rows += table.facts.rows;
            let stored = table.files.iter().filter(|file| file.kind != FileKind::DirectorIndex);
            bytes += stored.map(|file| file.bytes).sum::<u64>();
        }
        let left = UploadLimits { rows: quota.rows.saturating_sub(rows), bytes: quota.bytes.saturating_sub(bytes) };
        if left.rows == 0 || left.bytes == 0 {
            return Err(failed(EngineError::ResourceExhausted(format!(
                "your tables hold {rows} rows and {bytes} bytes, and may hold {} and {}; drop one",
                quota.rows, quota.bytes
            ))));
        }
        // Replaced again and again, a table within the quota would fill the workers.
        if let Some(snapshot) = &target.snapshot {
            let superseded = self.own_tables().store.superseded_bytes(snapshot.database.id).await;
            let superseded = superseded.map_err(|error| failed(EngineError::Catalog(error)))?;
            if superseded >= quota.bytes {
                return Err(failed(EngineError::ResourceExhausted(format!(
                    "what you have replaced and dropped still takes {superseded} bytes, which is as much as your tables \
                     may; it is kept for those who read it and leaves by itself (coordinator.superseded_grace_s)"
                ))));
            }
        }
        Ok(left)
    }
}

/// Writes, and gives the turn back when the writer is done with the table. When the caller goes away no more
/// rows come, and a writer that has them all goes on: the turn must outlast it.
async fn write_in_turn(
    writer: Arc<dyn TableWriter>,
    upload: Upload,
    rows: RowStream,
    turn: Option<Turn>,
) -> Result<u64, EngineError> {
    let gone = CancellationToken::new();
    let _caller = gone.clone().drop_guard();
    // Ended by an error: rows that just stop would be taken for all of them.
    let stopped = futures::stream::once(gone.cancelled_owned()).map(|()| Err(EngineError::Cancelled));
    let rows = rows.map(Some).chain(futures::stream::once(async { None }));
    let rows = futures::stream::select_with_strategy(stopped.map(Some), rows, |_: &mut ()| PollNext::Left);
    // Nothing follows the end, whichever it is.
    let rows = rows.scan(false, |ended, row| {
        let row = if *ended { None } else { row };
        *ended = !matches!(row, Some(Ok(_)));
        std::future::ready(row)
    });
    let writing = Handle::current().spawn(async move {
        let written = writer.write(upload, rows.boxed()).await;
        drop(turn);
        written
    });
    writing.await.map_err(|failure| EngineError::Internal(format!("the write ended abnormally: {failure}")))?
}

/// The options that make a table a director, by their names.
///
/// Errors: `InvalidArgument` for an unknown option, and for some of the three without the others.
pub(super) fn director<'a>(
    options: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Option<DirectorColumns>, Status> {
    let [mut ra, mut dec, mut id] = [const { None }; 3];
    for (name, value) in options {
        match name {
            "ra" => ra = Some(value.to_owned()),
            "dec" => dec = Some(value.to_owned()),
            "id" => id = Some(value.to_owned()),
            other => {
                return Err(failed(EngineError::Invalid(format!(
                    "a table has no option \"{other}\"; ra, dec and id name the columns that make it a director"
                ))));
            }
        }
    }
    match (ra, dec, id) {
        (None, None, None) => Ok(None),
        (Some(ra), Some(dec), Some(id)) => Ok(Some(DirectorColumns { ra, dec, id })),
        _ => Err(failed(EngineError::Invalid(
            "a director needs all of the options ra, dec and id, each the name of a column".to_owned(),
        ))),
    }
}

fn check_director(director: &DirectorColumns, schema: &Schema) -> Result<(), Status> {
    for (option, column) in [("ra", &director.ra), ("dec", &director.dec), ("id", &director.id)] {
        if schema.field_with_name(column).is_err() {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(failed(EngineError::Invalid(format!(
                "the option {option} names the column \"{column}\"; there are {}",
                names.join(", ")
            ))));
        }
    }
    Ok(())
}

fn director_of(table: &TableSnapshot) -> Option<DirectorColumns> {
    let table = &table.table;
    Some(DirectorColumns { ra: table.ra_column.clone()?, dec: table.dec_column.clone()?, id: table.id_column.clone()? })
}

/// Rows of values as the rows of `VALUES ($1, …)`.
fn bound_rows(values: &RecordBatch, row: &[usize], matching: Matching) -> Result<NewRows, EngineError> {
    let rows = values.project(row).map_err(|e| EngineError::Invalid(format!("the bound values: {e}")))?;
    let schema = rows.schema();
    Ok(NewRows { schema, batches: futures::stream::iter([Ok(rows)]).boxed(), matching })
}

fn absent(target: &Target) -> Status {
    let tables = target.snapshot.iter().flat_map(|snapshot| &snapshot.tables);
    let names: Vec<&str> = tables.map(|table| table.table.name.as_str()).collect();
    let there = match names.is_empty() {
        true => "you have no tables of your own yet".to_owned(),
        false => format!("yours are {}", names.join(", ")),
    };
    failed(EngineError::NotFound(format!("no table \"{}\"; {there}", target.shown())))
}

fn failed(error: EngineError) -> Status {
    status_of(&error, None)
}
