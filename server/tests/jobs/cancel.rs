//! Whatever runs, waits or is queued is cancelled by its user in each of the ways there are, and by
//! nobody else.

use std::time::{Duration, Instant};

use arrow_flight::sql::{ActionCancelQueryRequest, ActionCancelQueryResult, Any, ProstMessageExt};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest,
};
use futures::StreamExt;
use prost::Message;
use skyflight_catalog::{JobFilter, JobState, JobStep};
use tonic::{Code, Request};

use super::made_up::{CHUNKS, House, MadeUp, all_names, descriptor, id_of, names, poll, poll_to_end, until};
use crate::flight_sql::coordinator::{Client, fetch, integers, query, status, texts, ticket};

const ALL: &str = "SELECT name FROM Sky.Object";

async fn act(client: &mut Client, name: &str, body: Vec<u8>) -> Result<Vec<u8>, tonic::Status> {
    let mut request = Request::new(Action::new(name, body));
    if let Some(token) = client.token() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let mut answer = client.inner_mut().do_action(request).await?.into_inner();
    Ok(answer.message().await?.unwrap().body.to_vec())
}

async fn cancel_info(client: &mut Client, info: &FlightInfo) -> Result<CancelStatus, tonic::Status> {
    let request = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
    let answer = act(client, "CancelFlightInfo", request).await?;
    Ok(CancelFlightInfoResult::decode(answer.as_slice()).unwrap().status())
}

