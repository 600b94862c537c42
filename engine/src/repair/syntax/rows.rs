//! Rows compare value by value: `(a, b) = (1, 2)` is `a = 1 AND b = 2`, `(a, b) IN (…)` is that for one
//! of the listed rows. DataFusion takes a row for a structure, which is null in other cases than a row
//! is unknown, and does not plan it beside a sub-query.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Ident, Parens, Query, SetExpr, TableAlias, TableAliasColumnDef, TableFactor,
    UnaryOperator, Value, ValueWithSpan, helpers::attached_token::AttachedToken,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::error::{EngineError, Result};

/// More listed rows than this become a table, because every one is a term of a condition.
pub(crate) const ROWS_COMPARED: usize = 100;

/// Writes out what compares rows in a condition of which only the truth counts, as in WHERE.
pub(super) fn write_out_condition(condition: &mut Expr) -> Result<()> {
    match condition {
        Expr::Nested(inner) => write_out_condition(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            write_out_condition(left)?;
            write_out_condition(right)
        }
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => match expr.as_mut() {
            Expr::Nested(_) => Ok(()),
            Expr::InSubquery { negated, .. } => {
                *negated = !*negated;
                let flipped = std::mem::replace(expr.as_mut(), boolean(true));
                *condition = flipped;
                write_out_condition(condition)
            }
            _ => Ok(()),
        },
        Expr::InSubquery { expr, subquery, negated } if matches!(expr.as_ref(), Expr::Tuple(_)) => {
            let Expr::Tuple(row) = expr.as_ref() else { return Ok(()) };
            // NOT IN is true where every listed row is known to be another.
            let kept = if *negated { Kept::EqualOrUnknown } else { Kept::Equal };
            *condition = Expr::Exists { subquery: Box::new(rows_that(row, subquery, kept)?), negated: *negated };
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Writes out an expression that compares rows, with all three truth values.
pub(super) fn write_out(expr: &mut Expr) -> Result<()> {
    let written = match expr {
        Expr::InList { expr: row, list, negated } => match row.as_ref() {
            Expr::Tuple(row) => not_if(*negated, in_list(row, list)?),
            _ => return Ok(()),
        },
        Expr::InSubquery { expr: row, subquery, negated } => match row.as_ref() {
            Expr::Tuple(row) => not_if(*negated, in_rows(row, subquery)?),
            _ => return Ok(()),
        },
        Expr::BinaryOp { left, op, right } => match (left.as_ref(), right.as_ref()) {
            (Expr::Tuple(left), Expr::Tuple(right)) => match compared(left, op, right)? {
                Some(written) => written,
                None => return Ok(()),
            },
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    *expr = Expr::Nested(Box::new(written));
    Ok(())
}

fn compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Result<Option<Expr>> {
    same_length(left, right)?;
    Ok(Some(match op {
        BinaryOperator::Eq => equal(left, right)?,
        BinaryOperator::NotEq => not_if(true, equal(left, right)?),
        BinaryOperator::Lt | BinaryOperator::Gt => before(left, op, op, right),
        BinaryOperator::LtEq => before(left, &BinaryOperator::Lt, op, right),
        BinaryOperator::GtEq => before(left, &BinaryOperator::Gt, op, right),
        _ => return Ok(None),
    }))
}

/// `a < c OR (a = c AND b < d)`, with `last` for the last values.
fn before(left: &[Expr], op: &BinaryOperator, last: &BinaryOperator, right: &[Expr]) -> Expr {
    let mut pairs = left.iter().zip(right).rev();
    let mut written = match pairs.next() {
        Some((left, right)) => binary(left.clone(), last.clone(), right.clone()),
        None => return boolean(false),
    };
    for (left, right) in pairs {
        let same = binary(left.clone(), BinaryOperator::Eq, right.clone());
        let rest = nested(binary(same, BinaryOperator::And, nested(written)));
        written = binary(binary(left.clone(), op.clone(), right.clone()), BinaryOperator::Or, rest);
    }
    nested(written)
}

fn in_list(row: &[Expr], list: &[Expr]) -> Result<Expr> {
    let rows = list.iter().map(|item| values_of(row, item)).collect::<Result<Vec<_>>>()?;
    if rows.len() <= ROWS_COMPARED {
        let terms = rows.into_iter().map(|listed| Ok(nested(equal(row, listed)?))).collect::<Result<_>>()?;
        return Ok(balanced(terms, &BinaryOperator::Or));
    }
    if rows.iter().any(|listed| listed.iter().any(|value| !is_constant(value))) {
        return Err(EngineError::TooLarge(format!(
            "a list of {} rows that are not constants; at most {ROWS_COMPARED} are compared, join with a table of them",
            rows.len()
        )));
    }
    let mut table = query("SELECT 1")?;
    let values = query("VALUES (1)")?;
    *table.body = *values.body;
    if let SetExpr::Values(values) = table.body.as_mut() {
        values.rows = rows.iter().map(|listed| Parens::with_empty_span(listed.to_vec())).collect();
    }
    // A row is in the list only if each of its values is among those listed in its place, by which chunks
    // can be chosen; and where that is unknown or false, so is the whole.
    let mut terms: Vec<Expr> = row
        .iter()
        .enumerate()
        .map(|(place, value)| Expr::InList {
            expr: Box::new(value.clone()),
            list: rows.iter().filter_map(|listed| listed.get(place)).cloned().collect(),
            negated: false,
        })
        .collect();
    terms.push(in_rows(row, &table)?);
    Ok(nested(balanced(terms, &BinaryOperator::And)))
}

/// The values of one listed row.
fn values_of<'a>(row: &[Expr], item: &'a Expr) -> Result<&'a [Expr]> {
    let mut item = item;
    while let Expr::Nested(inner) = item {
        item = inner;
    }
    let Expr::Tuple(listed) = item else {
        return Err(EngineError::Invalid(format!(
            "a row of {} values is looked for in a list of single values; write (a, b) IN ((1, 2), (3, 4))",
            row.len()
        )));
    };
    same_length(row, listed)?;
    Ok(listed)
}

fn is_constant(value: &Expr) -> bool {
    match value {
        Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_constant(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_constant(expr),
        _ => false,
    }
}

/// `CASE WHEN a row is equal THEN true WHEN one may be THEN NULL ELSE false END`
fn in_rows(row: &[Expr], subquery: &Query) -> Result<Expr> {
    let exists =
        |kept| rows_that(row, subquery, kept).map(|rows| Expr::Exists { subquery: Box::new(rows), negated: false });
    let when = |condition, value| CaseWhen { condition, result: Expr::value(value) };
    Ok(Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![
            when(exists(Kept::Equal)?, Value::Boolean(true)),
            when(exists(Kept::EqualOrUnknown)?, Value::Null),
        ],
        else_result: Some(Box::new(boolean(false))),
    })
}

#[derive(Debug, Clone, Copy)]
enum Kept {
    Equal,
    EqualOrUnknown,
}

/// A query of those rows of `subquery` that are equal to `row`, or of which that is unknown.
fn rows_that(row: &[Expr], subquery: &Query, kept: Kept) -> Result<Query> {
    let columns: Vec<String> = (1..=row.len()).map(|place| format!("row_in_{place}")).collect();
    let listed: Vec<Expr> = columns.iter().map(|name| Expr::Identifier(Ident::new(name))).collect();
    let mut condition = equal(row, &listed)?;
    if let Kept::EqualOrUnknown = kept {
        condition = Expr::IsNotFalse(Box::new(nested(condition)));
    }
    let mut made = query("SELECT 1 FROM (SELECT 1) AS row_in WHERE true")?;
    if let SetExpr::Select(select) = made.body.as_mut() {
        select.selection = Some(condition);
        if let Some(TableFactor::Derived { subquery: place, alias, .. }) =
            select.from.first_mut().map(|from| &mut from.relation)
        {
            **place = subquery.clone();
            let columns = columns.into_iter().map(TableAliasColumnDef::from_name).collect();
            *alias = Some(TableAlias { explicit: true, name: Ident::new("row_in"), columns, at: None });
        }
    }
    Ok(made)
}

/// A query of our own.
fn query(sql: &str) -> Result<Query> {
    let parsed = Parser::new(&GenericDialect).try_with_sql(sql).and_then(|mut parser| parser.parse_query());
    parsed.map(|query| *query).map_err(|error| EngineError::Internal(format!("{sql} cannot be parsed: {error}")))
}

fn equal(left: &[Expr], right: &[Expr]) -> Result<Expr> {
    same_length(left, right)?;
    let terms = left.iter().zip(right).map(|(a, b)| binary(a.clone(), BinaryOperator::Eq, b.clone())).collect();
    Ok(balanced(terms, &BinaryOperator::And))
}

fn same_length(left: &[Expr], right: &[Expr]) -> Result<()> {
    if left.len() == right.len() {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "rows of {} and {} values are compared; give both as many values",
        left.len(),
        right.len()
    )))
}

/// All terms under one operator, as a tree of little depth.
fn balanced(mut terms: Vec<Expr>, op: &BinaryOperator) -> Expr {
    while terms.len() > 1 {
        let mut halved = Vec::with_capacity(terms.len().div_ceil(2));
        let mut rest = terms.into_iter();
        while let Some(left) = rest.next() {
            halved.push(match rest.next() {
                Some(right) => nested(binary(left, op.clone(), right)),
                None => left,
            });
        }
        terms = halved;
    }
    terms.pop().unwrap_or_else(|| boolean(false))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(operand(left)), op, right: Box::new(operand(right)) }
}

/// In parentheses where it may bind less than the operator.
fn operand(expr: Expr) -> Expr {
    match expr {
        Expr::BinaryOp { .. } | Expr::UnaryOp { .. } | Expr::Between { .. } | Expr::Like { .. } => nested(expr),
        other => other,
    }
}

fn nested(expr: Expr) -> Expr {
    match expr {
        Expr::Nested(_) => expr,
        other => Expr::Nested(Box::new(other)),
    }
}

fn not_if(negated: bool, expr: Expr) -> Expr {
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(nested(expr)) } } else { expr }
}

fn boolean(value: bool) -> Expr {
    Expr::Value(ValueWithSpan::from(Value::Boolean(value)))
}
