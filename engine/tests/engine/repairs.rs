//! Statements that DataFusion 55.2 by itself answers wrongly or not at all. The answers are those of
//! the SQL standard, as DuckDB gives them.

use crate::house::{House, schemes};

const A: &str = "(VALUES (1, 10), (2, 20), (NULL, 30)) AS a (k, x)";
const B: &str = "(VALUES (2, 200), (3, 300), (NULL, 400)) AS b (k, y)";

async fn check(house: &House, sql: &str, expected: &[&str]) {
    let sql = sql.replace("{a}", A).replace("{b}", B);
    let got = house.ask(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(got, expected, "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_below_or_and_not_has_three_values() {
    let house = House::build(schemes().remove(0)).await;
    // 20 is in the list; whether NULL or, beside a NULL, anything else is, nobody knows.
    check(&house, "SELECT x FROM {a} WHERE k IN (SELECT k FROM {b}) OR x = 30", &["20", "30"]).await;
    check(&house, "SELECT x FROM {a} WHERE NOT (k IN (SELECT k FROM {b}) AND x > 0)", &[]).await;
    check(&house, "SELECT x FROM {a} WHERE NOT (k IN (SELECT k FROM {b} WHERE k IS NOT NULL) AND x > 0)", &["10"])
        .await;
    check(&house, "SELECT x FROM {a} WHERE k IN (SELECT k FROM {b}) IS NULL", &["10", "30"]).await;
    check(&house, "SELECT x FROM {a} WHERE (k NOT IN (SELECT k FROM {b})) IS NULL", &["10", "30"]).await;
    check(&house, "SELECT x FROM {a} WHERE (k IN (SELECT k FROM {b} WHERE y > 999)) = false", &["10", "20", "30"])
        .await;
    check(&house, "SELECT x FROM {a} WHERE k NOT IN (SELECT k FROM {b} WHERE y < 300) OR x < 0", &["10"]).await;
    // The query and its sub-query read the same table.
    let odd =
        "SELECT count(*) FROM source WHERE (\"objectId\" IN (SELECT \"objectId\" FROM source WHERE mag < 0)) IS FALSE";
    let all = house.ask("SELECT count(*) FROM source").await.unwrap();
    check(&house, odd, &[&all[0]]).await;
    let own =
        "SELECT count(*) FROM filter WHERE NOT (band IN (SELECT band FROM filter WHERE band = 'g') AND wavelength > 0)";
    let others = house.ask("SELECT count(*) FROM filter WHERE band <> 'g'").await.unwrap();
    check(&house, own, &[&others[0]]).await;
    check(&house, "SELECT x FROM {a} WHERE CASE WHEN k IN (SELECT k FROM {b}) THEN false ELSE x = 10 END", &["10"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_and_all_compare_with_the_sub_query() {
    let house = House::build(schemes().remove(0)).await;
    check(&house, "SELECT x FROM {a} WHERE k = ANY (SELECT k FROM {b})", &["20"]).await;
    check(&house, "SELECT x FROM {a} WHERE k <= ALL (SELECT k FROM {b} WHERE k IS NOT NULL)", &["10", "20"]).await;
    check(&house, "SELECT x FROM {a} WHERE k < ALL (SELECT k FROM {b})", &[]).await;
    // The query and its sub-query read the same table.
    let green = house.ask("SELECT count(*) FROM filter WHERE band = 'g'").await.unwrap();
    let others = house.ask("SELECT count(*) FROM filter WHERE band <> 'g'").await.unwrap();
    assert_ne!((&green[0], &others[0]), (&"0".to_owned(), &"0".to_owned()));
    let any = "SELECT count(*) FROM filter WHERE band = ANY (SELECT band FROM filter WHERE band = 'g')";
    check(&house, any, &[&green[0]]).await;
    let all = "SELECT count(*) FROM filter WHERE band <> ALL (SELECT band FROM filter WHERE band = 'g')";
    check(&house, all, &[&others[0]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_in_a_correlated_query_heeds_nulls() {
    let house = House::build(schemes().remove(0)).await;
    // No row of b goes with 10 and 30, so nothing is in there, not even NULL.
    check(&house, "SELECT x FROM {a} WHERE k NOT IN (SELECT y / 100 FROM {b} WHERE b.k = a.k)", &["10", "30"]).await;
    check(&house, "SELECT x FROM {a} WHERE k NOT IN (SELECT b.k FROM {b} WHERE y < 20 * a.x)", &["10"]).await;
    check(&house, "SELECT x FROM {a} WHERE NOT (k IN (SELECT b.k FROM {b} WHERE y < 20 * a.x))", &["10"]).await;
    // By itself, with nulls and without.
    check(&house, "SELECT x FROM {a} WHERE k NOT IN (SELECT k FROM {b})", &[]).await;
    check(&house, "SELECT x FROM {a} WHERE k NOT IN (SELECT k FROM {b} WHERE k > 2)", &["10", "20"]).await;
    check(&house, "SELECT x FROM {a} WHERE k IN (SELECT b.k FROM {b} WHERE y > a.x)", &["20"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_merged_by_using_come_from_the_side_that_has_one() {
    let house = House::build(schemes().remove(0)).await;
    let full = ["1|10|NULL", "2|20|200", "3|NULL|300", "NULL|30|NULL", "NULL|NULL|400"];
    for sql in [
        "SELECT * FROM {a} FULL JOIN {b} USING (k)",
        "SELECT * FROM {a} NATURAL FULL JOIN {b}",
        "SELECT k, x, y FROM {a} FULL JOIN {b} USING (k)",
        "SELECT K, a.x, y FROM {a} FULL JOIN {b} USING (K) ORDER BY k",
    ] {
        check(&house, sql, &full).await;
    }
    check(&house, "SELECT * FROM {a} RIGHT JOIN {b} USING (k)", &["2|20|200", "3|NULL|300", "NULL|NULL|400"]).await;
    check(&house, "SELECT k, y FROM {a} RIGHT JOIN {b} USING (k) WHERE k = 3", &["3|300"]).await;
    check(&house, "SELECT k FROM {a} LEFT JOIN {b} USING (k) WHERE k = 1 OR x = 30", &["1", "NULL"]).await;
    check(&house, "SELECT k || '!' AS t FROM {a} JOIN {b} USING (k)", &["2!"]).await;
    check(
        &house,
        "SELECT k, count(*) FROM {a} FULL JOIN {b} USING (k) GROUP BY k HAVING k > 0",
        &["1|1", "2|1", "3|1"],
    )
    .await;
    check(
        &house,
        "SELECT k, z FROM {a} JOIN {b} USING (k) FULL JOIN (VALUES (2, 9), (4, 8)) AS c (k, z) USING (k) WHERE k > 0",
        &["2|9", "4|8"],
    )
    .await;
    check(&house, "SELECT * EXCLUDE (x) FROM {a} RIGHT JOIN {b} USING (k) WHERE y = 300", &["3|300"]).await;
    // Tables without a name.
    check(&house, "SELECT k FROM (SELECT 1 AS k) FULL JOIN (SELECT 2 AS k) USING (k)", &["1", "2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_merged_by_using_in_a_subquery_are_its_own() {
    let house = House::build(schemes().remove(0)).await;
    check(&house, "SELECT x FROM {a} WHERE EXISTS (SELECT 1 FROM {a} JOIN {b} USING (k) WHERE k = 1)", &[]).await;
    check(
        &house,
        "SELECT k, x FROM {a} WHERE 2 IN (SELECT k FROM (VALUES (2)) AS c (k) JOIN {b} USING (k))",
        &["1|10", "2|20", "NULL|30"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_may_be_a_cast_of_what_is_compared() {
    let house = House::build(schemes().remove(0)).await;
    let query = |not: &str, more: &str| {
        format!(
            "SELECT x FROM {{a}} WHERE CAST(k AS DOUBLE) {not} IN (SELECT CAST(b.k AS BIGINT) FROM {{b}} WHERE b.k = a.k) {more}"
        )
    };
    check(&house, &query("", ""), &["20"]).await;
    check(&house, &query("", "OR x = 10"), &["10", "20"]).await;
    check(&house, &query("NOT", ""), &["10", "30"]).await;
    check(&house, &query("NOT", "AND x < 30 OR x = 20"), &["10", "20"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_union_keeps_the_names_of_a_part_without_rows() {
    let house = House::build(schemes().remove(0)).await;
    check(&house, "SELECT max(p) FROM (SELECT k AS p FROM {a} WHERE false UNION SELECT y AS q FROM {b}) t", &["400"])
        .await;
    check(
        &house,
        "SELECT p FROM ((SELECT k AS p FROM {a} LIMIT 0) UNION ALL SELECT y AS q FROM {b} UNION ALL SELECT x FROM {a}) t WHERE p > 25",
        &["200", "30", "300", "400"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lateral_sub_queries_have_limits() {
    let house = House::build(schemes().remove(0)).await;
    let c = "(VALUES (1, 1), (1, 2), (1, 3), (2, 4), (NULL, 5)) AS c (k, z)";
    let ask = async |sql: &str, expected: &[&str]| check(&house, &sql.replace("{c}", c), expected).await;
    let first = "LATERAL (SELECT z FROM {c} WHERE c.k = a.k ORDER BY z DESC LIMIT 2) t";
    ask(&format!("SELECT x, z FROM {{a}}, {first}"), &["10|2", "10|3", "20|4"]).await;
    ask(&format!("SELECT x, z FROM {{a}} LEFT JOIN {first} ON true"), &["10|2", "10|3", "20|4", "30|NULL"]).await;
    ask(&format!("SELECT x, z FROM {{a}} JOIN {first} ON z > 2"), &["10|3", "20|4"]).await;
    let nearest = "LATERAL (SELECT z FROM {c} ORDER BY abs(a.x - 10 * z), z DESC LIMIT 1) t";
    ask(&format!("SELECT x, z FROM {{a}}, {nearest}"), &["10|1", "20|2", "30|3"]).await;
    // Equal rows before it have their own.
    let twice = "(VALUES (1), (1)) AS a (k)";
    ask(
        &format!("SELECT k, z FROM {twice}, LATERAL (SELECT z FROM {{c}} WHERE c.k = a.k ORDER BY z LIMIT 1) t"),
        &["1|1", "1|1"],
    )
    .await;
    // What is listed and what orders may be of both; one table may be on both sides.
    let apart = "LATERAL (SELECT b.x - a.x AS d, 7 AS n FROM (VALUES (1, 11), (2, 25), (3, 90)) AS b (k, x) \
                 WHERE b.x > a.x ORDER BY abs(b.x - a.x) LIMIT 1 OFFSET 1) t";
    ask(&format!("SELECT x, d, n FROM {{a}}, {apart}"), &["10|15|7", "20|70|7"]).await;
    ask(
        "SELECT x, n FROM {a} LEFT JOIN LATERAL (SELECT 7 AS n FROM {c} WHERE c.k = a.k LIMIT 1) t ON true",
        &["10|7", "20|7", "30|NULL"],
    )
    .await;
    ask(
        "SELECT x, n FROM {a}, LATERAL (SELECT count(*) AS n FROM {c} WHERE c.k = a.k LIMIT 1) t",
        &["10|3", "20|1", "30|0"],
    )
    .await;
    let largest = "SELECT count(*), count(t.mag), min(t.mag), max(t.mag) FROM object o, \
                   LATERAL (SELECT mag FROM source WHERE source.\"objectId\" = o.\"objectId\" ORDER BY mag DESC NULLS LAST LIMIT 1) t";
    let grouped = "SELECT count(*), count(m), min(m), max(m) FROM (SELECT max(s.mag) AS m FROM object o JOIN source s \
                   ON s.\"objectId\" = o.\"objectId\" GROUP BY o.\"objectId\", o.ra, o.dec)";
    let expected = house.ask(grouped).await.unwrap();
    check(&house, largest, &[&expected[0]]).await;
    let none = "SELECT 1 FROM {a} LEFT JOIN LATERAL (SELECT z FROM {c} WHERE c.k < a.k LIMIT 0) t ON true";
    let none = none.replace("{a}", A).replace("{c}", c);
    let refused = house.ask(&none).await.unwrap_err().to_string();
    assert!(refused.contains("row_number()"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_divided_by_expressions() {
    let house = House::build(schemes().remove(0)).await;
    let sql = "SELECT x, sum(x) OVER (PARTITION BY abs(k) < 2 ORDER BY x) AS s, \
               count(*) OVER (PARTITION BY abs(k) < 2) FROM {a}";
    check(&house, sql, &["10|10|1", "20|20|1", "30|30|1"]).await;
    let by_half =
        "SELECT max(n), sum(n) FROM (SELECT count(*) OVER (PARTITION BY abs(dec) < 45, ra > 180) AS n FROM object) t";
    let [low, high] = ["abs(dec) < 45", "NOT abs(dec) < 45"]
        .map(|condition| format!("SELECT count(*) AS n FROM object WHERE {condition} GROUP BY ra > 180"));
    let expected = format!("SELECT max(n), sum(n * n) FROM ({low} UNION ALL {high}) t");
    let expected = house.ask(&expected).await.unwrap();
    check(&house, by_half, &[&expected[0]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_ordered_by_conditions() {
    let house = House::build(schemes().remove(0)).await;
    // False comes before true, and NULL last.
    check(&house, "SELECT x, count(*) OVER (ORDER BY abs(k) < 2, x) FROM {a}", &["10|2", "20|1", "30|3"]).await;
    let last = "SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY abs(dec) < 45, \"objectId\") AS n FROM object) t";
    let all = house.ask("SELECT count(*) FROM object").await.unwrap();
    check(&house, last, &[&all[0]]).await;
    let ordered = "SELECT \"objectId\" FROM object ORDER BY abs(dec) < 45, \"objectId\" LIMIT 2";
    let filtered = "SELECT \"objectId\" FROM object WHERE NOT abs(dec) < 45 ORDER BY \"objectId\" LIMIT 2";
    let expected = house.ask(filtered).await.unwrap();
    assert_eq!(expected.len(), 2);
    check(&house, ordered, &[&expected[0], &expected[1]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_without_columns_takes_a_grand_total_away() {
    let house = House::build(schemes().remove(0)).await;
    let never = "(SELECT max(mag) FROM source) < 0";
    check(&house, &format!("SELECT n FROM (SELECT count(*) AS n FROM object) t WHERE {never}"), &[]).await;
    check(&house, &format!("SELECT count(*) FROM object HAVING {never}"), &[]).await;
    check(&house, &format!("SELECT count(*) FROM object WHERE {never}"), &["0"]).await;
    check(
        &house,
        &format!("SELECT n FROM (SELECT band, count(*) AS n FROM source GROUP BY ROLLUP (band)) t WHERE {never}"),
        &[],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_both_sides_of_an_outer_join_is_not_taken_for_one_on_columns_of_the_same_name() {
    for scheme in schemes() {
        let house = House::build(scheme).await;
        for join in ["RIGHT", "FULL"] {
            let values = "(VALUES (3, 'z'), (1, 'r')) AS f (k, band)";
            let sql = format!(
                "SELECT s.ra FROM {values} {join} JOIN (VALUES (3, 'r', 0.25), (1, 'r', 10.0)) AS s (k, band, ra) \
                 ON f.k = s.k WHERE s.band < replace(f.band, 'a', 'b') AND s.ra > 0"
            );
            check(&house, &sql, &["0.25"]).await;
            let asked = "WHERE s.band < replace(f.band, 'g', 'h') AND s.mag > 0";
            let on = "ON length(f.band) = length(s.band)";
            let rows = house.ask(&format!("SELECT s.mag FROM filter f JOIN source s {on} {asked}")).await.unwrap();
            assert!(!rows.is_empty());
            let outer = format!("FROM filter f {join} JOIN source s {on}");
            assert_eq!(house.ask(&format!("SELECT s.mag {outer} {asked}")).await.unwrap(), rows, "{join}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_which_constants_are_a_part_is_kept_in_a_union() {
    let house = House::build(schemes().remove(0)).await;
    let sql = "(SELECT x > 1 AS p, 3 AS q, 5 AS r FROM (VALUES (1), (2)) v (x)) UNION ALL \
               (SELECT x > 3, x, x FROM (VALUES (1), (2)) v (x)) ORDER BY 1 DESC NULLS FIRST, 2, 3 DESC";
    check(&house, sql, &["false|1|1", "false|2|2", "false|3|5", "true|3|5"]).await;
    check(&house, &format!("{sql} LIMIT 2"), &["false|1|1", "true|3|5"]).await;
    let rows = sql.split(" ORDER").next().unwrap();
    let sql = format!("SELECT array_agg(r ORDER BY p DESC NULLS FIRST, q, r DESC) FROM ({rows}) t (p, q, r)");
    check(&house, &sql, &["[5, 1, 2, 5]"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_constant_on_a_padded_side_is_not_in_the_rows_of_the_join() {
    for scheme in schemes() {
        let house = House::build(scheme).await;
        let last = "(SELECT max(y) AS c FROM (VALUES (1), (2)) u (y)) d";
        let rows = "(VALUES (1), (2), (3), (2), (4)) t (x)";
        for join in [
            format!("{rows} LEFT JOIN {last}"),
            format!("{last} RIGHT JOIN {rows}"),
            format!("{rows} FULL JOIN {last}"),
        ] {
            let first = format!("SELECT x FROM {join} ON x = c ORDER BY c DESC NULLS LAST, x LIMIT 1");
            check(&house, &first, &["2"]).await;
            let groups = format!("SELECT c, count(*) FROM {join} ON x = c GROUP BY c");
            check(&house, &groups, &["2|2", "NULL|3"]).await;
            let numbered = format!("SELECT c, x, row_number() OVER (PARTITION BY c ORDER BY x) FROM {join} ON x = c");
            check(&house, &numbered, &["2|2|1", "2|2|2", "NULL|1|1", "NULL|3|2", "NULL|4|3"]).await;
        }
        // Beside chunks too.
        let faint = "(SELECT objectId, 1 AS is_faint FROM source WHERE mag > 20) s";
        let groups = |join: &str| format!("SELECT is_faint, count(DISTINCT o.objectId) FROM {join} GROUP BY is_faint");
        let sql = groups(&format!("object o LEFT JOIN {faint} ON s.objectId = o.objectId"));
        let expected = house.ask_plain(&sql.replace("objectId", "\"objectId\"")).await;
        assert_eq!(expected.len(), 2, "{expected:?}");
        assert_eq!(house.ask(&sql).await.unwrap(), expected);
    }
}

/// Rows for a query around and for the one within.
const T: &str = "(VALUES (1, 10), (2, 20), (3, 30), (NULL, 40)) AS a (k, x)";
const U: &str =
    "(VALUES (1, 5, 'p'), (1, 7, 'q'), (1, 6, 'p'), (2, 9, 'r'), (2, 8, 'r'), (NULL, 1, 'p')) AS u (k, y, s)";

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_windows_of_a_correlated_query_are_of_each_outer_row() {
    let house = House::build(schemes().remove(0)).await;
    let questions: &[(&str, &[&str])] = &[
        (
            "SELECT x, (SELECT max(y) FROM (SELECT y FROM {u} WHERE u.k = a.k ORDER BY y DESC OFFSET 1) v) AS m FROM {t}",
            &["10|6", "20|8", "30|NULL", "40|NULL"],
        ),
        ("SELECT x FROM {t} WHERE EXISTS (SELECT 1 FROM {u} WHERE u.k = a.k ORDER BY u.y OFFSET 2)", &["10"]),
        ("SELECT x FROM {t} WHERE EXISTS (SELECT 1 FROM {u} WHERE u.k = a.k OFFSET 1)", &["10", "20"]),
        ("SELECT x FROM {t} WHERE EXISTS (SELECT 1 FROM {u} WHERE u.k = a.k LIMIT 1)", &["10", "20"]),
        (
            "SELECT x FROM {t} WHERE NOT EXISTS (SELECT 1 FROM {u} WHERE u.k = a.k LIMIT 1 OFFSET 2)",
            &["20", "30", "40"],
        ),
        (
            "SELECT x, (SELECT y FROM {u} WHERE u.k = a.k ORDER BY y DESC LIMIT 1) AS m FROM {t}",
            &["10|7", "20|9", "30|NULL", "40|NULL"],
        ),
        (
            "SELECT x, (SELECT s || 'x' FROM {u} WHERE a.k = u.k AND u.y > 5 ORDER BY y LIMIT 1 OFFSET 1) AS m FROM {t}",
            &["10|qx", "20|rx", "30|NULL", "40|NULL"],
        ),
        (
            "SELECT x, (SELECT max(y) FROM {u} WHERE u.k = a.k LIMIT 1) AS m FROM {t}",
            &["10|7", "20|9", "30|NULL", "40|NULL"],
        ),
        ("SELECT x FROM {t} WHERE 5 IN (SELECT y FROM {u} WHERE u.k = a.k ORDER BY y DESC LIMIT 2)", &[]),
        ("SELECT x FROM {t} WHERE 7 IN (SELECT y FROM {u} WHERE u.k = a.k ORDER BY y DESC LIMIT 2)", &["10"]),
        (
            "SELECT x, v.y FROM {t}, LATERAL (SELECT y FROM {u} WHERE u.k = a.k ORDER BY y DESC LIMIT 2) v",
            &["10|6", "10|7", "20|8", "20|9"],
        ),
        (
            "SELECT x, v.y FROM {t} LEFT JOIN LATERAL (SELECT y FROM {u} WHERE u.k = a.k ORDER BY y LIMIT 1) v ON true",
            &["10|5", "20|8", "30|NULL", "40|NULL"],
        ),
        (
            "SELECT x, (SELECT sum(y) FROM (SELECT y, row_number() OVER (ORDER BY y) AS n FROM {u} WHERE u.k = a.k) v WHERE n > 1) AS m FROM {t}",
            &["10|13", "20|9", "30|NULL", "40|NULL"],
        ),
        (
            "SELECT x, (SELECT max(c) FROM (SELECT count(*) OVER () AS c FROM {u} WHERE u.k = a.k) v) AS m FROM {t}",
            &["10|3", "20|2", "30|NULL", "40|NULL"],
        ),
        (
            "SELECT x FROM {t} WHERE EXISTS (SELECT s FROM {u} WHERE u.k = a.k EXCEPT ALL SELECT * FROM (VALUES ('p'), ('q'), ('r')) w)",
            &["10", "20"],
        ),
        (
            "SELECT x, (SELECT s FROM (SELECT s, count(*) AS n FROM {u} WHERE u.k = a.k GROUP BY s) g ORDER BY n DESC LIMIT 1) AS m FROM {t}",
            &["10|p", "20|r", "30|NULL", "40|NULL"],
        ),
        (
            "SELECT x, (SELECT count(*) FROM (SELECT DISTINCT s FROM {u} WHERE u.k = a.k ORDER BY s LIMIT 5) d) AS m FROM {t}",
            &["10|2", "20|1", "30|0", "40|0"],
        ),
        (
            "SELECT x, (SELECT max(u.y) FROM {u} JOIN (VALUES ('p', 1), ('q', 2)) w (s, z) ON u.s = w.s WHERE u.k = a.k AND z < 2) AS m FROM {t}",
            &["10|6", "20|NULL", "30|NULL", "40|NULL"],
        ),
        (
            "SELECT x, (SELECT y FROM {u} JOIN (VALUES ('p', 1), ('q', 2)) w (s, z) ON u.s = w.s WHERE u.k = a.k ORDER BY z DESC, y LIMIT 1) AS m FROM {t}",
            &["10|7", "20|NULL", "30|NULL", "40|NULL"],
        ),
        ("SELECT copy_left FROM (VALUES (1), (1), (2)) t (copy_left) INTERSECT ALL VALUES (1), (1), (3)", &["1", "1"]),
    ];
    for (sql, expected) in questions {
        check(&house, &sql.replace("{t}", T).replace("{u}", U), expected).await;
    }
    // What is compared in another way cannot be told apart beforehand.
    for sql in [
        "SELECT x, (SELECT y FROM {u} WHERE u.k < a.k ORDER BY y LIMIT 1) FROM {t}",
        "SELECT x FROM {t} WHERE EXISTS (SELECT 1 FROM {u} WHERE u.k <> a.k OFFSET 1)",
        "SELECT x, (SELECT max(n) FROM (SELECT row_number() OVER () AS n FROM {u} WHERE u.k > a.k) v) FROM {t}",
    ] {
        let error = house.ask(&sql.replace("{t}", T).replace("{u}", U)).await.unwrap_err().to_string();
        assert!(error.contains("inner.id = outer.id"), "{sql}: {error}");
    }
    // On tables, against the same written as a join.
    let latest = "SELECT o.\"objectId\", (SELECT s.mag FROM source s WHERE s.\"objectId\" = o.\"objectId\" \
                  ORDER BY s.mag DESC NULLS LAST LIMIT 1) AS m FROM object o";
    let written = "SELECT o.\"objectId\", m FROM object o LEFT JOIN (SELECT \"objectId\", max(mag) AS m FROM source \
                   GROUP BY \"objectId\") s ON s.\"objectId\" = o.\"objectId\"";
    assert_eq!(house.ask(latest).await.unwrap(), house.ask(written).await.unwrap());
}
