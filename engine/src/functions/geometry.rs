//! ADQL's geometry values: points and regions as values of one Arrow type.
//!
//! A geometry is a struct of the shape's name and its coordinates in degrees. Values are built
//! rarely: where a geometry is written in place, its call is taken apart and tested without them.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, AsArray, Float64Array, ListArray, StringArray, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, Expr, lit};
use skyflight_sky::Region;

use super::arguments::strip;
use super::constructors::Constructor;
use super::footprint::Footprint;

/// The shapes of ADQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Point,
    Circle,
    Box,
    Polygon,
    Ellipse,
}

impl Shape {
    /// The shape's name, in SQL and in values.
    pub(super) fn name(self) -> &'static str {
        match self {
            Shape::Point => "point",
            Shape::Circle => "circle",
            Shape::Box => "box",
            Shape::Polygon => "polygon",
            Shape::Ellipse => "ellipse",
        }
    }

    fn from_name(name: &str) -> Option<Shape> {
        [Shape::Point, Shape::Circle, Shape::Box, Shape::Polygon, Shape::Ellipse].into_iter().find(|s| s.name() == name)
    }

    /// What the coordinates mean; a point has no area.
    pub(super) fn footprint(self) -> Option<Footprint> {
        match self {
            Shape::Point => None,
            Shape::Circle => Some(Footprint::Circle),
            Shape::Box => Some(Footprint::CenterBox),
            Shape::Polygon => Some(Footprint::Polygon),
            Shape::Ellipse => Some(Footprint::EllipseDegrees),
        }
    }
}

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    Fields::from(vec![Field::new("shape", DataType::Utf8, true), Field::new("coordinates", DataType::List(item), true)])
});

/// The Arrow type of every geometry.
pub(super) fn geometry_type() -> DataType {
    DataType::Struct(FIELDS.clone())
}

/// Whether values of `data_type` are geometries, however nullable their parts are said to be.
pub(super) fn is_geometry(data_type: &DataType) -> bool {
    let DataType::Struct(fields) = data_type else { return false };
    fields.len() == FIELDS.len() && fields.iter().zip(FIELDS.iter()).all(|(a, b)| a.name() == b.name())
}

/// A column or constant of geometries.
pub(super) struct Geometries<'a> {
    rows: &'a StructArray,
    shapes: &'a StringArray,
    coordinates: &'a ListArray,
    numbers: &'a Float64Array,
    constant: bool,
}

impl<'a> Geometries<'a> {
    /// Views a value that was coerced to [`geometry_type`].
    pub(super) fn read(value: &'a ColumnarValue) -> Result<Self> {
        let (rows, constant) = match value {
            ColumnarValue::Scalar(ScalarValue::Struct(rows)) => (Some(rows.as_ref()), true),
            ColumnarValue::Scalar(_) => (None, true),
            ColumnarValue::Array(array) => (array.as_struct_opt(), false),
        };
        match rows.and_then(|rows| Self::view(rows, constant)) {
            Some(geometries) => Ok(geometries),
            None => internal_err!("a sky function expected geometries and was given {}", value.data_type()),
        }
    }

    fn view(rows: &'a StructArray, constant: bool) -> Option<Self> {
        let shapes = rows.column_by_name("shape")?.as_string_opt()?;
        let coordinates: &ListArray = rows.column_by_name("coordinates")?.as_list_opt()?;
        let numbers = coordinates.values().as_primitive_opt::<Float64Type>()?;
        Some(Geometries { rows, shapes, coordinates, numbers, constant })
    }

    /// The shape and coordinates in `row`; `None` for NULL and for what is no geometry.
    pub(super) fn get(&self, row: usize) -> Option<(Shape, &'a [f64])> {
        let row = if self.constant { 0 } else { row };
        if row >= self.rows.len() || self.rows.is_null(row) || self.shapes.is_null(row) || self.coordinates.is_null(row)
        {
            return None;
        }
        let offsets = self.coordinates.value_offsets();
        let range = usize::try_from(offsets[row]).ok()?..usize::try_from(offsets[row + 1]).ok()?;
        let numbers = self.numbers.values().get(range)?;
        Some((Shape::from_name(self.shapes.value(row))?, numbers))
    }

