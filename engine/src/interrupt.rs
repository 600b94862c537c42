//! Makes work that does not yield stop when its query is cancelled.
//!
//! Tokio can stop a task only where it returns from a poll, and DataFusion returns only where a
//! leaf gives it nothing for a moment. A join can work for minutes on one batch in between: a
//! nested-loop join pairs it with every row of the other side, and a hash join of one hot key does
//! the same. [`protect`] puts an [`InterruptExec`] where a query can be stopped: above leaves,
//! joins, sorts, aggregates, windows and recursion, where it asks the query's token and gives the
//! runtime its turn; and below the probing side of a join, where it also cuts batches so that the
//! join has a few milliseconds of work at a time. Cancelling the token, dropping the stream and
//! aborting its task all end a protected plan within a fraction of a second.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, Result, Statistics, internal_datafusion_err};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, SchedulingType};
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec, SymmetricHashJoinExec,
};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream,
    ReplaceChildrenOptions,
};
use futures::{Future, Stream, StreamExt};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::EngineError;
use crate::spherical::SphericalJoinExec;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod turn;

pub(crate) use turn::Turn;

/// How long a stream works before the runtime has its turn.
const TURN: Duration = Duration::from_millis(5);
/// Batches a stream passes on before the runtime has its turn, however quick they are.
const TURN_BATCHES: u32 = 32;
/// Work of a join on one piece of its probing side that is aimed at.
const PIECE: Duration = Duration::from_millis(20);
/// Rows of the first piece: a nested-loop join pairs each with every row of the other side. Pieces
/// double while they are quick, so a harmless join has a dozen small ones before whole batches.
const FIRST_PIECE_ROWS: usize = 1;

/// The token of the running query, put into its `SessionConfig` as an extension.
#[derive(Debug, Clone)]
pub struct QueryCancel(pub CancellationToken);

/// The last rule of a query's physical optimizer; see [`protect`].
#[derive(Debug)]
pub struct InterruptRule {
    token: CancellationToken,
}

impl InterruptRule {
    /// A rule for the one query that `token` stops.
    pub fn new(token: CancellationToken) -> Self {
        InterruptRule { token }
    }
}

impl PhysicalOptimizerRule for InterruptRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        protect(plan, &self.token)
    }

    fn name(&self) -> &str {
        "interrupt"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Makes a plan that is ready to run stop soon after `token` is cancelled, its stream is dropped
/// or its task aborted. Cancelled, its streams end with [`EngineError::Cancelled`] as an external
/// error. Rows, their order and the partitions stay the same; batches may be cut smaller.
///
/// # Errors
/// A node does not take new children, which none of DataFusion's does.
pub fn protect(plan: Arc<dyn ExecutionPlan>, token: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    let inner = plan.transform_up(|node| watch(node, token))?.data;
    Ok(InterruptExec::around(inner, token, Role::Root))
}

/// [`protect`] for a plan whose lower parts run elsewhere: `border` is true for the first nodes whose
/// inputs are left alone.
pub(crate) fn protect_above(
    plan: Arc<dyn ExecutionPlan>,
    token: &CancellationToken,
    border: fn(&dyn ExecutionPlan) -> bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    fn above(
        node: Arc<dyn ExecutionPlan>,
        token: &CancellationToken,
        border: fn(&dyn ExecutionPlan) -> bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if border(node.as_ref()) {
            return Ok(InterruptExec::around(node, token, Role::Watch));
        }
        let children = node.children().into_iter().map(|child| above(Arc::clone(child), token, border));
        let children = children.collect::<Result<Vec<_>>>()?;
        let node = match children.is_empty() {
            true => node,
            false => node.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))?,
        };
        Ok(watch(node, token)?.data)
    }
    Ok(InterruptExec::around(above(plan, token, border)?, token, Role::Root))
}

fn watch(node: Arc<dyn ExecutionPlan>, token: &CancellationToken) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(probing) = probing_side(node.as_ref()) {
        let paces = Arc::new(Paces::default());
        let children = node.children().into_iter().enumerate().map(|(side, child)| {
            let role =
                if probing.contains(side) { Role::Probe(Arc::clone(&paces)) } else { Role::Beside(Arc::clone(&paces)) };
            InterruptExec::around(Arc::clone(child), token, role)
        });
        let children = children.collect();
        let join = node.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))?;
        return Ok(Transformed::yes(InterruptExec::around(join, token, Role::Above(paces))));
    }
    if node.children().is_empty() || gives_much_at_once(node.as_ref()) {
        return Ok(Transformed::yes(InterruptExec::around(node, token, Role::Watch)));
    }
    Ok(Transformed::no(node))
}

