//! Rows that an operator wants in order, and that have lost it: DataFusion drops a sort that a constant
//! column makes needless, and then forgets the constant, or what it knew of the parts of a UNION. It finds
//! that itself and refuses the plan. Here they are sorted once more.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::{LexOrdering, OrderingRequirements};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// Sorts what is not in the order that is asked of it.
#[derive(Debug)]
pub(super) struct MissingOrderRule;

impl PhysicalOptimizerRule for MissingOrderRule {
    fn name(&self) -> &'static str {
        "missing_order"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let wanted = node.required_input_ordering();
            let missing = node.children().into_iter().zip(wanted).map(|(child, wanted)| missing_order(child, wanted));
            let missing = missing.collect::<Result<Vec<_>>>()?;
            if missing.iter().all(Option::is_none) {
                return Ok(Transformed::no(node));
            }
            let sorted = node.children().into_iter().zip(missing).map(|(child, missing)| match missing {
                Some(order) => sorted(order, Arc::clone(child)),
                None => Arc::clone(child),
            });
            let sorted = sorted.collect();
            let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Transformed::yes(node.replace_children(sorted, recompute)?))
        })
        .data()
    }
}

/// The order that is wanted of rows which are not known to have it. Of several the first is what the node
/// relies on once it is made anew.
pub(crate) fn missing_order(
    rows: &Arc<dyn ExecutionPlan>,
    wanted: Option<OrderingRequirements>,
) -> Result<Option<LexOrdering>> {
    let Some(order) = wanted.map(OrderingRequirements::into_single) else { return Ok(None) };
    let has = rows.equivalence_properties().ordering_satisfy_requirement(order.clone())?;
    Ok((!has).then(|| LexOrdering::from(order)))
}

/// The rows of each partition in an order.
pub(crate) fn sorted(order: LexOrdering, rows: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(SortExec::new(order, rows).with_preserve_partitioning(true))
}
