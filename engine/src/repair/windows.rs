//! Windows that are divided or ordered by something else, and keep their names.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::expr_rewriter::NamePreserver;

/// The expressions of a window node, with the parameters of each function changed.
pub(super) fn changed(windows: Vec<Expr>, mut change: impl FnMut(&mut WindowFunctionParams)) -> Result<Vec<Expr>> {
    let preserved = NamePreserver::new_for_projection();
    let changed = windows.into_iter().map(|expr| {
        let name = preserved.save(&expr);
        let expr = expr.transform_up(|e| {
            let Expr::WindowFunction(mut function) = e else { return Ok(Transformed::no(e)) };
            change(&mut function.params);
            Ok(Transformed::yes(Expr::WindowFunction(function)))
        })?;
        Ok(name.restore(expr.data))
    });
    changed.collect()
}
