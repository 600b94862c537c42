//! One fault at a time, then many by chance.

use std::time::{Duration, Instant};

use skyflight_engine::EngineError;
use skyflight_engine::dispatch::QueryCounters;
use skyflight_proto::FailureKind;
use skyflight_server::dispatch::DispatchConfig;
use tokio::runtime::Handle;
use tonic::Code;

use super::cluster::{Cluster, impatient, quick};
use super::fake::{Fault, Manners, Ping, Worker};
use super::sky::{Dice, rows_of};

fn chunks(n: u64) -> Vec<u64> {
    (100..100 + n).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_workers_give_every_row_once_and_the_counters_say_so() {
    let cluster = Cluster::new(3);
    let chunks = chunks(100);
    for deterministic in [true, false] {
        let request = cluster.request(&chunks, deterministic);
        let counters = std::sync::Arc::clone(&request.query.counters);
        let (harvest, error) = cluster.run(request).await;
        assert!(error.is_none(), "{error:?}");
        harvest.check(&chunks).unwrap();
        let rows: u64 = chunks.iter().map(|chunk| rows_of(*chunk)).sum();
        assert!(rows > 1_000);
        assert_eq!(harvest.rows() as u64, rows);
        assert_eq!(QueryCounters::get(&counters.chunks_done), 100);
        assert_eq!(QueryCounters::get(&counters.rows_received), rows);
        assert_eq!(QueryCounters::get(&counters.rows_read), rows);
        assert_eq!(QueryCounters::get(&counters.bytes_read), 100_000);
        assert!(QueryCounters::get(&counters.bytes_received) > rows * 24);
        assert_eq!(QueryCounters::get(&counters.streams), 3, "one stream a worker");
        assert_eq!(QueryCounters::get(&counters.retries), 0);
    }
    for worker in &cluster.workers {
        let asked = worker.asked();
        assert_eq!(asked.len(), 2);
        assert!(asked.iter().all(|a| (30..=37).contains(&a.task.chunks.len())), "balanced");
        assert!(asked.iter().all(|a| a.inline && !a.task.interactive));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_chunks_give_no_rows() {
    let cluster = Cluster::new(1);
    cluster.exact(&[], true).await;
    assert!(cluster.workers[0].asked().is_empty());
}

/// Every fault at every one of the first messages, in both modes: exact, unless rows that have
/// passed on turn out wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_at_each_message_leaves_the_answer_exact() {
    let chunks = chunks(6);
    let mut runs = 0;
    for deterministic in [true, false] {
        for at in 0..30 {
            let faults = [
                Fault::Status { at, code: Code::Unavailable },
                Fault::Status { at, code: Code::NotFound },
                Fault::End { at },
                Fault::Garbage { at },
                Fault::Blank { at },
                Fault::UnknownChunk { at },
                Fault::DoneEarly { at },
                Fault::Twice { at },
                Fault::BadHeader { at },
            ];
            let cluster = Cluster::new(2);
            for fault in faults {
                cluster.script(0, &[fault]);
                cluster.script(1, &[Fault::None]);
                let (harvest, error) = cluster.run(cluster.request(&chunks, deterministic)).await;
                assert!(error.is_none(), "{fault:?}, deterministic {deterministic}: {}", error.unwrap());
                harvest.check(&chunks).unwrap_or_else(|e| panic!("{fault:?}, deterministic {deterministic}: {e}"));
                for worker in &cluster.workers {
                    worker.state.script.lock().clear();
                }
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 2 * 30 * 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_at_any_message_leaves_the_answer_exact() {
    let chunks = chunks(6);
    for deterministic in [true, false] {
        for at in 0..24 {
            let cluster = Cluster::new(2);
            cluster.script(at % 2, &[Fault::Die { at }]);
            cluster.exact(&chunks, deterministic).await;
        }
    }
}

/// A trailer that does not fit is a failed attempt. In a streamed dispatch it may come too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_trailer_never_passes() {
    let chunks = chunks(6);
    let mut lost = 0;
    let mut exact = 0;
    for deterministic in [true, false] {
        for n in 0..4 {
            let faults = [
                Fault::WrongDigest { trailer: n },
                Fault::WrongRows { trailer: n },
                Fault::WrongBatches { trailer: n },
                Fault::Flip { at: n },
                Fault::Lost { at: n },
                Fault::BatchAfterTrailer { trailer: n },
            ];
            for fault in faults {
                let cluster = Cluster::new(2);
                cluster.script(0, &[fault]);
                let (harvest, error) = cluster.run(cluster.request(&chunks, deterministic)).await;
                match error {
                    None => {
                        harvest.check(&chunks).unwrap();
                        exact += 1;
                    }
                    Some(error) => {
                        assert!(deterministic, "{fault:?}: {error}");
                        assert_eq!(error.kind(), FailureKind::DataLoss, "{error}");
                        assert!(error.to_string().contains("worker w0"), "{error}");
                        lost += 1;
                    }
                }
            }
        }
    }
    // Those without an order of rows are exact whatever the timing.
    assert!(exact >= 24 && lost >= 3, "{exact} exact, {lost} lost");
}

/// A chunk of one frame is verified whole before it passes on, so even a lie is cured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_a_chunk_of_one_frame_is_cured_in_both_modes() {
    let chunks = chunks(20);
    for deterministic in [true, false] {
        for fault in [Fault::WrongDigest { trailer: 2 }, Fault::Flip { at: 0 }, Fault::WrongRows { trailer: 0 }] {
            let manners = |seed| Manners { frame_rows: 1_000, abreast: 2, seed, ..Manners::default() };
            let cluster = Cluster::with(quick(), vec![manners(1), manners(2)], Handle::current());
            cluster.script(0, &[fault]);
            cluster.exact(&chunks, deterministic).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_said_again_are_dropped() {
    let chunks = chunks(10);
    for deterministic in [true, false] {
        let cluster = Cluster::new(1);
        cluster.script(0, &[Fault::TrailersAgain]);
        let request = cluster.request(&chunks, deterministic);
        let counters = std::sync::Arc::clone(&request.query.counters);
        let (harvest, error) = cluster.run(request).await;
        assert!(error.is_none(), "{error:?}");
        harvest.check(&chunks).unwrap();
        assert_eq!(QueryCounters::get(&counters.chunks_done), 10);
        assert_eq!(QueryCounters::get(&counters.retries), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_worker_is_given_up_after_the_timeout() {
    let chunks = chunks(12);
    for at in [0, 3, 9] {
        let cluster = Cluster::of(2, impatient());
        cluster.script(0, &[Fault::Hang { at }]);
        let begun = Instant::now();
        cluster.exact(&chunks, at % 2 == 1).await;
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(350) && took < Duration::from_secs(10), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_moves_gets_time_and_one_that_stands_still_gets_less() {
    let manners =
        |ping| vec![Manners { ping, seed: 1, ..Manners::default() }, Manners { seed: 2, ..Manners::default() }];
    let chunks = chunks(8);
    // 900 ms between messages, more than twice the silence timeout.
    let moving = Cluster::with(impatient(), manners(Ping::Moving), Handle::current());
    moving.script(0, &[Fault::Slow { millis: 900 }]);
    let mut request = moving.request(&chunks[..1], true);
    std::sync::Arc::make_mut(&mut request.chunks).chunks[0].workers = vec![0];
    let (harvest, error) = moving.run(request).await;
    assert!(error.is_none(), "{error:?}");
    harvest.check(&chunks[..1]).unwrap();
    assert_eq!(moving.workers[0].asked().len(), 1);

    let still = Cluster::with(impatient(), manners(Ping::Still), Handle::current());
    still.script(0, &[Fault::Hang { at: 1 }]);
    let begun = Instant::now();
    still.exact(&chunks, false).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1_100) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_not_there_costs_nothing_but_time() {
    let chunks = chunks(30);
    for deterministic in [true, false] {
        let cluster = Cluster::new(3);
        cluster.workers[1].state.die();
        cluster.exact(&chunks, deterministic).await;
        // The next query goes round the worker.
        cluster.exact(&chunks, deterministic).await;
        for i in [0, 2] {
            let last = cluster.workers[i].asked().pop().unwrap();
            assert_eq!(last.task.chunks.len(), 15, "the dead worker was not tried again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_worker_left_the_error_names_them_the_chunk_and_a_remedy() {
    let cluster = Cluster::new(2);
    cluster.workers[1].state.die();
    let request = cluster.request_on(&chunks(5), true, |chunk| if chunk == 103 { vec![1] } else { vec![0] });
    let (_, error) = cluster.run(request).await;
    let error = error.expect("chunk 103 is only on the dead worker");
    assert_eq!(error.kind(), FailureKind::Unavailable);
    let text = error.to_string();
    for part in ["chunk 103", "worker w1", "4 attempts", "refused", "run the query again", &cluster.workers[1].address]
    {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }

    let nobody = cluster.request_on(&chunks(1), true, |_| vec![]);
    let (_, error) = cluster.run(nobody).await;
    assert!(matches!(error, Some(EngineError::Unavailable(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_worker_is_used_again_after_a_failure() {
    let chunks = chunks(40);
    for deterministic in [true, false] {
        let cluster = Cluster::new(1);
        cluster
            .script(0, &[Fault::End { at: 20 }, Fault::Garbage { at: 2 }, Fault::Refuse { code: Code::Unavailable }]);
        cluster.exact(&chunks, deterministic).await;
        let resumed = cluster.workers[0].asked().iter().flat_map(|a| a.task.chunks.clone()).any(|c| c.skip_rows > 0);
        assert_eq!(resumed, deterministic, "a streamed chunk resumes, a held one begins anew");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_came_back_elsewhere_is_found() {
    let chunks = chunks(10);
    let cluster = Cluster::new(1);
    cluster.exact(&chunks, true).await;
    let reborn = Worker::start(&cluster.keys, Manners::default());
    cluster.workers[0].state.die();
    cluster.addresses.entries.lock()[0].1 = reborn.address.clone();
    cluster.exact(&chunks, true).await;
    assert!(!reborn.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_error_ends_the_query_at_once_with_its_code() {
    let cases = [
        (Code::InvalidArgument, FailureKind::BadRequest),
        (Code::ResourceExhausted, FailureKind::ResourceExhausted),
        (Code::PermissionDenied, FailureKind::PermissionDenied),
    ];
    for (code, kind) in cases {
        for fault in [Fault::Refuse { code }, Fault::Status { at: 5, code }] {
            let config = DispatchConfig { silence_timeout: Duration::from_secs(60), ..quick() };
            let cluster = Cluster::with(config, vec![Manners::default(), Manners::default()], Handle::current());
            cluster.script(0, &[fault]);
            cluster.script(1, &[Fault::Hang { at: 0 }]);
            let begun = Instant::now();
            let (_, error) = cluster.run(cluster.request(&chunks(10), true)).await;
            let error = error.expect("the query is at fault");
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("scripted"), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            assert_eq!(cluster.workers[0].asked().len(), 1, "not tried again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_fragment_is_sent_again() {
    let chunks = chunks(20);
    let config = DispatchConfig { chunks_per_stream: 5, ..quick() };
    let cluster = Cluster::with(config, vec![Manners::default()], Handle::current());
    cluster.workers[0].state.forgetful.store(true, std::sync::atomic::Ordering::SeqCst);
    let request = cluster.request(&chunks, true);
    let counters = std::sync::Arc::clone(&request.query.counters);
    let (harvest, error) = cluster.run(request).await;
    assert!(error.is_none(), "{error:?}");
    harvest.check(&chunks).unwrap();
    assert_eq!(QueryCounters::get(&counters.streams), 4 + 3, "three of four streams had to be opened twice");
    assert_eq!(QueryCounters::get(&counters.retries), 0);

    cluster.workers[0].state.forgetful.store(false, std::sync::atomic::Ordering::SeqCst);
    cluster.exact(&chunks, true).await;
    let inline: Vec<bool> = cluster.workers[0].asked()[4..].iter().map(|a| a.inline).collect();
    assert_eq!(inline, [true, false, false, false], "sent once per query");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_at_the_start_goes_to_a_replica() {
    let chunks = chunks(10);
    for fault in [Fault::NoSchema, Fault::OtherSchema] {
        let cluster = Cluster::new(2);
        cluster.script(0, &[fault]);
        cluster.exact(&chunks, true).await;
    }
    // All lie: the error says about what.
    let cluster = Cluster::new(1);
    cluster.script(0, &[Fault::OtherSchema; 4]);
    let (_, error) = cluster.run(cluster.request(&chunks, true)).await;
    let text = error.expect("no honest worker").to_string();
    assert!(text.contains("chunk Float32") && text.contains("chunk Int64"), "{text}");
}

/// A bad file on each of two workers: no worker can finish a stream, yet every chunk is somewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_chunk_does_not_use_up_the_attempts_of_the_others() {
    let chunks = chunks(400);
    let cluster = Cluster::new(2);
    let missing = Fault::Status { at: 30, code: Code::NotFound };
    cluster.script(0, &[missing, missing]);
    cluster.script(1, &[missing]);
    cluster.exact(&chunks, false).await;
}

fn any_fault(dice: &mut Dice, deterministic: bool) -> Fault {
    let at = dice.below(60) as usize;
    let trailer = dice.below(12) as usize;
    match dice.below(if deterministic { 14 } else { 18 }) {
        0 => Fault::Die { at },
        1 => Fault::Status { at, code: Code::Unavailable },
        2 => Fault::Status { at, code: Code::Internal },
        3 => Fault::End { at },
        4 => Fault::Hang { at },
        5 => Fault::Garbage { at },
        6 => Fault::Blank { at },
        7 => Fault::UnknownChunk { at },
        8 => Fault::DoneEarly { at },
        9 => Fault::Twice { at },
        10 => Fault::BadHeader { at },
        11 => Fault::BatchAfterTrailer { trailer },
        12 => Fault::Refuse { code: Code::Unknown },
        13 => Fault::OtherSchema,
        14 => Fault::WrongDigest { trailer },
        15 => Fault::WrongRows { trailer },
        16 => Fault::Flip { at },
        _ => Fault::Lost { at },
    }
}

async fn random_run(seed: u64) {
    let mut dice = Dice(seed);
    let deterministic = dice.below(2) == 0;
    let workers = 2 + dice.below(3) as usize;
    let chunks: Vec<u64> = (0..1 + dice.below(60)).map(|i| i * 3 + dice.below(3)).collect();
    let mut manners = Vec::new();
    for seed in 1..=workers as u64 {
        manners.push(Manners {
            frame_rows: 1 + dice.below(20),
            abreast: 1 + dice.below(5) as usize,
            seed,
            ..Manners::default()
        });
    }
    let config = DispatchConfig {
        silence_timeout: Duration::from_secs(3),
        chunks_per_stream: 1 + dice.below(40) as usize,
        hold_bytes: [0, 2_000, 1 << 20][dice.below(3) as usize],
        buffer_bytes: [1, 3_000, 1 << 20][dice.below(3) as usize],
        ..quick()
    };
    let cluster = Cluster::with(config, manners, Handle::current());
    // Three faulty streams at most: a chunk has four attempts. Worker 0 never dies.
    let mut faults = Vec::new();
    for _ in 0..dice.below(4) {
        let worker = dice.below(workers as u64) as usize;
        let fault = any_fault(&mut dice, deterministic);
        if worker == 0 && matches!(fault, Fault::Die { .. }) {
            continue;
        }
        faults.push((worker, fault));
        cluster.script(worker, &[fault]);
    }
    // Each chunk is on worker 0 and perhaps on others.
    let salt = dice.next();
    let holders = |chunk: u64| {
        let mut dice = Dice(salt ^ chunk);
        (0..workers as u16).filter(|w| *w == 0 || dice.below(3) > 0).collect()
    };
    let request = cluster.request_on(&chunks, deterministic, holders);
    let (harvest, error) = cluster.run(request).await;
    let what = format!("seed {seed}, deterministic {deterministic}, {workers} workers, {faults:?}");
    if let Some(error) = error {
        panic!("{what}: {error}");
    }
    harvest.check(&chunks).unwrap_or_else(|e| panic!("{what}: {e}"));
}

/// `SKYFLIGHT_FAULT_SEED` repeats one run, `SKYFLIGHT_FAULT_RUNS` changes their number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_by_chance_leave_every_answer_exact() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SKYFLIGHT_FAULT_SEED");
    let runs = number("SKYFLIGHT_FAULT_RUNS").unwrap_or(if first.is_some() { 1 } else { 300 });
    let first = first.unwrap_or_else(|| super::sky::unix_ms() as u64);
    println!("{runs} runs from SKYFLIGHT_FAULT_SEED={first}");
    let mut running = tokio::task::JoinSet::new();
    for seed in first..first + runs {
        while running.len() >= 8 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(random_run(seed));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}
