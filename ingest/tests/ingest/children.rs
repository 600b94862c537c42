//! Children end in the chunks of their directors, however they are loaded; rows without a director are counted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::support::{Cluster, describe, read, source, write_parquet};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, UInt32Array};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use skyflight_catalog::{FileKind, Snapshot, TableFacts};
use skyflight_ingest::{CommitMode, HEALPIX_COLUMN, IngestError, TableDescription, TableSource};
use skyflight_sky::{ChunkId, Degrees, Position, Scheme};

fn object() -> TableDescription {
    describe(
        "name = \"Object\"\nkind = \"director\"\nid = \"objectId\"\n[position]\nra = \"ra\"\ndec = \"dec\"\n\
         [scheme]\nkind = \"healpix\"\nmin_order = 1\nmax_order = 5\nrow_limit = 100\n",
    )
}

fn detection() -> TableDescription {
    describe(
        "name = \"Source\"\nkind = \"child\"\nid = \"n\"\ndirector = \"object\"\ndirector_key = \"OBJECTID\"\n\
         [position]\nra = \"ra\"\ndec = \"dec\"\n",
    )
}

fn forced() -> TableDescription {
    describe("name = \"Forced\"\nkind = \"child\"\ndirector = \"Object\"\ndirector_key = \"objectId\"\n")
}

/// A director's row: its id and its position.
type Director = (i64, f64, f64);

/// A child's row: its number, its director's id, and its own position.
type Child = (u32, Option<i64>, Option<(f64, f64)>);

fn directors(first: i64, number: i64) -> Vec<Director> {
    (first..first + number)
        .map(|id| (id, (id as f64 * 137.507_764).rem_euclid(360.0), (id as f64 * 0.613).sin() * 89.9))
        .collect()
}

/// Three rows of each director, in no order; a few without a director, some of them without a position too.
fn children(directors: &[Director]) -> Vec<Child> {
    let mut all = Vec::new();
    for n in 0..directors.len() * 3 {
        let (id, ra, dec) = directors[(n * 7_919) % directors.len()];
        let own = Some(((ra + 0.01).rem_euclid(360.0), (dec + 0.02).clamp(-90.0, 90.0)));
        all.push(match n % 50 {
            13 => (n as u32, None, own),
            27 => (n as u32, Some(-1 - n as i64), own),
            31 => (n as u32, None, None),
            40 => (n as u32, Some(id), None),
            _ => (n as u32, Some(id), own),
        });
    }
    all
}

fn write_directors(cluster: &Cluster, file: &str, rows: &[Director]) -> PathBuf {
    let path = cluster.path(file);
    write_parquet(
        &path,
        vec![
            ("objectId", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))),
            ("ra", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)))),
            ("dec", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)))),
        ],
    );
    path
}

fn write_children(cluster: &Cluster, file: &str, rows: &[Child], positions: bool) -> PathBuf {
    let path = cluster.path(file);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.0)))),
        ("objectId", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1)))),
    ];
    if positions {
        columns.push(("ra", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.2.map(|own| own.0))))));
        columns.push(("dec", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.2.map(|own| own.1))))));
    }
    write_parquet(&path, columns);
    path
}

fn position(ra: f64, dec: f64) -> Position {
    Position::new(Degrees(ra), Degrees(dec)).unwrap()
}

/// Where each child belongs, found without the index: chunk and cell by number.
fn expected(
    scheme: &dyn Scheme,
    directors: &[Director],
    children: &[Child],
    positions: bool,
) -> BTreeMap<u32, (ChunkId, u64)> {
    let mut homes: BTreeMap<i64, (ChunkId, u64)> = BTreeMap::new();
    for (id, ra, dec) in directors {
        let home = (scheme.locate(position(*ra, *dec)).chunk, position(*ra, *dec).healpix29());
        homes.entry(*id).and_modify(|known| *known = (*known).min(home)).or_insert(home);
    }
    let lowest = homes.values().next().unwrap().0;
    let place = |(n, id, own): &Child| {
        let own = own.filter(|_| positions).map(|(ra, dec)| position(ra, dec));
        let director = id.and_then(|id| homes.get(&id));
        let cell = own.map(Position::healpix29).or(director.map(|home| home.1)).unwrap_or(0);
        let chunk = director.map(|home| home.0).or(own.map(|own| scheme.locate(own).chunk)).unwrap_or(lowest);
        (*n, (chunk, cell))
    };
    children.iter().map(place).collect()
}