    /// The position in `row` as (ra, dec) in degrees, when it holds a point.
    pub(super) fn point(&self, row: usize) -> Option<(f64, f64)> {
        match self.get(row)? {
            (Shape::Point, &[ra, dec]) => Some((ra, dec)),
            _ => None,
        }
    }

    /// Whether every row is the same geometry.
    pub(super) fn is_constant(&self) -> bool {
        self.constant
    }
}

/// The region of a geometry, a point being a circle of radius 0; `None` where the numbers make none.
pub(super) fn region(shape: Shape, numbers: &[f64]) -> Option<Region> {
    match (shape.footprint(), numbers) {
        (Some(footprint), _) => footprint.region(numbers).ok(),
        (None, &[ra, dec]) => Footprint::Circle.region(&[ra, dec, 0.0]).ok(),
        (None, _) => None,
    }
}

/// Builds geometries of one shape from their rows of `width` coordinates laid end to end.
pub(super) fn geometries(shape: Shape, width: usize, numbers: Vec<f64>, valid: Vec<bool>) -> Result<StructArray> {
    let rows = valid.len();
    let DataType::List(item) = FIELDS[1].data_type() else {
        return internal_err!("coordinates of a geometry are a list");
    };
    let shapes = StringArray::from_iter_values(std::iter::repeat_n(shape.name(), rows));
    let coordinates = ListArray::try_new(
        Arc::clone(item),
        OffsetBuffer::from_repeated_length(width, rows),
        Arc::new(Float64Array::from(numbers)),
        None,
    )?;
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(shapes), Arc::new(coordinates)];
    Ok(StructArray::try_new(FIELDS.clone(), columns, Some(NullBuffer::from(valid)))?)
}

/// A geometry written in place: its shape and the expressions of its coordinates, points within
/// it taken apart.
pub(super) struct GeometryExpr {
    pub(super) shape: Shape,
    pub(super) coordinates: Vec<Expr>,
}

impl GeometryExpr {
    /// Reads a constructor call, or the constant it was folded into.
    pub(super) fn read(expr: &Expr) -> Option<GeometryExpr> {
        match expr {
            Expr::Alias(alias) => GeometryExpr::read(&alias.expr),
            Expr::Cast(cast) if is_geometry(cast.field.data_type()) => GeometryExpr::read(&cast.expr),
            Expr::Literal(ScalarValue::Struct(rows), _) => {
                let (shape, numbers) = Geometries::view(rows, true)?.get(0)?;
                Some(GeometryExpr { shape, coordinates: numbers.iter().map(|n| lit(*n)).collect() })
            }
            Expr::ScalarFunction(call) => {
                let function: &dyn Any = call.func.inner().as_ref();
                let shape = function.downcast_ref::<Constructor>()?.shape();
                let mut coordinates = Vec::with_capacity(call.args.len());
                let skip = usize::from(call.args.first().is_some_and(is_text));
                for arg in &call.args[skip..] {
                    match GeometryExpr::read(arg) {
                        Some(point) if point.shape == Shape::Point => coordinates.extend(point.coordinates),
                        Some(_) => return None,
                        None if is_opaque_geometry(arg) => return None,
                        None => coordinates.push(arg.clone()),
                    }
                }
                let complete = match shape.footprint() {
                    Some(footprint) => footprint.accepts(coordinates.len()),
                    None => coordinates.len() == 2,
                };
                complete.then_some(GeometryExpr { shape, coordinates })
            }
            _ => None,
        }
    }
}

fn is_text(expr: &Expr) -> bool {
    match strip(expr) {
        Expr::Literal(scalar, _) => scalar.data_type().is_string(),
        Expr::Cast(cast) => is_text(&cast.expr),
        _ => false,
    }
}

/// A geometry that is known only as a value counts for two coordinates that cannot be named.
fn is_opaque_geometry(expr: &Expr) -> bool {
    matches!(strip(expr), Expr::Literal(ScalarValue::Struct(_), _))
        || matches!(expr, Expr::Cast(cast) if is_geometry(cast.field.data_type()))
}
