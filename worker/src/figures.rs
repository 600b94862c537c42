//! A worker's figures, for Prometheus. Their names and labels stand here only.

use std::sync::Arc;

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::worker::Worker;

const TASKS: &str = "skyflight_worker_tasks_running";
const CHUNKS: &str = "skyflight_worker_chunks_total";
const ROWS: &str = "skyflight_worker_rows_sent_total";
const WAITING: &str = "skyflight_worker_waiting_bytes";
const MEMORY: &str = "skyflight_worker_memory_bytes";
const FILES: &str = "skyflight_worker_files";
const STORED: &str = "skyflight_worker_stored_bytes";

/// What a worker is doing, looked at when somebody asks. Clones look at the same one.
#[derive(Clone)]
pub struct WorkerFigures(pub(crate) Arc<Worker>);

impl std::fmt::Debug for WorkerFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WorkerFigures").field(&self.0.id).finish()
    }
}

impl WorkerFigures {
    /// Says what the figures mean.
    pub fn describe() {
        describe_gauge!(TASKS, "Tasks that run now");
        describe_counter!(CHUNKS, "Chunks finished");
        describe_counter!(ROWS, "Rows sent");
        describe_gauge!(WAITING, "Bytes of frames that wait for their consumers");
        describe_gauge!(MEMORY, "Memory taken by fragments now");
        describe_gauge!(FILES, "Chunk files held");
        describe_gauge!(STORED, "Bytes of the chunk files held");
    }

    /// Sets the figures to what is true now.
    pub fn report(&self) {
        let worker = self.0.as_ref();
        let (files, bytes) = worker.store.totals();
        let counters = &worker.counters;
        let id = || worker.id.clone();
        gauge!(TASKS, "worker" => id()).set(f64::from(counters.running_tasks()));
        counter!(CHUNKS, "worker" => id()).absolute(counters.chunks_done());
        counter!(ROWS, "worker" => id()).absolute(counters.rows_sent());
        gauge!(WAITING, "worker" => id()).set(counters.bytes_waiting() as f64);
        gauge!(MEMORY, "worker" => id()).set(worker.memory_reserved() as f64);
        gauge!(FILES, "worker" => id()).set(files as f64);
        gauge!(STORED, "worker" => id()).set(bytes as f64);
    }
}
