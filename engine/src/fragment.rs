//! The worker's side: a fragment is decoded once and run on one chunk's files at a time.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::SchemaError;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use datafusion::prelude::SessionConfig;
use object_store::path::Path as ObjectPath;
use skyflight_catalog::FileId;
use skyflight_proto::ScanCounters;
use skyflight_sky::ChunkId;
use tokio_util::sync::CancellationToken;

use crate::interrupt::{QueryCancel, protect};
use crate::names::suggest;
use crate::plan::codec::decode_fragment;
use crate::plan::scan::{ChunkScan, ChunkScanExec};
use crate::registry;
use crate::{EngineError, Result};

/// What fragments may use together.
#[derive(Debug, Clone)]
pub struct FragmentConfig {
    /// Memory of all running fragments; beyond it they spill, or fail with a clear error.
    pub memory_bytes: usize,
    /// Folder for spilled runs.
    pub spill_dir: PathBuf,
    /// Most bytes spilled at once.
    pub spill_bytes: u64,
    /// Rows of a batch.
    pub batch_rows: usize,
}

/// The DataFusion environment of a worker.
#[derive(Debug)]
pub struct FragmentRuntime {
    state: SessionState,
    /// Reads chunk files, keeping their footers and page indices in memory.
    reader: Arc<CachedParquetFileReaderFactory>,
}

impl FragmentRuntime {
    /// Builds the environment: functions, memory pool, spill folder, footer cache.
    ///
    /// # Errors
    /// The spill folder cannot be used.
    pub fn new(config: FragmentConfig) -> Result<Self> {
        let runtime = bounded_runtime(config.memory_bytes, config.spill_dir, config.spill_bytes)?;
        let session = SessionConfig::new().with_target_partitions(1).with_batch_size(config.batch_rows);
        let session = session.with_sort_spill_reservation_bytes(sort_reservation(config.memory_bytes));
        let state = registry::state_builder(session).with_runtime_env(Arc::clone(&runtime)).build();
        let store = runtime.object_store(ObjectStoreUrl::local_filesystem()).map_err(error_of)?;
        let metadata = runtime.cache_manager.get_file_metadata_cache();
        Ok(FragmentRuntime { state, reader: Arc::new(CachedParquetFileReaderFactory::new(store, metadata)) })
    }

    /// The bounds in which fragments, and all else that runs on the worker, take memory and disk.
    pub(crate) fn runtime_env(&self) -> Arc<RuntimeEnv> {
        Arc::clone(self.state.runtime_env())
    }

    /// Bytes that fragments, and all else that runs on the worker, have taken from their memory.
    pub fn memory_reserved(&self) -> usize {
        self.state.runtime_env().memory_pool.reserved()
    }

    /// Rows of a batch.
    pub(crate) fn batch_rows(&self) -> usize {
        self.state.config().batch_size()
    }

    /// Bytes that a sort sets aside for merging what it spilled.
    pub(crate) fn sort_reservation(&self) -> usize {
        self.state.config().options().execution.sort_spill_reservation_bytes
    }

    /// Decodes a fragment. CPU-bound: run it on the runtime that executes.
    ///
    /// # Errors
    /// Bytes that are no fragment, or that name a function this worker does not know.
    pub fn decode(&self, bytes: &[u8]) -> Result<Fragment> {
        let task = self.state.task_ctx();
        let plan = decode_fragment(bytes, &task).map_err(error_of)?;
        let mut scans = Vec::new();
        plan.apply(|node| {
            if let Some(leaf) = node.downcast_ref::<ChunkScanExec>() {
                scans.push(FragmentScan::of(leaf.scan()));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .map_err(error_of)?;
        Ok(Fragment { plan, scans, state: self.state.clone(), reader: Arc::clone(&self.reader) })
    }
}

/// A runtime with one bounded memory pool and a bounded spill folder.
pub(crate) fn bounded_runtime(memory_bytes: usize, spill_dir: PathBuf, spill_bytes: u64) -> Result<Arc<RuntimeEnv>> {
    let top = std::num::NonZeroUsize::MIN.saturating_add(4);
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill_dir]))
        .with_max_temp_directory_size(spill_bytes);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(memory_bytes), top)))
        .with_disk_manager_builder(disk)
        .build_arc()
        .map_err(error_of)
}

