//! scisql's bytes: `scisql_s2CPolyToBin` writes a polygon, `scisql_extractInt64` reads a number.

use std::sync::Arc;

use datafusion::arrow::array::BinaryBuilder;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use skyflight_sky::{ConvexPolygon, Degrees, Position};

use super::arguments::{Bytes, Integers, Numbers, bytes_type, integer_type, is_constant, map_rows, number_types};
use super::docs;
use super::footprint::Footprint;
use super::formula::check;

/// Vertices of a polygon that can be bytes.
const VERTICES: std::ops::RangeInclusive<usize> = 3..=20;

/// `(ra1, dec1, ra2, dec2, ra3, dec3, …)` → the polygon as bytes; NULL where a number is, or where they make none.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PolygonToBytes {
    aliases: Vec<String>,
    signature: Signature,
}

impl PolygonToBytes {
    pub(super) fn new() -> Self {
        let aliases = vec!["s2cpolytobin".to_owned()];
        PolygonToBytes { aliases, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for PolygonToBytes {
    fn name(&self) -> &str {
        "scisql_s2cpolytobin"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let accepts = |count: usize| count.is_multiple_of(2) && VERTICES.contains(&(count / 2));
        let usage = format!("{}({}) with 3 to 20 vertices", self.name(), Footprint::Polygon.usage());
        number_types(self.name(), given, accepts, &usage)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check(self.name(), |known| Footprint::Polygon.check(known), &args)?;
        Ok(Arc::new(Field::new(self.name(), DataType::Binary, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = Numbers::read_all(&args.args)?;
        if is_constant(&args) {
            return match polygon_bytes(&numbers, 0) {
                Some(Ok(bytes)) => Ok(ColumnarValue::Scalar(ScalarValue::Binary(Some(bytes)))),
                Some(Err(problem)) => exec_err!("{}: {problem}", self.name()),
                None => Ok(ColumnarValue::Scalar(ScalarValue::Binary(None))),
            };
        }
        let mut builder = BinaryBuilder::new();
        for row in 0..args.number_rows {
            builder.append_option(polygon_bytes(&numbers, row).and_then(Result::ok));
        }
        Ok(ColumnarValue::Array(Arc::new(builder.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name())
    }
}

/// The bytes of a row's polygon, or what is wrong with it; `None` where a number is NULL.
fn polygon_bytes(numbers: &[Numbers], row: usize) -> Option<Result<Vec<u8>, String>> {
    let numbers: Option<Vec<f64>> = numbers.iter().map(|n| n.get(row)).collect();
    let vertices: Result<Vec<Position>, _> =
        numbers?.chunks_exact(2).map(|v| Position::new(Degrees(v[0]), Degrees(v[1]))).collect();
    Some(vertices.and_then(|vertices| ConvexPolygon::bytes_of(&vertices)).map_err(|e| e.to_string()))
}

/// `(bytes, index)` → the integer at a place; NULL where there is none.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExtractInt64 {
    signature: Signature,
}

impl ExtractInt64 {
    pub(super) fn new() -> Self {
        ExtractInt64 { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ExtractInt64 {
    fn name(&self) -> &str {
        "scisql_extractint64"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        match given {
            [bytes, index] => Ok(vec![bytes_type(name, 0, bytes)?, integer_type(name, 1, index)?]),
            _ => plan_err!("{name} takes 2 arguments, not {}; use {name}(bytes, index)", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [bytes, index] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name(), args.args.len());
        };
        let (bytes, index) = (Bytes::read(bytes)?, Integers::read(index)?);
        map_rows::<Int64Type>(&args, |row| {
            let (numbers, _) = bytes.get(row)?.as_chunks::<8>();
            let index = usize::try_from(index.get(row)?).ok()?;
            numbers.get(index).map(|number| i64::from_le_bytes(*number))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name())
    }
}
