//! Which joins of near rows may run beside a chunk.
//!
//! One side, the owner, gives its rows of the chunk; the other gives its rows of the chunk and the
//! copies of those beside it. So an owner's row, which lies in one chunk only, meets there every row
//! within the radius, as long as the radius is at most that of the overlap. Only directors have an
//! overlap: rows of a child beside the chunk are elsewhere.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinSide, JoinType};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::{Local, NotLocal, Origin, Proof, Role, joined, joined_chunks, not_local, origin_of, prove, sky_table};
use crate::spherical::SphericalJoin;
use crate::tables::WithOverlap;

pub(super) fn prove_spherical(join: &SphericalJoin) -> Proof<Local> {
    let (mut left, mut right) = (prove(&join.left)?, prove(&join.right)?);
    let (Some(one), Some(other)) = (&left.database, &right.database) else {
        // A table that is whole on every worker needs no overlap.
        let reason = format!("{} near {}", left.reason, right.reason);
        let chunks = joined_chunks(join.join_type, &left, &right)?;
        return joined(join.join_type, left, right, chunks, reason);
    };
    let overlap_deg =
        one.scheme.as_ref().map(|scheme| scheme.overlap_radius().0).ok_or_else(|| NotLocal(String::new()))?;
    if one.snapshot != other.snapshot {
        return not_local(format!("databases {} and {} are cut apart", one.name, other.name));
    }
    let Some(radius_deg) = join.near.constant_radius() else {
        return not_local("the radius differs from row to row, and may be above that of the overlap");
    };
    if radius_deg > overlap_deg {
        return not_local(format!(
            "the radius of {} arcsec is above that of the overlap, {} arcsec",
            radius_deg * 3600.0,
            overlap_deg * 3600.0
        ));
    }
    lies_where(&join.near.left, &join.left, &left)?;
    lies_where(&join.near.right, &join.right, &right)?;
    // The side whose unmatched rows come out must be the owner: beside a chunk they would come out again.
    let (left_may, right_may) = match join.join_type {
        JoinType::Inner => (true, true),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => (true, false),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => (false, true),
        JoinType::Full | JoinType::LeftMark | JoinType::RightMark => (false, false),
    };
    // The owner decides which chunks are visited: the side that needs fewer. But where the first pairs of each row
    // of a side are wanted, they are all in one chunk if that side is the owner.
    let left_owns = match (left_may && is_one_scan(&join.right), right_may && is_one_scan(&join.left)) {
        (false, false) => {
            return not_local("the overlap is that of one table, whose rows without a partner are not asked for");
        }
        (true, false) => true,
        (false, true) => false,
        (true, true) => match &join.wanted {
            Some(wanted) => wanted.of_each == JoinSide::Left,
            None => chunk_count(&left) <= chunk_count(&right),
        },
    };
    let radius_arcsec = radius_deg * 3600.0;
    let (owner, beside) = if left_owns { (&mut left, &mut right) } else { (&mut right, &mut left) };
    let reason = format!(
        "{} within {radius_arcsec} arcsec of {}, whose overlap reaches {} arcsec",
        owner.reason,
        beside.reason,
        overlap_deg * 3600.0
    );
    let chunks = owner.chunks.clone();
    beside.with_overlap = vec![0];
    // Its rows may lie in another chunk: nothing follows from their places and keys any more.
    beside.columns.fill(None);
    joined(join.join_type, left, right, chunks, reason)
}

fn chunk_count(local: &Local) -> usize {
    match &local.chunks {
        Some(super::ChunkSet::Some(chunks)) => chunks.len(),
        _ => usize::MAX,
    }
}

/// Proves that the position is that of a director's row, in whose chunk the whole row is.
fn lies_where(position: &[Expr; 2], plan: &LogicalPlan, local: &Local) -> Proof<()> {
    let apart = || NotLocal(format!("a position is not that of the director rows of {}", local.reason));
    let origin = |expr: &Expr| -> Proof<Origin> { origin_of(expr, plan.schema(), &local.columns).ok_or_else(apart) };
    let (ra, dec) = (origin(&position[0])?, origin(&position[1])?);
    if ra.scan != dec.scan || ra.role != Role::DirectorRa || dec.role != Role::DirectorDec {
        return Err(apart());
    }
    Ok(())
}

/// True for one table alone, a director where its position was proved: its rows beside a chunk can be
/// had, and they go through filters and projections as its own do.
pub(super) fn is_one_scan(plan: &LogicalPlan) -> bool {
    let mut node = plan;
    loop {
        node = match node {
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::TableScan(table) => return table.fetch.is_none(),
            _ => return false,
        };
    }
}

/// Lets the scans with the given numbers, counted from left to right, read what lies beside the chunk.
pub(super) fn read_overlap(plan: LogicalPlan, scans: &[usize]) -> PlanResult<LogicalPlan> {
    use datafusion::common::tree_node::TreeNode;
    if scans.is_empty() {
        return Ok(plan);
    }
    let mut next = 0;
    plan.transform_down(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let number = next;
        next += 1;
        if !scans.contains(&number) {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        }
        if let Some(table) = sky_table(&source_as_provider(&scan.source)?) {
            scan.source = provider_as_source(Arc::new(WithOverlap(table)));
        }
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })
    .map(|rewritten| rewritten.data)
}
