//! `(SELECT max(x) FROM (SELECT x FROM u WHERE u.k = t.k ORDER BY x OFFSET 1) v)` leaves out one row of
//! each k. DataFusion takes the condition that names the query around out of the sub-query, past the
//! window that numbers the rows, which then counts those of every k. Here such a window is divided by
//! what the condition compares, so that it counts the rows of one k wherever the condition stands. And the
//! columns that it names come out of what is below v: DataFusion looks for them above.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, Filter, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Projection,
    Subquery, Window,
};
use datafusion::optimizer::AnalyzerRule;

use super::windows;

/// Divides the windows of correlated sub-queries by what correlates them.
#[derive(Debug)]
pub(super) struct WindowsOfEachRule;

impl AnalyzerRule for WindowsOfEachRule {
    fn name(&self) -> &'static str {
        "windows_of_each_outer_row"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Subquery(lateral) => Ok(Transformed::yes(LogicalPlan::Subquery(of_each(lateral)?))),
            other => other.map_expressions(|expr| expr.transform_up(with_subquery)),
        })
        .data()
    }
}

fn with_subquery(expr: Expr) -> Result<Transformed<Expr>> {
    Ok(Transformed::yes(match expr {
        Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(of_each(subquery)?),
        Expr::Exists(found) => Expr::Exists(Exists { subquery: of_each(found.subquery)?, ..found }),
        Expr::InSubquery(found) => Expr::InSubquery(InSubquery { subquery: of_each(found.subquery)?, ..found }),
        Expr::SetComparison(found) => {
            Expr::SetComparison(SetComparison { subquery: of_each(found.subquery)?, ..found })
        }
        other => return Ok(Transformed::no(other)),
    }))
}

fn of_each(subquery: Subquery) -> Result<Subquery> {
    if !names_outer(&subquery.subquery) {
        return Ok(subquery);
    }
    let rows = below_what_comes_out(subquery.subquery.as_ref().clone())?;
    Ok(Subquery { subquery: Arc::new(rows), ..subquery })
}

/// The plan with the same columns; what is below the last list of them may have more.
fn below_what_comes_out(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lists_columns = match &plan {
        LogicalPlan::Projection(projection) => !is_above_total(&projection.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    };
    if !lists_columns {
        return plan.map_children(|input| below_what_comes_out(input).map(Transformed::yes)).data();
    }
    let [input] = plan.inputs()[..] else { return Ok(plan) };
    match keyed(input.clone()) {
        Ok((input, _)) => plan.with_new_exprs(plan.expressions(), vec![input]),
        // What is not understood is DataFusion's, as long as nothing is counted.
        Err(_) if !has_window(input) => Ok(plan),
        Err(error) => Err(error),
    }
}

/// True of what is made of one grand total, which gives no other columns.
fn is_above_total(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => {
            plan.inputs().into_iter().all(is_above_total)
        }
        _ => false,
    }
}

/// True of rows whose windows can be divided by what is compared with the query around them.
pub(super) fn can_divide(rows: &LogicalPlan) -> bool {
    keyed(rows.clone()).is_ok()
}

fn has_window(plan: &LogicalPlan) -> bool {
    // Nothing in it fails.
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Window(_)))).unwrap_or(true)
}

/// True where a plan names columns of the query around it; what is within a sub-query of its own is that one's.
pub(super) fn names_outer(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // Nothing in it fails.
    let _ = plan.apply(|node| {
        found |= node.expressions().iter().any(Expr::contains_outer);
        Ok(match node {
            _ if found => TreeNodeRecursion::Stop,
            LogicalPlan::Subquery(_) => TreeNodeRecursion::Jump,
            _ => TreeNodeRecursion::Continue,
        })
    });
    found
}

fn divided(window: Window) -> Result<(LogicalPlan, Vec<Expr>)> {
    let (input, keys) = keyed(Arc::unwrap_or_clone(window.input))?;
    let divided = windows::changed(window.window_expr, |params| {
        // A plan may be analysed more than once.
        let missing: Vec<Expr> = keys.iter().filter(|key| !params.partition_by.contains(key)).cloned().collect();
        params.partition_by.extend(missing);
    })?;
    let window = Window::try_new(divided, Arc::new(input))?;
    Ok((LogicalPlan::Window(window), keys))
}

