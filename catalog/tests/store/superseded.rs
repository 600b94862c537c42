//! Which files may leave the workers, and which may not.

use skyflight_catalog::{
    CatalogStore, Commit, CommitMode, FileId, FileKind, JobStep, NewFile, SnapshotId, SqliteStore, Superseded,
    TransactionId, WorkerId,
};

use crate::fixtures::{files, filter_table, ingest, object, stripes, this_process, write};
use crate::jobs::job;

const LATER: i64 = i64::MAX;

fn transactions(found: &Superseded) -> Vec<i64> {
    found.transactions.iter().map(|(transaction, _)| transaction.0).collect()
}

async fn transaction_of(store: &SqliteStore, snapshot: SnapshotId, table: &str) -> TransactionId {
    store.snapshot(snapshot).await.unwrap().table(table).unwrap().files[0].id.transaction()
}

#[tokio::test]
async fn what_was_replaced_or_dropped_may_leave_and_what_is_current_may_not() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let first = ingest(&store, "dr1", object(), CommitMode::Replace, 20, &[1, 2]).await;
    let first = transaction_of(&store, first, "Object").await;
    assert_eq!(store.superseded(LATER).await.unwrap(), Superseded::default());
    assert_eq!(store.superseded_bytes(database.id).await.unwrap(), 0);
    ingest(&store, "dr1", object(), CommitMode::Append, 30, &[3]).await;
    assert_eq!(store.superseded(LATER).await.unwrap(), Superseded::default());

    let replaced = ingest(&store, "dr1", object(), CommitMode::Replace, 10, &[1]).await;
    let found = store.superseded(LATER).await.unwrap();
    let both = vec![WorkerId::from("worker-1"), WorkerId::from("worker-2")];
    let second = TransactionId(first.0 + 1);
    assert_eq!(found.transactions, [(first, both.clone()), (second, both)]);
    assert_eq!(store.superseded_bytes(database.id).await.unwrap(), 1001 + 1002 + 1003);
    // Not before its time.
    let moment = store.snapshot(replaced).await.unwrap().created_unix_ms;
    assert_eq!(transactions(&store.superseded(moment).await.unwrap()).len(), 2);
    assert_eq!(store.superseded(moment - 1).await.unwrap(), Superseded::default());

    // One worker after the other; the files stay on record, so that nobody reads an empty table.
    store.forget_replicas(first, &WorkerId::from("worker-2")).await.unwrap();
    let found = store.superseded(LATER).await.unwrap();
    assert_eq!(found.transactions[0], (first, vec![WorkerId::from("worker-1")]));
    store.forget_replicas(first, &WorkerId::from("worker-1")).await.unwrap();
    assert_eq!(transactions(&store.superseded(LATER).await.unwrap()), [second.0]);
    assert_eq!(store.superseded_bytes(database.id).await.unwrap(), 1003);

    store.drop_table(database.id, "object").await.unwrap();
    assert_eq!(transactions(&store.superseded(LATER).await.unwrap()), [second.0, second.0 + 1]);
}

#[tokio::test]
async fn a_transaction_stays_whole_while_one_of_its_tables_is_current() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let tables = vec![
        write(object(), CommitMode::Replace, 20, files(opened.id, 0, &[1, 2])),
        write(filter_table(), CommitMode::Replace, 10, files(opened.id, 10, &[u64::MAX])),
    ];
    store.commit(opened.id, Commit { scheme: Some(stripes()), tables }).await.unwrap();
    store.drop_table(database.id, "Object").await.unwrap();
    assert_eq!(store.superseded(LATER).await.unwrap(), Superseded::default());
    store.drop_table(database.id, "Filter").await.unwrap();
    assert_eq!(transactions(&store.superseded(LATER).await.unwrap()), [opened.id.0]);
}

#[tokio::test]
async fn a_dropped_database_may_leave() {
    let store = SqliteStore::in_memory().await.unwrap();
    store.create_database("dr1", None).await.unwrap();
    store.create_database("dr2", None).await.unwrap();
    let snapshot = ingest(&store, "dr1", object(), CommitMode::Replace, 10, &[1]).await;
    ingest(&store, "dr2", object(), CommitMode::Replace, 10, &[1]).await;
    let transaction = transaction_of(&store, snapshot, "Object").await;
    store.drop_database("dr1").await.unwrap();
    assert_eq!(transactions(&store.superseded(LATER).await.unwrap()), [transaction.0]);
    assert_eq!(store.superseded(1).await.unwrap(), Superseded::default());
}

#[tokio::test]
async fn what_an_open_job_runs_on_stays_until_it_has_ended() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let first = ingest(&store, "dr1", object(), CommitMode::Replace, 10, &[1]).await;
    let second = ingest(&store, "dr1", object(), CommitMode::Replace, 10, &[2]).await;
    ingest(&store, "dr1", object(), CommitMode::Replace, 10, &[3]).await;
    let earliest = transaction_of(&store, first, "Object").await;
    let held = transaction_of(&store, second, "Object").await;
    let mut running = job("a", "ann", 1);
    running.snapshots = vec![(database.id, second)];
    store.submit_job(&running).await.unwrap();
    assert_eq!(transactions(&store.superseded(LATER).await.unwrap()), [earliest.0]);
    store.step_job("a", &JobStep::Start { at_unix_ms: 2 }).await.unwrap();
    assert_eq!(transactions(&store.superseded(LATER).await.unwrap()), [earliest.0]);
    store.step_job("a", &JobStep::Cancel { at_unix_ms: 3, chunks: 0 }).await.unwrap();
    assert_eq!(transactions(&store.superseded(LATER).await.unwrap()), [earliest.0, held.0]);
}

#[tokio::test]
async fn index_files_are_told_by_themselves() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
        let id = FileId::new(opened.id, 7);
        let [index] = <[NewFile; 1]>::try_from(files(opened.id, 7, &[u64::MAX])).unwrap();
        let index = NewFile { kind: FileKind::DirectorIndex, workers: Vec::new(), statistics: Vec::new(), ..index };
        let written = files(opened.id, 0, &[1]).into_iter().chain([index]).collect();
        let tables = vec![write(object(), CommitMode::Replace, 10, written)];
        store.commit(opened.id, Commit { scheme: Some(stripes()), tables }).await.unwrap();
        ids.push(id);
    }
    assert_eq!(store.superseded(LATER).await.unwrap().index_files, ids[..1]);
    assert!(store.superseded(1).await.unwrap().index_files.is_empty());
}
