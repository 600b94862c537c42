//! Forms of SQL that DataFusion 55.2 does not plan by itself. The answers are those of the SQL
//! standard, as DuckDB gives them.

use crate::house::{House, schemes};

const A: &str = "(VALUES (1, 10), (2, 20), (NULL, 30)) AS a (k, x)";
const B: &str = "(VALUES (2, 200), (3, 300), (NULL, 400)) AS b (k, y)";
const C: &str = "(VALUES (1), (1), (1), (2), (2), (NULL), (NULL)) AS c (k)";
const D: &str = "(VALUES (1), (1), (2), (3), (NULL)) AS d (k)";

async fn house() -> House {
    House::build(schemes().remove(0)).await
}

fn filled(sql: &str) -> String {
    [("{a}", A), ("{b}", B), ("{c}", C), ("{d}", D)]
        .iter()
        .fold(sql.to_string(), |sql, (name, table)| sql.replace(name, table))
}

async fn check(house: &House, sql: &str, expected: &[&str]) {
    let got = house.ask(&filled(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(got, expected, "{sql}");
}

async fn fails(house: &House, sql: &str, expected: &str) {
    let error = match house.ask(&filled(sql)).await {
        Ok(rows) => panic!("{sql} gives {rows:?}"),
        Err(error) => error,
    };
    assert!(error.to_string().contains(expected), "{sql}: {error}");
}

async fn columns(house: &House, sql: &str) -> Vec<String> {
    let planned = house.plan(&filled(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    planned.schema().fields().iter().map(|field| field.name().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exists_and_in_are_values() {
    let house = house().await;
    check(
        &house,
        "SELECT x, EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k) AS e FROM {a}",
        &["10|false", "20|true", "30|false"],
    )
    .await;
    check(
        &house,
        "SELECT x, NOT EXISTS (SELECT 1 FROM {b} WHERE y > 20 * x) FROM {a}",
        &["10|false", "20|true", "30|true"],
    )
    .await;
    check(&house, "SELECT x, k IN (SELECT k FROM {b}) AS i FROM {a}", &["10|NULL", "20|true", "30|NULL"]).await;
    check(
        &house,
        "SELECT x, k NOT IN (SELECT k FROM {b} WHERE k > 0) AS i FROM {a}",
        &["10|true", "20|false", "30|NULL"],
    )
    .await;
    check(
        &house,
        "SELECT x, CASE WHEN EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k) THEN 'both' \
         WHEN k IN (SELECT 1) THEN 'one' ELSE 'none' END AS t FROM {a}",
        &["10|one", "20|both", "30|none"],
    )
    .await;
    // Two that the planner calls alike, and what it calls the same in an order, a group, an aggregate.
    check(
        &house,
        "SELECT EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k), EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k + 2) FROM {a}",
        &["false|false", "false|true", "true|false"],
    )
    .await;
    check(
        &house,
        "SELECT x, EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k) AS e FROM {a} ORDER BY e DESC, x LIMIT 1",
        &["20|true"],
    )
    .await;
    fails(
        &house,
        "SELECT x FROM {a} ORDER BY EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k) DESC, x LIMIT 1",
        "give it a name in the SELECT list",
    )
    .await;
    check(
        &house,
        "SELECT EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k) AS e, count(*) FROM {a} GROUP BY e",
        &["false|2", "true|1"],
    )
    .await;
    check(&house, "SELECT count(*) FILTER (WHERE k IN (SELECT k FROM {b} WHERE k > 0)) AS n FROM {a}", &["1"]).await;
    check(&house, "SELECT sum(CASE WHEN EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k) THEN x END) FROM {a}", &["20"])
        .await;
    check(
        &house,
        "SELECT x, sum(x) OVER (PARTITION BY EXISTS (SELECT 1 FROM {b} WHERE b.k = a.k)) AS s FROM {a}",
        &["10|40", "20|20", "30|40"],
    )
    .await;
    // Of tables, cut and whole.
    let with = house
        .ask("SELECT count(*) FROM object o WHERE EXISTS (SELECT 1 FROM source s WHERE s.objectid = o.objectid)")
        .await
        .unwrap();
    check(
        &house,
        "SELECT count(*) FROM (SELECT EXISTS (SELECT 1 FROM source s WHERE s.objectid = o.objectid) AS e FROM object o) t WHERE e",
        &[&with[0]],
    )
    .await;
    assert_ne!(with, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_compared_value_by_value() {
    let house = house().await;
    check(&house, "SELECT x FROM {a} WHERE (k, x) IN ((1, 10), (2, 99), (3, 30))", &["10"]).await;
    check(&house, "SELECT x FROM {a} WHERE (k, x) NOT IN ((1, 10), (2, 99))", &["20", "30"]).await;
    // (NULL, 30) is not (1, 10), because 30 is not 10; whether it is (1, 30) nobody knows.
    check(&house, "SELECT x, (k, x) IN ((1, 10), (1, 30)) FROM {a}", &["10|true", "20|false", "30|NULL"]).await;
    check(
        &house,
        "SELECT x, (k, x) = (1, 10), (k, x) <> (1, 10), (k, x) < (2, 5), (k, x) >= (1, 10) FROM {a}",
        &["10|true|false|true|true", "20|false|true|false|true", "30|false|true|NULL|NULL"],
    )
    .await;
    check(&house, "SELECT x FROM {a} WHERE (k, x * 10) IN (SELECT k, y FROM {b})", &["20"]).await;
    check(&house, "SELECT x FROM {a} WHERE (k, x * 10) NOT IN (SELECT k, y FROM {b})", &["10"]).await;
    check(&house, "SELECT x FROM {a} WHERE NOT ((k, x * 10) IN (SELECT k, y FROM {b} WHERE y <> 300))", &["10", "30"])
        .await;
    check(&house, "SELECT x, (k, 400) IN (SELECT k, y FROM {b}) FROM {a}", &["10|NULL", "20|NULL", "30|NULL"]).await;
    check(
        &house,
        "SELECT x FROM {a} WHERE (k, x) IN (SELECT k, x FROM (VALUES (2, 20), (1, 0)) AS x (k, x)) OR x = 30",
        &["20", "30"],
    )
    .await;
    let many: Vec<String> = (0..2_000).map(|i| format!("({i}, {})", i * 10)).collect();
    check(&house, &format!("SELECT x FROM {{a}} WHERE (k, x) IN ({})", many.join(", ")), &["10", "20"]).await;
    check(&house, &format!("SELECT x, (k, x) IN ({}) FROM {{a}}", many.join(", ")), &["10|true", "20|true", "30|NULL"])
        .await;
    fails(&house, "SELECT x FROM {a} WHERE (k, x) IN ((1, 10, 3))", "rows of 2 and 3 values").await;
    fails(&house, "SELECT x FROM {a} WHERE (k, x) IN (1, 2)", "write (a, b) IN ((1, 2), (3, 4))").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_operations_with_all_count() {
    let house = house().await;
    check(&house, "SELECT k FROM {c} INTERSECT ALL SELECT k FROM {d}", &["1", "1", "2", "NULL"]).await;
    check(&house, "SELECT k FROM {c} EXCEPT ALL SELECT k FROM {d}", &["1", "2", "NULL"]).await;
    check(&house, "SELECT k FROM {d} EXCEPT ALL SELECT k FROM {c}", &["3"]).await;
    check(&house, "SELECT k FROM {c} EXCEPT ALL (SELECT k FROM {d} EXCEPT SELECT 1)", &["1", "1", "1", "2", "NULL"])
        .await;
    check(
        &house,
        "SELECT k, 'a' AS t FROM {c} INTERSECT ALL SELECT CAST(k AS DOUBLE), 'a' FROM {d} ORDER BY k LIMIT 1",
        &["1|a"],
    )
    .await;
    let bands = house.ask("SELECT band, count(*) FROM source GROUP BY band").await.unwrap();
    let twice = house.ask(
        "SELECT band, count(*) FROM (SELECT band FROM source INTERSECT ALL (SELECT band FROM source UNION ALL SELECT band FROM source)) t GROUP BY band",
    );
    assert_eq!(twice.await.unwrap(), bands);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_have_several_spellings() {
    let house = house().await;
    check(&house, "SELECT x FROM {a} ORDER BY x FETCH FIRST 2 ROWS ONLY", &["10", "20"]).await;
    check(&house, "SELECT x FROM {a} ORDER BY x OFFSET 1 ROW FETCH NEXT ROW ONLY", &["20"]).await;
    check(&house, "SELECT TOP 2 x FROM {a} ORDER BY x DESC", &["20", "30"]).await;
    check(&house, "SELECT * FROM (SELECT TOP 1 x FROM {a} ORDER BY x) t", &["10"]).await;
    fails(&house, "SELECT TOP 2 x FROM {a} LIMIT 1", "write one of them").await;
    fails(&house, "SELECT x FROM {a} ORDER BY x FETCH FIRST 2 ROWS WITH TIES", "rank()").await;
    fails(&house, "SELECT TOP 1 x FROM {a} UNION ALL SELECT 1", "parentheses").await;
    // The order of a sub-query says what it leaves out, not in what order rows come.
    check(&house, "SELECT x FROM (SELECT x FROM {a} ORDER BY x DESC OFFSET 1) t", &["10", "20"]).await;
    check(&house, "SELECT k FROM (SELECT k FROM {a} ORDER BY x OFFSET 2) t", &["NULL"]).await;
    check(&house, "SELECT count(*) FROM (SELECT objectid FROM object ORDER BY objectid DESC OFFSET 7) t", &["893"])
        .await;
    check(&house, "SELECT x FROM {a} ORDER BY x OFFSET 1", &["20", "30"]).await;
    check(&house, "(SELECT x FROM {a} ORDER BY x DESC OFFSET 2) UNION ALL SELECT 7", &["10", "7"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_one_name_get_names_apart() {
    let house = house().await;
    check(&house, "SELECT (SELECT count(*) FROM {a}), (SELECT count(*) FROM {c})", &["3|7"]).await;
    check(&house, "SELECT 1, 1", &["1|1"]).await;
    assert_eq!(columns(&house, "SELECT 1, 1").await, ["1", "1_1"]);
    assert_eq!(columns(&house, "SELECT 1, 2").await, ["Int64(1)", "Int64(2)"]);
    assert_eq!(columns(&house, "SELECT k, k, x FROM {a}").await, ["k", "k_1", "x"]);
    assert_eq!(columns(&house, "SELECT k, a.k AS k_1, a.k FROM {a}").await, ["k", "k_1", "k_2"]);
    assert_eq!(columns(&house, "SELECT k, * FROM {a}").await, ["k_1", "k", "x"]);
    assert_eq!(columns(&house, "SELECT x AS k, * FROM {a} ORDER BY 1").await, ["k_1", "k", "x"]);
    assert_eq!(columns(&house, "SELECT a.k, b.k FROM {a}, {b}").await, ["k", "k"]);
    assert_eq!(columns(&house, "SELECT a.k, y AS k FROM {a}, {b}").await, ["k", "k_1"]);
    assert_eq!(columns(&house, "SELECT count(*), count(*) FROM {a}").await, ["count(*)", "count(*)_1"]);
    check(&house, "SELECT k_1 FROM (SELECT k, k FROM {a}) t WHERE k_1 > 1", &["2"]).await;
    check(&house, "SELECT CAST(x AS DOUBLE), x FROM {a} WHERE x < 20", &["10.0|10"]).await;
    check(&house, "SELECT max(CAST(x AS DOUBLE)), max(x) FROM {a}", &["30.0|30"]).await;
    let keys = "SELECT x AS a, CAST(x AS DOUBLE) AS b, count(*) FROM {a} WHERE x < 30 GROUP BY ";
    check(&house, &format!("{keys} x, CAST(x AS DOUBLE)"), &["10|10.0|1", "20|20.0|1"]).await;
    check(&house, &format!("{keys} 1, 2"), &["10|10.0|1", "20|20.0|1"]).await;
    check(
        &house,
        "SELECT k, count(*), count(*) FROM {a} GROUP BY k HAVING count(*) > 0 ORDER BY k",
        &["1|1|1", "2|1|1", "NULL|1|1"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_with_entry_hides_one_of_its_name() {
    let house = house().await;
    check(
        &house,
        "WITH t AS (SELECT 1 AS v), u AS (WITH t AS (SELECT 2 AS v) SELECT v FROM t) SELECT t.v, u.v FROM t, u",
        &["1|2"],
    )
    .await;
    check(
        &house,
        "WITH t AS (SELECT 1 AS v) SELECT v FROM (WITH t AS (SELECT v + 1 AS v FROM t) SELECT t.v FROM t) q",
        &["2"],
    )
    .await;
    check(
        &house,
        "WITH t AS (SELECT 1 AS v) SELECT (WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 4) SELECT max(t.n) FROM t), v FROM t",
        &["4|1"],
    )
    .await;
    fails(&house, "WITH t AS (SELECT 1), T AS (SELECT 2) SELECT 1", "name of its own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_column_is_merged_again() {
    let house = house().await;
    let e = "(VALUES (2, 7), (3, 8), (5, 9)) AS e (k, z)";
    let rows =
        ["1|10|NULL|NULL", "2|20|200|7", "3|NULL|300|8", "5|NULL|NULL|9", "NULL|30|NULL|NULL", "NULL|NULL|400|NULL"];
    check(&house, &format!("SELECT * FROM {{a}} FULL JOIN {{b}} USING (k) FULL JOIN {e} USING (k)"), &rows).await;
    check(&house, &format!("SELECT k, x, y, z FROM {{a}} NATURAL FULL JOIN {{b}} NATURAL FULL JOIN {e}"), &rows).await;
    check(
        &house,
        &format!("SELECT k, x, y FROM {{a}} RIGHT JOIN {{b}} USING (k) JOIN {e} USING (k)"),
        &["2|20|200", "3|NULL|300"],
    )
    .await;
    check(
        &house,
        &format!("SELECT * FROM {{a}} FULL JOIN {{b}} USING (k) JOIN {e} USING (k) WHERE k > 2"),
        &["3|NULL|300|8"],
    )
    .await;
    fails(
        &house,
        &format!("SELECT * EXCLUDE (x) FROM {{a}} FULL JOIN {{b}} USING (k) JOIN {e} USING (k)"),
        "name the columns",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recursive_query_reads_tables() {
    let house = house().await;
    let one = house.ask("SELECT min(objectid), min(objectid) + 9 FROM object").await.unwrap();
    let (first, last) = one[0].split_once('|').unwrap();
    check(
        &house,
        &format!(
            "WITH RECURSIVE up (id, depth) AS (SELECT objectid, 0 FROM object WHERE objectid = {first} UNION ALL \
             SELECT o.objectid, up.depth + 1 FROM up JOIN object o ON o.objectid = up.id + 3 WHERE o.objectid <= {last}) \
             SELECT count(*), max(depth) FROM up"
        ),
        &["4|3"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_mistake_is_not_internal() {
    let house = house().await;
    let mut wrong = Vec::new();
    for sql in [
        "SELECT sum(band) FROM source",
        "SELECT avg(band) FROM source",
        "SELECT sum(CAST('x' AS INT)) FROM object",
        "SELECT abs(band) FROM source",
        "SELECT CAST('x' AS INT)",
        "SELECT date_trunc('nothing', now())",
        "SELECT stddev(band) FROM source",
        "SELECT regexp_like(band, '(') FROM source",
        "SELECT (SELECT objectid FROM object)",
        "SELECT 1 / 0",
        "SELECT to_timestamp('x')",
        "SELECT * FROM object LIMIT -1",
        "SELECT * FROM object UNION SELECT 1",
        "SELECT lag(mag, 'x') OVER (ORDER BY mag) FROM source",
        "SELECT substr(band, 'x') FROM source",
        "SELECT ntile(0) OVER (ORDER BY mag) FROM source",
        "SELECT (1, 2) + 1",
        "SELECT interval 'x' day",
        "SELECT percentile_cont(2) WITHIN GROUP (ORDER BY mag) FROM source",
    ] {
        let error = match house.ask(sql).await {
            Ok(rows) => {
                wrong.push(format!("{sql} gives {rows:?}"));
                continue;
            }
            Err(error) => error,
        };
        let is_ours = error.kind() == skyflight_proto::FailureKind::Internal
            || error.to_string().to_lowercase().contains("internal");
        if is_ours {
            wrong.push(format!("{sql}: {:?} {error}", error.kind()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
