//! What clients of ADQL and scisql ask of a system before they work with it: the frame of a geometry,
//! and whose functions these are.

use std::sync::Arc;

use datafusion::arrow::array::{Array, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::docs;
use super::geometry::{Geometries, geometry_type, is_geometry};

/// `COORDSYS(geometry)`: the frame of a geometry, which is always ICRS; NULL where it is NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CoordSys(Signature);

impl CoordSys {
    pub(super) fn new() -> Self {
        CoordSys(Signature::user_defined(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for CoordSys {
    fn name(&self) -> &str {
        "coordsys"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [t] if is_geometry(t) || t.is_null() => Ok(vec![geometry_type()]),
            _ => plan_err!("coordsys takes one geometry; use coordsys(point(ra, dec))"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            return internal_err!("coordsys was given {} arguments", args.args.len());
        };
        let given = Geometries::read(value)?;
        let rows = if given.is_constant() { 1 } else { args.number_rows };
        let frames: StringArray = (0..rows).map(|row| given.get(row).map(|_| "ICRS")).collect();
        if given.is_constant() {
            return ScalarValue::try_from_array(&frames, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(Arc::new(frames) as Arc<dyn Array>))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation("coordsys")
    }
}

/// `scisql_getVersion()`: the version of these functions, which is Skyflight's.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GetVersion(Signature);

impl GetVersion {
    pub(super) fn new() -> Self {
        GetVersion(Signature::nullary(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for GetVersion {
    fn name(&self) -> &str {
        "scisql_getversion"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let version = concat!("skyflight ", env!("CARGO_PKG_VERSION"));
        Ok(ColumnarValue::Scalar(ScalarValue::from(version)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation("scisql_getversion")
    }
}
