//! A shuffled query as one node: cut and placed when it runs, and run once more where that may help.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan, ScalarUDF};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType, reset_plan_states};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties, execute_stream,
};
use datafusion::prelude::SessionConfig;
use datafusion_distributed::{
    DistributedExt, NetworkCoalesceExec, RouteTasksEvent, RouteTasksEventResponse, SessionStateBuilderExt,
    display_plan_ascii,
};
use futures::{StreamExt, TryStreamExt};
use skyflight_proto::FailureKind;
use tracing::warn;
use url::Url;

use super::Shuffler;
use super::channel::{Asker, StageChannels};
use super::choice::{Shuffled, planning_config};
use super::divide::divisible;
use super::placement::{Placement, holders};
use super::stages::{Staged, check_travels, chunk_lists, cut, leaves};
use super::subqueries::Asking;
use crate::EngineError;
use crate::dispatch::{QueryContext, QueryCounters};
use crate::fragment::error_of;
use crate::interrupt::{protect, protect_above};
use crate::plan::codec::FragmentCodec;
use crate::plan::dispatch::{LeafContext, into_plan_error};

/// How often a query is run in all.
const RUNS: usize = 2;

/// Runs a merge plan with its repartitions and sorts on the workers.
#[derive(Debug)]
pub(crate) struct ShuffledExec {
    /// The plan as the coordinator could run it alone.
    merge: Arc<dyn ExecutionPlan>,
    /// Where its sub-queries have to be asked before it can be cut.
    asking: Option<Arc<Asking>>,
    shuffler: Arc<Shuffler>,
    because: String,
    /// The plan cut into stages for as many workers as hold its chunks, for EXPLAIN.
    stages: String,
    workers: usize,
    properties: Arc<PlanProperties>,
    begun: AtomicBool,
}

/// What became of an attempt to shuffle a query.
pub(crate) enum Made {
    /// It can be.
    Shuffled(Arc<ShuffledExec>),
    /// It cannot; why.
    NotSo(String),
}

impl ShuffledExec {
    /// Plans the query `marked` in `state`, the configuration of which is [`planning_config`]'s, cuts the plan,
    /// and proves that its stages can travel. In the state `merged` the query was planned for the coordinator.
    pub(crate) async fn make(
        marked: &LogicalPlan,
        shuffler: &Arc<Shuffler>,
        shuffled: Shuffled,
        merged: &SessionState,
    ) -> Result<Made> {
        let config = planning_config(merged.config().clone(), &shuffled, shuffler.config.partitions);
        let state = SessionStateBuilder::new_from_existing(merged.clone()).with_config(config).build();
        let query = divisible(marked.clone())?;
        let merge = state.query_planner().create_physical_plan(&query, &state).await?;
        let asking = Asking::of(&query, &state, merged).await?;
        let divided = match &asking {
            Some(asking) => asking.unasked().await?,
            None => Arc::clone(&merge),
        };
        let lists = chunk_lists(&leaves(&divided)?)?;
        let workers = holders(&lists);
        // Who is reachable is asked when the query runs.
        let addresses: Vec<_> = (0..workers.len()).map(|n| Some(format!("http://worker-{n}"))).collect();
        let placement = Placement::new(&lists, &workers, &addresses)?;
        if placement.tasks < 2 {
            return Ok(Made::NotSo(format!("{} worker holds all chunks", placement.tasks)));
        }
        let staged = cut(&divided, &placement, shuffler.config.partitions)?;
        if staged.shuffles + staged.sorts == 0 {
            return Ok(Made::NotSo("what is repartitioned or sorted in it cannot be divided among workers".into()));
        }
        let context = state.task_ctx();
        let config = context.session_config().clone().with_distributed_user_codec(FragmentCodec);
        let places = asking.iter().flat_map(|asking| asking.places());
        let travel = Arc::new(with_config(&context, config, places));
        if let Err(error) = check_travels(&staged.plan, &travel) {
            return Ok(Made::NotSo(format!("a stage of it cannot travel: {}", error.strip_backtrace())));
        }
        let config = travel.session_config().clone();
        let stages = display_plan_ascii(distributed(staged, config).await?.0.as_ref(), false);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(merge.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Made::Shuffled(Arc::new(ShuffledExec {
            merge,
            asking,
            shuffler: Arc::clone(shuffler),
            because: shuffled.because,
            stages,
            workers: placement.tasks,
            properties: Arc::new(properties),
            begun: AtomicBool::new(false),
        })))
    }

    /// The plan whose leaves and fragments the stages run.
    pub(crate) fn merge(&self) -> &Arc<dyn ExecutionPlan> {
        &self.merge
    }

    /// For EXPLAIN: over how many workers, and why.
    pub(crate) fn reason(&self) -> String {
        format!("shuffled over {} workers, because {}", self.workers, self.because)
    }

    /// For EXPLAIN: the stages.
    pub(crate) fn stages(&self) -> &str {
        &self.stages
    }
}

/// What it takes to run a shuffled query.
struct Run {
    merge: Arc<dyn ExecutionPlan>,
    asking: Option<Arc<Asking>>,
    shuffler: Arc<Shuffler>,
}

