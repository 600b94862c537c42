//! The Flight SQL face over loopback, with arrow-flight's own client, on queries that need no
//! worker. What needs chunks is tested in `integration`.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod auth;
pub(crate) mod coordinator;
mod errors;
mod handshake;
mod keys_and_tables;
mod lifecycle;
mod metadata;
mod operations;
mod own_tables;
pub(crate) mod parameters;
pub(crate) mod prepared;
mod relay;
mod sql_info;
mod statements;
mod tickets;
mod tls;
