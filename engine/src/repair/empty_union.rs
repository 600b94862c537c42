//! The columns of a UNION have the names of its first part. DataFusion drops parts without rows, and
//! where the first is dropped it looks for its names in what is left. Here they are put there first.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Union};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rule that drops what is empty, but not the names of a union.
#[derive(Debug)]
pub(super) struct KeepNames(pub(super) Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for KeepNames {
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
        let LogicalPlan::Union(union) = plan else { return self.0.rewrite(plan, config) };
        let is_first_empty = union.inputs.first().is_some_and(|input| is_empty(input));
        let mut left: Vec<Arc<LogicalPlan>> = union.inputs.iter().filter(|input| !is_empty(input)).cloned().collect();
        let Some(first) = left.first().filter(|_| is_first_empty) else {
            return self.0.rewrite(LogicalPlan::Union(union), config);
        };
        let columns = first.schema().iter().zip(union.schema.iter()).map(|(column, (qualifier, field))| {
            Expr::Column(Column::from(column)).alias_qualified(qualifier.cloned(), field.name())
        });
        let renamed = LogicalPlanBuilder::from(Arc::clone(first)).project(columns)?.build()?;
        if left.len() == 1 {
            return Ok(Transformed::yes(renamed));
        }
        left[0] = Arc::new(renamed);
        Ok(Transformed::yes(LogicalPlan::Union(Union { inputs: left, schema: union.schema })))
    }
}

fn is_empty(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row)
}
