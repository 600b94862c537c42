//! `CONTAINS` and `INTERSECTS` of ADQL.
//!
//! Where a point and a region are written in place, which is nearly always, the planner replaces the
//! call by a test of numbers that builds no geometry and from which chunks are pruned.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{Result, exec_err, internal_err, plan_err};
use datafusion::functions::string;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use skyflight_sky::{Circle, Degrees, Region};

use super::arguments::{constant_number, map_rows};
use super::docs;
use super::footprint::{Footprint, RegionTest};
use super::geometry::{Geometries, GeometryExpr, Shape, geometry_type, is_geometry, region};
use super::membership::{PointIn, contains_once};

/// 1 where the first geometry lies in the second, or they have a position in common, else 0; NULL where
/// either is NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Contains {
    name: &'static str,
    /// Whether the arguments may be exchanged, and both be regions or points.
    symmetric: bool,
    signature: Signature,
}

impl Contains {
    /// `CONTAINS(inner, region)`. Of two strings it is the search for one in the other, as without
    /// Skyflight.
    pub(super) fn new() -> Self {
        Contains { name: "contains", symmetric: false, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// `INTERSECTS` of any two geometries.
    pub(super) fn intersects() -> Self {
        Contains { name: "intersects", symmetric: true, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The test of numbers that gives the same answer, where both geometries are written in place.
    pub(super) fn flatten(&self, args: &[Expr]) -> Option<(PointIn, Vec<Expr>)> {
        let [first, second] = args else { return None };
        let (mut point, mut region) = (GeometryExpr::read(first)?, GeometryExpr::read(second)?);
        if self.symmetric && point.shape != Shape::Point {
            std::mem::swap(&mut point, &mut region);
        }
        if point.shape != Shape::Point {
            return None;
        }
        let test = PointIn::adql(region.shape)?;
        let mut numbers = point.coordinates;
        numbers.extend(region.coordinates);
        Some((test, numbers))
    }

    /// Where the centre of a circle of constant radius lies, written in place about a position of the row, when it
    /// lies in or meets a constant region: its right ascension and declination, and that place.
    pub(super) fn center_of_circle(&self, args: &[Expr]) -> Option<(Expr, Expr, Region)> {
        let [first, second] = args else { return None };
        let (first, second) = (GeometryExpr::read(first)?, GeometryExpr::read(second)?);
        let one_way = self.center_within(&first, &second);
        if self.symmetric { one_way.or_else(|| self.center_within(&second, &first)) } else { one_way }
    }

    fn center_within(&self, circle: &GeometryExpr, other: &GeometryExpr) -> Option<(Expr, Expr, Region)> {
        let (Shape::Circle, [ra, dec, radius]) = (circle.shape, circle.coordinates.as_slice()) else { return None };
        let radius = constant_number(radius)?;
        let numbers = other.coordinates.iter().map(constant_number).collect::<Option<Vec<f64>>>()?;
        let footprint = other.shape.footprint()?;
        let place = if self.symmetric {
            // No farther from a circle around the region than the radius, and a little for rounding.
            let (center, far) = footprint.enclosing(&numbers)?;
            Region::Circle(Circle::new(center, Degrees(far + radius + 1e-6)).ok()?)
        } else {
            footprint.region(&numbers).ok()?
        };
        Some((ra.clone(), dec.clone(), place))
    }

    fn usage(&self) -> String {
        format!("{}(point(ra, dec), circle(ra, dec, radius))", self.name)
    }
}

impl ScalarUDFImpl for Contains {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [first, second] = given else {
            return plan_err!("{} takes two geometries; use {}", self.name, self.usage());
        };
        if self.is_text(given) {
            // The string search takes a dictionary as the strings it stands for.
            let view = given.contains(&DataType::Utf8View);
            let text = if view { DataType::Utf8View } else { DataType::Utf8 };
            return Ok(vec![text.clone(), text]);
        }
        for (data_type, place) in [(first, "first"), (second, "second")] {
            if !is_geometry(data_type) && !data_type.is_null() {
                return plan_err!(
                    "the {place} argument of {} is {data_type}, not a geometry; use {}",
                    self.name,
                    self.usage()
                );
            }
        }
        Ok(vec![geometry_type(), geometry_type()])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(if self.is_text(given) { DataType::Boolean } else { DataType::Int32 })
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.flatten(&args) {
            Some((test, numbers)) => {
                let function = Arc::new(ScalarUDF::from(test));
                let call = ScalarFunction::new_udf(function, numbers);
                ExprSimplifyResult::Simplified(Expr::ScalarFunction(call))
            }
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        if self.is_text(&types) {
            return string::contains().invoke_with_args(args);
        }
        let [first, second] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name, args.args.len());
        };
        let (first, second) = (Geometries::read(first)?, Geometries::read(second)?);
        // A region that is the same for all rows is made ready once.
        let mut ready = None;
        if second.is_constant()
            && let Some((shape, numbers)) = second.get(0)
            && let Some(footprint) = shape.footprint()
        {
            match RegionTest::new(footprint, numbers) {
                Ok(test) => ready = Some(test),
                Err(problem) => return exec_err!("{}: {problem}", self.name),
            }
        }
        let regions = Regions::new(&first, &second);
        map_rows::<Int32Type>(&args, |row| {
            let (a, b) = (first.get(row)?, second.get(row)?);
            match (&ready, Pair::of(a, b, self.symmetric)) {
                (_, None) if self.symmetric => regions.compared(a, b, Region::intersects).map(i32::from),
                (_, None) => regions.compared(a, b, |inner, outer| outer.holds_region(inner)).map(i32::from),
                (Some(test), Some(pair)) if !pair.swapped => test.contains(pair.ra, pair.dec).map(i32::from),
                (_, Some(pair)) => contains_once(pair.footprint, pair.parameters, pair.ra, pair.dec).map(i32::from),
            }
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}

impl Contains {
    fn is_text(&self, types: &[DataType]) -> bool {
        let is_string = |t: &DataType| match t {
            DataType::Dictionary(_, values) => values.is_string(),
            _ => t.is_string(),
        };
        self.name == "contains" && types.iter().any(is_string)
    }
}

/// Two columns of geometries as regions, those that are the same for all rows made ready once.
struct Regions {
    first: Option<Region>,
    second: Option<Region>,
}

impl Regions {
    fn new(first: &Geometries, second: &Geometries) -> Self {
        let ready = |given: &Geometries| {
            let (shape, numbers) = given.get(0).filter(|_| given.is_constant())?;
            region(shape, numbers)
        };
        Regions { first: ready(first), second: ready(second) }
    }

    /// `None` where a geometry is none.
    fn compared(
        &self,
        a: (Shape, &[f64]),
        b: (Shape, &[f64]),
        how: impl Fn(&Region, &Region) -> Option<bool>,
    ) -> Option<bool> {
        match (&self.first, &self.second) {
            (Some(first), Some(second)) => how(first, second),
            (Some(first), None) => how(first, &region(b.0, b.1)?),
            (None, Some(second)) => how(&region(a.0, a.1)?, second),
            (None, None) => how(&region(a.0, a.1)?, &region(b.0, b.1)?),
        }
    }
}

/// A point and a region out of two geometries.
struct Pair<'a> {
    ra: f64,
    dec: f64,
    footprint: Footprint,
    parameters: &'a [f64],
    /// The point came second.
    swapped: bool,
}

impl<'a> Pair<'a> {
    fn of(a: (Shape, &'a [f64]), b: (Shape, &'a [f64]), symmetric: bool) -> Option<Self> {
        match (a, b) {
            ((Shape::Point, &[ra, dec]), (shape, parameters)) if shape != Shape::Point => {
                Some(Pair { ra, dec, footprint: shape.footprint()?, parameters, swapped: false })
            }
            ((shape, _), (Shape::Point, _)) if symmetric && shape != Shape::Point => {
                Pair::of(b, a, false).map(|pair| Pair { swapped: true, ..pair })
            }
            _ => None,
        }
    }
}
