//! The store from outside, as its callers use it: every test works on a real file or on an empty store in memory.
#![expect(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod activity;
mod commits;
mod databases;
mod fixtures;
mod jobs;
mod refusals;
mod scale;
mod sharing;
mod superseded;
mod transactions;
mod users;
