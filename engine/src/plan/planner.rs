//! From a marked logical plan to a physical one: each [`ChunkLocal`] becomes a leaf, each
//! [`SphericalJoin`] its operator.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::dispatch::ChunkDispatchExec;
use super::local::ChunkLocal;
use crate::spherical::SphericalJoin;

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
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(leaves), Arc::new(SphericalPlanner)])
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
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(SphericalPlanner)]);
        let mut fragment = planner.create_physical_plan(&local.plan, self.fragments.as_ref()).await?;
        if fragment.properties().partitioning.partition_count() != 1 {
            // A chunk's own rows and those beside it are two partitions.
            fragment = Arc::new(CoalescePartitionsExec::new(fragment));
        }
        let leaf = ChunkDispatchExec::new(
            fragment,
            Arc::clone(&local.choice),
            local.tables.clone(),
            local.reason.clone(),
            session.config().target_partitions(),
        );
        Ok(Some(Arc::new(leaf.with_known_rows()?)))
    }
}

/// In the configuration of a query: its spherical joins above the leaves are to be divided.
#[derive(Debug)]
pub(crate) struct DivideByCell;

/// Plans a spherical join, beside a chunk or above the leaves.
struct SphericalPlanner;

#[async_trait]
impl ExtensionPlanner for SphericalPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(join) = node.as_any().downcast_ref::<SphericalJoin>() else { return Ok(None) };
        let [left, right] = inputs else { return internal_err!("a spherical join has two inputs") };
        let physical = |expr: &Expr, schema: &DFSchema| planner.create_physical_expr(expr, schema, session, context);
        let join = join.physical(left, right, &physical)?;
        let join = join.with_smaller_side_arranged()?.unwrap_or(join);
        Ok(Some(Arc::new(match session.config().get_extension::<DivideByCell>() {
            Some(_) => join.by_cell()?.unwrap_or(join),
            None => join,
        })))
    }
}
