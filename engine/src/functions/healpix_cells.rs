//! What a HEALPix cell has around it: `healpix_neighbours`, `healpix_corners` and `healpix_bounds`.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use skyflight_sky::{Position, healpix_bounds, healpix_corners, healpix_neighbours};

use super::arguments::{Integers, integer_type, is_constant};
use super::docs;
use super::formula::records;
use super::healpix::check_order;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// A list of indices.
    Neighbours,
    /// A list of positions.
    Corners,
    /// Four limits.
    Bounds,
}

/// `(order, index)` → something about the cell; NULL where there is no such cell.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HealpixCell {
    name: &'static str,
    kind: Kind,
    aliases: Vec<String>,
    signature: Signature,
}

impl HealpixCell {
    fn new(name: &'static str, kind: Kind, aliases: Vec<String>) -> Self {
        HealpixCell { name, kind, aliases, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn neighbours() -> Self {
        HealpixCell::new("healpix_neighbours", Kind::Neighbours, vec!["healpix_neighbors".to_owned()])
    }

    pub(super) fn corners() -> Self {
        HealpixCell::new("healpix_corners", Kind::Corners, Vec::new())
    }

    pub(super) fn bounds() -> Self {
        HealpixCell::new("healpix_bounds", Kind::Bounds, Vec::new())
    }
}

impl ScalarUDFImpl for HealpixCell {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
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
        Ok(match self.kind {
            Kind::Neighbours => DataType::List(Arc::clone(&INDEX)),
            Kind::Corners => DataType::List(Arc::clone(&CORNER)),
            Kind::Bounds => DataType::Struct(LIMITS.clone()),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_order(self.name, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.name, self.return_type(&[])?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [order, index] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name, args.args.len());
        };
        let (order, index) = (Integers::read(order)?, Integers::read(index)?);
        let constant = is_constant(&args);
        let rows = if constant { 1 } else { args.number_rows };
        let cells = (0..rows)
            .map(|row| Some((u8::try_from(order.get(row)?).ok()?, u64::try_from(index.get(row)?).ok()?)))
            .collect::<Vec<_>>();
        let array = match self.kind {
            Kind::Neighbours => neighbours(&cells)?,
            Kind::Corners => corners(&cells)?,
            Kind::Bounds => return bounds(&cells, constant),
        };
        if constant {
            return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(array))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}

/// Order and nested index, where both are numbers that could be such.
type Cells = [Option<(u8, u64)>];

static INDEX: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new_list_field(DataType::Int64, true)));

static POSITION: LazyLock<Fields> = LazyLock::new(|| number_fields(&["ra", "dec"]));

static CORNER: LazyLock<FieldRef> =
    LazyLock::new(|| Arc::new(Field::new_list_field(DataType::Struct(POSITION.clone()), true)));

static LIMITS: LazyLock<Fields> = LazyLock::new(|| number_fields(&["ra_min", "dec_min", "ra_max", "dec_max"]));

fn number_fields(names: &[&str]) -> Fields {
    names.iter().map(|name| Field::new(*name, DataType::Float64, true)).collect()
}

fn neighbours(cells: &Cells) -> Result<ArrayRef> {
    let around = |(order, index)| healpix_neighbours(order, index).ok();
    let found: Vec<Option<Vec<u64>>> = cells.iter().map(|cell| cell.and_then(around)).collect();
    let indices: Int64Array =
        found.iter().flatten().flatten().map(|index| i64::try_from(*index).unwrap_or(i64::MAX)).collect();
    lists(&INDEX, &found, Arc::new(indices))
}

fn corners(cells: &Cells) -> Result<ArrayRef> {
    let of = |(order, index)| healpix_corners(order, index).ok().map(Vec::from);
    let found: Vec<Option<Vec<Position>>> = cells.iter().map(|cell| cell.and_then(of)).collect();
    let positions = || found.iter().flatten().flatten();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(positions().map(|p| p.ra().0).collect::<Float64Array>()),
        Arc::new(positions().map(|p| p.dec().0).collect::<Float64Array>()),
    ];
    lists(&CORNER, &found, Arc::new(StructArray::try_new(POSITION.clone(), columns, None)?))
}

fn lists<T>(item: &FieldRef, found: &[Option<Vec<T>>], values: ArrayRef) -> Result<ArrayRef> {
    let lengths = found.iter().map(|list| list.as_ref().map_or(0, Vec::len));
    let valid = NullBuffer::from_iter(found.iter().map(Option::is_some));
    let lists = ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, Some(valid))?;
    Ok(Arc::new(lists))
}

fn bounds(cells: &Cells, constant: bool) -> Result<ColumnarValue> {
    let mut columns: Vec<Vec<Option<f64>>> = vec![Vec::with_capacity(cells.len()); LIMITS.len()];
    let mut valid = Vec::with_capacity(cells.len());
    for cell in cells {
        let bounds = cell.and_then(|(order, index)| healpix_bounds(order, index).ok());
        valid.push(bounds.is_some());
        let limits = bounds.map(|b| [b.ra_min.0, b.dec_min.0, b.ra_max.0, b.dec_max.0].map(Some)).unwrap_or_default();
        for (column, limit) in columns.iter_mut().zip(limits) {
            column.push(limit);
        }
    }
    records(&LIMITS, columns, valid, constant)
}
