//! From a marked logical plan to a physical one: each [`ChunkLocal`] becomes a leaf.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::dispatch::ChunkDispatchExec;
use super::local::ChunkLocal;

/// Plans queries whose leaves are fragments. `fragments` is the session in which a fragment is
/// planned: one partition, and no rule that a worker could not follow.
#[derive(Debug)]
pub(crate) struct SkyQueryPlanner {
    pub(crate) fragments: Arc<SessionState>,
}

#[async_trait]
impl QueryPlanner for SkyQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let leaves = LeafPlanner { fragments: Arc::clone(&self.fragments) };
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(leaves)])
            .create_physical_plan(plan, session)
            .await
    }
}

struct LeafPlanner {
    fragments: Arc<SessionState>,
}

#[async_trait]
impl ExtensionPlanner for LeafPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(local) = node.as_any().downcast_ref::<ChunkLocal>() else { return Ok(None) };
        let fragment =
            DefaultPhysicalPlanner::default().create_physical_plan(&local.plan, self.fragments.as_ref()).await?;
        if fragment.properties().partitioning.partition_count() != 1 {
            return Err(internal_datafusion_err!("a fragment must have one partition"));
        }
        Ok(Some(Arc::new(ChunkDispatchExec::new(
            fragment,
            Arc::clone(&local.choice),
            local.tables.clone(),
            local.reason.clone(),
            session.config().target_partitions(),
        ))))
    }
}