fn stored(cluster: &Cluster, snapshot: &Snapshot, table: &str) -> BTreeMap<u32, (ChunkId, u64)> {
    let mut found = BTreeMap::new();
    for (chunk, batches) in cluster.chunks(snapshot, table, FileKind::Rows) {
        for batch in batches {
            let numbers = batch.column_by_name("n").unwrap().as_primitive::<UInt32Type>().clone();
            let cells = batch.column_by_name(HEALPIX_COLUMN).unwrap().as_primitive::<Int64Type>().clone();
            assert!(cells.values().is_sorted());
            for row in 0..batch.num_rows() {
                let place = (chunk, cells.value(row) as u64);
                assert!(found.insert(numbers.value(row), place).is_none(), "row {} is twice", numbers.value(row));
            }
        }
    }
    found
}

fn scheme_of(snapshot: &Snapshot) -> Arc<dyn Scheme> {
    snapshot.database.scheme.as_ref().unwrap().build().unwrap()
}

/// Every table has a chunk on the same workers.
fn assert_colocated(snapshot: &Snapshot) {
    let mut homes = BTreeMap::new();
    for file in
        snapshot.tables.iter().flat_map(|table| &table.files).filter(|file| file.kind != FileKind::DirectorIndex)
    {
        let home = homes.entry(file.chunk).or_insert_with(|| file.workers.clone());
        assert_eq!(*home, file.workers, "chunk {}", file.chunk);
    }
}