/// The children of a join whose batches are each paired with much of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probing {
    None,
    Left,
    Right,
}

impl Probing {
    fn contains(self, side: usize) -> bool {
        matches!((self, side), (Probing::Left, 0) | (Probing::Right, 1))
    }
}

/// None for what is not a join.
fn probing_side(node: &dyn ExecutionPlan) -> Option<Probing> {
    if node.is::<NestedLoopJoinExec>() || node.is::<HashJoinExec>() {
        return Some(Probing::Right);
    }
    if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        // The other side is buffered by key.
        return Some(match SortMergeJoinExec::probe_side(&join.join_type()) {
            JoinSide::Right => Probing::Right,
            JoinSide::Left | JoinSide::None => Probing::Left,
        });
    }
    // These return from a poll for every row or batch they pair.
    let pairs_in_steps =
        node.is::<CrossJoinExec>() || node.is::<PiecewiseMergeJoinExec>() || node.is::<SymmetricHashJoinExec>();
    pairs_in_steps.then_some(Probing::None)
}

/// What gives batch after batch without reading any, or reads itself.
fn gives_much_at_once(node: &dyn ExecutionPlan) -> bool {
    node.is::<SortExec>()
        || node.is::<AggregateExec>()
        || node.is::<SphericalJoinExec>()
        || node.is::<WindowAggExec>()
        || node.is::<BoundedWindowAggExec>()
        || node.is::<RecursiveQueryExec>()
}

/// What an [`InterruptExec`] does besides asking the token and giving the runtime its turn.
#[derive(Debug, Clone)]
enum Role {
    /// Nothing.
    Watch,
    /// At the top: also wakes up when the token is cancelled while nothing else happens.
    Root,
    /// Above a join: measures when the join is at work.
    Above(Arc<Paces>),
    /// Below a join on the side that is probed with: cuts batches to a few milliseconds of work.
    Probe(Arc<Paces>),
    /// Below a join on its other side.
    Beside(Arc<Paces>),
}

/// Passes its input on, and stops when the query does.
#[derive(Debug, Clone)]
pub struct InterruptExec {
    input: Arc<dyn ExecutionPlan>,
    token: CancellationToken,
    role: Role,
    properties: Arc<PlanProperties>,
}

impl InterruptExec {
    fn around(input: Arc<dyn ExecutionPlan>, token: &CancellationToken, role: Role) -> Arc<dyn ExecutionPlan> {
        let properties = PlanProperties::clone(input.properties()).with_scheduling_type(SchedulingType::Cooperative);
        Arc::new(InterruptExec { input, token: token.clone(), role, properties: Arc::new(properties) })
    }

    /// The plan that is watched.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for InterruptExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterruptExec")
    }
}

impl ExecutionPlan for InterruptExec {
    fn name(&self) -> &str {
        "InterruptExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(InterruptExec::around(input, &self.token, self.role.clone())),
            _ => Err(internal_datafusion_err!("InterruptExec has one child")),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let part = match &self.role {
            Role::Watch => Part::Watch,
            Role::Root => Part::Root(Box::pin(self.token.clone().cancelled_owned())),
            Role::Above(paces) => Part::Above(paces.of(partition), None),
            Role::Probe(paces) => Part::Probe(Pieces::new(paces.of(partition))),
            Role::Beside(paces) => Part::Beside(paces.of(partition)),
        };
        Ok(Box::pin(InterruptStream {
            input,
            token: self.token.clone(),
            part,
            batches: 0,
            turn: Instant::now(),
            finished: false,
        }))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => Err(internal_datafusion_err!("InterruptExec has one child")),
        }
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

/// When each partition of a join is not at work.
#[derive(Debug, Default)]
struct Paces {
    partitions: Mutex<HashMap<usize, Arc<Pace>>>,
}

impl Paces {
    fn of(&self, partition: usize) -> Arc<Pace> {
        Arc::clone(self.partitions.lock().entry(partition).or_default())
    }
}

/// Nanoseconds in which one partition of a join was not at work: it was not polled, or it was
/// polling its inputs.
#[derive(Debug, Default)]
struct Pace {
    idle: AtomicU64,
}

impl Pace {
    fn add_idle(&self, time: Duration) {
        self.idle.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        Duration::from_nanos(self.idle.load(Ordering::Relaxed))
    }
}

/// Cuts the batches of a join's probing side by how long the join takes over them.
#[derive(Debug)]
struct Pieces {
    pace: Arc<Pace>,
    rows: usize,
    rest: Option<RecordBatch>,
    /// When the last piece was given, and how long the join had been idle by then.
    given: Option<(Instant, Duration)>,
}

impl Pieces {
    fn new(pace: Arc<Pace>) -> Self {
        Pieces { pace, rows: FIRST_PIECE_ROWS, rest: None, given: None }
    }

