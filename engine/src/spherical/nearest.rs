//! Queries that look at the first few partners of each row: of spherical joins that find them, the
//! operator then gives no others.
//!
//! Recognised are a limit on `row_number()`, `rank()` or `dense_rank()` over the pairs of a join, and
//! `DISTINCT ON`. Whatever numbers or chooses the pairs stays where it is: it finds the same among
//! those that are left. For that the rows that it puts together must hold all pairs of a row of one side or none
//! (they are divided by columns of that side), so that the first of all are among the first of each.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinSide, JoinType, Result};
use datafusion::logical_expr::expr::{NullTreatment, WindowFunctionParams};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, Extension, Filter, LogicalPlan, Operator, Projection, SortExpr, Window,
    WindowFunctionDefinition,
};

use super::best::Ties;
use super::node::SphericalJoin;
use crate::functions::constant_number;
use crate::steady::is_steady;

/// Of more partners than this nothing is gained by holding the first ones.
const MOST_WANTED: usize = 4_096;

/// The only pairs of a join that anything above it looks at: of each row of a side the first in an
/// order. More may come out, and do where chunks or partitions divide the other side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) of_each: JoinSide,
    pub(crate) order: Vec<SortExpr>,
    pub(crate) most: usize,
    pub(crate) ties: Ties,
}

impl Eq for Wanted {}

impl Hash for Wanted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A side has no hash.
        (&self.order, self.most, self.ties).hash(state);
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let order: Vec<String> = self.order.iter().map(ToString::to_string).collect();
        let ties = if self.ties == Ties::Cut { "" } else { " with ties" };
        write!(f, "of each {} row the first {}{ties} by [{}]", self.of_each, self.most, order.join(", "))
    }
}

/// Tells spherical joins which pairs are wanted of them, also inside sub-queries.
pub(crate) fn want_nearest(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let restricted = match &node {
            LogicalPlan::Filter(filter) => of_filter(filter)?,
            LogicalPlan::Aggregate(aggregate) => of_distinct_on(aggregate)?,
            _ => None,
        };
        match restricted {
            Some(input) => Ok(Transformed::yes(node.with_new_exprs(node.expressions(), vec![input])?)),
            None => Ok(Transformed::no(node)),
        }
    })
    .map(|told| told.data)
}

/// The input of a filter on the number of a row, with fewer rows.
fn of_filter(filter: &Filter) -> Result<Option<LogicalPlan>> {
    for conjunct in split_conjunction(&filter.predicate) {
        if let Some((number, most)) = limited_number(conjunct)
            && most <= MOST_WANTED
            && let Some(input) = numbered(&filter.input, number.clone(), most)?
        {
            return Ok(Some(input));
        }
    }
    Ok(None)
}

/// The expression that a predicate limits from above, and the greatest whole number that passes.
fn limited_number(predicate: &Expr) -> Option<(&Expr, usize)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = predicate else { return None };
    let (number, op, limit) = match (constant_number(left), constant_number(right)) {
        (None, Some(limit)) => (left, *op, limit),
        (Some(limit), None) => (right, op.swap()?, limit),
        _ => return None,
    };
    let most = match op {
        Operator::LtEq | Operator::Eq => limit.floor(),
        Operator::Lt => limit.ceil() - 1.0,
        _ => return None,
    };
    // A limit that is no number, or that limits nothing, is left to the filter.
    (most < 1e9).then_some((without_casts(number), most.max(0.0) as usize))
}

fn without_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => without_casts(&alias.expr),
        Expr::Cast(cast)
            if matches!(cast.field.data_type(), DataType::Int64 | DataType::UInt64 | DataType::Float64) =>
        {
            without_casts(&cast.expr)
        }
        _ => expr,
    }
}

/// The plan with fewer rows, where `number` is a number of its rows of which none above `most` is wanted.
fn numbered(plan: &LogicalPlan, number: Expr, most: usize) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Window(window) => of_window(window, &number, most),
        _ => below(plan, vec![number], |input, mut exprs| match exprs.pop() {
            Some(number) => numbered(input, without_casts(&number).clone(), most),
            None => Ok(None),
        }),
    }
}

fn of_window(window: &Window, number: &Expr, most: usize) -> Result<Option<LogicalPlan>> {
    let Expr::Column(column) = number else { return Ok(None) };
    let first = window.input.schema().fields().len();
    let at = window.schema.maybe_index_of_column(column).and_then(|at| at.checked_sub(first));
    let Some((params, ties)) = at.and_then(|at| window.window_expr.get(at)).and_then(numbering) else {
        return Ok(None);
    };
    // Whatever else is computed of the rows must not miss those that go.
    let alike = |expr: &Expr| {
        numbering(expr)
            .is_some_and(|(other, _)| other.partition_by == params.partition_by && other.order_by == params.order_by)
    };
    if params.order_by.is_empty() || !window.window_expr.iter().all(alike) {
        return Ok(None);
    }
    let wanted = Want { keys: params.partition_by.clone(), order: params.order_by.clone(), most, ties };
    wanted.of(&window.input)?.map(|input| on(&LogicalPlan::Window(window.clone()), input)).transpose()
}

/// What numbers rows in an order, and what it does with equal ones.
fn numbering(expr: &Expr) -> Option<(&WindowFunctionParams, Ties)> {
    match expr {
        Expr::Alias(alias) => numbering(&alias.expr),
        Expr::WindowFunction(function) => {
            let WindowFunctionDefinition::WindowUDF(kind) = &function.fun else { return None };
            let ties = match kind.name() {
                "row_number" => Ties::Cut,
                "rank" => Ties::Kept,
                "dense_rank" => Ties::CountedOnce,
                _ => return None,
            };
            function.params.filter.is_none().then_some((&function.params, ties))
        }
        _ => None,
    }
}

