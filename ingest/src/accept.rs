//! Which of the rows read are rows of the table: readable, with a position where one is needed, and an id.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use skyflight_catalog::TableKind;
use skyflight_sky::{Degrees, Position};

use crate::error::Result;
use crate::input::{Input, ReadBatch, RowNumber};
use crate::rejects::{BadRows, row_text};
use crate::types::convert;

/// Rows of the table, checked.
#[derive(Debug)]
pub(crate) struct AcceptedBatch {
    /// The table's columns.
    pub(crate) rows: RecordBatch,
    /// Their numbers.
    pub(crate) numbers: Vec<u64>,
    /// Their positions; none where the table has no position, or a child's row has not.
    pub(crate) positions: Vec<Option<Position>>,
}

/// Checks batches of one table.
#[derive(Debug)]
pub(crate) struct Acceptance<'a> {
    kind: TableKind,
    schema: SchemaRef,
    position: Option<(usize, usize)>,
    wrap_ra: bool,
    /// Columns in which a null makes a bad row.
    required: Vec<usize>,
    bad: &'a BadRows<'a>,
}

impl<'a> Acceptance<'a> {
    pub(crate) fn new(input: &Input, bad: &'a BadRows<'a>) -> Acceptance<'a> {
        let schema = &input.schema;
        let mut required: Vec<usize> =
            (0..schema.columns.len()).filter(|at| schema.columns.get(*at).is_some_and(|c| !c.nullable)).collect();
        required.extend(schema.id.filter(|_| schema.kind == TableKind::Director));
        Acceptance {
            kind: schema.kind,
            schema: schema.arrow(),
            position: schema.ra.zip(schema.dec),
            wrap_ra: input.description.position.as_ref().is_some_and(|position| position.wrap_ra),
            required,
            bad,
        }
    }

    /// Takes the bad rows out of a batch of all columns. Each is reported, in the order of the input.
    pub(crate) fn accept(&self, read: ReadBatch) -> Result<AcceptedBatch> {
        let ReadBatch { rows, numbers, unreadable } = read;
        let mut keep = vec![true; numbers.len()];
        let mut bad: Vec<(RowNumber, String, Option<String>, usize)> = Vec::new();
        for row in unreadable {
            if let Some(keep) = row.index.and_then(|index| keep.get_mut(index)) {
                *keep = false;
            }
            bad.push((row.number, row.reason, Some(row.text), 0));
        }
        let (mut positions, rows) = self.positions(rows, &numbers, &mut keep, &mut bad)?;
        for at in &self.required {
            let column = rows.column(*at);
            if column.null_count() == 0 {
                continue;
            }
            for row in 0..column.len() {
                if let Some(keep) = keep.get_mut(row).filter(|keep| column.is_null(row) && **keep) {
                    *keep = false;
                    let name = self.schema.field(*at).name();
                    bad.push((number(&numbers, row), format!("column {name} is null"), None, row));
                }
            }
        }
        if bad.is_empty() {
            return Ok(AcceptedBatch { rows: self.plain(&rows)?, numbers, positions });
        }
        bad.sort_by_key(|(number, ..)| *number);
        for (number, reason, text, row) in bad {
            let text = text.unwrap_or_else(|| row_text(&rows, row));
            self.bad.report(number, reason, &text)?;
        }
        let mut kept = keep.iter();
        positions.retain(|_| kept.next() == Some(&true));
        let numbers = numbers.into_iter().zip(&keep).filter_map(|(number, keep)| keep.then_some(number)).collect();
        let rows = filter_record_batch(&rows, &BooleanArray::from(keep))?;
        Ok(AcceptedBatch { rows: self.plain(&rows)?, numbers, positions })
    }

    /// The same columns under the table's own schema.
    fn plain(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), rows.columns().to_vec(), &options)?)
    }

    fn positions(
        &self,
        rows: RecordBatch,
        numbers: &[u64],
        keep: &mut [bool],
        bad: &mut Vec<(RowNumber, String, Option<String>, usize)>,
    ) -> Result<(Vec<Option<Position>>, RecordBatch)> {
        let Some((ra_at, dec_at)) = self.position else {
            return Ok((vec![None; numbers.len()], rows));
        };
        let (ra, dec) = (degrees(rows.column(ra_at))?, degrees(rows.column(dec_at))?);
        let (ra, dec) = (ra.as_primitive::<Float64Type>(), dec.as_primitive::<Float64Type>());
        let mut positions = Vec::with_capacity(numbers.len());
        let mut wrapped: Option<Vec<Option<f64>>> = None;
        for (row, keep) in keep.iter_mut().enumerate() {
            let value = |column: &arrow::array::Float64Array| column.is_valid(row).then(|| column.value(row));
            let mut ra_deg = value(ra);
            if let Some(outside) = ra_deg.filter(|ra| self.wrap_ra && ra.is_finite() && !(0.0..360.0).contains(ra)) {
                let inside = outside.rem_euclid(360.0);
                ra_deg = Some(if inside >= 360.0 { 0.0 } else { inside });
                let all = wrapped.get_or_insert_with(|| ra.iter().collect());
                if let Some(slot) = all.get_mut(row) {
                    *slot = ra_deg;
                }
            }
            match self.position_of(ra_deg, value(dec)) {
                Ok(position) => positions.push(position),
                Err(reason) => {
                    if *keep {
                        bad.push((number(numbers, row), reason, None, row));
                    }
                    *keep = false;
                    positions.push(None);
                }
            }
        }
        let rows = match wrapped {
            Some(values) => replace(&rows, ra_at, values)?,
            None => rows,
        };
        Ok((positions, rows))
    }

    /// A director's row without a position is bad; a child's lies where its director lies. A coordinate that
    /// is there but is no coordinate is bad in both.
    fn position_of(&self, ra: Option<f64>, dec: Option<f64>) -> std::result::Result<Option<Position>, String> {
        let (Some(ra), Some(dec)) = (ra, dec) else {
            if self.kind != TableKind::Director {
                return Ok(None);
            }
            return Err("has no position (null)".to_owned());
        };
        if !ra.is_finite() || !dec.is_finite() {
            return Err(format!("the position ({ra}, {dec}) is not a number"));
        }
        // 360 itself is refused too: its row would lie in the chunk of 0, where no one looks for 360.
        if !(0.0..360.0).contains(&ra) {
            return Err(format!("right ascension {ra} is outside [0, 360) degrees (`position.wrap_ra` brings it in)"));
        }
        Position::new(Degrees(ra), Degrees(dec))
            .map(Some)
            .map_err(|_| format!("declination {dec} is outside [-90, 90] degrees"))
    }
}