impl Run {
    /// Starts the query on the workers that can be reached now.
    async fn start(&self, query: &QueryContext, context: &Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let merge = match &self.asking {
            Some(asking) => asking.asked(query, context).await?,
            None => reset_plan_states(Arc::clone(&self.merge))?,
        };
        let lists = chunk_lists(&leaves(&merge)?)?;
        let workers = holders(&lists);
        let addresses = self.shuffler.cluster.reachable(&workers).await.map_err(into_plan_error)?;
        let placement = Placement::new(&lists, &workers, &addresses)?;
        if placement.tasks < 2 {
            // One worker is left: the coordinator merges what it gives.
            return execute_stream(protect(merge, &query.cancel)?, Arc::clone(context));
        }
        let staged = cut(&merge, &placement, self.shuffler.config.partitions)?;
        let asker = Asker { keys: self.shuffler.cluster.keys(), query: query.id, user: query.user.clone() };
        let channels = StageChannels::new(asker, Arc::clone(&self.shuffler.lines), Some(Arc::clone(&query.counters)));
        let config = context
            .session_config()
            .clone()
            .with_distributed_user_codec(FragmentCodec)
            .with_distributed_channel_resolver(channels)
            .with_distributed_route_tasks_handler(routes(placement.urls.clone()));
        let staged = Staged { plan: protect_above(staged.plan, &query.cancel, is_boundary)?, ..staged };
        let (plan, config) = distributed(staged, config).await?;
        let chunks: usize = lists.iter().map(|list| list.chunks.len()).sum();
        QueryCounters::add(&query.counters.chunks_planned, chunks as u64);
        QueryCounters::add(&query.counters.chunks_total, lists.iter().map(|list| list.total as u64).sum());
        execute_stream(plan, Arc::new(with_config(context, config, [])))
    }
}

fn is_boundary(node: &dyn ExecutionPlan) -> bool {
    node.is::<NetworkCoalesceExec>()
}

/// Task *k* of every stage runs on worker *k*.
fn routes(urls: Vec<Url>) -> impl for<'a> Fn(RouteTasksEvent<'a>) -> Option<Result<RouteTasksEventResponse>> {
    move |event: RouteTasksEvent<'_>| {
        Some(match event.task_count == urls.len() {
            true => Ok(RouteTasksEventResponse::new(urls.clone())),
            false => internal_err!("a stage of {} tasks for {} workers", event.task_count, urls.len()),
        })
    }
}

/// The library's plan for stages, and the configuration it wants to run in.
async fn distributed(staged: Staged, config: SessionConfig) -> Result<(Arc<dyn ExecutionPlan>, SessionConfig)> {
    let plan = match staged.plan.output_partitioning().partition_count() {
        1 => staged.plan,
        _ => Arc::new(CoalescePartitionsExec::new(staged.plan)),
    };
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_query_planner(Arc::new(Planned(plan)))
        .with_distributed_planner()
        .build();
    let nothing =
        LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) });
    let plan = state.query_planner().create_physical_plan(&nothing, &state).await?;
    Ok((plan, state.config().clone().with_distributed_metrics_collection(false)?))
}

/// Hands the library a plan that is made already.
#[derive(Debug)]
struct Planned(Arc<dyn ExecutionPlan>);

#[async_trait]
impl QueryPlanner for Planned {
    async fn create_physical_plan(&self, _: &LogicalPlan, _: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::clone(&self.0))
    }
}

/// The context with another configuration, and with `more` functions.
fn with_config<'a>(
    context: &TaskContext,
    config: SessionConfig,
    more: impl IntoIterator<Item = &'a Arc<ScalarUDF>>,
) -> TaskContext {
    let mut functions = context.scalar_functions().clone();
    functions.extend(more.into_iter().map(|function| (function.name().to_owned(), Arc::clone(function))));
    TaskContext::new(
        context.task_id(),
        context.session_id(),
        config,
        functions,
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    )
}

/// True for a failure that another run may not meet.
fn may_pass(error: &EngineError) -> bool {
    match error.kind() {
        FailureKind::Unavailable | FailureKind::Internal | FailureKind::DataLoss | FailureKind::DeadlineExceeded => {
            true
        }
        FailureKind::BadRequest
        | FailureKind::PermissionDenied
        | FailureKind::NotFound
        | FailureKind::ResourceExhausted
        | FailureKind::Cancelled
        | FailureKind::Unimplemented
        | FailureKind::AlreadyExists
        | FailureKind::FailedPrecondition
        | FailureKind::Unauthenticated => false,
    }
}

impl DisplayAs for ShuffledExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ShuffledExec: workers={}", self.workers)
    }
}

impl ExecutionPlan for ShuffledExec {
    fn name(&self) -> &'static str {
        "ShuffledExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if self.begun.swap(true, Ordering::Relaxed) {
            return internal_err!("a shuffled query was started twice");
        }
        let query = context
            .session_config()
            .get_extension::<LeafContext>()
            .ok_or_else(|| internal_datafusion_err!("a distributed plan ran outside a query"))?
            .query
            .clone();
        let run =
            Run { merge: Arc::clone(&self.merge), asking: self.asking.clone(), shuffler: Arc::clone(&self.shuffler) };
        let rows = async move {
            for attempt in 1.. {
                let error = match first(&run, &query, &context).await {
                    Ok(rows) => return Ok(rows),
                    Err(error) => error_of(error),
                };
                if attempt == RUNS || query.cancel.is_cancelled() || !may_pass(&error) {
                    return Err(into_plan_error(error));
                }
                QueryCounters::add(&query.counters.retries, 1);
                warn!(query_id = %query.id, %error, "a shuffled query failed and is run again");
            }
            internal_err!("a shuffled query was not run")
        };
        let rows = futures::stream::once(rows).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(self.properties.eq_properties.schema()), rows)))
    }
}

/// Runs the query up to its first row: so far it can be run again.
async fn first(run: &Run, query: &QueryContext, context: &Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
    let mut rows = run.start(query, context).await?;
    let schema = rows.schema();
    let first = rows.try_next().await?;
    let rows = futures::stream::iter(first.map(Ok)).chain(rows);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}
