//! How the pairs of a match are read: in the chunks of its first director or of its second.
//!
//! A match is stored so that the files of either side hold each pair once, in the chunk where that
//! side's row lies. So to one director, whichever suits the query, it is as a child. The row of the
//! other director lies in the same chunk or, where ingest found that every pair is narrower than the
//! overlap, in the copies beside it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinType};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use skyflight_catalog::TableKind;

use super::near::is_one_scan;
use super::{ChunkSet, Local, Proof, Role, joined, not_local, origin_of, sky_table};
use crate::tables::SkyTable;

/// The way that reads the fewest chunks, where rows from beside one count half as much as its own; the
/// first of those that read as few.
pub(super) fn fewest_chunks(ways: Vec<Local>) -> Proof<Local> {
    let count = |local: &Local| match &local.chunks {
        None => 2,
        Some(ChunkSet::Some(chunks)) if local.with_overlap.is_empty() => 2 * chunks.len(),
        Some(ChunkSet::Some(chunks)) => 3 * chunks.len(),
        Some(ChunkSet::All) => usize::MAX,
    };
    ways.into_iter().min_by_key(count).map_or_else(|| not_local(""), Ok)
}

/// A join of pairs with the rows of the director they are not seen from; `None` where it is none, or
/// where a row may be out of reach.
pub(super) fn joined_beside(join: &Join, left: &Local, right: &Local) -> Option<Local> {
    // Rows beside a chunk come out of that chunk again, so none may come out for want of a partner.
    let right_may =
        matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti);
    let left_may =
        matches!(join.join_type, JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti);
    let (mut left, mut right) = (left.clone(), right.clone());
    let (owner, beside) = if right_may && is_one_scan(&join.right) && on_other_key(join, &left, &right, false) {
        (&mut left, &mut right)
    } else if left_may && is_one_scan(&join.left) && on_other_key(join, &right, &left, true) {
        (&mut right, &mut left)
    } else {
        return None;
    };
    let (l, r) = join.on.first()?;
    let reason = format!(
        "{} joined with {} on {l} = {r}, whose rows all lie where the overlap reaches",
        owner.reason, beside.reason
    );
    let chunks = owner.chunks.clone();
    beside.with_overlap = vec![0];
    // Its rows may lie in another chunk: nothing follows from their places and keys any more.
    beside.columns.fill(None);
    joined(join.join_type, left, right, chunks, reason).ok()
}

/// True where an equality of the join is that of a match's other key with the id of that director,
/// which is all of `director`, and every pair reaches it. `swapped` where the pairs are on the right.
fn on_other_key(join: &Join, pairs: &Local, director: &Local, swapped: bool) -> bool {
    let same = pairs.database.as_ref().zip(director.database.as_ref()).is_some_and(|(a, b)| a.snapshot == b.snapshot);
    let [table] = director.scans.as_slice() else { return false };
    if !same || table.table.kind != TableKind::Director {
        return false;
    }
    let role = |expr: &Expr, schema: &DFSchema, side: &Local, role: Role| {
        let origin = origin_of(expr, schema, &side.columns).filter(|origin| origin.role == role)?;
        side.scans.get(origin.scan).map(Arc::clone)
    };
    join.on.iter().any(|(l, r)| {
        let (other, id) = if swapped {
            (role(r, join.right.schema(), pairs, Role::OtherKey), role(l, join.left.schema(), director, Role::Key))
        } else {
            (role(l, join.left.schema(), pairs, Role::OtherKey), role(r, join.right.schema(), director, Role::Key))
        };
        other.is_some_and(|pairs| id.is_some() && reaches(&pairs, table))
    })
}

fn reaches(pairs: &SkyTable, director: &SkyTable) -> bool {
    pairs.pairs.as_ref().is_some_and(|view| view.reaches_other)
        && pairs.other_key().is_some_and(|(_, name)| name == director.table.name)
}

/// Lets each match be read as the proof sees it. Scans are counted from left to right.
pub(super) fn seen_from(plan: LogicalPlan, scans: &[Arc<SkyTable>]) -> PlanResult<LogicalPlan> {
    if scans.iter().all(|table| table.pairs.is_none()) {
        return Ok(plan);
    }
    let mut next = 0;
    plan.transform_down(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let seen = scans.get(next);
        next += 1;
        let stored = sky_table(&source_as_provider(&scan.source)?);
        match seen.zip(stored) {
            Some((seen, stored)) if !Arc::ptr_eq(seen, &stored) => {
                scan.source = provider_as_source(Arc::clone(seen) as _);
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            _ => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
        }
    })
    .map(|rewritten| rewritten.data)
}
