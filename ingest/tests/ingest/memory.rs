//! Memory stays near the budget when the input is many times as large.

use std::path::Path;
use std::sync::Arc;

use crate::support::{Cluster, describe, request_in, source, write_parquet};
use arrow::array::{ArrayRef, Float64Array, Int64Array};
use rand::{RngExt, SeedableRng};
use skyflight_catalog::{FileKind, SqliteStore};
use skyflight_ingest::{TableDescription, ingest};
use skyflight_proto::ClusterKeys;

const FOLDER: &str = "SKYFLIGHT_INGEST_MEMORY_FOLDER";
const FILES: usize = 6;
const ROWS: usize = 60_000;
const VALUES: usize = 40;
const BUDGET_MIB: usize = 24;

fn object() -> TableDescription {
    describe("name = \"Object\"\nkind = \"director\"\nid = \"objectId\"\n[position]\nra = \"ra\"\ndec = \"dec\"\n")
}

/// A figure of /proc/self/status in MiB.
fn status_mib(key: &str) -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? / 1024)
}

/// Not a test of its own: the process whose memory the test below looks at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measured_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let store = Arc::new(SqliteStore::open(&folder.join("catalog.sqlite")).await.unwrap());
    let keys = Arc::new(ClusterKeys::load(&folder.join("cluster.key")).unwrap());
    let mut request = request_in(folder, vec![source(&object(), &[folder.join("input")])]);
    request.memory_bytes = BUDGET_MIB << 20;
    let before = status_mib("VmRSS").unwrap();
    ingest(request, store, keys).await.unwrap();
    let growth = status_mib("VmHWM").unwrap() - before;
    std::fs::write(folder.join("growth"), growth.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_by_the_budget() {
    if status_mib("VmHWM").is_none() {
        eprintln!("skipped: this system does not tell a process's memory");
        return;
    }
    let cluster = Cluster::start(1).await;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    for file in 0..FILES {
        let ids = (file * ROWS) as i64..((file + 1) * ROWS) as i64;
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("objectId".into(), Arc::new(Int64Array::from_iter_values(ids))),
            ("ra".into(), Arc::new(Float64Array::from_iter_values((0..ROWS).map(|_| rng.random_range(0.0..360.0))))),
            ("dec".into(), Arc::new(Float64Array::from_iter_values((0..ROWS).map(|_| rng.random_range(-90.0..90.0))))),
        ];
        for value in 0..VALUES {
            let values = (0..ROWS).map(|_| rng.random::<f64>());
            columns.push((format!("value{value}"), Arc::new(Float64Array::from_iter_values(values))));
        }
        let columns = columns.iter().map(|(name, values)| (name.as_str(), Arc::clone(values))).collect();
        write_parquet(&cluster.path(&format!("input/{file}.parquet")), columns);
    }
    cluster.register().await;
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["memory::measured_child", "--exact", "--nocapture"])
        .env(FOLDER, cluster.folder.path())
        // What is in use is measured, not what the C allocator keeps for each thread that ever ran.
        .env("MALLOC_ARENA_MAX", "1")
        .status()
        .unwrap();
    assert!(child.success());
    let growth: usize = std::fs::read_to_string(cluster.path("growth")).unwrap().parse().unwrap();
    let input = (FILES * ROWS * (VALUES + 3) * 8) >> 20;
    let snapshot = cluster.snapshot("dr1").await;
    assert_eq!(snapshot.table("Object").unwrap().facts.rows, (FILES * ROWS) as u64);
    assert!(snapshot.tables[0].files.iter().filter(|file| file.kind == FileKind::Rows).count() >= 48);
    eprintln!("input {input} MiB, budget {BUDGET_MIB} MiB, memory grew by {growth} MiB");
    // What libraries, stacks and the allocator take comes on top of the budget, and does not grow with the input.
    assert!(growth < 3 * BUDGET_MIB, "memory grew by {growth} MiB, with a budget of {BUDGET_MIB} MiB");
}
