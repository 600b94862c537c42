//! HEALPix cells, nested numbering: `healpix_index`, `healpix_ra` and `healpix_dec`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use skyflight_sky::{healpix_center, healpix_index};

use super::arguments::{Integers, Numbers, Positions, integer_type, map_rows, number_type, scalar_number};
use super::docs;

/// `(order, ra, dec)` → the nested index of the cell; NULL where order or position are none.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HealpixIndex {
    name: &'static str,
    signature: Signature,
}

impl HealpixIndex {
    pub(super) fn new(name: &'static str) -> Self {
        HealpixIndex { name, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HealpixIndex {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [order, ra, dec] => Ok(vec![
                integer_type(self.name, 0, order)?,
                number_type(self.name, 1, ra)?,
                number_type(self.name, 2, dec)?,
            ]),
            _ => plan_err!("{0} takes 3 arguments, not {1}; use {0}(order, ra, dec)", self.name, given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_order(self.name, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.name, DataType::Int64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [order, ra, dec] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name, args.args.len());
        };
        let (order, ra, dec) = (Integers::read(order)?, Numbers::read(ra)?, Numbers::read(dec)?);
        let positions = Positions::new(&ra, &dec);
        map_rows::<Int64Type>(&args, |row| {
            let order = u8::try_from(order.get(row)?).ok()?;
            let index = healpix_index(order, positions.get(row)?).ok()?;
            i64::try_from(index).ok()
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}

/// `(order, index)` → a coordinate of the cell's centre in degrees; NULL where there is no such cell.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HealpixCenter {
    name: &'static str,
    axis: Axis,
    signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Axis {
    Ra,
    Dec,
}

impl HealpixCenter {
    pub(super) fn ra() -> Self {
        HealpixCenter { name: "healpix_ra", axis: Axis::Ra, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn dec() -> Self {
        HealpixCenter {
            name: "healpix_dec",
            axis: Axis::Dec,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for HealpixCenter {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [order, index] => Ok(vec![integer_type(self.name, 0, order)?, integer_type(self.name, 1, index)?]),
            _ => plan_err!("{0} takes 2 arguments, not {1}; use {0}(order, index)", self.name, given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_order(self.name, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.name, DataType::Float64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [order, index] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name, args.args.len());
        };
        let (order, index) = (Integers::read(order)?, Integers::read(index)?);
        map_rows::<Float64Type>(&args, |row| {
            let order = u8::try_from(order.get(row)?).ok()?;
            let center = healpix_center(order, u64::try_from(index.get(row)?).ok()?).ok()?;
            Some(match self.axis {
                Axis::Ra => center.ra().0,
                Axis::Dec => center.dec().0,
            })
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}

pub(super) fn check_order(function: &str, arguments: &[Option<&ScalarValue>]) -> Result<()> {
    match arguments.first().and_then(|order| order.and_then(scalar_number)) {
        Some(order) if !(0.0..=29.0).contains(&order) => {
            plan_err!("{function}: there is no HEALPix order {order}; give a whole number from 0 to 29")
        }
        _ => Ok(()),
    }
}
