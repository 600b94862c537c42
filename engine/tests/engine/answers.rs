//! The same questions to the engine and to plain DataFusion.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::house::{House, schemes};

/// Statements that both engines read: lower-case table names, columns in quotes.
const QUESTIONS: [&str; 34] = [
    r#"select * from object"#,
    r#"select count(*), sum("rMag"), min(ra), max(dec) from object"#,
    r#"select "objectId" from object where "rMag" > 20 and "rMag" is not null"#,
    r#"select count(*) from object where "rMag" is null"#,
    r#"select "objectId", "rMag" from object order by "rMag" desc nulls last, "objectId" limit 17"#,
    r#"select "objectId" from object order by "objectId" limit 5 offset 7"#,
    r#"select count(*) from (select * from source limit 100) x"#,
    r#"select distinct band from source"#,
    r#"select band, count(*), avg(mag), stddev(mag) from source group by band having count(*) > 10"#,
    r#"select count(distinct "objectId") from source"#,
    r#"select o."objectId", count(*) n, avg(s.mag) from object o join source s on s."objectId" = o."objectId" group by o."objectId""#,
    r#"select o."objectId", s.mag from object o left join source s on o."objectId" = s."objectId" and s.mag > 20 where o.dec > 80"#,
    r#"select count(*) from source s left join object o on o."objectId" = s."objectId" where o."objectId" is null"#,
    r#"select count(*) from object o right join source s on o."objectId" = s."objectId""#,
    r#"select count(*), count(o."objectId"), count(s."objectId") from object o full join source s on o."objectId" = s."objectId""#,
    r#"select count(*) from object where "objectId" in (select "objectId" from source where mag > 23)"#,
    r#"select count(*) from object where "objectId" not in (select "objectId" from source where "objectId" is not null and mag > 23)"#,
    r#"select count(*) from object o where not exists (select 1 from forced f where f."objectId" = o."objectId")"#,
    r#"select count(*) from source s join forced f on s."objectId" = f."objectId""#,
    r#"select f.wavelength, count(*) from source s join filter f on s.band = f.band group by f.wavelength"#,
    r#"select count(*) from filter f left join source s on s.band = f.band and s.mag > 24"#,
    r#"select "objectId", mag from source where mag > (select avg(mag) + 2 from source) union all select "objectId", "rMag" from object where dec < -89"#,
    r#"select * from object where "objectId" = 1000"#,
    r#"select count(*) from source where "objectId" in (4, 700, 1000, 2500, -5)"#,
    r#"select o."objectId", s.mag from object o join source s on s."objectId" = o."objectId" where o."objectId" between 100 and 130"#,
    r#"select o."objectId", s.mag from object o left join source s on s."objectId" = o."objectId" where o."objectId" < 100"#,
    r#"select count(*) from source where "objectId" is null or "objectId" < 0"#,
    r#"select count(*) from object where "objectId" = 1001"#,
    r#"select count(*), min("objectId"), max("objectId"), count("rMag") from object"#,
    r#"select "objectId", count(*), min("rMag") from object group by "objectId""#,
    r#"select o."objectId", count(s.mag) n from object o left join source s on o."objectId" = s."objectId" group by o."objectId" having count(*) > 3"#,
    r#"select o."objectId", count(*) from source s left join object o on o."objectId" = s."objectId" group by o."objectId""#,
    r#"select o."objectId", s.mag, rank() over (partition by o."objectId" order by s.mag) from object o join source s on o."objectId" = s."objectId""#,
    r#"select max(n) from (select o."objectId", count(*) n from object o join source s on o."objectId" = s."objectId" group by o."objectId") t"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_whole_tables_in_plain_datafusion() {
    for spec in schemes() {
        let house = House::build(spec).await;
        for sql in QUESTIONS {
            let expected = house.ask_plain(sql).await;
            let got = house.ask(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert!(!expected.is_empty(), "{sql} tests nothing");
            if sql.contains("avg") || sql.contains("sum") {
                assert_close(&got, &expected, sql);
            } else {
                assert_eq!(got, expected, "{sql}");
            }
        }
    }
}

/// Sums in another order differ in the last digits.
fn assert_close(got: &[String], expected: &[String], sql: &str) {
    assert_eq!(got.len(), expected.len(), "{sql}");
    for (a, b) in got.iter().zip(expected) {
        for (x, y) in a.split('|').zip(b.split('|')) {
            match (x.parse::<f64>(), y.parse::<f64>()) {
                (Ok(x), Ok(y)) => assert!((x - y).abs() <= 1e-9 * y.abs().max(1.0), "{sql}: {a} is not {b}"),
                _ => assert_eq!(x, y, "{sql}: {a} is not {b}"),
            }
        }
    }
}

/// A random condition on the position, of every spelling that prunes, and of some that do not.
fn random_condition(random: &mut ChaCha8Rng, depth: u32) -> String {
    let ra: f64 = match random.random_range(0..3) {
        0 => random.random_range(0.0..2.0),
        1 => random.random_range(358.0..360.0),
        _ => random.random_range(0.0..360.0),
    };
    let dec: f64 = match random.random_range(0..3) {
        0 => random.random_range(85.0..90.0),
        1 => random.random_range(-90.0..-85.0),
        _ => random.random_range(-90.0..90.0),
    };
    let r: f64 = [0.1, 2.0, 20.0, 100.0][random.random_range(0..4usize)];
    let (high_ra, high_dec) = ((ra + r).min(360.0), (dec + r).min(90.0));
    match random.random_range(0..if depth == 0 { 9 } else { 12 }) {
        0 => format!("separation(ra, dec, {ra}, {dec}) < {r}"),
        1 => format!("{r} >= scisql_angsep({ra}, {dec}, ra, dec)"),
        2 => format!("contains(point('ICRS', ra, dec), circle('ICRS', {ra}, {dec}, {r})) = 1"),
        3 => format!("ra between {ra} and {high_ra} and dec between {dec} and {high_dec}"),
        4 => format!("dec > {dec}"),
        5 => format!("{ra} < ra"),
        6 => format!("scisql_s2ptinbox(ra, dec, {ra}, {dec}, {}, {high_dec}) = 1", (ra + r) % 360.0),
        7 => format!("scisql_s2ptincircle(ra, dec, {ra}, {dec}, {r}) = 1"),
        8 => format!("\"rMag\" > {}", 15.0 + r / 20.0),
        9 => format!("({}) and ({})", random_condition(random, depth - 1), random_condition(random, depth - 1)),
        10 => format!("({}) or ({})", random_condition(random, depth - 1), random_condition(random, depth - 1)),
        _ => format!("not ({})", random_condition(random, depth - 1)),
    }
}

// A chunk dropped by pruning is a silently wrong answer, so every condition is asked twice: once
// where chunks are chosen, once where all rows are looked at.
#[tokio::test(flavor = "multi_thread")]
async fn pruning_never_loses_a_row() {
    let (mut pruned, mut with_rows) = (0, 0);
    for spec in schemes() {
        let house = House::build(spec).await;
        let mut random = ChaCha8Rng::seed_from_u64(11);
        for _ in 0..150 {
            let condition = random_condition(&mut random, 2);
            let sql = format!("select \"objectId\" from object where {condition}");
            let expected = house.ask_plain(&sql).await;
            let got = house.ask(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert_eq!(got, expected, "{sql}");
            with_rows += usize::from(!got.is_empty());
            let planned = house.plan(&sql).await.unwrap();
            let text = format!("{:?}", planned.physical_plan());
            pruned += usize::from(
                !text.contains("total: 0")
                    && planned.relay().unwrap().is_some_and(|r| r.chunks.chunks.len() < r.chunks.total),
            );
        }
    }
    assert!(pruned > 100 && with_rows > 100, "{pruned} pruned and {with_rows} with rows of 300 test too little");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_in_any_case_and_come_out_as_declared() {
    let house = House::build(schemes().remove(0)).await;
    let planned = house.plan("SELECT OBJECTID, Rmag FROM DR1.OBJECT WHERE DEC > 0").await.unwrap();
    let names: Vec<String> = planned.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["objectId", "rMag"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_listed() {
    let house = House::build(schemes().remove(0)).await;
    for sql in ["SHOW DATABASES", "show schemas"] {
        assert_eq!(house.ask(sql).await.unwrap(), ["dr1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_with_the_nearest_name() {
    let house = House::build(schemes().remove(0)).await;
    for (sql, expected) in [("select rmga from object", "rMag"), ("select * from objct", "Object"), ("selec 1", "SQL")]
    {
        let error = house.plan(sql).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{sql}: {error}");
    }
}
