//! The integration tests of the crate, in one binary.

mod dispatch;
mod flight_sql;
