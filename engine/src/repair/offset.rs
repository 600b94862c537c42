//! `(SELECT … ORDER BY a OFFSET n)` in a sub-query without LIMIT: DataFusion drops the order, because
//! the rows of a sub-query have none, and then leaves out any *n* rows. Here the rows are numbered in
//! that order, and those from the next on are kept.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, Sort, ident, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::multiset::row_number;

/// Makes conditions on a row's number of offsets without a limit.
#[derive(Debug)]
pub(crate) struct OffsetRule;

impl AnalyzerRule for OffsetRule {
    fn name(&self) -> &'static str {
        "offset_in_sub_query"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        // The statement's own offset, whose rows come in order, is planned as it should be.
        if let LogicalPlan::Limit(Limit { skip, fetch: None, input }) = plan {
            let input = numbered_below(Arc::unwrap_or_clone(input))?;
            return Ok(LogicalPlan::Limit(Limit { skip, fetch: None, input: input.into() }));
        }
        numbered_below(plan)
    }
}

fn numbered_below(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Limit(limit) = &plan else { return Ok(Transformed::no(plan)) };
        if limit.fetch.is_some() {
            return Ok(Transformed::no(plan));
        }
        let SkipType::Literal(skip) = limit.get_skip_type()? else { return Ok(Transformed::no(plan)) };
        match after(&limit.input, skip)? {
            Some(rest) => Ok(Transformed::yes(rest)),
            None => Ok(Transformed::no(plan)),
        }
    })
    .data()
}

/// The rows of `plan` after the first `skip`, if it orders them.
fn after(plan: &LogicalPlan, skip: usize) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(Sort { expr, input, fetch: None }) => {
            let number = row_number().order_by(expr.clone()).build()?;
            let is_after = ident(number.schema_name().to_string()).gt(lit(skip as u64));
            let columns = input.schema().columns().into_iter().map(Expr::from);
            let rows = LogicalPlanBuilder::from(Arc::clone(input)).window([number])?;
            rows.filter(is_after)?.project(columns)?.build().map(Some)
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => match plan.inputs()[..] {
            [input] => match after(input, skip)? {
                Some(rest) => plan.with_new_exprs(plan.expressions(), vec![rest]).map(Some),
                None => Ok(None),
            },
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}
