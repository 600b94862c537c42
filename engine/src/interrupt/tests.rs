//! Endless work ends when it is told to, and other work is what it was.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{InterruptExec, InterruptRule, protect};
use crate::EngineError;

/// Time after which the work is told to stop, when joins have read their first side.
const BEFORE: Duration = Duration::from_millis(600);
/// Time in which it must have stopped: in a debug build, on a machine that builds something else.
const WITHIN: Duration = Duration::from_secs(2);
/// Rows of each side of a join. A debug build pairs a row with them in a tenth of a second, an
/// optimized one with a hundred times as many.
const ROWS: u64 = 200_000;

/// Work that takes hours, and the plan node that does it.
const ENDLESS: [(&str, &str); 17] = [
    ("NestedLoopJoinExec", "SELECT count(*) FROM a JOIN b ON a.value > b.value + 5000000"),
    ("NestedLoopJoinExec", "SELECT count(*) FROM a LEFT JOIN b ON a.value + b.value < 0"),
    ("NestedLoopJoinExec", "SELECT count(*) FROM a FULL JOIN b ON a.value + b.value < 0"),
    ("NestedLoopJoinExec", "SELECT count(*) FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.value > a.value + 5000000)"),
    (
        "NestedLoopJoinExec",
        "SELECT count(*) FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.value > a.value + 5000000)",
    ),
    ("NestedLoopJoinExec", "SELECT sum(a.value) FROM a JOIN b ON a.value <> b.value"),
    ("CrossJoinExec", "SELECT count(*) FROM a, b"),
    ("CrossJoinExec", "SELECT max(a.value) FROM a CROSS JOIN b"),
    ("HashJoinExec", "SELECT count(*) FROM a JOIN b ON a.value / 2000000 = b.value / 2000000"),
    (
        "HashJoinExec",
        "SELECT count(*) FROM a JOIN b ON a.value / 2000000 = b.value / 2000000 AND a.value + b.value < 0",
    ),
    (
        "HashJoinExec",
        "SELECT count(*) FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.value / 2000000 = b.value / 2000000 AND a.value + \
         b.value < 0)",
    ),
    ("AggregateExec", "SELECT sum(value) FROM generate_series(1, 1000000000000)"),
    ("AggregateExec", "SELECT count(DISTINCT value % 10) FROM generate_series(1, 1000000000000)"),
    ("RecursiveQueryExec", "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"),
    ("RecursiveQueryExec", "WITH RECURSIVE t AS (SELECT 1 AS n UNION SELECT n + 1 FROM t) SELECT max(n) FROM t"),
    (
        "WindowAggExec",
        "SELECT max(s) FROM (SELECT sum(value) OVER (ORDER BY value) AS s FROM generate_series(1, 1000000000))",
    ),
    ("SortExec", "SELECT value FROM generate_series(1, 1000000000) ORDER BY value % 1000"),
];

const SORT_MERGE: [(&str, &str); 2] = [
    (
        "SortMergeJoinExec",
        "SELECT count(*) FROM a JOIN b ON a.value / 2000000 = b.value / 2000000 AND a.value + b.value < 0",
    ),
    (
        "SortMergeJoinExec",
        "SELECT count(*) FROM a RIGHT JOIN b ON a.value / 2000000 = b.value / 2000000 AND a.value + b.value < 0",
    ),
];

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn context(hash_joins: bool) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().optimizer.prefer_hash_join = hash_joins;
    SessionContext::new_with_config(config)
}

/// The protected plan of a query on two tables of so many rows.
async fn protected(
    context: &SessionContext,
    sql: &str,
    rows: u64,
    token: &CancellationToken,
) -> Arc<dyn ExecutionPlan> {
    for name in ["a", "b"] {
        context
            .sql(&format!("CREATE OR REPLACE VIEW {name} AS SELECT * FROM generate_series(1, {rows})"))
            .await
            .unwrap();
    }
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    protect(plan, token).unwrap()
}

async fn drain(mut stream: SendableRecordBatchStream) -> Option<DataFusionError> {
    while let Some(batch) = stream.next().await {
        if let Err(error) = batch {
            return Some(error);
        }
    }
    None
}

fn is_cancelled(error: &DataFusionError) -> bool {
    let mut error: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = error {
        if matches!(found.downcast_ref::<EngineError>(), Some(EngineError::Cancelled)) {
            return true;
        }
        error = found.source();
    }
    false
}

fn stops(context: &SessionContext, node: &str, sql: &str) {
    let runtime = runtime();
    let token = CancellationToken::new();
    let plan = runtime.block_on(protected(context, sql, ROWS, &token));
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    assert!(shown.contains(node), "{sql}: {shown}");
    let task = context.task_ctx();
    let running = runtime.spawn(async move { drain(execute_stream(plan, task).unwrap()).await });
    thread::sleep(BEFORE);
    assert!(!running.is_finished(), "{sql} is not endless");
    let told = Instant::now();
    token.cancel();
    let error = runtime.block_on(running).unwrap().unwrap_or_else(|| panic!("{sql}: ended as if complete"));
    assert!(is_cancelled(&error), "{sql}: {error:?}");
    // Tasks that the plan spawned have ended too: the runtime waits for what still runs.
    runtime.shutdown_timeout(Duration::from_secs(30));
    let took = told.elapsed();
    assert!(took < WITHIN, "{sql}: stopped {took:?} after it was told");
}

