//! `qserv_areaspec_*` finds the table it restricts; numbers are conditions.

use super::*;

async fn check(sql: &str, expect: &str) {
    let context = context();
    register(&context, "object", "director", &[]);
    register(&context, "source", "child", &[]);
    let state = context.state();
    let unoptimized = plan(&context, sql).await.unwrap();
    let analyzed = state.analyzer().execute_and_check(unoptimized, state.config_options(), |_, _| {}).unwrap();
    let shown: Vec<String> = filters(&analyzed).iter().map(ToString::to_string).collect();
    assert_eq!(shown.join(" AND "), expect, "{sql}");
}

#[tokio::test]
async fn the_first_director_is_restricted() {
    let cast = "CAST(Int64(1) AS Float64), CAST(Int64(2) AS Float64), CAST(Int64(3) AS Float64)";
    check(
        "SELECT 1 FROM object WHERE qserv_areaspec_circle(1, 2, 3)",
        &format!("scisql_s2ptincircle(object.ra, object.dec, {cast}) != Int32(0)"),
    )
    .await;
    check(
        "SELECT 1 FROM source s, object o WHERE o.id = s.id AND qserv_areaspec_circle(1, 2, 3)",
        &format!("o.id = s.id AND scisql_s2ptincircle(o.ra, o.dec, {cast}) != Int32(0)"),
    )
    .await;
    check(
        "SELECT 1 FROM object a, object b WHERE qserv_areaspec_circle(1, 2, 3)",
        &format!("scisql_s2ptincircle(a.ra, a.dec, {cast}) != Int32(0)"),
    )
    .await;
    check(
        "SELECT 1 FROM source WHERE qserv_areaspec_circle(1, 2, 3)",
        &format!("scisql_s2ptincircle(source.ra, source.dec, {cast}) != Int32(0)"),
    )
    .await;
}

#[tokio::test]
async fn an_area_of_nothing_is_an_error() {
    let message = error("SELECT 1 WHERE qserv_areaspec_circle(1, 2, 3)").await;
    assert!(message.contains("no table in FROM has a position"), "{message}");
    let message = error("SELECT qserv_areaspec_box(1, 2, 3, 4)").await;
    assert!(message.contains("belongs in WHERE"), "{message}");
}

#[tokio::test]
async fn numbers_are_conditions() {
    let context = context();
    let rows = [(1, 0.0, 0.0), (2, 5.0, 5.0), (3, 40.0, 40.0)];
    register(&context, "sky", "director", &rows);
    for (condition, want) in [
        ("scisql_s2PtInCircle(ra, dec, 0, 0, 1)", vec![1]),
        ("contains(point(ra, dec), circle(0, 0, 1))", vec![1]),
        ("CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', 0, 0, 1)) AND id < 3", vec![1]),
        ("(s2PtInBox(ra, dec, 4, 4, 6, 6) OR contains(point(ra, dec), circle(0, 0, 1)))", vec![1, 2]),
        ("NOT s2PtInBox(ra, dec, 4, 4, 6, 6) AND id > 0", vec![1, 3]),
        ("NOT (s2PtInBox(ra, dec, 4, 4, 6, 6) OR id < 3)", vec![3]),
        ("CASE WHEN s2PtInBox(ra, dec, 4, 4, 6, 6) THEN id = 2 ELSE id = 3 END", vec![2, 3]),
    ] {
        assert_eq!(ids(&context, condition).await, want, "{condition}");
    }
    let joined = "SELECT a.id FROM sky a JOIN sky b ON a.id = b.id AND contains(point(a.ra, a.dec), circle(b.ra, b.dec, 1)) \
                  WHERE a.id > 0";
    assert_eq!(query(&context, joined).await.unwrap().len(), 3);
}

#[tokio::test]
async fn the_rule_alone_mends_conjunctions() {
    let context = context();
    register(&context, "sky", "director", &[(1, 0.0, 0.0), (2, 5.0, 5.0)]);
    let rows = context
        .sql("SELECT id FROM sky WHERE s2PtInCircle(ra, dec, 0, 0, 1) AND id > 0")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}