/// Bytes that each of the sorts of a runtime sets aside for merging what it spilled: DataFusion's 10 MiB, or
/// less where a few sorts at once would not leave any memory to sort in.
pub(crate) fn sort_reservation(memory_bytes: usize) -> usize {
    (memory_bytes / 32).min(10 << 20)
}

/// One table that a fragment reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentScan {
    /// The database's declared name.
    pub database: String,
    /// The table's declared name.
    pub table: String,
    /// True for a table whose files lie under [`skyflight_sky::ChunkId::EVERYWHERE`].
    pub replicated: bool,
    /// True where the chunk's overlap rows are read instead of its own.
    pub overlap: bool,
}

impl FragmentScan {
    fn of(scan: &ChunkScan) -> Self {
        FragmentScan {
            database: scan.database.clone(),
            table: scan.table.clone(),
            replicated: scan.replicated,
            overlap: scan.overlap,
        }
    }
}

/// A chunk file as the worker found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
}

/// A decoded fragment; cheap to run on many chunks, at once or in turn.
#[derive(Debug)]
pub struct Fragment {
    plan: Arc<dyn ExecutionPlan>,
    scans: Vec<FragmentScan>,
    state: SessionState,
    reader: Arc<CachedParquetFileReaderFactory>,
}

impl Fragment {
    /// Schema of the rows it gives.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// The tables it reads, in the order in which [`Fragment::execute`] wants their files.
    pub fn scans(&self) -> &[FragmentScan] {
        &self.scans
    }

    /// The files of a chunk as [`Fragment::execute`] wants them, from a list of them all, of which each scan
    /// has as many as `per_scan` says. `find` gives the place of one.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn files<E>(
        &self,
        chunk: ChunkId,
        files: impl IntoIterator<Item = FileId>,
        per_scan: &[u32],
        find: impl Fn(&FragmentScan, ChunkId, FileId) -> std::result::Result<ScanFile, E>,
    ) -> std::result::Result<Vec<Vec<ScanFile>>, E> {
        let mut files = files.into_iter();
        let scans = self.scans.iter().zip(per_scan);
        scans
            .map(|(scan, count)| {
                let chunk = if scan.replicated { ChunkId::EVERYWHERE } else { chunk };
                files.by_ref().take(*count as usize).map(|file| find(scan, chunk, file)).collect()
            })
            .collect()
    }

    /// Starts the fragment on one chunk. `files` has one list for each scan; an empty list is a
    /// table without rows in the chunk.
    ///
    /// # Errors
    /// A wrong number of lists, or a plan that cannot be bound to these files.
    pub fn execute(&self, files: &[Vec<ScanFile>], cancel: CancellationToken) -> Result<ChunkRun> {
        if files.len() != self.scans.len() {
            return Err(EngineError::Internal(format!(
                "a fragment of {} scans was given files for {}",
                self.scans.len(),
                files.len()
            )));
        }
        let mut next = 0;
        let bound = Arc::clone(&self.plan)
            .transform_down(|node| {
                let Some(leaf) = node.downcast_ref::<ChunkScanExec>() else { return Ok(Transformed::no(node)) };
                let scan = bind(leaf.scan(), &files[next], &self.reader)?;
                next += 1;
                Ok(Transformed::new(scan, true, TreeNodeRecursion::Jump))
            })
            .map_err(error_of)?
            .data;
        // A join keeps its build side in its node, and a copy on new children shares it: without this
        // every chunk would be joined with the first chunk's build side.
        let fresh = reset_plan_states(bound).map_err(error_of)?;
        let plan = protect(fresh, &cancel).map_err(error_of)?;
        let task = self.task_context(cancel);
        let stream = plan.execute(0, task).map_err(error_of)?;
        Ok(ChunkRun { stream, plan })
    }

    fn task_context(&self, cancel: CancellationToken) -> Arc<TaskContext> {
        let config = self.state.config().clone().with_extension(Arc::new(QueryCancel(cancel)));
        Arc::new(TaskContext::new(
            None,
            String::new(),
            config,
            Default::default(),
            Default::default(),
            Default::default(),
            Default::default(),
            Arc::clone(self.state.runtime_env()),
        ))
    }
}

