//! The leaf of a fragment: one table's rows in whatever chunk the fragment runs on.
//!
//! On the coordinator it is a placeholder that cannot run. A worker replaces it, chunk by chunk,
//! by a Parquet scan over its own files (see [`crate::fragment`]).

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};

use crate::tables::PairSide;

/// What a chunk scan reads; it travels to the worker.
#[derive(Debug, Clone)]
pub(crate) struct ChunkScan {
    pub(crate) database: String,
    pub(crate) table: String,
    /// A replicated table: its files are the same in every chunk.
    pub(crate) replicated: bool,
    /// Reads the overlap rows of the chunk instead of its own.
    pub(crate) overlap: bool,
    /// The director whose chunks the pairs of a match are read in. It does not travel: the worker is
    /// told the files.
    pub(crate) side: PairSide,
    /// The table's whole schema, as in its files.
    pub(crate) table_schema: SchemaRef,
    /// Indices into `table_schema` of the columns that come out.
    pub(crate) projection: Vec<usize>,
    /// A condition over `table_schema` that may be used to skip row groups and pages. Rows that
    /// fail it may still come out: the filter above decides.
    pub(crate) predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The condition names single ids first: rows that fail it are dropped before their other columns are read.
    pub(crate) picks_rows: bool,
    /// The condition says in which cells the rows are: only their pages are read, and no filter of ids is asked.
    pub(crate) knows_cells: bool,
    /// Rows after which the rest is not wanted.
    pub(crate) limit: Option<usize>,
}

/// See [`ChunkScan`].
#[derive(Debug, Clone)]
pub(crate) struct ChunkScanExec {
    scan: ChunkScan,
    properties: Arc<PlanProperties>,
    /// Of the rows in all chunks that the fragment runs on; it does not travel.
    statistics: Option<Arc<Statistics>>,
}

impl ChunkScanExec {
    pub(crate) fn try_new(scan: ChunkScan) -> Result<Self> {
        let schema = Arc::new(scan.table_schema.project(&scan.projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        // What a worker puts in its place is cooperative; no guard node is wanted around it.
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(ChunkScanExec { scan, properties: Arc::new(properties), statistics: None })
    }

    pub(crate) fn with_statistics(self, statistics: Statistics) -> Self {
        ChunkScanExec { statistics: Some(Arc::new(statistics)), ..self }
    }

    pub(crate) fn scan(&self) -> &ChunkScan {
        &self.scan
    }
}

impl DisplayAs for ChunkScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let columns: Vec<&str> =
            self.properties.eq_properties.schema().fields().iter().map(|c| c.name().as_str()).collect();
        write!(f, "ChunkScanExec: {}.{}", self.scan.database, self.scan.table)?;
        if self.scan.overlap {
            write!(f, " overlap")?;
        }
        if self.scan.replicated {
            write!(f, " replicated")?;
        }
        if self.scan.side == PairSide::Second {
            write!(f, " by its second director")?;
        }
        write!(f, ", columns=[{}]", columns.join(", "))?;
        if let Some(predicate) = &self.scan.predicate {
            let used = if self.scan.picks_rows { "pick" } else { "prune" };
            write!(f, ", {used}={predicate}")?;
        }
        if let Some(limit) = self.scan.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ChunkScanExec {
    fn name(&self) -> &'static str {
        "ChunkScanExec"
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

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(match &self.statistics {
            Some(known) => Arc::clone(known),
            None => Arc::new(Statistics::new_unknown(&self.schema())),
        })
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a chunk scan of {}.{} ran without a chunk", self.scan.database, self.scan.table)
    }
}
