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
