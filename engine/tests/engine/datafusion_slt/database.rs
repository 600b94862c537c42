//! The database that DataFusion's `.slt` files talk to: queries take the way of every query of a
//! session, from the guard to the client's batches; what makes tables, which sessions refuse, is left
//! to DataFusion over the same state.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::Dialect;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use futures::TryStreamExt;
use skyflight_engine::dispatch::QueryContext;
use skyflight_engine::functions::compare_integer_predicates;
use skyflight_engine::guard::{SqlLimits, parse_guarded};
use skyflight_engine::{Engine, EngineError, PlannedQuery};
use sqllogictest::{AsyncDB, DBOutput};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::missing::{Effects, Missing};
use super::tables;
use super::values::{TypeLetter, rows, type_letters};

/// Where the files write what they read again.
const SCRATCH: &str = "test_files/scratch/";
/// The same in an answer.
const SCRATCH_SHOWN: &str = "WORKSPACE_ROOT/datafusion/sqllogictest/test_files/scratch/";
/// What the bounded functions say (`guard::limited_functions`).
const TOO_LARGE: &str = "bytes of one batch of rows; at most";
/// A statement that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(180);

/// How a statement was treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Planned and run by us, as our guard read it.
    Ours,
    /// Planned and run by us, as DataFusion's parser read it: our guard refuses it.
    Unguarded,
    /// Run by DataFusion, because sessions refuse it.
    Prepared,
    /// An EXPLAIN: its query was planned by us, and run for ANALYZE. The plan is not compared, because
    /// it is not DataFusion's.
    Explained,
    /// Refused: what one of its functions would make is too large.
    TooLarge,
    /// Not run: it needs what is [`Missing`].
    Missing,
}

/// An error as DataFusion's runner shows it.
#[derive(Debug, thiserror::Error)]
#[error("DataFusion error: {}", .0.strip_backtrace())]
pub(super) struct SltError(#[from] DataFusionError);

/// A session of one file; its copies are the same session.
#[derive(Clone)]
pub(super) struct Database {
    engine: Engine,
    context: SessionContext,
    scratch: Arc<TempDir>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    way: Way,
    /// Why the guard refused the last statement.
    refusal: String,
    missing: Missing,
}

impl Database {
    /// An empty database for the file of this name.
    pub(super) fn new(engine: &Engine, file_stem: &str) -> Database {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join(file_stem)).unwrap();
        let mut context = SessionContext::new_with_state(state_like_datafusions(engine));
        if file_stem == "dynamic_file" {
            context = context.enable_url_table();
        }
        tables::register(&context, file_stem);
        let inner = Inner { way: Way::Ours, refusal: String::new(), missing: Missing::default() };
        Database { engine: engine.clone(), context, scratch: Arc::new(scratch), inner: Arc::new(Mutex::new(inner)) }
    }

    /// How the last statement was treated, and why the guard refused it, if it did.
    pub(super) async fn way(&self) -> (Way, String) {
        let inner = self.inner.lock().await;
        (inner.way, inner.refusal.clone())
    }

    async fn answer(&self, sql: &str, way: &mut Way, refusal: &mut String) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let state = self.context.state();
        let statement = read(&state, sql, refusal)?;
        *way = if refusal.is_empty() { Way::Ours } else { Way::Unguarded };
        let plan = state.statement_to_plan(statement).await?;
        if let LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) = plan {
            *way = Way::Explained;
            for explained in plan.inputs().into_iter().filter(|plan| is_query(plan)) {
                match plan {
                    LogicalPlan::Analyze(_) => drop(self.ask(state.clone(), explained).await?),
                    _ => drop(self.plan(state.clone(), explained).await?),
                }
            }
            return Ok((Arc::new(plan.schema().as_arrow().clone()), Vec::new()));
        }
        if is_query(&plan) {
            return self.ask(state, &plan).await;
        }
        *way = Way::Prepared;
        let (state, plan) = self.context.execute_logical_plan(plan).await?.into_parts();
        if is_query(&plan) {
            // EXECUTE gives a query to run, and most other statements one without rows.
            return self.ask(state, &plan).await;
        }
        let physical = state.create_physical_plan(&plan).await?;
        let schema = physical.schema();
        Ok((schema, collect(physical, state.task_ctx()).await?))
    }

    async fn ask(&self, state: SessionState, plan: &LogicalPlan) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let planned = self.plan(state, plan).await?;
        let rows = planned.execute().map_err(external)?;
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        assert!(batches.iter().all(|batch| batch.schema() == planned.schema()));
        Ok((planned.physical_plan().schema(), batches))
    }

    async fn plan(&self, state: SessionState, plan: &LogicalPlan) -> Result<PlannedQuery> {
        Box::pin(PlannedQuery::over(&self.engine, state, plan, QueryContext::new("slt"))).await
    }
}

