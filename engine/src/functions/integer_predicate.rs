//! Sky predicates give 1 or 0, and in MySQL and ADQL a condition may be such a number. Here it is
//! made a comparison, which SQL as DataFusion reads it asks for.
//!
//! DataFusion refuses a number as the whole of WHERE while it plans, before any analyzer rule, so
//! statements are rewritten as syntax; the rule does the same for plans that were not made from SQL.

use std::any::Any;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, JoinConstraint,
    JoinOperator, Select, Statement, TableFactor, TableWithJoins, UnaryOperator, Value, VisitMut, VisitorMut,
};

use super::contains::Contains;
use super::membership::PointIn;

/// Rewrites, in every condition of a statement (WHERE, ON, HAVING, QUALIFY, CASE WHEN), a bare call
/// of a sky predicate into a comparison: `WHERE s2PtInCircle(…)` becomes `WHERE s2PtInCircle(…) <> 0`.
pub fn compare_integer_predicates(statement: &mut Statement) {
    // The visitor never breaks off.
    let _: ControlFlow<()> = VisitMut::visit(statement, &mut Conditions);
}

struct Conditions;

impl VisitorMut for Conditions {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for condition in [&mut select.selection, &mut select.having, &mut select.qualify].into_iter().flatten() {
            compare(condition);
        }
        select.from.iter_mut().for_each(join_conditions);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table_factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::NestedJoin { table_with_joins, .. } = table_factor {
            join_conditions(table_with_joins);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::Case { operand: None, conditions, .. } = expr {
            conditions.iter_mut().for_each(|when| compare(&mut when.condition));
        }
        ControlFlow::Continue(())
    }
}

fn join_conditions(tables: &mut TableWithJoins) {
    for join in &mut tables.joins {
        if let JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) = &mut join.join_operator
            && let JoinConstraint::On(condition) = constraint
        {
            compare(condition);
        }
    }
}

fn compare(condition: &mut SqlExpr) {
    match condition {
        SqlExpr::Nested(inner) | SqlExpr::UnaryOp { op: UnaryOperator::Not, expr: inner } => compare(inner),
        SqlExpr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            compare(left);
            compare(right);
        }
        SqlExpr::Function(function) if is_integer_predicate(function) => {
            let zero = SqlExpr::value(Value::Number("0".into(), false));
            let call = std::mem::replace(condition, zero.clone());
            *condition = SqlExpr::BinaryOp { left: Box::new(call), op: BinaryOperator::NotEq, right: Box::new(zero) };
        }
        _ => {}
    }
}

fn is_integer_predicate(function: &Function) -> bool {
    match function_name(function).as_deref() {
        // CONTAINS of strings is a boolean already; of geometries at least one is written in place.
        Some("contains" | "intersects") => match &function.args {
            FunctionArguments::List(list) => list.args.iter().any(is_geometry_call),
            _ => false,
        },
        Some(name) => {
            let name = name.strip_prefix("scisql_").unwrap_or(name);
            matches!(name, "s2ptincircle" | "s2ptinbox" | "s2ptinellipse" | "s2ptincpoly")
        }
        None => false,
    }
}

fn is_geometry_call(arg: &FunctionArg) -> bool {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(SqlExpr::Function(function))) = arg else { return false };
    matches!(function_name(function).as_deref(), Some("point" | "circle" | "box" | "polygon" | "ellipse"))
}

fn function_name(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.to_ascii_lowercase()),
        _ => None,
    }
}

/// Turns a bare call of a sky predicate in a Filter or a join condition into `<> 0`, also under
/// AND, OR and NOT. Must come before type coercion, which takes no number as part of a condition.
#[derive(Debug, Default)]
pub struct IntegerPredicateRule;

impl AnalyzerRule for IntegerPredicateRule {
    fn name(&self) -> &str {
        "skyflight_integer_predicate"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Filter(filter) => {
                let predicate = compared(filter.predicate, filter.input.schema());
                Ok(Transformed::new_transformed(
                    LogicalPlan::Filter(Filter::new(predicate.data, filter.input)),
                    predicate.transformed,
                ))
            }
            LogicalPlan::Join(mut join) => {
                let Some(condition) = join.filter.take() else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
                let condition = compared(condition, &join.left.schema().join(join.right.schema())?);
                join.filter = Some(condition.data);
                Ok(Transformed::new_transformed(LogicalPlan::Join(join), condition.transformed))
            }
            other => Ok(Transformed::no(other)),
        })
        .map(|transformed| transformed.data)
    }
}

fn compared(condition: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match condition {
        Expr::Not(inner) => compared(*inner, schema).update_data(|inner| Expr::Not(Box::new(inner))),
        Expr::Alias(alias) => compared(*alias.expr, schema),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (left, right) = (compared(*left, schema), compared(*right, schema));
            let transformed = left.transformed || right.transformed;
            let both = BinaryExpr::new(Box::new(left.data), op, Box::new(right.data));
            Transformed::new_transformed(Expr::BinaryExpr(both), transformed)
        }
        call if is_integer_call(&call, schema) => Transformed::yes(call.not_eq(lit(0_i32))),
        other => Transformed::no(other),
    }
}

fn is_integer_call(expr: &Expr, schema: &DFSchema) -> bool {
    let Expr::ScalarFunction(call) = expr else { return false };
    let function: &dyn Any = call.func.inner().as_ref();
    (function.is::<PointIn>() || function.is::<Contains>())
        && expr.get_type(schema).is_ok_and(|data_type| data_type == DataType::Int32)
}
