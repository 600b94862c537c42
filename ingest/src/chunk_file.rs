//! A chunk file: how it is laid out, and the proof that it lies on disk as it was written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};
use skyflight_catalog::ColumnStatistics;

use crate::error::{IngestError, IoContext, Result};
use crate::schema::HEALPIX_COLUMN;

/// Rows of a row group at most.
const ROW_GROUP_ROWS: usize = 256 << 10;

/// Rows of a page at most.
const PAGE_ROWS: usize = 8 << 10;

/// Rows of a page of an index at most: a look-up reads one, and uses a row of it.
const INDEX_PAGE_ROWS: usize = 2 << 10;

/// Columns whose smallest and largest value the catalog keeps, beside the key columns.
const STATISTICS_COLUMNS: usize = 32;

/// Longest text kept as a smallest or largest value, in bytes.
const STATISTICS_TEXT: usize = 64;

/// How the files of a table are written.
#[derive(Clone, Debug)]
pub(crate) struct FileLayout {
    schema: SchemaRef,
    /// Ids: bloom filters, and statistics in the catalog.
    ids: Vec<String>,
    /// Other columns whose statistics the catalog always keeps.
    keys: Vec<String>,
    /// The column rows are sorted by, where it is one.
    sorted_by: Option<String>,
    page_rows: usize,
}

impl FileLayout {
    pub(crate) fn new(schema: SchemaRef, ids: Vec<String>, keys: Vec<String>, sorted_by: Option<String>) -> FileLayout {
        FileLayout { schema, ids, keys, sorted_by, page_rows: PAGE_ROWS }
    }

    /// Of the files of a director index. The page index finds an id, so there are no filters.
    pub(crate) fn index(schema: SchemaRef) -> FileLayout {
        let id = "id".to_owned();
        FileLayout { schema, ids: Vec::new(), keys: vec![id.clone()], sorted_by: Some(id), page_rows: INDEX_PAGE_ROWS }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn properties(&self, rows: u64) -> WriterProperties {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_data_page_row_count_limit(self.page_rows)
            .set_write_batch_size(self.page_rows / 8)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by(format!("skyflight {}", env!("CARGO_PKG_VERSION")));
        for path in float_columns(&self.schema) {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
        }
        // Near values follow one another, and a dictionary would be read whole for one of its pages.
        for column in [Some(HEALPIX_COLUMN), self.sorted_by.as_deref()].into_iter().flatten() {
            let Ok(field) = self.schema.field_with_name(column) else { continue };
            let encoding = match field.data_type() {
                DataType::Utf8 => Encoding::DELTA_BYTE_ARRAY,
                _ => Encoding::DELTA_BINARY_PACKED,
            };
            let path = ColumnPath::from(column);
            properties =
                properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
        }
        let distinct = rows.clamp(1, ROW_GROUP_ROWS as u64);
        for id in &self.ids {
            let path = ColumnPath::new(vec![id.clone()]);
            properties = properties
                // Ids hardly repeat, and those of children follow their like.
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_max_ndv(path, distinct);
        }
        let sorted = self.sorted_by.as_ref().and_then(|name| leaf_index(&self.schema, name));
        properties
            .set_sorting_columns(
                sorted.map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: false }]),
            )
            .build()
    }
}

/// Floating-point columns, also inside lists and structs.
fn float_columns(schema: &Schema) -> Vec<ColumnPath> {
    let Ok(parquet) = parquet::arrow::ArrowSchemaConverter::new().convert(schema) else { return Vec::new() };
    let is_float = |kind| matches!(kind, parquet::basic::Type::FLOAT | parquet::basic::Type::DOUBLE);
    parquet
        .columns()
        .iter()
        .filter(|column| is_float(column.physical_type()))
        .map(|column| column.path().clone())
        .collect()
}

fn leaf_index(schema: &Schema, name: &str) -> Option<i32> {
    let parquet = parquet::arrow::ArrowSchemaConverter::new().convert(schema).ok()?;
    let at = parquet.columns().iter().position(|column| column.path().parts() == [name])?;
    i32::try_from(at).ok()
}

/// A file that was written, closed, and read back.
#[derive(Debug)]
pub(crate) struct WrittenFile {
    pub(crate) path: PathBuf,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) statistics: Vec<ColumnStatistics>,
}

/// Writes one file.
pub(crate) struct ChunkFileWriter<'a> {
    layout: &'a FileLayout,
    path: PathBuf,
    writer: ArrowWriter<HashingWriter>,
    budget: usize,
    rows: u64,
    nans: NanCounts,
}

