//! Whether positions lie in a region whose numbers are written out: scisql's `s2PtIn*`, and the
//! form that `CONTAINS` takes when it is run.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Numbers, map_rows, number_types, scalar_number};
use super::docs;
use super::footprint::{Footprint, RegionTest};
use super::geometry::Shape;

/// What a test says of a row that lacks a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum OnNull {
    /// 0, as scisql's functions do.
    Outside,
    /// NULL, as SQL does.
    Null,
}

/// 1 where (ra, dec), the first two arguments, lies in the region of the others, else 0.
///
/// NULL where the numbers are no position or no region, as in scisql.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PointIn {
    name: &'static str,
    footprint: Footprint,
    on_null: OnNull,
    signature: Signature,
}

impl PointIn {
    /// A function of scisql under one of its names.
    pub(super) fn scisql(name: &'static str, footprint: Footprint) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        PointIn { name, footprint, on_null: OnNull::Outside, signature }
    }

    /// The test that stands for `CONTAINS(POINT(ra, dec), <shape>)`; none where it has no area.
    pub(super) fn adql(shape: Shape) -> Option<Self> {
        let name = match shape {
            Shape::Point => return None,
            Shape::Circle => "adql_in_circle",
            Shape::Box => "adql_in_box",
            Shape::Polygon => "adql_in_polygon",
            Shape::Ellipse => "adql_in_ellipse",
        };
        let signature = Signature::user_defined(Volatility::Immutable);
        Some(PointIn { name, footprint: shape.footprint()?, on_null: OnNull::Null, signature })
    }

    /// The function an expression calls, and its arguments, if it is one of these.
    pub(super) fn of(expr: &Expr) -> Option<(&PointIn, &[Expr])> {
        let Expr::ScalarFunction(call) = expr else { return None };
        let function: &dyn Any = call.func.inner().as_ref();
        Some((function.downcast_ref::<PointIn>()?, &call.args))
    }

    pub(super) fn footprint(&self) -> Footprint {
        self.footprint
    }

    fn usage(&self) -> String {
        format!("{}(ra, dec, {})", self.name, self.footprint.usage())
    }
}

impl ScalarUDFImpl for PointIn {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let accepts = |count: usize| count > 2 && self.footprint.accepts(count - 2);
        number_types(self.name, given, accepts, &self.usage())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let known: Vec<Option<f64>> = args.scalar_arguments.iter().skip(2).map(|s| s.and_then(scalar_number)).collect();
        if let Err(problem) = self.footprint.check(&known) {
            return plan_err!("{}: {problem}", self.name);
        }
        Ok(Arc::new(Field::new(self.name, DataType::Int32, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = Numbers::read_all(&args.args)?;
        let [ra, dec, region @ ..] = numbers.as_slice() else {
            return exec_err!("use {}", self.usage());
        };
        let missing = match self.on_null {
            OnNull::Outside => Some(0),
            OnNull::Null => None,
        };
        let mut parameters = Vec::with_capacity(region.len());
        if region.iter().all(Numbers::is_constant) {
            parameters.extend(region.iter().map_while(|n| n.get(0)));
            if parameters.len() < region.len() {
                return map_rows::<Int32Type>(&args, |_| missing);
            }
            let test = match RegionTest::new(self.footprint, &parameters) {
                Ok(test) => test,
                Err(problem) => return exec_err!("{}: {problem}", self.name),
            };
            return map_rows::<Int32Type>(&args, |row| match (ra.get(row), dec.get(row)) {
                (Some(ra), Some(dec)) => test.contains(ra, dec).map(i32::from),
                _ => missing,
            });
        }
        map_rows::<Int32Type>(&args, |row| {
            parameters.clear();
            parameters.extend(region.iter().map_while(|n| n.get(row)));
            match (ra.get(row), dec.get(row)) {
                (Some(ra), Some(dec)) if parameters.len() == region.len() => {
                    contains_once(self.footprint, &parameters, ra, dec).map(i32::from)
                }
                _ => missing,
            }
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}

/// Asks about one position of a region that is not asked about again; `None` when either is none.
pub(super) fn contains_once(footprint: Footprint, parameters: &[f64], ra: f64, dec: f64) -> Option<bool> {
    use skyflight_sky::{Degrees, Position};
    let position = Position::new(Degrees(ra), Degrees(dec)).ok()?;
    Some(footprint.region(parameters).ok()?.contains(position))
}
