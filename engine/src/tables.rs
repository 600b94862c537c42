//! What a session can name: the tables of its snapshots, as DataFusion sees them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, ScalarValue, Statistics};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use skyflight_catalog::{
    FileId, FileKind, Snapshot, SnapshotId, Table, TableFacts, TableKind, TableSnapshot, TransactionId, WorkerId,
};
use skyflight_sky::{ChunkId, Scheme};

use crate::Result;
use crate::bounds::ChunkBounds;
use crate::director_index::{DirectorIndex, IndexHome};
use crate::locality::{Origin, origin_of, role_of};
use crate::names::{NameDatabase, NameTable};
use crate::nan::prunable;
use crate::plan::scan::{ChunkScan, ChunkScanExec};
use crate::prune::area_of;
use crate::schema::{HEALPIX_COLUMN, arrow_schema};
use crate::steady::is_steady;
use crate::system::{SYSTEM, SystemDatabase};

/// More ranges than this cost more per file than the pages they leave out.
const CELL_RANGES: usize = 8;

/// More ids than this are looked for in the rows of whole pages.
const PICKED_IDS: usize = 64;

/// A snapshot arranged for planning: built once, shared by every query on it.
#[derive(Debug)]
pub(crate) struct SnapshotIndex {
    pub(crate) database: Arc<DatabaseIndex>,
    pub(crate) tables: Vec<Arc<SkyTable>>,
    pub(crate) names: Arc<NameDatabase>,
}

/// What the tables of one database on one snapshot have in common.
#[derive(Debug)]
pub(crate) struct DatabaseIndex {
    pub(crate) name: String,
    pub(crate) snapshot: SnapshotId,
    pub(crate) scheme: Option<Arc<dyn Scheme>>,
    /// Workers named by index in [`ChunkEntry::workers`].
    pub(crate) workers: Vec<WorkerId>,
}

/// The files of one table in one chunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkEntry {
    pub(crate) files: Vec<FileId>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Workers that hold all of `files`, ascending.
    pub(crate) workers: Vec<u16>,
}

/// One table on one snapshot.
#[derive(Debug)]
pub(crate) struct SkyTable {
    pub(crate) database: Arc<DatabaseIndex>,
    pub(crate) table: Table,
    pub(crate) facts: TableFacts,
    pub(crate) schema: SchemaRef,
    pub(crate) chunks: BTreeMap<ChunkId, ChunkEntry>,
    /// Copies of the rows beside each chunk.
    pub(crate) overlap: BTreeMap<ChunkId, ChunkEntry>,
    /// What is known of the values in each chunk.
    pub(crate) bounds: ChunkBounds,
    /// What is known of the whole table, without overlap.
    pub(crate) statistics: Statistics,
    /// For what lies with a director: no director row came or moved after its rows were placed beside
    /// it. A table out of step is still read right, but its joins run in the merge plan.
    pub(crate) in_step: bool,
    /// What else there is to know of a match.
    pub(crate) pairs: Option<PairView>,
}

/// A match as seen from one of its directors: each pair once, in the chunk where that director's row
/// lies. To this director a match is as a child.
#[derive(Debug)]
pub(crate) struct PairView {
    pub(crate) side: PairSide,
    /// The same match seen from the second director; none where this is it.
    pub(crate) from_second: Option<Arc<SkyTable>>,
    /// Whether of each pair the other director's row, where there is one, lies in the chunk or in its overlap.
    pub(crate) reaches_other: bool,
}

/// One of the two directors of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PairSide {
    First,
    Second,
}

impl PairSide {
    /// The files that hold each pair once, in the chunk of this side's row.
    fn files(self) -> [FileKind; 2] {
        match self {
            PairSide::First => [FileKind::Rows, FileKind::FirstOnly],
            PairSide::Second => [FileKind::Rows, FileKind::SecondOnly],
        }
    }

    fn other(self) -> PairSide {
        match self {
            PairSide::First => PairSide::Second,
            PairSide::Second => PairSide::First,
        }
    }

    /// The name of the director on this side, and the column that holds its id.
    fn director(self, table: &Table) -> Option<(&str, &str)> {
        match self {
            PairSide::First => table.director.as_deref().zip(table.director_key.as_deref()),
            PairSide::Second => table.second_director.as_deref().zip(table.second_director_key.as_deref()),
        }
    }
}

