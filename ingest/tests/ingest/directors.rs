//! Directors end in the right chunk files: every row once, where the scheme says, sorted, with the overlap that
//! brute force finds; from Parquet and from text; in both schemes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::support::{Cluster, describe, source, write_parquet};
use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use rand::{RngExt, SeedableRng};
use skyflight_catalog::{FileKind, Snapshot};
use skyflight_ingest::{HEALPIX_COLUMN, TableDescription};
use skyflight_sky::{ChunkId, Degrees, Position, Scheme};

const HEALPIX: &str =
    "[scheme]\nkind = \"healpix\"\nmin_order = 1\nmax_order = 6\nrow_limit = 150\noverlap_arcsec = 900.0\n";
const STRIPES: &str = "[scheme]\nkind = \"stripes\"\nstripes = 18\nsub_stripes = 5\noverlap_deg = 0.3\n";

fn object(scheme: &str) -> TableDescription {
    describe(&format!(
        "name = \"Object\"\nkind = \"director\"\nid = \"objectId\"\n[position]\nra = \"ra\"\ndec = \"dec\"\n{scheme}"
    ))
}

/// Positions where coordinates are awkward, and where many are close together.
fn awkward_positions(rows: usize) -> Vec<(f64, f64)> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let mut all = vec![
        (0.0, 90.0),
        (123.4, 90.0),
        (359.999_999_9, 90.0),
        (0.0, -90.0),
        (271.0, -90.0),
        (0.0, 0.0),
        (359.999_999_999_9, 0.0),
        (90.0, 0.0),
        (180.0, 0.0),
        (45.0, 41.810_314_895_778_6),
        (0.0, -10.0),
        (0.0, -10.0),
    ];
    while all.len() < rows {
        let around =
            |centre: f64, width: f64, rng: &mut rand_chacha::ChaCha8Rng| centre + width * (rng.random::<f64>() - 0.5);
        all.push(match all.len() % 5 {
            0 => (rng.random_range(0.0..360.0), around(89.5, 1.0, &mut rng)),
            1 => (rng.random_range(0.0..360.0), around(-89.8, 0.4, &mut rng)),
            2 => (around(0.0, 1.5, &mut rng).rem_euclid(360.0), around(2.0, 3.0, &mut rng)),
            3 => (around(266.4, 0.8, &mut rng), around(-29.0, 0.8, &mut rng)),
            _ => (rng.random_range(0.0..360.0), rng.random_range(-1.0_f64..1.0).asin().to_degrees()),
        });
    }
    all
}

fn write(cluster: &Cluster, positions: &[(f64, f64)], files: usize) -> Vec<std::path::PathBuf> {
    let folder = cluster.path("input");
    for (n, part) in positions.chunks(positions.len().div_ceil(files)).enumerate() {
        let first = (n * positions.len().div_ceil(files)) as i64;
        let ids: Vec<i64> = (first..).take(part.len()).collect();
        let names: Vec<Option<String>> = ids.iter().map(|id| (id % 7 != 0).then(|| format!("star {id}"))).collect();
        write_parquet(
            &folder.join(format!("{n}.parquet")),
            vec![
                ("objectId", Arc::new(Int64Array::from(ids))),
                ("dec", Arc::new(Float64Array::from_iter_values(part.iter().map(|(_, dec)| *dec)))),
                ("name", Arc::new(StringArray::from(names))),
                ("ra", Arc::new(Float64Array::from_iter_values(part.iter().map(|(ra, _)| *ra)))),
            ],
        );
    }
    vec![folder]
}

fn position(ra: f64, dec: f64) -> Position {
    Position::new(Degrees(ra), Degrees(dec)).unwrap()
}

fn column_i64<'a>(batch: &'a RecordBatch, name: &str) -> &'a Int64Array {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>()
}

fn ids(batch: &RecordBatch) -> Vec<i64> {
    column_i64(batch, "objectId").values().to_vec()
}

fn check(cluster: &Cluster, snapshot: &Snapshot, positions: &[(f64, f64)]) {
    let scheme: Arc<dyn Scheme> = snapshot.database.scheme.as_ref().unwrap().build().unwrap();
    let table = snapshot.table("object").unwrap();
    assert_eq!(table.facts.rows, positions.len() as u64);
    assert!(!table.facts.ids_span_chunks);
    let mut seen = BTreeSet::new();
    for (chunk, batches) in cluster.chunks(snapshot, "Object", FileKind::Rows) {
        for batch in batches {
            let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(names, ["objectId", "dec", "name", "ra", HEALPIX_COLUMN]);
            let cells = column_i64(&batch, HEALPIX_COLUMN);
            let mut order = Vec::new();
            for (row, id) in ids(&batch).into_iter().enumerate() {
                let (ra, dec) = positions[id as usize];
                assert_eq!(batch.column(3).as_primitive::<Float64Type>().value(row), ra);
                assert_eq!(batch.column(1).as_primitive::<Float64Type>().value(row), dec);
                let name = batch.column(2).as_string::<i32>();
                assert_eq!(name.is_null_at(row), id % 7 == 0);
                let location = scheme.locate(position(ra, dec));
                assert_eq!(location.chunk, chunk, "({ra}, {dec})");
                assert_eq!(cells.value(row) as u64, position(ra, dec).healpix29());
                let sub_chunk = if scheme.sub_chunk_first() { location.sub_chunk.0 } else { 0 };
                order.push((sub_chunk, cells.value(row), id));
                assert!(seen.insert(id), "row {id} is twice");
            }
            assert!(order.is_sorted(), "chunk {chunk} is not sorted");
        }
    }
    assert_eq!(seen.len(), positions.len());

    let mut expected: BTreeMap<ChunkId, BTreeSet<i64>> = BTreeMap::new();
    for chunk in scheme.chunks() {
        for (id, (ra, dec)) in positions.iter().enumerate() {
            let position = position(*ra, *dec);
            if scheme.locate(position).chunk != chunk && scheme.in_overlap(chunk, position) {
                expected.entry(chunk).or_default().insert(id as i64);
            }
        }
    }
    let mut found: BTreeMap<ChunkId, BTreeSet<i64>> = BTreeMap::new();
    for (chunk, batches) in cluster.chunks(snapshot, "Object", FileKind::Overlap) {
        for batch in batches {
            assert!(column_i64(&batch, HEALPIX_COLUMN).values().is_sorted());
            for id in ids(&batch) {
                assert!(found.entry(chunk).or_default().insert(id));
            }
        }
    }
    assert!(expected.len() > 5, "the test has no overlap");
    assert_eq!(found, expected);
}

