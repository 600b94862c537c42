//! `scisql_median` and `scisql_percentile`, against scisql's own tests and numpy.

use super::*;

async fn one(sql: &str) -> Option<f64> {
    let rows = query(&context(), sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    match rows[0][0] {
        ScalarValue::Float64(value) => value,
        ref other => panic!("{sql} gave {other:?}"),
    }
}

/// scisql, `test/testMedian.py` and `test/testPercentile.py`.
#[tokio::test]
async fn values_of_scisqls_own_tests() {
    for n in [100, 10_000] {
        assert_eq!(one(&format!("SELECT SCISQL_MEDIAN(value) FROM range(0, {n})")).await, Some(0.5 * f64::from(n - 1)));
        let odd = format!("SELECT scisql_median(value) FROM range(0, {n} + 1)");
        assert_eq!(one(&odd).await, Some(0.5 * f64::from(n)));
        assert_eq!(one(&format!("SELECT scisql_median(1) FROM range(0, {n})")).await, Some(1.0));
    }
    for n in [101, 10_001] {
        let quartile = f64::from((n - 1) / 4);
        assert_eq!(one(&format!("SELECT scisql_percentile(value, 25) FROM range(0, {n})")).await, Some(quartile));
        let more = format!("SELECT scisql_percentile(value, 25) FROM range(0, {n} + 1)");
        assert_eq!(one(&more).await, Some(quartile + 0.25));
    }
    // The percentage of each group is its own.
    let sql = "SELECT g, scisql_percentile(x, g * 25) FROM \
               (SELECT value % 3 AS g, CAST(value / 3 AS DOUBLE) AS x FROM range(0, 303)) GROUP BY g ORDER BY g";
    let rows = query(&context(), sql).await.unwrap();
    let want = [0.0, 25.0, 50.0].map(|x| ScalarValue::Float64(Some(x)));
    assert_eq!(rows.into_iter().map(|row| row[1].clone()).collect::<Vec<_>>(), want);
}

/// numpy 2.4.6, `numpy.percentile([3.5, -1, 7.25, 1e9, 0.125], p)`.
#[tokio::test]
async fn percentiles_are_numpys() {
    for (percent, want) in
        [(0.0, -1.0), (10.0, -0.55), (33.3, 1.245_5), (50.0, 3.5), (99.0, 960_000_000.29), (100.0, 1e9)]
    {
        let sql =
            format!("SELECT scisql_percentile(column1, {percent}) FROM (VALUES (3.5), (-1), (7.25), (1e9), (0.125))");
        close(one(&sql).await, want, 1e-6);
    }
}

#[tokio::test]
async fn null_and_nan_do_not_count() {
    let values = "FROM (VALUES (1e0, 50e0), (NULL, 50e0), (CAST('NaN' AS DOUBLE), 50e0), (4e0, 50e0)) AS t(x, p)";
    assert_eq!(one(&format!("SELECT scisql_median(x) {values}")).await, Some(2.5));
    assert_eq!(one(&format!("SELECT scisql_percentile(x, p) {values}")).await, Some(2.5));
    assert_eq!(one(&format!("SELECT scisql_median(x) {values} WHERE NOT x < 5")).await, None);
    assert_eq!(one(&format!("SELECT scisql_median(x) {values} WHERE p < 5")).await, None);
    assert_eq!(one(&format!("SELECT scisql_percentile(x, CAST(NULL AS DOUBLE)) {values}")).await, None);
    assert_eq!(one(&format!("SELECT scisql_percentile(x, p + 51) {values}")).await, None);
    assert_eq!(one(&format!("SELECT scisql_median(x) FILTER (WHERE x > 1) {values}")).await, Some(4.0));
    assert_eq!(one("SELECT scisql_median(NULL)").await, None);
}

#[tokio::test]
async fn infinities_have_their_place() {
    let values =
        "FROM (VALUES (CAST('inf' AS DOUBLE)), (CAST('inf' AS DOUBLE)), (1e0), (CAST('-inf' AS DOUBLE))) AS t(x)";
    assert_eq!(one(&format!("SELECT scisql_percentile(x, 90) {values}")).await, Some(f64::INFINITY));
    assert_eq!(one(&format!("SELECT scisql_percentile(x, 0) {values}")).await, Some(f64::NEG_INFINITY));
}

#[tokio::test]
async fn distinct_values_count_once() {
    let values = "FROM (VALUES (1e0), (1e0), (1e0), (2e0), (9e0)) AS t(x)";
    assert_eq!(one(&format!("SELECT scisql_median(x) {values}")).await, Some(1.0));
    assert_eq!(one(&format!("SELECT scisql_median(DISTINCT x) {values}")).await, Some(2.0));
    assert_eq!(one(&format!("SELECT scisql_percentile(DISTINCT x, 75) {values}")).await, Some(5.5));
}

/// Partial aggregates in four partitions and a final one, against a sort of each group; and as a window.
#[tokio::test]
async fn groups_are_put_together_from_parts() {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(4).with_batch_size(100))
        .build();
    let context = SessionContext::new_with_state(state);
    for function in aggregate_functions() {
        context.register_udaf(function.as_ref().clone());
    }
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let rows: Vec<(i64, Option<f64>)> = (0..5_000)
        .map(|_| (rng.random_range(0..60), rng.random_bool(0.9).then(|| rng.random_range(-5.0..5.0))))
        .collect();
    let schema =
        Arc::new(Schema::new(vec![Field::new("g", DataType::Int64, true), Field::new("x", DataType::Float64, true)]));
    let batches = rows.chunks(1_250).map(|rows| {
        let groups = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>());
        let values = Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>());
        vec![RecordBatch::try_new(Arc::clone(&schema), vec![groups, values]).unwrap()]
    });
    context.register_table("t", Arc::new(MemTable::try_new(Arc::clone(&schema), batches.collect()).unwrap())).unwrap();
    let got = query(&context, "SELECT g, scisql_median(x), scisql_percentile(x, 80) FROM t GROUP BY g ORDER BY g");
    let got = got.await.unwrap();
    assert_eq!(got.len(), 60);
    for row in &got {
        let ScalarValue::Int64(Some(group)) = row[0] else { panic!("{row:?}") };
        let mut values: Vec<f64> = rows.iter().filter(|row| row.0 == group).filter_map(|row| row.1).collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
            low + (place - place.floor()) * (high - low)
        };
        assert_number(&row[1], Some(at(0.5)), 1e-12, "median");
        assert_number(&row[2], Some(at(0.8)), 1e-12, "percentile");
    }
    let window = "SELECT max(abs(m - n)) FROM (SELECT scisql_median(x) OVER (PARTITION BY g) AS m, n FROM t JOIN \
                  (SELECT g AS h, scisql_median(x) AS n FROM t GROUP BY g) ON g = h)";
    assert_eq!(query(&context, window).await.unwrap()[0][0], ScalarValue::Float64(Some(0.0)));
}
