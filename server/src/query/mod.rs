//! The life of a query on the coordinator: it gets an id, a place among those that run, and a
//! record that always closes.

mod frames;
mod gate;
mod journal;
mod life;
mod running;
pub(crate) mod trace;
mod waiting;

pub(crate) use frames::frames_of;
pub(crate) use gate::{Gate, Place};
pub(crate) use journal::{Journal, JournalKeeper, prune};
pub(crate) use life::QueryLife;
pub(crate) use running::{LiveQuery, RunningQueries};
pub(crate) use waiting::{WaitingQueries, WaitingQuery};
