//! Which conditions the statistics of chunk files may be asked, though these leave NaN out.
//!
//! In a comparison NaN is above all numbers, but the smallest and largest value in a file are those of
//! its numbers: `x > 5` is true of a NaN in a page whose largest number is 3. Such a condition prunes
//! only where the column has no NaN, or where another condition keeps NaN away, as in BETWEEN.

use std::collections::HashSet;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Those of `filters`, all of which must be true, that are false for every row of a file whenever they
/// are for its statistics. `may_be_nan` tells of a floating-point column whether it can hold NaN.
pub(crate) fn prunable(filters: &[Expr], schema: &SchemaRef, may_be_nan: &dyn Fn(&str) -> bool) -> Vec<Expr> {
    let is_float = |name: &str| schema.field_with_name(name).is_ok_and(|field| field.data_type().is_floating());
    let conditions: Vec<&Expr> = filters.iter().flat_map(split_conjunction).collect();
    let without_nan: HashSet<&str> = conditions.iter().filter_map(|condition| keeps_nan_away(condition)).collect();
    let risky = |name: &str| !without_nan.contains(name) && is_float(name) && may_be_nan(name);
    conditions.into_iter().filter(|condition| is_safe(condition, &risky)).cloned().collect()
}

/// True where no NaN in a column that is `risky` can make the condition true.
fn is_safe(condition: &Expr, risky: &dyn Fn(&str) -> bool) -> bool {
    if !condition.column_refs().iter().any(|column| risky(&column.name)) {
        return true;
    }
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or | Operator::And, right }) => {
            is_safe(left, risky) && is_safe(right, risky)
        }
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => matches!(inner.as_ref(), Expr::Column(_)),
        other => keeps_nan_away(other).is_some(),
    }
}

/// The column of a condition that is false where it is NaN: it is below a number, or equal to one.
fn keeps_nan_away(condition: &Expr) -> Option<&str> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Lt | Operator::LtEq | Operator::Eq if is_number(right) => column(left),
            Operator::Gt | Operator::GtEq | Operator::Eq if is_number(left) => column(right),
            _ => None,
        },
        Expr::Between(between) if !between.negated && is_number(&between.high) => column(&between.expr),
        Expr::InList(list) if !list.negated && list.list.iter().all(is_number) => column(&list.expr),
        Expr::Alias(alias) => keeps_nan_away(&alias.expr),
        _ => None,
    }
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Cast(cast) => column(&cast.expr),
        _ => None,
    }
}

/// A literal that is not NaN; NULL makes no condition true.
fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => !value.is_nan(),
        Expr::Literal(ScalarValue::Float32(Some(value)), _) => !value.is_nan(),
        Expr::Literal(ScalarValue::Float16(Some(value)), _) => !value.is_nan(),
        Expr::Literal(..) => true,
        _ => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::prelude::SessionContext;

    use super::*;

    /// The conditions of `sql` that are left, where `x` and `y` may hold NaN and `z` holds none.
    fn left(sql: &str) -> Vec<String> {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let fields =
            [("x", DataType::Float64), ("y", DataType::Float32), ("z", DataType::Float64), ("n", DataType::Int64)];
        let schema = Arc::new(Schema::new(fields.map(|(name, data_type)| field(name, data_type)).to_vec()));
        let state = SessionContext::new().state();
        let expr = state.create_logical_expr(sql, &DFSchema::try_from(Arc::clone(&schema)).unwrap()).unwrap();
        prunable(&[expr], &schema, &|name| name != "z").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn conditions_that_nan_passes_prune_nothing() {
        for sql in [
            "x > 5",
            "x >= 5",
            "5 < x",
            "x <> 5",
            "NOT x <= 5",
            "x = 'NaN'::double",
            "x > n",
            "abs(x) < 3",
            "x IN (5, 'NaN'::double)",
            "x > 5 OR n = 1",
            "x BETWEEN 1 AND 'NaN'::double",
            "-x < 3",
            "x NOT IN (1, 2)",
            "y > 5",
            "x < y",
            "x > 5 AND y > 3",
            "x IS DISTINCT FROM 3",
            "(x > 5) IS TRUE",
        ] {
            assert_eq!(left(sql), Vec::<String>::new(), "{sql}");
        }
    }

    #[test]
    fn conditions_that_nan_fails_prune() {
        for (sql, count) in [
            ("x < 5", 1),
            ("5 >= x", 1),
            ("x = 5", 1),
            ("x IN (1, 2)", 1),
            ("x > 1 AND x < 5", 2),
            ("x > 1 AND y < 5", 1),
            ("z > 5", 1),
            ("z <> n", 1),
            ("n > 5", 1),
            ("x < 5 OR x = 9", 1),
            ("x IS NULL", 1),
            ("x BETWEEN 1 AND 5", 1),
            ("x > 1 AND x = 3 AND n <> 4", 3),
        ] {
            assert_eq!(left(sql).len(), count, "{sql}: {:?}", left(sql));
        }
    }
}
