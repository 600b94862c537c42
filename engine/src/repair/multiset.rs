//! `INTERSECT ALL` and `EXCEPT ALL` count: of a row that is there three times on the left and twice on
//! the right they give two and one. DataFusion plans them as joins that keep every copy or none. Here
//! the copies of a row are numbered on both sides, and number *n* meets number *n*.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{NullEquality, Result};
use datafusion::config::ConfigOptions;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Distinct, Expr, ExprFunctionExt, Join, JoinType, LogicalPlan, LogicalPlanBuilder, WindowFunctionDefinition, ident,
};
use datafusion::optimizer::AnalyzerRule;

/// Numbers equal rows of set operations that do not drop them.
#[derive(Debug)]
pub(crate) struct MultisetRule;

impl AnalyzerRule for MultisetRule {
    fn name(&self) -> &'static str {
        "multiset_operations"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = AliasGenerator::new();
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Join(join) if keeps_copies(&join) => counted(join, &names).map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

/// True of the join of a set operation with ALL. Before optimizing no other join takes NULL for equal
/// to NULL, and one without ALL drops the copies on its left first.
fn keeps_copies(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
}

fn counted(join: Join, names: &AliasGenerator) -> Result<LogicalPlan> {
    let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.into_iter().unzip();
    let columns = join.left.schema().columns();
    let (left_copy, right_copy) = (names.next("copy_of_left"), names.next("copy_of_right"));
    let left = numbered(&join.left, &left_keys, &left_copy)?;
    let right = numbered(&join.right, &right_keys, &right_copy)?;
    let mut on: Vec<(Expr, Expr)> = left_keys.into_iter().zip(right_keys).collect();
    on.push((ident(left_copy), ident(right_copy)));
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        None,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        false,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(join)).project(columns.into_iter().map(Expr::from))?.build()
}

/// The rows, with the number of each among those that are equal to it.
fn numbered(rows: &Arc<LogicalPlan>, keys: &[Expr], name: &str) -> Result<LogicalPlan> {
    with_number(rows, row_number().partition_by(keys.to_vec()).build()?, name)
}

/// The rows with one more column, the number of each.
pub(super) fn with_number(rows: &Arc<LogicalPlan>, number: Expr, name: &str) -> Result<LogicalPlan> {
    let mut columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::from).collect();
    columns.push(ident(number.schema_name().to_string()).alias(name));
    LogicalPlanBuilder::from(Arc::clone(rows)).window([number])?.project(columns)?.build()
}

/// `row_number()`, for OVER to follow.
pub(super) fn row_number() -> Expr {
    let function = WindowFunctionDefinition::WindowUDF(row_number_udwf());
    Expr::from(WindowFunction::new(function, Vec::new()))
}
