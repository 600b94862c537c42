//! `FETCH FIRST 5 ROWS ONLY` and ADQL's `SELECT TOP 5` are `LIMIT 5`.

use datafusion::sql::sqlparser::ast::{Expr, LimitClause, Query, SetExpr, TopQuantity, Value};

use crate::error::{EngineError, Result};

pub(super) fn write_out(query: &mut Query) -> Result<()> {
    if let Some(fetch) = query.fetch.take() {
        plain(fetch.with_ties, fetch.percent, "FETCH FIRST")?;
        limit_to(query, fetch.quantity.unwrap_or_else(|| number(1)), "FETCH FIRST")?;
    }
    let top = match query.body.as_mut() {
        SetExpr::Select(select) => select.top.take(),
        _ => None,
    };
    let Some(top) = top else { return Ok(()) };
    plain(top.with_ties, top.percent, "TOP")?;
    let rows = match top.quantity {
        Some(TopQuantity::Constant(rows)) => number(rows),
        Some(TopQuantity::Expr(rows)) => rows,
        None => return Err(EngineError::Invalid("TOP needs a number of rows".to_owned())),
    };
    limit_to(query, rows, "TOP")
}

fn plain(with_ties: bool, percent: bool, clause: &str) -> Result<()> {
    let what = match (with_ties, percent) {
        (false, false) => return Ok(()),
        (true, _) => "WITH TIES",
        (false, true) => "PERCENT",
    };
    Err(EngineError::Unsupported(format!(
        "{clause} … {what} is not supported; number the rows with rank() or ntile() in a sub-query and compare"
    )))
}

fn limit_to(query: &mut Query, rows: Expr, clause: &str) -> Result<()> {
    match &mut query.limit_clause {
        None => {
            query.limit_clause =
                Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        Some(_) => return Err(EngineError::Invalid(format!("{clause} beside LIMIT; write one of them"))),
    }
    Ok(())
}

fn number(value: u64) -> Expr {
    Expr::value(Value::Number(value.to_string(), false))
}
