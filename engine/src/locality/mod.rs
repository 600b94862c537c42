//! Which parts of a plan may run inside a chunk, proved on the optimized logical plan.
//!
//! A sub-plan is local when its answer is the union of its answers on each chunk. Each maximal
//! local sub-plan is wrapped in a [`ChunkLocal`] with the chunks it needs; what is not local is
//! left above and runs in the merge plan, which is always right.

mod keyed;
mod near;
mod pairs;

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, TableScan};
use skyflight_catalog::TableKind;
use skyflight_sky::ChunkId;

use crate::plan::local::{ChunkChoice, ChunkLocal};
use crate::prune::{ChunkSet, area_of};
use crate::spherical::SphericalJoin;
use crate::tables::{DatabaseIndex, SkyTable, contains_subquery};
use keyed::{prove_aggregate, prove_window};
use near::prove_spherical;

/// What an output column of a local sub-plan is to the sky.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Right ascension of the director row whose chunk this is.
    DirectorRa,
    /// Declination of the same.
    DirectorDec,
    /// An id that decides the chunk: equal values lie in the same chunk.
    Key,
    /// Of a match, the id of the director whose row need not lie in this chunk.
    OtherKey,
}

/// Where an output column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Index of the scan in the sub-plan.
    pub(crate) scan: usize,
    /// What the column is.
    pub(crate) role: Role,
}

/// A plan whose local parts are marked.
#[derive(Debug)]
pub(crate) struct Marked {
    pub(crate) plan: LogicalPlan,
    /// Why what could have been local is not, from the top down.
    pub(crate) not_local: Vec<String>,
    /// What was asked before the plan was made.
    pub(crate) asked: Vec<String>,
}

/// Wraps every maximal local sub-plan, also inside sub-queries.
pub(crate) fn mark_local(plan: LogicalPlan) -> PlanResult<Marked> {
    let mut not_local = Vec::new();
    let marked = plan.transform_down_with_subqueries(|node| {
        if !reads_tables(&node) {
            return Ok(Transformed::no(node));
        }
        match ways(&node).and_then(pairs::fewest_chunks) {
            Ok(local) => {
                let marked = LogicalPlan::Extension(Extension { node: Arc::new(local.into_node(node)?) });
                Ok(Transformed::new(marked, true, TreeNodeRecursion::Jump))
            }
            Err(NotLocal(reason)) => {
                // The reason is that of the lowest node it holds for, and comes up from there.
                if !reason.is_empty() && !not_local.contains(&reason) {
                    not_local.push(reason);
                }
                Ok(Transformed::no(node))
            }
        }
    });
    Ok(Marked { plan: marked?.data, not_local, asked: Vec::new() })
}