fn number(numbers: &[u64], row: usize) -> RowNumber {
    RowNumber(numbers.get(row).copied().unwrap_or(0))
}

/// A column of numbers as degrees.
pub(crate) fn degrees(column: &ArrayRef) -> Result<ArrayRef> {
    convert(column, &DataType::Float64)
}

fn replace(rows: &RecordBatch, at: usize, values: Vec<Option<f64>>) -> Result<RecordBatch> {
    let mut columns = rows.columns().to_vec();
    if let Some(column) = columns.get_mut(at) {
        let values: ArrayRef = Arc::new(arrow::array::Float64Array::from(values));
        *column = convert(&values, column.data_type())?;
    }
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

/// The positions of a batch of right ascension and declination alone, bad ones left out: those are reported
/// when the rows themselves are read.
pub(crate) fn usable_positions(read: &ReadBatch, wrap_ra: bool) -> Result<Vec<Position>> {
    let (ra, dec) = (degrees(read.rows.column(0))?, degrees(read.rows.column(1))?);
    let (ra, dec) = (ra.as_primitive::<Float64Type>(), dec.as_primitive::<Float64Type>());
    let mut positions = Vec::with_capacity(read.numbers.len());
    for (ra, dec) in ra.iter().zip(dec.iter()) {
        if let (Some(ra), Some(dec)) = (ra, dec)
            && (wrap_ra || (0.0..360.0).contains(&ra))
            && let Ok(position) = Position::new(Degrees(ra), Degrees(dec))
        {
            positions.push(position);
        }
    }
    Ok(positions)
}
