//! A session: SQL text in, a planned query out, on fixed snapshots.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::temporal_conversions::timestamp_ms_to_datetime;
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use skyflight_catalog::{DatabaseId, Snapshot, SnapshotId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::dispatch::{DispatchRequest, QueryContext};
use crate::engine::{CATALOG, Engine};
use crate::estimate::Estimate;
use crate::explain::ExplainExec;
use crate::fragment::error_of;
use crate::functions::compare_integer_predicates;
use crate::guard::{check_constants, parse_numbered};
use crate::ids_first::ids_first;
use crate::interrupt::{QueryCancel, protect};
use crate::locality::{Marked, mark_local};
use crate::names::{self, NameCatalog};
use crate::own::own_database;
use crate::parameters::{Described, bind, infer, nulls};
use crate::plan::dispatch::{ChunkDispatchExec, LeafContext, into_plan_error, is_volatile};
use crate::plan::sequence::SequenceExec;
use crate::repair::write_out;
use crate::schema::{client_schema, client_schema_of, same_types, signed_schema};
use crate::shuffle::exec::{Made, ShuffledExec};
use crate::shuffle::{Choice, ShuffleMode, choose};
use crate::spherical::{plan_spherical_joins, want_nearest};
use crate::system::{SystemDatabase, find_jobs, whole_job};
use crate::tables::{SessionCatalog, SnapshotIndex};
use crate::{EngineError, Result};

/// Most rows of values for which one query runs.
const MOST_RUNS: usize = 1_000;

/// Bytes of text that they have together, and chunks that they read: a plan takes about a hundred bytes for
/// each.
const MOST_TEXT_OF_RUNS: usize = 4 << 20;
const MOST_CHUNKS_OF_RUNS: u64 = 1_000_000;

/// Batches that may wait between the merge plan and the network.
const BATCHES_AHEAD: usize = 4;

/// On whose behalf, and on what, a session works.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// The user.
    pub user: String,
    /// Database in which unqualified tables are looked up first.
    pub default_database: Option<String>,
    /// The snapshots to see; `None` means the current ones.
    pub snapshots: Option<Vec<(DatabaseId, SnapshotId)>>,
    /// Whether queries are shuffled; `None` means as the engine is configured.
    pub shuffle: Option<ShuffleMode>,
    /// Whether rows have signed integers alone, for clients that read no others.
    pub signed_integers: bool,
    /// What `now()` means, in milliseconds of Unix time; `None` means the moment of planning.
    pub clock_unix_ms: Option<i64>,
}

/// A view of the catalog that does not change while it is held.
#[derive(Debug, Clone)]
pub struct Session {
    engine: Engine,
    options: SessionOptions,
    catalog: Vec<Arc<Snapshot>>,
    indices: Vec<Arc<SnapshotIndex>>,
}

impl Session {
    pub(crate) fn new(
        engine: Engine,
        options: SessionOptions,
        catalog: Vec<Arc<Snapshot>>,
        indices: Vec<Arc<SnapshotIndex>>,
    ) -> Self {
        Session { engine, options, catalog, indices }
    }

    /// The snapshots the session sees, one per database.
    pub fn snapshots(&self) -> Vec<(DatabaseId, SnapshotId)> {
        self.catalog.iter().map(|s| (s.database.id, s.id)).collect()
    }

    /// The databases and tables the session sees.
    pub fn catalog(&self) -> &[Arc<Snapshot>] {
        &self.catalog
    }

    /// Plans one statement, on the engine's runtime. Nothing is read yet but the small side of a join that
    /// tells the chunks of the other.
    ///
    /// # Errors
    /// The statement is not readable, too large, not allowed, names what does not exist, or means
    /// nothing; it has parameters.
    pub async fn plan(&self, sql: &str, query: QueryContext) -> Result<PlannedQuery> {
        self.plan_bound(sql, None, query).await
    }

    /// [`Session::plan`] with values for the statement's parameters, cast to their types by
    /// [`cast_values`](crate::parameters::cast_values). Of several rows of values each gives the rows of
    /// one run, in order.
    ///
    /// # Errors
    /// Also `Invalid` when values are missing, too many, or none are taken.
    pub async fn plan_bound(
        &self,
        sql: &str,
        values: Option<RecordBatch>,
        query: QueryContext,
    ) -> Result<PlannedQuery> {
        let (session, sql) = (self.clone(), sql.to_string());
        self.planning(async move { session.plan_here(&sql, values.as_ref(), query, Ask::First).await }).await
    }