/// Only nodes that can be local are tried; a scan below is found on the way down.
fn reads_tables(node: &LogicalPlan) -> bool {
    matches!(
        node,
        LogicalPlan::TableScan(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Window(_)
    ) || spherical(node).is_some()
}

fn spherical(node: &LogicalPlan) -> Option<&SphericalJoin> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// Why a sub-plan is not local; empty where nobody would expect it to be.
struct NotLocal(String);

type Proof<T> = std::result::Result<T, NotLocal>;

fn not_local<T>(reason: impl Into<String>) -> Proof<T> {
    Err(NotLocal(reason.into()))
}

/// A sub-plan proved local.
#[derive(Clone)]
struct Local {
    scans: Vec<Arc<SkyTable>>,
    /// Origin of each output column, where it has a role.
    columns: Vec<Option<Origin>>,
    /// Chunks outside which the sub-plan has no rows; `None` when it reads replicated tables
    /// only and gives the same rows everywhere.
    chunks: Option<ChunkSet>,
    /// The partitioned database it reads, with `chunks`.
    database: Option<Arc<DatabaseIndex>>,
    /// The scans whose columns are NULL in rows that found no partner.
    null_extended: Vec<usize>,
    /// The scans that also read the rows beside each chunk, as indices into `scans`.
    with_overlap: Vec<usize>,
    reason: String,
}

impl Local {
    fn into_node(self, plan: LogicalPlan) -> PlanResult<ChunkLocal> {
        let plan = near::read_overlap(pairs::seen_from(plan, &self.scans)?, &self.with_overlap)?;
        let partitioned = self.scans.iter().filter(|t| !t.is_replicated());
        let mut all: Vec<ChunkId> = partitioned.flat_map(|t| t.chunks.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        let choice = match self.chunks {
            None => ChunkChoice { chunks: vec![ChunkId::EVERYWHERE], total: 1 },
            Some(ChunkSet::All) => ChunkChoice { total: all.len(), chunks: all },
            Some(ChunkSet::Some(chunks)) => ChunkChoice { total: all.len(), chunks },
        };
        Ok(ChunkLocal { plan, choice: Arc::new(choice), tables: self.scans, reason: self.reason })
    }
}

/// More ways to read the matches of a sub-plan are not looked at.
const MOST_WAYS: usize = 4;

/// The first way in which a sub-plan is local.
fn prove(plan: &LogicalPlan) -> Proof<Local> {
    let Some(local) = ways(plan)?.into_iter().next() else { return not_local("") };
    Ok(local)
}

/// The ways in which a sub-plan is local: one at least, and several where a match in it can be read in
/// the chunks of either of its directors.
fn ways(plan: &LogicalPlan) -> Proof<Vec<Local>> {
    if plan.expressions().iter().any(contains_subquery) {
        return not_local("a sub-query is asked for each row");
    }
    match plan {
        LogicalPlan::TableScan(scan) => prove_scan(scan),
        LogicalPlan::SubqueryAlias(alias) => ways(&alias.input),
        LogicalPlan::Filter(filter) => each(ways(&filter.input)?, |mut local| {
            let chunks = predicate_chunks(&filter.predicate, filter.input.schema(), &local);
            local.chunks = local.chunks.map(|own| own.intersect(chunks));
            Ok(local)
        }),
        LogicalPlan::Projection(projection) => each(ways(&projection.input)?, |mut local| {
            let schema = projection.input.schema();
            local.columns = projection.expr.iter().map(|e| origin_of(e, schema, &local.columns)).collect();
            Ok(local)
        }),
        LogicalPlan::Join(join) => prove_join(join),
        LogicalPlan::Aggregate(aggregate) => each(ways(&aggregate.input)?, |local| prove_aggregate(aggregate, local)),
        LogicalPlan::Window(window) => each(ways(&window.input)?, |local| prove_window(window, local)),
        other => match spherical(other) {
            Some(join) => Ok(vec![prove_spherical(join)?]),
            None => not_local(""),
        },
    }
}

/// The ways that are left, or why the first is not.
fn each(ways: Vec<Local>, step: impl Fn(Local) -> Proof<Local>) -> Proof<Vec<Local>> {
    let mut kept = Vec::with_capacity(ways.len());
    let mut reason = None;
    for way in ways {
        match step(way) {
            Ok(local) => kept.push(local),
            Err(apart) => {
                reason.get_or_insert(apart);
            }
        }
    }
    match reason {
        Some(apart) if kept.is_empty() => Err(apart),
        _ => Ok(kept),
    }
}

fn prove_scan(scan: &TableScan) -> Proof<Vec<Local>> {
    let nowhere = || NotLocal(String::new());
    let provider = source_as_provider(&scan.source).map_err(|_| nowhere())?;
    let table = sky_table(&provider).ok_or_else(nowhere)?;
    let from_second = table.pairs.as_ref().and_then(|pairs| pairs.from_second.clone());
    [Some(table), from_second].into_iter().flatten().map(|table| prove_table(scan, table)).collect()
}

fn prove_table(scan: &TableScan, table: Arc<SkyTable>) -> Proof<Local> {
    let columns = scan
        .projected_schema
        .fields()
        .iter()
        .map(|field| role_of(&table, field.name()).map(|role| Origin { scan: 0, role }))
        .collect();
    let replicated = table.is_replicated();
    let mut local = Local {
        columns,
        chunks: (!replicated).then(|| ChunkSet::Some(table.chunks.keys().copied().collect())),
        database: (!replicated).then(|| Arc::clone(&table.database)),
        null_extended: Vec::new(),
        with_overlap: Vec::new(),
        reason: format!("{} {}", table.table.kind, table.table.name),
        scans: vec![Arc::clone(&table)],
    };
    // Filters of a scan may name columns that it does not put out.
    let whole = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &table.schema)
        .map_err(|_| NotLocal(String::new()))?;
    let all_columns: Vec<Option<Origin>> = table
        .schema
        .fields()
        .iter()
        .map(|field| role_of(&table, field.name()).map(|role| Origin { scan: 0, role }))
        .collect();
    if !replicated && let Some(kept) = table.bounds.kept(&scan.filters, &whole, &table.schema) {
        local.chunks = local.chunks.map(|own| own.intersect(ChunkSet::Some(kept)));
    }
    for filter in &scan.filters {
        let chunks = chunks_where(filter, &whole, &all_columns, &local);
        local.chunks = local.chunks.map(|own| own.intersect(chunks));
    }
    Ok(local)
}

/// The catalog table behind a provider, where it is one of ours.
pub(crate) fn sky_table(provider: &Arc<dyn TableProvider>) -> Option<Arc<SkyTable>> {
    let any: Arc<dyn std::any::Any + Send + Sync> = Arc::clone(provider) as _;
    any.downcast::<SkyTable>().ok()
}

/// What a column of a table is to the sky.
pub(crate) fn role_of(table: &SkyTable, column: &str) -> Option<Role> {
    if table.locality_key().is_some_and(|(key, _)| key == column) {
        return Some(Role::Key);
    }
    if table.other_key().is_some_and(|(key, _)| key == column) {
        return Some(Role::OtherKey);
    }
    if table.table.kind != TableKind::Director {
        // A child lies in its director's chunk, wherever its own position is.
        return None;
    }
    let is = |name: &Option<String>| name.as_deref() == Some(column);
    if is(&table.table.ra_column) {
        Some(Role::DirectorRa)
    } else if is(&table.table.dec_column) {
        Some(Role::DirectorDec)
    } else {
        None
    }
}

fn predicate_chunks(predicate: &Expr, schema: &DFSchema, local: &Local) -> ChunkSet {
    chunks_where(predicate, schema, &local.columns, local)
}

fn chunks_where(predicate: &Expr, schema: &DFSchema, columns: &[Option<Origin>], local: &Local) -> ChunkSet {
    match local.database.as_ref().and_then(|d| d.scheme.as_ref()) {
        Some(scheme) => area_of(predicate, &|expr| origin_of(expr, schema, columns)).chunks(scheme.as_ref()),
        None => ChunkSet::All,
    }
}

/// The origin of an expression that passes a column through unchanged.
pub(crate) fn origin_of(expr: &Expr, schema: &DFSchema, columns: &[Option<Origin>]) -> Option<Origin> {
    match expr {
        Expr::Column(column) => columns.get(index_of(schema, column)?).copied().flatten(),
        Expr::Alias(alias) => origin_of(&alias.expr, schema, columns),
        Expr::Cast(cast) => {
            use datafusion::logical_expr::ExprSchemable;
            let from = cast.expr.get_type(schema).ok()?;
            widens(&from, cast.field.data_type()).then(|| origin_of(&cast.expr, schema, columns)).flatten()
        }
        _ => None,
    }
}

/// True of a cast that keeps every value; any other may not.
pub(crate) fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64};
    let wider = matches!((from, to), (Float32, Float64) | (Int8 | Int16 | Int32, Int64) | (Int8 | Int16, Int32));
    wider || from == to
}

