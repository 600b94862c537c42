//! Ids of the Hierarchical Triangular Mesh and the ranges of them that cover a region.
//!
//! `scisql_s2HtmId`, `scisql_s2HtmLevel`, `scisql_s2CircleHtmRanges`, `scisql_s2CPolyHtmRanges`, and `htm_ranges`,
//! which gives what scisql's procedures write into a table as a list.

use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, BinaryBuilder, Int64Array, ListArray, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err, resources_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use skyflight_sky::{ConvexPolygon, Region, htm_id, htm_level, htm_ranges};

use super::arguments::{
    Bytes, Integers, Numbers, Positions, bytes_type, integer_type, is_constant, map_rows, number_type, scalar_number,
};
use super::docs;
use super::footprint::Footprint;
use super::geometry::{Geometries, geometry_type, is_geometry, region};
use crate::guard::RESULT_BYTES_LIMIT;

/// Ranges of a region where none are asked for, as in scisql's procedures.
const USUAL_RANGES: i64 = 256;
/// Ranges that may be asked for, as in scisql, whose result has at most 16 MB.
const MOST_RANGES: i64 = 1 << 20;
/// Ranges that may be asked for in one batch of rows. It bounds the result, and the work, which cannot be interrupted.
const MOST_RANGES_AT_ONCE: i64 = RESULT_BYTES_LIMIT as i64 / 16;

/// `(ra, dec, level)` → the id of the trixel; NULL where position or level are none.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HtmId {
    aliases: Vec<String>,
    signature: Signature,
}