/// The rows with their windows divided, and the values that are compared with the query around: the columns of
/// all of them come out.
fn keyed(plan: LogicalPlan) -> Result<(LogicalPlan, Vec<Expr>)> {
    if !names_outer(&plan) {
        return Ok((plan, Vec::new()));
    }
    match plan {
        LogicalPlan::Filter(Filter { predicate, input, .. }) => {
            let (input, mut keys) = keyed(Arc::unwrap_or_clone(input))?;
            for condition in split_conjunction(&predicate).into_iter().filter(|condition| condition.contains_outer()) {
                match compared_with_outer(condition) {
                    Some(key) => keys.push(key.clone()),
                    None => return refused(),
                }
            }
            Ok((LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?), keys))
        }
        LogicalPlan::Projection(Projection { mut expr, input, .. }) if !expr.iter().any(Expr::contains_outer) => {
            let (input, keys) = keyed(Arc::unwrap_or_clone(input))?;
            give(&mut expr, &keys);
            Ok((LogicalPlan::Projection(Projection::try_new(expr, Arc::new(input))?), keys))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, keys) = keyed(Arc::unwrap_or_clone(alias.input))?;
            let named = |key: Expr| {
                key.transform(|e| match e {
                    Expr::Column(column) => {
                        Ok(Transformed::yes(Expr::Column(Column::new(Some(alias.alias.clone()), column.name))))
                    }
                    other => Ok(Transformed::no(other)),
                })
                .data()
            };
            let keys = keys.into_iter().map(named).collect::<Result<_>>()?;
            Ok((LogicalPlanBuilder::from(input).alias(alias.alias)?.build()?, keys))
        }
        LogicalPlan::Aggregate(Aggregate { input, mut group_expr, aggr_expr, .. })
            if !group_expr.is_empty() && !group_expr.iter().chain(&aggr_expr).any(Expr::contains_outer) =>
        {
            let (input, keys) = keyed(Arc::unwrap_or_clone(input))?;
            give(&mut group_expr, &keys);
            Ok((LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), group_expr, aggr_expr)?), keys))
        }
        LogicalPlan::Join(ref join) if !plan.expressions().iter().any(Expr::contains_outer) => {
            // Rows that a join makes up have none of the values.
            let (left_ok, right_ok) = match join.join_type {
                JoinType::Inner => (true, true),
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => (true, false),
                JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => (false, true),
                _ => (false, false),
            };
            if (!left_ok && names_outer(&join.left)) || (!right_ok && names_outer(&join.right)) {
                return refused();
            }
            let (left, mut keys) = keyed(join.left.as_ref().clone())?;
            let (right, others) = keyed(join.right.as_ref().clone())?;
            keys.extend(others);
            Ok((plan.with_new_exprs(plan.expressions(), vec![left, right])?, keys))
        }
        // Sub-queries have no order, and what is left of the same rows is the same.
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => keyed(Arc::unwrap_or_clone(sort.input)),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let (input, keys) = keyed(Arc::unwrap_or_clone(input))?;
            Ok((LogicalPlan::Distinct(Distinct::All(Arc::new(input))), keys))
        }
        LogicalPlan::Window(window) if !window.window_expr.iter().any(Expr::contains_outer) => divided(window),
        _ => refused(),
    }
}

/// Adds the columns of the keys to what comes out, under their names: whoever takes the condition out of the
/// sub-query looks for them.
fn give(given: &mut Vec<Expr>, keys: &[Expr]) {
    let columns: BTreeSet<&Column> = keys.iter().flat_map(Expr::column_refs).collect();
    for column in columns.into_iter().cloned().map(Expr::Column) {
        if !given.contains(&column) {
            given.push(column);
        }
    }
}

/// The side of an equality that is of the sub-query, where the other is of the query around it alone.
fn compared_with_outer(condition: &Expr) -> Option<&Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    [(left, right), (right, left)]
        .into_iter()
        .find(|(inner, outer)| !inner.contains_outer() && outer.contains_outer() && !outer.any_column_refs())
        .map(|(inner, _)| inner.as_ref())
}

fn refused<T>() -> Result<T> {
    plan_err!(
        "LIMIT, OFFSET, a window or a set operation with ALL in a sub-query counts rows for each row of the query \
         around it, whose columns it names; that can be done where the sub-query names them in conditions such as \
         inner.id = outer.id only. Write a join, with row_number() OVER (PARTITION BY …) for LIMIT"
    )
}
