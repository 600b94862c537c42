//! The dispatcher against workers that die, hang and lie: the answer is exact or an error.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cluster;
mod cost;
mod fake;
mod faults;
mod flow;
mod sky;
