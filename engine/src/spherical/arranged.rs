//! The side of a spherical join that is read whole and arranged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use futures::StreamExt;

use super::exec::{PlaceExprs, Work};
use super::zones::{Places, Zones};
use crate::interrupt::Turn;

/// The arranged rows. All partitions of the probing side share them.
#[derive(Debug)]
pub(super) struct Arranged {
    pub(super) rows: RecordBatch,
    pub(super) zones: Zones,
    /// One bit for each row that has matched; empty where nobody will ask.
    matched: Vec<AtomicU64>,
    /// Partitions of the probing side that have not ended.
    probing: AtomicUsize,
    _memory: MemoryReservation,
}

impl Arranged {
    /// Reads and arranges a side; gives the runtime its turn all along.
    pub(super) async fn read(
        mut input: SendableRecordBatchStream,
        work: &Work,
        context: &TaskContext,
        partitions: usize,
    ) -> Result<Arranged> {
        let memory = MemoryConsumer::new("SphericalJoinExec").register(context.memory_pool());
        let schema = input.schema();
        let (mut batches, mut count, mut turn) = (Vec::new(), 0_usize, Turn::new());
        while let Some(batch) = input.next().await {
            let batch = batch?;
            count += batch.num_rows();
            // Twice: the batches are put together into one.
            memory.try_grow(2 * batch.get_array_memory_size() + Zones::bytes(batch.num_rows()))?;
            batches.push(batch);
        }
        if u32::try_from(count).is_err() {
            return exec_err!(
                "the smaller side of a join by separation has {count} rows; at most {} fit, restrict it to a part \
                 of the sky",
                u32::MAX
            );
        }
        // Column by column: all at once would not hear a cancel for long.
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for at in 0..schema.fields().len() {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(at).as_ref()).collect();
            columns.push(match parts.is_empty() {
                true => datafusion::arrow::array::new_empty_array(schema.field(at).data_type()),
                false => concat(&parts)?,
            });
            turn.give().await;
        }
        drop(batches);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let places = places(&work.arranged, &rows)?;
        turn.give().await;
        let zones = Zones::arrange(&places, work.radius_deg, &mut turn).await;
        let words = if work.gives_arranged_last() { count.div_ceil(64) } else { 0 };
        Ok(Arranged {
            rows,
            zones,
            matched: (0..words).map(|_| AtomicU64::new(0)).collect(),
            probing: AtomicUsize::new(partitions),
            _memory: memory,
        })
    }

    /// Remembers rows that have matched, where somebody will ask.
    pub(super) fn mark(&self, rows: &[u32]) {
        if self.matched.is_empty() {
            return;
        }
        for row in rows {
            self.matched[*row as usize / 64].fetch_or(1 << (row % 64), Ordering::Relaxed);
        }
    }

    pub(super) fn has_matched(&self, row: u32) -> bool {
        self.matched[row as usize / 64].load(Ordering::Relaxed) & (1 << (row % 64)) != 0
    }

    /// A partition of the probing side has ended; true for the last one, which knows all matches.
    pub(super) fn end_partition(&self) -> bool {
        self.probing.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// Evaluates where the rows of a batch lie.
pub(super) fn places(exprs: &PlaceExprs, batch: &RecordBatch) -> Result<Places> {
    let number = |expr: &Arc<dyn PhysicalExpr>| -> Result<Float64Array> {
        let array = expr.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(cast(&array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    };
    let radius = exprs.radius.as_ref().map(number).transpose()?;
    Ok(Places::new(&number(&exprs.ra)?, &number(&exprs.dec)?, radius.as_ref()))
}
