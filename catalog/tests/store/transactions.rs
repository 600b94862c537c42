//! One ingest at a time; a dead one gives way and can no longer commit.

use skyflight_catalog::{
    ABANDONED_AFTER_MS, CatalogError, CatalogStore, Commit, CommitMode, Owner, SqliteStore, TransactionId,
};

use crate::fixtures::{OnDisk, dead_process, files, object, stripes, this_process, write};

/// Sets the last heartbeat of a transaction back, as if its owner had been silent.
async fn silence(disk: &OnDisk, transaction: TransactionId, for_ms: i64) {
    let changed = sqlx::query("UPDATE transactions SET heartbeat_unix_ms = heartbeat_unix_ms - $2 WHERE id = $1")
        .bind(transaction.0)
        .bind(for_ms)
        .execute(&mut disk.raw().await)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
}

#[tokio::test]
async fn a_second_ingest_waits_for_the_first_but_not_in_another_database() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("Dr1", None).await.unwrap();
    let other = store.create_database("dr2", None).await.unwrap();
    let first = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert_eq!((first.base, first.abandoned.len()), (None, 0));

    let error = store.open_transaction(database.id, &this_process()).await.unwrap_err();
    let CatalogError::Busy { database: name, transaction, owner, .. } = &error else { panic!("{error}") };
    assert_eq!((name.as_str(), *transaction, owner), ("Dr1", first.id, &this_process()));
    let text = error.to_string();
    assert!(text.contains(&format!("test (process {} on ", std::process::id())), "{text}");

    let elsewhere = store.open_transaction(other.id, &this_process()).await.unwrap();
    assert!(elsewhere.id > first.id);
    store.forget_transaction(first.id).await.unwrap();
    let second = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert!(second.id > elsewhere.id);
    assert!(second.abandoned.is_empty());
}

#[tokio::test]
async fn a_transaction_whose_process_is_gone_is_abandoned_at_once_and_until_it_is_forgotten() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let dead = store.open_transaction(database.id, &dead_process()).await.unwrap();

    let second = store.open_transaction(database.id, &dead_process()).await.unwrap();
    assert_eq!(second.abandoned, [dead.id]);
    // The second died too, before it had removed the leftovers of the first.
    let third = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert_eq!(third.abandoned, [dead.id, second.id]);
    store.forget_transaction(dead.id).await.unwrap();
    store.forget_transaction(dead.id).await.unwrap();
    store.forget_transaction(third.id).await.unwrap();
    let fourth = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert_eq!(fourth.abandoned, [second.id]);
}

#[tokio::test]
async fn silence_longer_than_the_limit_abandons_and_shorter_does_not() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    let database = store.create_database("dr1", None).await.unwrap();
    // This process is alive, so only the heartbeat can tell.
    let first = store.open_transaction(database.id, &this_process()).await.unwrap();
    silence(&disk, first.id, ABANDONED_AFTER_MS - 5_000).await;
    let error = store.open_transaction(database.id, &this_process()).await.unwrap_err();
    let CatalogError::Busy { heartbeat_age_ms, .. } = error else { panic!("{error}") };
    assert!((ABANDONED_AFTER_MS - 5_000..ABANDONED_AFTER_MS).contains(&heartbeat_age_ms), "{heartbeat_age_ms}");

    silence(&disk, first.id, 6_000).await;
    store.heartbeat(first.id).await.unwrap();
    assert!(matches!(store.open_transaction(database.id, &this_process()).await, Err(CatalogError::Busy { .. })));

    silence(&disk, first.id, ABANDONED_AFTER_MS + 1).await;
    let second = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert_eq!(second.abandoned, [first.id]);
}

#[tokio::test]
async fn a_process_of_another_host_is_judged_by_its_heartbeat_alone() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let elsewhere = Owner { host: "another machine".to_owned(), ..dead_process() };
    store.open_transaction(database.id, &elsewhere).await.unwrap();
    assert!(matches!(store.open_transaction(database.id, &this_process()).await, Err(CatalogError::Busy { .. })));
}

#[tokio::test]
async fn an_owner_that_wakes_up_after_it_was_taken_over_can_do_nothing() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    let database = store.create_database("dr1", None).await.unwrap();
    let sleeper = store.open_transaction(database.id, &this_process()).await.unwrap();
    silence(&disk, sleeper.id, ABANDONED_AFTER_MS + 1).await;
    let next = store.open_transaction(database.id, &this_process()).await.unwrap();

    let is_closed = |error: CatalogError, expected: &str| matches!(&error, CatalogError::TransactionClosed { transaction, state } if *transaction == sleeper.id && state == expected);
    let tables = vec![write(object(), CommitMode::Replace, 10, files(sleeper.id, 0, &[1]))];
    let commit = Commit { scheme: Some(stripes()), tables };
    assert!(is_closed(store.heartbeat(sleeper.id).await.unwrap_err(), "abandoned"));
    assert!(is_closed(store.commit(sleeper.id, commit.clone()).await.unwrap_err(), "abandoned"));
    store.forget_transaction(sleeper.id).await.unwrap();
    assert!(is_closed(store.commit(sleeper.id, commit).await.unwrap_err(), "aborted"));
    assert_eq!(store.current_snapshot(database.id).await.unwrap(), None);
    store.heartbeat(next.id).await.unwrap();
}

#[tokio::test]
async fn a_transaction_is_given_up_only_while_it_is_open() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let tables = |transaction| vec![write(object(), CommitMode::Replace, 10, files(transaction, 0, &[1]))];
    let failed = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert!(store.abandon_transaction(failed.id).await.unwrap());
    assert!(!store.abandon_transaction(failed.id).await.unwrap());
    let commit = Commit { scheme: Some(stripes()), tables: tables(failed.id) };
    let refused = store.commit(failed.id, commit).await.unwrap_err();
    assert!(matches!(refused, CatalogError::TransactionClosed { .. }), "{refused}");
    // The next need not wait, and is told what remains to be removed.
    let next = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert_eq!(next.abandoned, [failed.id]);
    store.commit(next.id, Commit { scheme: Some(stripes()), tables: tables(next.id) }).await.unwrap();
    assert!(!store.abandon_transaction(next.id).await.unwrap(), "its files are those of the current snapshot");
}

#[tokio::test]
async fn a_committed_transaction_is_closed_and_its_successor_builds_on_it() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let first = store.open_transaction(database.id, &this_process()).await.unwrap();
    let tables = vec![write(object(), CommitMode::Replace, 10, files(first.id, 0, &[1]))];
    let commit = Commit { scheme: Some(stripes()), tables };
    let snapshot = store.commit(first.id, commit.clone()).await.unwrap();
    for error in [
        store.commit(first.id, commit).await.unwrap_err(),
        store.heartbeat(first.id).await.unwrap_err(),
        store.forget_transaction(first.id).await.unwrap_err(),
    ] {
        assert!(matches!(&error, CatalogError::TransactionClosed { state, .. } if state == "committed"), "{error}");
    }
    let second = store.open_transaction(database.id, &this_process()).await.unwrap();
    assert_eq!(second.base, Some(snapshot));
}

#[tokio::test]
async fn a_transaction_that_never_was_is_not_found() {
    let store = SqliteStore::in_memory().await.unwrap();
    let nobody = TransactionId(77);
    for error in [
        store.heartbeat(nobody).await.unwrap_err(),
        store.forget_transaction(nobody).await.unwrap_err(),
        store.commit(nobody, Commit::default()).await.unwrap_err(),
    ] {
        assert!(matches!(error, CatalogError::NotFound { what: "transaction", .. }), "{error}");
    }
}
