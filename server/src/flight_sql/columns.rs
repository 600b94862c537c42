//! Columns of rows on their way into a table: which types can be stored, and which column of the rows
//! goes to which of the table.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use skyflight_engine::EngineError;
use skyflight_engine::guard::Name;
use skyflight_engine::schema::{HEALPIX_COLUMN, client_schema, least_row_bytes};

use super::own_tables::Matching;

/// Bytes that a row of a table may take at least: values of a fixed width take their place as NULLs too.
const MOST_ROW_BYTES: u64 = 1 << 20;

/// Bytes that the rows brought into a table's schema at a time take at least.
const BYTES_AT_ONCE: u64 = 32 << 20;

/// Brings batches into a table's schema.
#[derive(Debug)]
pub(super) struct Fit {
    schema: SchemaRef,
    /// For each column of the table, that of the rows; `None` for NULLs.
    from: Vec<Option<usize>>,
}

/// The schema in which new rows are stored, and how they get there: plain types, and without a column
/// for the position's cell, which a table has of itself.
///
/// # Errors
/// `Invalid` for no columns, a column without a name or two with one name; `Unsupported` for a type that
/// is not stored, with the column's name, and for rows that are too wide.
pub(super) fn storable(rows: &SchemaRef) -> Result<(SchemaRef, Fit), EngineError> {
    let plain = client_schema(rows);
    let mut names = HashSet::new();
    let (mut fields, mut from) = (Vec::new(), Vec::new());
    for (at, field) in plain.fields().iter().enumerate() {
        let name = field.name();
        if name.eq_ignore_ascii_case(HEALPIX_COLUMN) {
            continue;
        }
        if name.is_empty() || name.contains('\0') {
            return Err(EngineError::Invalid(format!("column {} has no usable name; give it one", at + 1)));
        }
        if !names.insert(name.to_lowercase()) {
            return Err(EngineError::Invalid(format!(
                "two columns are called \"{name}\", whatever the case; rename one"
            )));
        }
        if !is_stored(field.data_type()) {
            return Err(EngineError::Unsupported(format!(
                "column \"{name}\" has the type {}, which tables do not hold; cast it to another",
                field.data_type()
            )));
        }
        fields.push(without_driver_metadata(field));
        from.push(Some(at));
    }
    if fields.is_empty() {
        return Err(EngineError::Invalid("a table needs at least one column".to_owned()));
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let row_bytes = least_row_bytes(&schema);
    if row_bytes > MOST_ROW_BYTES {
        return Err(EngineError::Unsupported(format!(
            "a row of these columns takes {row_bytes} bytes even without values, and tables have at most \
             {MOST_ROW_BYTES}; cast wide columns to Binary or to lists of no fixed length"
        )));
    }
    Ok((Arc::clone(&schema), Fit { schema, from }))
}

/// Unit, UCD and description stay; what drivers say of columns belongs to rows, not to tables.
fn without_driver_metadata(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.retain(|key, _| ["unit", "ucd", "description"].contains(&key.as_str()));
    Field::new(field.name(), field.data_type().clone(), true).with_metadata(metadata)
}

fn is_stored(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_stored(item.data_type())
        }
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| is_stored(field.data_type())),
        DataType::Null
        | DataType::Float16
        | DataType::Utf8View
        | DataType::BinaryView
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Union(_, _)
        | DataType::Dictionary(_, _)
        | DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Map(_, _)
        | DataType::RunEndEncoded(_, _)
        | DataType::Duration(_)
        | DataType::Interval(_) => false,
    }
}