fn orphans(expected: &[Child]) -> u64 {
    expected.iter().filter(|(_, id, _)| id.is_none_or(|id| id < 0)).count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_one_call_and_in_several() {
    for one_call in [true, false] {
        let cluster = Cluster::start(3).await;
        let (objects, sources) = (directors(1, 1_500), children(&directors(1, 1_500)));
        let mut tables = vec![
            source(&forced(), &[write_children(&cluster, "f/f.parquet", &sources, false)]),
            source(&detection(), &[write_children(&cluster, "s/s.parquet", &sources, true)]),
            source(&object(), &[write_directors(&cluster, "o/o.parquet", &objects)]),
        ];
        if one_call {
            cluster.ingest(tables).await.unwrap();
        } else {
            while let Some(table) = tables.pop() {
                cluster.ingest(vec![table]).await.unwrap();
            }
        }
        let snapshot = cluster.snapshot("dr1").await;
        let scheme = scheme_of(&snapshot);
        assert_eq!(stored(&cluster, &snapshot, "Source"), expected(scheme.as_ref(), &objects, &sources, true));
        assert_eq!(stored(&cluster, &snapshot, "Forced"), expected(scheme.as_ref(), &objects, &sources, false));
        assert_colocated(&snapshot);
        cluster.assert_nothing_else(&[&snapshot]);
        let facts = |table: &str| snapshot.table(table).unwrap().facts;
        let without = orphans(&sources);
        assert!(without > 100);
        assert_eq!(
            facts("Object"),
            TableFacts { rows: 1_500, orphans: 0, ids_span_chunks: false, ..TableFacts::default() }
        );
        assert_eq!(
            facts("Source"),
            TableFacts { rows: 4_500, orphans: without, ids_span_chunks: false, ..TableFacts::default() }
        );
        assert_eq!(facts("Forced").orphans, without);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_says_where_directors_lie() {
    let cluster = Cluster::start(1).await;
    let mut objects = directors(1, 700);
    objects.push((7, 100.0, 10.0));
    objects.push((7, 280.0, -40.0));
    cluster.ingest(vec![source(&object(), &[write_directors(&cluster, "o.parquet", &objects)])]).await.unwrap();
    let snapshot = cluster.snapshot("dr1").await;
    let scheme = scheme_of(&snapshot);
    let table = snapshot.table("Object").unwrap();
    assert!(table.facts.ids_span_chunks);
    let file = table.files.iter().find(|file| file.kind == FileKind::DirectorIndex).unwrap();
    assert!(file.workers.is_empty());
    let index = read(&cluster.path(&format!("index/dr1/Object/{}.parquet", file.id)));
    let ids = index.column(0).as_primitive::<Int64Type>();
    assert!(ids.values().is_sorted());
    let mut found: Vec<(i64, u64, u32, i64)> = Vec::new();
    for row in 0..index.num_rows() {
        found.push((
            ids.value(row),
            index.column(1).as_primitive::<UInt64Type>().value(row),
            index.column(2).as_primitive::<UInt32Type>().value(row),
            index.column(3).as_primitive::<Int64Type>().value(row),
        ));
    }
    let mut expected: Vec<(i64, u64, u32, i64)> = objects
        .iter()
        .map(|(id, ra, dec)| {
            let location = scheme.locate(position(*ra, *dec));
            (*id, location.chunk.0, location.sub_chunk.0, position(*ra, *dec).healpix29() as i64)
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let statistics = file.statistics.iter().find(|column| column.column == "id").unwrap();
    assert_eq!((statistics.min.as_str(), statistics.max.as_str()), ("1", "700"));
}

/// A child of a director whose ids lie in two chunks goes to the first of them; later appends keep the facts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appending_keeps_facts_right() {
    let cluster = Cluster::start(2).await;
    let first = directors(1, 400);
    let path = write_directors(&cluster, "1.parquet", &first);
    cluster.ingest(vec![source(&object(), &[path])]).await.unwrap();
    let second = directors(401, 400);
    let path = write_directors(&cluster, "2.parquet", &second);
    cluster.ingest(vec![source(&object(), &[path])]).await.unwrap();
    let snapshot = cluster.snapshot("dr1").await;
    assert_eq!(
        snapshot.table("Object").unwrap().facts,
        TableFacts { rows: 800, orphans: 0, ids_span_chunks: false, ..TableFacts::default() }
    );

    // Children of both runs of the index, given alone.
    let mut objects = [first, second].concat();
    let sources = children(&objects);
    let path = write_children(&cluster, "s.parquet", &sources, true);
    cluster.ingest(vec![source(&detection(), &[path])]).await.unwrap();
    let snapshot = cluster.snapshot("dr1").await;
    let scheme = scheme_of(&snapshot);
    assert_eq!(stored(&cluster, &snapshot, "Source"), expected(scheme.as_ref(), &objects, &sources, true));
    let without = orphans(&sources);
    assert_eq!(snapshot.table("Source").unwrap().facts.orphans, without);

    // The same id again, elsewhere: seen only when both runs are looked at. Its new children go to the first.
    let again = vec![(5, 77.0, -12.0), (900, 10.0, 10.0)];
    let path = write_directors(&cluster, "3.parquet", &again);
    cluster.ingest(vec![source(&object(), &[path])]).await.unwrap();
    objects.extend(again);
    let more: Vec<Child> = vec![(100_000, Some(5), None), (100_001, Some(900), None), (100_002, None, None)];
    let path = write_children(&cluster, "s2.parquet", &more, true);
    cluster.ingest(vec![source(&detection(), &[path])]).await.unwrap();
    let snapshot = cluster.snapshot("dr1").await;
    assert!(snapshot.table("Object").unwrap().facts.ids_span_chunks);
    let facts = snapshot.table("Source").unwrap().facts;
    assert_eq!(facts, TableFacts { rows: 2_403, orphans: without + 1, ids_span_chunks: true, ..TableFacts::default() });
    let found = stored(&cluster, &snapshot, "Source");
    for (n, place) in expected(scheme.as_ref(), &objects, &more, true) {
        assert_eq!(found[&n], place, "row {n}");
    }
    assert_colocated(&snapshot);
}

/// A director row that comes after its children found none would lie elsewhere than they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directors_that_come_after_orphans_are_not_joined_in_chunks() {
    let cluster = Cluster::start(1).await;
    let objects = write_directors(&cluster, "o.parquet", &directors(1, 300));
    let sources: Vec<Child> = vec![(0, Some(1), None), (1, Some(9_999), None)];
    let sources = write_children(&cluster, "s.parquet", &sources, false);
    cluster.ingest(vec![source(&object(), &[objects]), source(&forced(), &[sources])]).await.unwrap();
    assert!(!cluster.snapshot("dr1").await.table("Object").unwrap().facts.ids_span_chunks);
    let late = write_directors(&cluster, "late.parquet", &[(9_999, 200.0, 50.0)]);
    cluster.ingest(vec![source(&object(), &[late])]).await.unwrap();
    assert!(cluster.snapshot("dr1").await.table("Object").unwrap().facts.ids_span_chunks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_takes_the_children_along() {
    let cluster = Cluster::start(1).await;
    let objects = write_directors(&cluster, "o.parquet", &directors(1, 300));
    let sources = write_children(&cluster, "s.parquet", &children(&directors(1, 300)), false);
    let tables = || vec![source(&object(), &[objects.clone()]), source(&forced(), &[sources.clone()])];
    cluster.ingest(tables()).await.unwrap();
    let replace = |mut table: TableSource| {
        table.mode = CommitMode::Replace;
        table
    };
    let refused = cluster.ingest(vec![replace(tables().remove(0))]).await.unwrap_err();
    assert!(
        matches!(&refused, IngestError::Description { reason, .. } if reason.contains("replace Forced")),
        "{refused}"
    );
    let before = cluster.snapshot("dr1").await;
    cluster.ingest(tables().into_iter().map(replace).collect()).await.unwrap();
    let after = cluster.snapshot("dr1").await;
    assert_eq!(after.table("Object").unwrap().facts.rows, 300);
    assert_eq!(stored(&cluster, &after, "Forced").len(), 900);
    // The old snapshot's files stay for queries that run on it.
    cluster.assert_nothing_else(&[&before, &after]);
}

/// More ids than the lookup may hold: rows and index are parted by id, the ids being text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_larger_than_memory_is_joined_in_parts() {
    let cluster = Cluster::start(1).await;
    let number = 70_000;
    let objects = directors(0, number);
    let name = |id: i64| format!("obj-{:06}", id * 7_919 % 1_000_003);
    write_parquet(
        &cluster.path("o/o.parquet"),
        vec![
            ("objectId", Arc::new(StringArray::from_iter_values(objects.iter().map(|row| name(row.0))))),
            ("ra", Arc::new(Float64Array::from_iter_values(objects.iter().map(|row| row.1)))),
            ("dec", Arc::new(Float64Array::from_iter_values(objects.iter().map(|row| row.2)))),
        ],
    );
    let rows: Vec<Option<i64>> = (0..100_000).map(|n: i64| (n % 100 != 3).then_some(n * 31 % (number + 500))).collect();
    write_parquet(
        &cluster.path("f/f.parquet"),
        vec![
            ("n", Arc::new(UInt32Array::from_iter_values(0..rows.len() as u32))),
            ("objectId", Arc::new(StringArray::from_iter(rows.iter().map(|id| id.map(name))))),
        ],
    );
    let mut director = object();
    director.scheme = None;
    let tables = vec![source(&director, &[cluster.path("o")]), source(&forced(), &[cluster.path("f")])];
    let mut request = cluster.request(tables);
    request.memory_bytes = 0;
    let report = cluster.run(request).await.unwrap();
    let snapshot = cluster.snapshot("dr1").await;
    let scheme = scheme_of(&snapshot);
    let home = |id: i64| {
        let (_, ra, dec) = objects[id as usize];
        (scheme.locate(position(ra, dec)).chunk, position(ra, dec).healpix29())
    };
    let lowest = objects.iter().map(|row| row.0).min_by_key(|id| name(*id)).unwrap();
    let found = stored(&cluster, &snapshot, "Forced");
    assert_eq!(found.len(), rows.len());
    let mut orphans = 0;
    for (n, id) in rows.iter().enumerate() {
        let place = match id.filter(|id| *id < number) {
            Some(id) => home(id),
            None => {
                orphans += 1;
                (home(lowest).0, 0)
            }
        };
        assert_eq!(found[&(n as u32)], place, "row {n}");
    }
    assert!(orphans > 1_000);
    assert_eq!(report.tables[1].orphans, orphans);
    cluster.assert_nothing_else(&[&snapshot]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicated_tables_are_on_every_worker() {
    let cluster = Cluster::start(3).await;
    let path = cluster.path("filters.csv");
    std::fs::write(&path, "filterId,name\n0,u\n1,g\n2,\n").unwrap();
    let table = describe("name = \"Filter\"\nkind = \"replicated\"\n");
    cluster.ingest(vec![source(&table, &[path])]).await.unwrap();
    let snapshot = cluster.snapshot("dr1").await;
    assert_eq!(snapshot.database.scheme, None);
    let table = snapshot.table("Filter").unwrap();
    let [file] = table.files.as_slice() else { panic!("{} files", table.files.len()) };
    assert_eq!((file.chunk, file.workers.len()), (ChunkId::EVERYWHERE, 3));
    let rows = cluster.rows_of(&snapshot, "Filter", file);
    assert_eq!(rows.num_columns(), 2);
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[0, 1, 2]);
    assert!(rows.column(1).is_null(2));
}
