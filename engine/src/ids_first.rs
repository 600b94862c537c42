//! A small side of a join is asked first, where its rows' ids tell the chunks of the large side.
//!
//! `JOIN targets ON objectId`, and `WHERE objectId IN (SELECT …)`, need only the chunks that hold these
//! ids. So the small side runs while the query is planned, and its ids become a list on the large side,
//! which the director index looks up as it does any list. The join stays as it is, and the small side runs
//! again in it: the list takes away rows that would find no partner. So the small side must give the same
//! rows whenever it runs on a snapshot, and must be small whatever is in it: it reads few rows, and nothing
//! in it makes more of them.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::compute::cast;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality, Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, Filter, Join, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use crate::estimate::Estimate;
use crate::interrupt::{QueryCancel, protect};
use crate::locality::{lie_together, sky_table, widens};
use crate::repair::{optimizer_rules, share_key_conditions};
use crate::session::planned;
use crate::steady::{is_plain_aggregate, is_steady};
use crate::tables::SkyTable;

/// More rows than this are not read ahead.
const SMALL_ROWS: u64 = 100_000;

/// A large side has so many times the rows: asking a side that is about as large costs what it saves.
const TIMES_LARGER: u64 = 4;

/// More ids than this are in nearly every chunk.
const MOST_IDS: usize = 20_000;

/// Joins of one query that are looked at.
const MOST_JOINS: usize = 4;

/// A plan with lists of ids on large sides of joins, where small sides gave them.
#[derive(Debug)]
pub(crate) struct Narrowed {
    pub(crate) plan: LogicalPlan,
    /// What was asked, for EXPLAIN.
    pub(crate) asked: Vec<String>,
}

/// Asks the small sides of a plan's joins. The same small side and snapshot give the same plan.
pub(crate) async fn ids_first(state: &SessionState, plan: LogicalPlan) -> Result<Narrowed> {
    let mut narrowed = Narrowed { plan, asked: Vec::new() };
    let mut seen = Seen::new();
    while seen.len() < MOST_JOINS
        && let Some(found) = first_join(&narrowed.plan, &seen)?
    {
        seen.insert((Arc::clone(&found.small), found.large_key.clone()));
        if let Some(ids) = ids_of(state, &found).await? {
            narrowed.asked.push(format!("{} ids for {}, of {}", ids.len(), found.large_key, found.small.display()));
            narrowed.plan = listed(state, narrowed.plan, &found, ids, &seen)?;
        }
    }
    Ok(narrowed)
}

/// Small sides that were looked at, with what they narrow.
type Seen = HashSet<(Arc<LogicalPlan>, Expr)>;

/// A join whose large side can be narrowed.
struct Narrowing {
    join: Join,
    small: Arc<LogicalPlan>,
    small_key: Expr,
    /// The column of ids, without the cast that makes it comparable to the small side's key.
    large_key: Expr,
    large_is_left: bool,
    /// Rows of the table that holds the large side's ids.
    large_rows: u64,
}