impl<'a> ChunkFileWriter<'a> {
    /// `rows` is about how many there will be; `budget` bounds the memory of a row group in bytes.
    pub(crate) fn create(
        layout: &'a FileLayout,
        path: PathBuf,
        rows: u64,
        budget: usize,
    ) -> Result<ChunkFileWriter<'a>> {
        let file = File::create(&path).at("create", &path)?;
        let writer = HashingWriter { file: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), bytes: 0 };
        let writer = ArrowWriter::try_new(writer, Arc::clone(&layout.schema), Some(layout.properties(rows)))?;
        Ok(ChunkFileWriter { layout, path, writer, budget, rows: 0, nans: NanCounts::default() })
    }

    /// Adds rows; the batch begins with the file's columns, what follows is left out.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().take(self.layout.schema.fields().len()).cloned().collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.layout.schema), columns)?;
        self.rows += batch.num_rows() as u64;
        self.nans.add(&batch);
        self.writer.write(&batch)?;
        if self.writer.memory_size() > self.budget {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Closes the file and reads it back; with `durable` it is on disk before.
    pub(crate) fn finish(self, durable: bool) -> Result<WrittenFile> {
        let ChunkFileWriter { layout, path, writer, rows, nans, .. } = self;
        let mut writer = writer.into_inner()?;
        writer.file.flush().at("write", &path)?;
        if durable {
            writer.file.get_ref().sync_all().at("sync", &path)?;
        }
        let written = (writer.bytes, writer.hash.finalize().into());
        let read = digest(&path)?;
        if read != written {
            return Err(unverified(&path, "other bytes"));
        }
        let file = File::open(&path).at("open", &path)?;
        let metadata = Arc::clone(ParquetRecordBatchReaderBuilder::try_new(file)?.metadata());
        if u64::try_from(metadata.file_metadata().num_rows()).ok() != Some(rows) {
            return Err(unverified(&path, "another number of rows"));
        }
        let statistics = statistics(layout, &metadata, &nans)?;
        let (bytes, sha256) = read;
        Ok(WrittenFile { path, rows, bytes, sha256, statistics })
    }
}

fn unverified(path: &Path, reason: &str) -> IngestError {
    IngestError::Unverified { file: path.to_owned(), reason: reason.to_owned() }
}

/// Length and SHA-256 of a file as it can be read.
fn digest(path: &Path) -> Result<(u64, [u8; 32])> {
    let mut file = File::open(path).at("open", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).at("read", path)?;
        if read == 0 {
            return Ok((bytes, hash.finalize().into()));
        }
        bytes += read as u64;
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

struct HashingWriter {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for HashingWriter {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(buffer.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// How many values of each floating-point column are NaN.
#[derive(Debug, Default)]
struct NanCounts(BTreeMap<String, u64>);

impl NanCounts {
    fn add(&mut self, batch: &RecordBatch) {
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let count = match field.data_type() {
                DataType::Float64 => {
                    column.as_primitive::<Float64Type>().iter().flatten().filter(|v| v.is_nan()).count()
                }
                DataType::Float32 => {
                    column.as_primitive::<Float32Type>().iter().flatten().filter(|v| v.is_nan()).count()
                }
                _ => continue,
            };
            *self.0.entry(field.name().clone()).or_default() += count as u64;
        }
    }

    /// `None` of columns that have no NaN by their type.
    fn of(&self, column: &str) -> Option<u64> {
        self.0.get(column).copied()
    }
}

/// The smallest and largest values of the columns worth pruning by: ids, keys, and the first numbers and times.
fn statistics(layout: &FileLayout, metadata: &ParquetMetaData, nans: &NanCounts) -> Result<Vec<ColumnStatistics>> {
    let parquet = metadata.file_metadata().schema_descr();
    let mut all = Vec::new();
    for field in layout.schema.fields() {
        let is_key =
            layout.ids.contains(field.name()) || layout.keys.contains(field.name()) || field.name() == HEALPIX_COLUMN;
        let is_ordered = field.data_type().is_numeric() || field.data_type().is_temporal();
        if !is_key && (!is_ordered || all.len() >= STATISTICS_COLUMNS) {
            continue;
        }
        if matches!(field.data_type(), DataType::Float16) {
            continue;
        }
        let converter = StatisticsConverter::try_new(field.name(), &layout.schema, parquet)?;
        let groups = || metadata.row_groups().iter();
        let nulls = converter.row_group_null_counts(groups())?;
        if nulls.null_count() > 0 {
            continue;
        }
        let null_count = nulls.iter().flatten().sum();
        let nan_count = nans.of(field.name());
        let (mins, maxes) = (converter.row_group_mins(groups())?, converter.row_group_maxes(groups())?);
        let all_null = null_count == u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        let (Some(min), Some(max)) = (extreme(&mins, false)?, extreme(&maxes, true)?) else {
            // Unknown is not the same as all null: an empty text would say the latter.
            if all_null {
                all.push(ColumnStatistics {
                    column: field.name().clone(),
                    min: String::new(),
                    max: String::new(),
                    null_count,
                    nan_count,
                });
            }
            continue;
        };
        if min.len() <= STATISTICS_TEXT && max.len() <= STATISTICS_TEXT {
            all.push(ColumnStatistics { column: field.name().clone(), min, max, null_count, nan_count });
        }
    }
    Ok(all)
}

/// The least or greatest of values over row groups, as text; none when a row group does not know.
fn extreme(values: &ArrayRef, greatest: bool) -> Result<Option<String>> {
    if values.is_empty() || values.null_count() > 0 {
        return Ok(None);
    }
    let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(values))?;
    let order = |a: &usize, b: &usize| rows.row(*a).cmp(&rows.row(*b));
    let indices = 0..values.len();
    let Some(at) = (if greatest { indices.max_by(order) } else { indices.min_by(order) }) else { return Ok(None) };
    let text = ArrayFormatter::try_new(values.as_ref(), &FormatOptions::default())?.value(at).to_string();
    Ok(Some(text))
}
