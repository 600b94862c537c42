//! Whether a join condition keeps its two sides near each other, and how near.
//!
//! What is found here only bounds where matches can be. The whole condition is still asked of every
//! pair that is near enough, so a bound may be too wide, never too narrow.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions::math::expr_fn::{abs, sqrt};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast, lit, when};

use crate::functions::{SeparationBound, constant_number, scalar_number, separation_bound};
use crate::steady::is_steady;

/// Rows of the two sides match only where their positions are at most
/// `constant + left_radius + right_radius` degrees apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Nearness {
    /// Right ascension and declination of a left row, in degrees.
    pub(crate) left: [Expr; 2],
    /// The same of a right row.
    pub(crate) right: [Expr; 2],
    /// The part of the radius that is the same for all rows, as a literal: plans are compared.
    pub(crate) constant: ScalarValue,
    /// The part that a left row adds; NULL where it matches nothing.
    pub(crate) left_radius: Option<Expr>,
    /// The part that a right row adds; NULL where it matches nothing.
    pub(crate) right_radius: Option<Expr>,
    /// Which of the condition's conjuncts says that they are near, and nothing else. Only with a constant
    /// radius, and where all others can be asked without it.
    pub(crate) conjunct: Option<usize>,
}

impl Nearness {
    /// The radius in degrees, where it is the same for all pairs.
    pub(crate) fn constant_radius(&self) -> Option<f64> {
        (self.left_radius.is_none() && self.right_radius.is_none()).then(|| self.constant_deg())
    }

    /// The part of the radius that is the same for all rows, in degrees.
    pub(crate) fn constant_deg(&self) -> f64 {
        scalar_number(&self.constant).unwrap_or(WHOLE_SKY)
    }
}

/// Reads the condition of a join between rows of two schemas.
pub(crate) fn nearness(condition: &Expr, left: &DFSchema, right: &DFSchema) -> Option<Nearness> {
    let sides = Sides { left, right };
    let conjuncts = split_conjunction(condition);
    let can_part = conjuncts.iter().all(|conjunct| is_steady(conjunct));
    let read = |(at, conjunct)| {
        let bound = separation_bound(conjunct)?;
        let is_all = bound.is_all;
        let near = sides.nearness(bound)?;
        let conjunct = (is_all && can_part && near.constant_radius().is_some()).then_some(at);
        Some(Nearness { conjunct, ..near })
    };
    let found: Vec<Nearness> = conjuncts.into_iter().enumerate().filter_map(read).collect();
    // A radius known now lets the join run beside chunks; of several the smallest finds least.
    let constant = found.iter().filter(|n| n.constant_radius().is_some());
    let smallest = constant.min_by(|a, b| a.constant_deg().total_cmp(&b.constant_deg()));
    smallest.or(found.first()).cloned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Neither,
    Left,
    Right,
    Both,
}

struct Sides<'a> {
    left: &'a DFSchema,
    right: &'a DFSchema,
}