#[async_trait]
impl AsyncDB for Database {
    type Error = SltError;
    type ColumnType = TypeLetter;

    async fn run(&mut self, sql: &str) -> std::result::Result<DBOutput<TypeLetter>, SltError> {
        let mut inner = self.inner.lock().await;
        let scratch = format!("{}/", self.scratch.path().display());
        let sql = sql.replace(SCRATCH, &scratch);
        let effects = Effects::of(&sql);
        inner.way = Way::Missing;
        if inner.missing.is_needed_by(&sql, &effects) {
            inner.missing.add(&effects);
            return Ok(DBOutput::StatementComplete(0));
        }
        let (mut way, mut refusal) = (Way::Ours, String::new());
        let answer = tokio::time::timeout(DEADLINE, Box::pin(self.answer(&sql, &mut way, &mut refusal))).await;
        let answer =
            answer.unwrap_or_else(|_| Err(external(EngineError::Internal(format!("no answer within {DEADLINE:?}")))));
        if answer.as_ref().is_err_and(|error| inner.missing.explains(error)) {
            inner.missing.add(&effects);
            if let Some(table) = &effects.table {
                let _ = self.context.deregister_table(table.as_str());
            }
            return Ok(DBOutput::StatementComplete(0));
        }
        let too_large = |error: &DataFusionError| error.strip_backtrace().contains(TOO_LARGE);
        inner.way = if answer.as_ref().is_err_and(too_large) { Way::TooLarge } else { way };
        inner.refusal = refusal;
        inner.missing.remove(&effects);
        let (schema, batches) = answer?;
        let mut rows: Vec<Vec<String>> = batches.iter().flat_map(rows).collect();
        for cell in rows.iter_mut().flatten().filter(|cell| cell.contains(&scratch[1..])) {
            *cell = cell.replace(&scratch[1..], SCRATCH_SHOWN);
        }
        if rows.is_empty() && schema.fields().is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        Ok(DBOutput::Rows { types: type_letters(&schema), rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "DataFusion"
    }
}

/// The statement as our guard reads it; as DataFusion does where the guard refuses it.
fn read(state: &SessionState, sql: &str, refusal: &mut String) -> Result<Statement> {
    let dialect = state.config().options().sql_parser.dialect;
    let mut statement = match parse_guarded(sql, &SqlLimits::default()) {
        Ok(statement) if dialect == Dialect::Generic => statement,
        refused => {
            *refusal = refused.map_or_else(|error| error.to_string(), |_| "another dialect".to_string());
            state.sql_to_statement(sql, &dialect)?
        }
    };
    if let Statement::Statement(statement) = &mut statement {
        compare_integer_predicates(statement);
    }
    Ok(statement)
}

fn is_query(plan: &LogicalPlan) -> bool {
    !matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_))
}

/// Our state, with what only its names and types decide as DataFusion has it by default, and the
/// formats and the catalog that the files need to make tables.
fn state_like_datafusions(engine: &Engine) -> SessionState {
    let config = engine
        .state()
        .config()
        .clone()
        .with_target_partitions(4)
        .with_information_schema(false)
        .with_default_catalog_and_schema("datafusion", "public")
        .with_create_default_catalog_and_schema(true)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", true)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", true)
        .set_bool("datafusion.execution.parquet.schema_force_view_types", true);
    SessionStateBuilder::new_from_existing(engine.state().clone())
        .with_config(config)
        .with_catalog_list(Arc::new(datafusion::catalog::MemoryCatalogProviderList::new()))
        .with_table_factories(SessionStateDefaults::default_table_factories())
        .with_file_formats(SessionStateDefaults::default_file_formats())
        .build()
}

fn external(error: EngineError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
