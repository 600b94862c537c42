//! Forms of SQL that DataFusion does not plan, written out as others that mean the same. What is done
//! here needs no names; what does is in [`crate::names`].

mod limits;
mod rows;

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Query, Select, VisitMut, VisitorMut, visit_expressions};

use crate::error::{EngineError, Result};
pub(crate) use rows::ROWS_COMPARED;

/// Writes FETCH FIRST and TOP as LIMIT, and comparisons of rows as those of their values.
///
/// # Errors
/// `Invalid` and `Unsupported`: rows of unequal length, WITH TIES, PERCENT, TOP beside a LIMIT.
pub(crate) fn write_out(statement: &mut Statement) -> Result<()> {
    let statement = match statement {
        Statement::Statement(statement) => statement,
        Statement::Explain(explain) => return write_out(&mut explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => return Ok(()),
    };
    match VisitMut::visit(statement, &mut Forms) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Forms;

impl VisitorMut for Forms {
    type Break = EngineError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<EngineError> {
        flow(limits::write_out(query).and_then(|()| orders_by_values(query)))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<EngineError> {
        if select.top.is_some() {
            return ControlFlow::Break(EngineError::Unsupported(
                "TOP stands in a part of a set operation; put that SELECT in parentheses".to_owned(),
            ));
        }
        let conditions = [&mut select.selection, &mut select.having, &mut select.qualify];
        flow(conditions.into_iter().flatten().try_for_each(rows::write_out_condition))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<EngineError> {
        flow(rows::write_out(expr))
    }
}

/// The planner has no place for these, not even where the SELECT list has the same.
fn orders_by_values(query: &Query) -> Result<()> {
    let Some(order_by) = &query.order_by else { return Ok(()) };
    let found = visit_expressions(order_by, |expr| match expr {
        Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(EngineError::Unsupported(
            "EXISTS and IN (SELECT …) are not supported in ORDER BY; give it a name in the SELECT list and order by that"
                .to_owned(),
        )),
    }
}

fn flow(result: Result<()>) -> ControlFlow<EngineError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}
