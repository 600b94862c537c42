//! Pairs end in the chunks of both their rows, each once by either; a companion has no second row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::Int64Type;
use skyflight_catalog::{FileKind, Snapshot};
use skyflight_ingest::{IngestError, TableDescription};
use skyflight_sky::{ChunkId, Degrees, Position, Scheme};

use crate::support::{Cluster, describe, source, write_parquet};

const SCHEMES: [&str; 2] = [
    "kind = \"healpix\"\nmin_order = 2\nmax_order = 5\nrow_limit = 100\n",
    "kind = \"stripes\"\nstripes = 30\nsub_stripes = 4\n",
];

/// Ids and positions.
type Directors = Vec<(i64, Position)>;

/// A pair: its number, and the ids of its rows.
type Pair = (i64, Option<i64>, Option<i64>);

fn director(name: &str, scheme: &str) -> TableDescription {
    describe(&format!(
        "name = \"{name}\"\nkind = \"director\"\nid = \"id\"\n[position]\nra = \"ra\"\ndec = \"dec\"\n[scheme]\n{scheme}"
    ))
}

fn pair_table() -> TableDescription {
    describe(
        "name = \"Pair\"\nkind = \"match\"\ndirector = \"Object\"\ndirector_key = \"object\"\n\
         second_director = \"Star\"\nsecond_director_key = \"star\"\n",
    )
}

fn position(ra: f64, dec: f64) -> Position {
    Position::new(Degrees(ra), Degrees(dec)).unwrap()
}

/// Objects everywhere, of which two share an id; stars 30 arcseconds south of each, and one far off.
fn positions() -> (Directors, Directors) {
    let place = |n: i64| ((n as f64 * 137.507_764).rem_euclid(360.0), (n as f64 * 0.613).sin() * 89.0);
    let mut objects: Directors = (1..2_000).map(|n| (n, position(place(n).0, place(n).1))).collect();
    let stars = (1..2_000).map(|n| (-n, position(place(n).0, place(n).1 - 30.0 / 3600.0))).collect();
    objects.push((7, position(place(7).0, place(7).1 + 1e-7)));
    (objects, stars)
}

fn pairs() -> Vec<Pair> {
    (1..2_000)
        .map(|n| match n % 40 {
            3 => (n, None, Some(-n)),
            5 => (n, Some(n), Some(5)),
            11 => (n, Some(-n), None),
            17 => (n, Some(n), Some(-(n * 3 % 1_999 + 1))),
            _ => (n, Some(n), Some(-n)),
        })
        .collect()
}