    /// The rows and the parameters of a statement. `targets` are the types of the columns that its rows go
    /// to, where they go to a table; parameters on their way there have these types.
    ///
    /// # Errors
    /// As [`Session::plan`].
    pub async fn describe(&self, sql: &str, targets: Vec<DataType>, query: QueryContext) -> Result<Described> {
        let (session, sql) = (self.clone(), sql.to_string());
        self.planning(async move { session.describe_here(&sql, &targets, query).await }).await
    }

    async fn planning<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let planning = self.engine.shared.config.runtime.spawn(work);
        let abort = AbortOnDrop(planning.abort_handle());
        let planned = planning.await;
        drop(abort);
        match planned {
            Ok(planned) => planned,
            Err(failure) if failure.is_cancelled() => Err(EngineError::Cancelled),
            Err(failure) => Err(EngineError::Internal(format!("the planner failed: {failure}"))),
        }
    }

    /// The statement with its names resolved, and what there is to know of it.
    async fn read(&self, sql: &str) -> Result<Read> {
        let limits = &self.engine.shared.config.limits;
        let (mut statement, parameters) = parse_numbered(sql, limits)?;
        if lists_databases(&statement) {
            statement = parse_numbered(LIST_DATABASES, limits)?.0;
        }
        let whole_job = whole_job(&statement, sql);
        write_out(&mut statement)?;
        let jobs = find_jobs(&mut statement)?;
        let system = self.system(&jobs).await?;
        names::resolve(&mut statement, &self.names(system.as_deref()))?;
        compare_in(&mut statement);
        Ok(Read { statement, parameters, system, whole_job })
    }

    async fn plan_here(
        &self,
        sql: &str,
        values: Option<&RecordBatch>,
        query: QueryContext,
        ask: Ask,
    ) -> Result<PlannedQuery> {
        let Read { statement, parameters, system, whole_job } = self.read(sql).await?;
        let values = checked_values(parameters, values)?;
        let state = self.state(&query, system.as_ref())?;
        if let Statement::Explain(explain) = statement {
            let logical = state.statement_to_plan(*explain.statement).await.map_err(error_of)?;
            let logical = one_row_bound(logical, values)?;
            let (marked, plan, shuffle) = self.merge_plan(&state, &logical, ask).await?;
            let explained = ExplainExec::new(&marked, plan, shuffle, explain.options.analyze).map_err(error_of)?;
            let plan: Arc<dyn ExecutionPlan> = Arc::new(explained);
            let schema = client_schema(&plan.schema());
            return Ok(PlannedQuery { schema, plan, state, query, engine: self.engine.clone(), whole_job: None });
        }
        let logical = state.statement_to_plan(statement).await.map_err(error_of)?;
        let (plain, plan) = match values {
            Some(values) if values.num_rows() > 1 => self.sequence(&state, sql, &logical, values).await?,
            // Values for no run: its rows are none, and what they would be is still to be known.
            Some(values) if values.num_rows() == 0 => {
                let nulls = nulls(&values.schema()).map_err(error_of)?;
                let (marked, plan, _) =
                    self.merge_plan(&state, &one_row_bound(logical, Some(&nulls))?, Ask::Nothing).await?;
                let none: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(plan.schema()));
                (client_schema_of(marked.plan.schema()), none)
            }
            _ => {
                let logical = one_row_bound(logical, values)?;
                let (marked, plan, _) = self.merge_plan(&state, &logical, ask).await?;
                (client_schema_of(marked.plan.schema()), plan)
            }
        };
        let schema = if self.options.signed_integers { signed_schema(&plain) } else { Arc::clone(&plain) };
        // The ticket of a job gives its rows as they lie.
        let whole_job = whole_job.filter(|_| same_types(&schema, &plain));
        Ok(PlannedQuery { schema, plan, state, query, engine: self.engine.clone(), whole_job })
    }

    /// One run for each row of values.
    async fn sequence(
        &self,
        state: &SessionState,
        sql: &str,
        logical: &LogicalPlan,
        values: &RecordBatch,
    ) -> Result<(SchemaRef, Arc<dyn ExecutionPlan>)> {
        // All plans are held until the last one has run.
        let text = values.num_rows().saturating_mul(sql.len());
        if text > MOST_TEXT_OF_RUNS {
            return Err(EngineError::TooLarge(format!(
                "{} rows of values are bound to a text of {} bytes; rows times bytes are at most {MOST_TEXT_OF_RUNS}: \
                 bind fewer rows, or upload them as a table and join with it",
                values.num_rows(),
                sql.len()
            )));
        }
        let mut plans = Vec::with_capacity(values.num_rows());
        let mut schemas: Option<(SchemaRef, SchemaRef)> = None;
        let mut chunks = 0;
        for row in 0..values.num_rows() {
            let bound = bind(logical.clone(), values, row).map_err(error_of)?;
            let (marked, plan, _) = self.merge_plan(state, &bound, Ask::Nothing).await?;
            chunks += Estimate::of(&plan).map_err(error_of)?.chunks;
            if chunks > MOST_CHUNKS_OF_RUNS {
                return Err(EngineError::TooLarge(format!(
                    "the first {} rows of values read {chunks} chunks, and all runs of a query at most \
                     {MOST_CHUNKS_OF_RUNS}: bind fewer rows, or upload them as a table and join with it",
                    row + 1
                )));
            }
            schemas.get_or_insert_with(|| (client_schema_of(marked.plan.schema()), plan.schema()));
            plans.push(plan);
        }
        let (schema, merged) = schemas.ok_or_else(|| EngineError::Internal("no row of values".into()))?;
        Ok((schema, Arc::new(SequenceExec::new(merged, plans))))
    }

    async fn describe_here(&self, sql: &str, targets: &[DataType], query: QueryContext) -> Result<Described> {
        let Read { statement, parameters: count, system, .. } = self.read(sql).await?;
        if count == 0 {
            let rows = self.plan_here(sql, None, query, Ask::Nothing).await?.schema();
            return Ok(Described { rows, parameters: Arc::new(Schema::empty()) });
        }
        let statement = match statement {
            Statement::Explain(explain) => *explain.statement,
            other => other,
        };
        let logical = self.state(&query, system.as_ref())?.statement_to_plan(statement).await.map_err(error_of)?;
        let parameters = infer(&logical, count, targets).map_err(error_of)?;
        let values = nulls(&parameters).map_err(error_of)?;
        let rows = self.plan_here(sql, Some(&values), query, Ask::Nothing).await?.schema();
        Ok(Described { rows, parameters })
    }

    /// The marked logical plan, the physical plan with its leaves, and why it is shuffled or not.
    async fn merge_plan(
        &self,
        state: &SessionState,
        logical: &LogicalPlan,
        ask: Ask,
    ) -> Result<(Marked, Arc<dyn ExecutionPlan>, Option<String>)> {
        let (marked, physical) = merge_plan(state, logical, ask).await.map_err(error_of)?;
        let (physical, shuffle) = self.shuffled(state, &marked.plan, physical).await.map_err(error_of)?;
        Ok((marked, physical, shuffle))
    }

    /// The plan that runs on the workers where it should and can, else `merge`; and why.
    async fn shuffled(
        &self,
        state: &SessionState,
        marked: &LogicalPlan,
        merge: Arc<dyn ExecutionPlan>,
    ) -> PlanResult<(Arc<dyn ExecutionPlan>, Option<String>)> {
        let Some(shuffler) = &self.engine.shared.shuffler else { return Ok((merge, None)) };
        let merged = |because: &str| format!("merged on the coordinator, because {because}");
        let shuffled = match choose(&merge, self.options.shuffle, &shuffler.config)? {
            None => return Ok((merge, None)),
            Some(Choice::Merged(because)) => return Ok((merge, Some(merged(&because)))),
            Some(Choice::Shuffled(shuffled)) => shuffled,
        };
        match ShuffledExec::make(marked, shuffler, shuffled, state).await? {
            Made::Shuffled(plan) => {
                let because = plan.reason();
                Ok((plan, Some(because)))
            }
            Made::NotSo(because) => Ok((merge, Some(merged(&because)))),
        }
    }

    async fn system(&self, jobs: &[String]) -> Result<Option<Arc<SystemDatabase>>> {
        match (&self.engine.system, jobs.first()) {
            (Some(source), _) => Ok(Some(Arc::new(SystemDatabase::open(source, &self.options.user, jobs).await?))),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(EngineError::Unsupported("there are no jobs here".to_owned())),
        }
    }

    fn names(&self, system: Option<&SystemDatabase>) -> NameCatalog {
        let default =
            self.options.default_database.clone().or_else(|| self.engine.shared.config.default_database.clone());
        NameCatalog {
            databases: self
                .indices
                .iter()
                .map(|i| Arc::clone(&i.names))
                .chain(system.map(|system| Arc::new(system.names())))
                .collect(),
            default_database: default,
            own_database: Some(own_database(&self.options.user)),
        }
    }

    /// DataFusion's state for one query: the shared template, this session's catalog, this
    /// query's context and clock.
    fn state(&self, query: &QueryContext, system: Option<&Arc<SystemDatabase>>) -> Result<SessionState> {
        let shared = &self.engine.shared;
        let config = shared
            .template
            .config()
            .clone()
            .with_extension(Arc::new(QueryCancel(query.cancel.clone())))
            .with_extension(Arc::new(LeafContext { query: query.clone(), dispatcher: Arc::clone(&shared.dispatcher) }));
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_string(), Arc::new(SessionCatalog::new(&self.indices, system)));
        let mut builder = SessionStateBuilder::new_from_existing(shared.template.clone())
            .with_session_id(query.id.to_string())
            .with_catalog_list(Arc::new(catalogs));
        if let Some(unix_ms) = self.options.clock_unix_ms {
            let clock = timestamp_ms_to_datetime(unix_ms)
                .ok_or_else(|| EngineError::Internal(format!("{unix_ms} is no time of a query")))?;
            builder = builder.with_execution_props(ExecutionProps {
                query_execution_start_time: Some(clock.and_utc()),
                config_options: Some(Arc::clone(config.options())),
                ..ExecutionProps::new()
            });
            return Ok(builder.with_config(config).build());
        }
        let mut state = builder.with_config(config).build();
        state.mark_start_execution();
        Ok(state)
    }
}

