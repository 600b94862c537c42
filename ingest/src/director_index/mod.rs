//! Where each director row lies, by its id: written while a director is loaded, read to place its children.
//!
//! The index of a director is Parquet files with the columns `id`, `chunk`, `sub_chunk` and `_healpix_29`, sorted by
//! all four. An id may occur more than once. The files lie in shards of ids that do not overlap (`shards`), and are
//! merged as they become many (`grow`). A child has an index too, of those of its rows that lie where no director
//! row with their id does.

mod grow;
mod ids;
mod lookup;
mod shards;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt32Builder, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use arrow::row::{RowConverter, SortField};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use skyflight_catalog::{ChunkFile, FileKind, TableSnapshot, TransactionId};
use skyflight_sky::ChunkId;

pub(crate) use grow::{Grown, IndexHome};
pub(crate) use ids::{Id, IdColumn, index_type};
pub(crate) use lookup::{Lookup, Place, bytes_per_id};
pub(crate) use shards::Growth;
use shards::{IndexFile, Shard, arrange};

use crate::error::{IngestError, Result};
use crate::input::BATCH_ROWS;
use crate::merge::{Sorted, merge_sorted};
use crate::schema::HEALPIX_COLUMN;
use crate::spill::{Destination, RunWriter, SpillArea};
use crate::threads::Stop;
use crate::types::convert;

/// Sorted by all columns: the first row of an id is the same whatever order the input came in.
const SORT_KEYS: [usize; 4] = [0, 1, 2, 3];

/// The one destination of index runs.
const INDEX: Destination = Destination { chunk: ChunkId(0), kind: FileKind::DirectorIndex };

/// The columns of an index of ids of a type.
pub(crate) fn index_schema(id_type: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", id_type.clone(), false),
        Field::new("chunk", DataType::UInt64, false),
        Field::new("sub_chunk", DataType::UInt32, false),
        Field::new(HEALPIX_COLUMN, DataType::Int64, false),
    ]))
}

