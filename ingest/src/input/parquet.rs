//! Rows of Parquet files, one row group at a time.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::{BATCH_BYTES, BATCH_ROWS, ReadBatch, RowNumber, UnreadableRow};
use crate::error::{IngestError, IoContext, Result};
use crate::rejects::row_text;
use crate::schema::{HEALPIX_COLUMN, TableSchema};
use crate::types::convert;

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).at("open", path)?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &ParquetError) -> IngestError {
    IngestError::Input { file: path.to_owned(), reason: format!("cannot be read as Parquet ({error})") }
}

/// The number of rows of each row group.
pub(super) fn row_groups(path: &Path) -> Result<Vec<u64>> {
    let builder = open(path)?;
    Ok(builder.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).collect())
}

/// The columns of a file. A HEALPix column that another system stored is left out: ours takes its place.
pub(super) fn fields(path: &Path) -> Result<Vec<Field>> {
    let builder = open(path)?;
    let fields = builder.schema().fields().iter();
    Ok(fields.filter(|field| field.name() != HEALPIX_COLUMN).map(|field| field.as_ref().clone()).collect())
}

/// Reads one row group; `first` is the number of its first row.
pub(super) fn read_row_group(
    path: &Path,
    schema: &TableSchema,
    columns: &[usize],
    group: usize,
    first: RowNumber,
    take: &mut dyn FnMut(ReadBatch) -> Result<()>,
) -> Result<()> {
    let builder = open(path)?;
    let names: Vec<&str> =
        columns.iter().filter_map(|at| schema.columns.get(*at)).map(|column| column.name.as_str()).collect();
    let roots = names.iter().map(|name| root_of(path, builder.schema(), name)).collect::<Result<Vec<_>>>()?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let batch_rows = batch_rows(&builder, group, columns.len());
    let reader = builder
        .with_projection(mask)
        .with_row_groups(vec![group])
        .with_batch_size(batch_rows)
        .build()
        .map_err(|error| unreadable(path, &error))?;
    let full = schema.arrow();
    let wanted = Arc::new(full.project(columns)?);
    let mut next = first.0;
    for batch in reader {
        let batch = batch.map_err(|error| IngestError::Input {
            file: path.to_owned(),
            reason: format!("row group {group} cannot be read ({error})"),
        })?;
        let numbers: Vec<u64> = (next..).take(batch.num_rows()).collect();
        next += batch.num_rows() as u64;
        take(to_table(&batch, &wanted, &names, numbers)?)?;
    }
    Ok(())
}

fn root_of(path: &Path, schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| IngestError::Input {
        file: path.to_owned(),
        reason: format!("has no column \"{name}\", which other files of the table have"),
    })
}

/// So many rows that a batch stays near [`BATCH_BYTES`].
fn batch_rows(builder: &ParquetRecordBatchReaderBuilder<File>, group: usize, columns: usize) -> usize {
    let metadata = builder.metadata();
    let Some(group) = metadata.row_groups().get(group) else { return BATCH_ROWS };
    let rows = usize::try_from(group.num_rows()).unwrap_or(0).max(1);
    let encoded = usize::try_from(group.total_byte_size()).unwrap_or(0);
    // Encoding may have hidden repeated values, so a row is taken for at least 8 bytes a column.
    let row_bytes = (encoded / rows).max(8 * columns).max(1);
    (BATCH_BYTES / row_bytes).clamp(32, BATCH_ROWS)
}

fn to_table(batch: &RecordBatch, wanted: &Arc<Schema>, names: &[&str], numbers: Vec<u64>) -> Result<ReadBatch> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(names.len());
    let mut bad: Vec<(usize, String)> = Vec::new();
    for (name, field) in names.iter().zip(wanted.fields()) {
        let source = batch.column(batch.schema().index_of(name)?);
        let column = convert(source, field.data_type())?;
        if column.null_count() > source.null_count() {
            for row in (0..column.len()).filter(|row| column.is_null(*row) && source.is_valid(*row)) {
                bad.push((row, format!("the value of column {name} is no {}", field.data_type())));
            }
        }
        columns.push(column);
    }
    bad.sort_by_key(|(row, _)| *row);
    bad.dedup_by_key(|(row, _)| *row);
    let unreadable = bad
        .into_iter()
        .map(|(row, reason)| UnreadableRow {
            number: RowNumber(numbers.get(row).copied().unwrap_or(0)),
            index: Some(row),
            reason,
            text: row_text(batch, row),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let relaxed = nullable(wanted);
    Ok(ReadBatch { rows: RecordBatch::try_new_with_options(relaxed, columns, &options)?, numbers, unreadable })
}

/// Unreadable rows hold nulls until they are taken out, also in columns that have none.
pub(super) fn nullable(schema: &Schema) -> Arc<Schema> {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
