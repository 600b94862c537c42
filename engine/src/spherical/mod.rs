//! Joins of rows that lie near each other on the sky.
//!
//! A join condition that keeps its two sides within a radius (`separation(…) < r` in any spelling)
//! is found on the optimized logical plan ([`condition`]), becomes a node of its own ([`node`]), and
//! is run by one operator ([`exec`]): one side is [`arranged`] in [`zones`], the rows of the other look
//! up what is near them ([`probe`]), and the condition is asked only of those [`pairs`]. Where a query
//! looks at the nearest few of each row, the operator gives no others ([`nearest`], [`best`]). Which of
//! these joins can run beside a chunk is decided with all other joins, in [`crate::locality`]; one that
//! cannot is divided by [`cells`] of the sky where its query is shuffled.

mod arranged;
pub(crate) mod best;
pub(crate) mod cells;
mod condition;
pub(crate) mod exec;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod measure;
mod nearest;
pub(crate) mod node;
mod pairs;
mod probe;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
mod zones;

pub(crate) use exec::SphericalJoinExec;
pub(crate) use nearest::want_nearest;
pub(crate) use node::{SphericalJoin, plan_spherical_joins};
