//! Rows that cannot be used: the first one stops the ingest, or all of them go to a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parking_lot::Mutex;

use crate::error::{IngestError, IoContext, Result};
use crate::input::{InputFile, RowNumber};

/// Text of a row kept in the rejects file at most, in characters.
const MAX_TEXT: usize = 10_000;

/// A CSV file with the columns table, file, place, reason and text.
#[derive(Debug)]
pub(crate) struct RejectsFile {
    path: PathBuf,
    writer: Mutex<csv::Writer<File>>,
}

impl RejectsFile {
    pub(crate) fn create(path: &Path) -> Result<RejectsFile> {
        let file = File::create(path).at("create", path)?;
        let rejects = RejectsFile { path: path.to_owned(), writer: Mutex::new(csv::Writer::from_writer(file)) };
        rejects.record(["table", "file", "place", "reason", "text"])?;
        Ok(rejects)
    }

    fn record(&self, fields: [&str; 5]) -> Result<()> {
        let written = self.writer.lock().write_record(fields);
        written.map_err(std::io::Error::from).at("write", &self.path)
    }

    /// Brings everything to the file.
    pub(crate) fn flush(&self) -> Result<()> {
        self.writer.lock().flush().at("write", &self.path)
    }
}

/// What becomes of one table's bad rows.
#[derive(Debug)]
pub(crate) struct BadRows<'a> {
    pub(crate) table: &'a str,
    pub(crate) files: &'a [InputFile],
    /// Where they go; none stops the ingest.
    pub(crate) rejects: Option<&'a RejectsFile>,
    pub(crate) count: AtomicU64,
}

impl BadRows<'_> {
    /// Records a bad row, or fails with it.
    pub(crate) fn report(&self, number: RowNumber, reason: String, text: &str) -> Result<()> {
        let Some(file) = self.files.get(number.file()) else {
            return Err(IngestError::Request(format!("a row of no input file: {reason}")));
        };
        let place = number.place(file.format);
        let Some(rejects) = self.rejects else {
            return Err(IngestError::BadRow { file: file.path.clone(), place, reason });
        };
        self.count.fetch_add(1, Ordering::Relaxed);
        let text: String = text.chars().take(MAX_TEXT).collect();
        rejects.record([self.table, &file.path.display().to_string(), &place.to_string(), &reason, &text])
    }
}

/// A row's values with commas between them, for people.
pub(crate) fn row_text(batch: &RecordBatch, row: usize) -> String {
    let options = FormatOptions::default().with_null("\\N").with_display_error(true);
    let mut values = Vec::with_capacity(batch.num_columns());
    for column in batch.columns() {
        let value = ArrayFormatter::try_new(column.as_ref(), &options);
        values.push(value.map_or_else(|error| error.to_string(), |value| value.value(row).to_string()));
    }
    values.join(",")
}
