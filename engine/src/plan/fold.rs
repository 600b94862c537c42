//! Moves work from the merge plan into the fragment below each leaf.
//!
//! Runs first of all physical rules, on the plan as the planner made it, when each node still
//! stands directly on its input. Filter, projection and partial aggregation move down; TopK and
//! limit are copied, because each chunk's best rows are still only candidates.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::dispatch::ChunkDispatchExec;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct FoldIntoFragment;

impl PhysicalOptimizerRule for FoldIntoFragment {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(fold).map(|folded| folded.data)
    }

    fn name(&self) -> &str {
        "FoldIntoFragment"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn fold(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let children = node.children();
    let [child] = children[..] else { return Ok(Transformed::no(node)) };
    let Some(leaf) = child.downcast_ref::<ChunkDispatchExec>() else { return Ok(Transformed::no(node)) };
    if holds_subquery(&node)? {
        return Ok(Transformed::no(node));
    }
    if moves(&node) {
        let fragment = on(Arc::clone(&node), Arc::clone(leaf.fragment()))?;
        return Ok(Transformed::yes(Arc::new(leaf.with_fragment(fragment))));
    }
    let Some(copy) = copied(&node, leaf.fragment())? else { return Ok(Transformed::no(node)) };
    let leaf: Arc<dyn ExecutionPlan> = Arc::new(leaf.with_fragment(copy));
    Ok(Transformed::yes(on(node, leaf)?))
}

/// True for a node that needs the value of a sub-query, which is computed above all leaves.
pub(crate) fn holds_subquery(node: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(&mut |expr| {
        found |= expr.exists(|e| Ok(e.downcast_ref::<ScalarSubqueryExpr>().is_some()))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The node on another input.
fn on(node: Arc<dyn ExecutionPlan>, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    node.replace_children(vec![input], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// True for a node that does all its work beside the chunk.
fn moves(node: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        // A grand total among grouping sets comes from the partial aggregate, and one that runs on no
        // chunk gives none.
        return *aggregate.mode() == AggregateMode::Partial && aggregate.group_expr().is_single();
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        return filter.fetch().is_none();
    }
    node.downcast_ref::<ProjectionExec>().is_some()
}

/// The part of a node that each chunk can do in advance, when the node itself must stay.
fn copied(node: &Arc<dyn ExecutionPlan>, fragment: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(sort) = node.downcast_ref::<SortExec>() {
        return match sort.fetch() {
            Some(fetch) => {
                let top = SortExec::new(sort.expr().clone(), Arc::clone(fragment)).with_fetch(Some(fetch));
                Ok(Some(Arc::new(top)))
            }
            None => Ok(None),
        };
    }
    let fetch = if let Some(limit) = node.downcast_ref::<GlobalLimitExec>() {
        limit.fetch().map(|fetch| fetch.saturating_add(limit.skip()))
    } else {
        node.downcast_ref::<LocalLimitExec>().map(LocalLimitExec::fetch)
    };
    Ok(fetch.map(|fetch| Arc::new(LocalLimitExec::new(Arc::clone(fragment), fetch)) as Arc<dyn ExecutionPlan>))
}
