//! The integration tests of the crate, in one binary.

#![allow(clippy::disallowed_methods, reason = "tests")]

mod dispatch;
mod flight_sql;
mod jobs;
