//! The operator that joins rows that lie near each other.
//!
//! The left side is read whole and arranged in [`Zones`]; each right row then looks up the left rows
//! near it, and the condition of the join is asked of those pairs. All of the join's right
//! partitions share the left side.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use datafusion::arrow::array::{AsArray, Float64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{BatchCoalescer, cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Float64Type, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinType, Result, exec_err, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter, build_join_schema};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::pairs::{Pairs, Rows, numbers};
use super::zones::{Places, Search, Zones};

/// The place of a side's rows, and what each adds to the radius; all in degrees, as Float64.
#[derive(Debug, Clone)]
pub(crate) struct PlaceExprs {
    pub(crate) ra: Arc<dyn PhysicalExpr>,
    pub(crate) dec: Arc<dyn PhysicalExpr>,
    pub(crate) radius: Option<Arc<dyn PhysicalExpr>>,
}

/// What a spherical join does; all of it travels to the worker.
#[derive(Debug, Clone)]
pub(crate) struct SphericalJoinSpec {
    pub(crate) join_type: JoinType,
    /// The whole condition, of which the nearness is a part.
    pub(crate) condition: JoinFilter,
    pub(crate) left: PlaceExprs,
    pub(crate) right: PlaceExprs,
    /// The part of the radius that all pairs have, in degrees.
    pub(crate) radius_deg: f64,
}

/// See the module. Its output has no order.
#[derive(Debug)]
pub(crate) struct SphericalJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    spec: Arc<SphericalJoinSpec>,
    /// Where the columns of the output come from.
    columns: Arc<[ColumnIndex]>,
    properties: Arc<PlanProperties>,
    left_side: Arc<OnceCell<Arc<LeftSide>>>,
    metrics: ExecutionPlanMetricsSet,
}

impl SphericalJoinExec {
    pub(crate) fn try_new(
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        spec: Arc<SphericalJoinSpec>,
    ) -> Result<Self> {
        if matches!(spec.join_type, JoinType::LeftMark | JoinType::RightMark) {
            return internal_err!("a spherical join makes no mark column");
        }
        let (schema, columns) = build_join_schema(&left.schema(), &right.schema(), &spec.join_type);
        let emission =
            if gives_left_rows_last(spec.join_type) { EmissionType::Both } else { EmissionType::Incremental };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(schema)),
            Partitioning::UnknownPartitioning(right.output_partitioning().partition_count()),
            emission,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(SphericalJoinExec {
            left,
            right,
            spec,
            columns: columns.into(),
            properties: Arc::new(properties),
            left_side: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(crate) fn spec(&self) -> &SphericalJoinSpec {
        &self.spec
    }
}

/// True where left rows come out once all right rows are known.
fn gives_left_rows_last(join_type: JoinType) -> bool {
    matches!(join_type, JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti)
}

impl DisplayAs for SphericalJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let radius = &self.spec.radius_deg;
        write!(f, "SphericalJoinExec: {}, radius={radius} deg", self.spec.join_type)?;
        for (side, places) in [("left", &self.spec.left), ("right", &self.spec.right)] {
            if let Some(radius) = &places.radius {
                write!(f, " + {side} {radius}")?;
            }
        }
        write!(f, ", condition={}", self.spec.condition)
    }
}

