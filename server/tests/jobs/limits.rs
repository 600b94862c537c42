//! What a user can make big has a limit that is named, and results do not stay for ever.

use std::time::Duration;

use arrow_flight::Ticket;
use skyflight_catalog::JobState;
use tonic::Code;

use super::made_up::{CHUNKS, House, MadeUp, descriptor, id_of, poll, poll_to_end, until};
use crate::flight_sql::coordinator::{prepare, query, status, texts, ticket};
use crate::flight_sql::prepared::command;

const ALL: &str = "SELECT name FROM Sky.Object";

#[tokio::test(flavor = "multi_thread")]
async fn a_result_expires_and_its_file_goes() {
    let house = House::new().await;
    let ttl = Duration::from_secs(1);
    let coordinator = house.coordinator_with(&MadeUp::unbounded(), |config| config.jobs.result_ttl = ttl).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor(ALL)).await.unwrap();
    let info = poll_to_end(&mut client, first).await.unwrap().info.unwrap();
    let id = String::from_utf8(info.app_metadata.to_vec()).unwrap();
    until("the result is removed", || house.job_folders().is_empty()).await;
    assert_eq!(house.store.job(&id).await.unwrap().state, JobState::Expired);
    client.do_get(ticket(&info)).await.unwrap_err();
    let refused = client.execute(format!("SELECT * FROM job('{id}')"), None).await.unwrap_err();
    let (code, message) = status(&refused);
    assert_eq!(code, Code::NotFound);
    assert!(message.contains("expired"), "{message}");
    let (_, seen) = query(&mut client, "SELECT state FROM system.queries WHERE kind = 'job'").await;
    assert_eq!(texts(&seen, "state"), ["expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_one_user_have_a_limit_together() {
    let house = House::new().await;
    let coordinator =
        house.coordinator_with(&MadeUp::unbounded(), |config| config.jobs.result_bytes_per_user = 6_000).await;
    let mut client = coordinator.client().await;
    let first = poll(&mut client, descriptor(ALL)).await.unwrap();
    let done = poll_to_end(&mut client, first).await.unwrap();
    let bytes = house.store.job(&id_of(&done)).await.unwrap().result.unwrap().bytes;
    assert!((4_000..6_000).contains(&bytes), "{bytes}: the limit is meant to be between one result and two");
    let second = poll(&mut client, descriptor(ALL)).await.unwrap();
    let failed = poll_to_end(&mut client, second).await.unwrap_err();
    assert_eq!(failed.code(), Code::ResourceExhausted);
    assert!(failed.message().contains("result_gib_per_user"), "{}", failed.message());
    assert_eq!(house.job_folders().len(), 1, "what was written of it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_jobs_of_one_user_have_a_limit() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let coordinator = house.coordinator_with(&chunks, |config| config.jobs.open_per_user = 3).await;
    let mut client = coordinator.client().await;
    for _ in 0..3 {
        poll(&mut client, descriptor(ALL)).await.unwrap();
    }
    let refused = poll(&mut client, descriptor(ALL)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("open_per_user"), "{}", refused.message());
    let mut other = coordinator.client().await;
    other.handshake("bob", "").await.unwrap();
    other.execute(format!("SUBMIT {ALL}"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_would_take_too_long_is_told_to_be_a_job() {
    let house = House::new().await;
    let chunks = MadeUp::unbounded();
    // Twelve chunks of 0.9 ms each, and 5 ms for the query.
    let limit = Some(Duration::from_millis(10));
    let coordinator = house.coordinator_with(&chunks, |config| config.jobs.blocking_limit = limit).await;
    let mut client = coordinator.client().await;
    let refused = client.execute(ALL.into(), None).await.unwrap_err();
    let (code, message) = status(&refused);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains("SUBMIT") && message.contains("36 rows in 12 chunks"), "{message}");
    // What reads less, what stops early, and what only explains, are not.
    for sql in [
        "SELECT name FROM Sky.Object LIMIT 2",
        "EXPLAIN SELECT name FROM Sky.Object",
        "SELECT count(*) FROM Sky.Object",
    ] {
        client.execute(sql.into(), None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    // What runs all of it is, whoever brings it how.
    for sql in [
        "SELECT name FROM Sky.Object ORDER BY name LIMIT 2",
        "EXPLAIN ANALYZE SELECT name FROM Sky.Object",
        "CREATE TABLE mydb.copy AS SELECT name FROM Sky.Object",
    ] {
        let refused = client.execute(sql.into(), None).await.unwrap_err();
        assert_eq!(status(&refused).0, Code::FailedPrecondition, "{sql}");
    }
    client.execute("EXPLAIN ANALYZE SELECT name FROM Sky.Object LIMIT 2".into(), None).await.unwrap();
    let (prepared, _) = prepare(&mut client, ALL).await;
    let redeemed = client.do_get(Ticket::new(command(&prepared.prepared_statement_handle).cmd)).await;
    assert_eq!(status(&redeemed.err().unwrap()).0, Code::FailedPrecondition);
    let first = poll(&mut client, descriptor(ALL)).await.unwrap();
    poll_to_end(&mut client, first).await.unwrap();
    assert_eq!(chunks.run() as u64, CHUNKS);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_above_the_limit_wait_and_users_take_turns() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let coordinator = house.coordinator_with(&chunks, |config| config.jobs.running = 1).await;
    let mut ann = coordinator.client().await;
    ann.handshake("ann", "").await.unwrap();
    let mut bob = coordinator.client().await;
    bob.handshake("bob", "").await.unwrap();
    for _ in 0..3 {
        ann.execute(format!("SUBMIT {ALL}"), None).await.unwrap();
    }
    until("one runs", || chunks.open() == 1).await;
    bob.execute(format!("SUBMIT {ALL}"), None).await.unwrap();
    let (_, seen) = query(&mut ann, "SELECT state FROM system.queries WHERE kind = 'job' ORDER BY submitted").await;
    assert_eq!(texts(&seen, "state"), ["running", "queued", "queued"]);
    let (_, seen) = query(&mut bob, "SELECT state FROM system.queries WHERE kind = 'job'").await;
    assert_eq!(texts(&seen, "state"), ["queued"], "bob sees his own");
    chunks.allow(2 * CHUNKS as usize);
    // Ann's second job was waiting before Bob came; her third waits until he has had his turn.
    for _ in 0..500 {
        let (_, seen) = query(&mut bob, "SELECT state FROM system.queries WHERE kind = 'job'").await;
        if texts(&seen, "state") == ["running"] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (_, seen) = query(&mut ann, "SELECT state FROM system.queries WHERE kind = 'job' ORDER BY submitted").await;
    assert_eq!(texts(&seen, "state"), ["finished", "finished", "queued"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_are_written_side_by_side_stay_within_the_limit_together() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let limit = 6_000;
    let coordinator = house
        .coordinator_with(&chunks, |config| {
            config.jobs.result_bytes_per_user = limit;
            config.jobs.running = 4;
            config.jobs.running_per_user = 4;
        })
        .await;
    let mut client = coordinator.client().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(id_of(&poll(&mut client, descriptor(ALL)).await.unwrap()));
    }
    until("all run", || chunks.open() == 4).await;
    chunks.allow(usize::MAX);
    let mut bytes = 0;
    for id in &ids {
        let mut job = house.store.job(id).await.unwrap();
        while !job.state.has_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            job = house.store.job(id).await.unwrap();
        }
        match job.state {
            JobState::Finished => bytes += job.result.unwrap().bytes,
            _ => assert_eq!(job.failure.unwrap().code, Code::ResourceExhausted as i32),
        }
    }
    assert!(bytes <= limit, "{bytes} bytes are kept");
    // After a restart the same is counted.
    drop((client, coordinator));
    let coordinator = house.coordinator_with(&chunks, |config| config.jobs.result_bytes_per_user = limit).await;
    let mut client = coordinator.client().await;
    for _ in 0..2 {
        let next = poll(&mut client, descriptor(ALL)).await.unwrap();
        let ended = poll_to_end(&mut client, next).await;
        if bytes > 0 {
            assert_eq!(ended.unwrap_err().code(), Code::ResourceExhausted);
            break;
        }
        bytes = house.store.job(&id_of(&ended.unwrap())).await.unwrap().result.unwrap().bytes;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_long_jobs_of_one_user_leave_a_place_to_others() {
    let house = House::new().await;
    let chunks = MadeUp::allowing(0);
    let coordinator = house
        .coordinator_with(&chunks, |config| {
            config.jobs.running = 3;
            config.jobs.running_per_user = 2;
        })
        .await;
    let mut ann = coordinator.client().await;
    ann.handshake("ann", "").await.unwrap();
    let mut bob = coordinator.client().await;
    bob.handshake("bob", "").await.unwrap();
    for _ in 0..4 {
        ann.execute(format!("SUBMIT {ALL}"), None).await.unwrap();
    }
    until("two run", || chunks.open() == 2).await;
    bob.execute(format!("SUBMIT {ALL}"), None).await.unwrap();
    until("another's runs at once", || chunks.open() == 3).await;
    let (_, seen) = query(&mut bob, "SELECT state FROM system.queries WHERE kind = 'job'").await;
    assert_eq!(texts(&seen, "state"), ["running"]);
    let (_, seen) = query(&mut ann, "SELECT state FROM system.queries WHERE kind = 'job' ORDER BY submitted").await;
    assert_eq!(texts(&seen, "state"), ["running", "running", "queued", "queued"]);
    // And those that wait have their turn when one of hers has ended.
    chunks.allow(usize::MAX);
    until("all chunks of all jobs are run", || chunks.run() as u64 == 5 * CHUNKS).await;
}