impl Sides<'_> {
    fn of(&self, expr: &Expr) -> Option<Side> {
        if !is_steady(expr) {
            return None;
        }
        let (mut left, mut right) = (false, false);
        for column in expr.column_refs() {
            // A column that both could mean is none that a planned condition has.
            match (self.left.has_column(column), self.right.has_column(column)) {
                (true, false) => left = true,
                (false, true) => right = true,
                _ => return None,
            }
        }
        Some(match (left, right) {
            (false, false) => Side::Neither,
            (true, false) => Side::Left,
            (false, true) => Side::Right,
            (true, true) => Side::Both,
        })
    }

    fn position(&self, position: &[Expr; 2]) -> Option<Side> {
        match (self.of(&position[0])?, self.of(&position[1])?) {
            (a, b) if a == b => Some(a),
            // One coordinate may be a constant.
            (Side::Neither, side) | (side, Side::Neither) => Some(side),
            _ => Some(Side::Both),
        }
    }

    fn nearness(&self, bound: SeparationBound) -> Option<Nearness> {
        let (left, right) = match (self.position(&bound.from)?, self.position(&bound.to)?) {
            (Side::Left, Side::Right) => (bound.from, bound.to),
            (Side::Right, Side::Left) => (bound.to, bound.from),
            _ => return None,
        };
        let radius = self.radius(&bound.radius)?;
        Some(Nearness {
            left,
            right,
            // A radius that is no number, which Arrow orders above all, is as good as the whole sky.
            constant: if radius.constant.is_nan() { WHOLE_SKY } else { radius.constant }.into(),
            left_radius: radius.left,
            right_radius: radius.right,
            conjunct: None,
        })
    }

    /// A sum of parts, each of one side, that is never less than the radius.
    fn radius(&self, expr: &Expr) -> Option<Radius> {
        match self.of(expr)? {
            Side::Neither => return constant_number(expr).map(Radius::constant),
            Side::Left => return Some(Radius { left: Some(expr.clone()), ..Radius::constant(0.0) }),
            Side::Right => return Some(Radius { right: Some(expr.clone()), ..Radius::constant(0.0) }),
            Side::Both => {}
        }
        match expr {
            Expr::Alias(alias) => self.radius(&alias.expr),
            Expr::Cast(cast) if cast.field.data_type() == &DataType::Float64 => self.radius(&cast.expr),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
                Some(self.radius(left)?.plus(self.radius(right)?))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Multiply, right }) => {
                let (factor, rest) = match (constant_number(left), constant_number(right)) {
                    (Some(factor), None) => (factor, right),
                    (None, Some(factor)) => (factor, left),
                    _ => return None,
                };
                if factor < 0.0 {
                    return None;
                }
                self.radius(rest)?.try_map(|part| Some(part * lit(factor)))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }) => {
                let divisor = constant_number(right).filter(|d| *d > 0.0)?;
                self.radius(left)?.try_map(|part| Some(part / lit(divisor)))
            }
            // The root of a sum is at most the sum of the roots.
            Expr::ScalarFunction(call) if call.func.name() == "sqrt" => {
                let [inner] = call.args.as_slice() else { return None };
                let inner = self.radius(inner)?;
                Radius { constant: inner.constant.max(0.0), ..inner }.try_map(|part| Some(sqrt(part)))
            }
            // The greatest is at most the sum of what is greater than nothing. NULL counts for nothing.
            Expr::ScalarFunction(call) if call.func.name() == "greatest" => {
                let mut sum = Radius::constant(0.0);
                for argument in &call.args {
                    sum = sum.plus(
                        self.radius(argument)?
                            .try_map(|part: Expr| when(part.clone().is_null(), lit(0.0)).otherwise(abs(part)).ok())?,
                    );
                }
                Some(sum)
            }
            _ => None,
        }
    }
}

/// Degrees that no two positions are apart.
const WHOLE_SKY: f64 = 181.0;

struct Radius {
    constant: f64,
    left: Option<Expr>,
    right: Option<Expr>,
}

impl Radius {
    fn constant(constant: f64) -> Radius {
        Radius { constant, left: None, right: None }
    }

    fn plus(self, other: Radius) -> Radius {
        let sum = |a: Option<Expr>, b: Option<Expr>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        Radius {
            constant: self.constant + other.constant,
            left: sum(self.left, other.left),
            right: sum(self.right, other.right),
        }
    }

    /// Applies a function that is never more of a sum than the sum of it.
    fn try_map(self, function: impl Fn(Expr) -> Option<Expr>) -> Option<Radius> {
        let constant = if self.constant == 0.0 { 0.0 } else { constant_number(&function(lit(self.constant))?)? };
        let part = |part: Option<Expr>| match part {
            Some(part) => function(cast(part, DataType::Float64)).map(Some),
            None => Some(None),
        };
        Some(Radius { constant, left: part(self.left)?, right: part(self.right)? })
    }
}
