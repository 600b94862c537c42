//! EXPLAIN: which chunks are chosen of how many, what runs beside them, and what is left above.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
    execute_stream,
};
use futures::TryStreamExt;

use crate::dispatch::QueryCounters;
use crate::estimate::Estimate;
use crate::interrupt::{QueryCancel, protect};
use crate::locality::Marked;
use crate::plan::dispatch::{ChunkDispatchExec, LeafContext, fragment_text};
use crate::shuffle::exec::ShuffledExec;

/// Gives the plan of a query as rows of (`plan_type`, `plan`); with `analyze` runs it first and
/// adds what it cost.
#[derive(Debug)]
pub(crate) struct ExplainExec {
    rows: Vec<(String, String)>,
    plan: Arc<dyn ExecutionPlan>,
    analyze: bool,
    properties: Arc<PlanProperties>,
}

impl ExplainExec {
    pub(crate) fn new(
        logical: &Marked,
        plan: Arc<dyn ExecutionPlan>,
        shuffle: Option<String>,
        analyze: bool,
    ) -> Result<Self> {
        let shuffled = plan.downcast_ref::<ShuffledExec>();
        let merge = shuffled.map_or(&plan, ShuffledExec::merge);
        let mut rows = vec![
            ("logical_plan".to_string(), logical.plan.display_indent().to_string()),
            ("merge_plan".to_string(), DisplayableExecutionPlan::new(merge.as_ref()).indent(false).to_string()),
        ];
        rows.extend(logical.asked.iter().map(|asked| ("ids first".to_string(), asked.clone())));
        rows.extend(logical.not_local.iter().map(|reason| ("not local".to_string(), reason.clone())));
        rows.extend(shuffle.map(|why| ("shuffle".to_string(), why)));
        rows.extend(shuffled.map(|shuffled| ("stages".to_string(), shuffled.stages().to_string())));
        rows.push(("estimate".to_string(), Estimate::of(merge)?.to_string()));
        for (number, leaf) in leaves(merge).into_iter().enumerate() {
            rows.push((format!("chunks {}", number + 1), chunks_text(&leaf)));
            rows.push((format!("fragment {}", number + 1), leaf.fragment));
        }
        let field = |name| Field::new(name, DataType::Utf8, true);
        let schema = Arc::new(Schema::new(vec![field("plan_type"), field("plan")]));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(ExplainExec { rows, plan, analyze, properties: Arc::new(properties) })
    }

    /// The plan that it runs, if it does.
    pub(crate) fn analyzed(&self) -> Option<&Arc<dyn ExecutionPlan>> {
        self.analyze.then_some(&self.plan)
    }
}

/// What EXPLAIN says of one leaf.
struct LeafText {
    chosen: usize,
    total: usize,
    workers: usize,
    reason: String,
    fragment: String,
}

fn leaves(plan: &Arc<dyn ExecutionPlan>) -> Vec<LeafText> {
    let mut found = Vec::new();
    // The walk cannot fail: its closure does not.
    let _ = plan.apply(|node| {
        if let Some(leaf) = node.downcast_ref::<ChunkDispatchExec>() {
            found.push(LeafText {
                chosen: leaf.choice().chunks.len(),
                total: leaf.choice().total,
                workers: leaf.worker_count(),
                reason: leaf.reason().to_string(),
                fragment: fragment_text(leaf),
            });
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

fn chunks_text(leaf: &LeafText) -> String {
    format!("{} of {} chunks on {} workers; local because: {}", leaf.chosen, leaf.total, leaf.workers, leaf.reason)
}

impl DisplayAs for ExplainExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ExplainExec: analyze={}", self.analyze)
    }
}

impl ExecutionPlan for ExplainExec {
    fn name(&self) -> &'static str {
        "ExplainExec"
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
        let schema = self.properties.eq_properties.schema();
        let schema: SchemaRef = Arc::clone(schema);
        let (plan, mut rows, analyze) = (Arc::clone(&self.plan), self.rows.clone(), self.analyze);
        let out_schema = Arc::clone(&schema);
        let answer = async move {
            if analyze {
                rows.push(("analyze".to_string(), analyzed(plan, context).await?));
            }
            let (types, plans): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
            let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(types)), Arc::new(StringArray::from(plans))];
            Ok(RecordBatch::try_new(out_schema, columns)?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(answer))))
    }
}

/// Runs the plan to its end and tells what it cost, from counters that do not depend on load.
async fn analyzed(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<String> {
    let config = context.session_config();
    let leaf = config
        .get_extension::<LeafContext>()
        .ok_or_else(|| internal_datafusion_err!("EXPLAIN ANALYZE ran outside a query"))?;
    let plan = match config.get_extension::<QueryCancel>() {
        Some(cancel) => protect(plan, &cancel.0)?,
        None => plan,
    };
    let started = Instant::now();
    let mut stream = execute_stream(Arc::clone(&plan), Arc::clone(&context))?;
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows();
    }
    let counters = &leaf.query.counters;
    let lines = [
        ("rows", rows as u64),
        ("elapsed_ms", started.elapsed().as_millis() as u64),
        ("chunks_done", QueryCounters::get(&counters.chunks_done)),
        ("chunks_planned", QueryCounters::get(&counters.chunks_planned)),
        ("chunks_total", QueryCounters::get(&counters.chunks_total)),
        ("rows_read", QueryCounters::get(&counters.rows_read)),
        ("bytes_read", QueryCounters::get(&counters.bytes_read)),
        ("rows_received", QueryCounters::get(&counters.rows_received)),
        ("bytes_received", QueryCounters::get(&counters.bytes_received)),
        ("streams", QueryCounters::get(&counters.streams)),
        ("retries", QueryCounters::get(&counters.retries)),
    ];
    let mut text: String = lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    text.push_str(&DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false).to_string());
    Ok(text)
}
