//! Jobs: their record survives, and each goes its way once, whoever pushes.

use skyflight_catalog::{
    CatalogError, CatalogStore, DatabaseId, Estimated, Job, JobFailure, JobFilter, JobResult, JobState, JobStep,
    SnapshotId, SqliteStore,
};

use crate::fixtures::OnDisk;

pub(crate) fn job(id: &str, user: &str, submitted_unix_ms: i64) -> Job {
    Job {
        id: id.to_owned(),
        user: user.to_owned(),
        sql: "SELECT 'o''brien' FROM dr1.Object -- ünïcode".to_owned(),
        values: Some(vec![3, 0, 255]),
        default_database: Some("dr1".to_owned()),
        shuffle: None,
        signed_integers: true,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        snapshots: vec![(DatabaseId(1), SnapshotId(7)), (DatabaseId(3), SnapshotId(9))],
        schema: vec![1, 2, 255],
        warnings: vec!["random() is drawn again".to_owned()],
        estimate: Estimated { chunks: 10, rows: 20, bytes: 30, millis: 40 },
        state: JobState::Queued,
        submitted_unix_ms,
        started_unix_ms: None,
        ended_unix_ms: None,
        expires_unix_ms: None,
        starts: 0,
        chunks: 0,
        failure: None,
        result: None,
    }
}

const RESULT: JobResult = JobResult { rows: 5, bytes: 600, batches: 2, sha256: [9; 32] };

fn finish(at_unix_ms: i64) -> JobStep {
    JobStep::Finish { at_unix_ms, expires_unix_ms: at_unix_ms + 1_000, chunks: 10, result: RESULT }
}

#[tokio::test]
async fn a_job_comes_back_as_it_was_submitted_and_as_it_ended() {
    let disk = OnDisk::new();
    let submitted = job("a", "ann", 100);
    disk.open().await.submit_job(&submitted).await.unwrap();
    let store = disk.open().await;
    assert_eq!(store.job("a").await.unwrap(), submitted);
    assert!(matches!(store.submit_job(&submitted).await, Err(CatalogError::AlreadyExists { .. })));
    assert!(matches!(store.job("b").await, Err(CatalogError::NotFound { .. })));

    assert!(store.step_job("a", &JobStep::Start { at_unix_ms: 110 }).await.unwrap());
    // Its coordinator died; the next begins it again.
    assert!(store.step_job("a", &JobStep::Start { at_unix_ms: 120 }).await.unwrap());
    assert!(store.step_job("a", &finish(130)).await.unwrap());
    let finished = Job {
        state: JobState::Finished,
        started_unix_ms: Some(110),
        ended_unix_ms: Some(130),
        expires_unix_ms: Some(1_130),
        starts: 2,
        chunks: 10,
        result: Some(RESULT),
        ..submitted.clone()
    };
    assert_eq!(store.job("a").await.unwrap(), finished);
    assert!(store.step_job("a", &JobStep::Expire).await.unwrap());
    assert_eq!(disk.open().await.job("a").await.unwrap(), Job { state: JobState::Expired, ..finished });
}

