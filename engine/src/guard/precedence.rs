//! Puts right what the parser takes for the right side of `IS [NOT] DISTINCT FROM`.
//!
//! It reads on to the end of the condition, so that `a IS DISTINCT FROM b AND c` would compare a with
//! `b AND c`. What stands in parentheses is a node of its own and stays.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, VisitMut, VisitorMut};

pub(super) fn repair(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            // The visitor never breaks off.
            let _: ControlFlow<()> = VisitMut::visit(statement.as_mut(), &mut Distinct);
        }
        Statement::Explain(explain) => repair(&mut explain.statement),
        _ => {}
    }
}

struct Distinct;

impl VisitorMut for Distinct {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let taken = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = match taken {
            Expr::IsDistinctFrom(left, right) => hung(*right, |right| Expr::IsDistinctFrom(left, Box::new(right))),
            Expr::IsNotDistinctFrom(left, right) => {
                hung(*right, |right| Expr::IsNotDistinctFrom(left, Box::new(right)))
            }
            other => other,
        };
        ControlFlow::Continue(())
    }
}

/// Applies `compare` to the leftmost operand of a chain of AND, OR and XOR, which is the right side
/// that was meant.
fn hung(mut right: Expr, compare: impl FnOnce(Expr) -> Expr) -> Expr {
    let mut operand = &mut right;
    while let Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. } = operand
    {
        operand = left;
    }
    let meant = std::mem::replace(operand, Expr::value(Value::Null));
    *operand = compare(meant);
    right
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::guard::{SqlLimits, parse_guarded};

    #[test]
    fn is_distinct_from_ends_where_its_operand_does() {
        for (sql, expect) in [
            ("SELECT a IS DISTINCT FROM b AND c", "SELECT a IS DISTINCT FROM b AND c"),
            ("SELECT a IS NOT DISTINCT FROM b + 1 OR c AND d", "SELECT a IS NOT DISTINCT FROM b + 1 OR c AND d"),
            ("SELECT a IS DISTINCT FROM (b AND c) AND d", "SELECT a IS DISTINCT FROM (b AND c) AND d"),
        ] {
            let statement = parse_guarded(sql, &SqlLimits::default()).unwrap();
            assert_eq!(statement.to_string(), expect);
            let Statement::Statement(inner) = &statement else { panic!("{sql}") };
            let text = format!("{inner:?}");
            let (binary, distinct) = (text.find("BinaryOp").unwrap(), text.find("DistinctFrom").unwrap());
            assert!(binary < distinct, "{sql}: AND and OR are above the comparison\n{text}");
        }
    }
}
