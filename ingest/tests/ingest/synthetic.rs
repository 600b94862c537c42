//! The synthetic sky: the same rows whatever the number of threads, dense where it should be, and fit to ingest.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::support::{Cluster, files_below, read, source};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use sha2::{Digest, Sha256};
use skyflight_ingest::{GenerateReport, GenerateRequest, TableDescription, generate};
use skyflight_sky::{Degrees, Position, separation};

async fn make(folder: &Path, objects: u64, threads: usize, seed: u64) -> GenerateReport {
    let request = GenerateRequest {
        objects,
        sources_per_object: 3,
        forced_per_object: 2,
        seed,
        threads,
        output: folder.to_owned(),
        progress: None,
    };
    generate(request).await.unwrap()
}

fn digests(folder: &Path) -> BTreeMap<PathBuf, [u8; 32]> {
    let relative = |path: &PathBuf| path.strip_prefix(folder).unwrap().to_owned();
    let digest = |path: &PathBuf| Sha256::digest(std::fs::read(path).unwrap()).into();
    files_below(folder).iter().map(|path| (relative(path), digest(path))).collect()
}

fn rows(folder: &Path, table: &str) -> Vec<RecordBatch> {
    files_below(&folder.join(table)).iter().map(|path| read(path)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_do_not_matter_and_seeds_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let one = make(&path("1"), 110_000, 1, 42).await;
    let four = make(&path("4"), 110_000, 4, 42).await;
    assert_eq!(GenerateReport { seconds: 0.0, ..one }, GenerateReport { seconds: 0.0, ..four });
    let files = digests(&path("1"));
    assert!(files.len() >= 3 * 2 + 3, "{} files", files.len());
    assert_eq!(files, digests(&path("4")));
    // Less over more: no part of the larger one stays.
    make(&path("4"), 1_000, 2, 42).await;
    make(&path("5"), 1_000, 2, 43).await;
    let (small, other) = (digests(&path("4")), digests(&path("5")));
    assert_eq!(small.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert_ne!(small[Path::new("Object/part-00000.parquet")], other[Path::new("Object/part-00000.parquet")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sky_is_as_promised() {
    let folder = tempfile::tempdir().unwrap();
    let report = make(folder.path(), 150_000, 2, 1).await;
    let objects = rows(folder.path(), "Object");
    let number = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
    assert_eq!(number(&objects), report.object_rows);
    assert_eq!(number(&rows(folder.path(), "Source")), report.source_rows);
    assert_eq!(number(&rows(folder.path(), "ForcedSource")), report.forced_rows);
    assert_eq!(report.object_rows, 150_000 + report.duplicate_objects);

    // Galactic plane and pole, the pole's coordinates from Hipparcos (ESA 1997, volume 1, section 1.5.3).
    let pole = Position::new(Degrees(192.859_48), Degrees(27.128_25)).unwrap();
    let (mut near_plane, mut near_poles, mut north, mut south, mut zero) = (0_u32, 0_u32, 0, 0, 0);
    let mut whole_rows = HashSet::new();
    let mut duplicates = 0;
    let mut ids = BTreeSet::new();
    let (mut nulls, mut values) = (0, 0);
    for batch in &objects {
        let fields = batch.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let keys = RowConverter::new(fields).unwrap().convert_columns(batch.columns()).unwrap();
        for key in &keys {
            duplicates += u64::from(!whole_rows.insert(key.as_ref().to_vec()));
        }
        ids.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
        nulls += batch.column_by_name("rMag").unwrap().null_count();
        values += batch.num_rows();
        let ra = batch.column(1).as_primitive::<Float64Type>();
        let dec = batch.column(2).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let (ra, dec) = (ra.value(row), dec.value(row));
            assert!((0.0..360.0).contains(&ra));
            let latitude = 90.0 - separation(pole, Position::new(Degrees(ra), Degrees(dec)).unwrap()).0;
            near_plane += u32::from(latitude.abs() < 2.0);
            near_poles += u32::from(latitude.abs() > 60.0);
            north += u32::from(dec > 89.9);
            south += u32::from(dec < -89.9);
            zero += u32::from(!(0.5..359.5).contains(&ra));
        }
    }
    assert_eq!(duplicates, report.duplicate_objects);
    assert_eq!(ids.len(), 150_000);
    assert!((1_000..4_000).contains(&duplicates), "{duplicates}");
    assert!(north > 0 && south > 0 && zero > 20, "{north} {south} {zero}");
    let share = nulls as f64 / values as f64;
    assert!((0.02..0.04).contains(&share), "{share}");
    // Areas: 4π sin 2° of the sky, and 4π (1 - sin 60°).
    let (plane_area, pole_area) = (2.0_f64.to_radians().sin(), 1.0 - 60.0_f64.to_radians().sin());
    let ratio = f64::from(near_plane) / plane_area / (f64::from(near_poles) / pole_area);
    assert!(ratio > 300.0, "{ratio} from {near_plane} and {near_poles}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_generated_can_be_ingested() {
    let cluster = Cluster::start(2).await;
    let folder = cluster.path("synthetic");
    let made = make(&folder, 20_000, 2, 5).await;
    let tables = ["ForcedSource", "Object", "Source"].map(|table| {
        let description = TableDescription::load(&folder.join(format!("{table}.toml"))).unwrap();
        source(&description, &[folder.join(table)])
    });
    let report = cluster.ingest(tables.to_vec()).await.unwrap();
    let names: Vec<(&str, u64, u64)> =
        report.tables.iter().map(|table| (table.table.as_str(), table.rows, table.orphans)).collect();
    assert_eq!(
        names,
        [
            ("Object", made.object_rows, 0),
            ("ForcedSource", made.forced_rows, made.orphan_forced),
            ("Source", made.source_rows, made.orphan_sources),
        ]
    );
    assert!(made.orphan_sources > 500 && made.orphan_forced > 300 && made.duplicate_sources > 200);
    let snapshot = cluster.snapshot("dr1").await;
    cluster.assert_nothing_else(&[&snapshot]);
    let object = snapshot.table("Object").unwrap();
    // Duplicates lie together: no id is in two chunks.
    assert!(!object.facts.ids_span_chunks);
    let ra = object.table.columns.iter().find(|column| column.name == "ra").unwrap();
    assert_eq!((ra.unit.as_deref(), ra.ucd.as_deref()), (Some("deg"), Some("pos.eq.ra;meta.main")));
}