    /// The join asks for more, so it is done with the last piece.
    fn asked(&mut self) {
        let Some((given, idle)) = self.given.take() else { return };
        let work = given.elapsed().saturating_sub(self.pace.idle().saturating_sub(idle));
        if work > 2 * PIECE {
            let times = (work.as_nanos() / PIECE.as_nanos()).max(2);
            self.rows = (self.rows / usize::try_from(times).unwrap_or(usize::MAX)).max(1);
        } else if work < PIECE / 2 {
            self.rows = self.rows.saturating_mul(2);
        }
    }

    fn cut(&mut self, batch: RecordBatch) -> RecordBatch {
        self.given = Some((Instant::now(), self.pace.idle()));
        if batch.num_rows() <= self.rows {
            return batch;
        }
        self.rest = Some(batch.slice(self.rows, batch.num_rows() - self.rows));
        batch.slice(0, self.rows)
    }
}

enum Part {
    Watch,
    Root(Pin<Box<WaitForCancellationFutureOwned>>),
    /// With the time at which the last poll returned.
    Above(Arc<Pace>, Option<Instant>),
    Probe(Pieces),
    Beside(Arc<Pace>),
}

struct InterruptStream {
    input: SendableRecordBatchStream,
    token: CancellationToken,
    part: Part,
    /// Batches since the runtime last had its turn.
    batches: u32,
    turn: Instant,
    finished: bool,
}

impl InterruptStream {
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        match &mut self.part {
            Part::Watch => self.input.poll_next_unpin(context),
            Part::Root(cancelled) => match self.input.poll_next_unpin(context) {
                Poll::Pending if cancelled.as_mut().poll(context).is_ready() => {
                    Poll::Ready(Some(Err(cancelled_error())))
                }
                polled => polled,
            },
            Part::Above(pace, returned) => {
                if let Some(returned) = returned.take() {
                    pace.add_idle(returned.elapsed());
                }
                let polled = self.input.poll_next_unpin(context);
                *returned = Some(Instant::now());
                polled
            }
            Part::Beside(pace) => {
                let started = Instant::now();
                let polled = self.input.poll_next_unpin(context);
                pace.add_idle(started.elapsed());
                polled
            }
            Part::Probe(pieces) => {
                pieces.asked();
                if let Some(rest) = pieces.rest.take() {
                    return Poll::Ready(Some(Ok(pieces.cut(rest))));
                }
                let started = Instant::now();
                let polled = self.input.poll_next_unpin(context);
                pieces.pace.add_idle(started.elapsed());
                match ready!(polled) {
                    Some(Ok(batch)) => Poll::Ready(Some(Ok(pieces.cut(batch)))),
                    end => Poll::Ready(end),
                }
            }
        }
    }

    /// Whether it is the runtime's turn.
    fn must_yield(&mut self) -> bool {
        if self.batches < TURN_BATCHES && self.turn.elapsed() < TURN {
            return false;
        }
        self.batches = 0;
        self.turn = Instant::now();
        true
    }
}

impl Stream for InterruptStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.finished {
            return Poll::Ready(None);
        }
        if this.token.is_cancelled() {
            this.finished = true;
            return Poll::Ready(Some(Err(cancelled_error())));
        }
        if this.must_yield() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = this.poll_input(context);
        match &polled {
            Poll::Pending => {
                this.batches = 0;
                this.turn = Instant::now();
            }
            Poll::Ready(Some(Ok(_))) => this.batches += 1,
            Poll::Ready(Some(Err(_)) | None) => this.finished = true,
        }
        polled
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.input.size_hint()
    }
}

impl RecordBatchStream for InterruptStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

fn cancelled_error() -> DataFusionError {
    DataFusionError::External(Box::new(EngineError::Cancelled))
}
