//! One file, several stores: as a server and an ingest have it open in two processes.

use std::sync::Arc;

use skyflight_catalog::{CatalogError, CatalogStore, CommitMode, SqliteStore};

use crate::fixtures::{OnDisk, files, ingest, object, stripes, this_process, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_a_new_catalog_at_once() {
    let disk = OnDisk::new();
    let opening = (0..12).map(|_| {
        let path = disk.path();
        async move { SqliteStore::open(&path).await.map(drop) }
    });
    for opened in futures::future::join_all(opening.map(tokio::spawn)).await {
        opened.unwrap().unwrap();
    }
    let versions: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM schema_version").fetch_all(&mut disk.raw().await).await.unwrap();
    let each_once: Vec<i64> = (1..).take(versions.len()).collect();
    assert!(!versions.is_empty());
    assert_eq!(versions, each_once, "every step was taken, and once");
}

#[tokio::test]
async fn what_one_store_commits_the_other_sees_though_it_caches() {
    let disk = OnDisk::new();
    let (server, ingester) = (disk.open().await, disk.open().await);
    ingester.create_database("dr1", None).await.unwrap();
    let first = ingest(&ingester, "dr1", object(), CommitMode::Replace, 10, &[1]).await;
    let running = server.current_snapshots().await.unwrap();
    assert_eq!(running[0].id, first);
    let second = ingest(&ingester, "dr1", object(), CommitMode::Replace, 20, &[2, 3]).await;
    let next = server.current_snapshots().await.unwrap();
    assert_eq!(next[0].id, second);
    assert_eq!(next[0].tables[0].files.len(), 2);
    // The running query's is untouched.
    assert_eq!(running[0].tables[0].files.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_open_a_transaction_at_once_one_does() {
    let disk = OnDisk::new();
    let database = disk.open().await.create_database("dr1", None).await.unwrap().id;
    let mut racing = Vec::new();
    for _ in 0..8 {
        let store = disk.open().await;
        racing.push(tokio::spawn(async move { store.open_transaction(database, &this_process()).await }));
    }
    let (mut opened, mut busy) = (0, 0);
    for outcome in futures::future::join_all(racing).await {
        match outcome.unwrap() {
            Ok(_) => opened += 1,
            Err(CatalogError::Busy { .. }) => busy += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((opened, busy), (1, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_whole_snapshots_while_commits_go_on() {
    let disk = OnDisk::new();
    let writer = disk.open().await;
    writer.create_database("dr1", None).await.unwrap();
    ingest(&writer, "dr1", object(), CommitMode::Append, 10, &[1]).await;
    let database = writer.database("dr1").await.unwrap().id;
    let reader = Arc::new(disk.open().await);
    let reading = tokio::spawn(async move {
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 200 {
            for snapshot in reader.current_snapshots().await.unwrap() {
                let table = &snapshot.tables[0];
                let rows: u64 = table.files.iter().map(|file| file.rows).sum();
                assert_eq!(rows, table.facts.rows, "snapshot {}", snapshot.id);
                seen.insert(snapshot.id);
                if rows == 10 + 20 * 10 {
                    return seen.len();
                }
            }
        }
        seen.len()
    });
    for round in 1_u64..=20 {
        let opened = writer.open_transaction(database, &this_process()).await.unwrap();
        let tables = vec![write(object(), CommitMode::Append, 10 + round * 10, files(opened.id, 0, &[round]))];
        writer.commit(opened.id, skyflight_catalog::Commit { scheme: Some(stripes()), tables }).await.unwrap();
        writer.heartbeat(opened.id).await.unwrap_err();
    }
    assert!(reading.await.unwrap() >= 1);
}

#[tokio::test]
async fn a_catalog_of_a_later_version_and_a_file_that_is_none_are_refused() {
    let disk = OnDisk::new();
    drop(disk.open().await);
    sqlx::query("INSERT INTO schema_version (version) VALUES (99)").execute(&mut disk.raw().await).await.unwrap();
    let error = SqliteStore::open(&disk.path()).await.unwrap_err();
    assert!(matches!(error, CatalogError::NewerSchema { found: 99, .. }), "{error}");

    let text = disk.folder.path().join("notes.txt");
    std::fs::write(&text, "this is no catalog, it is a long enough text to be taken for a header of something")
        .unwrap();
    let error = SqliteStore::open(&text).await.unwrap_err();
    assert!(matches!(&error, CatalogError::Open { .. }) && error.to_string().contains("notes.txt"), "{error}");
    let error = SqliteStore::open(&text.join("catalog.sqlite")).await.unwrap_err();
    assert!(matches!(error, CatalogError::Open { .. }), "{error}");
}
