//! `POINT`, `CIRCLE`, `BOX`, `POLYGON` and `ELLIPSE` of ADQL, and `COORD1` and `COORD2`.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::arguments::{Numbers, is_constant, map_rows, number_type, scalar_number};
use super::docs;
use super::geometry::{Geometries, Shape, geometries, geometry_type, is_geometry};

/// A function that makes a geometry: `[coordinate system,]` then numbers in degrees, where a point
/// may stand for two of them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Constructor {
    shape: Shape,
    signature: Signature,
}

impl Constructor {
    pub(super) fn new(shape: Shape) -> Self {
        Constructor { shape, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    fn usage(&self) -> &'static str {
        self.shape.footprint().map_or("ra, dec", |f| f.usage())
    }

    fn accepts(&self, numbers: usize) -> bool {
        self.shape.footprint().map_or(numbers == 2, |f| f.accepts(numbers))
    }

    /// Says what is wrong with coordinates that are already known.
    fn check(&self, known: &[Option<f64>]) -> Result<(), String> {
        match (self.shape.footprint(), known) {
            (Some(footprint), _) => footprint.check(known),
            (None, &[_, Some(dec)]) => {
                skyflight_sky::Position::new(skyflight_sky::Degrees(0.0), skyflight_sky::Degrees(dec))
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            }
            (None, _) => Ok(()),
        }
    }
}

impl ScalarUDFImpl for Constructor {
    fn name(&self) -> &str {
        self.shape.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let mut numbers = 0;
        let types: Vec<DataType> = given
            .iter()
            .enumerate()
            .map(|(i, t)| {
                if i == 0 && t.is_string() {
                    return Ok(DataType::Utf8);
                }
                if is_geometry(t) {
                    numbers += 2;
                    return Ok(geometry_type());
                }
                numbers += 1;
                number_type(name, i, t)
            })
            .collect::<Result<_>>()?;
        if !self.accepts(numbers) {
            return plan_err!("{name} does not take {} arguments; use {name}({})", given.len(), self.usage());
        }
        Ok(types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(geometry_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let mut known = Vec::with_capacity(args.arg_fields.len());
        for (i, (field, scalar)) in args.arg_fields.iter().zip(args.scalar_arguments).enumerate() {
            if i == 0 && field.data_type().is_string() {
                check_coordinate_system(self.name(), *scalar)?;
            } else if is_geometry(field.data_type()) {
                known.extend([None, None]);
            } else {
                known.push(scalar.and_then(scalar_number));
            }
        }
        if let Err(problem) = self.check(&known) {
            return plan_err!("{}: {problem}", self.name());
        }
        Ok(Arc::new(Field::new(self.name(), geometry_type(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut parts = Vec::with_capacity(args.args.len());
        for value in &args.args {
            match value.data_type() {
                DataType::Utf8 => {}
                t if is_geometry(&t) => parts.push(Part::Point(Geometries::read(value)?)),
                _ => parts.push(Part::Number(Numbers::read(value)?)),
            }
        }
        let constant = is_constant(&args);
        let rows = if constant { 1 } else { args.number_rows };
        let width: usize = parts.iter().map(Part::width).sum();
        let mut numbers = Vec::with_capacity(rows * width);
        let mut valid = Vec::with_capacity(rows);
        for row in 0..rows {
            let start = numbers.len();
            let known = parts.iter().all(|part| part.push(row, &mut numbers));
            let problem = if known { self.check_row(&numbers[start..]) } else { None };
            if let (true, Some(problem)) = (constant, &problem) {
                return exec_err!("{}: {problem}", self.name());
            }
            valid.push(known && problem.is_none());
            numbers.resize(start + width, 0.0);
        }
        let array = geometries(self.shape, width, numbers, valid)?;
        if constant {
            return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(Arc::new(array)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name())
    }
}

impl Constructor {
    fn check_row(&self, numbers: &[f64]) -> Option<String> {
        if let (Shape::Point, &[ra, dec]) = (self.shape, numbers) {
            // Points are made by the row, so their test allocates nothing when it passes.
            if ra.is_finite() && (-90.0..=90.0).contains(&dec) {
                return None;
            }
            return Some(format!(
                "there is no position ({ra}, {dec}); give ra and dec in degrees, dec within [-90, 90]"
            ));
        }
        self.shape.footprint().and_then(|footprint| footprint.region(numbers).err())
    }
}

enum Part<'a> {
    Number(Numbers<'a>),
    Point(Geometries<'a>),
}

impl Part<'_> {
    fn width(&self) -> usize {
        match self {
            Part::Number(_) => 1,
            Part::Point(_) => 2,
        }
    }

    fn push(&self, row: usize, numbers: &mut Vec<f64>) -> bool {
        match self {
            Part::Number(values) => match values.get(row) {
                Some(value) => numbers.push(value),
                None => return false,
            },
            Part::Point(points) => match points.point(row) {
                Some((ra, dec)) => numbers.extend([ra, dec]),
                None => return false,
            },
        }
        true
    }
}

/// ADQL's first argument, which ADQL 2.1 deprecates: only names of the frame the tables are in.
fn check_coordinate_system(function: &str, given: Option<&ScalarValue>) -> Result<()> {
    let Some(scalar) = given else {
        return plan_err!("the coordinate system of {function} must be a constant; leave it out or write 'ICRS'");
    };
    let text = match scalar.try_as_str() {
        Some(Some(text)) => text.trim().to_ascii_uppercase(),
        _ => String::new(),
    };
    match text.split_whitespace().next() {
        None | Some("ICRS" | "UNKNOWNFRAME") => Ok(()),
        Some(frame) => plan_err!("{function} takes ICRS coordinates, not {frame}; convert them and write 'ICRS'"),
    }
}

/// `COORD1` and `COORD2`: the coordinates of a point.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Coordinate {
    name: &'static str,
    index: usize,
    signature: Signature,
}

impl Coordinate {
    pub(super) fn ra() -> Self {
        Coordinate { name: "coord1", index: 0, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn dec() -> Self {
        Coordinate { name: "coord2", index: 1, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Coordinate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [t] if is_geometry(t) || t.is_null() => Ok(vec![geometry_type()]),
            _ => plan_err!("{} takes one point; use {}(point(ra, dec))", self.name, self.name),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name, args.args.len());
        };
        let points = Geometries::read(value)?;
        map_rows::<Float64Type>(&args, |row| {
            let (ra, dec) = points.point(row)?;
            Some(if self.index == 0 { ra } else { dec })
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}
