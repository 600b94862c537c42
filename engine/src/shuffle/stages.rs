//! Cuts a merge plan into stages that run on the workers, and what is left for the coordinator.
//!
//! A stage has one task per worker, and each task reads its own part: the leaves read that worker's
//! chunks, a shuffle gives a task the keys that hash to it. So a node may run in a stage only if
//! what it gives for the whole is the union of what it gives for the parts: nodes that look at one
//! row or one partition at a time, and nodes whose rows that belong together were brought together
//! by a shuffle below. All others stay on the coordinator, above a gathering of what is below them.
//! The list of nodes is one of what is proved, not of what is forbidden.
//!
//! What is known of rows besides their types (that a column has one value only, or is equal to another)
//! does not travel with them from stage to stage. A node that finds its input in order by such knowledge
//! has it sorted in the stage.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{Distribution, OrderingRequirements, Partitioning};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    DistributedCodec, DistributedLeafExec, MaybeEncoded, NetworkCoalesceExec, NetworkShuffleExec,
};
use datafusion_proto::bytes::physical_plan_from_bytes_with_proto_converter;
use datafusion_proto::physical_plan::DeduplicatingProtoConverter;

use super::leaf::StageLeafExec;
use super::placement::Placement;
use crate::dispatch::{ChunkList, EncodedFragment};
use crate::plan::codec::encode_fragment;
use crate::plan::dispatch::ChunkDispatchExec;
use crate::plan::fold::holds_subquery;
use crate::repair::{ForgetExec, missing_order, sorted};
use crate::spherical::SphericalJoinExec;
use crate::spherical::cells::CellsExec;

