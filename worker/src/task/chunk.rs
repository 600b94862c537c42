//! One chunk of a task: from its files to its trailer.

use std::time::Instant;

use futures::TryStreamExt;
use skyflight_catalog::FileId;
use skyflight_engine::fragment::{FragmentScan, error_of};
use skyflight_engine::frames::{Frame, encode_batch};
use skyflight_proto::task_message::Body;
use skyflight_proto::{BatchMark, ChunkTask, ChunkTrailer, Digest, ScanCounters};
use skyflight_sky::ChunkId;

use super::{Slot, Task, mark};
use crate::{Result, WorkerError};

/// Runs the task's fragment on one chunk and sends frames and trailer. The slot is held before
/// and after, and given to others while the consumer has no room.
pub(super) async fn run(task: &Task, index: u32, chunk: &ChunkTask, slot: &mut Slot) -> Result<ScanCounters> {
    let started = Instant::now();
    let listed = chunk.files.iter().map(|&file| FileId(file));
    let find = |scan: &FragmentScan, of, file| task.worker.store.scan_file(scan, of, file);
    let files = task.fragment.files(ChunkId(chunk.chunk), listed, &chunk.files_per_scan, find)?;
    let mut run = task.fragment.execute(&files, task.cancel.clone())?;
    let mut sender = Sender { task, slot, index, batches: 0, rows: 0, digest: Digest::new() };
    let mut skip = usize::try_from(chunk.skip_rows).unwrap_or(usize::MAX);
    while let Some(batch) = run.stream.try_next().await.map_err(error_of)? {
        let skipped = skip.min(batch.num_rows());
        skip -= skipped;
        let rest = batch.slice(skipped, batch.num_rows() - skipped);
        for frame in encode_batch(&rest)? {
            sender.send(frame).await?;
        }
    }
    if skip > 0 {
        // The caller has rows that this run does not give: one of the two is wrong.
        let rows = chunk.skip_rows - skip as u64;
        let (chunk, had) = (ChunkId(chunk.chunk), chunk.skip_rows);
        return Err(WorkerError::Corrupt(format!("chunk {chunk} gives {rows} rows, the caller has {had} of it")));
    }
    let mut counters = run.counters();
    counters.rows_sent = sender.rows;
    counters.elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    sender.end(counters).await?;
    Ok(counters)
}

/// Counts and digests a chunk's frames as they leave.
struct Sender<'a> {
    task: &'a Task,
    slot: &'a mut Slot,
    index: u32,
    batches: u32,
    rows: u64,
    digest: Digest,
}

impl Sender<'_> {
    async fn send(&mut self, frame: Frame) -> Result<()> {
        let batch = BatchMark { chunk_index: self.index, sequence: self.batches };
        self.digest.update(&frame.body);
        self.rows += frame.rows;
        self.task.worker.counters.sent(frame.rows);
        self.batches += 1;
        let mut data = mark(Body::Batch(batch));
        data.data_header = frame.header;
        data.data_body = frame.body;
        self.task.output.send(data, self.slot).await
    }

    async fn end(self, counters: ScanCounters) -> Result<()> {
        let trailer = ChunkTrailer {
            chunk_index: self.index,
            rows: self.rows,
            batches: self.batches,
            digest: self.digest.finish(),
            counters: Some(counters),
        };
        self.task.output.send(mark(Body::Trailer(trailer)), self.slot).await
    }
}