/// A client that has logged in under another name.
async fn stranger(coordinator: &crate::flight_sql::coordinator::TestCoordinator) -> Client {
    let mut client = coordinator.client().await;
    client.handshake("stranger", "").await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_query_stops_within_a_second() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(2);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let info = client.execute(ALL.into(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    stream.next().await.unwrap().unwrap();
    until("two chunks are run", || chunks.run() == 2).await;
    assert_eq!(chunks.open(), 1);
    let mut other = stranger(&coordinator).await;
    assert_eq!(cancel_info(&mut other, &info).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(chunks.open(), 1);

    let reader = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    let begun = Instant::now();
    assert_eq!(cancel_info(&mut client, &info).await.unwrap(), CancelStatus::Cancelled);
    until("the work has stopped", || chunks.open() == 0).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    reader.await.unwrap();
    // Its ticket is void now.
    let refused = client.do_get(ticket(&info)).await.unwrap_err();
    assert_eq!(status(&refused).0, Code::Cancelled);
    assert_eq!(cancel_info(&mut client, &info).await.unwrap(), CancelStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_action_and_the_statement_cancel_too() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let info = client.execute(ALL.into(), None).await.unwrap();
    let request = ActionCancelQueryRequest { info: info.encode_to_vec().into() }.as_any().encode_to_vec();
    let answer = act(&mut client, "CancelQuery", request).await.unwrap();
    let answer = Any::decode(answer.as_slice()).unwrap().unpack::<ActionCancelQueryResult>().unwrap().unwrap();
    assert_eq!(answer.result, 1);

    let info = client.execute(ALL.into(), None).await.unwrap();
    let (_, seen) =
        query(&mut client, "SELECT id FROM system.queries WHERE state = 'waiting' AND sql NOT LIKE '%sql%'").await;
    let id = texts(&seen, "id").remove(0);
    let (_, told) = query(&mut client, &format!("CANCEL '{id}'")).await;
    assert_eq!((texts(&told, "id"), texts(&told, "state")), (vec![id], vec!["cancelled".to_owned()]));
    let refused = client.do_get(ticket(&info)).await.unwrap_err();
    assert_eq!(status(&refused).0, Code::Cancelled);
    for absent in ["0198c5a0-0000-7000-8000-000000000001", "nothing"] {
        let refused = client.execute(format!("CANCEL '{absent}'"), None).await.unwrap_err();
        assert_eq!(status(&refused).0, Code::NotFound);
    }
    assert_eq!(chunks.run(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_cannot_be_cancelled() {
    let house = House::new().await;
    let coordinator = house.coordinator(&MadeUp::unbounded()).await;
    let mut client = coordinator.client().await;
    let info = client.execute(ALL.into(), None).await.unwrap();
    fetch(&mut client, info.clone()).await;
    for _ in 0..200 {
        if cancel_info(&mut client, &info).await.unwrap() == CancelStatus::NotCancellable {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cancel_info(&mut client, &info).await.unwrap(), CancelStatus::NotCancellable);
    let first = poll(&mut client, descriptor(ALL)).await.unwrap();
    let done = poll_to_end(&mut client, first).await.unwrap().info.unwrap();
    assert_eq!(cancel_info(&mut client, &done).await.unwrap(), CancelStatus::NotCancellable);
    let (_, rows) = fetch(&mut client, done).await;
    assert_eq!(names(&rows), all_names());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_cancelled_while_they_run_and_while_they_wait() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(4);
    let coordinator = house.coordinator_with(&chunks, |config| config.jobs.running = 1).await;
    let mut client = coordinator.client().await;
    let running = poll(&mut client, descriptor(ALL)).await.unwrap();
    let waiting = poll(&mut client, descriptor(ALL)).await.unwrap();
    until("chunks are run", || chunks.run() == 4).await;
    let mut other = stranger(&coordinator).await;
    let refused = cancel_info(&mut other, running.info.as_ref().unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let absent = other.execute(format!("CANCEL '{}'", id_of(&running)), None).await.unwrap_err();
    assert_eq!(status(&absent).0, Code::NotFound);

    for job in [&waiting, &running] {
        assert_eq!(cancel_info(&mut client, job.info.as_ref().unwrap()).await.unwrap(), CancelStatus::Cancelled);
        assert_eq!(house.store.job(&id_of(job)).await.unwrap().state, JobState::Cancelled);
        let ended = poll(&mut client, job.flight_descriptor.clone().unwrap()).await.unwrap_err();
        assert_eq!(ended.code(), Code::Cancelled);
    }
    until("the work has stopped", || chunks.open() == 0).await;
    assert_eq!(chunks.run(), 4);
    until("nothing is left on disk", || house.job_folders().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stays_cancelled_after_a_restart() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(4);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let job = poll(&mut client, descriptor(ALL)).await.unwrap();
    until("chunks are run", || chunks.run() == 4).await;
    query(&mut client, &format!("CANCEL '{}'", id_of(&job))).await;
    drop((client, coordinator));
    chunks.allow(usize::MAX);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let again = job.flight_descriptor.clone().unwrap();
    assert_eq!(poll(&mut client, again).await.unwrap_err().code(), Code::Cancelled);
    assert_eq!(chunks.run(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_cancelling_stopped_half_way_is_cancelled_by_the_next() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(4);
    let coordinator = house.coordinator(&chunks).await;
    let mut client = coordinator.client().await;
    let job = poll(&mut client, descriptor(ALL)).await.unwrap();
    until("chunks are run", || chunks.run() == 4).await;
    // The record says so, and nobody has told the work.
    let step = JobStep::Cancel { at_unix_ms: 1, chunks: 4 };
    assert!(house.store.step_job(&id_of(&job), &step).await.unwrap());
    assert_eq!(chunks.open(), 1);
    assert_eq!(cancel_info(&mut client, job.info.as_ref().unwrap()).await.unwrap(), CancelStatus::Cancelled);
    until("the work has stopped", || chunks.open() == 0).await;
    until("nothing is left on disk", || house.job_folders().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_leave_no_record_without_work_and_no_work_without_record() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let coordinator = house.coordinator_with(&chunks, |config| config.jobs.running_per_user = 4).await;
    let mut client = coordinator.client().await;
    for patience_us in (0..60).map(|n| n * 400) {
        let mut hasty = client.clone();
        let call = async { hasty.inner_mut().poll_flight_info(descriptor(ALL)).await };
        let _ = tokio::time::timeout(Duration::from_micros(patience_us), call).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let all = JobFilter { limit: 100, ..JobFilter::default() };
    let submitted = house.store.jobs(all).await.unwrap();
    assert!(submitted.len() > 5, "{} calls were patient enough, which tests little", submitted.len());
    for (n, job) in (0..).zip(&submitted) {
        let mut hasty = client.clone();
        let call = async { query(&mut hasty, &format!("CANCEL '{}'", job.id)).await };
        let _ = tokio::time::timeout(Duration::from_micros(n % 20 * 300), call).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Whatever is recorded as open now has its work, and comes to an end.
    chunks.allow(usize::MAX);
    for _ in 0..1_000 {
        let jobs = house.store.jobs(all).await.unwrap();
        if chunks.open() == 0 && jobs.iter().all(|job| job.state.has_ended()) {
            let finished = jobs.iter().filter(|job| job.state == JobState::Finished).count();
            until("only results are left on disk", || house.job_folders().len() == finished).await;
            // No place is still held by a call that went away.
            poll(&mut client, descriptor(ALL)).await.unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let jobs = house.store.jobs(all).await.unwrap();
    panic!("jobs without an end: {:?}", jobs.iter().map(|job| job.state).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_infos_that_nobody_fetches_leave_no_trace() {
    let house = House::new().await;
    let chunks = MadeUp::unbounded();
    let coordinator = house.coordinator_with(&chunks, |config| config.plan_ttl = Duration::from_millis(500)).await;
    let mut client = coordinator.client().await;
    for number in 0..1_000 {
        client.execute(format!("SELECT name, {number} AS number FROM Sky.Object"), None).await.unwrap();
    }
    let mine = "SELECT count(*) FROM system.queries WHERE sql LIKE 'SELECT name, %'";
    let mut left = -1;
    for _ in 0..200 {
        let (_, counted) = query(&mut client, mine).await;
        left = integers(&counted, 0)[0];
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(left, 0, "plans that wait for ever");
    let recorded = house.store.queries(10_000).await.unwrap();
    assert!(recorded.iter().all(|record| !record.sql.starts_with("SELECT name, ")), "records of what was never run");
    assert_eq!((chunks.run(), chunks.open()), (0, 0));
    assert!(house.job_folders().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_not_renewed_beyond_what_files_are_kept_for() {
    let house = House::new().await;
    let coordinator = house
        .coordinator_with(&MadeUp::unbounded(), |config| {
            config.ticket_ttl = Duration::from_secs(60);
            config.renewal_limit = Duration::from_secs(60);
        })
        .await;
    let mut client = coordinator.client().await;
    let info = client.execute(ALL.into(), None).await.unwrap();
    let body = RenewFlightEndpointRequest::new(info.endpoint[0].clone()).encode_to_vec();
    let refused = act(&mut client, "RenewFlightEndpoint", body).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_renewed_by_its_user_up_to_a_bound() {
    let house = House::new().await;
    let coordinator =
        house.coordinator_with(&MadeUp::unbounded(), |config| config.ticket_ttl = Duration::from_secs(2)).await;
    let mut client = coordinator.client().await;
    let info = client.execute(ALL.into(), None).await.unwrap();
    let endpoint = info.endpoint[0].clone();
    let expires = endpoint.expiration_time.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let body = RenewFlightEndpointRequest::new(endpoint.clone()).encode_to_vec();
    let mut other = stranger(&coordinator).await;
    assert_eq!(act(&mut other, "RenewFlightEndpoint", body.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    let renewed = act(&mut client, "RenewFlightEndpoint", body.clone()).await.unwrap();
    let renewed = FlightEndpoint::decode(renewed.as_slice()).unwrap();
    let later = renewed.expiration_time.unwrap();
    assert!((later.seconds, later.nanos) > (expires.seconds, expires.nanos));
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let refused = client.do_get(endpoint.ticket.unwrap()).await.unwrap_err();
    assert_eq!(status(&refused).0, Code::Unauthenticated, "the first has expired");
    assert_eq!(act(&mut client, "RenewFlightEndpoint", body).await.unwrap_err().code(), Code::Unauthenticated);
    let (_, rows) = fetch(&mut client, FlightInfo { endpoint: vec![renewed], ..info }).await;
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>() as u64, 3 * CHUNKS);
}
