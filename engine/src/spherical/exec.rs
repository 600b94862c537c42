//! The operator that joins rows that lie near each other.
//!
//! One side is read whole and arranged in zones ([`super::zones`]); each row of the other side, the
//! probing one, then looks up the arranged rows near it, and the condition of the join is asked of
//! those pairs. All partitions of the probing side share the arranged one, which is the smaller.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinSide, JoinType, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter, build_join_schema};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::{EmbeddedProjection, ProjectionExec, try_embed_projection};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use super::arranged::Arranged;
use super::best::Best;
use super::probe::Probing;

/// A side of which few pairs are wanted is arranged where the other has more than so many times its rows.
const MUCH_SMALLER: usize = 64;

/// The place of a side's rows, and what each adds to the radius; all in degrees, as Float64.
#[derive(Debug, Clone)]
pub(crate) struct PlaceExprs {
    pub(crate) ra: Arc<dyn PhysicalExpr>,
    pub(crate) dec: Arc<dyn PhysicalExpr>,
    pub(crate) radius: Option<Arc<dyn PhysicalExpr>>,
}

/// What is left of a condition for pairs that are within the radius for certain.
#[derive(Debug, Clone)]
pub(crate) enum Residual {
    /// Nothing follows from being near: the whole condition has to be asked.
    Unknown,
    /// They match.
    Nothing,
    /// They match if this is true.
    Condition(JoinFilter),
}

/// What a spherical join does; all of it travels to the worker.
#[derive(Debug, Clone)]
pub(crate) struct SphericalJoinSpec {
    pub(crate) join_type: JoinType,
    /// The whole condition, of which the nearness is a part.
    pub(crate) condition: JoinFilter,
    pub(crate) residual: Residual,
    pub(crate) left: PlaceExprs,
    pub(crate) right: PlaceExprs,
    /// The part of the radius that all pairs have, in degrees.
    pub(crate) radius_deg: f64,
    /// The side that is arranged.
    pub(crate) arranged: JoinSide,
    /// The only pairs that are wanted of each row of the other side.
    pub(crate) best: Option<Best>,
    /// The columns that come out, of those of the join.
    pub(crate) projection: Option<Vec<usize>>,
}

/// The same in terms of the arranged side, which is the left one here, and the probing side.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) join_type: JoinType,
    pub(super) condition: JoinFilter,
    pub(super) residual: Residual,
    pub(super) arranged: PlaceExprs,
    pub(super) probing: PlaceExprs,
    pub(super) radius_deg: f64,
    pub(super) best: Option<Best>,
    pub(super) schema: SchemaRef,
    /// Where the columns of the output come from.
    pub(super) columns: Vec<ColumnIndex>,
}

impl Work {
    fn of(spec: &SphericalJoinSpec, schema: SchemaRef, columns: Vec<ColumnIndex>) -> Work {
        let SphericalJoinSpec { join_type, condition, residual, left, right, radius_deg, arranged, best, .. } =
            spec.clone();
        let as_is =
            Work { join_type, condition, residual, arranged: left, probing: right, radius_deg, best, schema, columns };
        if arranged == JoinSide::Left {
            return as_is;
        }
        Work {
            join_type: join_type.swap(),
            condition: turned(&as_is.condition),
            residual: match &as_is.residual {
                Residual::Condition(condition) => Residual::Condition(turned(condition)),
                other => other.clone(),
            },
            arranged: as_is.probing,
            probing: as_is.arranged,
            best: as_is
                .best
                .map(|best| Best { order: best.order.iter().map(|(key, way)| (turned(key), *way)).collect(), ..best }),
            columns: turned_columns(&as_is.columns),
            ..as_is
        }
    }

    /// True where arranged rows come out once all probing rows are known.
    pub(super) fn gives_arranged_last(&self) -> bool {
        matches!(self.join_type, JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti)
    }

    /// True where probing rows come out once all pairs of their batch are known.
    pub(super) fn gives_probing_last(&self) -> bool {
        matches!(self.join_type, JoinType::Right | JoinType::Full | JoinType::RightSemi | JoinType::RightAnti)
    }