/// The leaves of a merge plan, in an order that is the same for the same plan.
pub(super) fn leaves(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
    let mut found: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    plan.apply(|node| {
        if node.is::<ChunkDispatchExec>() && !found.iter().any(|known| Arc::ptr_eq(known, node)) {
            found.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The chunk lists of leaves.
pub(super) fn chunk_lists(leaves: &[Arc<dyn ExecutionPlan>]) -> Result<Vec<ChunkList>> {
    leaves
        .iter()
        .map(|leaf| match leaf.downcast_ref::<ChunkDispatchExec>() {
            Some(leaf) => leaf.chunk_list(),
            None => Err(internal_datafusion_err!("{} is no leaf", leaf.name())),
        })
        .collect()
}

/// A merge plan cut into stages.
#[derive(Debug)]
pub(super) struct Staged {
    /// The coordinator's part, with the boundaries of stages in it.
    pub(super) plan: Arc<dyn ExecutionPlan>,
    /// How many times rows are exchanged between workers.
    pub(super) shuffles: usize,
    /// How many full sorts run on workers.
    pub(super) sorts: usize,
}

/// Cuts `plan` so that as much as can be runs on the workers of `placement`.
///
/// # Errors
/// A node that cannot be taken apart; a fragment that cannot be encoded.
pub(super) fn cut(plan: &Arc<dyn ExecutionPlan>, placement: &Placement, partitions: usize) -> Result<Staged> {
    let leaves = leaves(plan)?;
    let numbers = leaves.iter().enumerate().map(|(number, leaf)| (address_of(leaf), number)).collect();
    let knife = Knife { placement, numbers, partitions: partitions.max(1) };
    let plan = knife.here(plan, true)?;
    let (mut shuffles, mut sorts) = (0, 0);
    plan.apply(|node| {
        shuffles += usize::from(node.is::<NetworkShuffleExec>());
        if node.is::<NetworkCoalesceExec>() || node.is::<NetworkShuffleExec>() {
            sorts += full_sorts(node)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(Staged { plan, shuffles, sorts })
}

/// The sorts without limit in the stage below a boundary.
fn full_sorts(boundary: &Arc<dyn ExecutionPlan>) -> Result<usize> {
    let mut sorts = 0;
    for stage in boundary.children() {
        stage.apply(|node| {
            if node.is::<NetworkShuffleExec>() {
                return Ok(TreeNodeRecursion::Jump);
            }
            sorts += usize::from(node.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_none()));
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(sorts)
}

fn address_of(node: &Arc<dyn ExecutionPlan>) -> usize {
    Arc::as_ptr(node).cast::<()>() as usize
}

/// A plan that a task runs.
struct Part {
    plan: Arc<dyn ExecutionPlan>,
    /// The same as the task knows it, which reads what other stages give without knowing how they made it.
    known: Arc<dyn ExecutionPlan>,
}

impl Part {
    /// The rows of each partition in an order that the task knows of.
    fn in_order(self, wanted: Option<OrderingRequirements>) -> Result<Part> {
        Ok(match missing_order(&self.known, wanted)? {
            Some(order) => Part { plan: sorted(order.clone(), self.plan), known: sorted(order, self.known) },
            None => self,
        })
    }
}

struct Knife<'a> {
    placement: &'a Placement,
    /// The leaves' places in the placement, by the address of their node.
    numbers: HashMap<usize, usize>,
    partitions: usize,
}

impl Knife<'_> {
    /// `node` as the coordinator runs it, with all below it that workers can do gathered from them.
    /// `free` where whoever reads it does not care into how many partitions it is divided.
    fn here(&self, node: &Arc<dyn ExecutionPlan>, free: bool) -> Result<Arc<dyn ExecutionPlan>> {
        if free
            && !node.is::<ChunkDispatchExec>()
            && let Some(stage) = self.there(node)?
        {
            return self.gathered(stage.plan);
        }
        let required = node.input_distribution_requirements().into_per_child();
        let mut children = Vec::with_capacity(required.len());
        for (child, required) in node.children().into_iter().zip(required) {
            if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>()
                && let Some(Part { plan: stage, .. }) = self.there(child)?
            {
                // Each worker merges its own partitions, so that one ordered stream comes from each.
                let stage = match stage.output_partitioning().partition_count() {
                    1 => stage,
                    _ => Arc::new(SortPreservingMergeExec::new(merge.expr().clone(), stage).with_fetch(merge.fetch())),
                };
                children.push(self.gathered(stage)?);
                continue;
            }
            let any = matches!(required, Distribution::UnspecifiedDistribution) && !node.is::<InterleaveExec>();
            children.push(self.here(child, any && (free || divides_anew(node)))?);
        }
        on(node, children)
    }

    /// `node` as a task of a stage runs it; `None` where it must not.
    fn there(&self, node: &Arc<dyn ExecutionPlan>) -> Result<Option<Part>> {
        if let Some(leaf) = node.downcast_ref::<ChunkDispatchExec>() {
            let plan = self.leaf(node, leaf)?;
            return Ok(Some(Part { known: Arc::clone(&plan), plan }));
        }
        if !divides(node) || holds_subquery(node)? {
            return Ok(None);
        }
        let (mut plans, mut known) = (Vec::new(), Vec::new());
        for (child, order) in node.children().into_iter().zip(node.required_input_ordering()) {
            let Some(part) = self.there(child)? else { return Ok(None) };
            let part = part.in_order(order)?;
            plans.push(part.plan);
            known.push(part.known);
        }
        let plan = on(node, plans)?;
        if is_shuffle(&plan) {
            let rows = EmptyExec::new(plan.schema());
            let known = Arc::new(RepartitionExec::try_new(Arc::new(rows), plan.output_partitioning().clone())?);
            return Ok(Some(Part { plan: Arc::new(NetworkShuffleExec::try_new(plan, self.placement.tasks)?), known }));
        }
        Ok(Some(Part { plan, known: on(node, known)? }))
    }

    fn leaf(&self, node: &Arc<dyn ExecutionPlan>, leaf: &ChunkDispatchExec) -> Result<Arc<dyn ExecutionPlan>> {
        let number = self.numbers.get(&address_of(node));
        let shares = number
            .and_then(|number| self.placement.leaves.get(*number))
            .ok_or_else(|| internal_datafusion_err!("a leaf without a placement"))?;
        let fragment: Arc<EncodedFragment> = Arc::new(encode_fragment(leaf.fragment())?);
        let tasks = shares.iter().map(|chunks| {
            let leaf = StageLeafExec::new(Arc::clone(&fragment), node.schema(), chunks.clone(), self.partitions);
            Arc::new(leaf) as Arc<dyn ExecutionPlan>
        });
        Ok(Arc::new(DistributedLeafExec::try_new(Arc::clone(node), tasks)?))
    }

    fn gathered(&self, stage: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(NetworkCoalesceExec::try_new(stage, self.placement.tasks, 1)?))
    }
}

fn on(node: &Arc<dyn ExecutionPlan>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
    if children.is_empty() {
        return Ok(Arc::clone(node));
    }
    Arc::clone(node).replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

fn is_shuffle(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<RepartitionExec>().is_some_and(|r| matches!(r.partitioning(), Partitioning::Hash(..)))
}

/// True for a node whose own partitions do not follow from those of its input.
fn divides_anew(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<CoalescePartitionsExec>() || node.is::<RepartitionExec>() || node.is::<SortPreservingMergeExec>()
}

/// True for a node whose answer is the union of its answers on parts, if rows that it wants together
/// in one partition are together in one part.
fn divides(node: &Arc<dyn ExecutionPlan>) -> bool {
    // The library takes any repartition at the head of a stage for the one of a shuffle: others stay
    // out of stages altogether.
    if let Some(repartition) = node.downcast_ref::<RepartitionExec>() {
        return is_shuffle(node) && !repartition.preserve_order();
    }
    // One row at a time.
    let by_row = node.is::<FilterExec>()
        || node.is::<ProjectionExec>()
        || node.is::<UnionExec>()
        || node.is::<CellsExec>()
        || node.is::<ForgetExec>()
        || node.is::<CooperativeExec>();
    // One partition at a time, with something above that makes one of the partitions' answers.
    let by_partition = node.is::<LocalLimitExec>()
        || node.downcast_ref::<SortExec>().is_some_and(SortExec::preserve_partitioning)
        || node.downcast_ref::<AggregateExec>().is_some_and(|a| *a.mode() == AggregateMode::Partial);
    // One key at a time.
    let by_key = node.is::<InterleaveExec>()
        || node.downcast_ref::<SphericalJoinExec>().is_some_and(|join| join.spec().by_cell)
        || node.is::<SortMergeJoinExec>()
        || node.is::<WindowAggExec>()
        || node.is::<BoundedWindowAggExec>()
        || node.downcast_ref::<AggregateExec>().is_some_and(|a| *a.mode() == AggregateMode::FinalPartitioned)
        || node.downcast_ref::<HashJoinExec>().is_some_and(|j| *j.partition_mode() == PartitionMode::Partitioned);
    if by_row || by_partition {
        return wants(node, |d| matches!(d, Distribution::UnspecifiedDistribution));
    }
    // An interleave asks for nothing: that all its inputs are hashed alike is how it came to be.
    let wants_keys = node.is::<InterleaveExec>() || wants(node, |d| matches!(d, Distribution::KeyPartitioned(_)));
    by_key && wants_keys && node.children().iter().all(|child| is_hashed(child))
}

/// True for rows that a hash repartition below has brought together by key. A single partition is
/// together as well, but only until it is divided among tasks.
fn is_hashed(node: &Arc<dyn ExecutionPlan>) -> bool {
    matches!(node.output_partitioning(), Partitioning::Hash(_, partitions) if *partitions > 1)
}

/// True where a node wants this of all its inputs.
fn wants(node: &Arc<dyn ExecutionPlan>, what: impl Fn(&Distribution) -> bool) -> bool {
    node.input_distribution_requirements().into_per_child().iter().all(what)
}

/// What a plan's text says, line by line. Some nodes print a column's metadata, which has no order, so
/// the words of a line are sorted.
fn words(plan: &Arc<dyn ExecutionPlan>) -> Vec<Vec<String>> {
    let text = DisplayableExecutionPlan::new(plan.as_ref()).indent(true).to_string();
    let line = |line: &str| {
        let mut words: Vec<String> = line.split([' ', ',', '{', '}']).map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    text.lines().map(line).collect()
}

/// Sends every stage there and back in this process and compares what comes out with what went in.
///
/// # Errors
/// A node or expression that cannot travel, or that comes out as another.
pub(super) fn check_travels(plan: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<()> {
    let codec = DistributedCodec::new_combined_with_user(context.session_config());
    plan.apply(|node| {
        if !node.is::<NetworkCoalesceExec>() {
            return Ok(TreeNodeRecursion::Continue);
        }
        let task = Arc::clone(node).transform_down(|node| match node.downcast_ref::<DistributedLeafExec>() {
            Some(leaf) => match leaf.variants().first() {
                Some(task) => Ok(Transformed::new(Arc::clone(task), true, TreeNodeRecursion::Jump)),
                None => Err(internal_datafusion_err!("a leaf without tasks")),
            },
            None => Ok(Transformed::no(node)),
        })?;
        let sent = task.data;
        let bytes = MaybeEncoded::Decoded(Arc::clone(&sent)).encode(context)?;
        let came =
            physical_plan_from_bytes_with_proto_converter(&bytes, context, &codec, &DeduplicatingProtoConverter {})?;
        if words(&sent) != words(&came) || sent.schema() != came.schema() {
            return Err(internal_datafusion_err!("a stage does not travel unchanged"));
        }
        Ok(TreeNodeRecursion::Jump)
    })?;
    Ok(())
}
