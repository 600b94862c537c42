//! What a plan will read, and about how long that takes, told before it runs.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;

use crate::plan::dispatch::ChunkDispatchExec;

/// Time of a core to open a chunk and plan its nodes anew, whatever it holds; measured by
/// `integration/bench/run chunks`.
const SECONDS_PER_CHUNK: f64 = 0.000_9;

/// Bytes of chunk files that a core decodes and works on; measured by `integration/bench/run scan`.
const BYTES_PER_SECOND: f64 = 200e6;

/// Time to plan, to dispatch, and to answer.
const SECONDS_PER_QUERY: f64 = 0.005;

/// What a query reads at most: indices of pages and filters within chunk files may spare some of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// Chunks that fragments run on, summed over leaves.
    pub chunks: u64,
    /// Rows of those chunks, overlap included.
    pub rows: u64,
    /// Bytes of the columns read, as they lie in the chunk files.
    pub bytes: u64,
    /// Wall time with one core for each worker and nothing else to do, without the merge plan.
    pub seconds: f64,
}

impl Estimate {
    /// The estimate of a whole merge plan.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Estimate> {
        let mut all = Estimate { seconds: SECONDS_PER_QUERY, ..Estimate::default() };
        plan.apply(|node| {
            if let Some(leaf) = node.downcast_ref::<ChunkDispatchExec>() {
                let (chunks, rows, bytes) = leaf.reads()?;
                all.chunks += chunks;
                all.rows += rows;
                all.bytes += bytes;
                let work = chunks as f64 * SECONDS_PER_CHUNK + bytes as f64 / BYTES_PER_SECOND;
                all.seconds += work / leaf.worker_count().max(1) as f64;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(all)
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Estimate { chunks, rows, bytes, seconds } = self;
        if *chunks == 0 {
            return write!(f, "nothing is read: what the snapshot knows is enough");
        }
        write!(f, "at most {rows} rows in {chunks} chunks, {:.3} MB, about {seconds:.3} s", *bytes as f64 / 1e6)
    }
}
