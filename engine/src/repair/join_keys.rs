//! `SELECT (SELECT max(s.mag) FROM s WHERE s.id = o.id) FROM o WHERE o.id IN (4, 7)` is a join of two rows with
//! the groups of all of s. DataFusion tells one side of a join what is asked of the other side's key while that
//! condition passes the join on its way down, and here it is below from the start. So whatever holds of
//! one side's key is asked of the other's as well, where rows without a partner do not come out of it;
//! `push_down_filter`, which runs next, takes that to the scan.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, NullEquality, Result, plan_err};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, ExprSchemable, Filter, Join, JoinType, LogicalPlan, Operator,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::locality::widens;

/// Asks of each side's keys what holds of the other's.
#[derive(Debug)]
pub(super) struct JoinKeysRule;

impl OptimizerRule for JoinKeysRule {
    fn name(&self) -> &str {
        "conditions_of_join_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Join(join) => share_key_conditions(join),
            other => Ok(Transformed::no(other)),
        }
    }
}

/// The join with a filter on each side for what holds of the other side's keys, and is not asked of it yet.
pub(crate) fn share_key_conditions(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    // A NULL on the right of NOT IN is equal to nothing and decides for every row.
    if join.null_aware {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    // What follows from the keys being equal is as if it stood in ON.
    let (left_may, right_may) = join.join_type.on_lr_is_preserved();
    // A column of a side that a join fills up holds NULL besides; a join that takes NULL for equal to NULL meets it.
    let padded = join.null_equality == NullEquality::NullEqualsNothing;
    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
    for (left, right) in &join.on {
        let (Some(left), Some(right)) = (Key::of(left, &join.left), Key::of(right, &join.right)) else { continue };
        if left.compared_as != right.compared_as {
            continue;
        }
        if left_may {
            add_news(&mut of_left, &right, &left, padded);
        }
        if right_may {
            add_news(&mut of_right, &left, &right, padded);
        }
    }
    if of_left.is_empty() && of_right.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    for (side, conditions) in [(&mut join.left, of_left), (&mut join.right, of_right)] {
        if let Some(condition) = conjunction(conditions) {
            *side = Arc::new(LogicalPlan::Filter(Filter::try_new(condition, Arc::clone(side))?));
        }
    }
    Ok(Transformed::yes(LogicalPlan::Join(join)))
}

/// Adds what holds of `from` and is not asked of `to` yet. The optimizer comes by more than once.
fn add_news(conditions: &mut Vec<Expr>, from: &Key<'_>, to: &Key<'_>, padded: bool) {
    let held = from.conditions(to.expr, padded);
    if held.is_empty() {
        return;
    }
    let asked = to.conditions(to.expr, padded);
    for condition in held {
        if !asked.contains(&condition) && !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
}

/// A key of one side of a join: a column of it, or a cast of one that keeps every value.
struct Key<'a> {
    expr: &'a Expr,
    side: &'a LogicalPlan,
    at: usize,
    column_type: DataType,
    compared_as: DataType,
}

impl<'a> Key<'a> {
    fn of(expr: &'a Expr, side: &'a LogicalPlan) -> Option<Key<'a>> {
        let column = match expr {
            Expr::Cast(cast) => cast.expr.as_ref(),
            other => other,
        };
        let at = index_of(column, side.schema())?;
        let column_type = column.get_type(side.schema()).ok()?;
        let compared_as = expr.get_type(side.schema()).ok()?;
        let keeps_values = is_exact(&compared_as) && widens(&column_type, &compared_as);
        keeps_values.then_some(Key { expr, side, at, column_type, compared_as })
    }

    /// What holds of every value of the key but NULL, as conditions on `other`, which it is compared with.
    fn conditions(&self, other: &Expr, padded: bool) -> Vec<Expr> {
        let mut found = Vec::new();
        let mut place = Some((self.side, self.at));
        while let Some((plan, at)) = place {
            if let LogicalPlan::Filter(filter) = plan {
                let alone = |condition: &&Expr| names_alone(condition, at, filter.input.schema());
                let conditions = split_conjunction(&filter.predicate).into_iter().filter(alone);
                // What cannot be said of the other key is not said.
                found.extend(conditions.filter_map(|condition| self.restated(condition, other).ok()));
            }
            place = below(plan, at, padded);
        }
        found
    }

    fn restated(&self, condition: &Expr, other: &Expr) -> Result<Expr> {
        condition
            .clone()
            .transform_down(|expr| match expr {
                Expr::Column(_) => Ok(Transformed::new(other.clone(), true, TreeNodeRecursion::Jump)),
                Expr::Literal(value, metadata) if self.column_type != self.compared_as => {
                    if value.data_type() != self.column_type {
                        return plan_err!("{value} is not of the key's type");
                    }
                    Ok(Transformed::yes(Expr::Literal(value.cast_to(&self.compared_as)?, metadata)))
                }
                other => Ok(Transformed::no(other)),
            })
            .data()
    }
}

