//! The engine end to end in one process: a small skewed sky cut into chunk files, fragments that
//! travel through their codec, and answers compared with plain DataFusion on the whole tables.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod answers;
mod datafusion_slt;
mod forms;
mod house;
mod join_keys;
mod near;
mod plans;
mod repairs;
