//! Rows out: what a task gives, compared with what was written.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type};
use futures::future::join;
use tonic::Code;

use crate::rig::{Rig, refused};
use crate::sky::{Answer, Sky, named_objects, objects, read, sources};

const CHUNKS: [u64; 4] = [16, 17, 40, 63];

fn sky(rows: usize) -> (Sky, Vec<(u64, RecordBatch)>) {
    let chunks: Vec<(u64, RecordBatch)> = CHUNKS.iter().map(|&c| (c, objects(c, rows + c as usize))).collect();
    (Sky::with_objects(&chunks), chunks)
}

/// The rows whose magnitude is below `limit`, of three columns, by a plain loop.
fn brighter(rows: &RecordBatch, limit: f32) -> RecordBatch {
    let mags = rows["mag"].as_primitive::<Float32Type>();
    let keep = mags.iter().map(|m| Some(m.is_some_and(|m| m < limit))).collect();
    filter_record_batch(&rows.project(&[0, 3, 4]).unwrap(), &keep).unwrap()
}

fn assert_same_values(found: &RecordBatch, expected: &RecordBatch) {
    assert_eq!(found.num_rows(), expected.num_rows());
    assert!(expected.num_rows() > 0, "a test without rows tests nothing");
    assert_eq!(found.columns(), expected.columns());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_chunk_gives_its_rows() {
    let mut rig = Rig::new().await;
    let (sky, chunks) = sky(20_000);
    sky.fill(&mut rig).await;
    let task = sky.task("SELECT objectId, mag, name FROM Object WHERE mag < 12").await;
    assert_eq!(task.chunks.iter().map(|c| c.chunk).collect::<Vec<_>>(), CHUNKS);
    let answer = read(rig.get(task).await.unwrap()).await;
    assert!(answer.error.is_none(), "{:?}", answer.error);
    for (index, (_, rows)) in chunks.iter().enumerate() {
        assert_same_values(&answer.chunk(index as u32), &brighter(rows, 12.0));
    }
    let totals = answer.done.unwrap().totals.unwrap();
    let (rows, bytes) = (chunks.iter().map(|(_, r)| r.num_rows() as u64).sum::<u64>(), totals.bytes_read);
    assert_eq!(totals.rows_read, rows);
    assert!(bytes > 0, "the files were read");

    let status = rig.ping().await;
    assert_eq!(status.chunks_done, 4);
    assert_eq!(status.rows_sent, totals.rows_sent);
    assert_eq!(status.fragments_cached, 1);
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_are_cut_and_chunks_stay_apart() {
    let mut rig = Rig::with(|config| config.batch_rows = 100).await;
    let chunks = [(16, named_objects(16, 400, 20_000)), (17, named_objects(17, 400, 20_000))];
    let sky = Sky::with_objects(&chunks);
    sky.fill(&mut rig).await;
    let answer = read(rig.get(sky.task("SELECT objectId, name FROM Object").await).await.unwrap()).await;
    for (index, (_, rows)) in chunks.iter().enumerate() {
        assert_same_values(&answer.chunk(index as u32), &rows.project(&[0, 4]).unwrap());
    }
    assert!(answer.order.len() >= 16, "16 MB come in frames of about 1 MiB: {}", answer.order.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_aggregates_add_up() {
    let mut rig = Rig::new().await;
    let (sky, chunks) = sky(5_000);
    sky.fill(&mut rig).await;
    let sql = "SELECT objectId % 7 AS k, count(*) AS n FROM Object GROUP BY objectId % 7";
    let answer = read(rig.get(sky.task(sql).await).await.unwrap()).await;
    let mut expected = [0; 7];
    for (_, rows) in &chunks {
        for id in rows["objectId"].as_primitive::<Int64Type>().values() {
            expected[(id % 7) as usize] += 1;
        }
    }
    let all = answer.all();
    assert_eq!(all.num_rows(), 7 * CHUNKS.len(), "seven groups of each chunk");
    let mut found = [0; 7];
    let (keys, counts) = (all.column(0).as_primitive::<Int64Type>(), all.column(1).as_primitive::<Int64Type>());
    for (key, count) in keys.values().iter().zip(counts.values()) {
        found[*key as usize] += count;
    }
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_reads_the_files_of_both_tables() {
    let mut rig = Rig::new().await;
    let directors: Vec<_> = CHUNKS.iter().map(|&c| (c, objects(c, 300))).collect();
    // The last chunk has objects without sources, and so no file.
    let children: Vec<_> = CHUNKS[..3].iter().map(|&c| (c, sources(c, 300))).collect();
    let sky = Sky::with_objects(&directors).with_sources(&children);
    sky.fill(&mut rig).await;
    let sql = "SELECT o.objectId, s.flux FROM Object o JOIN Source s ON o.objectId = s.objectId WHERE o.mag < 3";
    let answer = read(rig.get(sky.task(sql).await).await.unwrap()).await;
    assert!(answer.error.is_none(), "{:?}", answer.error);

    let mut expected = Vec::new();
    for (chunk, rows) in &children {
        let director = objects(*chunk, 300);
        let mags = director["mag"].as_primitive::<Float32Type>();
        let first = director["objectId"].as_primitive::<Int64Type>().value(0);
        let keys = rows["objectId"].as_primitive::<Int64Type>().values();
        for (key, flux) in keys.iter().zip(rows["flux"].as_primitive::<Float64Type>().values()) {
            let row = (key - first) as usize;
            let bright = mags.iter().nth(row).unwrap().is_some_and(|m| m < 3.0);
            if bright {
                expected.push((*key, flux.to_bits()));
            }
        }
    }
    let all = answer.all();
    let fluxes = all.column(1).as_primitive::<Float64Type>().values();
    let keys = all.column(0).as_primitive::<Int64Type>().values();
    let mut found: Vec<_> = keys.iter().zip(fluxes).map(|(k, f)| (*k, f.to_bits())).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert!(!expected.is_empty());
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_resumes_in_mid_chunk() {
    let mut rig = Rig::new().await;
    let (sky, chunks) = sky(20_000);
    sky.fill(&mut rig).await;
    let mut whole = sky.task("SELECT objectId, mag, name FROM Object WHERE mag < 12").await;
    // A scan, a filter and a projection in one partition; what the planner proves is its own affair.
    whole.deterministic = true;
    let expected = brighter(&chunks[2].1, 12.0);
    let rows = expected.num_rows();
    for skip in [1, 4_096, 8_192, rows - 1, rows] {
        let mut task = whole.clone();
        task.chunks = vec![whole.chunks[2].clone()];
        task.chunks[0].skip_rows = skip as u64;
        let answer = read(rig.get(task).await.unwrap()).await;
        let found = answer.chunk(0);
        assert_eq!(found.num_rows(), rows - skip);
        assert_eq!(found.columns(), expected.slice(skip, rows - skip).columns());
        assert_eq!(answer.chunks[&0].trailer.unwrap().rows, (rows - skip) as u64);
    }

    let mut task = whole.clone();
    task.chunks[1].skip_rows = 10_000_000;
    let answer = read(rig.get(task).await.unwrap()).await;
    let error = answer.error.unwrap();
    assert_eq!(error.code(), Code::DataLoss, "{error:?}");

    let mut task = whole;
    task.deterministic = false;
    task.chunks[1].skip_rows = 1;
    refused(rig.get(task).await, Code::InvalidArgument, "deterministic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_says_so() {
    let mut rig = Rig::new().await;
    let (sky, _) = sky(100);
    sky.fill(&mut rig).await;
    let task = sky.task("SELECT objectId FROM Object").await;

    let mut missing = task.clone();
    missing.chunks[3].files[0] += 1_000;
    let error = read(rig.get(missing).await.unwrap()).await.error.unwrap();
    assert_eq!(error.code(), Code::NotFound, "{error:?}");
    assert!(error.message().contains("dr1.Object"), "{error:?}");

    // The file of another chunk is not the file of this one.
    let mut mixed = task.clone();
    mixed.chunks[3].files[0] = task.chunks[0].files[0];
    let error = read(rig.get(mixed).await.unwrap()).await.error.unwrap();
    assert_eq!(error.code(), Code::NotFound, "{error:?}");

    let mut short = task.clone();
    short.chunks[0].files.clear();
    refused(rig.get(short).await, Code::InvalidArgument, "files");
    let mut odd = task;
    odd.chunks[0].files_per_scan.push(0);
    refused(rig.get(odd).await, Code::InvalidArgument, "scans");
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_mistake_ends_the_stream_as_such() {
    let mut rig = Rig::new().await;
    let (sky, _) = sky(100);
    sky.fill(&mut rig).await;
    let task = sky.task("SELECT 1 / (objectId % 1000) FROM Object").await;
    let answer = read(rig.get(task).await.unwrap()).await;
    let error = answer.error.unwrap();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    assert!(error.message().to_lowercase().contains("zero"), "{error:?}");
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_data_loss_and_only_the_task_fails() {
    let mut rig = Rig::new().await;
    let (sky, chunks) = sky(3_000);
    sky.fill(&mut rig).await;
    let damaged = rig.files().into_iter().find(|f| f.to_string_lossy().contains("/40/")).unwrap();
    let mut content = std::fs::read(&damaged).unwrap();
    let end = content.len();
    content[end - 400..end - 8].fill(0xff);
    std::fs::write(&damaged, content).unwrap();
    let mut task = sky.task("SELECT objectId, mag, name FROM Object WHERE mag < 12").await;
    let error = read(rig.get(task.clone()).await.unwrap()).await.error.unwrap();
    assert_eq!(error.code(), Code::DataLoss, "{error:?}");

    task.chunks.remove(2);
    let answer = read(rig.get(task).await.unwrap()).await;
    assert_same_values(&answer.chunk(0), &brighter(&chunks[0].1, 12.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_run_at_once() {
    let mut rig = Rig::new().await;
    let (sky, chunks) = sky(20_000);
    sky.fill(&mut rig).await;
    let one = rig.get(sky.task("SELECT objectId, mag, name FROM Object WHERE mag < 12").await).await.unwrap();
    let mut task = sky.task("SELECT objectId, mag, name FROM Object WHERE mag < 2").await;
    task.interactive = true;
    let two = rig.get(task).await.unwrap();
    let (one, two) = join(read(one), read(two)).await;
    let expected = |limit| {
        let parts: Vec<RecordBatch> = chunks.iter().map(|(_, rows)| brighter(rows, limit)).collect();
        concat_batches(&parts[0].schema(), &parts).unwrap()
    };
    assert_same_values(&one.all(), &expected(12.0));
    assert_same_values(&two.all(), &expected(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_without_rows_have_trailers_too() {
    let mut rig = Rig::new().await;
    let chunks: Vec<_> = (16..64).map(|c| (c, objects(c, 50))).collect();
    let sky = Sky::with_objects(&chunks);
    sky.fill(&mut rig).await;
    let answer: Answer =
        read(rig.get(sky.task("SELECT objectId FROM Object WHERE mag > 1000").await).await.unwrap()).await;
    assert!(answer.error.is_none(), "{:?}", answer.error);
    assert_eq!(answer.chunks.len(), 48);
    assert!(answer.chunks.values().all(|c| c.trailer.is_some() && c.batches.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_chunks_is_done_at_once() {
    let mut rig = Rig::new().await;
    let (sky, _) = sky(10);
    let mut task = sky.task("SELECT objectId FROM Object").await;
    task.chunks.clear();
    let answer = read(rig.get(task).await.unwrap()).await;
    assert_eq!(answer.done.unwrap().chunks, 0);
}