/// True where equal values are one value: to a float two zeros are equal, and answer differently.
fn is_exact(data_type: &DataType) -> bool {
    use DataType::{Date32, Date64, Decimal128, LargeUtf8, Timestamp, Utf8, Utf8View};
    data_type.is_integer()
        || matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Date32 | Date64 | Timestamp(..) | Decimal128(..))
}

/// True of a comparison of the column with values, and of AND and OR of such. None of them fails, and none
/// is true of NULL.
fn names_alone(condition: &Expr, at: usize, schema: &DFSchema) -> bool {
    let is_key = |expr: &Expr| index_of(expr, schema) == Some(at);
    let is_value = |expr: &Expr| matches!(expr, Expr::Literal(..));
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            names_alone(left, at, schema) && names_alone(right, at, schema)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
            matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
                && (is_key(left) && is_value(right) || is_value(left) && is_key(right))
        }
        Expr::InList(found) => is_key(&found.expr) && found.list.iter().all(is_value),
        _ => false,
    }
}

/// Where the values of a column come from, one node below; `None` where they are made or others join them. With
/// `padded`, NULL may join them.
fn below(plan: &LogicalPlan, at: usize, padded: bool) -> Option<(&LogicalPlan, usize)> {
    match plan {
        LogicalPlan::Filter(filter) => Some((&filter.input, at)),
        LogicalPlan::SubqueryAlias(alias) => Some((&alias.input, at)),
        LogicalPlan::Sort(sort) => Some((&sort.input, at)),
        LogicalPlan::Limit(limit) => Some((&limit.input, at)),
        LogicalPlan::Distinct(Distinct::All(input)) => Some((input, at)),
        LogicalPlan::Window(window) => {
            (at < window.input.schema().fields().len()).then_some((window.input.as_ref(), at))
        }
        LogicalPlan::Projection(list) => Some((&list.input, index_of(list.expr.get(at)?, list.input.schema())?)),
        // A grouping set is no column.
        LogicalPlan::Aggregate(groups) => {
            Some((&groups.input, index_of(groups.group_expr.get(at)?, groups.input.schema())?))
        }
        LogicalPlan::Join(join) => below_join(join, at, padded),
        _ => None,
    }
}

fn below_join(join: &Join, at: usize, padded: bool) -> Option<(&LogicalPlan, usize)> {
    let width = join.left.schema().fields().len();
    let (is_left, is_padded) = match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, false),
        JoinType::Inner => (at < width, false),
        JoinType::Left => (at < width, at >= width),
        JoinType::Right => (at < width, at < width),
        JoinType::Full => (at < width, true),
    };
    let from_right_alone = matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark);
    let (side, at) = match is_left {
        true => (&join.left, at),
        false if from_right_alone => (&join.right, at),
        false => (&join.right, at - width),
    };
    let is_mark = at >= side.schema().fields().len();
    (!is_mark && (padded || !is_padded)).then_some((side.as_ref(), at))
}

fn index_of(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(alias) => index_of(&alias.expr, schema),
        _ => None,
    }
}
