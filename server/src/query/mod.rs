//! The life of a query on the coordinator: it gets an id, a place among those that run, and a
//! record that always closes.

mod gate;
mod journal;
mod life;
pub(crate) mod trace;
mod waiting;

pub(crate) use gate::{Gate, Place};
pub(crate) use journal::{Journal, JournalKeeper};
pub(crate) use life::QueryLife;
pub(crate) use waiting::{WaitingQueries, WaitingQuery};