/// Whether planning may ask the workers for ids: not where only the schema is wanted, nor for each of many
/// rows of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    First,
    Nothing,
}

/// The marked logical plan and the physical plan with its leaves.
async fn merge_plan(
    state: &SessionState,
    logical: &LogicalPlan,
    ask: Ask,
) -> PlanResult<(Marked, Arc<dyn ExecutionPlan>)> {
    let optimized = state.optimize(logical)?;
    check_constants(&optimized).map_err(into_plan_error)?;
    if ask == Ask::Nothing {
        return planned(state, optimized).await;
    }
    let narrowed = ids_first(state, optimized).await?;
    let (marked, physical) = planned(state, narrowed.plan).await?;
    Ok((Marked { asked: narrowed.asked, ..marked }, physical))
}

/// The same of a plan that is optimized already.
pub(crate) async fn planned(
    state: &SessionState,
    optimized: LogicalPlan,
) -> PlanResult<(Marked, Arc<dyn ExecutionPlan>)> {
    let joined = want_nearest(plan_spherical_joins(optimized)?)?;
    let marked = mark_local(joined)?;
    let physical = state.query_planner().create_physical_plan(&marked.plan, state).await?;
    Ok((marked, physical))
}

/// The values that a statement with so many parameters runs with; `None` where it has none.
fn checked_values(parameters: usize, values: Option<&RecordBatch>) -> Result<Option<&RecordBatch>> {
    let (columns, rows) = values.map_or((0, 0), |values| (values.num_columns(), values.num_rows()));
    // No rows of values are values all the same: for no run.
    match values {
        _ if parameters != columns && columns > 0 => Err(EngineError::Invalid(format!(
            "the statement has {parameters} parameters, but {columns} values are bound to it"
        ))),
        _ if parameters > 0 && columns == 0 => Err(EngineError::Invalid(format!(
            "the statement has {parameters} parameters, and no values are bound to them; prepare it and bind them"
        ))),
        _ if rows > MOST_RUNS => Err(EngineError::TooLarge(format!(
            "{rows} rows of values are bound to one query; at most {MOST_RUNS} are taken: upload them as a table and \
             join with it"
        ))),
        Some(values) if parameters > 0 => Ok(Some(values)),
        _ => Ok(None),
    }
}

