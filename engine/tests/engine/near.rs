//! Joins of near rows: the answers of plain DataFusion, which pairs every row with every other, and
//! where they run.

use crate::house::{House, schemes};

/// Where the join of a statement runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Runs {
    /// Beside the chunks.
    Local,
    /// In the merge plan, by the operator.
    Merged,
    /// In the merge plan, as any other join.
    Otherwise,
}

use Runs::{Local, Merged, Otherwise};

/// Statements that both engines read, about positions up to a degree apart; the overlap is a minute.
const QUESTIONS: [(Runs, &str); 34] = [
    (Local, r#"select a."starId", b."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.01"#),
    (
        Local,
        r#"select a."starId", b."starId" from star a, star b where separation(a.ra, a.dec, b.ra, b.dec) < 0.0166 and a."starId" < b."starId""#,
    ),
    (
        Local,
        r#"select a."starId", b."starId" from star a, star b where scisql_angsep(a.ra, a.dec, b.ra, b.dec) * 3600 <= 59.5 and a."starId" <> b."starId""#,
    ),
    (
        Local,
        r#"select o."objectId", s."starId" from object o join star s on distance(point(o.ra, o.dec), point(s.ra, s.dec)) < 30.0 / 3600"#,
    ),
    (
        Local,
        r#"select o."objectId", s."starId" from object o join star s on contains(point(s.ra, s.dec), circle(o.ra, o.dec, 0.015)) = 1"#,
    ),
    (
        Local,
        r#"select o."objectId", s."starId" from object o join star s on scisql_s2ptincircle(o.ra, o.dec, s.ra, s.dec, 0.015) = 1"#,
    ),
    (
        Local,
        r#"select o."objectId", s."starId" from object o left join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.005 and s.err > 20"#,
    ),
    (
        Local,
        r#"select o."objectId", s."starId" from object o right join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.005"#,
    ),
    (
        Local,
        r#"select count(*) from object o where exists (select 1 from star s where separation(o.ra, o.dec, s.ra, s.dec) < 0.01)"#,
    ),
    (
        Local,
        r#"select "objectId" from object o where not exists (select 1 from star s where separation(o.ra, o.dec, s.ra, s.dec) < 0.01)"#,
    ),
    (
        Local,
        r#"select o."objectId", count(*), min(separation(o.ra, o.dec, s.ra, s.dec)) from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) between 0 and 0.016 group by o."objectId""#,
    ),
    (
        Local,
        r#"select s."starId", x.mag from star s join (select o.ra, o.dec, c.mag from object o join source c on c."objectId" = o."objectId" where c.mag > 20) x on separation(s.ra, s.dec, x.ra, x.dec) < 0.01"#,
    ),
    (
        Local,
        r#"select o."objectId", c.mag, s."starId" from object o join source c on c."objectId" = o."objectId" join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.003"#,
    ),
    (
        Local,
        r#"select a."starId", b."starId" from (select * from star where err < 30) a join (select * from star where err > 40) b on not (separation(a.ra, a.dec, b.ra, b.dec) >= 0.01)"#,
    ),
    (
        Local,
        r#"select a."starId", b."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.01 where separation(a.ra, a.dec, 90, 0) < 0.1"#,
    ),
    (
        Local,
        r#"select a."starId", b."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.01 where b.dec > 89.95 or b.dec < -89.95"#,
    ),
    (
        Local,
        r#"select a."starId", b."starId", c."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.005 join star c on separation(a.ra, a.dec, c.ra, c.dec) < 0.005 where a."starId" < b."starId" and b."starId" < c."starId""#,
    ),
    (
        Merged,
        r#"select a."starId", b."starId", c."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.005 join star c on separation(b.ra, b.dec, c.ra, c.dec) < 0.005 where a."starId" < b."starId" and b."starId" < c."starId""#,
    ),
    (
        Merged,
        r#"select o."objectId", s."starId" from object o full join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.005"#,
    ),
    (Merged, r#"select a."starId", b."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.05"#),
    (
        Merged,
        r#"select o."objectId", s."starId" from object o left join star s on separation(o.ra, o.dec, s.ra, s.dec) < 1"#,
    ),
    (Merged, r#"select count(*) from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 120"#),
    (Merged, r#"select count(*) from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) <= 180"#),
    (
        Merged,
        r#"select o."objectId", s."starId" from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < s.err / 3600"#,
    ),
    (
        Merged,
        r#"select o."objectId", s."starId" from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) * 3600 < s.err + 5"#,
    ),
    (
        Merged,
        r#"select a."starId", b."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < (a.err + b.err) / 3600 and a."starId" < b."starId""#,
    ),
    (
        Merged,
        r#"select a."starId", b."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.5 * sqrt(a.err * a.err + b.err * b.err) / 3600"#,
    ),
    (
        Merged,
        r#"select a."starId", b."starId" from star a left join star b on separation(a.ra, a.dec, b.ra, b.dec) < greatest(a.err, b.err) / 3600 and a."starId" <> b."starId""#,
    ),
    (
        Merged,
        r#"select count(*) from (select * from star order by err, "starId" limit 50) a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.01"#,
    ),
    (
        Merged,
        r#"select x."starId", x.n from (select s."starId", o."objectId" as n, row_number() over (partition by s."starId" order by separation(o.ra, o.dec, s.ra, s.dec), o."objectId") as rank from star s join object o on separation(o.ra, o.dec, s.ra, s.dec) < 0.03) x where x.rank <= 2"#,
    ),
    (
        Merged,
        r#"select count(*) from (values (90.0, 0.0), (0.0, 90.0), (0.01, 0.01)) as t(ra, dec) join star s on separation(s.ra, s.dec, t.ra, t.dec) < 0.05"#,
    ),
    (
        Otherwise,
        r#"select count(*) from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < a.err * b.err / 3600"#,
    ),
    (Otherwise, r#"select count(*) from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) > 179"#),
    (
        Otherwise,
        r#"select a."starId", b."starId" from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.01 or a."starId" = b."starId" + 1"#,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_every_row_paired_with_every_other() {
    for spec in schemes() {
        let house = House::build(spec).await;
        for (runs, sql) in QUESTIONS {
            let expected = house.ask_plain(sql).await;
            let got = house.ask(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert!(!expected.is_empty(), "{sql} tests nothing");
            if got != expected {
                let missing: Vec<_> = expected.iter().filter(|row| !got.contains(row)).take(5).collect();
                let surplus: Vec<_> = got.iter().filter(|row| !expected.contains(row)).take(5).collect();
                panic!("{sql}\n{} rows, not {}; missing {missing:?}, surplus {surplus:?}", got.len(), expected.len());
            }
            let plan = house.ask(&format!("explain {sql}")).await.unwrap();
            let found = match plan.iter().find(|row| row.contains("SphericalJoinExec")) {
                None => Otherwise,
                Some(_) if plan.iter().any(|r| r.starts_with("merge_plan") && r.contains("SphericalJoinExec")) => {
                    Merged
                }
                Some(_) => Local,
            };
            assert_eq!(found, runs, "{sql}\n{}", plan.join("\n"));
        }
    }
}

/// What is asked of near rows crosses chunks, or the tests above test less than they seem to.
#[tokio::test(flavor = "multi_thread")]
async fn many_near_pairs_lie_in_two_chunks() {
    for spec in schemes() {
        let scheme = spec.build().unwrap();
        let house = House::build(spec).await;
        let pairs = house
            .ask(
                "select a.ra, a.dec, b.ra, b.dec from star a, star b where separation(a.ra, a.dec, b.ra, b.dec) < 0.01",
            )
            .await
            .unwrap();
        let same = pairs.iter().filter(|pair| {
            let numbers: Vec<&str> = pair.split('|').collect();
            numbers[..2] == numbers[2..]
        });
        assert_eq!(same.count(), 800, "each star is near itself, and no other at the same place");
        let chunk = |ra: &str, dec: &str| {
            let degrees = |text: &str| skyflight_sky::Degrees(text.parse().unwrap());
            scheme.locate(skyflight_sky::Position::new(degrees(ra), degrees(dec)).unwrap()).chunk
        };
        let crossing = pairs.iter().filter(|pair| {
            let numbers: Vec<&str> = pair.split('|').collect();
            chunk(numbers[0], numbers[1]) != chunk(numbers[2], numbers[3])
        });
        let crossing = crossing.count();
        assert!(crossing > 20, "{crossing} of {} pairs", pairs.len());
    }
}

/// Statements that look at the first partners of each row, and whether the operator is told. Where the plan
/// above has to choose among equals, what it shows of them does not depend on the choice.
const FIRST: [(Option<&str>, &str); 27] = [
    (
        Some("left row the first 2 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 2"#,
    ),
    (
        Some("left row the first 1 by"),
        r#"select "objectId", "starId", n + 1 from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166 and s.err > 20) x where 2 > n"#,
    ),
    (
        Some("left row the first 2 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec) desc, s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n = 2"#,
    ),
    (
        Some("left row the first 3 with ties by"),
        r#"select * from (select o."objectId", s."starId", rank() over (partition by o."objectId" order by s.err % 20) as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 3"#,
    ),
    (
        Some("left row the first 2 different by"),
        r#"select * from (select o."objectId", s."starId", dense_rank() over (partition by o."objectId" order by s.err % 20 desc nulls first) as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n < 3"#,
    ),
    (
        Some("right row the first 1 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by s."starId" order by separation(o.ra, o.dec, s.ra, s.dec), o."objectId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 1"#,
    ),
    (
        Some("left row the first 1 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o left join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n = 1"#,
    ),
    (
        Some("right row the first 1 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by s."starId" order by separation(o.ra, o.dec, s.ra, s.dec), o."objectId") as n from object o left join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n = 1 and "starId" is not null"#,
    ),
    (
        Some("left row the first 1 with ties by"),
        r#"select * from (select o."objectId", s."starId", rank() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o right join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n = 1"#,
    ),
    (
        Some("left row the first 2 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o full join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 2"#,
    ),
    (
        Some("left row the first 3 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 1) x where n <= 3"#,
    ),
    (
        Some("left row the first 150 by"),
        r#"select * from (select a."starId", b."starId" as other, row_number() over (partition by a."starId" order by separation(a.ra, a.dec, b.ra, b.dec), b."starId") as n from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 60) x where n <= 150 and n > 148"#,
    ),
    (
        Some("left row the first 1 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < s.err / 3600) x where n <= 1"#,
    ),
    (
        Some("left row the first 2 by"),
        r#"select "starId", other from (select a."starId", b."starId" as other, row_number() over (partition by a."starId" order by separation(a.ra, a.dec, b.ra, b.dec), b."starId") as n from star a join star b on separation(a.ra, a.dec, b.ra, b.dec) < 0.0166 and a."starId" <> b."starId") x where n between 1 and 2"#,
    ),
    (
        Some("left row the first 1 by"),
        r#"select o."objectId", s."starId" from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166 qualify row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") = 1"#,
    ),
    (
        Some("left row the first 1 by"),
        r#"select distinct on (o."objectId") o."objectId", s."starId", s.err from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166 order by o."objectId", separation(o.ra, o.dec, s.ra, s.dec), s."starId""#,
    ),
    // Those of several rows, and of rows without a magnitude, are numbered together.
    (
        Some("left row the first 2 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."rMag" order by separation(o.ra, o.dec, s.ra, s.dec), o."objectId", s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 2"#,
    ),
    (
        Some("left row the first 4 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (order by separation(o.ra, o.dec, s.ra, s.dec), o."objectId", s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 4"#,
    ),
    (
        Some("left row the first 1 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by abs(o."rMag" - s.err), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 1"#,
    ),
    // Positions that are none.
    (
        Some("left row the first 1 by"),
        r#"select * from (select a."starId", b."starId" as other, row_number() over (partition by a."starId" order by separation(a.ra, a.dec, b.ra, b.dec), b."starId") as n from (select "starId", case when "starId" % 7 = 0 then null when "starId" % 11 = 0 then cast('NaN' as double) else ra end as ra, dec from star) a left join (select "starId", ra, case when "starId" % 5 = 0 then null when "starId" % 13 = 0 then cast('NaN' as double) else dec end as dec from star) b on separation(a.ra, a.dec, b.ra, b.dec) < 0.02) x where n <= 1"#,
    ),
    // An empty side.
    (
        Some("left row the first 1 by"),
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec)) as n from object o left join (select * from star where err > 1000) s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 1"#,
    ),
    // Whatever else is asked of the pairs needs them all.
    (
        None,
        r#"select * from (select o."objectId", s."starId", count(*) over (partition by o."objectId") as c, row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 1"#,
    ),
    (
        None,
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n > 1"#,
    ),
    (
        None,
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId", s.err order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) x where n <= 1"#,
    ),
    (
        None,
        r#"select * from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o left join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166 where s.err is null or s.err > 30) x where n <= 1"#,
    ),
    (
        None,
        r#"select o."objectId", first_value(s."starId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId"), count(*) from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166 group by o."objectId""#,
    ),
    (
        None,
        r#"select * from (select o."objectId", n, rank() over (partition by o."objectId" order by n desc) as m from (select o."objectId", s."starId", row_number() over (partition by o."objectId" order by separation(o.ra, o.dec, s.ra, s.dec), s."starId") as n from object o join star s on separation(o.ra, o.dec, s.ra, s.dec) < 0.0166) o) x where m <= 1"#,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_first_partners_of_each_row_are_those_among_all() {
    for spec in schemes() {
        let house = House::build(spec).await;
        for (told, sql) in FIRST {
            let expected = house.ask_plain(sql).await;
            let got = house.ask(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert!(!expected.is_empty(), "{sql} tests nothing");
            if got != expected {
                let missing: Vec<_> = expected.iter().filter(|row| !got.contains(row)).take(5).collect();
                let surplus: Vec<_> = got.iter().filter(|row| !expected.contains(row)).take(5).collect();
                panic!("{sql}\n{} rows, not {}; missing {missing:?}, surplus {surplus:?}", got.len(), expected.len());
            }
            let plan = house.ask(&format!("explain {sql}")).await.unwrap().join("\n");
            match told {
                Some(told) => assert!(plan.contains(&format!("of each {told}")), "{sql}\n{plan}"),
                None => assert!(!plan.contains("of each"), "{sql}\n{plan}"),
            }
        }
    }
}

/// Where few rows look for partners among very many, the few are arranged, though more pairs then come out; and of
/// very many partners none is held back.
#[tokio::test(flavor = "multi_thread")]
async fn few_rows_with_many_partners() {
    let house = House::build(schemes().remove(0)).await;
    let number =
        r#"row_number() over (partition by a."starId" order by separation(a.ra, a.dec, b.ra, b.dec), b."objectId")"#;
    let near = |few: &str, deg: f64, most: usize| {
        format!(
            r#"select "starId", "objectId", n from (select a."starId", b."objectId", {number} as n from {few} a
               join object b on separation(a.ra, a.dec, b.ra, b.dec) < {deg}) x where n <= {most}"#
        )
    };
    for (sql, told) in [
        (near(r#"(select * from star where "starId" < 3)"#, 20.0, 2), false),
        (near("star", 20.0, 2), true),
        (near("star", 20.0, 100_000), false),
    ] {
        let expected = house.ask_plain(&sql).await;
        assert!(!expected.is_empty(), "{sql}");
        assert_eq!(house.ask(&sql).await.unwrap(), expected, "{sql}");
        let plan = house.ask(&format!("explain {sql}")).await.unwrap().join("\n");
        assert_eq!(plan.contains("arranged=right, of each left row the first"), told, "{sql}\n{plan}");
        assert_eq!(plan.contains("arranged=left, condition"), !told, "{sql}\n{plan}");
    }
}

/// The side with fewer rows is arranged, whatever the join, also where one side brings its overlap.
#[tokio::test(flavor = "multi_thread")]
async fn the_smaller_side_is_arranged() {
    let house = House::build(schemes().remove(0)).await;
    let few = r#"(select * from star where "starId" < 100)"#;
    let joins = ["join", "left join", "right join", "full join", "left semi join", "right anti join"];
    for (left, right, arranged) in [("object", few, "right"), (few, "object", "left")] {
        for radius in [0.0166, 3.0] {
            for join in joins {
                let sql = format!(
                    "select count(*) from {left} a {join} {right} b on separation(a.ra, a.dec, b.ra, b.dec) < {radius}"
                );
                let expected = house.ask_plain(&sql).await;
                assert_eq!(house.ask(&sql).await.unwrap(), expected, "{sql}");
                let plan = house.ask(&format!("explain {sql}")).await.unwrap().join("\n");
                assert!(plan.contains(&format!("arranged={arranged}")), "{sql}\n{plan}");
            }
        }
    }
}