fn bind(
    scan: &ChunkScan,
    files: &[ScanFile],
    reader: &Arc<CachedParquetFileReaderFactory>,
) -> PlanResult<Arc<dyn ExecutionPlan>> {
    if files.is_empty() {
        return Ok(Arc::new(EmptyExec::new(Arc::new(scan.table_schema.project(&scan.projection)?))));
    }
    let mut source = ParquetSource::new(Arc::clone(&scan.table_schema))
        .with_parquet_file_reader_factory(Arc::clone(reader) as _)
        .with_enable_page_index(true)
        .with_bloom_filter_on_read(!scan.knows_cells);
    if let Some(predicate) = &scan.predicate {
        source = source.with_predicate(Arc::clone(predicate)).with_pushdown_filters(scan.picks_rows);
    }
    let files = files.iter().map(partitioned).collect::<PlanResult<Vec<_>>>()?;
    let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
        .with_file_group(FileGroup::new(files))
        .with_projection_indices(Some(scan.projection.clone()))?
        .with_limit(scan.limit)
        // Rows come in file order on every attempt: a retry resumes by row number.
        .with_preserve_order(true)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

fn partitioned(file: &ScanFile) -> PlanResult<PartitionedFile> {
    let path = ObjectPath::from_absolute_path(&file.path).map_err(|e| {
        DataFusionError::Execution(format!("the chunk file path {} is unusable: {e}", file.path.display()))
    })?;
    // The modification time is fixed: files are immutable, and the footer cache compares it.
    Ok(PartitionedFile::new(path.to_string(), file.bytes))
}

/// A fragment running on one chunk.
pub struct ChunkRun {
    /// The chunk's rows.
    pub stream: SendableRecordBatchStream,
    plan: Arc<dyn ExecutionPlan>,
}

impl Debug for ChunkRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkRun").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl ChunkRun {
    /// What the scans of this chunk have cost; final once the stream has ended.
    pub fn counters(&self) -> ScanCounters {
        let mut counters = ScanCounters::default();
        // The walk cannot fail: its closure does not.
        let _ = self.plan.apply(|node| {
            if node.downcast_ref::<DataSourceExec>().is_some() {
                add_scan(node.as_ref(), &mut counters);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        counters
    }
}

fn add_scan(scan: &dyn ExecutionPlan, counters: &mut ScanCounters) {
    let Some(metrics) = scan.metrics() else { return };
    counters.rows_read += metrics.output_rows().unwrap_or(0) as u64;
    for metric in metrics.iter() {
        match metric.value() {
            MetricValue::Count { name, count } if name == "bytes_scanned" => {
                counters.bytes_read += count.value() as u64
            }
            MetricValue::PruningMetrics { name, pruning_metrics } => {
                let pruned = pruning_metrics.pruned() as u64;
                if name == "page_index_pages_pruned" {
                    counters.pages_pruned += pruned;
                } else if name.starts_with("row_groups_pruned") {
                    counters.row_groups_pruned += pruned;
                }
            }
            _ => {}
        }
    }
}

/// What a DataFusion error means to the user: one of ours that travelled inside it, a mistake in
/// the query, a limit, or a fault.
pub fn error_of(error: DataFusionError) -> EngineError {
    use datafusion::arrow::error::ArrowError;
    let text = |e: &DataFusionError| e.strip_backtrace();
    match error {
        DataFusionError::Context(context, inner) => match error_of(*inner) {
            EngineError::Internal(message) => EngineError::Internal(format!("{context}: {message}")),
            other => other,
        },
        DataFusionError::Diagnostic(_, inner) => error_of(*inner),
        DataFusionError::Shared(shared) => error_of_shared(&shared),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => error_of(errors.swap_remove(0)),
        DataFusionError::External(inner) => match inner.downcast::<EngineError>() {
            Ok(own) => *own,
            Err(other) => match other.downcast::<DataFusionError>() {
                Ok(nested) => error_of(*nested),
                // A pattern written in the query, which comes without a type of its own.
                Err(other) if other.to_string().contains("regex parse error") => {
                    EngineError::Invalid(other.to_string())
                }
                Err(other) => EngineError::Internal(other.to_string()),
            },
        },
        DataFusionError::SQL(ref inner, _) => EngineError::Syntax(inner.to_string()),
        DataFusionError::Plan(message) => EngineError::Invalid(without_fault(message)),
        DataFusionError::SchemaError(inner, _) => EngineError::Invalid(schema_mistake(&inner)),
        DataFusionError::Configuration(message) => EngineError::Invalid(message),
        DataFusionError::NotImplemented(message) => EngineError::Unsupported(message),
        DataFusionError::ResourcesExhausted(message) => EngineError::ResourceExhausted(message),
        DataFusionError::Execution(message) => EngineError::Invalid(message),
        DataFusionError::ArrowError(inner, _) => match *inner {
            ArrowError::ExternalError(inner) => error_of(DataFusionError::External(inner)),
            ArrowError::IpcError(m) | ArrowError::IoError(m, _) | ArrowError::MemoryError(m) => {
                EngineError::Internal(m)
            }
            // Division by zero, overflow, a string that is no number: the query's own.
            other => EngineError::Invalid(other.to_string()),
        },
        DataFusionError::ParquetError(inner) => EngineError::Corrupt(format!("a chunk file cannot be read: {inner}")),
        DataFusionError::ObjectStore(inner) => EngineError::Corrupt(format!("a chunk file cannot be read: {inner}")),
        DataFusionError::IoError(inner) => EngineError::Internal(inner.to_string()),
        other => EngineError::Internal(text(&other)),
    }
}

/// DataFusion reports arguments that a function does not take together with a fault of its own that is
/// none; what follows tells the user all.
fn without_fault(message: String) -> String {
    match message.find("No function matches") {
        Some(start) if message.starts_with("Internal error:") => message[start..].to_owned(),
        _ => message,
    }
}

/// A name that does not resolve, with the nearest that does.
fn schema_mistake(error: &SchemaError) -> String {
    let SchemaError::FieldNotFound { field, valid_fields } = error else { return error.to_string() };
    let names: Vec<&str> = valid_fields.iter().map(|c| c.name.as_str()).collect();
    match suggest(&field.name, names.iter().copied()) {
        Some(near) => format!("no column {}; did you mean {near:?}?", field.flat_name()),
        None => format!("no column {}; the columns are {}", field.flat_name(), names.join(", ")),
    }
}

/// An error that several readers hold: it cannot be taken apart, so its kind is read in place.
fn error_of_shared(error: &DataFusionError) -> EngineError {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<EngineError>() {
            Some(own) => own.again(),
            None => EngineError::Internal(inner.to_string()),
        },
        DataFusionError::ResourcesExhausted(message) => EngineError::ResourceExhausted(message.clone()),
        DataFusionError::ArrowError(inner, _) => EngineError::Invalid(inner.to_string()),
        DataFusionError::Execution(message) => EngineError::Invalid(message.clone()),
        DataFusionError::Plan(message) => EngineError::Invalid(without_fault(message.clone())),
        other => EngineError::Internal(other.strip_backtrace()),
    }
}
