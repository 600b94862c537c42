//! Angles between positions: `separation`, `scisql_angSep`, `DISTANCE` and `position_angle`.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, exec_err, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use skyflight_sky::{Degrees, Position};

use super::arguments::{Numbers, Positions, map_rows, number_types, scalar_number};
use super::docs;
use super::geometry::{Geometries, GeometryExpr, Shape, geometry_type, is_geometry};

/// An angle in degrees made of two positions; NULL where either is NULL or no position.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Angle {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// `(ra1, dec1, ra2, dec2)`.
    Separation,
    /// As above, or `(x1, y1, z1, x2, y2, z2)`, vectors of any length.
    SeparationOrVectors,
    /// As the first, or `(point, point)`.
    Distance,
    /// `(ra1, dec1, ra2, dec2)`.
    PositionAngle,
}

impl Angle {
    fn new(name: &'static str, kind: Kind) -> Self {
        Angle { name, kind, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn separation() -> Self {
        Angle::new("separation", Kind::Separation)
    }

    pub(super) fn scisql_ang_sep() -> Self {
        Angle::new("scisql_angsep", Kind::SeparationOrVectors)
    }

    pub(super) fn distance() -> Self {
        Angle::new("distance", Kind::Distance)
    }

    pub(super) fn position_angle() -> Self {
        Angle::new("position_angle", Kind::PositionAngle)
    }

    /// The two positions, as (ra1, dec1, ra2, dec2), of an expression that is their separation.
    pub(super) fn separated(expr: &Expr) -> Option<[Expr; 4]> {
        let Expr::ScalarFunction(call) = expr else { return None };
        let function: &dyn Any = call.func.inner().as_ref();
        let angle = function.downcast_ref::<Angle>()?;
        if angle.kind == Kind::PositionAngle {
            return None;
        }
        angle.flatten(&call.args)
    }

    fn flatten(&self, args: &[Expr]) -> Option<[Expr; 4]> {
        match args {
            [from, to] => {
                let (from, to) = (GeometryExpr::read(from)?, GeometryExpr::read(to)?);
                if from.shape != Shape::Point || to.shape != Shape::Point {
                    return None;
                }
                let numbers = [from.coordinates, to.coordinates].concat();
                <[Expr; 4]>::try_from(numbers).ok()
            }
            _ => <[Expr; 4]>::try_from(args.to_vec()).ok(),
        }
    }

    fn usage(&self) -> String {
        match self.kind {
            Kind::SeparationOrVectors => format!("{0}(ra1, dec1, ra2, dec2) or {0}(x1, y1, z1, x2, y2, z2)", self.name),
            Kind::Distance => format!("{0}(point, point) or {0}(ra1, dec1, ra2, dec2)", self.name),
            Kind::Separation | Kind::PositionAngle => format!("{}(ra1, dec1, ra2, dec2)", self.name),
        }
    }
}

impl ScalarUDFImpl for Angle {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if self.kind == Kind::Distance
            && let [from, to] = given
            && (is_geometry(from) || from.is_null())
            && (is_geometry(to) || to.is_null())
        {
            return Ok(vec![geometry_type(), geometry_type()]);
        }
        let accepts = |count| count == 4 || (count == 6 && self.kind == Kind::SeparationOrVectors);
        number_types(self.name, given, accepts, &self.usage())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if let [_, first, _, second] = args.scalar_arguments {
            for dec in [first, second].into_iter().filter_map(|s| s.and_then(scalar_number)) {
                if let Err(problem) = Position::new(Degrees(0.0), Degrees(dec)) {
                    return plan_err!("{}: {problem}", self.name);
                }
            }
        }
        Ok(Arc::new(Field::new(self.name, DataType::Float64, true)))
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        // One spelling of DISTANCE is left to run and to prune by.
        if self.kind == Kind::Distance
            && let Some(numbers) = self.flatten(&args)
        {
            let function = Arc::new(ScalarUDF::from(Angle::separation()));
            let call = ScalarFunction::new_udf(function, numbers.to_vec());
            return Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)));
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [from, to] = args.args.as_slice() {
            return distances(&args, from, to);
        }
        let numbers = Numbers::read_all(&args.args)?;
        match numbers.as_slice() {
            [ra1, dec1, ra2, dec2] => {
                let (from, to) = (Positions::new(ra1, dec1), Positions::new(ra2, dec2));
                let angle = match self.kind {
                    Kind::PositionAngle => skyflight_sky::position_angle,
                    Kind::Separation | Kind::SeparationOrVectors | Kind::Distance => skyflight_sky::separation,
                };
                map_rows::<Float64Type>(&args, |row| Some(angle(from.get(row)?, to.get(row)?).0))
            }
            [x1, y1, z1, x2, y2, z2] => map_rows::<Float64Type>(&args, |row| {
                let from = [x1.get(row)?, y1.get(row)?, z1.get(row)?];
                let to = [x2.get(row)?, y2.get(row)?, z2.get(row)?];
                vector_angle(from, to)
            }),
            _ => internal_err!("{} was given {} arguments", self.name, args.args.len()),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}

fn distances(args: &ScalarFunctionArgs, from: &ColumnarValue, to: &ColumnarValue) -> Result<ColumnarValue> {
    let (from, to) = (Geometries::read(from)?, Geometries::read(to)?);
    let mut misuse = None;
    let result = map_rows::<Float64Type>(args, |row| {
        let (a, b) = (from.get(row)?, to.get(row)?);
        match (from.point(row), to.point(row)) {
            (Some((ra1, dec1)), Some((ra2, dec2))) => {
                let a = Position::new(Degrees(ra1), Degrees(dec1)).ok()?;
                let b = Position::new(Degrees(ra2), Degrees(dec2)).ok()?;
                Some(skyflight_sky::separation(a, b).0)
            }
            _ => {
                misuse = Some((a.0, b.0));
                None
            }
        }
    })?;
    match misuse {
        Some((a, b)) => {
            exec_err!("distance takes two points, not {} and {}; use distance(point, point)", a.name(), b.name())
        }
        None => Ok(result),
    }
}

/// The angle between two vectors in degrees, from their cross and dot products so that it is
/// accurate at 0 and 180; `None` where a component is not finite or a vector has no direction.
fn vector_angle(a: [f64; 3], b: [f64; 3]) -> Option<f64> {
    let (a, b) = (direction(a)?, direction(b)?);
    let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let sine = cross.iter().map(|c| c * c).sum::<f64>().sqrt();
    Some(sine.atan2(dot).to_degrees())
}

/// The vector brought near length one, so that products of its components neither overflow nor vanish.
fn direction(v: [f64; 3]) -> Option<[f64; 3]> {
    let largest = v.iter().fold(0.0_f64, |m, c| if c.is_nan() { f64::NAN } else { m.max(c.abs()) });
    (largest.is_finite() && largest > 0.0 && v.iter().all(|c| c.is_finite())).then(|| v.map(|c| c / largest))
}
