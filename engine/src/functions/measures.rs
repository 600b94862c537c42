//! `AREA` and `CENTROID` of ADQL.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{is_constant, map_rows};
use super::docs;
use super::geometry::{Geometries, Shape, geometries, geometry_type, is_geometry, region};

/// What is measured of a geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Square degrees.
    Area,
    /// A point.
    Centroid,
}

/// A function of one geometry; NULL where it is NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Measure {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl Measure {
    pub(super) fn area() -> Self {
        Measure { name: "area", kind: Kind::Area, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn centroid() -> Self {
        Measure { name: "centroid", kind: Kind::Centroid, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Measure {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [t] if is_geometry(t) || t.is_null() => Ok(vec![geometry_type()]),
            _ => plan_err!("{0} takes one geometry; use {0}(circle(ra, dec, radius))", self.name),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Area => DataType::Float64,
            Kind::Centroid => geometry_type(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name, args.args.len());
        };
        let given = Geometries::read(value)?;
        if self.kind == Kind::Area {
            return map_rows::<Float64Type>(&args, |row| match given.get(row)? {
                (Shape::Point, _) => Some(0.0),
                (shape, numbers) => region(shape, numbers)?.area_deg2(),
            });
        }
        let constant = is_constant(&args);
        let rows = if constant { 1 } else { args.number_rows };
        let (mut coordinates, mut valid) = (Vec::with_capacity(2 * rows), Vec::with_capacity(rows));
        for row in 0..rows {
            let center = given.get(row).and_then(|(shape, numbers)| region(shape, numbers)?.centroid());
            valid.push(center.is_some());
            coordinates.extend(center.map_or([0.0, 0.0], |p| [p.ra().0, p.dec().0]));
        }
        let array = geometries(Shape::Point, 2, coordinates, valid)?;
        if constant {
            return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(Arc::new(array)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}
