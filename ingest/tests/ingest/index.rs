//! The index of ids through many ingests: whole on every snapshot, of few files, and right when one is killed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::{
    Cluster, describe, files_below, ingest_as_child, kill_child, read, source, transaction_of, write_parquet,
};
use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{Int64Type, UInt64Type};
use skyflight_catalog::{FileKind, Snapshot};
use skyflight_ingest::{CommitMode, TableDescription};
use skyflight_sky::{Degrees, Position, Scheme};

fn object() -> TableDescription {
    describe(
        "name = \"Object\"\nkind = \"director\"\nid = \"objectId\"\n[position]\nra = \"ra\"\ndec = \"dec\"\n\
         [scheme]\nkind = \"healpix\"\nmin_order = 1\nmax_order = 3\nrow_limit = 50\n",
    )
}

fn detection() -> TableDescription {
    describe(
        "name = \"Source\"\nkind = \"child\"\ndirector = \"Object\"\ndirector_key = \"objectId\"\n\
         [position]\nra = \"ra\"\ndec = \"dec\"\n",
    )
}

/// An id, if any, and a position.
type Row = (Option<i64>, f64, f64);

/// Ids in no order, some of them in two ingests.
fn rows(ingest: i64, count: i64) -> Vec<Row> {
    let row = |n: i64| {
        let n = ingest * count * 9 / 10 + n;
        (
            Some(n * 7_919 % 100_003 - 50_000),
            (n as f64 * 137.5 + ingest as f64 * 40.0).rem_euclid(360.0),
            (n as f64).sin() * 89.0,
        )
    };
    (0..count).map(row).collect()
}

fn write(path: &Path, rows: &[Row]) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("objectId", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
        ("ra", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)))),
        ("dec", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)))),
    ];
    write_parquet(path, columns);
}

/// Where rows lie by their own positions: id and chunk.
fn places<'a>(scheme: &dyn Scheme, rows: impl IntoIterator<Item = &'a Row>) -> Vec<(i64, u64)> {
    let place = |(id, ra, dec): &Row| {
        Some(((*id)?, scheme.locate(Position::new(Degrees(*ra), Degrees(*dec)).unwrap()).chunk.0))
    };
    let mut places: Vec<(i64, u64)> = rows.into_iter().filter_map(place).collect();
    places.sort_unstable();
    places
}

fn scheme_of(snapshot: &Snapshot) -> Arc<dyn Scheme> {
    snapshot.database.scheme.as_ref().unwrap().build().unwrap()
}

fn index_files(cluster: &Cluster, snapshot: &Snapshot, table: &str) -> Vec<PathBuf> {
    let files = snapshot.table(table).unwrap().files.iter().filter(|file| file.kind == FileKind::DirectorIndex);
    files.map(|file| cluster.path(&format!("index/dr1/{table}/{}.parquet", file.id))).collect()
}

/// All entries of a table's index on a snapshot: id and chunk.
fn entries(cluster: &Cluster, snapshot: &Snapshot, table: &str) -> Vec<(i64, u64)> {
    let mut found = Vec::new();
    for path in index_files(cluster, snapshot, table) {
        let rows = read(&path);
        let ids = rows.column(0).as_primitive::<Int64Type>();
        assert!(ids.values().is_sorted());
        found.extend(
            ids.values().iter().copied().zip(rows.column(1).as_primitive::<UInt64Type>().values().iter().copied()),
        );
    }
    found.sort_unstable();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_ingests_make_few_files_and_every_snapshot_keeps_its_own() {
    let cluster = Cluster::start(1).await;
    let mut all: Vec<Row> = Vec::new();
    let mut snapshots = Vec::new();
    for n in 0..22 {
        let more = rows(n, 80);
        let path = cluster.path(&format!("{n}.parquet"));
        write(&path, &more);
        cluster.ingest(vec![source(&object(), &[path])]).await.unwrap();
        all.extend(more);
        let snapshot = cluster.snapshot("dr1").await;
        let files = index_files(&cluster, &snapshot, "Object");
        assert!(files.len() <= 8, "{} index files after {n} ingests", files.len());
        let expected = places(scheme_of(&snapshot).as_ref(), &all);
        let ids: BTreeSet<i64> = expected.iter().map(|place| place.0).collect();
        let spans = expected.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1);
        assert_eq!(snapshot.table("Object").unwrap().facts.ids_span_chunks, spans);
        assert!(n == 0 || (spans && ids.len() < expected.len()), "no id is there twice");
        snapshots.push((snapshot, expected));
    }
    let all_files = files_below(&cluster.path("index")).len();
    assert!(all_files > index_files(&cluster, &snapshots[21].0, "Object").len(), "nothing was merged");
    for (snapshot, expected) in &snapshots {
        assert_eq!(&entries(&cluster, snapshot, "Object"), expected);
    }
    // Replaced, it begins anew.
    let path = cluster.path("0.parquet");
    let mut table = source(&object(), &[path]);
    table.mode = CommitMode::Replace;
    cluster.ingest(vec![table]).await.unwrap();
    let anew = cluster.snapshot("dr1").await;
    assert_eq!(entries(&cluster, &anew, "Object"), snapshots[0].1);
}

