//! A small side of a join is asked first, where its rows' ids tell the chunks of the large side.
//!
//! `JOIN targets ON objectId`, and `WHERE objectId IN (SELECT …)`, need only the chunks that hold these
//! ids. So the small side runs while the query is planned, and its ids become a list on the large side,
//! which the director index looks up as it does any list. The join stays as it is: the list takes away
//! rows that would find no partner.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality, Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Distinct, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use crate::estimate::Estimate;
use crate::interrupt::{QueryCancel, protect};
use crate::locality::sky_table;
use crate::repair::optimizer_rules;
use crate::session::planned;
use crate::tables::{SkyTable, contains_subquery};

/// More rows than this are not read ahead.
const SMALL_ROWS: u64 = 100_000;

/// More ids than this are in nearly every chunk.
const MOST_IDS: usize = 20_000;

/// Joins of one query that are looked at.
const MOST_JOINS: usize = 4;

/// The plan with lists of ids on large sides of joins, where small sides gave them.
pub(crate) async fn ids_first(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut plan = plan;
    let mut asked: HashSet<LogicalPlan> = HashSet::new();
    while asked.len() < MOST_JOINS
        && let Some(found) = first_join(&plan, &asked)?
    {
        asked.insert((*found.small).clone());
        if let Some(ids) = ids_of(state, &found).await? {
            plan = listed(state, plan, &found, ids)?;
        }
    }
    Ok(plan)
}

/// A join whose large side can be narrowed.
struct Narrowing {
    join: Join,
    small: Arc<LogicalPlan>,
    small_key: Expr,
    large_key: Expr,
    large_is_left: bool,
    /// Rows of the table that holds the large side's ids.
    large_rows: u64,
}

fn first_join(plan: &LogicalPlan, asked: &HashSet<LogicalPlan>) -> Result<Option<Narrowing>> {
    let mut found = None;
    plan.apply(|node| {
        if let LogicalPlan::Join(join) = node
            && let Some(narrowing) = narrowing(join)?.filter(|narrowing| !asked.contains(&*narrowing.small))
        {
            found = Some(narrowing);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn narrowing(join: &Join) -> Result<Option<Narrowing>> {
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
            let Some((table, column)) = scanned(large, large_key).filter(|_| may) else { continue };
            let knows = |view: &SkyTable| view.bounds.knows_id(&column);
            if !views(&table).any(knows) || lies_beside(small, small_key, &table) || !gives_the_same(small)? {
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
        LogicalPlan::TableScan(scan) => {
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

/// True where the small side's ids are those by which its own rows lie beside the large side's: such a
/// join runs inside the chunks without being told any.
fn lies_beside(small: &LogicalPlan, key: &Expr, large: &SkyTable) -> bool {
    scanned(small, key).is_some_and(|(table, column)| {
        let director = views(&table).filter_map(SkyTable::locality_key).find(|(own, _)| *own == column);
        let others = || views(large).filter_map(SkyTable::locality_key);
        table.database.snapshot == large.database.snapshot
            && director.is_some_and(|(_, director)| others().any(|(_, other)| other == director))
    })
}

/// True for a plan that gives the same rows whenever it runs on one snapshot, as it will twice.
fn gives_the_same(plan: &LogicalPlan) -> Result<bool> {
    let mut same = true;
    plan.apply(|node| {
        same = match node {
            LogicalPlan::TableScan(scan) => {
                scan.fetch.is_none() && sky_table(&source_as_provider(&scan.source)?).is_some()
            }
            LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.iter().all(is_plain_aggregate),
            LogicalPlan::Values(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Distinct(Distinct::All(_)) => true,
            _ => false,
        };
        let expressions = node.expressions();
        same &= !expressions.iter().any(|expr| expr.is_volatile() || contains_subquery(expr));
        Ok(if same { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(same)
}

/// Others may take any of the rows.
fn is_plain_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_plain_aggregate(&alias.expr),
        Expr::AggregateFunction(function) => matches!(function.func.name(), "count" | "sum" | "min" | "max" | "avg"),
        _ => false,
    }
}

/// The ids of the small side; `None` where it is not small.
async fn ids_of(state: &SessionState, found: &Narrowing) -> Result<Option<Vec<ScalarValue>>> {
    let ids = LogicalPlanBuilder::from((*found.small).clone())
        .project(vec![found.small_key.clone()])?
        .distinct()?
        .limit(0, Some(MOST_IDS + 1))?
        .build()?;
    let ids = state.optimizer().optimize(ids, state, |_, _| {})?;
    let (_, plan) = planned(state, ids).await?;
    if Estimate::of(&plan)?.rows > SMALL_ROWS.min(found.large_rows) {
        return Ok(None);
    }
    let cancel = state.config().get_extension::<QueryCancel>().map(|cancel| cancel.0.clone()).unwrap_or_default();
    let mut batches = execute_stream(protect(plan, &cancel)?, state.task_ctx())?;
    let mut values = Vec::new();
    while let Some(batch) = batches.next().await {
        let column = Arc::clone(batch?.column(0));
        for row in 0..column.len() {
            let value = ScalarValue::try_from_array(&column, row)?;
            if !value.is_null() {
                values.push(value);
            }
        }
        if values.len() > MOST_IDS {
            return Ok(None);
        }
    }
    Ok(Some(values))
}

/// The plan with the list on the join's large side, as far down as it goes.
fn listed(state: &SessionState, plan: LogicalPlan, found: &Narrowing, ids: Vec<ScalarValue>) -> Result<LogicalPlan> {
    let condition = match ids.is_empty() {
        true => lit(false),
        false => found.large_key.clone().in_list(ids.into_iter().map(lit).collect(), false),
    };
    let push_down = optimizer_rules().into_iter().filter(|rule| rule.name() == "push_down_filter").collect();
    let push_down = Optimizer::with_rules(push_down);
    plan.transform_down(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        if *join != found.join {
            return Ok(Transformed::no(node));
        }
        let mut join = join.clone();
        let large = if found.large_is_left { &mut join.left } else { &mut join.right };
        let filtered = LogicalPlan::Filter(Filter::try_new(condition.clone(), Arc::clone(large))?);
        *large = Arc::new(push_down.optimize(filtered, state, |_, _| {})?);
        Ok(Transformed::new(LogicalPlan::Join(join), true, TreeNodeRecursion::Stop))
    })
    .map(|narrowed| narrowed.data)
}
