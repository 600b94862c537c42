//! Groups and windows that no chunk border cuts: those by an id whose equal values lie in one chunk.

use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::{Aggregate, Expr, Window};
use skyflight_catalog::TableKind;

use super::{Local, NotLocal, Proof, Role, not_local, origin_of};
use crate::tables::SkyTable;

pub(super) fn prove_aggregate(aggregate: &Aggregate, mut local: Local) -> Proof<Local> {
    let schema = aggregate.input.schema();
    if matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        return not_local("");
    }
    // Any other aggregate has its partial form in the fragment, which is local enough.
    let key = aggregate.group_expr.iter().find(|group| is_whole_in_a_chunk(group, schema, &local));
    let Some(key) = key else { return not_local("") };
    local.reason = format!("{}, grouped by {key}", local.reason);
    let groups = aggregate.group_expr.iter().map(|group| origin_of(group, schema, &local.columns));
    local.columns = groups.chain(aggregate.aggr_expr.iter().map(|_| None)).collect();
    Ok(local)
}

pub(super) fn prove_window(window: &Window, mut local: Local) -> Proof<Local> {
    let schema = window.input.schema();
    for expr in &window.window_expr {
        let Some(partition_by) = partition_by(expr) else { return Err(no_key(&local)) };
        if !partition_by.iter().any(|key| is_whole_in_a_chunk(key, schema, &local)) {
            return Err(no_key(&local));
        }
    }
    local.reason = format!("{}, with windows by its id", local.reason);
    local.columns.extend(window.window_expr.iter().map(|_| None));
    Ok(local)
}

fn partition_by(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => partition_by(&alias.expr),
        Expr::WindowFunction(function) => Some(&function.params.partition_by),
        _ => None,
    }
}

fn no_key(local: &Local) -> NotLocal {
    NotLocal(format!("windows over {} are not by an id that decides the chunk", local.reason))
}

/// True where all rows with the same value of `expr` lie in one chunk.
fn is_whole_in_a_chunk(expr: &Expr, schema: &DFSchema, local: &Local) -> bool {
    origin_of(expr, schema, &local.columns).is_some_and(|origin| {
        // Rows without a partner have NULL for an id, in any chunk.
        origin.role == Role::Key
            && !local.null_extended.contains(&origin.scan)
            && local.scans.get(origin.scan).is_some_and(|table| keeps_ids_whole(table))
    })
}

fn keeps_ids_whole(table: &SkyTable) -> bool {
    match table.table.kind {
        TableKind::Director => !table.facts.ids_span_chunks,
        // Orphans lie where their own position is, so two of the same key may be apart.
        TableKind::Child | TableKind::Companion | TableKind::Match => {
            table.in_step && table.facts.orphans == 0 && !table.facts.ids_span_chunks
        }
        TableKind::Replicated => false,
    }
}

/// The scans whose columns are NULL where a join finds no partner, of `left` and `right` many.
pub(super) fn null_extended(join_type: JoinType, left: usize, right: usize) -> Vec<usize> {
    match join_type {
        JoinType::Left => (left..left + right).collect(),
        JoinType::Right => (0..left).collect(),
        JoinType::Full => (0..left + right).collect(),
        _ => Vec::new(),
    }
}