fn index_of(schema: &DFSchema, column: &Column) -> Option<usize> {
    schema.maybe_index_of_column(column)
}

fn prove_join(join: &Join) -> Proof<Vec<Local>> {
    let (lefts, rights) = (ways(&join.left)?, ways(&join.right)?);
    if join.null_aware {
        return not_local("a NULL in NOT IN (SELECT ...) decides for the rows of all chunks");
    }
    if join.null_equality == NullEquality::NullEqualsNull {
        return not_local("NULL is joined to NULL, which may lie in any chunk");
    }
    let (mut proved, mut beside) = (Vec::new(), Vec::new());
    let mut reason = None;
    for (left, right) in lefts.iter().flat_map(|left| rights.iter().map(move |right| (left, right))) {
        match joined_in_chunks(join, left, right) {
            Ok(local) => proved.push(local),
            Err(apart) => {
                reason.get_or_insert(apart);
            }
        }
        beside.extend(pairs::joined_beside(join, left, right));
    }
    // What needs no rows from beside the chunk comes first.
    proved.append(&mut beside);
    proved.truncate(MOST_WAYS);
    match reason {
        Some(apart) if proved.is_empty() => Err(apart),
        _ => Ok(proved),
    }
}

/// A join whose matching rows lie in the same chunk.
fn joined_in_chunks(join: &Join, left: &Local, right: &Local) -> Proof<Local> {
    let keyed = match (&left.database, &right.database) {
        (Some(a), Some(b)) => {
            if a.snapshot != b.snapshot {
                return not_local(format!("databases {} and {} are cut apart", a.name, b.name));
            }
            joined_on_key(join, left, right)?;
            true
        }
        _ => false,
    };
    let chunks = joined_chunks(join.join_type, left, right)?;
    let reason = match (keyed, join.on.first()) {
        (true, Some((l, r))) => format!("{} joined with {} on {l} = {r}", left.reason, right.reason),
        _ => format!("{} joined with {}", left.reason, right.reason),
    };
    joined(join.join_type, left.clone(), right.clone(), chunks, reason)
}

