//! A coordinator that is gone in the middle of jobs, and the next that goes on.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow_flight::PollInfo;
use skyflight_catalog::{JobFilter, JobState};
use skyflight_engine::EngineError;

use super::made_up::{CHUNKS, House, MadeUp, all_names, descriptor, id_of, names, poll, poll_to_end, until};
use crate::flight_sql::coordinator::{Client, TestCoordinator, fetch, integers, prepare, query, texts, ticket};
use crate::flight_sql::parameters::values;
use crate::flight_sql::prepared::{bind, command};

/// Submits a query, stops the coordinator after five of its chunks without a word to it, and goes on
/// with the next; the result.
async fn interrupted(sql: &str, times: usize) -> Vec<RecordBatch> {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let mut coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor(sql)).await.unwrap();
    let id = id_of(&first);
    for life in 1..=times {
        let run = 2 * life + 1;
        chunks.allow(run);
        until("chunks are run", || chunks.run() == run).await;
        // Kept is what was run, once the last of it has been written.
        until("nothing more is run", || chunks.open() > 0).await;
        drop(client);
        drop(coordinator);
        until("the dispatch has ended with its coordinator", || chunks.open() == 0).await;
        coordinator = house.coordinator(&chunks).await;
        client = coordinator.client().await;
    }
    chunks.allow(usize::MAX);
    let again = first.flight_descriptor.unwrap();
    let next = poll(&mut client, again).await.unwrap();
    let done = poll_to_end(&mut client, next).await.unwrap();
    let runs = chunks.runs();
    assert_eq!(runs.len() as u64, CHUNKS, "{sql}");
    assert!(runs.values().all(|runs| *runs == 1), "a finished chunk of {sql} was run again: {runs:?}");
    let job = house.store.job(&id).await.unwrap();
    assert_eq!((job.state, job.chunks, job.starts), (JobState::Finished, CHUNKS, 1 + times as u64), "{sql}");
    let (_, batches) = fetch(&mut client, done.info.unwrap()).await;
    batches
}

/// Ends a coordinator without a word to it, and lets the next run what is left of a job that the other began;
/// the next one, its client, and the job's end.
async fn next_life(
    house: &House,
    chunks: &Arc<MadeUp>,
    gone: (Client, TestCoordinator),
    first: PollInfo,
) -> (TestCoordinator, Client, PollInfo) {
    drop(gone);
    until("the dispatches have ended with their coordinator", || chunks.open() == 0).await;
    chunks.allow(usize::MAX);
    let coordinator = house.coordinator(chunks).await;
    let mut client = coordinator.client().await;
    let next = poll(&mut client, first.flight_descriptor.unwrap()).await.unwrap();
    let done = poll_to_end(&mut client, next).await.unwrap();
    (coordinator, client, done)
}