fn one_row_bound(logical: LogicalPlan, values: Option<&RecordBatch>) -> Result<LogicalPlan> {
    match values {
        None => Ok(logical),
        Some(values) if values.num_rows() == 1 => bind(logical, values, 0).map_err(error_of),
        Some(_) => Err(EngineError::Invalid("EXPLAIN takes one row of values".into())),
    }
}

/// What SHOW DATABASES and SHOW SCHEMAS mean; DataFusion has neither.
const LIST_DATABASES: &str =
    "SELECT DISTINCT schema_name AS database FROM information_schema.schemata ORDER BY database";

fn lists_databases(statement: &Statement) -> bool {
    use datafusion::sql::sqlparser::ast::Statement as Ast;
    match statement {
        Statement::Statement(ast) => matches!(ast.as_ref(), Ast::ShowDatabases { .. } | Ast::ShowSchemas { .. }),
        _ => false,
    }
}

/// Reads bare integer predicates as MySQL and ADQL do, also below EXPLAIN.
fn compare_in(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => compare_integer_predicates(statement),
        Statement::Explain(explain) => compare_in(&mut explain.statement),
        _ => {}
    }
}

/// A statement that was read.
struct Read {
    statement: Statement,
    parameters: usize,
    /// The database `system` it sees.
    system: Option<Arc<SystemDatabase>>,
    /// The job whose rows it gives, and nothing else.
    whole_job: Option<String>,
}