    pub(super) fn gives_pairs(&self) -> bool {
        matches!(self.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
    }
}

/// An expression of pairs whose sides have changed places.
fn turned(expr: &JoinFilter) -> JoinFilter {
    let columns = turned_columns(expr.column_indices());
    JoinFilter::new(Arc::clone(expr.expression()), columns, Arc::clone(expr.schema()))
}

fn turned_columns(columns: &[ColumnIndex]) -> Vec<ColumnIndex> {
    columns.iter().map(|column| ColumnIndex { index: column.index, side: column.side.negate() }).collect()
}

/// See the module. Its output has no order.
#[derive(Debug)]
pub(crate) struct SphericalJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    spec: Arc<SphericalJoinSpec>,
    work: Arc<Work>,
    properties: Arc<PlanProperties>,
    arranged: Arc<OnceCell<Arc<Arranged>>>,
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
        let (schema, columns) = match &spec.projection {
            None => (schema, columns),
            Some(projection) => {
                (schema.project(projection)?, projection.iter().map(|at| columns[*at].clone()).collect())
            }
        };
        let schema = Arc::new(schema);
        let work = Work::of(&spec, Arc::clone(&schema), columns);
        let probing = if spec.arranged == JoinSide::Left { &right } else { &left };
        let emission = if work.gives_arranged_last() { EmissionType::Both } else { EmissionType::Incremental };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(probing.output_partitioning().partition_count()),
            emission,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(SphericalJoinExec {
            left,
            right,
            spec,
            work: Arc::new(work),
            properties: Arc::new(properties),
            arranged: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(crate) fn spec(&self) -> &SphericalJoinSpec {
        &self.spec
    }

    /// A join that arranges the other side, where that is known to have fewer rows. Where only the first pairs
    /// of each row of a side are wanted, that side stays the probing one, unless it is so much smaller that holding
    /// the other costs more than pairs that nobody wants.
    pub(crate) fn with_smaller_side_arranged(&self) -> Result<Option<Self>> {
        let rows = |side: &Arc<dyn ExecutionPlan>| -> Result<Option<usize>> {
            let known = StatisticsContext::new().compute(side.as_ref(), &StatisticsArgs::new())?;
            Ok(known.num_rows.get_value().copied())
        };
        let (arranged, probing) = self.sides();
        let times = if self.spec.best.is_some() { MUCH_SMALLER } else { 1 };
        let fewer = |arranged, probing: usize| probing.saturating_mul(times) < arranged;
        if !matches!((rows(arranged)?, rows(probing)?), (Some(arranged), Some(probing)) if fewer(arranged, probing)) {
            return Ok(None);
        }
        let arranged = self.spec.arranged.negate();
        let spec = SphericalJoinSpec { arranged, best: None, ..self.spec.as_ref().clone() };
        let one: Arc<dyn ExecutionPlan> = match probing.output_partitioning().partition_count() {
            1 => Arc::clone(probing),
            _ => Arc::new(CoalescePartitionsExec::new(Arc::clone(probing))),
        };
        let (left, right) = match spec.arranged {
            JoinSide::Left => (&one, &self.right),
            _ => (&self.left, &one),
        };
        SphericalJoinExec::try_new(Arc::clone(left), Arc::clone(right), Arc::new(spec)).map(Some)
    }

    /// The arranged side and the probing one.
    fn sides(&self) -> (&Arc<dyn ExecutionPlan>, &Arc<dyn ExecutionPlan>) {
        match self.spec.arranged {
            JoinSide::Left => (&self.left, &self.right),
            _ => (&self.right, &self.left),
        }
    }
}

impl EmbeddedProjection for SphericalJoinExec {
    fn with_projection(&self, projection: Option<Vec<usize>>) -> Result<Self> {
        // In terms of what comes out now, which may be a part of the join's columns already.
        let projection = match (projection, &self.spec.projection) {
            (Some(wanted), Some(now)) => Some(wanted.into_iter().map(|at| now[at]).collect()),
            (Some(wanted), None) => Some(wanted),
            (None, now) => now.clone(),
        };
        let spec = SphericalJoinSpec { projection, ..self.spec.as_ref().clone() };
        SphericalJoinExec::try_new(Arc::clone(&self.left), Arc::clone(&self.right), Arc::new(spec))
    }
}

impl DisplayAs for SphericalJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let SphericalJoinSpec { join_type, radius_deg, arranged, left, right, best, condition, .. } = &*self.spec;
        let (arranged, probing) = match arranged {
            JoinSide::Left => ("left", "right"),
            _ => ("right", "left"),
        };
        write!(f, "SphericalJoinExec: {join_type}, radius={radius_deg} deg")?;
        for (side, places) in [("left", left), ("right", right)] {
            if let Some(radius) = &places.radius {
                write!(f, " + {side} {radius}")?;
            }
        }
        write!(f, ", arranged={arranged}")?;
        if let Some(best) = best {
            write!(f, ", of each {probing} row the first {best}")?;
        }
        if self.spec.projection.is_some() {
            let columns: Vec<&str> = self.work.schema.fields().iter().map(|field| field.name().as_str()).collect();
            write!(f, ", columns=[{}]", columns.join(", "))?;
        }
        write!(f, ", condition={condition}")
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
        let (one, any) = (Distribution::SinglePartition, Distribution::UnspecifiedDistribution);
        InputDistributionRequirements::new(match self.spec.arranged {
            JoinSide::Left => vec![one, any],
            _ => vec![any, one],
        })
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let SphericalJoinSpec { condition, left, right, best, .. } = self.spec.as_ref();
        let places = [left, right].into_iter().flat_map(|p| [&p.ra, &p.dec].into_iter().chain(&p.radius));
        let order = best.iter().flat_map(|best| &best.order).map(|(key, _)| key.expression());
        // What is left of the condition is part of it.
        for expr in std::iter::once(condition.expression()).chain(places).chain(order) {
            if visit(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    /// A fresh join: the side that was arranged is that of the old children.
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([left, right]) = <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) else {
            return internal_err!("a spherical join has two children");
        };
        Ok(Arc::new(SphericalJoinExec::try_new(left, right, Arc::clone(&self.spec))?))
    }

    /// Columns that nobody reads are not put together.
    fn try_swapping_with_projection(&self, projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        try_embed_projection(projection, self)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (arranged, probing) = self.sides();
        if arranged.output_partitioning().partition_count() != 1 {
            return internal_err!("the arranged side of a spherical join must have one partition");
        }
        let partitions = probing.output_partitioning().partition_count();
        let batch_rows = context.session_config().batch_size();
        let input = probing.execute(partition, Arc::clone(&context))?;
        let probing = Probing::new(&self.work, input, batch_rows, &self.metrics, partition)?;
        let (cell, arranged, work) = (Arc::clone(&self.arranged), Arc::clone(arranged), Arc::clone(&self.work));
        let rows = futures::stream::once(async move {
            let read = async {
                let rows = arranged.execute(0, Arc::clone(&context))?;
                Arranged::read(rows, &work, &context, partitions).await.map(Arc::new)
            };
            let arranged = cell.get_or_try_init(|| read).await?;
            Ok::<_, datafusion::error::DataFusionError>(probing.stream(Arc::clone(arranged)))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
