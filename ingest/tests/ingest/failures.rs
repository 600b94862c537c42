//! What goes wrong leaves the database as it was: bad rows, workers that fail, and an ingest that is killed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::{
    Cluster, describe, files_below, ingest_as_child, kill_child, source, transaction_of, write_parquet,
};
use arrow::array::{Float64Array, Int64Array};
use skyflight_catalog::CatalogStore;
use skyflight_ingest::{IngestError, RowPlace, TableDescription, infer};

fn object() -> TableDescription {
    describe(
        "name = \"Object\"\nkind = \"director\"\nid = \"objectId\"\n[position]\nra = \"ra\"\ndec = \"dec\"\n\
         [scheme]\nkind = \"healpix\"\nmin_order = 1\nmax_order = 4\nrow_limit = 100\n",
    )
}

fn write_objects(path: &Path, first: i64, rows: i64) {
    let ids = first..first + rows;
    write_parquet(
        path,
        vec![
            ("objectId", Arc::new(Int64Array::from_iter_values(ids.clone()))),
            ("ra", Arc::new(Float64Array::from_iter_values(ids.clone().map(|id| (id as f64 * 1.7).rem_euclid(360.0))))),
            ("dec", Arc::new(Float64Array::from_iter_values(ids.map(|id| (id as f64 * 0.7).sin() * 89.0)))),
        ],
    );
}

