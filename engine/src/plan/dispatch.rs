//! The leaf of a merge plan: a fragment, and the chunks it must run on.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;
use parking_lot::Mutex;
use skyflight_sky::ChunkId;

use super::codec::encode_fragment;
use super::local::ChunkChoice;
use super::scan::{ChunkScan, ChunkScanExec};
use crate::dispatch::{
    ChunkDispatcher, ChunkList, DispatchRequest, FrameStream, PlannedChunk, QueryContext, QueryCounters,
};
use crate::frames::decode_frame;
use crate::spherical::SphericalJoinExec;
use crate::tables::{ChunkEntry, SkyTable};

/// Who runs leaves, found in the session's configuration when a plan executes.
#[derive(Debug, Clone)]
pub(crate) struct LeafContext {
    pub(crate) query: QueryContext,
    pub(crate) dispatcher: Arc<dyn ChunkDispatcher>,
}

/// Runs `fragment` on `choice` and puts out the rows of all chunks in no particular order.
///
/// Its partitions share one stream: whichever is polled takes the next frame. So the rows come
/// out once, however many of the partitions are read and however unevenly.
#[derive(Debug)]
pub(crate) struct ChunkDispatchExec {
    fragment: Arc<dyn ExecutionPlan>,
    choice: Arc<ChunkChoice>,
    tables: Vec<Arc<SkyTable>>,
    reason: String,
    properties: Arc<PlanProperties>,
    stream: Mutex<SharedStream>,
}

#[derive(Debug, Default)]
enum SharedStream {
    #[default]
    NotStarted,
    /// Held until each partition has its own hold of it, so that one which is read to its end, or
    /// given up, before another begins does not take the rest of the rows with it.
    Started { leaf: Option<Arc<Leaf>>, partitions_begun: usize },
}

/// The one stream of a running leaf.
struct Leaf {
    frames: tokio::sync::Mutex<FrameStream>,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").finish_non_exhaustive()
    }
}