impl SnapshotIndex {
    /// Arranges a snapshot.
    ///
    /// # Errors
    /// A record that cannot be understood: a scheme that builds no chunks, an unknown type.
    pub(crate) fn build(snapshot: &Snapshot, home: Option<IndexHome<'_>>) -> Result<SnapshotIndex> {
        let scheme = snapshot.database.scheme.as_ref().map(|spec| spec.build()).transpose().map_err(|e| {
            crate::EngineError::Corrupt(format!("the scheme of database {}: {e}", snapshot.database.name))
        })?;
        let mut workers = WorkerNumbers::default();
        let mut entries = Vec::with_capacity(snapshot.tables.len());
        for table in &snapshot.tables {
            let mut chunks = |kinds: [FileKind; 2]| table_chunks(table, kinds, &mut workers);
            let [first, second] = [PairSide::First, PairSide::Second].map(|side| chunks(side.files()));
            entries.push([first, second, chunks([FileKind::Overlap; 2])]);
        }
        let database = Arc::new(DatabaseIndex {
            name: snapshot.database.name.clone(),
            snapshot: snapshot.id,
            scheme,
            workers: workers.ids,
        });
        let indexes = director_indexes(snapshot, home);
        let mut tables = Vec::with_capacity(entries.len());
        let mut names = NameDatabase { name: database.name.clone(), tables: Vec::new() };
        for (table, [chunks, from_second, overlap]) in snapshot.tables.iter().zip(entries) {
            let schema = arrow_schema(&table.table)?;
            names.tables.push(Arc::new(NameTable {
                name: table.table.name.clone(),
                columns: schema.fields().iter().map(|f| f.name().clone()).collect(),
            }));
            let view = TableView { snapshot, table, database: &database, schema: &schema, indexes: &indexes, home };
            tables.push(Arc::new(match table.table.kind {
                TableKind::Match => {
                    let second = view.pairs(PairSide::Second, from_second, None);
                    view.pairs(PairSide::First, chunks, Some(Arc::new(second)))
                }
                _ => view.table(PairSide::First, table.facts, chunks, overlap),
            }));
        }
        Ok(SnapshotIndex { database, tables, names: Arc::new(names) })
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Arc<SkyTable>> {
        self.tables.iter().find(|t| t.table.name == name)
    }
}

/// Gives each worker a small number.
#[derive(Default)]
struct WorkerNumbers {
    ids: Vec<WorkerId>,
    numbers: HashMap<WorkerId, u16>,
}

impl WorkerNumbers {
    fn of(&mut self, worker: &WorkerId) -> u16 {
        if let Some(number) = self.numbers.get(worker) {
            return *number;
        }
        let number = self.ids.len() as u16;
        self.ids.push(worker.clone());
        self.numbers.insert(worker.clone(), number);
        number
    }
}

fn table_chunks(
    table: &TableSnapshot,
    kinds: [FileKind; 2],
    workers: &mut WorkerNumbers,
) -> BTreeMap<ChunkId, ChunkEntry> {
    let mut chunks: BTreeMap<ChunkId, ChunkEntry> = BTreeMap::new();
    for file in table.files.iter().filter(|f| kinds.contains(&f.kind)) {
        let mut holders: Vec<u16> = file.workers.iter().map(|w| workers.of(w)).collect();
        holders.sort_unstable();
        let entry = chunks.entry(file.chunk).or_default();
        if entry.files.is_empty() {
            entry.workers = holders;
        } else {
            entry.workers.retain(|w| holders.contains(w));
        }
        entry.files.push(file.id);
        entry.rows += file.rows;
        entry.bytes += file.bytes;
    }
    for entry in chunks.values_mut() {
        // Files are read in the order they were written, on every replica and every attempt.
        entry.files.sort_unstable();
    }
    chunks
}

/// First and last transaction that wrote rows of a table; `None` when it is empty.
fn written(table: &TableSnapshot) -> Option<(TransactionId, TransactionId)> {
    let rows = table.files.iter().filter(|f| f.kind.counts());
    rows.map(|f| f.id.transaction()).fold(None, |seen, t| match seen {
        None => Some((t, t)),
        Some((first, last)) => Some((first.min(t), last.max(t))),
    })
}

/// Whether a table that lies with a director lies where that director's rows are. `orphans` are those it had
/// of that director.
fn in_step(snapshot: &Snapshot, child: &TableSnapshot, director: &str, orphans: u64) -> bool {
    let Some(director) = snapshot.tables.iter().find(|t| t.table.name == director) else { return false };
    match (written(director), written(child)) {
        (Some((first, last)), Some((child_first, _))) => first <= child_first && (last <= child_first || orphans == 0),
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

/// Whether the rows of a director that there are now, or those before which they came, were there when the rows
/// of a table that lies with it were placed: they were not where the director was replaced since.
fn was_there(snapshot: &Snapshot, child: &TableSnapshot, director: &str) -> bool {
    let Some(director) = snapshot.tables.iter().find(|t| t.table.name == director) else { return false };
    match (written(director), written(child)) {
        (Some((first, _)), Some((child_first, _))) => first <= child_first,
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

/// Whether the other director of a match is as it was when each pair was found to reach it.
fn reaches(snapshot: &Snapshot, pairs: &TableSnapshot, other: &str) -> bool {
    let director = snapshot.tables.iter().find(|t| t.table.name == other);
    let unchanged = director.is_some_and(|director| match (written(director), written(pairs)) {
        (Some((_, last)), Some((pairs_first, _))) => last <= pairs_first,
        _ => true,
    });
    let whole = director.is_some_and(|director| !director.facts.ids_span_chunks);
    pairs.facts.pairs.out_of_reach == 0 && unchanged && whole
}

/// What a [`SkyTable`] is made of.
struct TableView<'a> {
    snapshot: &'a Snapshot,
    table: &'a TableSnapshot,
    database: &'a Arc<DatabaseIndex>,
    schema: &'a SchemaRef,
    indexes: &'a HashMap<String, Arc<DirectorIndex>>,
    home: Option<IndexHome<'a>>,
}

impl TableView<'_> {
    fn table(
        &self,
        side: PairSide,
        facts: TableFacts,
        chunks: BTreeMap<ChunkId, ChunkEntry>,
        overlap: BTreeMap<ChunkId, ChunkEntry>,
    ) -> SkyTable {
        let director = side.director(&self.table.table);
        let in_step = director.is_none_or(|(name, _)| in_step(self.snapshot, self.table, name, facts.orphans));
        let bounds = ChunkBounds::of(self.table, &side.files(), self.schema).with_index(self.ids(director, facts));
        SkyTable {
            database: Arc::clone(self.database),
            table: self.table.table.clone(),
            facts,
            statistics: bounds.whole(self.schema),
            bounds,
            schema: Arc::clone(self.schema),
            chunks,
            overlap,
            in_step,
            pairs: None,
        }
    }

    /// The column of ids by which rows of the table are found, and the index that knows the chunks of each.
    ///
    /// A row of a child lies in a chunk where the index had a row of its director when it was placed, and such
    /// entries never go, however many chunks an id has and whatever came later. A row whose id had none lies
    /// elsewhere: then an index of such rows must know it too.
    fn ids(&self, director: Option<(&str, &str)>, facts: TableFacts) -> Option<(String, Arc<DirectorIndex>)> {
        let table = &self.table.table;
        let (column, name) = match table.kind {
            TableKind::Director => (table.id_column.as_deref()?, table.name.as_str()),
            TableKind::Child | TableKind::Companion | TableKind::Match => {
                let (name, key) = director?;
                (key, name)
            }
            TableKind::Replicated => return None,
        };
        let index = self.indexes.get(name)?;
        if table.kind == TableKind::Director {
            return Some((column.to_owned(), Arc::clone(index)));
        }
        if !was_there(self.snapshot, self.table, name) {
            return None;
        }
        let index = match (facts.orphans, table.kind) {
            (0, _) => Arc::clone(index),
            (_, TableKind::Child | TableKind::Companion) => {
                Arc::new(index.with_orphans(self.table, column, &self.database.name, self.home?)?)
            }
            _ => return None,
        };
        Some((column.to_owned(), index))
    }

    /// A match as seen from one side.
    fn pairs(
        &self,
        side: PairSide,
        chunks: BTreeMap<ChunkId, ChunkEntry>,
        from_second: Option<Arc<SkyTable>>,
    ) -> SkyTable {
        let mut facts = self.table.facts;
        if side == PairSide::Second {
            facts.orphans = facts.pairs.second_orphans;
            facts.ids_span_chunks = facts.pairs.second_ids_span_chunks;
        }
        let other = side.other().director(&self.table.table);
        let reaches_other = other.is_some_and(|(name, _)| reaches(self.snapshot, self.table, name));
        let table = self.table(side, facts, chunks, BTreeMap::new());
        SkyTable { pairs: Some(PairView { side, from_second, reaches_other }), ..table }
    }
}

/// The indexes of the directors, by name.
fn director_indexes(snapshot: &Snapshot, home: Option<IndexHome<'_>>) -> HashMap<String, Arc<DirectorIndex>> {
    let directors = snapshot.tables.iter().filter(|table| table.table.kind == TableKind::Director);
    let index = |table: &TableSnapshot| {
        let index = DirectorIndex::of(table, &snapshot.database.name, home?)?;
        Some((table.table.name.clone(), Arc::new(index)))
    };
    directors.filter_map(index).collect()
}

impl SkyTable {
    pub(crate) fn is_replicated(&self) -> bool {
        self.table.kind == TableKind::Replicated
    }

    /// The condition on `_healpix_29` that follows from conditions on the position. Files are sorted
    /// by that column, so pages can be passed over by it, where ra and dec alone would keep most.
    fn cell_condition(&self, filters: &[Expr], schema: &DFSchema) -> Option<Expr> {
        let (_, field) = self.schema.column_with_name(HEALPIX_COLUMN)?;
        if self.table.kind != TableKind::Director || field.data_type() != &DataType::Int64 {
            return None;
        }
        let roles: Vec<Option<Origin>> = self
            .schema
            .fields()
            .iter()
            .map(|field| role_of(self, field.name()).map(|role| Origin { scan: 0, role }))
            .collect();
        let area = area_of(&conjunction(filters.to_vec())?, &|expr| origin_of(expr, schema, &roles));
        let cells = area.cells()?.coarsened(CELL_RANGES);
        let index = || Expr::Column(Column::from_name(HEALPIX_COLUMN));
        let within = cells.ranges29().iter().map(|range| {
            // Indices end below 2^62.
            index().gt_eq(lit(range.start as i64)).and(index().lt(lit(range.end as i64)))
        });
        Some(disjunction(within).unwrap_or_else(|| lit(false)))
    }

    fn chunk_scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<ChunkScan> {
        let df_schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let prunable = prunable(filters, &self.schema, &|column| !self.bounds.has_no_nan(column));
        let (ids, others): (Vec<Expr>, Vec<Expr>) =
            prunable.into_iter().partition(|filter| self.named_ids(filter).is_some());
        let picks_rows = !ids.is_empty();
        let cells_of_ids = ids.iter().find_map(|filter| self.cells_of_ids(filter));
        let knows_cells = cells_of_ids.is_some();
        let cells = cells_of_ids.or_else(|| self.cell_condition(filters, &df_schema));
        let conditions = ids.into_iter().chain(others).chain(cells);
        let predicate =
            conjunction(conditions).map(|filter| state.create_physical_expr(filter, &df_schema)).transpose()?;
        Ok(ChunkScan {
            database: self.database.name.clone(),
            table: self.table.name.clone(),
            replicated: self.is_replicated(),
            overlap: false,
            side: self.side(),
            table_schema: Arc::clone(&self.schema),
            projection: projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect()),
            predicate,
            picks_rows,
            knows_cells,
            limit,
        })
    }

    /// The few ids of which a condition says that a row has one, each with its column; `None` of any other condition.
    fn named_ids<'a>(&self, condition: &'a Expr) -> Option<Vec<(&'a str, &'a ScalarValue)>> {
        let Table { id_column, director_key, second_director_key, .. } = &self.table;
        let ids = [id_column, director_key, second_director_key];
        let id = |expr: &'a Expr, value: &'a Expr| match (expr, value) {
            (Expr::Column(Column { name, .. }), Expr::Literal(value, _)) => {
                ids.into_iter().flatten().any(|id| id == name).then_some((name.as_str(), value))
            }
            _ => None,
        };
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                Some(vec![id(left, right).or_else(|| id(right, left))?])
            }
            Expr::InList(InList { expr, list, negated: false }) if list.len() <= PICKED_IDS => {
                list.iter().map(|value| id(expr, value)).collect()
            }
            // The optimizer writes a short list so.
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Some([self.named_ids(left)?, self.named_ids(right)?].concat())
            }
            _ => None,
        }
    }

    /// The condition on `_healpix_29` that follows from a condition that names ids, where the index knows the
    /// cells of the rows that have them.
    fn cells_of_ids(&self, condition: &Expr) -> Option<Expr> {
        let in_its_cell = match self.table.kind {
            TableKind::Director => true,
            // In the cell of the director's row, or that of orphans, but for rows with a position of their own.
            TableKind::Child | TableKind::Companion => self.table.ra_column.is_none(),
            TableKind::Match | TableKind::Replicated => false,
        };
        let (_, field) = self.schema.column_with_name(HEALPIX_COLUMN)?;
        if !in_its_cell || field.data_type() != &DataType::Int64 {
            return None;
        }
        let named = self.named_ids(condition)?;
        let ids = named.into_iter().map(|(column, id)| self.bounds.knows_id(column).then(|| id.clone()));
        let found = self.bounds.places_of(&ids.collect::<Option<_>>()?)?;
        let cell = |cell: &i64| Expr::Column(Column::from_name(HEALPIX_COLUMN)).eq(lit(*cell));
        disjunction(found.cells()?.iter().map(cell))
    }

    /// What is known of the rows that a scan of some chunks reads, column by column of `schema`, which is
    /// that of its projection.
    pub(crate) fn scan_statistics(&self, scan: &ChunkScan, schema: &Schema, chunks: &[ChunkId]) -> Statistics {
        let whole = self.statistics.clone().project(Some(&scan.projection));
        let files = if scan.overlap { &self.overlap } else { &self.chunks };
        let rows: u64 = if self.is_replicated() {
            files.values().map(|entry| entry.rows).sum()
        } else {
            chunks.iter().filter_map(|chunk| files.get(chunk)).map(|entry| entry.rows).sum()
        };
        let all = self.statistics.num_rows == Precision::Exact(rows as usize);
        if !scan.overlap && all && scan.predicate.is_none() && scan.limit.is_none() {
            return whole;
        }
        let mut part = whole.to_inexact().with_num_rows(Precision::Inexact(rows as usize));
        part.calculate_total_byte_size(schema);
        part
    }

    /// The column whose equality keeps a join inside a chunk, with the director it refers to.
    pub(crate) fn locality_key(&self) -> Option<(&str, &str)> {
        match self.table.kind {
            TableKind::Director => Some((self.table.id_column.as_deref()?, &self.table.name)),
            TableKind::Child | TableKind::Companion | TableKind::Match => {
                let (director, key) = self.side().director(&self.table)?;
                Some((key, director))
            }
            TableKind::Replicated => None,
        }
    }

    /// Of a match, the column that holds the id of the director it is not seen from, and that director.
    pub(crate) fn other_key(&self) -> Option<(&str, &str)> {
        let (director, key) = self.pairs.as_ref()?.side.other().director(&self.table)?;
        Some((key, director))
    }

    /// The director that the table is seen from.
    pub(crate) fn side(&self) -> PairSide {
        self.pairs.as_ref().map_or(PairSide::First, |pairs| pairs.side)
    }
}

