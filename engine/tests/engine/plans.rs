//! What runs where, read from EXPLAIN.

use crate::house::{House, schemes};

/// The rows of EXPLAIN that speak of leaves: chunks and fragments, joined by a bar.
async fn check(house: &House, sql: &str, expect: &[&str], not: &[&str]) {
    let rows = house.ask(&format!("explain {sql}")).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let text = rows.join("\n");
    for part in expect {
        assert!(text.contains(part), "{sql}\nhas no {part:?} in\n{text}");
    }
    for part in not {
        assert!(!text.contains(part), "{sql}\nhas {part:?} in\n{text}");
    }
}

fn fragment(rows: &[String]) -> String {
    rows.iter().filter(|r| r.starts_with("fragment")).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_moves_into_the_fragment() {
    let house = House::build(schemes().remove(0)).await;
    for (sql, expect) in [
        ("select ra + 1 from object where \"rMag\" > 20", vec!["FilterExec", "ProjectionExec"]),
        ("select band, count(*) from source group by band", vec!["AggregateExec: mode=Partial"]),
        ("select sum(ra) from object", vec!["AggregateExec: mode=Partial"]),
        ("select * from object order by \"rMag\" limit 3", vec!["TopK(fetch=3)"]),
        ("select * from object limit 3", vec!["limit=3"]),
    ] {
        let rows = house.ask(&format!("explain {sql}")).await.unwrap();
        let text = fragment(&rows);
        for part in expect {
            assert!(text.contains(part), "{sql}\nhas no {part:?} in the fragment\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scans_filters_and_projections_stream_and_nothing_else_does() {
    let house = House::build(schemes().remove(0)).await;
    let streamed = &["streamed"];
    let held = &["held until each chunk is whole"];
    check(&house, "select ra + 1 from object where rMag > 20", streamed, held).await;
    check(&house, "select ra from object where random() > 0.5", held, streamed).await;
    check(&house, "select sum(ra) from object", held, streamed).await;
    check(&house, "select o.ra from object o join source s on o.objectId = s.objectId", held, streamed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_on_the_director_key_are_local_and_others_are_not() {
    let house = House::build(schemes().remove(0)).await;
    let both = &["fragment 2"];
    check(
        &house,
        "select count(*) from object o join source s on o.objectId = s.objectId",
        &["HashJoinExec", "fragment 1"],
        both,
    )
    .await;
    check(&house, "select count(*) from source s left join object o on o.objectId = s.objectId", &["fragment 1"], both)
        .await;
    check(
        &house,
        "select count(*) from source s join filter f on s.band = f.band",
        &["fragment 1", "replicated"],
        both,
    )
    .await;
    // Both children have orphans, which may lie apart; and a magnitude is no key.
    check(&house, "select count(*) from source s join forced f on s.objectId = f.objectId", both, &[]).await;
    check(&house, "select count(*) from object o join source s on o.rMag = s.mag", both, &[]).await;
    // A left join from a replicated table would give its unmatched rows once for each chunk.
    check(&house, "select count(*) from filter f left join source s on s.band = f.band", both, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cone_touches_few_chunks_and_its_children_follow() {
    let house = House::build(schemes().remove(0)).await;
    let cone = "separation(o.ra, o.dec, 80.5, -4.5) < 0.2";
    check(&house, &format!("select * from object o where {cone}"), &["1 of "], &[]).await;
    let join = format!("select count(*) from object o join source s on o.objectId = s.objectId where {cone}");
    check(&house, &join, &["1 of "], &[]).await;
    // The cone is on the nullable side: every source is wanted.
    let outer = format!(
        "select count(*) from source s left join (select * from object o where {cone}) o on o.objectId = s.objectId"
    );
    check(&house, &outer, &[], &["1 of "]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_outside_a_chunk_leave_it_out() {
    for spec in schemes() {
        let house = House::build(spec).await;
        check(&house, "select * from object where objectId = -1000000", &["chunks=0 of "], &[]).await;
        check(&house, "select count(*) from source where objectId in (-3000000, 4000000)", &["chunks=0 of "], &[])
            .await;
        check(
            &house,
            "select count(*) from source where objectId > 4000000 or objectId is null",
            &[],
            &["chunks=0 of "],
        )
        .await;
        let join = "select s.mag from object o join source s on s.objectId = o.objectId where o.objectId = -7";
        check(&house, join, &["chunks=0 of "], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_snapshot_knows_touches_no_worker() {
    let house = House::build(schemes().remove(0)).await;
    for sql in [
        "select count(*) from object",
        "select count(*), min(objectId), max(objectId), count(objectId) from object",
        "select count(objectId), min(objectId) from source",
        "select count(*) from filter",
    ] {
        check(&house, sql, &["nothing is read", "PlaceholderRowExec"], &["fragment 1"]).await;
        assert_eq!(
            house.ask(sql).await.unwrap(),
            house.ask_plain(&sql.replace("objectId", "\"objectId\"")).await,
            "{sql}"
        );
    }
    // A filter, a limit, or a column that nobody counted.
    for sql in [
        "select count(*) from object where rMag > 20",
        "select count(*) from (select * from object limit 7) t",
        "select max(ra) from object",
        "select count(distinct objectId) from object",
    ] {
        check(&house, sql, &["fragment 1"], &["nothing is read"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_windows_by_a_whole_id_are_local() {
    let house = House::build(schemes().remove(0)).await;
    let merged = &["fragment 1"];
    for sql in [
        "select objectId, count(*), sum(rMag) from object group by objectId",
        "select o.objectId, count(s.mag) as n from object o left join source s on o.objectId = s.objectId group by o.objectId having count(*) > 3",
        "select objectId, row_number() over (partition by objectId order by rMag) from object",
        "select o.objectId, s.mag, rank() over (partition by o.objectId order by s.mag) from object o join source s on o.objectId = s.objectId",
        "select distinct objectId, rMag from object",
    ] {
        check(&house, sql, merged, &["mode=Final", "mode=FinalPartitioned", "fragment 2"]).await;
    }
    // Source has orphans, which may lie apart; without a partner every id is NULL; a magnitude is no id.
    for sql in [
        "select objectId, count(*) from source group by objectId",
        "select o.objectId, count(*) from source s left join object o on o.objectId = s.objectId group by o.objectId",
        "select rMag, count(*) from object group by rMag",
    ] {
        check(&house, sql, &["mode=Final"], &[]).await;
    }
    check(&house, "select rank() over (order by rMag) from object", &["not local|windows over director Object"], &[])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_why_a_join_is_not_local() {
    let house = House::build(schemes().remove(0)).await;
    for (sql, reason) in [
        ("select count(*) from object o join source s on o.rMag = s.mag", "are not joined on the id"),
        (
            "select count(*) from source s join forced f on s.objectId = f.objectId",
            "both have rows without a director row",
        ),
        ("select count(*) from filter f left join source s on s.band = f.band", "once for each chunk"),
        (
            "select count(*) from object a join object b on separation(a.ra, a.dec, b.ra, b.dec) < 5",
            "is above that of the overlap",
        ),
        ("select count(*) from object where objectId not in (select objectId from source)", "a NULL in NOT IN"),
    ] {
        check(&house, sql, &["not local|", reason], &[]).await;
    }
}