impl ChunkDispatchExec {
    pub(crate) fn new(
        fragment: Arc<dyn ExecutionPlan>,
        choice: Arc<ChunkChoice>,
        tables: Vec<Arc<SkyTable>>,
        reason: String,
        partitions: usize,
    ) -> Self {
        // At least two, so that the planner keeps partial and final aggregation apart.
        let properties = PlanProperties::new(
            EquivalenceProperties::new(fragment.schema()),
            Partitioning::UnknownPartitioning(partitions.max(2)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        ChunkDispatchExec {
            fragment,
            choice,
            tables,
            reason,
            properties: Arc::new(properties),
            stream: Mutex::default(),
        }
    }

    /// The same leaf with more work in its fragment.
    pub(crate) fn with_fragment(&self, fragment: Arc<dyn ExecutionPlan>) -> Self {
        ChunkDispatchExec::new(
            fragment,
            Arc::clone(&self.choice),
            self.tables.clone(),
            self.reason.clone(),
            self.properties.partitioning.partition_count(),
        )
    }

    pub(crate) fn fragment(&self) -> &Arc<dyn ExecutionPlan> {
        &self.fragment
    }

    pub(crate) fn choice(&self) -> &ChunkChoice {
        &self.choice
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Tells the fragment's scans what is known of the rows they read on the chosen chunks, and its spherical joins
    /// which side has fewer.
    pub(crate) fn with_known_rows(self) -> Result<Self> {
        let fragment = Arc::clone(&self.fragment).transform_up(|node| {
            if let Some(join) = node.downcast_ref::<SphericalJoinExec>() {
                return Ok(match join.with_smaller_side_arranged()? {
                    Some(turned) => Transformed::yes(Arc::new(turned) as _),
                    None => Transformed::no(node),
                });
            }
            let Some(leaf) = node.downcast_ref::<ChunkScanExec>() else { return Ok(Transformed::no(node)) };
            let table = self.table_of(leaf.scan())?;
            let known = table.scan_statistics(leaf.scan(), &leaf.schema(), &self.choice.chunks);
            Ok(Transformed::yes(Arc::new(leaf.clone().with_statistics(known)) as _))
        })?;
        Ok(self.with_fragment(fragment.data))
    }

    /// True where the rows are those of one table's chunks, each once, with nothing left out.
    fn passes_rows_through(&self) -> bool {
        let mut plan = &self.fragment;
        while let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            plan = projection.input();
        }
        plan.downcast_ref::<ChunkScanExec>().is_some()
    }

    /// Workers that hold the chosen chunks.
    pub(crate) fn worker_count(&self) -> usize {
        self.chunk_list().map_or(0, |list| {
            let mut seen: Vec<u16> = list.chunks.iter().flat_map(|c| c.workers.iter().copied()).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.len()
        })
    }

    /// True where every attempt on a chunk gives the same rows in the same order: one scan in one
    /// partition, filters and projections of expressions that depend on nothing but their row.
    pub(crate) fn is_deterministic(&self) -> bool {
        let mut plan = &self.fragment;
        loop {
            if plan.downcast_ref::<ChunkScanExec>().is_some() {
                return true;
            }
            let pure = if let Some(filter) = plan.downcast_ref::<FilterExec>() {
                !is_volatile(filter.predicate())
            } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
                projection.expr().iter().all(|e| !is_volatile(&e.expr))
            } else {
                false
            };
            match plan.children().first() {
                Some(child) if pure => plan = child,
                _ => return false,
            }
        }
    }

    /// What to ask of the dispatcher.
    pub(crate) fn request(&self, query: &QueryContext) -> Result<DispatchRequest> {
        let chunks = self.chunk_list()?;
        let counters = &query.counters;
        QueryCounters::add(&counters.chunks_planned, chunks.chunks.len() as u64);
        QueryCounters::add(&counters.chunks_total, self.choice.total as u64);
        Ok(DispatchRequest {
            query: query.clone(),
            fragment: Arc::new(encode_fragment(&self.fragment)?),
            schema: self.fragment.schema(),
            chunks: Arc::new(chunks),
            deterministic: self.is_deterministic(),
            commits: None,
        })
    }

    /// Rows of the largest of its tables in the chosen chunks; a join beside the chunk may give more.
    pub(crate) fn rows_at_most(&self) -> u64 {
        let rows = |table: &Arc<SkyTable>| {
            let chunks = if table.is_replicated() { &[ChunkId::EVERYWHERE][..] } else { &self.choice.chunks };
            chunks.iter().filter_map(|chunk| table.chunks.get(chunk)).map(|entry| entry.rows).sum::<u64>()
        };
        self.tables.iter().map(rows).max().unwrap_or(0)
    }

    /// Files and replicas of each chosen chunk, in the order in which the fragment scans them.
    pub(crate) fn chunk_list(&self) -> Result<ChunkList> {
        let scans = self.scans()?;
        // Replicated tables may come from another database and number its workers otherwise.
        let numbering = scans
            .iter()
            .find(|scan| !scan.table.is_replicated())
            .or(scans.first())
            .map(|scan| Arc::clone(&scan.table.database))
            .ok_or_else(|| internal_datafusion_err!("a fragment without a scan"))?;
        let everywhere: Vec<Option<ChunkEntry>> =
            scans.iter().map(|s| s.table.is_replicated().then(|| renumbered(s.table, &numbering.workers))).collect();
        let mut chunks = Vec::with_capacity(self.choice.chunks.len());
        for chunk in &self.choice.chunks {
            if let Some(planned) = planned_chunk(*chunk, &scans, &everywhere)? {
                chunks.push(planned);
            }
        }
        Ok(ChunkList { chunks, workers: numbering.workers.clone(), total: self.choice.total })
    }

    /// Chunks, rows and bytes that the fragment reads at most.
    pub(crate) fn reads(&self) -> Result<(u64, u64, u64)> {
        let (mut rows, mut bytes) = (0, 0.0);
        for scan in self.scans()? {
            let part = scan.part_read();
            for chunk in &self.choice.chunks {
                let everywhere = scan.table.is_replicated().then_some(ChunkId::EVERYWHERE);
                let Some(entry) = scan.entry(everywhere.unwrap_or(*chunk)) else { continue };
                rows += entry.rows;
                bytes += entry.bytes as f64 * part;
            }
        }
        Ok((self.choice.chunks.len() as u64, rows, bytes as u64))
    }

    fn table_of(&self, scan: &ChunkScan) -> Result<&Arc<SkyTable>> {
        let is = |t: &&Arc<SkyTable>| {
            t.database.name == scan.database && t.table.name == scan.table && t.side() == scan.side
        };
        let known = self.tables.iter().find(is);
        known.ok_or_else(|| {
            let name = format!("{}.{}", scan.database, scan.table);
            internal_datafusion_err!("a fragment scans {name}, which its leaf does not know")
        })
    }

    /// The fragment's scans, in the order in which the worker finds them.
    fn scans(&self) -> Result<Vec<LeafScan<'_>>> {
        let mut scans = Vec::new();
        self.fragment.apply(|node| {
            if let Some(leaf) = node.downcast_ref::<ChunkScanExec>() {
                scans.push(LeafScan { table: self.table_of(leaf.scan())?, scan: leaf.scan() });
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(scans)
    }
}

pub(crate) fn is_volatile(expr: &Arc<dyn PhysicalExpr>) -> bool {
    datafusion::physical_expr_common::physical_expr::is_volatile(expr)
}

/// A replicated table's files, with workers numbered as in `workers`.
fn renumbered(table: &SkyTable, workers: &[skyflight_catalog::WorkerId]) -> ChunkEntry {
    let entry = table.chunks.get(&ChunkId::EVERYWHERE).cloned().unwrap_or_default();
    let mut numbers: Vec<u16> = entry
        .workers
        .iter()
        .filter_map(|w| workers.iter().position(|id| id == &table.database.workers[*w as usize]))
        .map(|position| position as u16)
        .collect();
    numbers.sort_unstable();
    ChunkEntry { workers: numbers, ..entry }
}

/// What one scan of a fragment reads in each chunk.
struct LeafScan<'a> {
    table: &'a Arc<SkyTable>,
    scan: &'a ChunkScan,
}

impl LeafScan<'_> {
    fn entry(&self, chunk: ChunkId) -> Option<&ChunkEntry> {
        if self.scan.overlap { self.table.overlap.get(&chunk) } else { self.table.chunks.get(&chunk) }
    }

    /// The columns read, as a part of all bytes of a file.
    fn part_read(&self) -> f64 {
        let width = |at: usize| width_of(self.scan.table_schema.field(at).data_type());
        let all: usize = (0..self.scan.table_schema.fields().len()).map(width).sum();
        let read: usize = self.scan.projection.iter().map(|at| width(*at)).sum();
        read as f64 / all.max(1) as f64
    }
}

/// Bytes of a value; a guess for text and lists.
fn width_of(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(if *data_type == DataType::Boolean { 1 } else { 16 })
}

fn planned_chunk(
    chunk: ChunkId,
    scans: &[LeafScan<'_>],
    everywhere: &[Option<ChunkEntry>],
) -> Result<Option<PlannedChunk>> {
    let mut planned =
        PlannedChunk { chunk, files: Vec::new(), files_per_scan: Vec::with_capacity(scans.len()), workers: Vec::new() };
    let mut first = true;
    for (scan, replicated) in scans.iter().zip(everywhere) {
        let entry = replicated.as_ref().or_else(|| scan.entry(chunk));
        let files = entry.map_or(&[][..], |e| &e.files[..]);
        planned.files_per_scan.push(files.len() as u32);
        planned.files.extend_from_slice(files);
        let Some(entry) = entry.filter(|e| !e.files.is_empty()) else { continue };
        if first {
            planned.workers.clone_from(&entry.workers);
            first = false;
        } else {
            planned.workers.retain(|w| entry.workers.binary_search(w).is_ok());
        }
    }
    if first {
        // No table has a file here, so the chunk has no rows.
        return Ok(None);
    }
    if planned.workers.is_empty() {
        return internal_err!(
            "no single worker holds all files of chunk {chunk}; load the tables again so that they lie together"
        );
    }
    Ok(Some(planned))
}

impl DisplayAs for ChunkDispatchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "ChunkDispatchExec: chunks={} of {}, workers={}, {}, because: {}",
            self.choice.chunks.len(),
            self.choice.total,
            self.worker_count(),
            if self.is_deterministic() { "streamed" } else { "held until each chunk is whole" },
            self.reason,
        )
    }
}

