//! Where DataFusion lives: SQL becomes a plan whose lower part runs beside chunks of sky.
//!
//! On the coordinator [`Engine`] opens a [`Session`] on the current snapshots, [`Session::plan`]
//! takes one guarded statement through name resolution, the optimizer, the locality proof and
//! the fold rule, and gives a [`PlannedQuery`]. On a worker [`fragment::FragmentRuntime`] decodes the
//! fragment of such a plan and runs it on a chunk's files.

mod bounds;
mod director_index;
pub mod dispatch;
mod engine;
mod error;
mod estimate;
mod explain;
pub mod fragment;
pub mod frames;
pub mod functions;
pub mod guard;
mod ids_first;
pub mod interrupt;
mod locality;
pub mod message_limit;
pub mod names;
mod nan;
pub mod own;
pub mod parameters;
mod plan;
mod prune;
mod registry;
mod repair;
pub mod schema;
mod session;
pub mod shuffle;
mod spherical;
mod steady;
mod system;
mod tables;
pub mod trace;
pub mod views;

pub use engine::{Engine, EngineConfig};
pub use error::{EngineError, Result};
pub use estimate::Estimate;
pub use session::{PlannedQuery, Session, SessionOptions};
pub use system::{SYSTEM, SystemTables};
