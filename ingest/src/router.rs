//! Rows on their way to chunks: gathered in memory up to a budget, then written out as sorted runs.

use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::UInt64Type;
use skyflight_catalog::FileKind;
use skyflight_sky::ChunkId;

use crate::error::Result;
use crate::input::BATCH_ROWS;
use crate::merge::FAN_IN;
use crate::spill::{Destination, RunWriter, SpillArea};

/// Where one row goes, and its order there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// With `kind`, the file it goes to. Kept flat: there is one route for every row in memory.
    pub(crate) chunk: ChunkId,
    /// Rows or overlap.
    pub(crate) kind: FileKind,
    /// Zero unless the scheme sorts by sub-chunk first.
    pub(crate) sub_chunk: u32,
    /// Its `_healpix_29`.
    pub(crate) healpix29: u64,
}

impl Route {
    /// To the end of a destination.
    pub(crate) fn to(destination: Destination) -> Route {
        Route { chunk: destination.chunk, kind: destination.kind, sub_chunk: 0, healpix29: 0 }
    }

    fn destination(&self) -> Destination {
        Destination { chunk: self.chunk, kind: self.kind }
    }
}

/// A row in memory. Ordered by its route, then by its number in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RoutedRow {
    route: Route,
    number: u64,
    batch: u32,
    row: u32,
}

/// One thread's rows.
#[derive(Debug)]
pub(crate) struct Router<'a> {
    area: &'a SpillArea,
    writer: usize,
    budget: usize,
    batches: Vec<RecordBatch>,
    rows: Vec<RoutedRow>,
    bytes: usize,
}

impl<'a> Router<'a> {
    /// `writer` tells apart the routers of one area; `budget` is in bytes.
    pub(crate) fn new(area: &'a SpillArea, writer: usize, budget: usize) -> Router<'a> {
        Router { area, writer, budget, batches: Vec::new(), rows: Vec::new(), bytes: 0 }
    }

    /// Takes a batch of the area's schema, whose last column is the rows' numbers, and where its rows go: a row
    /// may go to several places, or none.
    pub(crate) fn add(&mut self, batch: RecordBatch, routes: impl IntoIterator<Item = (Route, usize)>) -> Result<()> {
        let index = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        let before = self.rows.len();
        let numbers = batch.column(batch.num_columns() - 1).as_primitive::<UInt64Type>();
        self.rows.extend(routes.into_iter().map(|(route, row)| RoutedRow {
            route,
            number: numbers.value(row),
            batch: index,
            row: row as u32,
        }));
        self.bytes += batch.get_array_memory_size() + (self.rows.len() - before) * size_of::<RoutedRow>();
        self.batches.push(batch);
        if self.bytes >= self.budget {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes everything out: one run for each destination.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            self.batches.clear();
            self.bytes = 0;
            return Ok(());
        }
        self.rows.sort_unstable();
        let slab_rows = slab_rows(self.budget, self.bytes, self.rows.len());
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let mut open: Option<(Destination, RunWriter)> = None;
        for slab in self.rows.chunks(slab_rows) {
            let indices: Vec<(usize, usize)> = slab.iter().map(|row| (row.batch as usize, row.row as usize)).collect();
            let gathered = interleave_record_batch(&batches, &indices)?;
            for (destination, range) in pieces(slab) {
                if open.as_ref().is_none_or(|(current, _)| *current != destination) {
                    if let Some((previous, writer)) = open.take() {
                        self.area.add(previous, writer.finish()?);
                    }
                    open = Some((destination, RunWriter::append(self.area.file(self.writer, destination))?));
                }
                if let Some((_, writer)) = &mut open {
                    writer.write(&gathered.slice(range.start, range.len()))?;
                }
            }
        }
        if let Some((destination, writer)) = open {
            self.area.add(destination, writer.finish()?);
        }
        self.batches.clear();
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Rows of a spilled batch: few enough that [`FAN_IN`] of them, kept twice, fit the budget when merged.
fn slab_rows(budget: usize, bytes: usize, rows: usize) -> usize {
    let row_bytes = (bytes / rows.max(1)).max(1);
    (budget / (4 * FAN_IN) / row_bytes).clamp(16, BATCH_ROWS)
}

/// Stretches of sorted rows with one destination.
fn pieces(slab: &[RoutedRow]) -> Vec<(Destination, Range<usize>)> {
    let mut pieces: Vec<(Destination, Range<usize>)> = Vec::new();
    for (at, row) in slab.iter().enumerate() {
        match pieces.last_mut() {
            Some((destination, range)) if *destination == row.route.destination() => range.end = at + 1,
            _ => pieces.push((row.route.destination(), at..at + 1)),
        }
    }
    pieces
}