fn first_join(plan: &LogicalPlan, seen: &Seen) -> Result<Option<Narrowing>> {
    let mut found = None;
    plan.apply(|node| {
        if let LogicalPlan::Join(join) = node
            && let Some(narrowing) = narrowing(join, seen)?
        {
            found = Some(narrowing);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn narrowing(join: &Join, seen: &Seen) -> Result<Option<Narrowing>> {
    // NULL that is equal to NULL, or that decides for all rows, is in no list.
    if join.null_aware || join.null_equality == NullEquality::NullEqualsNull {
        return Ok(None);
    }
    // A side whose rows come out without a partner keeps them all.
    let left_may = matches!(
        join.join_type,
        JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::LeftSemi
    );
    let right_may = matches!(
        join.join_type,
        JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi
    );
    for (left, right) in &join.on {
        let sides = [
            (left_may, true, (left, &join.left), (right, &join.right)),
            (right_may, false, (right, &join.right), (left, &join.left)),
        ];
        for (may, large_is_left, (large_key, large), (small_key, small)) in sides {
            let large_key = uncast(large_key, large);
            let Some((table, column)) = scanned(large, large_key).filter(|_| may) else { continue };
            let knows = |view: &SkyTable| view.chunks.len() > 1 && view.bounds.knows_id(&column);
            if !views(&table).any(knows)
                || seen.contains(&(Arc::clone(small), large_key.clone()))
                || lies_beside(small, small_key, &table, &column)
                || !stays_small(small)?
            {
                continue;
            }
            return Ok(Some(Narrowing {
                join: join.clone(),
                small: Arc::clone(small),
                small_key: small_key.clone(),
                large_key: large_key.clone(),
                large_is_left,
                large_rows: table.facts.rows,
            }));
        }
    }
    Ok(None)
}

/// A key without a cast that keeps every value.
fn uncast<'a>(key: &'a Expr, side: &LogicalPlan) -> &'a Expr {
    match key {
        Expr::Cast(cast) => match cast.expr.get_type(side.schema()) {
            Ok(from) if from.is_integer() && widens(&from, cast.field.data_type()) => &cast.expr,
            _ => key,
        },
        _ => key,
    }
}

/// The table and column that an expression passes through unchanged.
fn scanned(plan: &LogicalPlan, expr: &Expr) -> Option<(Arc<SkyTable>, String)> {
    match expr {
        Expr::Column(column) => scanned_at(plan, plan.schema().maybe_index_of_column(column)?),
        Expr::Alias(alias) => scanned(plan, &alias.expr),
        _ => None,
    }
}

fn scanned_at(plan: &LogicalPlan, at: usize) -> Option<(Arc<SkyTable>, String)> {
    match plan {
        // A condition above a limit is none below it.
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let table = sky_table(&source_as_provider(&scan.source).ok()?)?;
            Some((table, scan.projected_schema.fields().get(at)?.name().clone()))
        }
        LogicalPlan::SubqueryAlias(alias) => scanned_at(&alias.input, at),
        LogicalPlan::Filter(filter) => scanned_at(&filter.input, at),
        LogicalPlan::Projection(projection) => scanned(&projection.input, projection.expr.get(at)?),
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => scanned_at(&join.left, at),
            JoinType::RightSemi | JoinType::RightAnti => scanned_at(&join.right, at),
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                let left = join.left.schema().fields().len();
                if at < left { scanned_at(&join.left, at) } else { scanned_at(&join.right, at - left) }
            }
            JoinType::LeftMark | JoinType::RightMark => None,
        },
        _ => None,
    }
}

/// A table as its rows lie, a match in both ways.
fn views(table: &SkyTable) -> impl Iterator<Item = &SkyTable> {
    let from_second = table.pairs.as_ref().and_then(|pairs| pairs.from_second.as_deref());
    [Some(table), from_second].into_iter().flatten()
}

/// True where the small side's rows lie in the chunks of the large side's rows with the same id: such a join
/// runs inside the chunks without being told any.
fn lies_beside(small: &LogicalPlan, key: &Expr, large: &SkyTable, large_column: &str) -> bool {
    let by = |view: &&SkyTable, column: &str| view.locality_key().is_some_and(|(own, _)| own == column);
    scanned(small, key).is_some_and(|(table, column)| {
        table.database.snapshot == large.database.snapshot
            && views(&table)
                .filter(|view| by(view, &column))
                .any(|view| views(large).filter(|other| by(other, large_column)).any(|other| lie_together(view, other)))
    })
}

