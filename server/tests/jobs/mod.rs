//! Jobs and cancelling, on coordinators whose chunks are made up: what is submitted comes to an end,
//! whatever happens to the coordinator, and what is finished does not run again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cancel;
mod limits;
mod made_up;
mod restart;
mod watching;
