//! LIMIT and OFFSET that DataFusion takes for less than they say.
//!
//! - `(SELECT … ORDER BY a OFFSET n)` in a sub-query without LIMIT: it drops the order, because the rows of a
//!   sub-query have none, and then leaves out any *n* rows.
//! - In a sub-query that names columns of the query around it, such as `(SELECT x FROM u WHERE u.k = t.k ORDER BY y
//!   LIMIT 1)`: it has no plan, or forgets the offset.
//!
//! Here the rows are numbered in that order, and those in the range are kept; [`super::each`] then sees to
//! it that they are numbered for each outer row.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, Sort, SortExpr, Subquery,
    ident, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::each::names_outer;
use super::multiset::row_number;

/// Makes conditions on a row's number of such limits.
#[derive(Debug)]
pub(crate) struct OffsetRule;

impl AnalyzerRule for OffsetRule {
    fn name(&self) -> &'static str {
        "limits_in_sub_queries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan =
            plan.transform_up_with_subqueries(|plan| plan.map_expressions(|expr| expr.transform_up(asked)))?.data;
        // The statement's own offset, whose rows come in order, is planned as it should be.
        if let LogicalPlan::Limit(Limit { skip, fetch: None, input }) = plan {
            let input = numbered_below(Arc::unwrap_or_clone(input))?;
            return Ok(LogicalPlan::Limit(Limit { skip, fetch: None, input: input.into() }));
        }
        numbered_below(plan)
    }
}

/// A sub-query that names columns of the query around it, written for what is asked of it: whether there is a row, or
/// which value the only one has.
fn asked(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Exists(exists) => match exists.subquery.subquery.as_ref() {
            LogicalPlan::Limit(limit) if names_outer(&limit.input) && range(limit)?.is_some_and(any_row) => {
                let subquery = Subquery { subquery: Arc::clone(&limit.input), ..exists.subquery };
                Ok(Transformed::yes(Expr::Exists(Exists { subquery, ..exists })))
            }
            _ => Ok(Transformed::no(Expr::Exists(exists))),
        },
        Expr::ScalarSubquery(found) => match found.subquery.as_ref() {
            LogicalPlan::Limit(limit)
                if names_outer(&limit.input) && range(limit)?.is_some_and(|(_, n)| n == Some(1)) =>
            {
                if limit.input.max_rows().is_some_and(|rows| rows <= 1) {
                    return Ok(Transformed::no(Expr::ScalarSubquery(found)));
                }
                let (qualifier, field) = found.subquery.schema().qualified_field(0);
                let name = field.name().clone();
                let value = first_value_udaf().call(vec![Expr::Column((qualifier, field).into())]);
                let only = LogicalPlanBuilder::from(Arc::clone(&found.subquery))
                    .aggregate(Vec::<Expr>::new(), [value.alias(&name)])?
                    .build()?;
                Ok(Transformed::yes(Expr::ScalarSubquery(Subquery { subquery: Arc::new(only), ..found })))
            }
            _ => Ok(Transformed::no(Expr::ScalarSubquery(found))),
        },
        other => Ok(Transformed::no(other)),
    }
}

fn any_row((skip, fetch): (usize, Option<usize>)) -> bool {
    skip == 0 && fetch != Some(0)
}

/// How many rows are left out, and how many are given, where both are numbers.
fn range(limit: &Limit) -> Result<Option<(usize, Option<usize>)>> {
    Ok(match (limit.get_skip_type()?, limit.get_fetch_type()?) {
        (SkipType::Literal(skip), FetchType::Literal(fetch)) => Some((skip, fetch)),
        _ => None,
    })
}

fn numbered_below(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Limit(limit) = &plan else { return Ok(Transformed::no(plan)) };
        let Some((skip, fetch)) = range(limit)? else { return Ok(Transformed::no(plan)) };
        if names_outer(&limit.input) {
            let is_all = any_row((skip, fetch)) && limit.input.max_rows().is_some_and(|rows| rows <= 1);
            return Ok(Transformed::yes(match is_all {
                true => limit.input.as_ref().clone(),
                false => match in_order(&limit.input, skip, fetch)? {
                    Some(kept) => kept,
                    None => numbered(&limit.input, None, skip, fetch)?,
                },
            }));
        }
        match fetch {
            None => in_order(&limit.input, skip, None).map(|kept| kept.map_or(Transformed::no(plan), Transformed::yes)),
            Some(_) => Ok(Transformed::no(plan)),
        }
    })
    .data()
}

/// The rows of `plan` after the first `skip`, at most `fetch`, if it orders them.
fn in_order(plan: &LogicalPlan, skip: usize, fetch: Option<usize>) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(Sort { expr, input, fetch: None }) => numbered(input, Some(expr), skip, fetch).map(Some),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => match plan.inputs()[..] {
            [input] => match in_order(input, skip, fetch)? {
                Some(kept) => plan.with_new_exprs(plan.expressions(), vec![kept]).map(Some),
                None => Ok(None),
            },
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn numbered(
    rows: &Arc<LogicalPlan>,
    order: Option<&Vec<SortExpr>>,
    skip: usize,
    fetch: Option<usize>,
) -> Result<LogicalPlan> {
    let number = match order {
        Some(order) => row_number().order_by(order.clone()).build()?,
        None => row_number(),
    };
    let column = ident(number.schema_name().to_string());
    let mut is_kept = column.clone().gt(lit(skip as u64));
    if let Some(fetch) = fetch {
        is_kept = is_kept.and(column.lt_eq(lit(skip.saturating_add(fetch) as u64)));
    }
    let columns = rows.schema().columns().into_iter().map(Expr::from);
    LogicalPlanBuilder::from(Arc::clone(rows)).window([number])?.filter(is_kept)?.project(columns)?.build()
}
