//! A worker behind a real port, from the outside: files in, rows out, and everything that can be
//! wrong with either.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod direct;
mod flow;
mod put;
mod register;
mod rig;
mod sky;
mod stages;
mod task;
mod tickets;