/// A statement ready to run, once.
#[derive(Debug)]
pub struct PlannedQuery {
    schema: SchemaRef,
    plan: Arc<dyn ExecutionPlan>,
    state: SessionState,
    query: QueryContext,
    engine: Engine,
    whole_job: Option<String>,
}

impl PlannedQuery {
    /// Plans a query over whatever tables `state` knows, as every query is planned once its statement
    /// is read and its names are resolved; `state` comes from [`Engine::state`].
    ///
    /// # Errors
    /// Those of DataFusion as they are, ours as external ones.
    pub async fn over(
        engine: &Engine,
        state: SessionState,
        logical: &LogicalPlan,
        query: QueryContext,
    ) -> PlanResult<PlannedQuery> {
        let (marked, plan) = merge_plan(&state, logical, Ask::First).await?;
        let schema = client_schema_of(marked.plan.schema());
        Ok(PlannedQuery { schema, plan, state, query, engine: engine.clone(), whole_job: None })
    }

    /// The schema that clients see, the same wherever it is told.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Id, cancellation and counters.
    pub fn query(&self) -> &QueryContext {
        &self.query
    }

    /// The job whose rows are all that is asked for, by `SELECT * FROM job('<id>')`.
    pub fn whole_job(&self) -> Option<&str> {
        self.whole_job.as_deref()
    }

    /// The merge plan, for tests and EXPLAIN.
    pub fn physical_plan(&self) -> &Arc<dyn ExecutionPlan> {
        &self.plan
    }

    /// What the query will read, and about how long that takes.
    ///
    /// # Errors
    /// The plan cannot be understood, which is a fault of ours.
    pub fn estimate(&self) -> Result<Estimate> {
        let plan = self.runs();
        let plan = plan.downcast_ref::<ShuffledExec>().map_or(plan, ShuffledExec::merge);
        Estimate::of(plan).map_err(error_of)
    }

    /// The plan that is run: EXPLAIN ANALYZE runs the one that it explains.
    fn runs(&self) -> &Arc<dyn ExecutionPlan> {
        self.plan.downcast_ref::<ExplainExec>().and_then(ExplainExec::analyzed).unwrap_or(&self.plan)
    }

    /// True where some expression, here or beside the chunks, gives another value each time it is asked.
    ///
    /// # Errors
    /// The plan cannot be walked, which is a fault of ours.
    pub fn is_volatile(&self) -> Result<bool> {
        let plan = self.plan.downcast_ref::<ShuffledExec>().map_or(&self.plan, ShuffledExec::merge);
        has_volatile(plan).map_err(error_of)
    }

    /// True where the rows of a leaf pass a limit and nothing that must see all of them first: then only a
    /// part of what is estimated is read.
    pub fn may_stop_early(&self) -> bool {
        let mut plan = self.runs();
        let mut limited = false;
        while plan.downcast_ref::<ChunkDispatchExec>().is_none() {
            let limit = plan.is::<GlobalLimitExec>() || plan.is::<LocalLimitExec>();
            let passes =
                plan.is::<CoalescePartitionsExec>() || plan.is::<ProjectionExec>() || plan.is::<CooperativeExec>();
            limited |= limit || passes && plan.fetch().is_some();
            match plan.children().as_slice() {
                [input] if limit || passes => plan = input,
                _ => return false,
            }
        }
        limited
    }

