//! Sorted sources become one, with the memory of one batch of each.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::Result;
use crate::spill::{Run, RunWriter, SpillArea};
use crate::threads::Stop;

/// Runs merged at once; more are merged in steps.
pub(crate) const FAN_IN: usize = 48;

/// Batches in order, each in order.
pub(crate) type Sorted<'a> = Box<dyn Iterator<Item = Result<RecordBatch>> + Send + 'a>;

/// Gives the rows of all sources in the order of the key columns; where keys are equal, the earlier source's
/// first. Batches given have at most `batch_rows` rows.
pub(crate) fn merge_sorted(
    sources: Vec<Sorted<'_>>,
    schema: &Schema,
    keys: &[usize],
    batch_rows: usize,
    stop: &Stop,
    take: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let mut sources = sources;
    if sources.len() <= 1 {
        for batch in sources.pop().into_iter().flatten() {
            stop.check()?;
            take(batch?)?;
        }
        return Ok(());
    }
    let fields = keys.iter().map(|at| SortField::new(schema.field(*at).data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let mut merge =
        Merge { keys, converter, cursors: Vec::new(), heap: Vec::new(), kept: Vec::new(), pending: Vec::new() };
    merge.open(sources)?;
    while let Some(&first) = merge.heap.first() {
        merge.advance(first)?;
        // Old batches of rows not yet given are kept, so their number is bounded too.
        if merge.pending.len() >= batch_rows || merge.kept.len() > 2 * merge.cursors.len() + 8 {
            stop.check()?;
            merge.give(take)?;
        }
    }
    merge.give(take)
}

/// Merges the runs of one destination, in steps where they are many. The files of runs are left alone.
pub(crate) fn merge_runs(
    area: &SpillArea,
    mut runs: Vec<Run>,
    keys: &[usize],
    batch_rows: usize,
    stop: &Stop,
    take: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    while runs.len() > FAN_IN {
        // Whole groups at a time, so that no row is written again more often than needed.
        let mut merged = Vec::with_capacity(runs.len().div_ceil(FAN_IN));
        for group in runs.chunks(FAN_IN) {
            let mut writer = RunWriter::append(area.scratch_file())?;
            merge_sorted(sources(area, group)?, area.schema(), keys, batch_rows, stop, &mut |batch| {
                writer.write(&batch)
            })?;
            merged.push(writer.finish()?);
        }
        runs = merged;
    }
    merge_sorted(sources(area, &runs)?, area.schema(), keys, batch_rows, stop, take)
}

fn sources<'a>(area: &SpillArea, runs: &[Run]) -> Result<Vec<Sorted<'a>>> {
    runs.iter().map(|run| Ok(Box::new(area.read(run)?) as Sorted<'a>)).collect()
}

struct Cursor<'a> {
    source: Sorted<'a>,
    /// Keys of the batch the cursor is in.
    rows: Rows,
    /// That batch's place in `kept`.
    batch: usize,
    row: usize,
}

struct Merge<'a> {
    keys: &'a [usize],
    converter: RowConverter,
    cursors: Vec<Cursor<'a>>,
    /// Indices of cursors that have rows, least first.
    heap: Vec<usize>,
    /// Batches that pending rows or cursors refer to.
    kept: Vec<RecordBatch>,
    /// Rows to be given next: batch in `kept`, and row.
    pending: Vec<(usize, usize)>,
}

impl<'a> Merge<'a> {
    fn open(&mut self, sources: Vec<Sorted<'a>>) -> Result<()> {
        for mut source in sources {
            let Some(batch) = next_batch(&mut source)? else { continue };
            let rows = self.convert(&batch)?;
            self.kept.push(batch);
            self.cursors.push(Cursor { source, rows, batch: self.kept.len() - 1, row: 0 });
        }
        self.heap = (0..self.cursors.len()).collect();
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
        Ok(())
    }

    fn convert(&self, batch: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.keys.iter().map(|at| batch.column(*at).clone()).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// Takes the least row, and moves its cursor on.
    fn advance(&mut self, first: usize) -> Result<()> {
        let Some(cursor) = self.cursors.get_mut(first) else { return Ok(()) };
        self.pending.push((cursor.batch, cursor.row));
        cursor.row += 1;
        if cursor.row >= cursor.rows.num_rows() {
            match next_batch(&mut cursor.source)? {
                Some(batch) => {
                    let rows = self.convert(&batch)?;
                    self.kept.push(batch);
                    let last = self.kept.len() - 1;
                    if let Some(cursor) = self.cursors.get_mut(first) {
                        (cursor.rows, cursor.batch, cursor.row) = (rows, last, 0);
                    }
                }
                None => {
                    self.heap.swap_remove(0);
                }
            }
        }
        self.sift_down(0);
        Ok(())
    }

    fn less(&self, a: usize, b: usize) -> bool {
        match (self.cursors.get(a), self.cursors.get(b)) {
            (Some(x), Some(y)) => x.rows.row(x.row).cmp(&y.rows.row(y.row)).then(a.cmp(&b)).is_lt(),
            _ => false,
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if let (Some(&c), Some(&l)) = (self.heap.get(child), self.heap.get(least))
                    && self.less(c, l)
                {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    fn give(&mut self, take: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batches: Vec<&RecordBatch> = self.kept.iter().collect();
        let merged = interleave_record_batch(&batches, &self.pending)?;
        self.pending.clear();
        // Only the batches that cursors are in go on.
        let mut kept = Vec::with_capacity(self.cursors.len());
        for &index in &self.heap {
            if let Some(cursor) = self.cursors.get_mut(index)
                && let Some(batch) = self.kept.get(cursor.batch)
            {
                kept.push(batch.clone());
                cursor.batch = kept.len() - 1;
            }
        }
        self.kept = kept;
        take(merged)
    }
}

fn next_batch(source: &mut Sorted<'_>) -> Result<Option<RecordBatch>> {
    for batch in source {
        let batch = batch?;
        if batch.num_rows() > 0 {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}
