//! Files in, chunk files out; and the synthetic sky.
//!
//! [`ingest`] cuts Parquet and text files into sorted chunk files, sends them to workers and commits one
//! snapshot. Its memory stays within the budget given, whatever the size of the input. [`generate`] writes a
//! synthetic survey in the form that ingest reads.

mod accept;
mod chunk_file;
mod delivery;
mod description;
mod director_index;
mod error;
mod generate;
mod ingest;
mod input;
mod leftovers;
mod load;
mod merge;
mod placement;
mod progress;
mod rejects;
mod request;
mod route;
mod router;
mod schema;
mod spill;
mod spool;
mod superseded;
mod threads;
mod types;

pub use description::{
    AngleUnit, ColumnDescription, CsvDescription, PositionColumns, SchemeDescription, TableDescription, TextEncoding,
};
pub use error::{IngestError, Result, RowPlace};
pub use generate::{GenerateReport, GenerateRequest, generate};
pub use ingest::ingest;
pub use progress::{NoProgress, ProgressLine, ProgressSink, Stage};
pub use request::{IngestReport, IngestRequest, TableReport, TableSource, infer};
pub use schema::{ColumnPlan, HEALPIX_COLUMN, TableSchema};
pub use skyflight_catalog::{CommitMode, TableKind};
pub use spool::Spool;
pub use superseded::Sweeper;