/// The fragment as indented text, for EXPLAIN.
pub(crate) fn fragment_text(leaf: &ChunkDispatchExec) -> String {
    DisplayableExecutionPlan::new(leaf.fragment.as_ref()).indent(false).to_string()
}

impl ExecutionPlan for ChunkDispatchExec {
    fn name(&self) -> &'static str {
        "ChunkDispatchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.with_fragment(Arc::clone(&self.fragment))))
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        if args.partition().is_some() {
            // Whoever is polled takes the next rows.
            return Ok(Arc::new(Statistics::new_unknown(&self.schema())));
        }
        let known = StatisticsContext::new().compute(self.fragment.as_ref(), &StatisticsArgs::new())?;
        if self.passes_rows_through() {
            return Ok(known);
        }
        // A fragment runs once for each chunk: what it takes for all of its input is a part.
        Ok(Arc::new(known.as_ref().clone().to_inexact()))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.fragment.schema();
        let leaf = self.leaf(&context)?;
        let decode_schema = Arc::clone(&schema);
        let rows = futures::stream::unfold(Some(leaf), move |leaf| {
            let schema = Arc::clone(&decode_schema);
            async move {
                let leaf = leaf?;
                let frame = leaf.frames.lock().await.next().await;
                match frame {
                    Some(Ok(frame)) => Some((decode_frame(&frame, &schema).map_err(into_plan_error), Some(leaf))),
                    Some(Err(error)) => Some((Err(into_plan_error(error)), None)),
                    None => None,
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

impl ChunkDispatchExec {
    /// The shared stream, started by whichever partition comes first.
    fn leaf(&self, context: &TaskContext) -> Result<Arc<Leaf>> {
        let mut shared = self.stream.lock();
        let partitions = self.properties.partitioning.partition_count();
        if let SharedStream::Started { leaf, partitions_begun } = &mut *shared {
            *partitions_begun += 1;
            let last = *partitions_begun >= partitions;
            let Some(leaf) = (if last { leaf.take() } else { leaf.clone() }) else {
                // Starting again would give rows twice, an empty answer would lose them.
                return internal_err!("a leaf of {partitions} partitions was read more often");
            };
            return Ok(leaf);
        }
        let leaf_context = context
            .session_config()
            .get_extension::<LeafContext>()
            .ok_or_else(|| internal_datafusion_err!("a distributed plan ran outside a query"))?;
        let request = self.request(&leaf_context.query)?;
        let leaf = Arc::new(Leaf { frames: tokio::sync::Mutex::new(leaf_context.dispatcher.dispatch(request)) });
        let held = (partitions > 1).then(|| Arc::clone(&leaf));
        *shared = SharedStream::Started { leaf: held, partitions_begun: 1 };
        Ok(leaf)
    }
}

/// Carries one of our errors through DataFusion unharmed.
pub(crate) fn into_plan_error(error: crate::EngineError) -> datafusion::error::DataFusionError {
    datafusion::error::DataFusionError::External(Box::new(error))
}