trait NullAt {
    fn is_null_at(&self, row: usize) -> bool;
}

impl NullAt for StringArray {
    fn is_null_at(&self, row: usize) -> bool {
        arrow::array::Array::is_null(self, row)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parquet_in_both_schemes() {
    for scheme in [HEALPIX, STRIPES] {
        let cluster = Cluster::start(3).await;
        let positions = awkward_positions(3_000);
        let input = write(&cluster, &positions, 3);
        let report = cluster.ingest(vec![source(&object(scheme), &input)]).await.unwrap();
        let snapshot = cluster.snapshot("DR1").await;
        assert_eq!(report.snapshot, snapshot.id);
        assert_eq!(report.tables[0].rows, 3_000);
        assert!(report.tables[0].chunks > 40);
        check(&cluster, &snapshot, &positions);
        cluster.assert_nothing_else(&[&snapshot]);
        // Two copies each, shared out evenly.
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for file in snapshot.tables[0].files.iter().filter(|file| file.kind != FileKind::DirectorIndex) {
            assert_eq!(file.workers.len(), 2);
            file.workers.iter().for_each(|worker| *bytes.entry(worker.0.clone()).or_default() += file.bytes);
        }
        let (least, most) = (bytes.values().min().unwrap(), bytes.values().max().unwrap());
        assert_eq!(bytes.len(), 3);
        assert!(most - least < most / 4, "{bytes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_gives_what_parquet_gives() {
    let cluster = Cluster::start(1).await;
    let positions = awkward_positions(1_200);
    let mut text = String::from("objectId,dec,name,ra\n");
    for (id, (ra, dec)) in positions.iter().enumerate() {
        let name = if id % 7 == 0 { String::new() } else { format!("\"star {id}\"") };
        writeln!(text, "{id},{dec},{name},{ra}").unwrap();
    }
    let path = cluster.path("objects.csv");
    std::fs::write(&path, text).unwrap();
    cluster.ingest(vec![source(&object(HEALPIX), &[path])]).await.unwrap();
    let snapshot = cluster.snapshot("dr1").await;
    check(&cluster, &snapshot, &positions);
    let types: Vec<&str> = snapshot.tables[0].table.columns.iter().map(|column| column.data_type.as_str()).collect();
    assert_eq!(types, ["Int64", "Float64", "Utf8", "Float64", "Int64"]);
}

/// Memory far below the input: many runs for each chunk, merged in steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_give_the_same_chunks() {
    let cluster = Cluster::start(1).await;
    let mut positions = awkward_positions(6_000);
    let input = write(&cluster, &positions, 4);
    let mut request = cluster.request(vec![source(&object(HEALPIX), &input)]);
    request.memory_bytes = 0;
    request.threads = 3;
    cluster.run(request).await.unwrap();
    check(&cluster, cluster.snapshot("dr1").await.as_ref(), &positions);
    // More rows in a second transaction: appended, in the same scheme, beside the same chunks.
    let before = cluster.snapshot("dr1").await;
    let more: Vec<(f64, f64)> = positions.iter().map(|(ra, dec)| ((ra + 0.25).rem_euclid(360.0), *dec)).collect();
    let first = positions.len() as i64;
    let ids: Vec<i64> = (first..).take(more.len()).collect();
    let names: Vec<Option<String>> = ids.iter().map(|id| (id % 7 != 0).then(|| format!("star {id}"))).collect();
    let path = cluster.path("more/more.parquet");
    write_parquet(
        &path,
        vec![
            // Another order and a narrower type: the table's own stay.
            ("ra", Arc::new(Float64Array::from_iter_values(more.iter().map(|(ra, _)| *ra)))),
            ("dec", Arc::new(Float64Array::from_iter_values(more.iter().map(|(_, dec)| *dec)))),
            ("name", Arc::new(StringArray::from(names))),
            ("objectId", Arc::new(arrow::array::Int32Array::from_iter_values(ids.iter().map(|id| *id as i32)))),
        ],
    );
    cluster.ingest(vec![source(&object(""), &[path])]).await.unwrap();
    let after = cluster.snapshot("dr1").await;
    assert_eq!(after.database.scheme, before.database.scheme);
    positions.extend(more);
    check(&cluster, &after, &positions);
    cluster.assert_nothing_else(&[&after]);
}
