//! `x = ANY (SELECT y …)`: the sub-query's column gets a name of its own.
//!
//! DataFusion writes the comparison as EXISTS with a condition on the sub-query's column. Where the query
//! around reads the same table the two columns have one name, and a column is compared with itself.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::SetComparison;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Subquery};
use datafusion::optimizer::AnalyzerRule;

/// Renames the columns that ANY and ALL compare with.
#[derive(Debug)]
pub(crate) struct SetComparisonRule;

impl AnalyzerRule for SetComparisonRule {
    fn name(&self) -> &'static str {
        "set_comparison_names"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = AliasGenerator::new();
        plan.transform_up_with_subqueries(|plan| {
            plan.map_expressions(|expr| {
                expr.transform_up(|part| match part {
                    Expr::SetComparison(found) => under_own_name(found, &names).map(Transformed::yes),
                    other => Ok(Transformed::no(other)),
                })
            })
        })
        .data()
    }
}

fn under_own_name(found: SetComparison, names: &AliasGenerator) -> Result<Expr> {
    let rows = found.subquery.subquery.as_ref().clone();
    let (qualifier, field) = rows.schema().qualified_field(0);
    let renamed = Expr::Column(Column::from((qualifier, field))).alias(names.next("set_comparison"));
    let rows = LogicalPlanBuilder::from(rows).project([renamed])?.build()?;
    let subquery = Subquery { subquery: Arc::new(rows), ..found.subquery };
    Ok(Expr::SetComparison(SetComparison { subquery, ..found }))
}
