//! Joins of rows that lie near each other on the sky.
//!
//! A join condition that keeps its two sides within a radius (`separation(…) < r` in any spelling)
//! is found on the optimized logical plan ([`condition`]), becomes a node of its own ([`node`]), and
//! is run by one operator ([`exec`]) which looks up near rows in [`zones`] and asks the whole
//! condition only of those. Which of these joins can run beside a chunk is decided with all other
//! joins, in [`crate::locality`].

mod condition;
pub(crate) mod exec;
pub(crate) mod node;
mod pairs;
mod zones;

pub(crate) use exec::SphericalJoinExec;
pub(crate) use node::{SphericalJoin, plan_spherical_joins};