/// Each text, with the line and the words its refusal must have.
const BAD_TEXTS: [(&str, u64, &str); 9] = [
    ("objectId,ra,dec,mag\n1,10,20,7.5\n2,11,x,8\n", 3, "cannot hold \"x\""),
    ("objectId,ra,dec,mag\n1,10,20,7.5\n2,,21,8\n", 3, "no position"),
    ("objectId,ra,dec,mag\n1,10,nan,7.5\n", 2, "not a number"),
    ("objectId,ra,dec,mag\n1,10,20,7.5\n\n2,10,90.5,8\n", 4, "declination 90.5"),
    ("objectId,ra,dec,mag\n1,-0.5,20,7.5\n", 2, "right ascension -0.5"),
    ("objectId,ra,dec,mag\n1,360,20,7.5\n", 2, "right ascension 360"),
    ("objectId,ra,dec,mag\n1,10,20\n", 2, "3 values, the table has 4 columns"),
    ("objectId,ra,dec,mag\n,10,20,7\n", 2, "objectId is null"),
    ("objectId,ra,dec,mag\n1,10,20,\"7\n8,1,1,1\n", 2, "a quote is opened and not closed"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_row_stops_the_ingest_with_file_and_line() {
    let cluster = Cluster::start(1).await;
    for (n, (text, line, words)) in BAD_TEXTS.into_iter().enumerate() {
        let path = cluster.path(&format!("bad{n}.csv"));
        std::fs::write(&path, text).unwrap();
        let error = cluster.ingest(vec![source(&object(), &[path.clone()])]).await.unwrap_err();
        let IngestError::BadRow { file, place, reason } = &error else { panic!("{text:?}: {error}") };
        assert_eq!((file, *place), (&path, RowPlace::Line(line)), "{text:?}: {reason}");
        assert!(reason.contains(words), "{text:?}: {reason}");
    }
    // The last rows of two row groups of one file.
    let path = cluster.path("bad.parquet");
    let mut dec: Vec<f64> = vec![0.0; 500];
    dec[321] = 91.0;
    write_parquet(
        &path,
        vec![
            ("objectId", Arc::new(Int64Array::from_iter_values(0..500))),
            ("ra", Arc::new(Float64Array::from(vec![1.0; 500]))),
            ("dec", Arc::new(Float64Array::from(dec))),
        ],
    );
    let error = cluster.ingest(vec![source(&object(), &[path.clone()])]).await.unwrap_err();
    assert!(matches!(&error, IngestError::BadRow { file, place: RowPlace::Row(322), .. } if *file == path), "{error}");
    assert_eq!(cluster.store.database("dr1").await.unwrap().current, None);
    cluster.assert_nothing_else(&[]);
    assert_eq!(files_below(&cluster.path("index")).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_go_to_the_rejects_file() {
    let cluster = Cluster::start(1).await;
    let path = cluster.path("objects.csv");
    let mut text = String::from("objectId,ra,dec,mag\n");
    for n in 0..2_000 {
        let dec = if n % 400 == 7 { "here".to_owned() } else { format!("{}", f64::from(n % 180) - 90.0) };
        text.push_str(&format!("{n},{},{dec},{}\n", f64::from(n) * 0.1, f64::from(n) * 0.01));
        if n % 1_000 == 5 {
            text.push_str("1,2\n");
        }
    }
    text.push_str("5000,400,0,1\n");
    std::fs::write(&path, text).unwrap();
    let mut request = cluster.request(vec![source(&object(), &[path.clone()])]);
    request.rejects = Some(cluster.path("rejects.csv"));
    let report = cluster.run(request).await.unwrap();
    assert_eq!((report.tables[0].rows, report.tables[0].rejected), (1_995, 8));
    let rejects = std::fs::read_to_string(cluster.path("rejects.csv")).unwrap();
    let lines: Vec<&str> = rejects.lines().collect();
    assert_eq!(lines.len(), 9, "{rejects}");
    assert_eq!(lines[0], "table,file,place,reason,text");
    let file = path.display();
    assert_eq!(lines[1], format!("Object,{file},line 8,\"has 2 values, the table has 4 columns\",\"1,2\""));
    assert_eq!(
        lines[2],
        format!(
            "Object,{file},line 10,\"column dec (Float64) cannot hold \"\"here\"\"\",\"7,0.7000000000000001,here,0.07\""
        )
    );
    assert!(lines[8].contains("right ascension 400"), "{}", lines[8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_workers_and_missing_directors_are_told() {
    let cluster = Cluster::start(1).await;
    let path = cluster.path("o.parquet");
    write_objects(&path, 0, 10);
    let mut request = cluster.request(vec![source(&object(), &[path.clone()])]);
    request.replicas = 2;
    let error = cluster.run(request).await.unwrap_err();
    assert!(matches!(error, IngestError::TooFewWorkers { alive: 1, replicas: 2 }), "{error}");
    let child = describe("name = \"S\"\nkind = \"child\"\ndirector = \"Objekt\"\ndirector_key = \"objectId\"\n");
    let error = cluster.ingest(vec![source(&child, &[path.clone()])]).await.unwrap_err();
    assert!(error.to_string().contains("Objekt"), "{error}");
    let gone = cluster.path("gone.parquet");
    let error = cluster.ingest(vec![source(&object(), &[gone])]).await.unwrap_err();
    assert!(error.to_string().contains("gone.parquet"), "{error}");
    let broken = cluster.path("broken.parquet");
    std::fs::write(&broken, "not parquet").unwrap();
    let error = cluster.ingest(vec![source(&object(), &[broken])]).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read as Parquet"), "{error}");
    cluster.assert_nothing_else(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_fails_for_a_moment_is_asked_again() {
    let cluster = Cluster::start(2).await;
    let path = cluster.path("o.parquet");
    write_objects(&path, 0, 500);
    cluster.workers[1].behaviour.refuse.store(2, Ordering::SeqCst);
    cluster.ingest(vec![source(&object(), &[path])]).await.unwrap();
    let snapshot = cluster.snapshot("dr1").await;
    cluster.assert_nothing_else(&[&snapshot]);
    assert_eq!(snapshot.table("Object").unwrap().facts.rows, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_keeps_failing_leaves_the_snapshot_alone() {
    let cluster = Cluster::start(2).await;
    let (first, second) = (cluster.path("1.parquet"), cluster.path("2.parquet"));
    write_objects(&first, 0, 500);
    write_objects(&second, 500, 500);
    cluster.ingest(vec![source(&object(), &[first])]).await.unwrap();
    let before = cluster.snapshot("dr1").await;
    cluster.workers[1].behaviour.refuse.store(1_000, Ordering::SeqCst);
    let error = cluster.ingest(vec![source(&object(), &[second.clone()])]).await.unwrap_err();
    assert!(matches!(&error, IngestError::Worker { worker, .. } if worker == "w1"), "{error}");
    assert_eq!(cluster.snapshot("dr1").await.id, before.id);
    cluster.assert_nothing_else(&[&before]);
    assert_eq!(files_below(&cluster.path("index")).len(), 1);
    // And nothing stands in the way of the next.
    cluster.workers[1].behaviour.refuse.store(0, Ordering::SeqCst);
    cluster.ingest(vec![source(&object(), &[second])]).await.unwrap();
    assert_eq!(cluster.snapshot("dr1").await.table("Object").unwrap().facts.rows, 1_000);
}

/// Not a test of its own: the process that the test below kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_child() {
    ingest_as_child(&object(), "2.parquet").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_ingest_removes_what_a_killed_one_left() {
    let cluster = Cluster::start(2).await;
    write_objects(&cluster.path("1.parquet"), 0, 500);
    write_objects(&cluster.path("2.parquet"), 500, 3_000);
    cluster.ingest(vec![source(&object(), &[cluster.path("1.parquet")])]).await.unwrap();
    let before = cluster.snapshot("dr1").await;

    let had = cluster.workers[0].files().len();
    for worker in &cluster.workers {
        let puts = worker.behaviour.puts.load(Ordering::SeqCst);
        worker.behaviour.hang_after.store(puts as i64 + 10, Ordering::SeqCst);
    }
    cluster.register().await;
    kill_child(&cluster, "failures::crash_child", || cluster.workers[0].files().len() >= had + 8).await;

    // What it left is there, and the snapshot is what it was.
    let dead = cluster.workers[0].files().iter().filter_map(|path| transaction_of(path)).max().unwrap();
    assert!(!files_below(&cluster.path("staging")).is_empty());
    assert!(files_below(&cluster.path("index")).iter().any(|path| transaction_of(path) == Some(dead)));
    assert_eq!(cluster.snapshot("dr1").await.id, before.id);

    for worker in &cluster.workers {
        worker.behaviour.hang_after.store(-1, Ordering::SeqCst);
    }
    write_objects(&cluster.path("3.parquet"), 5_000, 200);
    cluster.ingest(vec![source(&object(), &[cluster.path("3.parquet")])]).await.unwrap();
    let after = cluster.snapshot("dr1").await;
    assert_eq!(after.table("Object").unwrap().facts.rows, 700);
    cluster.assert_nothing_else(&[&after]);
    assert!(files_below(&cluster.path("index")).iter().all(|path| transaction_of(path) != Some(dead)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_are_found_shown_and_overridden() {
    let cluster = Cluster::start(1).await;
    let path = cluster.path("t.tsv");
    std::fs::write(&path, "objectId\tRA\tdec\tflag\tday\n1\t10\t20\ttrue\t2026-01-02\n2\t11\t\\N\tfalse\t\\N\n")
        .unwrap();
    let mut description = object();
    let shown = infer(&[path.clone()], &description).await.unwrap().to_string();
    assert_eq!(
        shown,
        "Object (director)\n  objectId  Int64, id\n  RA        Float64, ra\n  dec       Float64, dec\n  \
         flag      Boolean\n  day       Date32\n"
    );
    description.columns.entry("day".into()).or_default().data_type = Some("string".into());
    let shown = infer(&[path.clone()], &description).await.unwrap().to_string();
    assert!(shown.contains("day       Utf8 (input: Date32)"), "{shown}");
    description.columns.entry("nothing".into()).or_default().unit = Some("m".into());
    let error = infer(&[path], &description).await.unwrap_err().to_string();
    assert!(error.contains("no column \"nothing\""), "{error}");
}

#[test]
fn descriptions_name_what_is_wrong_with_them() {
    let error = |text: &str| TableDescription::parse(text, "x.toml").unwrap_err().to_string();
    let director = "name = \"O\"\nkind = \"director\"\nid = \"i\"\n[position]\nra = \"a\"\ndec = \"d\"\n";
    assert!(TableDescription::parse(director, "x.toml").is_ok());
    for (text, word) in [
        (format!("colour = 1\n{director}"), "colour"),
        (format!("{director}unti = \"deg\"\n"), "unti"),
        (format!("{director}unit = \"rad\"\n"), "rad"),
        (format!("{director}[scheme]\nkind = \"healpix\"\norder = 3\n"), "order"),
        (format!("{director}[scheme]\nkind = \"healpix\"\nmin_order = 9\n"), "min_order"),
        (format!("{director}[csv]\ndelimiter = \"é\"\n"), "delimiter"),
        (format!("{director}[columns.x]\ntipe = \"int\"\n"), "tipe"),
        ("name = \"O\"\nkind = \"director\"\n".into(), "`id`"),
        ("name = \"O\"\nkind = \"child\"\n".into(), "`director`"),
        ("name = \"O 1\"\nkind = \"replicated\"\n".into(), "O 1"),
    ] {
        let message = error(&text);
        assert!(message.contains("x.toml") && message.contains(word), "{text}: {message}");
    }
}
