//! EXISTS is a condition to DataFusion: it makes joins of one in a filter, and has no plan for one in
//! a SELECT list, a group, an aggregate or a window. There it is a value; so the expressions
//! that hold one are shown to its own rule as if they were conditions, and taken back with the columns
//! that the rule's joins give for each EXISTS.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rule that makes joins of EXISTS, also of one that is a value.
#[derive(Debug)]
pub(super) struct JoinForValue(pub(super) Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for JoinForValue {
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
        let gives_values =
            matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_));
        if gives_values && plan.expressions().iter().any(holds_exists) {
            return self.joined(plan, config);
        }
        self.0.rewrite(plan, config)
    }
}

impl JoinForValue {
    fn joined(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let [input] = plan.inputs()[..] else { return internal_err!("{} has not one input", plan.display()) };
        let mut expressions = plan.expressions();
        let conditions: Vec<Expr> = expressions.iter().filter(|e| holds_exists(e)).map(as_condition).collect();
        let asked = conditions.len();
        let Some(condition) = conjunction(conditions) else { return Ok(Transformed::no(plan)) };
        let filter = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(input.clone()))?);
        // Above the joins the rule puts what it made of the filter, and a projection to its columns.
        let made = self.0.rewrite(filter, config)?.data;
        let LogicalPlan::Projection(made) = made else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Filter(made) = Arc::unwrap_or_clone(made.input) else {
            return internal_err!("a filter without its conditions");
        };
        let values: Vec<Expr> = split_conjunction_owned(made.predicate).into_iter().filter_map(of_condition).collect();
        if values.len() != asked {
            return internal_err!("{} conditions came of {asked}", values.len());
        }
        let names = NamePreserver::new(&plan);
        let places = expressions.iter_mut().filter(|e| holds_exists(e));
        for (place, value) in places.zip(values) {
            let name = names.save(place);
            *place = match place {
                Expr::Alias(alias) => {
                    Expr::Alias(datafusion::logical_expr::expr::Alias { expr: Box::new(value), ..alias.clone() })
                }
                _ => name.restore(value),
            };
        }
        let before = plan.schema().columns();
        let plan = plan.with_new_exprs(expressions, vec![Arc::unwrap_or_clone(made.input)])?;
        if plan.schema().fields().len() == before.len() {
            return Ok(Transformed::yes(plan));
        }
        let only = before.into_iter().map(Expr::from);
        Ok(Transformed::yes(LogicalPlanBuilder::from(plan).project(only)?.build()?))
    }
}

fn holds_exists(expr: &Expr) -> bool {
    // The closure never fails.
    expr.exists(|e| Ok(matches!(e, Expr::Exists(_)))).unwrap_or(false)
}

/// A condition of which the value can be had again, and which no rule takes for an EXISTS by itself.
fn as_condition(value: &Expr) -> Expr {
    Expr::IsNull(Box::new(value.clone().unalias()))
}

fn of_condition(condition: Expr) -> Option<Expr> {
    match condition {
        Expr::IsNull(value) => Some(*value),
        _ => None,
    }
}
