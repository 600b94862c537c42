//! Real catalogs, where the folder with them exists.

use std::collections::BTreeMap;

use crate::support::{Cluster, describe, real_data, source};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};
use skyflight_catalog::FileKind;
use skyflight_sky::ChunkId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hipparcos() {
    let Some(data) = real_data() else { return };
    let cluster = Cluster::start(2).await;
    let table = describe(
        "name = \"hipparcos2\"\nkind = \"director\"\nid = \"hip\"\n[position]\nra = \"ra_j1991\"\ndec = \"dec_j1991\"\n\
         [scheme]\nkind = \"healpix\"\nrow_limit = 2000\n[columns.plx]\nunit = \"mas\"\n",
    );
    let file = data.join("sky/hipparcos2.parquet");
    let report = cluster.ingest(vec![source(&table, &[file])]).await.unwrap();
    // From the data's own README.
    assert_eq!(report.tables[0].rows, 117_955);
    let snapshot = cluster.snapshot("dr1").await;
    let chunks = cluster.chunks(&snapshot, "hipparcos2", FileKind::Rows);
    assert!(chunks.len() >= 48);
    assert_eq!(chunks.values().flatten().map(RecordBatch::num_rows).sum::<usize>(), 117_955);
    cluster.assert_nothing_else(&[&snapshot]);

    // The layout of a file, read by the Parquet library.
    let stored = &snapshot.table("hipparcos2").unwrap().files[0];
    let path = cluster.workers[0].path("dr1", "hipparcos2", stored.chunk, stored.id, stored.kind);
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let plx = builder.schema().field_with_name("plx").unwrap();
    assert_eq!(plx.metadata().get("unit").map(String::as_str), Some("mas"));
    let group = builder.metadata().row_group(0);
    let column = |name: &str| group.columns().iter().find(|column| column.column_path().string() == name).unwrap();
    assert!(group.columns().iter().all(|column| column.compression() == Compression::LZ4_RAW));
    assert!(group.columns().iter().all(|column| column.column_index_offset().is_some()));
    assert!(column("plx").encodings().any(|encoding| encoding == Encoding::BYTE_STREAM_SPLIT));
    assert!(column("plx").dictionary_page_offset().is_none());
    assert!(column("hip").bloom_filter_offset().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qserv_case01() {
    let Some(data) = real_data() else { return };
    for scheme in ["kind = \"healpix\"\nmax_order = 9\nrow_limit = 20\n", "kind = \"stripes\"\n"] {
        let cluster = Cluster::start(2).await;
        let object = describe(&format!(
            "name = \"Object\"\nkind = \"director\"\nid = \"objectId\"\n[position]\nra = \"ra_PS\"\ndec = \"decl_PS\"\n[scheme]\n{scheme}"
        ));
        let sources = describe(
            "name = \"Source\"\nkind = \"child\"\nid = \"sourceId\"\ndirector = \"Object\"\ndirector_key = \"objectId\"\n\
             [position]\nra = \"ra\"\ndec = \"decl\"\n",
        );
        let case = data.join("qserv/case01");
        let tables =
            vec![source(&object, &[case.join("Object.parquet")]), source(&sources, &[case.join("Source.parquet")])];
        let report = cluster.ingest(tables).await.unwrap();
        let counts: Vec<(u64, u64)> = report.tables.iter().map(|table| (table.rows, table.orphans)).collect();
        // From the data's own README.
        assert_eq!(counts, [(88, 0), (3_339, 36)]);
        let snapshot = cluster.snapshot("dr1").await;
        // Every source with an object is in that object's chunk, found by looking at all objects.
        let mut homes: BTreeMap<i64, ChunkId> = BTreeMap::new();
        for (chunk, batches) in cluster.chunks(&snapshot, "Object", FileKind::Rows) {
            for batch in batches {
                let ids = batch.column_by_name("objectId").unwrap().as_primitive::<Int64Type>();
                homes.extend(ids.values().iter().map(|id| (*id, chunk)));
            }
        }
        assert_eq!(homes.len(), 88);
        let mut together = 0;
        for (chunk, batches) in cluster.chunks(&snapshot, "Source", FileKind::Rows) {
            for batch in batches {
                let ids = batch.column_by_name("objectId").unwrap().as_primitive::<Int64Type>();
                for id in ids.iter().flatten() {
                    if let Some(home) = homes.get(&id) {
                        assert_eq!(*home, chunk);
                        together += 1;
                    }
                }
            }
        }
        assert_eq!(together, 3_339 - 36);
    }
}
