//! The sky functions as SQL runs them, against formulas written again here and published values.

mod areas;
mod astrometry;
mod cells;
mod geometries;
mod photometry;
mod predicates;
mod quantiles;
mod regions;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{AreaSpecRule, IntegerPredicateRule, aggregate_functions, compare_integer_predicates, scalar_functions};
use crate::schema::{KIND_KEY, ROLE_KEY};

type Rows = Vec<Vec<ScalarValue>>;

/// A session with the functions and rules in the order the engine has them.
fn context() -> SessionContext {
    let mut rules = SessionStateBuilder::new().with_default_features().build().analyzer().rules.clone();
    rules.insert(0, Arc::new(IntegerPredicateRule));
    rules.insert(1, Arc::new(AreaSpecRule));
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(1))
        .with_analyzer_rules(rules)
        .build();
    let context = SessionContext::new_with_state(state);
    for function in scalar_functions() {
        context.register_udf(function.as_ref().clone());
    }
    for function in aggregate_functions() {
        context.register_udaf(function.as_ref().clone());
    }
    context
}

/// The plan of a statement, its conditions rewritten as the engine does.
async fn plan(context: &SessionContext, sql: &str) -> Result<LogicalPlan, DataFusionError> {
    let state = context.state();
    let mut statement = state.sql_to_statement(sql, &datafusion::config::Dialect::Generic)?;
    if let Statement::Statement(inner) = &mut statement {
        compare_integer_predicates(inner);
    }
    state.statement_to_plan(statement).await
}

async fn query(context: &SessionContext, sql: &str) -> Result<Rows, DataFusionError> {
    let plan = plan(context, sql).await?;
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|c| ScalarValue::try_from_array(c, row)).collect::<Result<_, _>>()?);
        }
    }
    Ok(rows)
}

/// Asserts that an expression is a number near another.
#[track_caller]
fn close(got: Option<f64>, want: f64, tolerance: f64) {
    let got = got.unwrap();
    assert!((got - want).abs() <= tolerance, "{got} is not {want}");
}

/// Asserts what `SELECT <expressions> FROM VALUES` gives where the arguments are columns, and where they are constants:
/// `expression` names them `$1`, `$2` and so on, and a row of `rows` holds a number or NULL for each and the result,
/// exact to a share of its size.
async fn check_numbers(expression: &str, rows: &[(&[Option<f64>], Option<f64>)], share: f64) {
    let context = context();
    let literal = |number: &Option<f64>| match number {
        None => "CAST(NULL AS DOUBLE)".to_owned(),
        Some(n) if n.is_nan() => "CAST('NaN' AS DOUBLE)".to_owned(),
        Some(n) if n.is_infinite() => format!("CAST('{}inf' AS DOUBLE)", if *n < 0.0 { "-" } else { "" }),
        Some(n) => format!("CAST({n:e} AS DOUBLE)"),
    };
    let with = |argument: &dyn Fn(usize) -> String, count: usize| {
        (0..count).rev().fold(expression.to_owned(), |e, i| e.replace(&format!("${}", i + 1), &argument(i)))
    };
    let count = rows[0].0.len();
    let mut values = Vec::new();
    for (place, (arguments, expected)) in rows.iter().enumerate() {
        let constants: Vec<String> = arguments.iter().map(literal).collect();
        let sql = format!("SELECT CAST({} AS DOUBLE)", with(&|i| constants[i].clone(), count));
        let got = query(&context, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_number(&got[0][0], *expected, share, &sql);
        values.push(format!("({place}, {})", constants.join(", ")));
    }
    let names: Vec<String> = (0..count).map(|i| format!("a{i}")).collect();
    let call = with(&|i| names[i].clone(), count);
    let sql = format!(
        "SELECT CAST({call} AS DOUBLE) FROM (VALUES {}) AS t(place, {}) ORDER BY place",
        values.join(", "),
        names.join(", ")
    );
    let got = query(&context, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(got.len(), rows.len());
    for (row, (_, expected)) in got.iter().zip(rows) {
        assert_number(&row[0], *expected, share, &sql);
    }
}

#[track_caller]
fn assert_number(got: &ScalarValue, expected: Option<f64>, share: f64, sql: &str) {
    let ScalarValue::Float64(got) = got else { panic!("{sql} gave {got:?}") };
    match (got, expected) {
        (None, None) => {}
        (Some(got), Some(expected)) => {
            assert!((got - expected).abs() <= share * expected.abs(), "{sql} gave {got}, not {expected}");
        }
        _ => panic!("{sql} gave {got:?}, not {expected:?}"),
    }
}

/// The one value of `SELECT <expression>`.
async fn value(expression: &str) -> ScalarValue {
    let context = context();
    let rows = query(&context, &format!("SELECT {expression}")).await.unwrap();
    rows[0][0].clone()
}

async fn number(expression: &str) -> Option<f64> {
    match value(expression).await {
        ScalarValue::Float64(value) => value,
        ScalarValue::Int32(value) => value.map(f64::from),
        ScalarValue::Int64(value) => value.map(|v| v as f64),
        other => panic!("{expression} gave {other:?}"),
    }
}

async fn error(sql: &str) -> String {
    match query(&context(), sql).await {
        Ok(rows) => panic!("{sql} gave {rows:?}"),
        Err(e) => e.to_string(),
    }
}

/// Rows (id, ra, dec) spread over the sphere, about `focus`, at the poles and about RA 0.
fn sky_rows(seed: u64, focus: &[(f64, f64)]) -> Vec<(i64, f64, f64)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut positions =
        vec![(0.0, 0.0), (0.0, 90.0), (123.0, 90.0), (0.0, -90.0), (359.999_999_999, 0.0), (180.0, 0.0)];
    for _ in 0..2_000 {
        let z: f64 = rng.random_range(-1.0..=1.0);
        positions.push((rng.random_range(0.0..360.0), z.asin().to_degrees()));
    }
    for &(ra, dec) in focus {
        positions.push((ra, dec));
        for _ in 0..2_000 {
            let radius = 10f64.powf(rng.random_range(-4.0..1.3));
            let angle: f64 = rng.random_range(0.0..std::f64::consts::TAU);
            let new_dec: f64 = (dec + radius * angle.cos()).clamp(-90.0, 90.0);
            let new_ra = (ra + radius * angle.sin() / new_dec.to_radians().cos().max(1e-3)).rem_euclid(360.0);
            positions.push((new_ra, new_dec));
        }
    }
    positions.into_iter().enumerate().map(|(id, (ra, dec))| (id as i64, ra, dec)).collect()
}

/// Registers a director table of the rows; a NULL and a position out of range follow them.
fn register(context: &SessionContext, name: &str, kind: &str, rows: &[(i64, f64, f64)]) {
    let tagged = |field: Field, role: &str| {
        field.with_metadata(HashMap::from([
            (ROLE_KEY.to_owned(), role.to_owned()),
            (KIND_KEY.to_owned(), kind.to_owned()),
        ]))
    };
    let schema = Arc::new(Schema::new(vec![
        tagged(Field::new("id", DataType::Int64, true), "id"),
        tagged(Field::new("ra", DataType::Float64, true), "ra"),
        tagged(Field::new("dec", DataType::Float64, true), "dec"),
    ]));
    let bad =
        [(-1, None, Some(0.0)), (-2, Some(0.0), None), (-3, Some(0.0), Some(91.0)), (-4, Some(f64::NAN), Some(0.0))];
    let all: Vec<(i64, Option<f64>, Option<f64>)> =
        rows.iter().map(|&(id, ra, dec)| (id, Some(ra), Some(dec))).chain(bad).collect();
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(all.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
            Arc::new(all.iter().map(|r| r.1).collect::<Float64Array>()),
            Arc::new(all.iter().map(|r| r.2).collect::<Float64Array>()),
        ],
    )
    .unwrap();
    let table = MemTable::try_new(schema, vec![vec![batch]]).unwrap();
    context.register_table(name, Arc::new(Filtered(table))).unwrap();
}

