//! Whether a query is shuffled: from the rows and bytes that are expected to arrive where a merge
//! plan repartitions or sorts.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::prelude::SessionConfig;

use super::{ShuffleConfig, ShuffleMode};
use crate::plan::dispatch::ChunkDispatchExec;
use crate::plan::planner::DivideByCell;
use crate::spherical::SphericalJoinExec;

/// Where the rows of a query meet, and why.
#[derive(Debug)]
pub(crate) enum Choice {
    /// On the coordinator.
    Merged(String),
    /// On the workers.
    Shuffled(Shuffled),
}

/// How a query is to be shuffled.
#[derive(Debug)]
pub(crate) struct Shuffled {
    pub(crate) because: String,
    /// Joins sort and merge both sides instead of hashing one.
    pub(crate) sort_merge: bool,
}

/// Rows and bytes that are expected somewhere in a plan, rather too many than too few.
#[derive(Debug, Clone, Copy, Default)]
struct Volume {
    rows: u64,
    bytes: u64,
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "about {} rows, {} MiB", self.rows, self.bytes >> 20)
    }
}

/// Decides for a merge plan; `None` where there is nothing to decide, because no table is read.
pub(crate) fn choose(
    plan: &Arc<dyn ExecutionPlan>,
    mode: Option<ShuffleMode>,
    config: &ShuffleConfig,
) -> Result<Option<Choice>> {
    if !plan.exists(|node| Ok(node.is::<ChunkDispatchExec>()))? {
        return Ok(None);
    }
    let mode = mode.unwrap_or(config.mode);
    if mode == ShuffleMode::Never {
        return Ok(Some(Choice::Merged("shuffle is set to never".into())));
    }
    let mut greatest: Option<(Volume, &'static str)> = None;
    plan.apply(|node| {
        if let Some(what) = meeting(node.as_ref()) {
            let volume = arriving(node);
            if greatest.is_none_or(|(so_far, _)| (so_far.bytes, so_far.rows) < (volume.bytes, volume.rows)) {
                greatest = Some((volume, what));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let Some((volume, what)) = greatest else {
        return Ok(Some(Choice::Merged("nothing in it is repartitioned or sorted whole".into())));
    };
    let limits = format!("{} rows or {} MiB", config.rows, config.bytes >> 20);
    let big = volume.rows >= config.rows || volume.bytes >= config.bytes;
    let because = match (mode, big) {
        (ShuffleMode::Always, _) => format!("shuffle is set to always; {volume} meet in {what}"),
        (_, true) => format!("{volume} meet in {what}, and {limits} are too many for the coordinator"),
        (_, false) => {
            let because = format!("{volume} meet in {what}, less than {limits}");
            return Ok(Some(Choice::Merged(because)));
        }
    };
    let sort_merge = smaller_join_side(plan)?.is_some_and(|bytes| bytes >= config.sort_merge_bytes);
    Ok(Some(Choice::Shuffled(Shuffled { because, sort_merge })))
}

/// Where rows from all chunks meet in numbers, in words.
fn meeting(node: &dyn ExecutionPlan) -> Option<&'static str> {
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let meets = *aggregate.mode() != AggregateMode::Partial;
        return (meets && (holds_values(aggregate) || !aggregate.group_expr().is_empty()))
            .then_some("a GROUP BY or DISTINCT");
    }
    if node.is::<HashJoinExec>() || node.is::<SortMergeJoinExec>() {
        return Some("a join");
    }
    if node.downcast_ref::<SphericalJoinExec>().is_some_and(SphericalJoinExec::can_be_by_cell) {
        return Some("a join by separation");
    }
    if node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>() {
        return Some("a window");
    }
    if let Some(sort) = node.downcast_ref::<SortExec>() {
        return sort.fetch().is_none().then_some("a sort");
    }
    let repartition = node.downcast_ref::<RepartitionExec>()?;
    matches!(repartition.partitioning(), Partitioning::Hash(..)).then_some("a repartition")
}

/// True for an aggregate of all rows that keeps the values that are different.
fn holds_values(aggregate: &AggregateExec) -> bool {
    aggregate.group_expr().is_empty() && aggregate.aggr_expr().iter().any(|function| function.is_distinct())
}

/// What arrives at a node from all its inputs.
fn arriving(node: &Arc<dyn ExecutionPlan>) -> Volume {
    if node.downcast_ref::<AggregateExec>().is_some_and(holds_values) {
        // Each part is one row, of as many values as there were rows.
        let rows = rows_read(node);
        let width: u64 = node.children().into_iter().map(|input| row_bytes(input.as_ref())).sum();
        return Volume { rows, bytes: rows.saturating_mul(width) };
    }
    node.children().into_iter().map(given).fold(Volume::default(), |sum, volume| Volume {
        rows: sum.rows.saturating_add(volume.rows),
        bytes: sum.bytes.saturating_add(volume.bytes),
    })
}

/// What a node gives: by its statistics, else by what it is given.
fn given(node: &Arc<dyn ExecutionPlan>) -> Volume {
    let width = row_bytes(node.as_ref());
    // A node that cannot tell is asked no further: its inputs can.
    let statistics = StatisticsContext::new().compute(node.as_ref(), &StatisticsArgs::new()).ok();
    let known =
        statistics.and_then(|s| Some((*s.num_rows.get_value()? as u64, s.total_byte_size.get_value().copied())));
    if let Some((rows, bytes)) = known {
        return Volume { rows, bytes: bytes.map_or(rows.saturating_mul(width), |bytes| bytes as u64) };
    }
    let rows = match node.downcast_ref::<ChunkDispatchExec>() {
        Some(leaf) => leaf.rows_at_most(),
        None => arriving(node).rows,
    };
    Volume { rows, bytes: rows.saturating_mul(width) }
}

/// Rows of the tables below a node.
fn rows_read(node: &Arc<dyn ExecutionPlan>) -> u64 {
    match node.downcast_ref::<ChunkDispatchExec>() {
        Some(leaf) => leaf.rows_at_most(),
        None => node.children().into_iter().map(rows_read).fold(0, u64::saturating_add),
    }
}

/// A guess at the bytes of one row.
fn row_bytes(node: &dyn ExecutionPlan) -> u64 {
    let width = |field: &Arc<datafusion::arrow::datatypes::Field>| match field.data_type().primitive_width() {
        Some(width) => width as u64,
        // Strings and lists.
        None => 24,
    };
    node.schema().fields().iter().map(width).sum::<u64>().max(1)
}

/// The greatest of what would be kept in memory by the joins of a plan.
fn smaller_join_side(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<u64>> {
    let mut greatest = None;
    plan.apply(|node| {
        if node.is::<HashJoinExec>() || node.is::<SortMergeJoinExec>() {
            let smaller = node.children().into_iter().map(|side| given(side).bytes).min();
            greatest = greatest.max(smaller);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(greatest)
}

/// The configuration in which a query is planned that is to be shuffled.
pub(super) fn planning_config(config: SessionConfig, shuffled: &Shuffled, partitions: usize) -> SessionConfig {
    config
        .with_target_partitions(partitions.max(2))
        .with_extension(Arc::new(DivideByCell))
        // Filters that a join makes while it runs do not reach other processes.
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false)
        // Rows of different keys may run anywhere, and a side collected whole only on the coordinator.
        .set_usize("datafusion.optimizer.hash_join_single_partition_threshold", 0)
        .set_usize("datafusion.optimizer.hash_join_single_partition_threshold_rows", 0)
        .set_bool("datafusion.optimizer.enable_round_robin_repartition", false)
        .set_bool("datafusion.optimizer.prefer_hash_join", !shuffled.sort_merge)
}
