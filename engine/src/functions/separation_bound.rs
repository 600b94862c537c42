//! From a condition to an upper limit on the angle between two positions, the radius being whatever
//! expression the query compares with.

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::expr::Between;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast, lit};

use super::arguments::{constant_number, strip};
use super::footprint::Footprint;
use super::region_predicate::{limited_separation, sky_test, zero_satisfies};

/// What a predicate says about two positions: it is true only where they are at most `radius` apart.
#[derive(Debug, Clone)]
pub(crate) struct SeparationBound {
    /// Right ascension and declination of one, in degrees.
    pub(crate) from: [Expr; 2],
    /// Right ascension and declination of the other, in degrees.
    pub(crate) to: [Expr; 2],
    /// In degrees, as Float64; to the last bit only where the predicate gives it in degrees.
    pub(crate) radius: Expr,
    /// The predicate is also true wherever they are less than `radius` apart, but for its last bits.
    pub(crate) is_all: bool,
}

/// Reads one conjunct.
///
/// Understood are `separation(…) < r` and its other spellings (`scisql_angSep`, `DISTANCE`, scaled by
/// a constant, BETWEEN, NOT) and membership in a circle (`CONTAINS(POINT(…), CIRCLE(…)) = 1`,
/// `scisql_s2PtInCircle(…) = 1`), r being any expression.
pub(crate) fn separation_bound(predicate: &Expr) -> Option<SeparationBound> {
    match predicate {
        Expr::Alias(alias) => separation_bound(&alias.expr),
        Expr::IsTrue(inner) => separation_bound(inner),
        Expr::Not(inner) => match &**inner {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => comparison(left, op.negate()?, right),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => comparison(left, *op, right),
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let bound = within(expr, Operator::LtEq, high)?;
            let from_zero = constant_number(low).is_some_and(|low| low <= 0.0);
            Some(SeparationBound { is_all: bound.is_all && from_zero, ..bound })
        }
        Expr::Cast(cast) if cast.field.data_type() == &DataType::Boolean => in_circle(&cast.expr),
        _ => None,
    }
}

fn comparison(left: &Expr, op: Operator, right: &Expr) -> Option<SeparationBound> {
    let tested = match (constant_number(left), constant_number(right)) {
        (None, Some(limit)) if zero_satisfies(op, limit) == Some(false) => in_circle(left),
        (Some(limit), None) if zero_satisfies(op.swap()?, limit) == Some(false) => in_circle(right),
        _ => None,
    };
    tested.or_else(|| within(left, op, right)).or_else(|| within(right, op.swap()?, left))
}

/// A test for a circle that is true only inside of it.
fn in_circle(expr: &Expr) -> Option<SeparationBound> {
    let (footprint, numbers) = sky_test(expr)?;
    let [ra, dec, center_ra, center_dec, radius] = numbers.as_ref() else { return None };
    (footprint == Footprint::Circle).then(|| SeparationBound {
        from: [strip(ra).clone(), strip(dec).clone()],
        to: [strip(center_ra).clone(), strip(center_dec).clone()],
        radius: number(radius),
        is_all: true,
    })
}

/// A separation that is at most `limit`.
fn within(expr: &Expr, op: Operator, limit: &Expr) -> Option<SeparationBound> {
    let ([ra1, dec1, ra2, dec2], scale) = limited_separation(expr, op)?;
    let radius = if scale == 1.0 { number(limit) } else { number(limit) / lit(scale) };
    Some(SeparationBound {
        from: [strip(&ra1).clone(), strip(&dec1).clone()],
        to: [strip(&ra2).clone(), strip(&dec2).clone()],
        radius,
        is_all: matches!(op, Operator::Lt | Operator::LtEq),
    })
}

fn number(expr: &Expr) -> Expr {
    cast(strip(expr).clone(), DataType::Float64)
}
