//! Where each director row lies, by its id: written while a director is loaded, read to place its children.
//!
//! The index of a director is one or more Parquet files, one of each ingest, with the columns `id`, `chunk`,
//! `sub_chunk` and `_healpix_29`, sorted by all four. An id may occur more than once.

mod ids;
mod lookup;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt32Builder, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use arrow::row::{RowConverter, SortField};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use skyflight_sky::ChunkId;

pub(crate) use ids::{Id, IdColumn, index_type};
pub(crate) use lookup::{Lookup, Place, bytes_per_id};

use crate::chunk_file::{ChunkFileWriter, FileLayout, WrittenFile};
use crate::error::{IngestError, IoContext, Result};
use crate::input::BATCH_ROWS;
use crate::merge::{Sorted, merge_runs, merge_sorted};
use crate::schema::HEALPIX_COLUMN;
use crate::spill::{Destination, RunWriter, SpillArea};
use crate::threads::Stop;
use crate::types::convert;

/// Sorted by all columns: the first row of an id is the same whatever order the input came in.
const SORT_KEYS: [usize; 4] = [0, 1, 2, 3];

/// The one destination of index runs.
const INDEX: Destination = Destination { chunk: ChunkId(0), kind: skyflight_catalog::FileKind::DirectorIndex };

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

/// Merges the runs of an area into one index file; durable when this returns. None when there are no rows.
pub(crate) fn write_index(area: &SpillArea, path: &Path, budget: usize, stop: &Stop) -> Result<Option<WrittenFile>> {
    let Some(runs) = area.take_runs().remove(&INDEX) else { return Ok(None) };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).at("create", folder)?;
    let layout = FileLayout::new(Arc::clone(area.schema()), vec!["id".to_owned()], Vec::new(), Some("id".to_owned()));
    let rows = runs.iter().map(|run| run.rows).sum();
    let temporary = path.with_extension("parquet.tmp");
    let mut writer = ChunkFileWriter::create(&layout, temporary.clone(), rows, budget)?;
    merge_runs(area, runs, &SORT_KEYS, BATCH_ROWS, stop, &mut |batch| writer.write(&batch))?;
    let written = writer.finish(true)?;
    std::fs::rename(&temporary, path).at("rename", &temporary)?;
    File::open(folder).and_then(|folder| folder.sync_all()).at("sync", folder)?;
    Ok(Some(WrittenFile { path: path.to_owned(), ..written }))
}

/// The files of a director's index.
#[derive(Clone, Debug)]
pub(crate) struct DirectorIndex {
    pub(crate) files: Vec<PathBuf>,
    /// Entries in all files together.
    pub(crate) rows: u64,
    pub(crate) id_type: DataType,
}

impl DirectorIndex {
    fn sources(&self) -> Result<Vec<Sorted<'static>>> {
        let open = |path: &PathBuf| -> Result<Sorted<'static>> {
            let lost =
                |reason: String| IngestError::Input { file: path.clone(), reason: format!("director index {reason}") };
            let file = File::open(path).map_err(|error| lost(format!("cannot be opened: {error}")))?;
            let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
            if builder.schema().fields() != index_schema(&self.id_type).fields() {
                return Err(lost("has other columns than expected".to_owned()));
            }
            let reader = builder.with_batch_size(BATCH_ROWS).build()?;
            Ok(Box::new(reader.map(|batch| batch.map_err(Into::into))))
        };
        self.files.iter().map(open).collect()
    }

    /// Gives every entry in order.
    fn each(&self, stop: &Stop, take: &mut dyn FnMut(Id<'_>, Place) -> Result<()>) -> Result<()> {
        let schema = index_schema(&self.id_type);
        merge_sorted(self.sources()?, &schema, &SORT_KEYS, BATCH_ROWS, stop, &mut |batch| {
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
        })
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