/// The input of an aggregate that takes the first row of each group, with fewer rows.
fn of_distinct_on(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let orders: Option<Vec<&Vec<SortExpr>>> = aggregate.aggr_expr.iter().map(first_value_order).collect();
    let Some(orders) = orders else { return Ok(None) };
    let Some(order) = orders.first().filter(|order| !order.is_empty()) else { return Ok(None) };
    if orders.iter().any(|other| other != order) || matches!(aggregate.group_expr[..], [Expr::GroupingSet(_)]) {
        return Ok(None);
    }
    let wanted = Want { keys: aggregate.group_expr.clone(), order: order.to_vec(), most: 1, ties: Ties::Cut };
    wanted.of(&aggregate.input)
}

fn first_value_order(expr: &Expr) -> Option<&Vec<SortExpr>> {
    match expr {
        Expr::Alias(alias) => first_value_order(&alias.expr),
        Expr::AggregateFunction(function) if function.func.name() == "first_value" => {
            let params = &function.params;
            let all = params.filter.is_none() && params.null_treatment != Some(NullTreatment::IgnoreNulls);
            all.then_some(&params.order_by)
        }
        _ => None,
    }
}

/// The first rows in an order of those with equal keys.
struct Want {
    keys: Vec<Expr>,
    order: Vec<SortExpr>,
    most: usize,
    ties: Ties,
}

impl Want {
    /// The plan with fewer rows, where a spherical join makes them.
    fn of(&self, plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
        if let LogicalPlan::Extension(extension) = plan {
            let Some(join) = extension.node.as_any().downcast_ref::<SphericalJoin>() else { return Ok(None) };
            let Some(wanted) = self.of_join(join) else { return Ok(None) };
            let node = Arc::new(join.clone().wanting(wanted));
            return Ok(Some(LogicalPlan::Extension(Extension { node })));
        }
        let order = self.order.iter().map(|by| by.expr.clone());
        below(plan, self.keys.iter().cloned().chain(order).collect(), |input, mut exprs| {
            let order = exprs.split_off(self.keys.len()).into_iter().zip(&self.order);
            let order = order.map(|(expr, by)| SortExpr { expr, ..by.clone() }).collect();
            Want { keys: exprs, order, ..*self }.of(input)
        })
    }

    fn of_join(&self, join: &SphericalJoin) -> Option<Wanted> {
        let exprs = || self.keys.iter().chain(self.order.iter().map(|by| &by.expr));
        let pairs = matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full);
        if !pairs || join.wanted.is_some() || !exprs().all(is_steady) {
            return None;
        }
        let are_of = |side: &LogicalPlan, other: &LogicalPlan| {
            let of_side = |expr: &Expr| {
                let columns = expr.column_refs();
                columns.iter().all(|c| side.schema().has_column(c) && !other.schema().has_column(c))
            };
            self.keys.iter().all(of_side)
        };
        let of_each = match (are_of(&join.left, &join.right), are_of(&join.right, &join.left)) {
            (true, _) => JoinSide::Left,
            (false, true) => JoinSide::Right,
            (false, false) => return None,
        };
        Some(Wanted { of_each, order: self.order.clone(), most: self.most, ties: self.ties })
    }
}

/// Goes through a node that passes rows on as they are: gives `change` its input and expressions of its output in
/// terms of the input, and puts the node on what comes back.
fn below(
    plan: &LogicalPlan,
    exprs: Vec<Expr>,
    change: impl FnOnce(&LogicalPlan, Vec<Expr>) -> Result<Option<LogicalPlan>>,
) -> Result<Option<LogicalPlan>> {
    let (input, exprs) = match plan {
        LogicalPlan::Projection(projection) => {
            let exprs = exprs.into_iter().map(|expr| below_projection(expr, projection));
            (&projection.input, exprs.collect::<Result<Option<Vec<_>>>>()?)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let rename = |expr| {
                replace_columns(expr, &alias.schema, |at| {
                    Some(Expr::Column(alias.input.schema().columns().into_iter().nth(at)?))
                })
            };
            (&alias.input, exprs.into_iter().map(rename).collect::<Result<Option<Vec<_>>>>()?)
        }
        _ => return Ok(None),
    };
    let Some(exprs) = exprs else { return Ok(None) };
    change(input, exprs)?.map(|input| on(plan, input)).transpose()
}

fn below_projection(expr: Expr, projection: &Projection) -> Result<Option<Expr>> {
    replace_columns(expr, &projection.schema, |at| {
        let source = projection.expr.get(at)?;
        // Computed once above, a random number is another one below.
        (!source.is_volatile()).then(|| source.clone().unalias())
    })
}

/// The expression with its columns of `schema` replaced; `None` where one cannot be.
fn replace_columns(expr: Expr, schema: &DFSchema, source: impl Fn(usize) -> Option<Expr>) -> Result<Option<Expr>> {
    let mut all = true;
    let replaced = expr.transform_down(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        match schema.maybe_index_of_column(column).and_then(&source) {
            // What is put in holds columns of the input.
            Some(source) => Ok(Transformed::new(source, true, datafusion::common::tree_node::TreeNodeRecursion::Jump)),
            None => {
                all = false;
                Ok(Transformed::no(expr))
            }
        }
    })?;
    Ok(all.then_some(replaced.data))
}

fn on(plan: &LogicalPlan, input: LogicalPlan) -> Result<LogicalPlan> {
    plan.with_new_exprs(plan.expressions(), vec![input])
}
