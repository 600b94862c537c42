//! What is asked of one side's join key is asked of the other's, wherever that takes no row away.

use crate::house::{House, schemes};

/// No object has the first, but sources have.
const IDS: &str = "(-81, 4, 700, 1000)";
const OBJECTS: &str = "(select * from object where objectId in (-81, 4, 700, 1000)) o";
const LISTED: &str = "objectId@0 IN (SET) ([-81, 4, 700, 1000])";

/// The lines of EXPLAIN that read a table.
async fn scans(house: &House, sql: &str, table: &str) -> Vec<String> {
    let rows = house.ask(&format!("explain {sql}")).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let scan = format!("ChunkScanExec: dr1.{table},");
    let scans: Vec<String> =
        rows.iter().flat_map(|row| row.lines()).filter(|line| line.contains(&scan)).map(str::to_owned).collect();
    assert!(!scans.is_empty(), "{sql} does not read {table}:\n{}", rows.join("\n"));
    scans
}

async fn is_told(house: &House, sql: &str, table: &str, told: &str) {
    for scan in scans(house, sql, table).await {
        assert_eq!(scan.matches(told).count(), 1, "{sql}\n{scan}");
    }
}

async fn is_not_told(house: &House, sql: &str, table: &str) {
    for scan in scans(house, sql, table).await {
        assert!(!scan.contains("700"), "{sql}\n{scan}");
    }
}

