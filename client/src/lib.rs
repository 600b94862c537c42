//! A client of Skyflight, or of any Flight SQL server: a connection that runs SQL and streams
//! Arrow record batches, ways to write them, and an interactive shell. It links no other crate of
//! the project.
//!
//! ```no_run
//! # async fn example() -> Result<(), skyflight_client::ClientError> {
//! use futures::TryStreamExt;
//! let mut connection = skyflight_client::Connection::open("http://127.0.0.1:32010").await?;
//! let mut rows = connection.query("SELECT count(*) AS n FROM hipparcos").await?;
//! while let Some(batch) = rows.try_next().await? {
//!     println!("{} rows", batch.num_rows());
//! }
//! # Ok(())
//! # }
//! ```

mod browse;
mod connection;
mod error;
mod fetch;
mod job;
mod output;
mod shell;
mod statements;
mod write;

pub use browse::{ForeignKey, TableName};
pub use connection::{Connection, Rows, TlsOptions};
pub use error::ClientError;
pub use job::{Job, JobStatus};
pub use output::{Format, Summary, write_rows};
pub use shell::{ShellOptions, run_script, run_shell};
pub use statements::split_statements;
pub use write::UploadMode;

/// The result of everything in this crate.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;
