//! How fast the operator is by itself: rows of both sides for each second of CPU time.
//!
//! By hand, for a figure depends on the machine:
//! `cargo test --release -p skyflight-engine --lib spherical::measure -- --ignored --nocapture`

use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionState;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use skyflight_sky::{Degrees, Position};

use super::{plan_spherical_joins, want_nearest};
use crate::plan::planner::SkyQueryPlanner;
use crate::registry;

const ROWS: usize = 1_000_000;

/// `a` and `b` are the same stars measured twice, `c` are others, and `d` is where half of them crowd.
fn tables() -> Vec<(&'static str, Vec<Position>)> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut sky = |_| {
        let dec = random.random_range(-1.0_f64..1.0).asin().to_degrees();
        Position::new(Degrees(random.random_range(0.0..360.0)), Degrees(dec)).unwrap()
    };
    let a: Vec<Position> = (0..ROWS).map(&mut sky).collect();
    let c: Vec<Position> = (0..ROWS).map(&mut sky).collect();
    let mut again = |near: &Position, deg: f64| {
        let dec = near.dec().0 + random.random_range(-deg..deg);
        Position::new(near.ra(), Degrees(dec.clamp(-90.0, 90.0))).unwrap()
    };
    let b = a.iter().map(|near| again(near, 0.3 / 3600.0)).collect();
    let d = a.iter().enumerate().map(|(at, near)| if at % 2 == 0 { again(&a[0], 0.1) } else { *near }).collect();
    vec![("a", a), ("b", b), ("c", c), ("d", d)]
}

/// Rows in the order of chunk files.
fn batches(mut positions: Vec<Position>, schema: &SchemaRef) -> Vec<RecordBatch> {
    positions.sort_by_key(|position| position.healpix29());
    let batch = |(number, part): (usize, &[Position])| {
        let first = (number * 8192) as i64;
        let columns: [Arc<dyn datafusion::arrow::array::Array>; 3] = [
            Arc::new(Int64Array::from_iter_values(first..first + part.len() as i64)),
            Arc::new(Float64Array::from_iter_values(part.iter().map(|position| position.ra().0))),
            Arc::new(Float64Array::from_iter_values(part.iter().map(|position| position.dec().0))),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns.to_vec()).unwrap()
    };
    positions.chunks(8192).enumerate().map(batch).collect()
}

fn state() -> SessionState {
    let config = || SessionConfig::new().with_target_partitions(1);
    let fragments = Arc::new(registry::state_builder(config()).build());
    registry::state_builder(config()).with_query_planner(Arc::new(SkyQueryPlanner { fragments })).build()
}

/// CPU time of this thread in seconds.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[test]
#[ignore = "a measurement of some seconds, to be read by somebody"]
fn rows_per_cpu_second() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let column = |name, data_type| Field::new(name, data_type, false);
    let columns = [("id", DataType::Int64), ("ra", DataType::Float64), ("dec", DataType::Float64)];
    let schema = Arc::new(Schema::new(columns.map(|(name, data_type)| column(name, data_type)).to_vec()));
    let context = SessionContext::new_with_state(state());
    for (name, positions) in tables() {
        let table = MemTable::try_new(Arc::clone(&schema), vec![batches(positions, &schema)]).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    let near = |a, b| format!("from {a} a join {b} b on separation(a.ra, a.dec, b.ra, b.dec) < 1.0 / 3600");
    let nearest = "row_number() over (partition by a.id order by separation(a.ra, a.dec, b.ra, b.dec))";
    let questions = [
        ("pairs counted, all rows match", format!("select count(*) {}", near("a", "b"))),
        ("pairs counted, none matches", format!("select count(*) {}", near("a", "c"))),
        ("pairs counted, half the rows crowd", format!("select count(*) {}", near("d", "d"))),
        ("ids, all rows match", format!("select a.id, b.id {}", near("a", "b"))),
        ("ids and separations, all rows match", {
            format!("select a.id, b.id, separation(a.ra, a.dec, b.ra, b.dec) {}", near("a", "b"))
        }),
        ("the nearest of each, numbered", {
            format!("select id from (select a.id, {nearest} as n {}) x where n = 1", near("a", "b"))
        }),
    ];
    for (name, sql) in questions {
        let (rows, seconds) = runtime.block_on(async {
            let plan = context.sql(&sql).await.unwrap().into_optimized_plan().unwrap();
            let plan = want_nearest(plan_spherical_joins(plan).unwrap()).unwrap();
            let state = context.state();
            let mut best = (0, f64::INFINITY);
            for _ in 0..5 {
                let plan = state.query_planner().create_physical_plan(&plan, &state).await.unwrap();
                let text = displayable(plan.as_ref()).indent(false).to_string();
                assert!(text.contains("SphericalJoinExec"), "{text}");
                let begun = cpu_seconds();
                let batches: Vec<RecordBatch> =
                    plan.execute(0, context.task_ctx()).unwrap().try_collect().await.unwrap();
                let seconds = cpu_seconds() - begun;
                let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
                best = (rows, seconds.min(best.1));
            }
            best
        });
        let speed = 2.0 * ROWS as f64 / seconds / 1e6;
        println!("{name}: {rows} rows out, {:.0} ms, {speed:.1} million rows in per CPU second", seconds * 1e3);
    }
}
