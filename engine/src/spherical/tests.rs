//! Joins divided by cells give what pairing every row with every other gives. Those that are not divided
//! are tested with chunks, in `tests/engine/near.rs`.

use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{plan_spherical_joins, want_nearest};
use crate::plan::planner::{DivideByCell, SkyQueryPlanner};
use crate::registry;

/// As many rows at each pole, about RA 0, in one spot and everywhere; some have no position.
fn table(seed: u64, rows: usize) -> MemTable {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let places: Vec<(Option<f64>, Option<f64>)> = (0..rows)
        .map(|row| {
            let (ra, dec) = match row % 5 {
                0 => (random.random_range(0.0..360.0), random.random_range(88.0..=90.0)),
                1 => (random.random_range(0.0..360.0), random.random_range(-90.0..=-88.0)),
                2 => (random.random_range(-1.0..1.0_f64).rem_euclid(360.0), random.random_range(-1.0..1.0)),
                3 => (random.random_range(80.0..80.2), random.random_range(-42.0..-41.8)),
                _ => (random.random_range(0.0..360.0), random.random_range(-90.0..90.0)),
            };
            match row % 23 {
                7 => (None, Some(dec)),
                8 => (Some(f64::NAN), Some(dec)),
                9 => (Some(ra), Some(95.0)),
                _ => (Some(ra), Some(dec)),
            }
        })
        .collect();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from_iter_values(0..rows as i64)) as _, false),
        ("ra", Arc::new(places.iter().map(|place| place.0).collect::<Float64Array>()) as _, true),
        ("dec", Arc::new(places.iter().map(|place| place.1).collect::<Float64Array>()) as _, true),
    ])
    .unwrap();
    let parts = (0..3).map(|part| vec![batch.slice(part * rows / 3, (part + 1) * rows / 3 - part * rows / 3)]);
    MemTable::try_new(batch.schema(), parts.collect()).unwrap()
}

fn context() -> SessionContext {
    let fragments = Arc::new(registry::state_builder(SessionConfig::new()).build());
    let config = SessionConfig::new().with_target_partitions(4).with_batch_size(64);
    let state = registry::state_builder(config.with_extension(Arc::new(DivideByCell)))
        .with_query_planner(Arc::new(SkyQueryPlanner { fragments }))
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_table("a", Arc::new(table(1, 250))).unwrap();
    context.register_table("b", Arc::new(table(2, 350))).unwrap();
    context
}

/// The answer, and the plan that gave it.
async fn answer(context: &SessionContext, sql: &str, near: bool) -> (Vec<String>, String) {
    let mut plan = context.sql(sql).await.unwrap().into_optimized_plan().unwrap();
    if near {
        plan = want_nearest(plan_spherical_joins(plan).unwrap()).unwrap();
    }
    let state = context.state();
    let plan = state.query_planner().create_physical_plan(&plan, &state).await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    let batches = collect(plan, context.task_ctx()).await.unwrap();
    let mut lines: Vec<String> =
        pretty_format_batches(&batches).unwrap().to_string().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    (lines, text)
}

#[tokio::test]
async fn joins_divided_by_cells_give_the_same() {
    let context = context();
    let within = |radius| format!("separation(a.ra, a.dec, b.ra, b.dec) < {radius}");
    let mut questions = Vec::new();
    for radius in ["0.02", "0.3", "1.9"] {
        let on = within(radius);
        for join in ["join", "left join", "right join"] {
            questions.push(format!("select a.id, b.id as other, b.dec from a {join} b on {on}"));
            questions.push(format!("select a.id, b.id as other from b {join} a on {on} and a.id % 3 <> b.id % 2"));
            questions.push(format!("select count(*) from a {join} b on {on}"));
        }
        for join in ["left semi join", "left anti join"] {
            questions.push(format!("select a.* from a {join} b on {on}"));
            questions.push(format!("select b.* from b {join} a on {on} and a.id > b.id"));
        }
        for join in ["right semi join", "right anti join"] {
            questions.push(format!("select b.id from a {join} b on {on}"));
        }
        questions.push(format!(
            "select * from (select a.id, b.id as other, row_number() over (partition by a.id order by b.id desc) as n \
             from a left join b on {on}) x where n <= 2"
        ));
    }
    for sql in questions {
        // The borders of the table and its head are four lines.
        let (expected, _) = answer(&context, &sql, false).await;
        let (got, plan) = answer(&context, &sql, true).await;
        assert!(expected.len() > 4, "{sql} tests nothing");
        assert!(plan.contains("by cell") && plan.contains("RepartitionExec: partitioning=Hash([_near_cell"), "{plan}");
        assert_eq!(got, expected, "{sql}\n{plan}");
    }
}
