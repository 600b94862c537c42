//! Which Arrow types stored columns have, and how a table description spells them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};

use crate::error::Result;

/// The type a column is stored as: views, dictionaries, run ends and 64-bit offsets of strings become plain,
/// everything else stays.
pub(crate) fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => stored_type(value),
        DataType::RunEndEncoded(_, values) => stored_type(values.data_type()),
        DataType::List(item) | DataType::ListView(item) => DataType::List(stored_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(stored_field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(stored_field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(stored_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(stored_field(entries), *sorted),
        other => other.clone(),
    }
}

fn stored_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), stored_type(field.data_type()), field.is_nullable()))
}

/// Reads a type from a table description: a plain word, or Arrow's own spelling.
pub(crate) fn parse_type(text: &str) -> std::result::Result<DataType, String> {
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let word = match text.trim().to_ascii_lowercase().as_str() {
        "int8" | "tinyint" => Some(DataType::Int8),
        "int16" | "smallint" | "short" => Some(DataType::Int16),
        "int32" | "int" | "integer" => Some(DataType::Int32),
        "int64" | "bigint" | "long" => Some(DataType::Int64),
        "uint8" => Some(DataType::UInt8),
        "uint16" => Some(DataType::UInt16),
        "uint32" => Some(DataType::UInt32),
        "uint64" => Some(DataType::UInt64),
        "float32" | "float" | "real" => Some(DataType::Float32),
        "float64" | "double" => Some(DataType::Float64),
        "bool" | "boolean" => Some(DataType::Boolean),
        "string" | "text" | "varchar" | "utf8" => Some(DataType::Utf8),
        "binary" | "blob" => Some(DataType::Binary),
        "date" | "date32" => Some(DataType::Date32),
        "timestamp" | "datetime" => Some(micros(None)),
        "timestamptz" => Some(micros(Some("+00:00"))),
        _ => None,
    };
    let found = match word {
        Some(data_type) => Ok(data_type),
        None => text.trim().parse::<DataType>().map_err(|_| {
            format!("unknown type \"{text}\"; use int64, float64, string, bool, date, timestamp, … or Arrow's spelling")
        }),
    }?;
    Ok(stored_type(&found))
}

/// Converts a column; values that do not fit become null, so the caller can tell which rows they are in.
pub(crate) fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    Ok(cast_with_options(column, to, &CastOptions { safe: true, ..CastOptions::default() })?)
}

/// Whether the values of a column can be a position's coordinate.
pub(crate) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// Bytes a value of the type takes in memory, for planning; a guess for types of varying length.
pub(crate) fn value_bytes(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(match data_type {
        DataType::Boolean => 1,
        DataType::FixedSizeBinary(width) => usize::try_from(*width).unwrap_or(32),
        _ => 32,
    })
}