/// The names in the result of an [`interrupted`] query, in order.
async fn names_over(sql: &str, times: usize) -> Vec<String> {
    texts(&interrupted(sql, times).await, "name")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_pass_through_are_kept_by_chunk() {
    let mut found = names_over("SELECT name FROM Sky.Object", 1).await;
    found.sort();
    assert_eq!(found, all_names());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_plan_is_fed_from_kept_chunks_and_new_ones() {
    let found = names_over("SELECT name, \"objectId\" FROM Sky.Object ORDER BY \"objectId\" DESC", 1).await;
    let mut expected = all_names();
    expected.reverse();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_many_restarts() {
    let mut found = names_over("SELECT name FROM Sky.Object", 4).await;
    found.sort();
    assert_eq!(found, all_names());
}

/// The first rows of each chunk are found with a filter that DataFusion numbers by all it has planned.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_with_a_numbered_filter_is_known_again() {
    let found = names_over("SELECT name FROM Sky.Object ORDER BY \"objectId\" DESC LIMIT 7", 3).await;
    let expected: Vec<String> = all_names().into_iter().rev().take(7).collect();
    assert_eq!(found, expected);
}

/// Whatever runs beside the chunk, it is the same leaf in every life: each has maps of its own order in
/// what it encodes. The rows are made up, and are not looked at.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_leaf_is_known_again() {
    for sql in [
        "SELECT name, count(*), sum(\"ra_PS\"), avg(\"decl_PS\"), max(\"objectId\") FROM Sky.Object GROUP BY name",
        "SELECT count(DISTINCT name) FROM Sky.Object WHERE \"ra_PS\" + \"decl_PS\" > 1",
        "SELECT min(name), max(\"ra_PS\") FROM Sky.Object WHERE \"decl_PS\" > \"ra_PS\"",
        "SELECT CASE WHEN \"ra_PS\" > 3 THEN name WHEN \"decl_PS\" > 3 THEN upper(name) ELSE 'x' END FROM Sky.Object",
        "SELECT name FROM Sky.Object WHERE name LIKE 'o%' AND (\"ra_PS\" < 400 OR name IN ('a', 'b', 'c'))",
        "SELECT separation(\"ra_PS\", \"decl_PS\", 10.0, 5.0) AS r, healpix_index(12, \"ra_PS\", \"decl_PS\") FROM Sky.Object",
        "SELECT a.name FROM Sky.Object a JOIN Sky.Object b ON a.\"objectId\" = b.\"objectId\"",
        "SELECT name, row_number() OVER (PARTITION BY \"objectId\" ORDER BY name) FROM Sky.Object",
        "SELECT name, \"ra_PS\" FROM Sky.Object ORDER BY \"decl_PS\", name LIMIT 3 OFFSET 2",
        "SELECT name FROM Sky.Object LIMIT 5000",
    ] {
        interrupted(sql, 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_that_differ_in_literals_alone_keep_apart() {
    // The same bytes in another order: a mix-up would give rows of one branch for the other.
    let sql = "SELECT name FROM Sky.Object WHERE length(name) > 1 AND length(name) < 200 \
               UNION ALL SELECT name FROM Sky.Object WHERE length(name) > 200 AND length(name) < 1";
    let house = House::new().await;
    let chunks = MadeUp::allowing(9);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor(sql)).await.unwrap();
    until("chunks are run", || chunks.run() == 9).await;
    let (.., done) = next_life(&house, &chunks, (client, coordinator), first).await;
    let kept = house.store.job(&id_of(&done)).await.unwrap();
    // Two leaves of all chunks each, every one of them once.
    assert_eq!(kept.chunks, 2 * CHUNKS);
    assert_eq!(chunks.run() as u64, 2 * CHUNKS);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_waited_and_results_that_were_written_are_still_there() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(CHUNKS as usize);
    let coordinator = house.coordinator_with(&chunks, |config| config.jobs.running = 1).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor("SELECT name FROM Sky.Object")).await.unwrap();
    let done = poll_to_end(&mut client, first).await.unwrap();
    for _ in 0..5 {
        poll(&mut client, descriptor("SELECT name FROM Sky.Object")).await.unwrap();
    }
    drop((client, coordinator));
    until("the dispatch has ended with its coordinator", || chunks.open() == 0).await;
    chunks.allow(usize::MAX);
    let coordinator = house.coordinator_with(&chunks, |config| config.jobs.running = 2).await;
    let mut client = coordinator.client().await;
    let (_, batches) = fetch(&mut client, done.info.unwrap()).await;
    assert_eq!(names(&batches), all_names());
    let finished = async || {
        let filter = JobFilter { states: &[JobState::Finished], limit: 100, ..JobFilter::default() };
        house.store.jobs(filter).await.unwrap().len()
    };
    for _ in 0..500 {
        if finished().await == 6 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(finished().await, 6);
    assert!(chunks.runs().values().all(|runs| *runs == 6));
    let (_, counted) = query(
        &mut client,
        "SELECT count(*) FROM system.queries WHERE kind = 'job' AND state = 'finished' AND progress = 1.0",
    )
    .await;
    assert_eq!(integers(&counted, 0), [6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_a_finished_job_left_are_removed_and_its_result_is_not() {
    let house = House::new().await;
    let chunks = MadeUp::unbounded();
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor("SELECT name FROM Sky.Object")).await.unwrap();
    let done = poll_to_end(&mut client, first).await.unwrap();
    drop((client, coordinator));
    // As if it had died between the record and the removal.
    let left = house.folder.path().join("jobs").join(id_of(&done)).join("chunks");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("leaf.kept"), [0; 1_000]).unwrap();
    let coordinator = house.coordinator(&chunks).await;
    assert!(!left.exists());
    let mut client = coordinator.client().await;
    let (_, batches) = fetch(&mut client, done.info.unwrap()).await;
    assert_eq!(names(&batches), all_names());
}

#[tokio::test(flavor = "multi_thread")]
async fn now_is_the_moment_of_submission_for_every_life() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let sql = "SELECT name FROM Sky.Object WHERE name <> CAST(now() AS TEXT)";
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor(sql)).await.unwrap();
    chunks.allow(5);
    until("chunks are run", || chunks.run() == 5).await;
    let (_coordinator, mut client, done) = next_life(&house, &chunks, (client, coordinator), first).await;
    let (_, batches) = fetch(&mut client, done.info.unwrap()).await;
    assert_eq!(names(&batches), all_names());
    assert!(chunks.runs().values().all(|runs| *runs == 1), "another clock makes another fragment");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_bound_in_every_life() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let sql = "SELECT name FROM Sky.Object WHERE name <> ? AND name < ?";
    let (prepared, _) = prepare(&mut client, sql).await;
    let row = values(vec![Arc::new(StringArray::from(vec!["é"])), Arc::new(StringArray::from(vec!["p"]))]);
    let bound = bind(&mut client, &prepared.prepared_statement_handle, Some(row)).await.unwrap().unwrap();
    let unbound = poll(&mut client, command(&prepared.prepared_statement_handle)).await;
    assert!(unbound.is_ok(), "the last values bound are remembered for the handle");
    let first = poll(&mut client, command(&bound)).await.unwrap();
    chunks.allow(5);
    until("chunks are run", || chunks.run() == 5).await;
    let (_coordinator, mut client, done) = next_life(&house, &chunks, (client, coordinator), first).await;
    let (_, batches) = fetch(&mut client, done.info.unwrap()).await;
    assert_eq!(names(&batches), all_names());
    let again = poll_to_end(&mut client, unbound.unwrap()).await.unwrap();
    assert_eq!(names(&fetch(&mut client, again.info.unwrap()).await.1), all_names());
    assert!(chunks.runs().values().all(|runs| *runs == 2), "two jobs, each chunk once: {:?}", chunks.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_cannot_be_reached_for_a_moment_do_not_end_a_job() {
    let house = House::new().await;
    let gone = EngineError::Unavailable("worker w1 is gone".into());
    let chunks = MadeUp::unbounded().failing(vec![gone]).gone_after(5);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor("SELECT name FROM Sky.Object")).await.unwrap();
    let done = poll_to_end(&mut client, first).await.unwrap();
    let (_, batches) = fetch(&mut client, done.info.unwrap()).await;
    assert_eq!(names(&batches), all_names());
    assert!(chunks.runs().values().all(|runs| *runs == 1), "what was finished before is not run again");
    assert_eq!(house.store.jobs(JobFilter { limit: 1, ..JobFilter::default() }).await.unwrap()[0].chunks, CHUNKS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_the_same_fragment_however_often_it_is_planned() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    // Columns with a unit and a description, in the schema of the aggregation's input and in its keys.
    let sql = "SELECT \"ra_PS\", max(\"decl_PS\") FROM Sky.Object WHERE \"decl_PS\" > 0 GROUP BY \"ra_PS\"";
    for times in 1..=50 {
        let info = client.execute(sql.into(), None).await.unwrap();
        let stream = client.do_get(ticket(&info)).await.unwrap();
        until("it is dispatched", || chunks.fragments().len() == times).await;
        drop(stream);
    }
    let fragments: HashSet<[u8; 32]> = chunks.fragments().into_iter().collect();
    assert_eq!(fragments.len(), 1, "maps in the fragment have another order each time");
}