/// A local join of two local sides.
fn joined(join_type: JoinType, left: Local, right: Local, chunks: Option<ChunkSet>, reason: String) -> Proof<Local> {
    let shift = left.scans.len();
    let moved = right.columns.iter().map(|o| o.map(|o| Origin { scan: o.scan + shift, ..o }));
    let columns: Vec<Option<Origin>> = match join_type {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            left.columns.iter().copied().chain(moved).collect()
        }
        JoinType::LeftSemi | JoinType::LeftAnti => left.columns.clone(),
        JoinType::RightSemi | JoinType::RightAnti => moved.collect(),
        JoinType::LeftMark | JoinType::RightMark => return not_local(MARKS),
    };
    let database = left.database.clone().or_else(|| right.database.clone());
    let with_overlap = left.with_overlap.into_iter().chain(right.with_overlap.iter().map(|at| at + shift)).collect();
    let null_extended = (left.null_extended.iter().copied())
        .chain(right.null_extended.iter().map(|at| at + shift))
        .chain(keyed::null_extended(join_type, shift, right.scans.len()))
        .collect();
    let mut scans = left.scans;
    scans.extend(right.scans);
    Ok(Local { scans, columns, chunks, database, null_extended, with_overlap, reason })
}

const MARKS: &str = "IN or EXISTS below OR, NOT or CASE";

/// Chunks in which a join can have rows, or not local where a replicated table is the side whose
/// unmatched rows come out (they would come out of every chunk).
fn joined_chunks(join_type: JoinType, left: &Local, right: &Local) -> Proof<Option<ChunkSet>> {
    let (l, r) = (left.chunks.clone(), right.chunks.clone());
    match (l, r) {
        (None, None) => Ok(None),
        (Some(l), None) => match join_type {
            JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => Ok(Some(l)),
            _ => not_local(unmatched(right)),
        },
        (None, Some(r)) => match join_type {
            JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => Ok(Some(r)),
            _ => not_local(unmatched(left)),
        },
        (Some(l), Some(r)) => Ok(Some(match join_type {
            JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => l.intersect(r),
            JoinType::Left | JoinType::LeftAnti => l,
            JoinType::Right | JoinType::RightAnti => r,
            JoinType::Full => l.union(r),
            JoinType::LeftMark | JoinType::RightMark => return not_local(MARKS),
        })),
    }
}

fn unmatched(replicated: &Local) -> String {
    format!("{} would give its rows without a partner once for each chunk", replicated.reason)
}

/// Proves that an equality of the join keeps matching rows in one chunk.
fn joined_on_key(join: &Join, left: &Local, right: &Local) -> Proof<()> {
    let mut reason = format!("{} and {} are not joined on the id that decides their chunk", left.reason, right.reason);
    for (l, r) in &join.on {
        let key = |expr: &Expr, schema: &DFSchema, side: &Local| {
            origin_of(expr, schema, &side.columns)
                .filter(|o| o.role == Role::Key)
                .map(|o| Arc::clone(&side.scans[o.scan]))
        };
        if let (Some(a), Some(b)) = (key(l, join.left.schema(), left), key(r, join.right.schema(), right)) {
            match co_located(&a, &b) {
                Ok(()) => return Ok(()),
                Err(NotLocal(apart)) => reason = apart,
            }
        }
    }
    Err(NotLocal(reason))
}

/// Whether rows of `a` and `b` with the same key always lie in the same chunk.
pub(crate) fn lie_together(a: &SkyTable, b: &SkyTable) -> bool {
    co_located(a, b).is_ok()
}

/// Proves that rows of `a` and `b` with the same key always lie in the same chunk.
fn co_located(a: &SkyTable, b: &SkyTable) -> Proof<()> {
    let (Some((_, director_a)), Some((_, director_b))) = (a.locality_key(), b.locality_key()) else {
        return not_local("a table without a director");
    };
    let (name_a, name_b) = (&a.table.name, &b.table.name);
    if director_a != director_b {
        return not_local(format!("{name_a} lies with {director_a} and {name_b} with {director_b}"));
    }
    if let Some(spread) = [a, b].into_iter().find(|table| table.facts.ids_span_chunks) {
        return not_local(format!("ids of {} lie in more than one chunk", spread.table.name));
    }
    if let Some(late) = [a, b].into_iter().find(|table| !table.in_step) {
        return not_local(format!("rows of {director_a} came after those of {} were placed", late.table.name));
    }
    // Orphans lie where their own position is, so two of the same key may be apart. When one table has
    // none, its rows are where the director's are, and the other's orphans match none.
    if a.facts.orphans > 0 && b.facts.orphans > 0 {
        return not_local(format!("{name_a} and {name_b} both have rows without a director row"));
    }
    Ok(())
}
