//! Schemas: from the catalog's column records to Arrow, and from a plan's schema to the profile
//! that every Flight SQL client reads.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::DFSchema;
use skyflight_catalog::{Column, Table};

use crate::engine::CATALOG;
use crate::{EngineError, Result};

/// Nested HEALPix index at order 29 of a row's position, stored in every partitioned table.
pub const HEALPIX_COLUMN: &str = "_healpix_29";
/// Field metadata key: what the column is to the sky, one of `ra`, `dec`, `id`, `director_key`.
pub const ROLE_KEY: &str = "skyflight.role";
/// Field metadata key: the kind of the table the column belongs to.
pub const KIND_KEY: &str = "skyflight.kind";

/// How many bytes a row of such columns takes in memory at least, NULLs too: values of a fixed width take
/// their place in any case.
pub fn least_row_bytes(schema: &Schema) -> u64 {
    schema.fields().iter().fold(0, |sum, field| sum.saturating_add(least_bytes(field.data_type())))
}

fn least_bytes(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or(0),
        DataType::FixedSizeList(item, items) => {
            least_bytes(item.data_type()).saturating_mul(u64::try_from(*items).unwrap_or(0))
        }
        DataType::Struct(fields) => {
            fields.iter().fold(0, |sum, field| sum.saturating_add(least_bytes(field.data_type())))
        }
        other => other.primitive_width().map_or(8, |width| width as u64),
    }
}

/// The Arrow schema of a table, with description, unit, UCD and role in field metadata.
///
/// # Errors
/// A column whose type text the catalog holds is not an Arrow type.
pub fn arrow_schema(table: &Table) -> Result<SchemaRef> {
    let fields = table.columns.iter().map(|column| field(table, column)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn field(table: &Table, column: &Column) -> Result<Field> {
    let data_type: DataType = column.data_type.parse().map_err(|e| {
        EngineError::Corrupt(format!(
            "column {}.{} has the unknown type {:?}: {e}",
            table.name, column.name, column.data_type
        ))
    })?;
    let mut metadata = HashMap::from([(KIND_KEY.to_string(), table.kind.to_string())]);
    let is = |role: &Option<String>| role.as_deref() == Some(column.name.as_str());
    let role = if is(&table.ra_column) {
        Some("ra")
    } else if is(&table.dec_column) {
        Some("dec")
    } else if table.directors().any(|(_, key)| key == column.name) {
        Some("director_key")
    } else if is(&table.id_column) {
        Some("id")
    } else {
        None
    };
    for (key, value) in [
        (ROLE_KEY, role),
        ("unit", column.unit.as_deref()),
        ("ucd", column.ucd.as_deref()),
        ("description", column.description.as_deref()),
    ] {
        if let Some(value) = value.map(one_line).filter(|value| !value.is_empty()) {
            metadata.insert(key.to_string(), value);
        }
    }
    Ok(Field::new(&column.name, data_type, column.nullable).with_metadata(metadata))
}

/// A text of metadata without breaks of line. Clients show it in tables; and by its letters the server tells
/// metadata, which has no order, from what has one in an encoded plan (its `jobs/ledger/fingerprint`).
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// True where batches of `from` have the bytes that `to` promises, whatever their names.
#[must_use]
pub fn same_types(from: &Schema, to: &Schema) -> bool {
    from.fields().len() == to.fields().len()
        && from.fields().iter().zip(to.fields()).all(|(a, b)| a.data_type().equals_datatype(b.data_type()))
}

/// The schema a client sees: every field nullable; views, dictionaries and run-end encoding as
/// their plain types; names kept. Our own metadata keys are dropped, units and UCDs stay.
pub fn client_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(client_field).collect();
    Arc::new(Schema::new(fields))
}

/// [`client_schema`] of a plan's rows, where a column of a table that is passed on names its table in the
/// way Flight SQL has for it. A table under an alias is not named: the alias is no table.
pub(crate) fn client_schema_of(schema: &DFSchema) -> SchemaRef {
    let plain = client_schema(schema.as_arrow());
    let fields = plain.fields().iter().zip(schema.iter()).map(|(field, (qualifier, _))| {
        let Some((table, database)) = qualifier.and_then(|table| Some((table.table(), table.schema()?))) else {
            return Arc::clone(field);
        };
        let mut metadata = field.metadata().clone();
        for (key, value) in [("CATALOG_NAME", CATALOG), ("DB_SCHEMA_NAME", database), ("TABLE_NAME", table)] {
            metadata.insert(format!("ARROW:FLIGHT:SQL:{key}"), value.to_owned());
        }
        Arc::new(field.as_ref().clone().with_metadata(metadata))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// [`client_schema`] for clients that read unsigned integers as signed ones of the same width: each is the next
/// wider signed type, and of 64 bits a decimal of 20 digits.
pub fn signed_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(signed_field).collect::<Vec<_>>()))
}

fn signed_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(signed_type(field.data_type())))
}

fn signed_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        // 2^64 - 1 has 20 digits.
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::List(item) => DataType::List(signed_field(item)),
        DataType::LargeList(item) => DataType::LargeList(signed_field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(signed_field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(signed_field).collect()),
        other => other.clone(),
    }
}

fn client_field(field: &FieldRef) -> FieldRef {
    let mut metadata = field.metadata().clone();
    metadata.retain(|key, _| !key.starts_with("skyflight."));
    Arc::new(Field::new(field.name(), client_type(field.data_type()), true).with_metadata(metadata))
}

/// The type in which a client sees columns of a type.
pub(crate) fn client_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Dictionary(_, value) => client_type(value),
        DataType::RunEndEncoded(_, values) => client_type(values.data_type()),
        DataType::ListView(f) | DataType::List(f) => DataType::List(client_field(f)),
        DataType::LargeListView(f) | DataType::LargeList(f) => DataType::LargeList(client_field(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(client_field(f), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(client_field).collect()),
        other => other.clone(),
    }
}
