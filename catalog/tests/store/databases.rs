//! Databases: names whatever their case, suggestions, drops.

use skyflight_catalog::{CatalogError, CatalogStore, CommitMode, SqliteStore};

use crate::fixtures::{OnDisk, files, ingest, object, stripes, this_process};

#[tokio::test]
async fn a_database_is_found_whatever_the_case_and_keeps_its_declared_name() {
    let store = SqliteStore::in_memory().await.unwrap();
    let made = store.create_database("Dr1", Some("first release")).await.unwrap();
    let found = store.database("dR1").await.unwrap();
    assert_eq!(found, made);
    assert_eq!(found.name, "Dr1");
    assert_eq!(found.description.as_deref(), Some("first release"));
    assert_eq!((found.scheme, found.current), (None, None));

    let again = store.create_database("DR1", None).await.unwrap_err();
    assert!(matches!(&again, CatalogError::AlreadyExists { name, .. } if name == "Dr1"), "{again}");
}

#[tokio::test]
async fn an_unknown_database_comes_with_the_nearest_name() {
    let store = SqliteStore::in_memory().await.unwrap();
    for name in ["hipparcos", "tycho2", "dr1"] {
        store.create_database(name, None).await.unwrap();
    }
    let error = store.database("Hiparcos").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no database \"Hiparcos\"; did you mean \"hipparcos\"?");
    let error = store.database("gaia").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no database \"gaia\"");
}

#[tokio::test]
async fn databases_are_listed_by_name() {
    let store = SqliteStore::in_memory().await.unwrap();
    for name in ["b", "C", "a"] {
        store.create_database(name, None).await.unwrap();
    }
    let names: Vec<String> = store.databases().await.unwrap().into_iter().map(|database| database.name).collect();
    assert_eq!(names, ["a", "b", "C"]);
}

#[tokio::test]
async fn a_dropped_database_is_gone_its_name_is_free_and_a_running_query_can_still_read_it() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    let first = store.create_database("dr1", None).await.unwrap();
    let snapshot = ingest(&store, "dr1", object(), CommitMode::Replace, 20, &[1, 2]).await;
    store.drop_database("DR1").await.unwrap();

    assert!(matches!(store.database("dr1").await, Err(CatalogError::NotFound { .. })));
    assert!(matches!(store.drop_database("dr1").await, Err(CatalogError::NotFound { .. })));
    assert!(matches!(store.current_snapshot(first.id).await, Err(CatalogError::NotFound { .. })));
    assert!(matches!(store.open_transaction(first.id, &this_process()).await, Err(CatalogError::NotFound { .. })));
    assert!(store.databases().await.unwrap().is_empty());
    assert!(store.current_snapshots().await.unwrap().is_empty());
    // Not from the cache of the store that committed it.
    let other = disk.open().await;
    assert_eq!(other.snapshot(snapshot).await.unwrap().tables[0].files.len(), 2);

    let second = store.create_database("dr1", None).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(second.current, None);
    // Tables of the old one are no obstacle to the new one's.
    ingest(&store, "dr1", object(), CommitMode::Append, 10, &[7]).await;
}

#[tokio::test]
async fn a_database_is_not_dropped_under_a_running_ingest() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert!(matches!(store.drop_database("dr1").await, Err(CatalogError::Busy { .. })));
    store.forget_transaction(opened.id).await.unwrap();
    store.drop_database("dr1").await.unwrap();
}

#[tokio::test]
async fn leftovers_of_a_dropped_database_are_handed_to_the_next_ingest_of_any() {
    let store = SqliteStore::in_memory().await.unwrap();
    let old = store.create_database("old", None).await.unwrap();
    let dead = store.open_transaction(old.id, &crate::fixtures::dead_process()).await.unwrap();
    store.drop_database("old").await.unwrap();

    let new = store.create_database("new", None).await.unwrap();
    let opened = store.open_transaction(new.id, &this_process()).await.unwrap();
    assert_eq!(opened.abandoned, [dead.id]);
    store.forget_transaction(dead.id).await.unwrap();
    assert_eq!(files(dead.id, 5, &[1])[0].id.transaction(), dead.id);
}

#[tokio::test]
async fn the_scheme_is_fixed_by_the_first_partitioned_ingest() {
    let store = SqliteStore::in_memory().await.unwrap();
    store.create_database("dr1", None).await.unwrap();
    ingest(&store, "dr1", crate::fixtures::filter_table(), CommitMode::Replace, 10, &[u64::MAX]).await;
    ingest(&store, "dr1", object(), CommitMode::Replace, 10, &[5]).await;
    assert_eq!(store.database("dr1").await.unwrap().scheme, Some(stripes()));
    assert_eq!(store.databases().await.unwrap()[0].scheme, Some(stripes()));
}
