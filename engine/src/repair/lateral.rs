//! `FROM a, LATERAL (SELECT … WHERE … a.x … ORDER BY … LIMIT k)`: the first *k* rows for each row of `a`.
//!
//! Where the sub-query names `a` in equalities alone, that is what [`super::offset`] does. Otherwise
//! DataFusion makes a join of a sub-query that names columns of `a`, but takes no limit out of one. Here
//! the rows of `a` are numbered, joined with all that the sub-query has for them, and of the rows with one
//! number the first are kept. What the sub-query lists is computed last, so that it may name `a` too.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, FetchType, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, SkipType, SortExpr,
    Subquery, ident, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use super::each::can_divide;
use super::multiset::{row_number, with_number};
use crate::error::EngineError;
use crate::plan::dispatch::into_plan_error;
use crate::steady::is_steady;

/// Numbers the rows that a lateral sub-query has a limit for.
#[derive(Debug)]
pub(super) struct LateralLimitRule;

impl AnalyzerRule for LateralLimitRule {
    fn name(&self) -> &'static str {
        "lateral_limit"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = AliasGenerator::new();
        let plan = plan.transform_down_with_subqueries(asked_first)?.data;
        plan.transform_up_with_subqueries(|plan| match &plan {
            LogicalPlan::Join(join) => match numbered(join, &names)? {
                Some(numbered) => Ok(Transformed::yes(numbered)),
                None => Ok(Transformed::no(plan)),
            },
            _ => Ok(Transformed::no(plan)),
        })
        .data()
    }
}

/// Asks of `a` what is asked of its columns alone: once its rows are numbered, it would be asked of what comes out.
fn asked_first(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
    let LogicalPlan::Join(join) = filter.input.as_ref() else { return Ok(Transformed::no(plan)) };
    if lateral(join).is_none() || !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return Ok(Transformed::no(plan));
    }
    let names_left = |condition: &&Expr| {
        let columns = condition.column_refs();
        let has = |side: &LogicalPlan, column| side.schema().maybe_index_of_column(column).is_some();
        let is_left = columns.iter().all(|column| has(&join.left, column) && !has(&join.right, column));
        is_left && !columns.is_empty() && is_steady(condition)
    };
    let (first, last): (Vec<&Expr>, Vec<&Expr>) =
        split_conjunction(&filter.predicate).into_iter().partition(names_left);
    let Some(first) = conjunction(first.into_iter().cloned()) else { return Ok(Transformed::no(plan)) };
    let left = LogicalPlan::Filter(Filter::try_new(first, Arc::clone(&join.left))?);
    let joined = LogicalPlan::Join(Join { left: Arc::new(left), ..join.clone() });
    Ok(Transformed::yes(match conjunction(last.into_iter().cloned()) {
        Some(last) => LogicalPlan::Filter(Filter::try_new(last, Arc::new(joined))?),
        None => joined,
    }))
}

/// The right side of a join, where it names columns of the left one.
fn lateral(join: &Join) -> Option<&Subquery> {
    let subquery = match join.right.as_ref() {
        LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
        other => other,
    };
    match subquery {
        LogicalPlan::Subquery(subquery) if !subquery.outer_ref_columns.is_empty() => Some(subquery),
        _ => None,
    }
}

/// The same join without a limit in its sub-query; `None` where there is none.
fn numbered(join: &Join, names: &AliasGenerator) -> Result<Option<LogicalPlan>> {
    let Some(subquery) = lateral(join) else { return Ok(None) };
    let Some(wanted) = Wanted::of(&subquery.subquery)? else { return Ok(None) };
    if can_divide(&wanted.rows) && !wanted.exprs().any(Expr::contains_outer) {
        // Its rows are numbered where they are: see `offset`.
        return Ok(None);
    }
    let is_left = join.join_type == JoinType::Left;
    let on = join.filter.clone().filter(|on| !matches!(on, Expr::Literal(ScalarValue::Boolean(Some(true)), _)));
    let can = join.on.is_empty() && (join.join_type == JoinType::Inner || is_left);
    // A row without a partner is numbered like one that has one.
    if !can || is_left && (on.is_some() || wanted.skip > 0 || wanted.fetch == 0) {
        return Err(into_plan_error(EngineError::Unsupported(
            "a LATERAL sub-query with this LIMIT is not supported here; number its rows with row_number() OVER \
             (PARTITION BY … ORDER BY …) in a sub-query of the join and compare, or use QUALIFY"
                .to_owned(),
        )));
    }
    let (of_each, order, has_partner) = (names.next("of_each"), names.next("order"), names.next("has_partner"));
    let rows = Rows::of(wanted.rows, &names.next("lateral"), is_left.then_some(has_partner.as_str()))?;
    let alias = rows.name.clone();
    let outer_ref_columns = rows.plan.all_out_ref_exprs();
    let right = match outer_ref_columns.is_empty() {
        // Only its order or its list names columns around it.
        true => rows.plan.clone(),
        false => LogicalPlan::Subquery(Subquery {
            subquery: Arc::new(rows.plan.clone()),
            outer_ref_columns,
            spans: subquery.spans.clone(),
        }),
    };
    let right = LogicalPlanBuilder::from(right).alias(&alias)?.build()?;
    let left = with_number(&join.left, row_number(), &of_each)?;
    let joined = LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        vec![],
        is_left.then(|| lit(true)),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        false,
    )?);
    let by = wanted.order.into_iter().map(|by| Ok(SortExpr { expr: rows.above(by.expr)?, ..by }));
    let number = row_number().partition_by(vec![ident(&of_each)]).order_by(by.collect::<Result<Vec<_>>>()?).build()?;
    let joined = with_number(&Arc::new(joined), number, &order)?;
    let last = wanted.skip.saturating_add(wanted.fetch);
    let first = ident(&order).gt(lit(wanted.skip as u64)).and(ident(&order).lt_eq(lit(last as u64)));
    let left = join.left.schema().columns().into_iter().map(Expr::Column);
    let outputs = wanted.outputs.into_iter().zip(join.right.schema().iter()).map(|(expr, (qualifier, field))| {
        let mut expr = rows.above(expr)?;
        if is_left {
            expr = when(Expr::Column(Column::new(Some(alias.as_str()), &has_partner)), expr).end()?;
        }
        Ok(expr.alias_qualified(qualifier.cloned(), field.name()))
    });
    let outputs = outputs.collect::<Result<Vec<Expr>>>()?;
    let made = LogicalPlanBuilder::from(joined).filter(first)?.project(left.chain(outputs))?;
    match on {
        Some(on) => made.filter(on)?.build().map(Some),
        None => made.build().map(Some),
    }
}

