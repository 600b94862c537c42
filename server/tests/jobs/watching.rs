//! A job is submitted, watched, found in `system.queries`, and fetched as often as wanted.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use arrow_flight::sql::{CommandStatementUpdate, ProstMessageExt};
use arrow_flight::{FlightData, FlightDescriptor};
use futures::StreamExt;
use prost::Message;
use skyflight_catalog::{JobFilter, JobState};
use skyflight_engine::EngineError;
use tonic::{Code, Request};

use super::made_up::{CHUNKS, House, MadeUp, all_names, descriptor, id_of, names, poll, poll_to_end, until};
use crate::flight_sql::coordinator::{fetch, integers, query, status, texts, ticket};

const ALL: &str = "SELECT name FROM Sky.Object";

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_that_of_chunks() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(3);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor(ALL)).await.unwrap();
    let id = id_of(&first);
    until("chunks are run", || chunks.run() == 3).await;
    let (_, seen) = query(
        &mut client,
        "SELECT id, state, chunks_done, chunks_planned, progress FROM system.queries WHERE kind = 'job'",
    )
    .await;
    assert_eq!((texts(&seen, "id"), texts(&seen, "state")), (vec![id], vec!["running".to_owned()]));
    assert_eq!((integers(&seen, 2), integers(&seen, 3)), (vec![3], vec![CHUNKS as i64]));
    assert_eq!(seen[0].column(4).as_primitive::<Float64Type>().value(0), 0.25);
    let next = poll(&mut client, first.flight_descriptor.unwrap()).await.unwrap();
    assert_eq!(next.progress, Some(0.25));
    assert!(next.info.as_ref().unwrap().endpoint.is_empty());
    chunks.allow(usize::MAX);
    let done = poll_to_end(&mut client, next).await.unwrap();
    assert_eq!(done.progress, Some(1.0));
    let info = done.info.unwrap();
    assert_eq!(info.total_records as usize, all_names().len());
    assert!(info.endpoint[0].expiration_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_fetched_as_often_as_wanted_and_from_any_batch_on() {
    let house = House::new().await;
    let coordinator = house.coordinator(&MadeUp::unbounded()).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor(ALL)).await.unwrap();
    let info = poll_to_end(&mut client, first).await.unwrap().info.unwrap();
    let (_, whole) = fetch(&mut client, info.clone()).await;
    assert_eq!(names(&whole), all_names());
    let (_, again) = fetch(&mut client, info.clone()).await;
    assert_eq!(again, whole, "the same rows in the same order");
    assert!(whole.len() as u64 == CHUNKS, "one batch would not show much");
    for from in [0, 5, CHUNKS] {
        let mut request = Request::new(ticket(&info));
        request.metadata_mut().insert("x-skyflight-first-batch", from.to_string().parse().unwrap());
        let mut stream = client.inner_mut().do_get(request).await.unwrap().into_inner();
        let mut numbers = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            numbers.push(String::from_utf8(message.app_metadata.to_vec()).unwrap());
        }
        let expected: Vec<String> = (from..CHUNKS).map(|number| number.to_string()).collect();
        assert_eq!(numbers.remove(0), "", "the schema comes first");
        assert_eq!(numbers, expected);
    }
    let mut request = Request::new(ticket(&info));
    request.metadata_mut().insert("x-skyflight-first-batch", (CHUNKS + 1).to_string().parse().unwrap());
    let refused = client.inner_mut().do_get(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_gives_an_id_once_and_its_rows_are_a_table() {
    let house = House::new().await;
    let chunks = MadeUp::unbounded();
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    // Some clients never come for the rows, others come twice.
    let info = client.execute(format!("SUBMIT {ALL}"), None).await.unwrap();
    let (_, told) = fetch(&mut client, info.clone()).await;
    let (_, again) = fetch(&mut client, info).await;
    let id = texts(&told, "id").remove(0);
    assert_eq!(texts(&again, "id"), std::slice::from_ref(&id));
    let jobs = house.store.jobs(JobFilter { limit: 10, ..JobFilter::default() }).await.unwrap();
    assert_eq!(jobs.len(), 1, "submitted once");
    until("chunks are run", || chunks.run() as u64 == CHUNKS).await;
    for _ in 0..500 {
        if house.store.job(&id).await.unwrap().state == JobState::Finished {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let sql = format!("SELECT name FROM job('{id}') WHERE NAME LIKE '%1' ORDER BY name");
    let (_, rows) = query(&mut client, &sql).await;
    let expected: Vec<String> = all_names().into_iter().filter(|name| name.ends_with('1')).collect();
    assert_eq!(texts(&rows, "name"), expected);
    // It joins with tables like any other.
    let sql = format!("SELECT count(*) FROM job('{id}') j JOIN Sky.Object o ON j.name = o.name");
    let (_, rows) = query(&mut client, &sql).await;
    assert_eq!(integers(&rows, 0), [all_names().len() as i64]);
    // All of it, and nothing else, comes by the job's own ticket.
    let info = client.execute(format!("SELECT * FROM job('{id}')"), None).await.unwrap();
    assert_eq!(info.total_records as usize, all_names().len());
    let (_, rows) = fetch(&mut client, info).await;
    assert_eq!(names(&rows), all_names());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_by_an_update_is_one_too() {
    let house = House::new().await;
    let coordinator = house.coordinator(&MadeUp::unbounded()).await;
    let mut client = coordinator.client().await;
    let update = CommandStatementUpdate { query: format!("SUBMIT {ALL}"), transaction_id: None };
    let first = FlightData::new().with_descriptor(FlightDescriptor::new_cmd(update.as_any().encode_to_vec()));
    let mut answer = client.inner_mut().do_put(futures::stream::iter([first])).await.unwrap().into_inner();
    answer.next().await.unwrap().unwrap();
    let jobs = house.store.jobs(JobFilter { limit: 10, ..JobFilter::default() }).await.unwrap();
    assert_eq!(jobs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_why_in_every_place() {
    let house = House::new().await;
    let chunks = MadeUp::unbounded().failing(vec![EngineError::ResourceExhausted("the query needs too much".into())]);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor(ALL)).await.unwrap();
    let id = id_of(&first);
    let failed = poll_to_end(&mut client, first).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::ResourceExhausted, "the query needs too much"));
    let (_, seen) = query(&mut client, "SELECT state, error FROM system.queries WHERE kind = 'job'").await;
    assert_eq!(
        (texts(&seen, "state"), texts(&seen, "error")),
        (vec!["failed".to_owned()], vec!["the query needs too much".to_owned()])
    );
    let refused = client.execute(format!("SELECT * FROM job('{id}')"), None).await.unwrap_err();
    let (code, message) = status(&refused);
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("needs too much"), "{message}");
    assert!(house.job_folders().is_empty(), "a failed job leaves nothing on disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_planned_is_refused_at_once() {
    let house = House::new().await;
    let coordinator = house.coordinator(&MadeUp::unbounded()).await;
    let mut client = coordinator.client().await;
    let refused = poll(&mut client, descriptor("SELECT nme FROM Sky.Object")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = client.execute("SUBMIT SELECT name FROM Sky.Objects".into(), None).await.unwrap_err();
    assert_eq!(status(&refused).0, Code::NotFound);
    assert!(house.store.jobs(JobFilter { limit: 10, ..JobFilter::default() }).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_is_tables_like_others() {
    let house = House::new().await;
    let coordinator = house.coordinator(&MadeUp::unbounded()).await;
    let mut client = coordinator.client().await;
    query(&mut client, ALL).await;
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'system' ORDER BY table_name";
    let (_, tables) = query(&mut client, sql).await;
    assert_eq!(texts(&tables, "table_name"), ["queries", "workers"]);
    let sql = "SELECT q.state FROM System.QUERIES q JOIN (VALUES ('query')) AS k(kind) ON q.kind = k.kind \
               WHERE q.sql = 'SELECT name FROM Sky.Object'";
    for _ in 0..200 {
        let (_, rows) = query(&mut client, sql).await;
        let states = texts(&rows, "state");
        // Its record is written behind its back.
        if states == ["finished"] {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (_, rows) = query(&mut client, sql).await;
    assert_eq!(texts(&rows, "state"), ["finished"]);
    let (_, workers) = query(&mut client, "SELECT count(*) FROM system.workers").await;
    assert_eq!(integers(&workers, 0), [0]);
    let refused = client.execute("SELECT * FROM queries".into(), None).await.unwrap_err();
    assert_eq!(status(&refused).0, Code::NotFound, "nobody means a table of the system without saying so");
    let (schema, rows) = query(&mut client, "SELECT * FROM system.queries").await;
    assert!(rows.iter().all(|batch| batch.num_rows() > 0 && batch.num_columns() == schema.fields().len()));
    assert!(rows[0].column_by_name("started").unwrap().null_count() == 0);
}