/// The same rows as those of another statement in plain DataFusion.
async fn check(house: &House, sql: &str, plain: &str) {
    let expected = house.ask_plain(&plain.replace("objectId", "\"objectId\"")).await;
    assert!(!expected.is_empty(), "{plain} tests nothing");
    assert_eq!(house.ask(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")), expected, "{sql}");
}

/// Statements with one that plain DataFusion answers with the same rows.
fn forms() -> Vec<(String, String)> {
    let ids = format!("o.objectId in {IDS}");
    let best = |join: &str, last: u32| {
        format!(
            "select o.objectId, x.mag from object o {join} join (select objectId, mag, row_number() over \
             (partition by objectId order by mag) as n from source) x on x.objectId = o.objectId and n <= {last} \
             where {ids}"
        )
    };
    let extreme = format!(
        "select o.objectId, max(s.mag) from object o left join source s on s.objectId = o.objectId where {ids} \
         group by o.objectId"
    );
    let has = |has: &str| {
        format!(
            "select o.objectId, count(s.objectId) > 0 from object o left join source s on s.objectId = o.objectId \
             where {ids} group by o.objectId having {has}"
        )
    };
    let ids_that = |that: &str| format!("select objectId from ({}) t", has(that));
    let of_each = "select s.mag from source s where s.objectId = o.objectId order by";
    [
        (format!("select o.objectId, ({of_each} s.mag desc nulls last limit 1) from object o where {ids}"), extreme.clone()),
        (
            format!("select o.objectId, (select max(s.mag) from source s where s.objectId = o.objectId) from object o where {ids}"),
            extreme.clone(),
        ),
        (
            format!("select o.objectId, (select max(s.mag) from source s where s.objectId = o.objectId) from {OBJECTS}"),
            extreme,
        ),
        (
            format!("select o.objectId, (select count(*) from source s where s.objectId = o.objectId) > 0 from object o where {ids}"),
            has("true"),
        ),
        (format!("select o.objectId, x.mag from object o, lateral ({of_each} s.mag limit 3) x where {ids}"), best("", 3)),
        (
            format!("select o.objectId, x.mag from object o left join lateral ({of_each} s.mag limit 3) x on true where {ids}"),
            best("left", 3),
        ),
        (
            format!(
                "select o.objectId, x.mag from object o, lateral ({of_each} s.mag + 0 * o.objectId limit 3) x where {ids}"
            ),
            best("", 3),
        ),
        (
            format!(
                "select o.objectId, x.mag from object o left join lateral ({of_each} s.mag + 0 * o.objectId limit 3) x \
                 on true where {ids}"
            ),
            best("left", 3),
        ),
        (
            format!("select o.objectId, exists (select 1 from source s where s.objectId = o.objectId) from object o where {ids}"),
            has("true"),
        ),
        (
            format!("select o.objectId from {OBJECTS} where exists (select 1 from source s where s.objectId = o.objectId)"),
            ids_that("count(s.objectId) > 0"),
        ),
        (
            format!("select o.objectId from {OBJECTS} where o.objectId in (select s.objectId from source s)"),
            ids_that("count(s.objectId) > 0"),
        ),
        (
            format!("select o.objectId from source s right semi join {OBJECTS} on s.objectId = o.objectId"),
            ids_that("count(s.objectId) > 0"),
        ),
        (
            format!("select o.objectId from {OBJECTS} where not exists (select 1 from source s where s.objectId = o.objectId and s.mag > 20) or o.objectId = 4"),
            format!("select o.objectId from object o left join source s on s.objectId = o.objectId and s.mag > 20 where {ids} group by o.objectId having count(s.objectId) = 0 or o.objectId = 4"),
        ),
        (
            format!(
                "select o.objectId, x.mag from {OBJECTS} left join (select objectId, mag, row_number() over \
                 (partition by objectId order by mag) as n from source) x on x.objectId = o.objectId and n <= 2"
            ),
            best("left", 2),
        ),
        (
            format!("select o.objectId, s.mag from {OBJECTS} join source s on s.objectId = o.objectId"),
            format!("select o.objectId, s.mag from object o join source s on s.objectId = o.objectId where {ids}"),
        ),
        (
            format!("select o.objectId, s.mag from source s right join {OBJECTS} on s.objectId = o.objectId"),
            format!("select o.objectId, s.mag from object o left join source s on s.objectId = o.objectId where {ids}"),
        ),
        // The key of the last join may be NULL, which is equal to nothing.
        (
            format!(
                "select f.mag, s.mag from forced f left join {OBJECTS} on o.objectId = f.objectId left join source s \
                 on s.objectId = o.objectId"
            ),
            "select f.mag, s.mag from forced f left join source s on s.objectId = f.objectId and f.objectId in (4, 700, \
             1000)"
                .to_owned(),
        ),
        // A narrower key.
        (
            format!(
                "select o.id, s.mag from (select * from (select cast(objectId as int) as id from object) t where id in \
                 {IDS}) o left join source s on s.objectId = o.id"
            ),
            format!("select o.objectId, s.mag from object o left join source s on s.objectId = o.objectId where {ids}"),
        ),
    ]
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_outer_rows_reaches_inner_tables() {
    for spec in schemes() {
        let house = House::build(spec).await;
        for (sql, plain) in forms() {
            is_told(&house, &sql, "Source", LISTED).await;
            check(&house, &sql, &plain).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lateral_sub_query_sees_the_rows_asked_for_alone() {
    let house = House::build(schemes().remove(0)).await;
    let sql = "select o.objectId, x.mag, y.mag from object o left join lateral (select s.mag from source s where s.objectId = \
               o.objectId order by s.mag + 0 * o.objectId limit 1) x on true left join lateral (select s.mag from source s \
               where s.objectId = o.objectId order by s.mag - 0 * o.objectId desc nulls last limit 1) y on true where \
               o.objectId in (-81, 4, 700, 1000) and (x.mag < y.mag or y.mag is null)";
    is_told(&house, sql, "Object", LISTED).await;
    is_told(&house, sql, "Source", LISTED).await;
    let plain = "select objectId, least, most from (select o.objectId, min(s.mag) as least, max(s.mag) as most from object o \
                 left join source s on s.objectId = o.objectId where o.objectId in (-81, 4, 700, 1000) group by o.objectId) \
                 t where least < most or most is null";
    check(&house, sql, plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_whose_rows_all_come_out_is_not_told() {
    let house = House::build(schemes().remove(0)).await;
    for (sql, plain) in [
        (format!("select o.objectId, s.mag from {OBJECTS} full join source s on s.objectId = o.objectId"), None),
        (format!("select s.mag, o.objectId from source s left join {OBJECTS} on s.objectId = o.objectId"), None),
        (format!("select s.mag, o.objectId from {OBJECTS} right join source s on s.objectId = o.objectId"), None),
        (
            format!("select count(*) from source s where not exists (select 1 from {OBJECTS} where o.objectId = s.objectId)"),
            None,
        ),
        // NULL is here what NULL is joined with.
        (
            format!(
                "select count(*), count(s.objectId) from forced f left join {OBJECTS} on o.objectId = f.objectId left join \
                 source s on s.objectId is not distinct from o.objectId"
            ),
            None,
        ),
        // The sum of all groups has no id.
        (
            format!(
                "select o.objectId, o.n, s.mag from (select objectId, count(*) as n from {OBJECTS} group by rollup \
                 (objectId)) o left join source s on s.objectId = o.objectId"
            ),
            None,
        ),
        // A NULL among the sources decides.
        (format!("select count(*) from {OBJECTS} where o.objectId not in (select s.objectId from source s)"), None),
        // Two zeros are equal, and two conditions tell them apart.
        (
            "select o.id, s.mag from (select * from (select cast(objectId as double) as id from object) t where id in (4, \
             700, 1000)) o left join (select cast(objectId as double) as id, mag from source) s on s.id = o.id"
                .to_owned(),
            Some("select cast(o.objectId as double), s.mag from object o left join source s on s.objectId = o.objectId where o.objectId in (4, 700, 1000)"),
        ),
    ] {
        is_not_told(&house, &sql, "Source").await;
        check(&house, &sql, plain.unwrap_or(&sql)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_other_types_are_told_too() {
    let house = House::build(schemes().remove(0)).await;
    for (key_type, ids, told) in [
        ("decimal(20, 0)", "-81, 4, 700, 1000", LISTED),
        ("varchar", "'-81', '4', '700', '1000'", "CAST(objectId@0 AS Utf8) IN (SET) ([-81, 4, 700, 1000])"),
        (
            "timestamp",
            "to_timestamp(4), to_timestamp(700), to_timestamp(1000)",
            "objectId@0 = 4 OR objectId@0 = 700 OR objectId@0 = 1000",
        ),
    ] {
        let of = |table: &str| format!("select cast(objectId as {key_type}) as id, * from {table}");
        let sql = format!(
            "select o.objectId, s.mag from (select * from ({}) t where id in ({ids})) o left join ({}) s on s.id = o.id",
            of("object"),
            of("source")
        );
        is_told(&house, &sql, "Source", told).await;
        let plain = format!(
            "select o.objectId, s.mag from object o left join source s on s.objectId = o.objectId where o.objectId in {IDS}"
        );
        check(&house, &sql, &plain).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_alternatives_are_told_too() {
    let house = House::build(schemes().remove(0)).await;
    for (condition, told) in [
        ("objectId between 100 and 130", "objectId@0 >= 100 AND objectId@0 <= 130"),
        ("(objectId = 4 or objectId = 700)", "objectId@0 = 4 OR objectId@0 = 700"),
        ("objectId = 700", "objectId@0 = 700"),
        ("objectId > 2600 and rMag > 1", "objectId@0 > 2600"),
    ] {
        let sql = format!(
            "select o.objectId, (select max(s.mag) from source s where s.objectId = o.objectId) from (select * from \
             object where {condition}) o"
        );
        is_told(&house, &sql, "Source", told).await;
        let plain = format!(
            "select o.objectId, max(s.mag) from (select * from object where {}) o left join source s on s.objectId = \
             o.objectId group by o.objectId",
            condition.replace("rMag", "\"rMag\"")
        );
        check(&house, &sql, &plain).await;
    }
}
