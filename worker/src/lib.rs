//! The Flight service beside the chunks.
//!
//! A worker keeps chunk files in a folder of its own and runs fragments on them. It trusts
//! tickets, not callers: [`start`] opens a Flight port where DoGet runs a task, for a coordinator or
//! straight for a client (`direct`), DoPut stores a file, and a few actions list, drop and ping.
//! Flight runs on the caller's runtime and fragments on another, so that neither starves the other.
//! Rows leave as IPC frames, chunk by chunk, each closed by a trailer.

mod config;
mod counters;
mod direct;
mod error;
mod figures;
mod put;
mod register;
mod running;
mod service;
mod shuffle;
pub mod store;
mod task;
mod worker;

pub use config::WorkerConfig;
pub use error::{Result, WorkerError};
pub use figures::WorkerFigures;
pub use register::{Registrar, RemoteRegistrar};
pub use running::{RunningWorker, start};
