//! Whether positions lie in a region whose numbers are written out: scisql's `s2PtIn*`, and the
//! form that `CONTAINS` takes when it is run.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use skyflight_sky::{ConvexPolygon, Degrees, Position};

use super::arguments::{Bytes, Numbers, bytes_type, map_rows, number_type, number_types, scalar_number};
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

    /// Whether the region is the bytes of a polygon, which stand in place of its numbers.
    fn takes_bytes(&self, arguments: usize) -> bool {
        self.footprint == Footprint::Polygon && self.on_null == OnNull::Outside && arguments == 3
    }

    /// The position and the bytes of a call with such.
    pub(super) fn bytes_call(expr: &Expr) -> Option<[&Expr; 3]> {
        match PointIn::of(expr)? {
            (test, [ra, dec, bytes]) if test.takes_bytes(3) => Some([ra, dec, bytes]),
            _ => None,
        }
    }

    fn usage(&self) -> String {
        format!("{}(ra, dec, {})", self.name, self.footprint.usage())
    }

    /// What a row gives that lacks a number.
    fn missing(&self) -> Option<i32> {
        match self.on_null {
            OnNull::Outside => Some(0),
            OnNull::Null => None,
        }
    }

    fn invoke_with_bytes(&self, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ra, dec, bytes] = args.args.as_slice() else {
            return exec_err!("use {}", self.usage());
        };
        let (ra, dec, bytes) = (Numbers::read(ra)?, Numbers::read(dec)?, Bytes::read(bytes)?);
        let polygon = |bytes: &[u8]| ConvexPolygon::from_bytes(bytes).ok().map(RegionTest::of_polygon);
        let ready = match bytes {
            Bytes::Constant(Some(bytes)) => polygon(bytes),
            Bytes::Constant(None) | Bytes::Column(_) => None,
        };
        map_rows::<Int32Type>(args, |row| match (ra.get(row), dec.get(row), bytes.get(row)) {
            (Some(ra), Some(dec), Some(bytes)) => match &ready {
                Some(test) => test.contains(ra, dec).map(i32::from),
                None => polygon(bytes)?.contains(ra, dec).map(i32::from),
            },
            _ => self.missing(),
        })
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
        if let ([ra, dec, bytes], true) = (given, self.takes_bytes(given.len())) {
            let (ra, dec) = (number_type(self.name, 0, ra)?, number_type(self.name, 1, dec)?);
            return Ok(vec![ra, dec, bytes_type(self.name, 2, bytes)?]);
        }
        let accepts = |count: usize| count > 2 && self.footprint.accepts(count - 2);
        number_types(self.name, given, accepts, &self.usage())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if self.takes_bytes(args.arg_fields.len()) {
            if let Some(Some(ScalarValue::Binary(Some(bytes)))) = args.scalar_arguments.get(2)
                && let Err(problem) = ConvexPolygon::from_bytes(bytes)
            {
                return plan_err!("{}: {problem}; make the bytes with scisql_s2CPolyToBin", self.name);
            }
            return Ok(Arc::new(Field::new(self.name, DataType::Int32, true)));
        }
        let known: Vec<Option<f64>> = args.scalar_arguments.iter().skip(2).map(|s| s.and_then(scalar_number)).collect();
        if let Err(problem) = self.footprint.check(&known) {
            return plan_err!("{}: {problem}", self.name);
        }
        Ok(Arc::new(Field::new(self.name, DataType::Int32, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.takes_bytes(args.args.len()) {
            return self.invoke_with_bytes(&args);
        }
        let numbers = Numbers::read_all(&args.args)?;
        let [ra, dec, region @ ..] = numbers.as_slice() else {
            return exec_err!("use {}", self.usage());
        };
        let missing = self.missing();
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
    let position = Position::new(Degrees(ra), Degrees(dec)).ok()?;
    Some(footprint.region(parameters).ok()?.contains(position))
}
