//! Which ids lie in which pages of an index file, read once from its end and kept while it is asked for.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::arrow::row::{OwnedRow, Row, RowConverter, SortField};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use moka::sync::Cache;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::PageIndexPolicy;
use skyflight_sky::ChunkId;

/// Memory of all pages that are known, about: the index of a billion ids has half a million of them.
const CACHED_BYTES: u64 = 256 << 20;

/// The pages of index files that were asked for lately. Files are immutable and their names are never used
/// again, so what is kept of one stays true on every snapshot.
#[derive(Debug)]
pub(crate) struct PageCache(Cache<PathBuf, Arc<Pages>>);

impl PageCache {
    pub(crate) fn new() -> PageCache {
        let weight = |_: &PathBuf, pages: &Arc<Pages>| u32::try_from(pages.bytes()).unwrap_or(u32::MAX);
        PageCache(Cache::builder().max_capacity(CACHED_BYTES).weigher(weight).build())
    }

    pub(super) fn get(&self, path: &Path) -> Result<Arc<Pages>> {
        let pages: std::result::Result<_, Arc<DataFusionError>> =
            self.0.try_get_with_by_ref(path, || Pages::open(path).map(Arc::new));
        pages.map_err(|error| exec_datafusion_err!("director index {}: {error}", path.display()))
    }
}

/// Where a row lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) chunk: ChunkId,
    /// Its `_healpix_29`.
    pub(super) cell: i64,
}

/// What is known of a file without reading its rows.
#[derive(Debug)]
pub(super) struct Pages {
    metadata: ArrowReaderMetadata,
    converter: RowConverter,
    /// Smallest and largest id of each page, both ascending.
    bounds: Vec<(OwnedRow, OwnedRow)>,
    /// The first row of each page, and the end of the last.
    starts: Vec<usize>,
}

impl Pages {
    fn open(path: &Path) -> Result<Pages> {
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

    fn bytes(&self) -> usize {
        let bounds: usize =
            self.bounds.iter().map(|(least, greatest)| least.row().data().len() + greatest.row().data().len()).sum();
        let each = size_of::<(OwnedRow, OwnedRow)>() + 2 * size_of::<usize>();
        self.metadata.metadata().memory_size() + bounds + self.bounds.len() * each
    }

    /// The rows of the pages whose smallest and largest id pass.
    pub(super) fn selected(&self, passes: impl Fn(&OwnedRow, &OwnedRow) -> bool) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
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

    /// Gives the ids and places of some rows of the file, in order.
    pub(super) fn read(
        &self,
        path: &Path,
        selection: Vec<Range<usize>>,
        take: &mut dyn FnMut(Row<'_>, Place),
    ) -> Result<()> {
        if selection.is_empty() {
            return Ok(());
        }
        let file = File::open(path)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let columns = ProjectionMask::leaves(builder.parquet_schema(), [0, 1, 3]);
        let total = self.starts.last().copied().unwrap_or(0);
        let selection = RowSelection::from_consecutive_ranges(selection.into_iter(), total);
        for batch in builder.with_projection(columns).with_row_selection(selection).build()? {
            let batch = batch?;
            let rows = self.converter.convert_columns(&[Arc::clone(batch.column(0))])?;
            let chunks = batch.column(1).as_primitive::<UInt64Type>().values();
            let cells = batch.column(2).as_primitive::<Int64Type>().values();
            for ((row, chunk), cell) in rows.iter().zip(chunks).zip(cells) {
                take(row, Place { chunk: ChunkId(*chunk), cell: *cell });
            }
        }
        Ok(())
    }
}
