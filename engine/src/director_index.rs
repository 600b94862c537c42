//! Where the rows of given ids lie, told by a director's index before any chunk is touched.
//!
//! An index is sorted Parquet files on the coordinator's disk, one of each ingest, with the columns `id`
//! and `chunk` first. Of a file only the pages that can hold the ids are read; what its pages hold is
//! read once and kept. An index that is not whole, or cannot be read, tells nothing: the chunk files'
//! own statistics and filters decide then.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::arrow::row::{OwnedRow, Row, RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::Operator;
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::PageIndexPolicy;
use skyflight_catalog::{FileKind, TableSnapshot, index_path};
use skyflight_sky::ChunkId;

/// Of more entries than this the chunks are not looked up: ids in so wide a range are nearly everywhere.
const RANGE_ENTRIES: usize = 500_000;

/// The index of one director on one snapshot.
#[derive(Debug)]
pub(crate) struct DirectorIndex {
    files: Vec<IndexFile>,
    /// The last question and its answer: planning asks the same more than once.
    last: Mutex<Option<Answer>>,
    last_range: Mutex<Option<RangeAnswer>>,
}

#[derive(Debug)]
struct Answer {
    ids: HashSet<ScalarValue>,
    chunks: Arc<BTreeSet<ChunkId>>,
}

#[derive(Debug)]
struct RangeAnswer {
    limits: Vec<(Operator, ScalarValue)>,
    chunks: Option<Arc<BTreeSet<ChunkId>>>,
}

#[derive(Debug)]
struct IndexFile {
    path: PathBuf,
    pages: OnceLock<std::result::Result<Pages, String>>,
}

/// What is known of a file without reading its rows.
#[derive(Debug)]
struct Pages {
    metadata: ArrowReaderMetadata,
    converter: RowConverter,
    /// Smallest and largest id of each page, both ascending.
    bounds: Vec<(OwnedRow, OwnedRow)>,
    /// The first row of each page, and the end of the last.
    starts: Vec<usize>,
}

impl DirectorIndex {
    /// The index of a director; `None` where it does not hold every row.
    pub(crate) fn of(director: &TableSnapshot, database: &str, index_dir: &Path) -> Option<DirectorIndex> {
        let files = || director.files.iter().filter(|file| file.kind == FileKind::DirectorIndex);
        if files().map(|file| file.rows).sum::<u64>() != director.facts.rows {
            return None;
        }
        let path = |id| index_path(index_dir, database, &director.table.name, id);
        let files = files().map(|file| IndexFile { path: path(file.id), pages: OnceLock::new() }).collect();
        Some(DirectorIndex { files, last: Mutex::new(None), last_range: Mutex::new(None) })
    }

    /// The chunks that hold a row with one of `ids`; an id that is nowhere has none.
    ///
    /// # Errors
    /// A file cannot be read, or the ids are of another type.
    pub(crate) fn chunks_of(&self, ids: &HashSet<ScalarValue>) -> Result<Arc<BTreeSet<ChunkId>>> {
        if let Some(answer) = self.last.lock().as_ref().filter(|answer| answer.ids == *ids) {
            return Ok(Arc::clone(&answer.chunks));
        }
        let mut chunks = BTreeSet::new();
        // NULL is equal to no id.
        let wanted: Vec<ScalarValue> = ids.iter().filter(|id| !id.is_null()).cloned().collect();
        if !wanted.is_empty() {
            let wanted = ScalarValue::iter_to_array(wanted)?;
            for file in &self.files {
                file.find(&wanted, &mut chunks)?;
            }
        }
        let chunks = Arc::new(chunks);
        *self.last.lock() = Some(Answer { ids: ids.clone(), chunks: Arc::clone(&chunks) });
        Ok(chunks)
    }
}

impl DirectorIndex {
    /// The chunks that hold a row whose id compares with each of the values as its operator says: `<`,
    /// `<=`, `>` or `>=`. `None` where that would take too long, or cannot be told.
    ///
    /// # Errors
    /// A file cannot be read, or the values are of another type.
    pub(crate) fn chunks_within(&self, limits: &[(Operator, ScalarValue)]) -> Result<Option<Arc<BTreeSet<ChunkId>>>> {
        if let Some(answer) = self.last_range.lock().as_ref().filter(|answer| answer.limits == limits) {
            return Ok(answer.chunks.clone());
        }
        let mut found = BTreeSet::new();
        let mut entries_left = RANGE_ENTRIES;
        let mut known = true;
        for file in &self.files {
            known = known && file.find_within(limits, &mut entries_left, &mut found)?;
        }
        let chunks = known.then(|| Arc::new(found));
        *self.last_range.lock() = Some(RangeAnswer { limits: limits.to_vec(), chunks: chunks.clone() });
        Ok(chunks)
    }
}

impl IndexFile {
    fn pages(&self) -> Result<&Pages> {
        let pages = self.pages.get_or_init(|| Pages::read(&self.path).map_err(|error| error.to_string()));
        pages.as_ref().map_err(|error| exec_datafusion_err!("director index {}: {error}", self.path.display()))
    }