/// One thread's index entries, on their way to sorted runs.
#[derive(Debug)]
pub(crate) struct IndexBuffer<'a> {
    area: &'a SpillArea,
    writer: usize,
    budget: usize,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl<'a> IndexBuffer<'a> {
    pub(crate) fn new(area: &'a SpillArea, writer: usize, budget: usize) -> IndexBuffer<'a> {
        IndexBuffer { area, writer, budget, batches: Vec::new(), bytes: 0 }
    }

    /// Takes the ids of a batch, none of them null, and where their rows lie.
    pub(crate) fn add(&mut self, ids: &ArrayRef, places: &[Place]) -> Result<()> {
        let schema = self.area.schema();
        let columns: Vec<ArrayRef> = vec![
            convert(ids, schema.field(0).data_type())?,
            Arc::new(UInt64Array::from_iter_values(places.iter().map(|place| place.chunk.0))),
            Arc::new(UInt32Array::from_iter_values(places.iter().map(|place| place.sub_chunk))),
            Arc::new(Int64Array::from_iter_values(places.iter().map(|place| place.healpix29 as i64))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(schema), columns)?;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        // Sorting takes the rows once more, and their keys.
        if self.bytes >= self.budget / 3 { self.flush() } else { Ok(()) }
    }

    /// Writes everything out as one run.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let all = concat_batches(self.area.schema(), &self.batches)?;
        self.batches.clear();
        self.bytes = 0;
        if all.num_rows() == 0 {
            return Ok(());
        }
        let fields = all.columns().iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let keys = RowConverter::new(fields)?.convert_columns(all.columns())?;
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        order.sort_unstable_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
        drop(keys);
        let mut writer = RunWriter::append(self.area.file(self.writer, INDEX))?;
        for slab in order.chunks(BATCH_ROWS) {
            let mut indices = UInt32Builder::with_capacity(slab.len());
            indices.append_slice(slab);
            writer.write(&take_record_batch(&all, &indices.finish())?)?;
        }
        self.area.add(INDEX, writer.finish()?);
        Ok(())
    }
}

/// The index of a director: shards in the order of their ids.
#[derive(Clone, Debug)]
pub(crate) struct DirectorIndex {
    shards: Vec<Shard>,
    pub(crate) id_type: DataType,
}

impl DirectorIndex {
    pub(crate) fn empty(id_type: DataType) -> DirectorIndex {
        DirectorIndex { shards: Vec::new(), id_type }
    }

    /// The index that a table has on a snapshot.
    pub(crate) fn of(table: &TableSnapshot, folder: &Path, id_type: DataType) -> Result<DirectorIndex> {
        let records = table.files.iter().filter(|file| file.kind == FileKind::DirectorIndex);
        let files = records.map(|record| existing(record, folder, &id_type)).collect::<Result<Vec<_>>>()?;
        Ok(DirectorIndex { shards: arrange(files, Growth::default()), id_type })
    }

    /// The shards that have entries of a transaction.
    pub(crate) fn grown_by(&self, transaction: TransactionId) -> DirectorIndex {
        let grown = |shard: &&Shard| shard.files.iter().any(|file| file.id.transaction() == transaction);
        DirectorIndex { shards: self.shards.iter().filter(grown).cloned().collect(), id_type: self.id_type.clone() }
    }

    /// Gives every entry in order.
    fn each(&self, stop: &Stop, take: &mut dyn FnMut(Id<'_>, Place) -> Result<()>) -> Result<()> {
        let mut take_all = |batch: RecordBatch| -> Result<()> {
            let ids = IdColumn::new(batch.column(0))?;
            let chunks = batch.column(1).as_primitive::<UInt64Type>();
            let sub_chunks = batch.column(2).as_primitive::<UInt32Type>();
            let cells = batch.column(3).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let Some(id) = ids.get(row) else { continue };
                let place = Place {
                    chunk: ChunkId(chunks.value(row)),
                    sub_chunk: sub_chunks.value(row),
                    healpix29: cells.value(row) as u64,
                };
                take(id, place)?;
            }
            Ok(())
        };
        self.shards.iter().try_for_each(|shard| merged(shard, &self.id_type, stop, &mut take_all))
    }

    /// Whether an id lies in two chunks.
    pub(crate) fn ids_span_chunks(&self, stop: &Stop) -> Result<bool> {
        let mut last: Option<(Id<'static>, ChunkId)> = None;
        let mut spans = false;
        self.each(stop, &mut |id, place| {
            match &last {
                Some((known, chunk)) if *known == id => spans |= *chunk != place.chunk,
                _ => last = Some((id.into_owned(), place.chunk)),
            }
            Ok(())
        })?;
        Ok(spans)
    }

    /// Cuts the index into parts of about `part_rows` entries, never inside an id. Gives the first id of each
    /// part, and the place of the lowest id of all; nothing when the index is empty.
    pub(crate) fn parts(&self, part_rows: usize, stop: &Stop) -> Result<(Vec<Id<'static>>, Option<Place>)> {
        let mut starts: Vec<Id<'static>> = Vec::new();
        let mut lowest = None;
        let mut last: Option<Id<'static>> = None;
        let mut in_part = 0;
        self.each(stop, &mut |id, place| {
            lowest.get_or_insert(place);
            if starts.is_empty() || (in_part >= part_rows && last.as_ref() != Some(&id)) {
                starts.push(id.clone().into_owned());
                in_part = 0;
            }
            in_part += 1;
            // The last id matters only near the end of a part.
            if in_part >= part_rows {
                last = Some(id.into_owned());
            }
            Ok(())
        })?;
        Ok((starts, lowest))
    }

    /// Gives the parts that begin with `starts` as lookups, in order.
    pub(crate) fn each_part(
        &self,
        starts: &[Id<'static>],
        stop: &Stop,
        take: &mut dyn FnMut(usize, Lookup) -> Result<()>,
    ) -> Result<()> {
        let mut part = 0;
        let mut lookup = Lookup::new(&self.id_type);
        self.each(stop, &mut |id, place| {
            while starts.get(part + 1).is_some_and(|next| *next <= id) {
                take(part, std::mem::replace(&mut lookup, Lookup::new(&self.id_type)))?;
                part += 1;
            }
            lookup.push(&id, place);
            Ok(())
        })?;
        // The last part, and parts of an empty index.
        take(part, lookup)
    }
}

/// A file of an earlier ingest. Where the catalog does not tell its ids exactly, the file does.
fn existing(record: &ChunkFile, folder: &Path, id_type: &DataType) -> Result<IndexFile> {
    let path = folder.join(format!("{}.parquet", record.id));
    let told = record.statistics.iter().find(|statistics| statistics.column == "id");
    let told = told.and_then(|ids| Id::parse(&ids.min, id_type).zip(Id::parse(&ids.max, id_type)));
    let (least, greatest) = match told {
        Some(ends) => ends,
        None => ends(&path, id_type, record.rows)?,
    };
    Ok(IndexFile { id: record.id, path, rows: record.rows, least, greatest, new: None })
}

/// The first and the last id of a file.
fn ends(path: &Path, id_type: &DataType, rows: u64) -> Result<(Id<'static>, Id<'static>)> {
    let id = |row: u64| -> Result<Id<'static>> {
        let builder = open(path, id_type)?.with_offset(usize::try_from(row).unwrap_or(usize::MAX)).with_limit(1);
        for batch in builder.build()? {
            let batch = batch?;
            if let Some(id) = IdColumn::new(batch.column(0))?.get(0) {
                return Ok(id.into_owned());
            }
        }
        Err(lost(path, "has fewer entries than the catalog says"))
    };
    Ok((id(0)?, id(rows.saturating_sub(1))?))
}

fn open(path: &Path, id_type: &DataType) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|error| lost(path, &format!("cannot be opened: {error}")))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    if builder.schema().fields() != index_schema(id_type).fields() {
        return Err(lost(path, "has other columns than expected"));
    }
    Ok(builder)
}

fn lost(path: &Path, reason: &str) -> IngestError {
    IngestError::Input { file: path.to_owned(), reason: format!("director index {reason}") }
}

/// Gives the entries of a shard in order, with the memory of one batch of each run.
fn merged(
    shard: &Shard,
    id_type: &DataType,
    stop: &Stop,
    take: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let sources = shard.sequences().into_iter().map(|files| in_sequence(&files, id_type)).collect();
    merge_sorted(sources, &index_schema(id_type), &SORT_KEYS, BATCH_ROWS, stop, take)
}

/// The entries of files that follow one another; each is opened when the one before has ended.
fn in_sequence(files: &[&IndexFile], id_type: &DataType) -> Sorted<'static> {
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let id_type = id_type.clone();
    Box::new(paths.into_iter().flat_map(move |path| -> Sorted<'static> {
        let reader = open(&path, &id_type).and_then(|builder| Ok(builder.with_batch_size(BATCH_ROWS).build()?));
        match reader {
            Ok(reader) => Box::new(reader.map(|batch| batch.map_err(Into::into))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }))
}
