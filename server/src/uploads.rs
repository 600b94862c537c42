//! The seam to whatever writes tables. The coordinator knows what is to be written where; how rows
//! become chunk files on workers is the ingest's affair, which this crate does not name.

use std::fmt::Debug;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use skyflight_engine::EngineError;

/// Writes rows into tables.
#[async_trait]
pub trait TableWriter: Send + Sync + Debug {
    /// Writes all rows or none, and gives their number. The rows count from when this returns. Dropping
    /// the call before all rows were taken leaves nothing.
    ///
    /// # Errors
    /// Those of `rows` as they are; `Invalid` for rows that the table does not take; `ResourceExhausted`
    /// beyond the upload's limits, or while another process writes into the database; `Unavailable` when
    /// workers cannot be reached.
    async fn write(&self, upload: Upload, rows: RowStream) -> Result<u64, EngineError>;
}

/// Rows on their way into a table.
pub type RowStream = BoxStream<'static, Result<RecordBatch, EngineError>>;

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The database; made when it does not exist.
    pub database: String,
    /// The table.
    pub table: String,
    /// Whether the rows it has stay.
    pub mode: UploadMode,
    /// The schema of the rows: plain types, names that differ.
    pub schema: SchemaRef,
    /// Makes the table a director, cut by position; otherwise every worker gets the whole of it.
    pub director: Option<DirectorColumns>,
    /// What may be written.
    pub limits: UploadLimits,
}

/// What happens to the rows that a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadMode {
    /// They stay; a table that does not exist is made.
    Append,
    /// They go.
    Replace,
}

/// The columns that make a table a director.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorColumns {
    /// Right ascension, ICRS degrees.
    pub ra: String,
    /// Declination, ICRS degrees.
    pub dec: String,
    /// What identifies a row.
    pub id: String,
}

/// How much may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Rows.
    pub rows: u64,
    /// Bytes, as the rows take them in memory and as files.
    pub bytes: u64,
}