fn ids(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn rows(cluster: &Cluster, snapshot: &Snapshot, kind: FileKind) -> BTreeMap<i64, ChunkId> {
    let mut found = BTreeMap::new();
    for (chunk, batches) in cluster.chunks(snapshot, "Pair", kind) {
        for batch in batches {
            let numbers = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().clone();
            for row in 0..numbers.len() {
                assert!(found.insert(numbers.value(row), chunk).is_none(), "pair {} is twice", numbers.value(row));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_lie_in_the_chunks_of_both_their_rows() {
    for scheme in SCHEMES {
        let cluster = Cluster::start(2).await;
        let (objects, stars) = positions();
        let directors = [("Object", &objects), ("Star", &stars)].map(|(name, rows)| {
            let path = cluster.path(&format!("{name}.parquet"));
            let degrees = |of: fn(Position) -> f64| {
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, at)| of(*at)))) as ArrayRef
            };
            let columns = vec![
                ("id", ids(rows.iter().map(|(id, _)| Some(*id)))),
                ("ra", degrees(|at| at.ra().0)),
                ("dec", degrees(|at| at.dec().0)),
            ];
            write_parquet(&path, columns);
            source(&director(name, scheme), &[path])
        });
        let all = pairs();
        let path = cluster.path("pairs.parquet");
        let columns = vec![
            ("n", ids(all.iter().map(|pair| Some(pair.0)))),
            ("object", ids(all.iter().map(|pair| pair.1))),
            ("star", ids(all.iter().map(|pair| pair.2))),
        ];
        write_parquet(&path, columns);
        let [first, second] = directors;
        cluster.ingest(vec![source(&pair_table(), &[path]), second, first]).await.unwrap();
        let snapshot = cluster.snapshot("dr1").await;
        let scheme = snapshot.database.scheme.as_ref().unwrap().build().unwrap();
        check_places(&cluster, &snapshot, scheme.as_ref(), &all);
    }
}

fn check_places(cluster: &Cluster, snapshot: &Snapshot, scheme: &dyn Scheme, all: &[Pair]) {
    let (objects, stars) = positions();
    let places = |rows: &[(i64, Position)]| -> BTreeMap<i64, Position> { rows.iter().rev().copied().collect() };
    let (objects, stars) = (places(&objects), places(&stars));
    let chunk = |at: Position| scheme.locate(at).chunk;
    let (mut together, mut firsts, mut seconds) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut orphans, mut second_orphans, mut sure, mut unsure) = (0, 0, 0, 0);
    for (n, object, star) in all {
        let (first, second) = (object.and_then(|id| objects.get(&id)), star.and_then(|id| stars.get(&id)));
        orphans += u64::from(first.is_none());
        second_orphans += u64::from(second.is_none());
        match (first, second) {
            (Some(a), Some(b)) if chunk(*a) != chunk(*b) => {
                firsts.insert(*n, chunk(*a));
                seconds.insert(*n, chunk(*b));
                let beside = scheme.in_overlap(chunk(*a), *b) && scheme.in_overlap(chunk(*b), *a);
                if beside && *object != Some(7) { sure += 1 } else { unsure += 1 }
            }
            (Some(a), _) => drop(together.insert(*n, Some(chunk(*a)))),
            (None, b) => drop(together.insert(*n, b.map(|b| chunk(*b)))),
        }
    }
    let stored = rows(cluster, snapshot, FileKind::Rows);
    assert_eq!(stored.keys().collect::<Vec<_>>(), together.keys().collect::<Vec<_>>());
    for (n, home) in &together {
        // A pair that lacks both rows has a place, but any.
        assert!(home.is_none_or(|home| stored[n] == home), "pair {n}");
    }
    assert_eq!(rows(cluster, snapshot, FileKind::FirstOnly), firsts);
    assert_eq!(rows(cluster, snapshot, FileKind::SecondOnly), seconds);
    assert!(sure > 0 && unsure > 20, "{sure} pairs of two chunks are narrow, {unsure} are wide");
    let facts = snapshot.table("Pair").unwrap().facts;
    assert_eq!((facts.rows, facts.orphans, facts.pairs.second_orphans), (all.len() as u64, orphans, second_orphans));
    // What is not sure is not promised; within the radius, and that is what narrow pairs here are, it is.
    assert_eq!(facts.pairs.out_of_reach, unsure);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_has_one_row_of_each_director_row() {
    let cluster = Cluster::start(1).await;
    let (objects, _) = positions();
    let path = cluster.path("Object.parquet");
    let degrees = |of: fn(Position) -> f64| {
        Arc::new(Float64Array::from_iter_values(objects.iter().map(|(_, at)| of(*at)))) as ArrayRef
    };
    let columns = vec![
        ("id", ids(objects.iter().map(|(id, _)| Some(*id)))),
        ("ra", degrees(|at| at.ra().0)),
        ("dec", degrees(|at| at.dec().0)),
    ];
    write_parquet(&path, columns);
    cluster.ingest(vec![source(&director("Object", SCHEMES[0]), &[path])]).await.unwrap();
    let extra = describe("name = \"Extra\"\nkind = \"companion\"\ndirector = \"Object\"\ndirector_key = \"id\"\n");
    let write = |name: &str, of: Vec<i64>| {
        let path = cluster.path(name);
        write_parquet(&path, vec![("id", ids(of.iter().map(|id| Some(*id))))]);
        path
    };
    // An id that no object has is not looked at: nothing can be joined with it.
    let twice = write("twice.parquet", vec![4, 5, 900_000, 900_000, 6, 4]);
    let refused = cluster.ingest(vec![source(&extra, &[twice])]).await.unwrap_err();
    assert!(matches!(refused, IngestError::Description { .. }), "{refused:?}");
    assert!(refused.to_string().contains("two rows have id 4; a companion has at most one row"), "{refused}");
    let once = write("once.parquet", vec![4, 5, 900_000, 6]);
    cluster.ingest(vec![source(&extra, &[once])]).await.unwrap();
    let facts = cluster.snapshot("dr1").await.table("Extra").unwrap().facts;
    assert_eq!((facts.rows, facts.orphans), (4, 1));
}