/// True for a plan that gives the same rows whenever it runs on one snapshot, as it will twice, and not many
/// more than it reads.
fn stays_small(plan: &LogicalPlan) -> Result<bool> {
    let mut stays = true;
    plan.apply(|node| {
        stays = match node {
            LogicalPlan::TableScan(scan) => {
                scan.fetch.is_none() && sky_table(&source_as_provider(&scan.source)?).is_some()
            }
            LogicalPlan::Aggregate(aggregate) => {
                aggregate.aggr_expr.iter().all(is_plain_aggregate) && has_no_float(node)
            }
            // Two zeros are one group, and either may stand for it.
            LogicalPlan::Distinct(Distinct::All(_)) => has_no_float(node),
            LogicalPlan::Join(join) => {
                join.filter.is_none()
                    && matches!(
                        join.join_type,
                        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi | JoinType::RightAnti
                    )
            }
            LogicalPlan::Values(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Union(_) => true,
            _ => false,
        };
        stays &= node.expressions().iter().all(is_steady);
        Ok(if stays { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(stays)
}

/// A sum of floating-point numbers depends on their order.
fn has_no_float(node: &LogicalPlan) -> bool {
    !node.schema().fields().iter().any(|field| field.data_type().is_floating())
}

/// The ids of the small side, in order; `None` where it is not small.
async fn ids_of(state: &SessionState, found: &Narrowing) -> Result<Option<Vec<ScalarValue>>> {
    let ids = LogicalPlanBuilder::from((*found.small).clone())
        .project(vec![found.small_key.clone()])?
        .distinct()?
        .limit(0, Some(MOST_IDS + 1))?
        .build()?;
    let ids = state.optimizer().optimize(ids, state, |_, _| {})?;
    let (_, plan) = planned(state, ids).await?;
    if Estimate::of(&plan)?.rows > SMALL_ROWS.min(found.large_rows / TIMES_LARGER) {
        return Ok(None);
    }
    let large = if found.large_is_left { &found.join.left } else { &found.join.right };
    let id_type = found.large_key.get_type(large.schema())?;
    let cancel = state.config().get_extension::<QueryCancel>().map(|cancel| cancel.0.clone()).unwrap_or_default();
    let mut batches = execute_stream(protect(plan, &cancel)?, state.task_ctx())?;
    let mut values = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        // A value that no id can have becomes NULL, which is equal to none.
        let column = cast(batch.column(0), &id_type)?;
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            values.push(ScalarValue::try_from_array(&column, row)?);
        }
        if values.len() > MOST_IDS {
            return Ok(None);
        }
    }
    // Rows come in any order, and a job's plan must be the same after a restart.
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    Ok(Some(values))
}

/// The plan with the list on the join's large side, as far down as it goes, and on what is joined by the same ids
/// below and above.
fn listed(
    state: &SessionState,
    plan: LogicalPlan,
    found: &Narrowing,
    ids: Vec<ScalarValue>,
    seen: &Seen,
) -> Result<LogicalPlan> {
    let condition = match ids.is_empty() {
        true => lit(false),
        false => found.large_key.clone().in_list(ids.into_iter().map(lit).collect(), false),
    };
    let push_down = optimizer_rules().into_iter().filter(|rule| rule.name() == "push_down_filter").collect();
    let push_down = Optimizer::with_rules(push_down);
    let pushed = |plan| push_down.optimize(plan, state, |_, _| {});
    let narrowed = plan.transform_down(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        if *join != found.join {
            return Ok(Transformed::no(node));
        }
        let mut join = join.clone();
        let large = if found.large_is_left { &mut join.left } else { &mut join.right };
        let filtered = LogicalPlan::Filter(Filter::try_new(condition.clone(), Arc::clone(large))?);
        *large = Arc::new(pushed(filtered)?);
        Ok(Transformed::new(LogicalPlan::Join(join), true, TreeNodeRecursion::Stop))
    })?;
    narrowed
        .data
        .transform_up(|node| {
            let LogicalPlan::Join(join) = node else { return Ok(Transformed::no(node)) };
            // A small side gave a list, and is known by what it was.
            if seen.iter().any(|(small, _)| *small == join.left || *small == join.right) {
                return Ok(Transformed::no(LogicalPlan::Join(join)));
            }
            let shared = share_key_conditions(join)?;
            if shared.transformed { pushed(shared.data).map(Transformed::yes) } else { Ok(shared) }
        })
        .data()
}
