//! A condition without columns, such as a comparison of a scalar sub-query, is pushed below any
//! aggregate. One without groups has a row for no rows as well, so that the condition would no longer
//! take that row away.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rule that pushes filters down, but not below an aggregate that has totals.
#[derive(Debug)]
pub(super) struct KeepAboveTotals(pub(super) Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for KeepAboveTotals {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if filters_totals(&plan) {
            return Ok(Transformed::no(plan));
        }
        self.0.rewrite(plan, config)
    }
}

/// True of a filter on an aggregate that gives a row for no rows: without groups, or with an empty
/// one among its grouping sets.
fn filters_totals(plan: &LogicalPlan) -> bool {
    let mut plan = plan;
    let mut filtered = false;
    while let LogicalPlan::Filter(filter) = plan {
        filtered = true;
        plan = &filter.input;
    }
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let grouping_sets = matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]);
            filtered && (aggregate.group_expr.is_empty() || grouping_sets)
        }
        _ => false,
    }
}
