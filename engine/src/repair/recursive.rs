//! The two parts of a recursive WITH need columns with the same notes: DataFusion compares units, roles
//! and all else that a column's field carries, and finds that a column of a table is not one that was
//! computed. Here neither part has any.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, Result};
use datafusion::config::ConfigOptions;
use datafusion::functions::core::greatest;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, RecursiveQuery};
use datafusion::optimizer::AnalyzerRule;

/// Takes the notes off the columns of recursive queries.
#[derive(Debug)]
pub(super) struct RecursiveRule;

impl AnalyzerRule for RecursiveRule {
    fn name(&self) -> &'static str {
        "recursive_without_notes"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let made = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::RecursiveQuery(query) => {
                let first = without_notes(&query.static_term)?;
                let next = without_notes(&query.recursive_term)?;
                let query = RecursiveQuery::try_new(query.name, Arc::new(first), Arc::new(next), query.is_distinct)?;
                Ok(Transformed::yes(LogicalPlan::RecursiveQuery(query)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        if !made.transformed {
            return Ok(made.data);
        }
        // What is above passes the columns on as they are now.
        made.data.transform_up_with_subqueries(|plan| plan.recompute_schema().map(Transformed::yes)).data()
    }
}

fn without_notes(rows: &Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let columns = rows.schema().iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::from((qualifier, field)));
        if field.metadata().is_empty() {
            return column;
        }
        // The greatest of one value is that value, and a function's result has no notes.
        greatest().call(vec![column]).alias_qualified(qualifier.cloned(), field.name())
    });
    LogicalPlanBuilder::from(Arc::clone(rows)).project(columns)?.build()
}