#[tokio::test]
async fn a_step_is_taken_only_from_where_it_leads_on() {
    let store = SqliteStore::in_memory().await.unwrap();
    let failure = JobFailure { code: 14, message: "no worker".to_owned() };
    let start = JobStep::Start { at_unix_ms: 2 };
    let fail = JobStep::Fail { at_unix_ms: 3, chunks: 4, failure: failure.clone() };
    let cancel = JobStep::Cancel { at_unix_ms: 3, chunks: 4 };
    let steps = [start.clone(), finish(3), fail.clone(), cancel.clone(), JobStep::Expire];
    // For each state the steps that lead to it, and which steps lead on from it.
    let ways: [(&[JobStep], [bool; 5]); 6] = [
        (&[], [true, false, true, true, false]),
        (std::slice::from_ref(&start), [true, true, true, true, false]),
        (&[start.clone(), finish(3)], [false, false, false, false, true]),
        (&[fail], [false; 5]),
        (&[start.clone(), cancel], [false; 5]),
        (&[start.clone(), finish(3), JobStep::Expire], [false; 5]),
    ];
    for (way, (steps_to, allowed)) in ways.iter().enumerate() {
        for (number, (step, allowed)) in steps.iter().zip(allowed).enumerate() {
            let id = format!("{way}-{number}");
            store.submit_job(&job(&id, "ann", 1)).await.unwrap();
            for step in *steps_to {
                assert!(store.step_job(&id, step).await.unwrap(), "{step:?}");
            }
            let before = store.job(&id).await.unwrap();
            assert_eq!(store.step_job(&id, step).await.unwrap(), *allowed, "{:?} and {step:?}", before.state);
            let after = store.job(&id).await.unwrap();
            if *allowed {
                assert_eq!(after.state, step.to());
            } else {
                assert_eq!(after, before);
            }
        }
    }
    let failed =
        store.jobs(JobFilter { states: &[JobState::Failed], limit: 100, ..JobFilter::default() }).await.unwrap();
    assert!(!failed.is_empty() && failed.iter().all(|job| job.failure.as_ref() == Some(&failure)));
    assert!(matches!(store.step_job("none", &JobStep::Expire).await, Err(CatalogError::NotFound { .. })));
}

#[tokio::test]
async fn of_two_that_push_at_once_one_is_first() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    store.submit_job(&job("a", "ann", 1)).await.unwrap();
    store.step_job("a", &JobStep::Start { at_unix_ms: 2 }).await.unwrap();
    let other = disk.open().await;
    let (finish, cancel) = (finish(3), JobStep::Cancel { at_unix_ms: 3, chunks: 0 });
    let (finished, cancelled) = tokio::join!(store.step_job("a", &finish), other.step_job("a", &cancel));
    assert_ne!(finished.unwrap(), cancelled.unwrap());
}

#[tokio::test]
async fn jobs_are_listed_by_user_and_state() {
    let store = SqliteStore::in_memory().await.unwrap();
    for (at, (id, user)) in (1..).zip([("a", "ann"), ("b", "bob"), ("c", "ann"), ("d", "ann")]) {
        store.submit_job(&job(id, user, at)).await.unwrap();
    }
    for id in ["a", "b", "c"] {
        store.step_job(id, &JobStep::Start { at_unix_ms: 5 }).await.unwrap();
    }
    store.step_job("a", &finish(6)).await.unwrap();
    store.step_job("c", &finish(6)).await.unwrap();
    let ids = async |filter: JobFilter<'_>| -> Vec<String> {
        store.jobs(filter).await.unwrap().into_iter().map(|job| job.id).collect()
    };
    assert_eq!(ids(JobFilter { limit: 10, ..JobFilter::default() }).await, ["d", "c", "b", "a"]);
    assert_eq!(ids(JobFilter { user: Some("ann"), limit: 2, ..JobFilter::default() }).await, ["d", "c"]);
    let open = [JobState::Queued, JobState::Running];
    assert_eq!(ids(JobFilter { states: &open, limit: 10, ..JobFilter::default() }).await, ["d", "b"]);
    let expired_at = |expired_at_unix_ms| JobFilter { expired_at_unix_ms, limit: 10, ..JobFilter::default() };
    assert_eq!(ids(expired_at(Some(1_006))).await, ["c", "a"]);
    assert!(ids(expired_at(Some(1_005))).await.is_empty());
}

#[tokio::test]
async fn lists_have_the_beginning_of_a_long_text() {
    let store = SqliteStore::in_memory().await.unwrap();
    let sql = format!("SELECT '{}'", "é".repeat(1 << 20));
    store.submit_job(&Job { sql: sql.clone(), ..job("a", "ann", 100) }).await.unwrap();
    let listed = store.jobs(JobFilter { limit: 10, ..JobFilter::default() }).await.unwrap().remove(0).sql;
    assert!(listed.chars().count() == 16 << 10 && sql.starts_with(&listed));
    assert_eq!(store.job("a").await.unwrap().sql, sql);
}
