//! Input files as one stream of numbered rows, whatever their format.

mod cells;
mod files;
mod infer;
mod parquet;
mod records;
mod text;

use arrow::array::RecordBatch;

pub(crate) use files::{Format, InputFile};
pub(crate) use infer::find_schema;

use crate::description::TableDescription;
use crate::error::{Result, RowPlace};
use crate::schema::TableSchema;
use crate::threads::Stop;

/// Rows of one batch at most.
pub(crate) const BATCH_ROWS: usize = 8_192;

/// Aim for the size of a batch in bytes, where rows are long.
const BATCH_BYTES: usize = 4 << 20;

const ROW_BITS: u32 = 40;

/// A row's number in the whole input: the file's in the upper 24 bits, the line or row in the lower 40.
/// Rows that are alike in every other way are kept in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowNumber(pub(crate) u64);

impl RowNumber {
    fn new(file: usize, row: u64) -> RowNumber {
        RowNumber(((file as u64) << ROW_BITS) | row)
    }

    /// Index of the file in the input.
    pub(crate) fn file(self) -> usize {
        usize::try_from(self.0 >> ROW_BITS).unwrap_or(usize::MAX)
    }

    /// Line or row in the file, from 1.
    pub(crate) fn place(self, format: Format) -> RowPlace {
        let row = self.0 & ((1 << ROW_BITS) - 1);
        match format {
            Format::Text => RowPlace::Line(row),
            Format::Parquet => RowPlace::Row(row),
        }
    }
}

/// A row that cannot be read as a row of the table.
#[derive(Debug)]
pub(crate) struct UnreadableRow {
    pub(crate) number: RowNumber,
    /// Its index in the batch, where it takes a place there.
    pub(crate) index: Option<usize>,
    pub(crate) reason: String,
    /// The row as text, as far as it could be read.
    pub(crate) text: String,
}

/// Rows as read: typed, numbered, and with the unreadable ones named.
#[derive(Debug)]
pub(crate) struct ReadBatch {
    /// The table's columns, or the projected ones in the order asked for.
    pub(crate) rows: RecordBatch,
    /// The number of each row.
    pub(crate) numbers: Vec<u64>,
    /// In order of their numbers.
    pub(crate) unreadable: Vec<UnreadableRow>,
}

/// A piece of the input that one thread reads.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Index of the file in the input.
    pub(crate) file: usize,
    /// For Parquet: one row group and the number of rows before it.
    pub(crate) row_group: Option<(usize, u64)>,
}

/// The input of one table: its files, and how to read them.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) files: Vec<InputFile>,
    pub(crate) schema: TableSchema,
    pub(crate) description: TableDescription,
}

impl Input {
    /// Pieces to be read side by side, in order, and the number of rows where it is known beforehand.
    pub(crate) fn units(&self) -> Result<(Vec<Unit>, Option<u64>)> {
        let mut units = Vec::new();
        let mut rows = Some(0);
        for (file, input) in self.files.iter().enumerate() {
            match input.format {
                Format::Text => {
                    units.push(Unit { file, row_group: None });
                    rows = None;
                }
                Format::Parquet => {
                    let mut before = 0;
                    for (group, count) in parquet::row_groups(&input.path)?.into_iter().enumerate() {
                        units.push(Unit { file, row_group: Some((group, before)) });
                        before += count;
                    }
                    rows = rows.map(|rows| rows + before);
                }
            }
        }
        Ok((units, rows))
    }

    /// Reads a unit from its beginning to its end. `projection` are indices of the table's columns; none
    /// means all of them.
    pub(crate) fn read(
        &self,
        unit: &Unit,
        projection: Option<&[usize]>,
        stop: &Stop,
        take: &mut dyn FnMut(ReadBatch) -> Result<()>,
    ) -> Result<()> {
        let Some(file) = self.files.get(unit.file) else { return Ok(()) };
        let all: Vec<usize>;
        let columns = match projection {
            Some(columns) => columns,
            None => {
                all = (0..self.schema.columns.len()).collect();
                &all
            }
        };
        let mut take = |batch: ReadBatch| {
            stop.check()?;
            take(batch)
        };
        match unit.row_group {
            Some((group, before)) => {
                let first = RowNumber::new(unit.file, before + 1);
                parquet::read_row_group(&file.path, &self.schema, columns, group, first, &mut take)
            }
            None => text::read_file(&file.path, unit.file, self, columns, &mut take),
        }
    }
}
