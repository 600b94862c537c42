//! The coordinator: Flight SQL for clients, the life of each query, and the dispatch of chunks to
//! workers.
//!
//! [`start`] serves until [`RunningCoordinator::shutdown`]. A request arrives in `flight_sql`,
//! `session` says whose it is, `query` gives it an id and a record that always closes, the engine
//! plans it, and its rows come from the merge plan or, undecoded, from [`dispatch`]. A query that is
//! submitted as one of the `jobs` goes the same way to a file.

mod auth;
mod clock;
mod cluster;
mod config;
mod coordinator;
pub mod dispatch;
mod error;
mod figures;
mod flight_sql;
mod jobs;
mod places;
mod query;
mod session;
mod system;
mod uploads;

pub use auth::{AuthMode, PasswordError, hash_password};
pub use config::CoordinatorConfig;
pub use coordinator::{RunningCoordinator, start};
pub use error::ServerError;
pub use figures::CoordinatorFigures;
pub use jobs::JobsConfig;
pub use session::{EndpointMode, LOCAL_USER, UnknownEndpointMode};
pub use skyflight_engine::shuffle::{ShuffleConfig, ShuffleMode};
pub use uploads::{DirectorColumns, RowStream, TableWriter, Upload, UploadLimits, UploadMode};