impl Fit {
    /// How rows get into a table that exists.
    ///
    /// # Errors
    /// `Invalid` when columns are missing or too many, with their names.
    pub(super) fn into(
        table: &str,
        rows: &SchemaRef,
        columns: &SchemaRef,
        matching: &Matching,
    ) -> Result<Fit, EngineError> {
        let given: Vec<(usize, &FieldRef)> = rows
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| !field.name().eq_ignore_ascii_case(HEALPIX_COLUMN))
            .collect();
        let from = match matching {
            Matching::Name => by_name(table, &given, columns)?,
            Matching::Order(names) if names.is_empty() => {
                if given.len() != columns.fields().len() {
                    return Err(EngineError::Invalid(format!(
                        "{table} has {} columns, and the rows have {}; name the columns: INSERT INTO {table} (…)",
                        columns.fields().len(),
                        given.len()
                    )));
                }
                given.iter().map(|(at, _)| Some(*at)).collect()
            }
            Matching::Order(names) => by_order(table, &given, columns, names)?,
        };
        for (field, from) in columns.fields().iter().zip(&from) {
            if from.is_none() && !field.is_nullable() {
                return Err(EngineError::Invalid(format!("{table} needs a value for its column \"{}\"", field.name())));
            }
        }
        Ok(Fit { schema: Arc::clone(columns), from })
    }

    /// A batch in the table's schema, in pieces that are made one after the other: columns that the batch
    /// has not, or has as NULLs without a type, may be many times larger than the batch.
    ///
    /// # Errors
    /// `Invalid` for a value that its column does not take, with the column.
    pub(super) fn pieces(
        self: Arc<Self>,
        batch: RecordBatch,
    ) -> impl Iterator<Item = Result<RecordBatch, EngineError>> {
        let rows = batch.num_rows();
        let at_once = usize::try_from(BYTES_AT_ONCE / least_row_bytes(&self.schema).max(1)).unwrap_or(rows).max(1);
        (0..rows).step_by(at_once).map(move |start| self.apply(&batch.slice(start, at_once.min(rows - start))))
    }

    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, EngineError> {
        let rows = batch.num_rows();
        let columns = self.schema.fields().iter().zip(&self.from).map(|(field, from)| match from {
            None => Ok(new_null_array(field.data_type(), rows)),
            Some(at) => cast_into(field, batch.column(*at)),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|e| EngineError::Invalid(format!("the rows do not fit the table: {e}")))
    }
}

fn cast_into(field: &Field, column: &ArrayRef) -> Result<ArrayRef, EngineError> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &strict).map_err(|e| {
        EngineError::Invalid(format!(
            "column \"{}\" is {}, and a value of type {} does not become one: {e}",
            field.name(),
            field.data_type(),
            column.data_type()
        ))
    })
}

fn by_name(table: &str, given: &[(usize, &FieldRef)], columns: &Schema) -> Result<Vec<Option<usize>>, EngineError> {
    let unknown = given.iter().find(|(_, field)| place_of(columns, field.name()).is_none());
    if let Some((_, field)) = unknown {
        return Err(EngineError::Invalid(format!("{table} has no column \"{}\"", field.name())));
    }
    let of = |column: &FieldRef| {
        let found = given.iter().find(|(_, field)| field.name().eq_ignore_ascii_case(column.name()));
        found.map(|(at, _)| *at)
    };
    Ok(columns.fields().iter().map(of).collect())
}

fn by_order(
    table: &str,
    given: &[(usize, &FieldRef)],
    columns: &Schema,
    names: &[Name],
) -> Result<Vec<Option<usize>>, EngineError> {
    if given.len() != names.len() {
        return Err(EngineError::Invalid(format!(
            "{} columns of {table} are named, and the rows have {}",
            names.len(),
            given.len()
        )));
    }
    let mut from = vec![None; columns.fields().len()];
    for (name, (at, _)) in names.iter().zip(given) {
        let place = place_of(columns, &name.text);
        let slot = place.and_then(|place| from.get_mut(place));
        let slot = slot.ok_or_else(|| EngineError::Invalid(format!("{table} has no column \"{}\"", name.text)))?;
        if slot.replace(*at).is_some() {
            return Err(EngineError::Invalid(format!("column \"{}\" is named twice", name.text)));
        }
    }
    Ok(from)
}

fn place_of(columns: &Schema, name: &str) -> Option<usize> {
    columns.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name))
}
