//! A snapshot of the size design.md counts with: 10,000 chunks of three tables. Times are bounds far above what is
//! seen, there to catch a statement per file; the figures themselves are printed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skyflight_catalog::{CatalogStore, ColumnStatistics, Commit, CommitMode, NewFile, TransactionId};
use skyflight_sky::SchemeSpec;

use crate::fixtures::{OnDisk, files, object, source, this_process, write};

const CHUNKS: u64 = 10_000;

fn chunk_files(transaction: TransactionId, table: u32, chunks: &[u64]) -> Vec<NewFile> {
    let mut files = files(transaction, table * 1_000_000, chunks);
    for file in &mut files {
        file.statistics = ["objectId", "ra", "dec", "mag", "_healpix_29"]
            .map(|column| ColumnStatistics {
                column: column.to_owned(),
                min: "123.456789012".to_owned(),
                max: "234.567890123".to_owned(),
                null_count: 0,
                nan_count: None,
            })
            .to_vec();
    }
    files
}

#[tokio::test]
async fn ten_thousand_chunks_of_three_tables() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    let database = store.create_database("dr1", None).await.unwrap();
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let chunks: Vec<u64> = (0..CHUNKS).map(|chunk| (1 << 40) + chunk).collect();
    let mut forced = source();
    forced.name = "ForcedSource".to_owned();
    let tables = [object(), source(), forced]
        .into_iter()
        .zip(0_u32..)
        .map(|(table, n)| write(table, CommitMode::Replace, CHUNKS * 10, chunk_files(opened.id, n, &chunks)))
        .collect();
    let scheme = Some(SchemeSpec::Healpix { cells: chunks.clone(), overlap_arcsec: 60.0 });
    let started = Instant::now();
    let id = store.commit(opened.id, Commit { scheme, tables }).await.unwrap();
    let committed = started.elapsed();

    let fresh = disk.open().await;
    let started = Instant::now();
    let snapshot = fresh.snapshot(id).await.unwrap();
    let loaded = started.elapsed();
    assert_eq!(snapshot.tables.iter().map(|table| table.files.len()).sum::<usize>(), 30_000);
    assert_eq!(snapshot.tables[2].files[9_999].workers.len(), 2);
    assert_eq!(snapshot.tables[2].files[9_999].statistics.len(), 5);

    let rounds = 1_000;
    let started = Instant::now();
    for _ in 0..rounds {
        assert!(Arc::ptr_eq(&fresh.snapshot(id).await.unwrap(), &snapshot));
    }
    let cached = started.elapsed() / rounds;
    let started = Instant::now();
    for _ in 0..rounds {
        assert!(Arc::ptr_eq(&fresh.current_snapshots().await.unwrap()[0], &snapshot));
    }
    let current = started.elapsed() / rounds;
    println!("commit {committed:?}, load {loaded:?}, cached {cached:?}, current snapshots {current:?}");
    assert!(loaded < Duration::from_secs(30), "{loaded:?}");
    assert!(cached < Duration::from_millis(5), "{cached:?}");
    assert!(current < Duration::from_millis(50), "{current:?}");

    // An append writes what it brings, not the 30,000 files again.
    let before = disk.counts().await;
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let tables = vec![write(object(), CommitMode::Append, CHUNKS * 10 + 10, chunk_files(opened.id, 0, &chunks[..1]))];
    store.commit(opened.id, Commit { scheme: None, tables }).await.unwrap();
    let grown: Vec<i64> = disk.counts().await.iter().zip(before).map(|(after, before)| after - before).collect();
    // Snapshots, tables, definitions, columns, facts, files, replicas.
    assert_eq!(grown, [1, 0, 0, 0, 1, 1, 2]);
}
