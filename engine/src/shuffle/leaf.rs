//! A leaf as a worker runs it inside a stage: a fragment on that worker's chunks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, ready};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use skyflight_catalog::FileId;
use skyflight_proto::ScanCounters;
use skyflight_sky::ChunkId;
use tokio_util::sync::CancellationToken;

use crate::EngineError;
use crate::dispatch::{EncodedFragment, PlannedChunk};
use crate::fragment::{ChunkRun, Fragment, FragmentRuntime, FragmentScan, ScanFile};
use crate::plan::dispatch::into_plan_error;

/// Where a worker keeps its chunk files.
pub trait ChunkFiles: fmt::Debug + Send + Sync {
    /// The file `file` of `chunk` of the table that `scan` reads.
    ///
    /// # Errors
    /// The worker does not hold it.
    fn find(&self, scan: &FragmentScan, chunk: ChunkId, file: FileId) -> crate::Result<ScanFile>;
}

/// What the leaves of one task have around them, found in the session's configuration.
#[derive(Debug)]
pub(crate) struct StageContext {
    pub(crate) fragments: Arc<FragmentRuntime>,
    pub(crate) files: Arc<dyn ChunkFiles>,
    pub(crate) cost: Arc<StageCost>,
    pub(crate) cancel: CancellationToken,
}

/// What the chunks of one task have cost so far.
#[derive(Debug, Default)]
pub(crate) struct StageCost {
    chunks: AtomicU64,
    totals: Mutex<ScanCounters>,
}

impl StageCost {
    fn add(&self, counters: &ScanCounters) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        *self.totals.lock() += counters;
    }

    /// Chunks finished, and what they have cost together.
    pub(crate) fn so_far(&self) -> (u64, ScanCounters) {
        (self.chunks.load(Ordering::Relaxed), *self.totals.lock())
    }
}

/// Runs a fragment on chunks, each once: its partitions take the next chunk that none has begun.
#[derive(Debug)]
pub(crate) struct StageLeafExec {
    pub(crate) fragment: Arc<EncodedFragment>,
    pub(crate) chunks: Arc<Vec<PlannedChunk>>,
    properties: Arc<PlanProperties>,
    run: Arc<LeafRun>,
}

/// What the partitions of a running leaf share.
#[derive(Debug, Default)]
struct LeafRun {
    next: AtomicUsize,
    decoded: Mutex<Option<Arc<Fragment>>>,
}

impl StageLeafExec {
    pub(crate) fn new(
        fragment: Arc<EncodedFragment>,
        schema: SchemaRef,
        chunks: Vec<PlannedChunk>,
        partitions: usize,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        StageLeafExec {
            fragment,
            chunks: Arc::new(chunks),
            properties: Arc::new(properties),
            run: Arc::new(LeafRun::default()),
        }
    }
}

impl DisplayAs for StageLeafExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StageLeafExec: chunks={}", self.chunks.len())
    }
}

impl ExecutionPlan for StageLeafExec {
    fn name(&self) -> &'static str {
        "StageLeafExec"
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

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let stage = context
            .session_config()
            .get_extension::<StageContext>()
            .ok_or_else(|| internal_datafusion_err!("a leaf of a stage ran outside a worker"))?;
        let schema = self.properties.eq_properties.schema();
        let lane = Lane {
            leaf: Arc::clone(&self.run),
            chunks: Arc::clone(&self.chunks),
            fragment: self.fragment.clone(),
            stage,
        };
        let runs = futures::stream::unfold(lane, |lane| async move { lane.next().map(|run| (run, lane)) });
        let rows = runs.map_ok(rows_of).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows)))
    }
}

/// One partition of a running leaf.
struct Lane {
    leaf: Arc<LeafRun>,
    chunks: Arc<Vec<PlannedChunk>>,
    fragment: Arc<EncodedFragment>,
    stage: Arc<StageContext>,
}

impl Lane {
    /// Begins the next chunk; `None` when all have been begun.
    fn next(&self) -> Option<Result<(ChunkRun, Arc<StageContext>)>> {
        let chunk = self.chunks.get(self.leaf.next.fetch_add(1, Ordering::Relaxed))?;
        Some(self.begin(chunk).map(|run| (run, Arc::clone(&self.stage))).map_err(into_plan_error))
    }

    fn begin(&self, chunk: &PlannedChunk) -> crate::Result<ChunkRun> {
        let fragment = self.decoded()?;
        if chunk.files_per_scan.len() != fragment.scans().len() {
            return Err(EngineError::Internal(format!("chunk {} does not fit its fragment", chunk.chunk)));
        }
        let find = |scan: &FragmentScan, of, file| self.stage.files.find(scan, of, file);
        let files = fragment.files(chunk.chunk, chunk.files.iter().copied(), &chunk.files_per_scan, find)?;
        fragment.execute(&files, self.stage.cancel.clone())
    }

    fn decoded(&self) -> crate::Result<Arc<Fragment>> {
        let mut decoded = self.leaf.decoded.lock();
        if let Some(fragment) = decoded.as_ref() {
            return Ok(Arc::clone(fragment));
        }
        let fragment = Arc::new(self.stage.fragments.decode(&self.fragment.bytes)?);
        *decoded = Some(Arc::clone(&fragment));
        Ok(fragment)
    }
}

/// The rows of one chunk; its cost is counted when they have ended.
fn rows_of((mut run, stage): (ChunkRun, Arc<StageContext>)) -> SendableRecordBatchStream {
    let schema = run.stream.schema();
    let mut sent = 0;
    let rows = futures::stream::poll_fn(move |context| {
        let next = ready!(run.stream.poll_next_unpin(context));
        match &next {
            Some(Ok(batch)) => sent += batch.num_rows() as u64,
            Some(Err(_)) => {}
            None => stage.cost.add(&ScanCounters { rows_sent: sent, ..run.counters() }),
        }
        Poll::Ready(next)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}