    /// True where the workers exchange rows among themselves.
    pub fn is_shuffled(&self) -> bool {
        self.plan.is::<ShuffledExec>()
    }

    /// The dispatch whose frames are exactly this query's rows in [`PlannedQuery::schema`]; `None`
    /// where something has to be computed above the workers.
    ///
    /// # Errors
    /// The fragment cannot be encoded.
    pub fn relay(&self) -> Result<Option<DispatchRequest>> {
        let mut plan = &self.plan;
        if let Some(merged) = plan.downcast_ref::<CoalescePartitionsExec>()
            && merged.fetch().is_none()
        {
            plan = merged.input();
        }
        let Some(leaf) = plan.downcast_ref::<ChunkDispatchExec>() else { return Ok(None) };
        if !same_types(&leaf.schema(), &self.schema) {
            return Ok(None);
        }
        leaf.request(&self.query).map(Some).map_err(error_of)
    }

    /// Runs the query on the engine's runtime and gives its rows in [`PlannedQuery::schema`].
    /// Dropping the stream cancels the query; so does its token.
    ///
    /// # Errors
    /// The plan cannot be started.
    pub fn execute(&self) -> Result<SendableRecordBatchStream> {
        let cancel = self.query.cancel.clone();
        let plan = protect(Arc::clone(&self.plan), &cancel).map_err(error_of)?;
        let task = self.state.task_ctx();
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let schema = self.schema();
        let running = self.engine.shared.config.runtime.spawn(async move {
            let rows = match execute_stream(plan, task) {
                Ok(rows) => rows,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            forward(rows, schema, sender, cancel).await;
        });
        let guard = CancelOnDrop { cancel: self.query.cancel.clone(), task: running };
        let schema = self.schema();
        let rows = futures::stream::unfold((receiver, Some(guard)), |(mut receiver, guard)| async move {
            let mut guard = guard?;
            if let Some(batch) = receiver.recv().await {
                // After an error nothing follows.
                let guard = batch.is_ok().then_some(guard);
                return Some((batch, (receiver, guard)));
            }
            // The task has let go of the channel: it ended well, or it panicked and rows are missing.
            match (&mut guard.task).await {
                Ok(()) => {
                    guard.disarm();
                    None
                }
                Err(failure) => {
                    let error = EngineError::Internal(format!("the merge plan failed: {failure}"));
                    Some((Err(into_plan_error(error)), (receiver, None)))
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

fn has_volatile(plan: &Arc<dyn ExecutionPlan>) -> PlanResult<bool> {
    let mut found = false;
    plan.apply(|node| {
        node.apply_expressions(&mut |expr| {
            found |= is_volatile(expr);
            Ok(TreeNodeRecursion::Continue)
        })?;
        if let Some(leaf) = node.downcast_ref::<ChunkDispatchExec>() {
            found |= has_volatile(leaf.fragment())?;
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

async fn forward(
    mut rows: SendableRecordBatchStream,
    schema: SchemaRef,
    sender: mpsc::Sender<PlanResult<RecordBatch>>,
    cancel: CancellationToken,
) {
    loop {
        let batch = tokio::select! {
            biased;
            () = cancel.cancelled() => Some(Err(into_plan_error(EngineError::Cancelled))),
            batch = rows.next() => batch,
        };
        let Some(batch) = batch else { return };
        let batch = batch.and_then(|b| to_client(&b, &schema).map_err(into_plan_error));
        let failed = batch.is_err();
        if sender.send(batch).await.is_err() || failed {
            return;
        }
    }
}

/// Casts a batch to the client's schema: types, names and nullability as advertised.
fn to_client(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type()).map_err(|e| {
                    EngineError::Internal(format!(
                        "column {} cannot be sent as {}: {e}",
                        field.name(),
                        field.data_type()
                    ))
                })
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|e| EngineError::Internal(format!("a batch does not fit the advertised schema: {e}")))
}

/// Cancels a query whose rows nobody reads any more.
struct CancelOnDrop {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl CancelOnDrop {
    fn disarm(&mut self) {
        // A fresh token: dropping the guard must not mark a finished query as cancelled.
        self.cancel = CancellationToken::new();
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.task.abort();
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