/// A table that is shown the filters above it, as the engine's tables are.
#[derive(Debug)]
struct Filtered(MemTable);

#[async_trait::async_trait]
impl TableProvider for Filtered {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        self.0.scan(state, projection, &[], None).await
    }
}

/// Ids that `SELECT id FROM sky WHERE <condition>` gives, ascending.
async fn ids(context: &SessionContext, condition: &str) -> Vec<i64> {
    let rows = query(context, &format!("SELECT id FROM sky WHERE {condition}"))
        .await
        .unwrap_or_else(|e| panic!("{condition}: {e}"));
    let mut ids: Vec<i64> = rows
        .into_iter()
        .map(|row| match row[0] {
            ScalarValue::Int64(Some(id)) => id,
            ref other => panic!("{other:?}"),
        })
        .collect();
    ids.sort_unstable();
    ids
}

/// The conjuncts of all filters, and those shown to tables.
fn filters(plan: &LogicalPlan) -> Vec<Expr> {
    let mut found = Vec::new();
    plan.apply(|node| {
        match node {
            LogicalPlan::Filter(filter) => found.extend(split_conjunction(&filter.predicate).into_iter().cloned()),
            LogicalPlan::TableScan(scan) => found.extend(scan.filters.iter().cloned()),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    found
}

/// Haversine, in degrees.
fn haversine(ra1: f64, dec1: f64, ra2: f64, dec2: f64) -> f64 {
    let (ra1, dec1, ra2, dec2) = (ra1.to_radians(), dec1.to_radians(), ra2.to_radians(), dec2.to_radians());
    let h = ((dec2 - dec1) / 2.0).sin().powi(2) + dec1.cos() * dec2.cos() * ((ra2 - ra1) / 2.0).sin().powi(2);
    (2.0 * h.sqrt().min(1.0).asin()).to_degrees()
}

fn vector(ra: f64, dec: f64) -> [f64; 3] {
    let (ra, dec) = (ra.to_radians(), dec.to_radians());
    [ra.cos() * dec.cos(), ra.sin() * dec.cos(), dec.sin()]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}