impl ExecutionPlan for SphericalJoinExec {
    fn name(&self) -> &'static str {
        "SphericalJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition, Distribution::UnspecifiedDistribution])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let SphericalJoinSpec { condition, left, right, .. } = self.spec.as_ref();
        let places = [left, right].into_iter().flat_map(|p| [&p.ra, &p.dec].into_iter().chain(&p.radius));
        for expr in std::iter::once(condition.expression()).chain(places) {
            if visit(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    /// A fresh join: the left side that was read is that of the old children.
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([left, right]) = <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) else {
            return internal_err!("a spherical join has two children");
        };
        Ok(Arc::new(SphericalJoinExec::try_new(left, right, Arc::clone(&self.spec))?))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if self.left.output_partitioning().partition_count() != 1 {
            return internal_err!("the left side of a spherical join must have one partition");
        }
        let probing = Probing {
            spec: Arc::clone(&self.spec),
            schema: self.schema(),
            columns: Arc::clone(&self.columns),
            batch_rows: context.session_config().batch_size(),
            output: BatchCoalescer::new(self.schema(), context.session_config().batch_size()),
            right: self.right.execute(partition, Arc::clone(&context))?,
            current: None,
            last_left: None,
            ended: false,
            metrics: Metrics::new(&self.metrics, partition),
        };
        let (cell, left, spec) = (Arc::clone(&self.left_side), Arc::clone(&self.left), Arc::clone(&self.spec));
        let partitions = self.right.output_partitioning().partition_count();
        let rows = futures::stream::once(async move {
            let read = async {
                let rows = left.execute(0, Arc::clone(&context))?;
                LeftSide::read(rows, &spec, &context, partitions).await.map(Arc::new)
            };
            let left_side = cell.get_or_try_init(|| read).await?;
            Ok::<_, datafusion::error::DataFusionError>(probing.stream(Arc::clone(left_side)))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

#[derive(Debug)]
struct Metrics {
    /// Pairs of which the condition was asked.
    pairs_tested: Count,
    output_rows: Count,
}

impl Metrics {
    fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        Metrics {
            pairs_tested: MetricBuilder::new(set).counter("pairs_tested", partition),
            output_rows: MetricBuilder::new(set).output_rows(partition),
        }
    }
}

/// The left rows, arranged.
#[derive(Debug)]
struct LeftSide {
    rows: RecordBatch,
    zones: Zones,
    /// One bit for each row that has matched; empty where nobody will ask.
    matched: Vec<AtomicU64>,
    /// Partitions of the right side that have not ended.
    probing: AtomicUsize,
    _memory: MemoryReservation,
}

impl LeftSide {
    async fn read(
        mut input: SendableRecordBatchStream,
        spec: &SphericalJoinSpec,
        context: &TaskContext,
        partitions: usize,
    ) -> Result<LeftSide> {
        let memory = MemoryConsumer::new("SphericalJoinExec").register(context.memory_pool());
        let schema = input.schema();
        let (mut batches, mut count) = (Vec::new(), 0_usize);
        while let Some(batch) = input.next().await {
            let batch = batch?;
            count += batch.num_rows();
            // Twice: the batches are put together into one.
            memory.try_grow(2 * batch.get_array_memory_size() + Zones::bytes(batch.num_rows()))?;
            batches.push(batch);
        }
        if u32::try_from(count).is_err() {
            return exec_err!(
                "the left side of a join by separation has {count} rows; at most {} fit, put the smaller table first \
                 or restrict it",
                u32::MAX
            );
        }
        let rows = concat_batches(&schema, &batches)?;
        drop(batches);
        let zones = Zones::new(&places(&spec.left, &rows)?, spec.radius_deg);
        let words = if gives_left_rows_last(spec.join_type) { count.div_ceil(64) } else { 0 };
        Ok(LeftSide {
            rows,
            zones,
            matched: (0..words).map(|_| AtomicU64::new(0)).collect(),
            probing: AtomicUsize::new(partitions),
            _memory: memory,
        })
    }

    fn mark(&self, rows: &[u32]) {
        for row in rows {
            self.matched[*row as usize / 64].fetch_or(1 << (row % 64), Ordering::Relaxed);
        }
    }

    fn has_matched(&self, row: u32) -> bool {
        self.matched[row as usize / 64].load(Ordering::Relaxed) & (1 << (row % 64)) != 0
    }
}

/// Evaluates where the rows of a batch lie.
fn places(exprs: &PlaceExprs, batch: &RecordBatch) -> Result<Places> {
    let number = |expr: &Arc<dyn PhysicalExpr>| -> Result<Float64Array> {
        let array = expr.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(cast(&array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    };
    Ok(Places {
        ra: number(&exprs.ra)?,
        dec: number(&exprs.dec)?,
        radius: exprs.radius.as_ref().map(number).transpose()?,
    })
}

/// One partition of the right side on its way through the join.
struct Probing {
    spec: Arc<SphericalJoinSpec>,
    schema: SchemaRef,
    columns: Arc<[ColumnIndex]>,
    batch_rows: usize,
    output: BatchCoalescer,
    right: SendableRecordBatchStream,
    current: Option<RightBatch>,
    /// The next left row to give, once all right rows are known.
    last_left: Option<u32>,
    ended: bool,
    metrics: Metrics,
}

/// A right batch that is being looked up.
struct RightBatch {
    rows: RecordBatch,
    places: Places,
    /// The next row to look up.
    next: usize,
    /// The row whose search has not ended.
    search: Option<(u32, Search)>,
    /// The rows that have matched; empty where nobody will ask.
    matched: Vec<bool>,
}

impl Probing {
    fn stream(self, left: Arc<LeftSide>) -> impl futures::Stream<Item = Result<RecordBatch>> {
        futures::stream::try_unfold((self, left), |(mut probing, left)| async move {
            Ok(probing.next(&left).await?.map(|batch| (batch, (probing, left))))
        })
    }

    async fn next(&mut self, left: &LeftSide) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.output.next_completed_batch() {
                self.metrics.output_rows.add(batch.num_rows());
                return Ok(Some(batch));
            }
            if self.ended {
                return Ok(None);
            }
            if let Some(mut batch) = self.current.take() {
                if !self.probe(left, &mut batch)? {
                    self.current = Some(batch);
                }
            } else if let Some(from) = self.last_left {
                self.last_left = self.give_left(left, from)?;
                self.end_where_done()?;
            } else if let Some(rows) = self.right.try_next().await? {
                let places = places(&self.spec.right, &rows)?;
                let matched = vec![false; if self.asks_of_right() { rows.num_rows() } else { 0 }];
                self.current = Some(RightBatch { rows, places, next: 0, search: None, matched });
            } else {
                // The last partition to end knows all matches.
                let last = left.probing.fetch_sub(1, Ordering::AcqRel) == 1;
                self.last_left = (last && gives_left_rows_last(self.spec.join_type)).then_some(0);
                self.end_where_done()?;
            }
        }
    }

    fn end_where_done(&mut self) -> Result<()> {
        if self.last_left.is_none() {
            self.ended = true;
            self.output.finish_buffered_batch()?;
        }
        Ok(())
    }

    fn asks_of_right(&self) -> bool {
        matches!(self.spec.join_type, JoinType::Right | JoinType::Full | JoinType::RightSemi | JoinType::RightAnti)
    }

    /// Looks up right rows until there are pairs enough for a batch; true when the batch is done.
    fn probe(&mut self, left: &LeftSide, batch: &mut RightBatch) -> Result<bool> {
        let mut pairs = Pairs::default();
        let done = loop {
            let (row, mut search) = match batch.search.take() {
                Some(begun) => begun,
                None if batch.next == batch.rows.num_rows() => break true,
                None => {
                    batch.next += 1;
                    let Some(place) = batch.places.get(batch.next - 1) else { continue };
                    (batch.next as u32 - 1, left.zones.search(place))
                }
            };
            let done = search.next(&left.zones, &mut pairs.left, self.batch_rows);
            pairs.right.resize(pairs.left.len(), row);
            if !done {
                batch.search = Some((row, search));
                break false;
            }
        };
        self.metrics.pairs_tested.add(pairs.left.len());
        pairs.retain(&self.spec.condition, &left.rows, &batch.rows)?;
        if !left.matched.is_empty() {
            left.mark(&pairs.left);
        }
        if !batch.matched.is_empty() {
            pairs.right.iter().for_each(|row| batch.matched[*row as usize] = true);
        }
        if matches!(self.spec.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) {
            self.give(Some(&left.rows), Some(&batch.rows), Some(numbers(&pairs.left)), Some(numbers(&pairs.right)))?;
        }
        if done {
            self.give_right(batch)?;
        }
        Ok(done)
    }

    /// Right rows that come out for having matched, or for not having.
    fn give_right(&mut self, batch: &RightBatch) -> Result<()> {
        if batch.matched.is_empty() {
            return Ok(());
        }
        let wanted = self.spec.join_type == JoinType::RightSemi;
        let rows = (0_u32..).zip(&batch.matched).filter(|(_, matched)| **matched == wanted).map(|(row, _)| row);
        let rows: UInt32Array = rows.collect::<Vec<_>>().into();
        self.give(None, Some(&batch.rows), None, Some(rows))
    }

    /// Left rows that come out for having matched, or for not having: those of the next batch, and
    /// where to go on after it.
    fn give_left(&mut self, left: &LeftSide, from: u32) -> Result<Option<u32>> {
        let end = from.saturating_add(self.batch_rows as u32).min(left.rows.num_rows() as u32);
        let wanted = self.spec.join_type == JoinType::LeftSemi;
        let rows: Vec<u32> = (from..end).filter(|row| left.has_matched(*row) == wanted).collect();
        self.give(Some(&left.rows), None, Some(rows.into()), None)?;
        Ok((end < left.rows.num_rows() as u32).then_some(end))
    }

    fn give(
        &mut self,
        left: Option<&RecordBatch>,
        right: Option<&RecordBatch>,
        left_rows: Option<UInt32Array>,
        right_rows: Option<UInt32Array>,
    ) -> Result<()> {
        let count = left_rows.as_ref().or(right_rows.as_ref()).map_or(0, UInt32Array::len);
        if count > 0 {
            let rows = Rows { left, right };
            let batch = rows.take(&self.schema, &self.columns, &[left_rows, right_rows], count)?;
            self.output.push_batch(batch)?;
        }
        Ok(())
    }
}
