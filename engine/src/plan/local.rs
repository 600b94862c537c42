//! The logical mark around what runs inside a chunk.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use skyflight_sky::ChunkId;

use crate::tables::SkyTable;

/// Chunks chosen, of how many.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkChoice {
    /// The chunks to run on, ascending.
    pub(crate) chunks: Vec<ChunkId>,
    /// How many chunks the tables have, before pruning.
    pub(crate) total: usize,
}

/// A sub-plan proved local: its answer is the union of its answers on each chunk.
///
/// It has no inputs as far as the optimizer is concerned, so that no later rule moves anything
/// across the border or into the sub-plan.
#[derive(Debug, Clone)]
pub(crate) struct ChunkLocal {
    /// What runs beside each chunk.
    pub(crate) plan: LogicalPlan,
    /// The chunks it must run on.
    pub(crate) choice: Arc<ChunkChoice>,
    /// The tables it reads.
    pub(crate) tables: Vec<Arc<SkyTable>>,
    /// Why it is local, for EXPLAIN.
    pub(crate) reason: String,
}

impl UserDefinedLogicalNodeCore for ChunkLocal {
    fn name(&self) -> &str {
        "ChunkLocal"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.plan.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ChunkLocal: chunks={} of {}, {}", self.choice.chunks.len(), self.choice.total, self.reason)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        if !exprs.is_empty() || !inputs.is_empty() {
            return plan_err!("a chunk-local plan has no inputs");
        }
        Ok(self.clone())
    }
}

impl PartialEq for ChunkLocal {
    fn eq(&self, other: &Self) -> bool {
        self.plan == other.plan && self.choice == other.choice
    }
}

impl Eq for ChunkLocal {}

impl Hash for ChunkLocal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plan.hash(state);
    }
}

impl PartialOrd for ChunkLocal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.plan.partial_cmp(&other.plan).filter(|order| *order != Ordering::Equal || self == other)
    }
}