impl HtmId {
    pub(super) fn new() -> Self {
        HtmId { aliases: vec!["s2htmid".to_owned()], signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HtmId {
    fn name(&self) -> &str {
        "scisql_s2htmid"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        match given {
            [ra, dec, level] => {
                Ok(vec![number_type(name, 0, ra)?, number_type(name, 1, dec)?, integer_type(name, 2, level)?])
            }
            _ => plan_err!("{name} takes 3 arguments, not {}; use {name}(ra, dec, level)", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_level(self.name(), args.scalar_arguments.get(2))?;
        Ok(Arc::new(Field::new(self.name(), DataType::Int64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ra, dec, level] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name(), args.args.len());
        };
        let (ra, dec, level) = (Numbers::read(ra)?, Numbers::read(dec)?, Integers::read(level)?);
        let positions = Positions::new(&ra, &dec);
        map_rows::<Int64Type>(&args, |row| {
            let level = u8::try_from(level.get(row)?).ok()?;
            htm_id(positions.get(row)?, level).ok().and_then(|id| i64::try_from(id).ok())
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name())
    }
}

/// `(id)` → the level of the trixel; NULL where no trixel has the id.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HtmLevel {
    aliases: Vec<String>,
    signature: Signature,
}

impl HtmLevel {
    pub(super) fn new() -> Self {
        HtmLevel { aliases: vec!["s2htmlevel".to_owned()], signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HtmLevel {
    fn name(&self) -> &str {
        "scisql_s2htmlevel"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [id] => Ok(vec![integer_type(self.name(), 0, id)?]),
            _ => plan_err!("{0} takes 1 argument, not {1}; use {0}(id)", self.name(), given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [id] = args.args.as_slice() else {
            return internal_err!("{} was given {} arguments", self.name(), args.args.len());
        };
        let ids = Integers::read(id)?;
        map_rows::<Int32Type>(&args, |row| htm_level(u64::try_from(ids.get(row)?).ok()?).map(i32::from))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name())
    }
}

/// How the region is given, and with it how the ranges come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    /// ra, dec, radius; pairs of integers as bytes.
    Circle,
    /// The bytes of a polygon; pairs of integers as bytes.
    PolygonBytes,
    /// A geometry; a list of structs.
    Geometry,
}

/// A region, a level and a largest number of ranges → ranges of ids; NULL where an argument is, or is of no use.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HtmRanges {
    name: &'static str,
    source: Source,
    aliases: Vec<String>,
    signature: Signature,
}

impl HtmRanges {
    fn new(name: &'static str, alias: Option<&str>, source: Source) -> Self {
        let aliases = alias.map(str::to_owned).into_iter().collect();
        HtmRanges { name, source, aliases, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn circle() -> Self {
        HtmRanges::new("scisql_s2circlehtmranges", Some("s2circlehtmranges"), Source::Circle)
    }

    pub(super) fn polygon() -> Self {
        HtmRanges::new("scisql_s2cpolyhtmranges", Some("s2cpolyhtmranges"), Source::PolygonBytes)
    }

    pub(super) fn geometry() -> Self {
        HtmRanges::new("htm_ranges", None, Source::Geometry)
    }

    /// How many arguments are the region.
    fn width(&self) -> usize {
        if self.source == Source::Circle { 3 } else { 1 }
    }

    fn usage(&self) -> String {
        let arguments = match self.source {
            Source::Circle => "ra, dec, radius, level, max_ranges",
            Source::PolygonBytes => "scisql_s2CPolyToBin(…), level, max_ranges",
            Source::Geometry => "circle(ra, dec, radius), level [, max_ranges]",
        };
        format!("{}({arguments})", self.name)
    }
}

impl ScalarUDFImpl for HtmRanges {
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
        let least = self.width() + if self.source == Source::Geometry { 1 } else { 2 };
        if !(least..=self.width() + 2).contains(&given.len()) {
            return plan_err!("{} does not take {} arguments; use {}", self.name, given.len(), self.usage());
        }
        let coerced = |(i, t): (usize, &DataType)| match self.source {
            _ if i >= self.width() => integer_type(self.name, i, t),
            Source::Circle => number_type(self.name, i, t),
            Source::PolygonBytes => bytes_type(self.name, i, t),
            Source::Geometry if is_geometry(t) || t.is_null() => Ok(geometry_type()),
            Source::Geometry => plan_err!("{} takes a geometry, not {t}; use {}", self.name, self.usage()),
        };
        given.iter().enumerate().map(coerced).collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.source {
            Source::Circle | Source::PolygonBytes => DataType::Binary,
            Source::Geometry => DataType::List(Arc::clone(&ITEM)),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_level(self.name, args.scalar_arguments.get(self.width()))?;
        if self.source == Source::Circle {
            let known: Vec<Option<f64>> =
                args.scalar_arguments.iter().take(3).map(|s| s.and_then(scalar_number)).collect();
            if let Err(problem) = Footprint::Circle.check(&known) {
                return plan_err!("{}: {problem}", self.name);
            }
        }
        Ok(Arc::new(Field::new(self.name, self.return_type(&[])?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((given, [level, rest @ ..])) = args.args.split_at_checked(self.width()) else {
            return internal_err!("{} was given {} arguments", self.name, args.args.len());
        };
        let regions = Regions::read(given)?;
        let level = Integers::read(level)?;
        let most = match rest {
            [most] => Integers::read(most)?,
            _ => Integers::Constant(Some(USUAL_RANGES)),
        };
        let constant = is_constant(&args);
        let rows = if constant { 1 } else { args.number_rows };
        let mut asked = 0_i64;
        let mut found: Vec<Option<Vec<RangeInclusive<u64>>>> = Vec::with_capacity(rows);
        for row in 0..rows {
            let (Some(level), Some(most), Some(region)) = (level.get(row), most.get(row), regions.get(row)) else {
                found.push(None);
                continue;
            };
            let most = if (0..MOST_RANGES).contains(&most) { most } else { MOST_RANGES };
            asked += most;
            if asked > MOST_RANGES_AT_ONCE {
                return resources_err!(
                    "{} was asked for more than {MOST_RANGES_AT_ONCE} ranges in a batch of {} rows; give a smaller \
                     max_ranges, such as {USUAL_RANGES}",
                    self.name,
                    args.number_rows
                );
            }
            let level = u8::try_from(level).ok();
            let most = usize::try_from(most).unwrap_or_default();
            found.push(level.and_then(|level| htm_ranges(&region, level, most).ok()));
        }
        let array = match self.source {
            Source::Circle | Source::PolygonBytes => as_bytes(&found),
            Source::Geometry => as_lists(&found)?,
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

/// The regions of an invocation.
enum Regions<'a> {
    Circles(Vec<Numbers<'a>>),
    Polygons(Bytes<'a>),
    Geometries(Geometries<'a>),
}

impl<'a> Regions<'a> {
    fn read(given: &'a [ColumnarValue]) -> Result<Self> {
        Ok(match given {
            [one] if one.data_type() == DataType::Binary => Regions::Polygons(Bytes::read(one)?),
            [one] => Regions::Geometries(Geometries::read(one)?),
            numbers => Regions::Circles(Numbers::read_all(numbers)?),
        })
    }

    /// The region of a row; `None` for NULL and for what is no region.
    fn get(&self, row: usize) -> Option<Region> {
        match self {
            Regions::Circles(numbers) => {
                let numbers: Option<Vec<f64>> = numbers.iter().map(|n| n.get(row)).collect();
                Footprint::Circle.region(&numbers?).ok()
            }
            Regions::Polygons(bytes) => ConvexPolygon::from_bytes(bytes.get(row)?).ok().map(Region::Polygon),
            Regions::Geometries(geometries) => {
                let (shape, numbers) = geometries.get(row)?;
                region(shape, numbers)
            }
        }
    }
}

/// The first and the last id of each range, 8 bytes each, the least first: scisql's on the machines it runs on.
fn as_bytes(found: &[Option<Vec<RangeInclusive<u64>>>]) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    for ranges in found {
        builder.append_option(ranges.as_ref().map(|ranges| {
            let ids = ranges.iter().flat_map(|range| [*range.start(), *range.end()]);
            ids.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()
        }));
    }
    Arc::new(builder.finish())
}

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("htm_min", DataType::Int64, true), Field::new("htm_max", DataType::Int64, true)])
});

static ITEM: LazyLock<FieldRef> =
    LazyLock::new(|| Arc::new(Field::new_list_field(DataType::Struct(FIELDS.clone()), true)));

fn as_lists(found: &[Option<Vec<RangeInclusive<u64>>>]) -> Result<ArrayRef> {
    let id = |id: u64| i64::try_from(id).unwrap_or(i64::MAX);
    let ranges = || found.iter().flatten().flatten();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ranges().map(|range| id(*range.start())).collect::<Int64Array>()),
        Arc::new(ranges().map(|range| id(*range.end())).collect::<Int64Array>()),
    ];
    let lengths = found.iter().map(|ranges| ranges.as_ref().map_or(0, Vec::len));
    let lists = ListArray::try_new(
        Arc::clone(&ITEM),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(StructArray::try_new(FIELDS.clone(), columns, None)?),
        Some(NullBuffer::from_iter(found.iter().map(Option::is_some))),
    )?;
    Ok(Arc::new(lists))
}

fn check_level(function: &str, level: Option<&Option<&ScalarValue>>) -> Result<()> {
    match level.copied().flatten().and_then(scalar_number) {
        Some(level) if !(0.0..=24.0).contains(&level) => {
            plan_err!("{function}: there is no HTM level {level}; give a whole number from 0 to 24")
        }
        _ => Ok(()),
    }
}
