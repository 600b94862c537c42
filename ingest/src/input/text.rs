//! Rows of text files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;

use super::cells::{Cells, cells};
use super::files::is_tab_separated;
use super::parquet::nullable;
use super::records::{Dialect, Fault, Record, Records};
use super::{BATCH_BYTES, BATCH_ROWS, Input, ReadBatch, RowNumber, UnreadableRow};
use crate::description::CsvDescription;
use crate::error::{IngestError, IoContext, Result};
use crate::schema::TableSchema;

const READ_BYTES: usize = 1 << 20;

/// A text file opened behind its header.
pub(super) struct TextFile {
    records: Records<BufReader<File>>,
    path: std::path::PathBuf,
    /// The names of its columns in the file's order.
    pub(super) names: Vec<String>,
}

impl TextFile {
    pub(super) fn open(path: &Path, csv: &CsvDescription) -> Result<TextFile> {
        let file = File::open(path).at("open", path)?;
        let reader = BufReader::with_capacity(READ_BYTES, file);
        let mut records = Records::new(reader, Dialect::new(csv, is_tab_separated(path)));
        let names = match (&csv.columns, csv.header) {
            (Some(columns), false) => columns.clone(),
            _ => header(path, &mut records)?,
        };
        Ok(TextFile { records, path: path.to_owned(), names })
    }

    /// See [`Records::next`].
    pub(super) fn next(&mut self, record: &mut Record) -> Result<std::result::Result<bool, Fault>> {
        self.records.next(record).at("read", &self.path)
    }
}

fn header(path: &Path, records: &mut Records<BufReader<File>>) -> Result<Vec<String>> {
    let unusable = |reason: String| IngestError::Input { file: path.to_owned(), reason };
    let mut record = Record::default();
    match records.next(&mut record).at("read", path)? {
        Ok(true) => {}
        Ok(false) => return Err(unusable("is empty; a text file begins with the names of its columns".into())),
        Err(fault) => return Err(unusable(format!("its header {}", fault.reason()))),
    }
    let names: Vec<String> = (0..record.len()).map(|at| record.get(at).unwrap_or_default().trim().to_owned()).collect();
    if let Some(at) = names.iter().position(String::is_empty) {
        return Err(unusable(format!("column {} of its header has no name", at + 1)));
    }
    Ok(names)
}

/// Reads a whole file; `number` is its index in the input.
pub(super) fn read_file(
    path: &Path,
    number: usize,
    input: &Input,
    columns: &[usize],
    take: &mut dyn FnMut(ReadBatch) -> Result<()>,
) -> Result<()> {
    let mut file = TextFile::open(path, &input.description.csv)?;
    let mut columns = Columns::new(path, &file.names, &input.schema, columns)?;
    let mut record = Record::default();
    loop {
        let outcome = file.next(&mut record)?;
        if outcome == Ok(false) {
            break;
        }
        let row = RowNumber::new(number, record.line);
        match outcome {
            Ok(_) => columns.push(&record, row),
            Err(fault) => columns.refuse(&record, row, fault.reason().to_owned()),
        }
        if columns.numbers.len() >= BATCH_ROWS || columns.bytes >= BATCH_BYTES || columns.unreadable.len() >= BATCH_ROWS
        {
            take(columns.finish()?)?;
        }
    }
    take(columns.finish()?)
}

/// The columns of the batch being read.
struct Columns {
    /// Fields in a record.
    width: usize,
    /// Of each column: its name and type for messages, its field in the record, and its values.
    cells: Vec<(String, usize, Box<dyn Cells>)>,
    schema: Arc<Schema>,
    numbers: Vec<u64>,
    unreadable: Vec<UnreadableRow>,
    bytes: usize,
}

impl Columns {
    fn new(path: &Path, names: &[String], schema: &TableSchema, columns: &[usize]) -> Result<Columns> {
        let unusable = |reason: String| IngestError::Input { file: path.to_owned(), reason };
        if names.len() != schema.columns.len() {
            return Err(unusable(format!("has {} columns, the table {}", names.len(), schema.columns.len())));
        }
        let wanted = nullable(schema.arrow().project(columns).as_ref().map_err(|e| unusable(e.to_string()))?);
        let mut cells_of = Vec::with_capacity(columns.len());
        for field in wanted.fields() {
            let at = names.iter().position(|name| name == field.name()).ok_or_else(|| {
                unusable(format!("has no column \"{}\", which other files of the table have", field.name()))
            })?;
            let label = format!("column {} ({})", field.name(), field.data_type());
            cells_of.push((label, at, cells(field.data_type())));
        }
        Ok(Columns {
            width: names.len(),
            cells: cells_of,
            schema: wanted,
            numbers: Vec::new(),
            unreadable: Vec::new(),
            bytes: 0,
        })
    }

    fn push(&mut self, record: &Record, number: RowNumber) {
        if record.len() != self.width {
            let reason = format!("has {} values, the table has {} columns", record.len(), self.width);
            self.refuse(record, number, reason);
            return;
        }
        let mut wrong = None;
        for (label, at, cells) in &mut self.cells {
            let text = record.get(*at);
            if !cells.push(text) && wrong.is_none() {
                let shown: String = text.unwrap_or_default().chars().take(60).collect();
                wrong = Some(format!("{label} cannot hold \"{shown}\""));
            }
        }
        if let Some(reason) = wrong {
            let index = Some(self.numbers.len());
            self.unreadable.push(UnreadableRow { number, index, reason, text: record.raw_text() });
        }
        self.numbers.push(number.0);
        self.bytes += record.bytes();
    }

    fn refuse(&mut self, record: &Record, number: RowNumber, reason: String) {
        self.unreadable.push(UnreadableRow { number, index: None, reason, text: record.raw_text() });
    }

    fn finish(&mut self) -> Result<ReadBatch> {
        let columns: Vec<ArrayRef> =
            self.cells.iter_mut().map(|(_, _, cells)| cells.finish()).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.numbers.len()));
        self.bytes = 0;
        Ok(ReadBatch {
            rows: RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?,
            numbers: std::mem::take(&mut self.numbers),
            unreadable: std::mem::take(&mut self.unreadable),
        })
    }
}
