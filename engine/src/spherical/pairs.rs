//! Pairs of rows of a join: which of them match, and what comes out for them.
//!
//! The arranged side of a join is the left one here, the probing side the right one.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{JoinSide, Result, internal_err};
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};

use super::exec::Residual;

/// Rows of the two sides, by number; both lists are as long.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pub(super) arranged: Vec<u32>,
    pub(super) probing: Vec<u32>,
    /// Where in the lists the pairs are that may be too far apart, ascending.
    unsure: Vec<u32>,
}

impl Pairs {
    pub(super) fn push(&mut self, arranged: u32, probing: u32, is_sure: bool) {
        if !is_sure {
            self.unsure.push(self.arranged.len() as u32);
        }
        self.arranged.push(arranged);
        self.probing.push(probing);
    }

    pub(super) fn len(&self) -> usize {
        self.arranged.len()
    }

    /// How many pairs may be too far apart.
    #[cfg(test)]
    pub(super) fn unsure(&self) -> usize {
        self.unsure.len()
    }

    /// The arranged rows of the pairs that are near for certain.
    #[cfg(test)]
    pub(super) fn sure(&self) -> impl Iterator<Item = u32> {
        let of = |(at, row): (u32, &u32)| (!self.unsure.contains(&at)).then_some(*row);
        (0..).zip(&self.arranged).filter_map(of)
    }

    /// Keeps the pairs at the given places, which ascend.
    pub(super) fn keep(&mut self, places: &[u32]) {
        for (kept, at) in places.iter().enumerate() {
            self.arranged[kept] = self.arranged[*at as usize];
            self.probing[kept] = self.probing[*at as usize];
        }
        self.arranged.truncate(places.len());
        self.probing.truncate(places.len());
    }

    /// Puts partners of a probing row before all others and takes them from `partners`.
    pub(super) fn put_before(&mut self, partners: &mut Vec<u32>, probing: u32) {
        let count = partners.len();
        self.arranged.splice(0..0, partners.drain(..));
        self.probing.splice(0..0, std::iter::repeat_n(probing, count));
    }

    /// How many of the last pairs are of a probing row.
    pub(super) fn last_with(&self, probing: u32) -> usize {
        self.len() - self.probing.partition_point(|row| *row < probing)
    }

    /// Takes away the pairs of a probing row, which are the last, and gives its partners.
    pub(super) fn split_off(&mut self, probing: u32) -> Vec<u32> {
        let others = self.probing.partition_point(|row| *row < probing);
        self.probing.truncate(others);
        self.arranged.split_off(others)
    }

    /// The places of the pairs of each probing row.
    pub(super) fn of_each_probing_row(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut next = 0;
        self.probing.chunk_by(|a, b| a == b).map(move |pairs| {
            let first = next;
            next += pairs.len();
            first..next
        })
    }

    /// Keeps the pairs for which the condition is true. Of those that are near for certain only what
    /// else there is of it is asked.
    pub(super) fn retain(&mut self, condition: &JoinFilter, residual: &Residual, rows: &Rows<'_>) -> Result<()> {
        let all: Vec<u32> = match residual {
            Residual::Unknown => (0..self.len() as u32).collect(),
            Residual::Nothing | Residual::Condition(_) => std::mem::take(&mut self.unsure),
        };
        self.drop_where_not(condition, &all, rows)?;
        if let Residual::Condition(rest) = residual {
            let all: Vec<u32> = (0..self.len() as u32).collect();
            self.drop_where_not(rest, &all, rows)?;
        }
        self.unsure.clear();
        Ok(())
    }

    /// Drops those of the pairs at the given places for which the condition is not true.
    fn drop_where_not(&mut self, condition: &JoinFilter, places: &[u32], rows: &Rows<'_>) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let of = |side: &[u32]| -> Option<UInt32Array> {
            Some(UInt32Array::from_iter_values(places.iter().map(|at| side[*at as usize])))
        };
        let numbers = [of(&self.arranged), of(&self.probing)];
        let answers = rows.evaluate(condition, &numbers, places.len())?;
        let Some(answers) = answers.as_boolean_opt() else {
            return internal_err!("a join condition gave {}", answers.data_type());
        };
        let mut dropped = places.iter().enumerate().filter(|(at, _)| {
            // NULL is not true.
            !(answers.is_valid(*at) && answers.value(*at))
        });
        let Some((_, first)) = dropped.next() else { return Ok(()) };
        let mut next = dropped.next().map(|(_, place)| *place as usize);
        let mut kept = *first as usize;
        for at in kept + 1..self.len() {
            if next == Some(at) {
                next = dropped.next().map(|(_, place)| *place as usize);
                continue;
            }
            self.arranged[kept] = self.arranged[at];
            self.probing[kept] = self.probing[at];
            kept += 1;
        }
        self.arranged.truncate(kept);
        self.probing.truncate(kept);
        Ok(())
    }
}

/// The rows from which output is put together; `None` for a side whose columns are all NULL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) arranged: Option<&'a RecordBatch>,
    pub(super) probing: Option<&'a RecordBatch>,
}

impl Rows<'_> {
    /// The columns that `columns` name, of the rows with the given numbers.
    pub(super) fn take(
        &self,
        schema: &SchemaRef,
        columns: &[ColumnIndex],
        numbers: &[Option<UInt32Array>; 2],
        rows: usize,
    ) -> Result<RecordBatch> {
        let taken = columns
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| {
                let (batch, numbers) = match column.side {
                    JoinSide::Left => (self.arranged, &numbers[0]),
                    JoinSide::Right => (self.probing, &numbers[1]),
                    JoinSide::None => return internal_err!("a spherical join has no mark column"),
                };
                match (batch, numbers) {
                    (Some(batch), Some(numbers)) => Ok(take(batch.column(column.index), numbers, None)?),
                    _ => Ok(new_null_array(field.data_type(), rows)),
                }
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), taken, &options)?)
    }

    /// The values of an expression of pairs.
    pub(super) fn evaluate(
        &self,
        expr: &JoinFilter,
        numbers: &[Option<UInt32Array>; 2],
        rows: usize,
    ) -> Result<ArrayRef> {
        let batch = self.take(expr.schema(), expr.column_indices(), numbers, rows)?;
        expr.expression().evaluate(&batch)?.into_array(rows)
    }
}

/// Row numbers as what Arrow takes by.
pub(super) fn numbers(rows: Vec<u32>) -> UInt32Array {
    UInt32Array::from(rows)
}
