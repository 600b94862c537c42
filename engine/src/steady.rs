//! What gives the same whenever it is computed on the same rows, so that it may be computed again, elsewhere,
//! or more often than it is written.

use datafusion::logical_expr::Expr;

use crate::tables::contains_subquery;

/// True of an expression whose value follows from the columns that it names.
pub(crate) fn is_steady(expr: &Expr) -> bool {
    !expr.is_volatile() && !contains_subquery(expr)
}

/// True of an aggregate whose value does not depend on the order of its rows, but for the last digits;
/// others may take any of them.
pub(crate) fn is_plain_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_plain_aggregate(&alias.expr),
        Expr::AggregateFunction(function) => matches!(function.func.name(), "count" | "sum" | "min" | "max" | "avg"),
        _ => false,
    }
}
