//! Pairs of rows of a join: which of them match, and what comes out for them.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{JoinSide, Result, internal_err};
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};

/// Rows of the two sides, by number; both lists are as long.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pub(super) left: Vec<u32>,
    pub(super) right: Vec<u32>,
}

impl Pairs {
    /// Keeps the pairs for which the condition is true.
    pub(super) fn retain(&mut self, condition: &JoinFilter, left: &RecordBatch, right: &RecordBatch) -> Result<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        let rows = Rows { left: Some(left), right: Some(right) };
        let numbers = [Some(numbers(&self.left)), Some(numbers(&self.right))];
        let batch = rows.take(condition.schema(), condition.column_indices(), &numbers, self.left.len())?;
        let answers = condition.expression().evaluate(&batch)?.into_array(batch.num_rows())?;
        let Some(answers) = answers.as_boolean_opt() else {
            return internal_err!("a join condition gave {}", answers.data_type());
        };
        let mut kept = 0;
        for at in 0..self.left.len() {
            // NULL is not true.
            if answers.is_valid(at) && answers.value(at) {
                self.left[kept] = self.left[at];
                self.right[kept] = self.right[at];
                kept += 1;
            }
        }
        self.left.truncate(kept);
        self.right.truncate(kept);
        Ok(())
    }
}

/// The rows from which output is put together; `None` for a side whose columns are all NULL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) left: Option<&'a RecordBatch>,
    pub(super) right: Option<&'a RecordBatch>,
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
                    JoinSide::Left => (self.left, &numbers[0]),
                    JoinSide::Right => (self.right, &numbers[1]),
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
}

/// Row numbers as what Arrow takes by.
pub(super) fn numbers(rows: &[u32]) -> UInt32Array {
    UInt32Array::from(rows.to_vec())
}
