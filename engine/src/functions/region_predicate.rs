//! From a condition to the region of sky outside of which it cannot be true.
//!
//! Chunks are pruned by this, so every step may lose knowledge but never add any: a region that is
//! too small is a silently wrong answer.

use std::any::Any;
use std::borrow::Cow;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use skyflight_sky::{Circle, ConvexPolygon, Degrees, Position, Region};

use super::arguments::{constant, constant_number, has_inputs, strip};
use super::contains::Contains;
use super::footprint::Footprint;
use super::membership::PointIn;
use super::separation::Angle;

/// What a predicate says about a position: when it is true, (`ra`, `dec`) lies in `region`.
#[derive(Debug, Clone)]
pub struct RegionPredicate {
    /// Right ascension in degrees; aliases and casts to Float64 are taken off.
    pub ra: Expr,
    /// Declination in degrees; aliases and casts to Float64 are taken off.
    pub dec: Expr,
    /// Where the position is when the predicate is true.
    pub region: Region,
}

/// Reads one conjunct; AND and OR are the caller's to walk.
///
/// Understood are comparisons that only hold where a sky predicate with constant region is 1
/// (`CONTAINS(POINT(ra, dec), CIRCLE(10, 20, 1)) = 1`, `0 < s2PtInBox(…)`, `qserv_areaspec_*` after
/// [`AreaSpecRule`](super::AreaSpecRule), bare calls), and upper limits on the angle from a constant
/// position (`separation(…) < r`, `r >= DISTANCE(…)`, `BETWEEN 0 AND r`, `… * 3600 < r`).
///
/// `None` where the predicate says nothing usable; it may still be true of few rows.
pub fn region_predicate(predicate: &Expr) -> Option<RegionPredicate> {
    match predicate {
        Expr::Alias(alias) => region_predicate(&alias.expr),
        Expr::IsTrue(inner) => region_predicate(inner),
        Expr::Cast(cast) if cast.field.data_type() == &DataType::Boolean => region_predicate(&cast.expr),
        Expr::Not(inner) => match &**inner {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => comparison(left, op.negate()?, right),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => comparison(left, *op, right),
        Expr::Between(Between { expr, negated: false, low, high }) => {
            comparison(expr, Operator::LtEq, high).or_else(|| comparison(expr, Operator::GtEq, low))
        }
        Expr::InList(InList { expr, list, negated: false }) => in_list(expr, list),
        Expr::ScalarFunction(_) => membership(predicate),
        _ => None,
    }
}

fn comparison(left: &Expr, op: Operator, right: &Expr) -> Option<RegionPredicate> {
    let (tested, op, limit) = match (constant_number(left), constant_number(right)) {
        (None, Some(limit)) => (left, op, limit),
        (Some(limit), None) => (right, op.swap()?, limit),
        _ => return None,
    };
    // Arrow orders NaN above all numbers; no such comparison is worth reading.
    if limit.is_nan() {
        return None;
    }
    if !zero_satisfies(op, limit)?
        && let Some(found) = membership(tested)
    {
        return Some(found);
    }
    within(tested, op, limit)
}

/// Whether `0 <op> limit` holds; `None` for operators that are not understood, which includes those
/// that are true of NULL.
pub(super) fn zero_satisfies(op: Operator, limit: f64) -> Option<bool> {
    match op {
        Operator::Eq | Operator::IsNotDistinctFrom => Some(limit == 0.0),
        Operator::NotEq => Some(limit != 0.0),
        Operator::Lt => Some(0.0 < limit),
        Operator::LtEq => Some(0.0 <= limit),
        Operator::Gt => Some(0.0 > limit),
        Operator::GtEq => Some(0.0 >= limit),
        _ => None,
    }
}

fn in_list(expr: &Expr, list: &[Expr]) -> Option<RegionPredicate> {
    let nonzero = |item: &Expr| constant_number(item).is_some_and(|n| n != 0.0 && !n.is_nan());
    if list.is_empty() || !list.iter().all(nonzero) {
        return None;
    }
    membership(expr)
}

/// The region a sky predicate asks about, which holds the position wherever the predicate is not 0.
fn membership(expr: &Expr) -> Option<RegionPredicate> {
    if let Some([ra, dec, bytes]) = PointIn::bytes_call(strip_number_casts(expr)) {
        let ScalarValue::Binary(Some(bytes)) = constant(bytes)? else { return None };
        let polygon = ConvexPolygon::from_bytes(&bytes).ok()?;
        return position_of(ra, dec, Region::Polygon(polygon));
    }
    if let Expr::ScalarFunction(call) = strip_number_casts(expr) {
        let function: &dyn Any = call.func.inner().as_ref();
        let compared = function.downcast_ref::<Contains>().and_then(|contains| contains.center_of_circle(&call.args));
        if let Some((ra, dec, region)) = compared {
            return position_of(&ra, &dec, region);
        }
    }
    let (footprint, numbers) = sky_test(expr)?;
    let [ra, dec, parameters @ ..] = numbers.as_ref() else { return None };
    let parameters: Option<Vec<f64>> = parameters.iter().map(constant_number).collect();
    let region = footprint.region(&parameters?).ok()?;
    position_of(ra, dec, region)
}

/// The shape a sky predicate tests for, and its numbers: right ascension and declination of the
/// position, then those of the shape.
pub(super) fn sky_test(expr: &Expr) -> Option<(Footprint, Cow<'_, [Expr]>)> {
    let expr = strip_number_casts(expr);
    if let Some((test, numbers)) = PointIn::of(expr) {
        return Some((test.footprint(), Cow::Borrowed(numbers)));
    }
    let Expr::ScalarFunction(call) = expr else { return None };
    let function: &dyn Any = call.func.inner().as_ref();
    let (test, numbers) = function.downcast_ref::<Contains>()?.flatten(&call.args)?;
    Some((test.footprint(), Cow::Owned(numbers)))
}

/// An upper limit on a separation from a constant position.
fn within(expr: &Expr, op: Operator, limit: f64) -> Option<RegionPredicate> {
    let ([ra1, dec1, ra2, dec2], scale) = limited_separation(expr, op)?;
    let position =
        |ra: &Expr, dec: &Expr| Position::new(Degrees(constant_number(ra)?), Degrees(constant_number(dec)?)).ok();
    let (center, ra, dec) = match (position(&ra1, &dec1), position(&ra2, &dec2)) {
        (Some(center), None) => (center, ra2, dec2),
        (None, Some(center)) => (center, ra1, dec1),
        _ => return None,
    };
    // The limit divided by the scale is not to the last bit the limit that the rows are compared
    // with; a few microarcseconds more are certainly enough.
    let radius = if scale == 1.0 { limit } else { limit / scale + 1e-9 };
    let circle = Circle::new(center, Degrees(radius)).ok()?;
    position_of(&ra, &dec, Region::Circle(circle))
}

/// The positions, as (ra1, dec1, ra2, dec2), whose separation `expr <op> limit` limits from above, and
/// the factor that the separation is multiplied by.
pub(super) fn limited_separation(expr: &Expr, op: Operator) -> Option<([Expr; 4], f64)> {
    if !matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq | Operator::IsNotDistinctFrom) {
        return None;
    }
    let (expr, scale) = unscaled(expr)?;
    Some((Angle::separated(expr)?, scale))
}

