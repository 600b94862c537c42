//! Our own plan nodes, the rule that moves work below them, and how they travel.

pub(crate) mod codec;
pub(crate) mod dispatch;
pub(crate) mod fold;
pub(crate) mod local;
mod maps;
pub(crate) mod planner;
pub(crate) mod scan;
pub(crate) mod sequence;
