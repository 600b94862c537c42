//! Bounds constants in a plan: a constant is written out once for every row of a batch.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::EngineError;

/// Bytes that a constant may take when written out for a batch.
const CONSTANT_BYTES_LIMIT: usize = 1 << 30;
/// Rows of a batch, as DataFusion makes them by default.
const BATCH_ROWS: usize = 8_192;

/// Refuses an optimized plan with a constant too large to stand beside its rows: 128 KiB beside
/// many rows, in proportion more beside few. To be called after the optimizer, which folds calls
/// such as `repeat('x', 1000000)` to constants.
pub fn check_constants(plan: &LogicalPlan) -> Result<(), EngineError> {
    let mut largest = 0;
    plan.apply_with_subqueries(|node| {
        let rows = node
            .inputs()
            .iter()
            .map(|input| input.max_rows().unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS))
            .max()
            .unwrap_or(BATCH_ROWS);
        node.apply_expressions(|expr| largest_constant(expr, rows, &mut largest))
    })
    .map_err(|error: DataFusionError| EngineError::Internal(error.to_string()))?;
    if largest > CONSTANT_BYTES_LIMIT {
        return Err(EngineError::ResourceExhausted(format!(
            "a constant of the query would take {largest} bytes beside a batch of rows; at most {CONSTANT_BYTES_LIMIT} \
             are made"
        )));
    }
    Ok(())
}

fn largest_constant(expr: &Expr, rows: usize, largest: &mut usize) -> Result<TreeNodeRecursion, DataFusionError> {
    use datafusion::common::tree_node::TreeNode;
    expr.apply(|part| {
        if let Expr::Literal(value, _) = part {
            *largest = (*largest).max(value.size().saturating_mul(rows));
        }
        Ok(TreeNodeRecursion::Continue)
    })
}