/// Rows whose id no director row has lie by their own position, and an index of the child says where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_has_an_index_of_its_orphans() {
    let cluster = Cluster::start(1).await;
    write(&cluster.path("o.parquet"), &rows(0, 300));
    let mut orphans: Vec<Row> = Vec::new();
    for n in 0..3_i64 {
        let mut children = rows(0, 200);
        let lost: Vec<Row> =
            (0..50).map(|i| (Some(1_000_000 + i / 2 + n * 10), (i * 7 % 360) as f64, (i * 3 - 70) as f64)).collect();
        children.extend(&lost);
        children.push((None, 10.0, 10.0));
        orphans.extend(&lost);
        let path = cluster.path(&format!("s{n}.parquet"));
        write(&path, &children);
        let mut tables = vec![source(&detection(), &[path])];
        if n == 0 {
            tables.push(source(&object(), &[cluster.path("o.parquet")]));
        }
        cluster.ingest(tables).await.unwrap();
        let snapshot = cluster.snapshot("dr1").await;
        assert_eq!(snapshot.table("Source").unwrap().facts.orphans, 51 * (n as u64 + 1));
        assert_eq!(entries(&cluster, &snapshot, "Source"), places(scheme_of(&snapshot).as_ref(), &orphans));
        cluster.assert_nothing_else(&[&snapshot]);
    }
}

/// Not a test of its own: the process that the test below kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_child() {
    ingest_as_child(&object(), "merging.parquet").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_killed_after_it_merged_leaves_the_index_as_it_was() {
    let cluster = Cluster::start(1).await;
    let mut all: Vec<Row> = Vec::new();
    for n in 0..8 {
        let path = cluster.path(&format!("{n}.parquet"));
        write(&path, &rows(n, 60));
        cluster.ingest(vec![source(&object(), &[path])]).await.unwrap();
        all.extend(rows(n, 60));
    }
    let before = cluster.snapshot("dr1").await;
    let had = files_below(&cluster.path("index"));
    assert_eq!(index_files(&cluster, &before, "Object").len(), 8, "the next ingest merges");

    // No chunk file is ever taken, so the ingest waits with its index written.
    let behaviour = &cluster.workers[0].behaviour;
    behaviour.hang_after.store(behaviour.puts.load(Ordering::SeqCst) as i64, Ordering::SeqCst);
    write(&cluster.path("merging.parquet"), &rows(8, 60));
    cluster.register().await;
    let puts = behaviour.puts.load(Ordering::SeqCst);
    kill_child(&cluster, "index::crash_child", || behaviour.puts.load(Ordering::SeqCst) != puts).await;
    behaviour.hang_after.store(-1, Ordering::SeqCst);

    let left: BTreeSet<PathBuf> = files_below(&cluster.path("index")).difference(&had).cloned().collect();
    assert!(!left.is_empty() && had.iter().all(|path| path.exists()), "{left:?}");
    let dead = left.iter().find_map(|path| transaction_of(path));
    let merged: usize = left.iter().map(|path| read(path).num_rows()).sum();
    assert!(merged > 60, "it had not merged");
    assert_eq!(cluster.snapshot("dr1").await.id, before.id);
    let scheme = scheme_of(&before);
    assert_eq!(entries(&cluster, &before, "Object"), places(scheme.as_ref(), &all));

    // The next ingest removes what it left, and merges in its place.
    write(&cluster.path("next.parquet"), &rows(9, 60));
    cluster.ingest(vec![source(&object(), &[cluster.path("next.parquet")])]).await.unwrap();
    all.extend(rows(9, 60));
    let after = cluster.snapshot("dr1").await;
    assert!(index_files(&cluster, &after, "Object").len() < 8);
    assert_eq!(entries(&cluster, &after, "Object"), places(scheme.as_ref(), &all));
    assert_eq!(entries(&cluster, &before, "Object").len(), 480);
    assert!(files_below(&cluster.path("index")).iter().all(|path| transaction_of(path) != dead));
}