/// An angle and the factor it is multiplied by: `separation(…) * 3600` is in arcseconds.
fn unscaled(expr: &Expr) -> Option<(&Expr, f64)> {
    let expr = strip(expr);
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return Some((expr, 1.0)) };
    let (inner, factor) = match (op, constant_number(left), constant_number(right)) {
        (Operator::Multiply, None, Some(factor)) => (left, factor),
        (Operator::Multiply, Some(factor), None) => (right, factor),
        (Operator::Divide, None, Some(divisor)) => (left, 1.0 / divisor),
        _ => return None,
    };
    // Beyond this the product could overflow or lose its digits.
    (1e-9..=1e9).contains(&factor).then(|| (strip(inner), factor))
}

fn position_of(ra: &Expr, dec: &Expr, region: Region) -> Option<RegionPredicate> {
    if !has_inputs(ra) && !has_inputs(dec) {
        return None;
    }
    Some(RegionPredicate { ra: strip(ra).clone(), dec: strip(dec).clone(), region })
}

/// A 0-or-1 number without the casts that keep 0 apart from 1.
fn strip_number_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => strip_number_casts(&alias.expr),
        Expr::Cast(cast) if keeps_zero_and_one(cast.field.data_type()) => strip_number_casts(&cast.expr),
        Expr::TryCast(cast) if keeps_zero_and_one(cast.field.data_type()) => strip_number_casts(&cast.expr),
        _ => expr,
    }
}

fn keeps_zero_and_one(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type == &DataType::Boolean
}