#[test]
fn endless_work_stops_when_cancelled() {
    for (node, sql) in ENDLESS {
        stops(&context(true), node, sql);
    }
    for (node, sql) in SORT_MERGE {
        stops(&context(false), node, sql);
    }
}

#[test]
fn a_plan_that_waits_wakes_up_when_cancelled() {
    let runtime = runtime();
    let token = CancellationToken::new();
    let context = context(true);
    let plan = runtime.block_on(async {
        let plan = context.sql("SELECT 1").await.unwrap().create_physical_plan().await.unwrap();
        protect(Arc::new(Waiting(plan)), &token).unwrap()
    });
    let task = context.task_ctx();
    let running = runtime.spawn(async move { drain(execute_stream(plan, task).unwrap()).await });
    thread::sleep(BEFORE);
    assert!(!running.is_finished());
    let told = Instant::now();
    token.cancel();
    assert!(is_cancelled(&runtime.block_on(running).unwrap().unwrap()));
    assert!(told.elapsed() < WITHIN);
}

/// A leaf that never gives anything, as a worker that hangs.
#[derive(Debug)]
struct Waiting(Arc<dyn ExecutionPlan>);

impl datafusion::physical_plan::DisplayAs for Waiting {
    fn fmt_as(
        &self,
        _: datafusion::physical_plan::DisplayFormatType,
        f: &mut std::fmt::Formatter<'_>,
    ) -> std::fmt::Result {
        write!(f, "Waiting")
    }
}

impl ExecutionPlan for Waiting {
    fn name(&self) -> &str {
        "Waiting"
    }

    fn properties(&self) -> &Arc<datafusion::physical_plan::PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(
            &Arc<dyn datafusion::physical_expr::PhysicalExpr>,
        ) -> datafusion::common::Result<datafusion::common::tree_node::TreeNodeRecursion>,
    ) -> datafusion::common::Result<datafusion::common::tree_node::TreeNodeRecursion> {
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        _: usize,
        _: Arc<datafusion::execution::TaskContext>,
    ) -> datafusion::common::Result<SendableRecordBatchStream> {
        Ok(Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
            self.0.schema(),
            futures::stream::pending(),
        )))
    }
}

// Cutting the probing side changes no row, whatever the join.
#[test]
fn protected_joins_give_the_same_rows() {
    let runtime = runtime();
    let queries: Vec<String> = ["a.value = b.value % 900", "a.value / 100 = b.value / 200 AND a.value < b.value", "a.value * 400 < b.value"]
        .iter()
        .flat_map(|on| {
            ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "RIGHT SEMI JOIN", "LEFT ANTI JOIN", "RIGHT ANTI JOIN"]
                .iter()
                .map(move |join| format!("SELECT * FROM a {join} b ON {on}"))
        })
        .chain([
            "SELECT count(*), sum(a.value), sum(b.value) FROM a, b".to_owned(),
            "SELECT a.value FROM a WHERE a.value < 5 OR EXISTS (SELECT 1 FROM b WHERE b.value = a.value * 7)".to_owned(),
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 50) SELECT * FROM t JOIN a ON n = value ORDER BY 1"
                .to_owned(),
            "SELECT value, sum(value) OVER (ORDER BY value) FROM a ORDER BY 1 LIMIT 7".to_owned(),
        ])
        .collect();
    for hash_joins in [true, false] {
        let context = context(hash_joins);
        for sql in &queries {
            let (plain, ours) = runtime.block_on(async {
                let token = CancellationToken::new();
                let ours = protected(&context, sql, 1_500, &token).await;
                let plain = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
                assert_eq!(plain.schema(), ours.schema());
                (collect(plain, context.task_ctx()).await.unwrap(), collect(ours, context.task_ctx()).await.unwrap())
            });
            let rows: usize = plain.iter().map(RecordBatch::num_rows).sum();
            assert!(rows > 0, "{sql} gives no rows");
            assert_eq!(sorted_lines(&ours), sorted_lines(&plain), "{sql}");
        }
    }
}

fn sorted_lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_rule_protects_what_the_optimizer_made() {
    use datafusion::config::ConfigOptions;
    use datafusion::physical_optimizer::PhysicalOptimizerRule;
    let context = context(true);
    let plan = runtime().block_on(async {
        let frame = context
            .sql("SELECT * FROM generate_series(1, 3) a JOIN generate_series(1, 3) b ON a.value < b.value")
            .await;
        frame.unwrap().create_physical_plan().await.unwrap()
    });
    let rule = InterruptRule::new(CancellationToken::new());
    let protected = rule.optimize(Arc::clone(&plan), &ConfigOptions::new()).unwrap();
    assert_eq!(protected.schema(), plan.schema());
    assert_eq!(protected.properties().output_partitioning(), plan.properties().output_partitioning());
    let root = protected.downcast_ref::<InterruptExec>().unwrap();
    let count = displayable(root).indent(false).to_string().matches("InterruptExec").count();
    // The root, one above the join, two below it, two above the leaves.
    assert_eq!(count, 6);
}
