//! Rows that come one by one, gathered in a file that an ingest reads: it looks at its input twice, and
//! begins to write only when it knows that all of it is there.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{IoContext, Result};

/// Rows of a row group, which an ingest reads as one piece.
const ROW_GROUP_ROWS: usize = 256 << 10;

/// Bytes that may wait in memory to be written.
const WAITING_BYTES: usize = 32 << 20;

/// A file that rows are gathered in. It goes when this is dropped.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    writer: Option<ArrowWriter<File>>,
    rows: u64,
}

impl Spool {
    /// Begins a file of that name, which ends in `.parquet`; its folder is made where it is missing.
    ///
    /// # Errors
    /// `Io` when the file cannot be made; `Parquet` for a type that no file holds.
    pub fn create(path: &Path, schema: &SchemaRef) -> Result<Spool> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).at("create", folder)?;
        }
        let properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let file = File::create(path).at("create", path)?;
        // From here on the file goes with the spool.
        let mut spool = Spool { path: path.to_owned(), writer: None, rows: 0 };
        spool.writer = Some(ArrowWriter::try_new(file, SchemaRef::clone(schema), Some(properties))?);
        Ok(spool)
    }

    /// Adds rows.
    ///
    /// # Errors
    /// The disk is full, or the batch is of another schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            writer.write(batch)?;
            if writer.in_progress_size() > WAITING_BYTES {
                writer.flush()?;
            }
            self.rows += batch.num_rows() as u64;
        }
        Ok(())
    }

    /// Rows added so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the file so far, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| (writer.bytes_written() + writer.in_progress_size()) as u64)
    }

    /// Ends the file, which can be read from then on.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            writer.close()?;
        }
        Ok(())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.writer = None;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "a spooled upload was not removed");
        }
    }
}