    /// Adds the chunks of the wanted ids.
    fn find(&self, wanted: &ArrayRef, chunks: &mut BTreeSet<ChunkId>) -> Result<()> {
        let pages = self.pages()?;
        let id_type = pages.metadata.schema().field(0).data_type();
        let rows = pages.converter.convert_columns(&[cast(wanted, id_type)?])?;
        let mut ids: Vec<OwnedRow> = rows.iter().map(|row| row.owned()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut at = 0;
        self.read(pages, pages.holding(&ids), &mut |row, place| {
            // Both are in order.
            while ids.get(at).is_some_and(|id| id.row() < row) {
                at += 1;
            }
            if ids.get(at).is_some_and(|id| id.row() == row) {
                chunks.insert(place);
            }
        })
    }

    /// Adds the chunks of the ids within limits; false where there are more entries than are left, which
    /// are counted down, or where a limit is no id.
    fn find_within(
        &self,
        limits: &[(Operator, ScalarValue)],
        entries_left: &mut usize,
        chunks: &mut BTreeSet<ChunkId>,
    ) -> Result<bool> {
        let pages = self.pages()?;
        let id_type = pages.metadata.schema().field(0).data_type();
        let mut ordered = Vec::with_capacity(limits.len());
        for (operator, value) in limits {
            let value = cast(&value.to_array()?, id_type)?;
            if value.null_count() > 0 {
                return Ok(false);
            }
            let rows = pages.converter.convert_columns(&[value])?;
            ordered.push((*operator, rows.row(0).owned()));
        }
        let passes = |row: Row<'_>, which: &[Operator]| {
            ordered.iter().filter(|(operator, _)| which.contains(operator)).all(|(operator, limit)| match operator {
                Operator::Lt => row < limit.row(),
                Operator::LtEq => row <= limit.row(),
                Operator::Gt => row > limit.row(),
                _ => row >= limit.row(),
            })
        };
        let (below, above) = ([Operator::Lt, Operator::LtEq], [Operator::Gt, Operator::GtEq]);
        let selection =
            pages.selected(|smallest, largest| passes(smallest.row(), &below) && passes(largest.row(), &above));
        let entries: usize = selection.iter().map(std::ops::Range::len).sum();
        if entries > *entries_left {
            return Ok(false);
        }
        *entries_left -= entries;
        self.read(pages, selection, &mut |row, place| {
            if passes(row, &below) && passes(row, &above) {
                chunks.insert(place);
            }
        })?;
        Ok(true)
    }

    /// Gives the ids and chunks of some rows, in order.
    fn read(
        &self,
        pages: &Pages,
        selection: Vec<std::ops::Range<usize>>,
        take: &mut dyn FnMut(Row<'_>, ChunkId),
    ) -> Result<()> {
        if selection.is_empty() {
            return Ok(());
        }
        let file = File::open(&self.path)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, pages.metadata.clone());
        let columns = ProjectionMask::leaves(builder.parquet_schema(), [0, 1]);
        let total = pages.starts.last().copied().unwrap_or(0);
        let selection = RowSelection::from_consecutive_ranges(selection.into_iter(), total);
        for batch in builder.with_projection(columns).with_row_selection(selection).build()? {
            let batch = batch?;
            let rows = pages.converter.convert_columns(&[Arc::clone(batch.column(0))])?;
            let places = batch.column(1).as_primitive::<UInt64Type>();
            for (row, place) in rows.iter().zip(places.values()) {
                take(row, ChunkId(*place));
            }
        }
        Ok(())
    }
}

impl Pages {
    fn read(path: &Path) -> Result<Pages> {
        let file = File::open(path)?;
        let metadata = ArrowReaderMetadata::load(
            &file,
            ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required),
        )?;
        let parquet = metadata.metadata();
        let (Some(index), Some(offsets)) = (parquet.column_index(), parquet.offset_index()) else {
            return Err(exec_datafusion_err!("it has no page index"));
        };
        let schema = metadata.schema();
        let converter =
            StatisticsConverter::try_new(schema.field(0).name(), schema, parquet.file_metadata().schema_descr())?;
        let groups: Vec<usize> = (0..parquet.num_row_groups()).collect();
        let smallest = converter.data_page_mins(index, offsets, &groups)?;
        let largest = converter.data_page_maxes(index, offsets, &groups)?;
        let counts = converter.data_page_row_counts(offsets, parquet.row_groups(), &groups)?;
        let counts = counts.ok_or_else(|| exec_datafusion_err!("it has no pages"))?;
        if smallest.null_count() + largest.null_count() > 0 {
            return Err(exec_datafusion_err!("it has a page of unknown ids"));
        }
        let rows = RowConverter::new(vec![SortField::new(schema.field(0).data_type().clone())])?;
        let (smallest, largest) = (rows.convert_columns(&[smallest])?, rows.convert_columns(&[largest])?);
        let bounds = smallest.iter().zip(largest.iter()).map(|(low, high)| (low.owned(), high.owned())).collect();
        let mut starts = vec![0];
        starts.extend(counts.values().iter().scan(0, |end, count| {
            *end += *count as usize;
            Some(*end)
        }));
        Ok(Pages { metadata, converter: rows, bounds, starts })
    }

    /// The rows of the pages that can hold one of `ids`, which are in order.
    fn holding(&self, ids: &[OwnedRow]) -> Vec<std::ops::Range<usize>> {
        self.selected(|smallest, largest| {
            let first = ids.partition_point(|id| id < smallest);
            ids.get(first).is_some_and(|id| id <= largest)
        })
    }

    /// The rows of the pages whose smallest and largest id pass.
    fn selected(&self, passes: impl Fn(&OwnedRow, &OwnedRow) -> bool) -> Vec<std::ops::Range<usize>> {
        let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
        for (page, (smallest, largest)) in self.bounds.iter().enumerate() {
            if !passes(smallest, largest) {
                continue;
            }
            let (start, end) = (self.starts[page], self.starts[page + 1]);
            match ranges.last_mut() {
                Some(range) if range.end == start => range.end = end,
                _ => ranges.push(start..end),
            }
        }
        ranges
    }
}
