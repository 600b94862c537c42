//! Workers and queries.

use skyflight_catalog::{
    CatalogError, CatalogStore, Estimated, QueryRecord, QueryState, SqliteStore, Worker, WorkerCapacity, WorkerId,
};

use crate::fixtures::OnDisk;

fn worker(id: &str, port: u16, last_seen_unix_ms: i64) -> Worker {
    Worker {
        id: WorkerId::from(id),
        address: format!("http://127.0.0.1:{port}"),
        last_seen_unix_ms,
        started_unix_ms: 5,
        capacity: WorkerCapacity { cores: 8, files: 12, bytes: 1 << 40 },
    }
}

#[tokio::test]
async fn a_worker_registers_again_under_the_same_name() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    store.register_worker(&worker("b", 1001, 10)).await.unwrap();
    store.register_worker(&worker("a", 1002, 11)).await.unwrap();
    store.register_worker(&worker("b", 1003, 12)).await.unwrap();
    assert_eq!(store.workers().await.unwrap(), [worker("a", 1002, 11), worker("b", 1003, 12)]);
    assert_eq!(disk.open().await.workers().await.unwrap().len(), 2);

    let bad = store.register_worker(&worker("a\nb", 1, 1)).await;
    assert!(matches!(bad, Err(CatalogError::Invalid(_))));
}

#[tokio::test]
async fn a_query_has_one_record_from_start_to_end() {
    let store = SqliteStore::in_memory().await.unwrap();
    let running = QueryRecord {
        id: "0198c5a0-0000-7000-8000-000000000001".to_owned(),
        user: "ann".to_owned(),
        sql: "SELECT 'o''brien' -- ünïcode".to_owned(),
        state: QueryState::Running,
        error: None,
        started_ms: 1000,
        finished_ms: None,
        rows: 0,
        bytes: 0,
        chunks: 0,
        estimate: Estimated { chunks: 3, rows: 4, bytes: 5, millis: 6 },
    };
    store.record_query(&running).await.unwrap();
    assert_eq!(store.queries(10).await.unwrap(), std::slice::from_ref(&running));

    let failed = QueryRecord {
        state: QueryState::Failed,
        error: Some("worker gone".to_owned()),
        finished_ms: Some(1500),
        rows: 7,
        bytes: 8,
        chunks: 9,
        ..running
    };
    let later =
        QueryRecord { id: "another".to_owned(), started_ms: 2000, state: QueryState::Cancelled, ..failed.clone() };
    store.record_query(&failed).await.unwrap();
    store.record_query(&later).await.unwrap();
    let of_bob =
        QueryRecord { id: "third".to_owned(), user: "bob".to_owned(), state: QueryState::Running, ..failed.clone() };
    store.record_query(&of_bob).await.unwrap();
    assert_eq!(store.queries_of("ann", 10).await.unwrap(), [later.clone(), failed.clone()]);
    assert_eq!(store.queries(1).await.unwrap(), [later]);
    assert_eq!(store.query(&failed.id).await.unwrap(), failed);
    assert!(matches!(store.query("none").await, Err(CatalogError::NotFound { .. })));

    assert_eq!(store.close_left_queries(3000, "the coordinator stopped").await.unwrap(), 1);
    let closed = store.query("third").await.unwrap();
    assert_eq!((closed.state, closed.finished_ms), (QueryState::Failed, Some(3000)));
    assert_eq!(store.close_left_queries(4000, "again").await.unwrap(), 0);
}

#[tokio::test]
async fn old_records_go_and_lists_are_short() {
    let store = SqliteStore::in_memory().await.unwrap();
    let record = |n: i64, state: QueryState| QueryRecord {
        id: format!("q{n}"),
        user: "ann".to_owned(),
        sql: "x".repeat(1 << 20),
        state,
        error: None,
        started_ms: n,
        finished_ms: None,
        rows: 0,
        bytes: 0,
        chunks: 0,
        estimate: Estimated::default(),
    };
    store.record_query(&record(0, QueryState::Running)).await.unwrap();
    for n in 1..=10 {
        store.record_query(&record(n, QueryState::Finished)).await.unwrap();
    }
    let listed = store.queries_of("ann", 100).await.unwrap();
    assert!(listed.len() == 11 && listed.iter().all(|query| query.sql.len() == 16 << 10));
    assert_eq!(store.query("q3").await.unwrap().sql.len(), 1 << 20);
    let kept = async || store.queries(100).await.unwrap().iter().map(|query| query.started_ms).collect::<Vec<_>>();
    assert_eq!(store.prune_queries(3, 100).await.unwrap(), 2, "by age");
    assert_eq!(kept().await, [10, 9, 8, 7, 6, 5, 4, 3, 0], "what runs stays");
    assert_eq!(store.prune_queries(0, 4).await.unwrap(), 4, "by number");
    assert_eq!(kept().await, [10, 9, 8, 7, 0]);
    assert_eq!(store.prune_queries(0, 4).await.unwrap(), 0);
}
