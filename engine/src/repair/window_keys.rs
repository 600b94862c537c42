//! `PARTITION BY abs(x) < 7`: DataFusion sorts rows by the keys of a window and then does not recognize
//! the order where a key is an expression of certain kinds. Here such a key is a column, computed below.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Window};
use datafusion::optimizer::AnalyzerRule;

/// Computes what windows are divided by before them.
#[derive(Debug)]
pub(super) struct WindowKeysRule;

impl AnalyzerRule for WindowKeysRule {
    fn name(&self) -> &'static str {
        "window_keys_are_columns"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = AliasGenerator::new();
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Window(window) if window.window_expr.iter().any(has_computed_key) => {
                with_columns(window, &names).map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

fn has_computed_key(window: &Expr) -> bool {
    match window {
        Expr::Alias(alias) => has_computed_key(&alias.expr),
        Expr::WindowFunction(function) => function.params.partition_by.iter().any(is_computed),
        _ => false,
    }
}

fn is_computed(key: &Expr) -> bool {
    !matches!(key, Expr::Column(_) | Expr::Literal(..) | Expr::OuterReferenceColumn(..))
}

fn with_columns(window: Window, names: &AliasGenerator) -> Result<LogicalPlan> {
    let given: Vec<Expr> = window.schema.columns().into_iter().map(Expr::from).collect();
    let preserved = NamePreserver::new_for_projection();
    let mut below: Vec<Expr> = window.input.schema().columns().into_iter().map(Expr::from).collect();
    let mut made: Vec<(Expr, Column)> = Vec::new();
    let mut windows = Vec::with_capacity(window.window_expr.len());
    for expr in window.window_expr {
        let name = preserved.save(&expr);
        let expr = expr.transform_up(|e| {
            let Expr::WindowFunction(mut function) = e else { return Ok(Transformed::no(e)) };
            for key in function.params.partition_by.iter_mut().filter(|key| is_computed(key)) {
                let column = match made.iter().find(|(known, _)| known == key) {
                    Some((_, column)) => column.clone(),
                    None => {
                        let column = Column::new_unqualified(names.next("window_key"));
                        below.push(key.clone().alias(&column.name));
                        made.push((key.clone(), column.clone()));
                        column
                    }
                };
                *key = Expr::Column(column);
            }
            Ok(Transformed::yes(Expr::WindowFunction(function)))
        })?;
        windows.push(name.restore(expr.data));
    }
    let input = LogicalPlanBuilder::from(Arc::unwrap_or_clone(window.input)).project(below)?.build()?;
    let window = LogicalPlan::Window(Window::try_new(windows, Arc::new(input))?);
    LogicalPlanBuilder::from(window).project(given)?.build()
}
