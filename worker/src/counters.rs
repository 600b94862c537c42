//! What a worker is doing and has done: noise-free counters, read by a ping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{Result, WorkerError};

/// The counters of one worker; they run since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    running_tasks: Arc<AtomicU32>,
    chunks_done: AtomicU64,
    rows_sent: AtomicU64,
    waiting_bytes: Arc<AtomicU64>,
}

/// A running task; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Counts a task as running until what it gives is dropped; `Busy` when there would be more
    /// than `most`.
    pub(crate) fn begin_task(&self, most: u32) -> Result<Running> {
        let before = self.running_tasks.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(&self.running_tasks));
        if before >= most {
            return Err(WorkerError::Busy { running: before as usize });
        }
        Ok(running)
    }

    pub(crate) fn chunk_done(&self) {
        self.chunks_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counted frame by frame: a coordinator that hears nothing looks at this for a pulse.
    pub(crate) fn sent(&self, rows: u64) {
        self.rows_sent.fetch_add(rows, Ordering::Relaxed);
    }

    /// Bytes of frames that wait for their consumers, in all tasks.
    pub(crate) fn waiting_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.waiting_bytes)
    }

    /// The figure behind [`Counters::waiting_bytes`], now.
    pub(crate) fn bytes_waiting(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn running_tasks(&self) -> u32 {
        self.running_tasks.load(Ordering::Relaxed)
    }

    pub(crate) fn chunks_done(&self) -> u64 {
        self.chunks_done.load(Ordering::Relaxed)
    }

    pub(crate) fn rows_sent(&self) -> u64 {
        self.rows_sent.load(Ordering::Relaxed)
    }
}