#[async_trait]
impl TableProvider for SkyTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| {
                if !is_steady(filter) {
                    TableProviderFilterPushDown::Unsupported
                } else {
                    TableProviderFilterPushDown::Inexact
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(ChunkScanExec::try_new(self.chunk_scan(state, projection, filters, limit)?)?))
    }
}

/// A director with the rows beside each chunk: what rows of the chunk may be near.
#[derive(Debug)]
pub(crate) struct WithOverlap(pub(crate) Arc<SkyTable>);

#[async_trait]
impl TableProvider for WithOverlap {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        self.0.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let own = self.0.chunk_scan(state, projection, filters, limit)?;
        let beside = ChunkScan { overlap: true, ..own.clone() };
        UnionExec::try_new(vec![Arc::new(ChunkScanExec::try_new(own)?), Arc::new(ChunkScanExec::try_new(beside)?)])
    }
}

/// True where an expression holds a query of its own, which a fragment must not.
pub(crate) fn contains_subquery(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    expr.exists(|e| {
        Ok(matches!(
            e,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        ))
    })
    .unwrap_or(true)
}

/// The Flight SQL catalog `skyflight`: one schema for each database of the session.
#[derive(Debug)]
pub(crate) struct SessionCatalog {
    databases: Vec<(String, Arc<dyn SchemaProvider>)>,
}

impl SessionCatalog {
    pub(crate) fn new(snapshots: &[Arc<SnapshotIndex>], system: Option<&Arc<SystemDatabase>>) -> Self {
        let database = |index: &Arc<SnapshotIndex>| {
            (index.database.name.clone(), Arc::new(SessionDatabase(Arc::clone(index))) as Arc<dyn SchemaProvider>)
        };
        let mut databases: Vec<_> = snapshots.iter().map(database).collect();
        databases.extend(system.map(|system| (SYSTEM.to_owned(), Arc::clone(system) as _)));
        SessionCatalog { databases }
    }
}

impl CatalogProvider for SessionCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.databases.iter().map(|(name, _)| name.clone()).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let (_, database) = self.databases.iter().find(|(n, _)| n == name)?;
        Some(Arc::clone(database))
    }
}

#[derive(Debug)]
struct SessionDatabase(Arc<SnapshotIndex>);

#[async_trait]
impl SchemaProvider for SessionDatabase {
    fn table_names(&self) -> Vec<String> {
        self.0.tables.iter().map(|t| t.table.name.clone()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.0.table(name).map(|t| Arc::clone(t) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table(name).is_some()
    }
}