/// What a sub-query gives of its rows: the first in an order, and what it lists of them.
struct Wanted {
    rows: LogicalPlan,
    /// In terms of the rows' columns, and of those around the sub-query.
    outputs: Vec<Expr>,
    order: Vec<SortExpr>,
    skip: usize,
    fetch: usize,
}

impl Wanted {
    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.outputs.iter().chain(self.order.iter().map(|by| &by.expr))
    }

    /// Takes limit, order and list off a sub-query; `None` without a limit of a known number.
    fn of(subquery: &LogicalPlan) -> Result<Option<Wanted>> {
        let mut outputs: Vec<Expr> = subquery.schema().columns().into_iter().map(Expr::Column).collect();
        let (mut order, mut limit): (Option<Vec<SortExpr>>, Option<(usize, usize)>) = (None, None);
        let mut plan = subquery;
        loop {
            let (input, sources) = match plan {
                LogicalPlan::Limit(found) if limit.is_none() && order.is_none() => {
                    let (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) =
                        (found.get_skip_type()?, found.get_fetch_type()?)
                    else {
                        return Ok(None);
                    };
                    limit = Some((skip, fetch));
                    plan = &found.input;
                    continue;
                }
                LogicalPlan::Sort(sort) if limit.is_some() && order.is_none() && sort.fetch.is_none() => {
                    order = Some(sort.expr.clone());
                    plan = &sort.input;
                    continue;
                }
                LogicalPlan::Projection(list) if !list.expr.iter().any(Expr::is_volatile) => {
                    (&list.input, list.expr.iter().map(|expr| expr.clone().unalias()).collect::<Vec<_>>())
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    (&alias.input, alias.input.schema().columns().into_iter().map(Expr::Column).collect())
                }
                _ => break,
            };
            let below = |expr: Expr| replaced(expr, plan.schema(), &sources);
            outputs = outputs.into_iter().map(below).collect::<Result<_>>()?;
            let by = |by: SortExpr| Ok(SortExpr { expr: below(by.expr)?, ..by });
            order = order.map(|order| order.into_iter().map(by).collect::<Result<_>>()).transpose()?;
            plan = input;
        }
        let Some((skip, fetch)) = limit else { return Ok(None) };
        Ok(Some(Wanted { rows: plan.clone(), outputs, order: order.unwrap_or_default(), skip, fetch }))
    }
}

/// The rows of a sub-query under names that nothing around it has.
struct Rows {
    plan: LogicalPlan,
    /// The table that they are joined as.
    name: String,
    schema: Arc<DFSchema>,
    columns: Vec<Expr>,
}

impl Rows {
    fn of(rows: LogicalPlan, name: &str, has_partner: Option<&str>) -> Result<Rows> {
        let schema = Arc::clone(rows.schema());
        let own = |at: usize| format!("{name}_{at}");
        let named = schema.columns().into_iter().enumerate().map(|(at, column)| Expr::Column(column).alias(own(at)));
        let named = named.chain(has_partner.map(|partner| lit(true).alias(partner))).collect::<Vec<Expr>>();
        let columns = (0..schema.fields().len()).map(|at| Expr::Column(Column::new(Some(name), own(at)))).collect();
        let plan = LogicalPlanBuilder::from(rows).project(named)?.build()?;
        Ok(Rows { plan, name: name.to_owned(), schema, columns })
    }

    /// What an expression of the rows is above the join, where the columns around it are there as well.
    fn above(&self, expr: Expr) -> Result<Expr> {
        replaced(expr, &self.schema, &self.columns)?
            .transform_down(|expr| {
                Ok(match expr {
                    Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
                    other => Transformed::no(other),
                })
            })
            .data()
    }
}

/// The expression with its columns of `schema` replaced by what they come from.
fn replaced(expr: Expr, schema: &DFSchema, sources: &[Expr]) -> Result<Expr> {
    expr.transform_down(|expr| {
        let source = match &expr {
            Expr::Column(column) => schema.maybe_index_of_column(column).and_then(|at| sources.get(at)),
            _ => None,
        };
        Ok(match source {
            // What is put in holds columns of the input.
            Some(source) => Transformed::new(source.clone(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })
    .data()
}
