//! What one task stream has sent of each of its chunks, and what counts of it.
//!
//! Everything about "exactly once" that needs no socket is here. A chunk belongs to one stream at a
//! time: the driver gives it to a task, and takes it back when the task has ended. So no two streams
//! ever write about the same chunk, and no lock is needed.
//!
//! - Nothing of a chunk counts as received before its trailer agrees with what came: rows, batches
//!   and digest. The first such trailer commits the chunk, later ones are dropped.
//! - Held (the default): frames wait for that trailer. An attempt that fails leaves nothing behind.
//! - Streamed (deterministic fragments): frames pass on one behind: a frame goes when the next one,
//!   or the trailer, has come. So a chunk of one frame, which most are, is never passed on
//!   unverified, and a longer one at most without its last frame. `Job::delivered` counts the rows
//!   that went, always whole frames, and the next attempt skips as many.
//!
//! What a streamed chunk has already passed on when its trailer turns out wrong cannot be taken
//! back; then the query ends with [`Violation::Lost`].

use bytes::Bytes;
use skyflight_engine::frames::Frame;
use skyflight_proto::{BatchMark, ChunkTrailer, Digest, ScanCounters};

use super::hold::Held;
use super::shape::FrameShape;

/// One chunk to run, and how far earlier attempts came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    /// Index into the request's chunks.
    pub(super) planned: u32,
    /// Attempts that have failed.
    pub(super) attempts: u32,
    /// Rows that the consumer already has.
    pub(super) delivered: u64,
}

/// A message that an honest worker does not send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// The attempt is void; a replica may do better.
    Attempt(String),
    /// The consumer already has rows of the attempt that now turns out to be void.
    Lost {
        /// Index into the request's chunks.
        planned: u32,
        /// What does not fit.
        reason: String,
    },
}

/// A chunk that has just been committed.
#[derive(Debug)]
pub(super) struct Closed {
    /// Frames to pass on now, in order: those held, or the last one of a streamed chunk.
    pub(super) frames: Vec<Held>,
    /// What it cost.
    pub(super) counters: ScanCounters,
}

#[derive(Debug, Default)]
struct OpenChunk {
    digest: Digest,
    rows: u64,
    batches: u32,
    /// Rows of this attempt that the consumer has.
    delivered: u64,
    waiting: Vec<Held>,
}

/// Frames of streamed chunks that wait for their successor, per stream, in bytes. Workers run few
/// chunks side by side; beyond this, frames pass on without waiting.
const LAG_BYTES: usize = 8 << 20;

const UNOPENED: u32 = u32::MAX;
const COMMITTED: u32 = u32::MAX - 1;

/// The state of one ticket's chunks, indexed as in the ticket.
#[derive(Debug)]
pub(super) struct Ledger {
    jobs: Vec<Job>,
    /// For each job an index into `open`, or one of the two constants.
    slots: Vec<u32>,
    /// Only chunks that have begun and not ended have the half kilobyte of a running digest.
    open: Vec<OpenChunk>,
    free: Vec<u32>,
    committed: usize,
    streamed: bool,
    lag_bytes: usize,
    empty_digest: u64,
    late_trailers: usize,
}

impl Ledger {
    pub(super) fn new(jobs: Vec<Job>, streamed: bool) -> Self {
        Ledger {
            slots: vec![UNOPENED; jobs.len()],
            jobs,
            open: Vec::new(),
            free: Vec::new(),
            committed: 0,
            streamed,
            lag_bytes: 0,
            empty_digest: Digest::new().finish(),
            late_trailers: 0,
        }
    }

    pub(super) fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    pub(super) fn committed(&self) -> usize {
        self.committed
    }

    pub(super) fn complete(&self) -> bool {
        self.committed == self.jobs.len()
    }

    /// Checks a record batch and counts it. The frame is then to be given to [`Ledger::lag`] or
    /// [`Ledger::hold`] under the same index.
    pub(super) fn batch(
        &mut self,
        shape: &FrameShape,
        mark: BatchMark,
        header: Bytes,
        body: Bytes,
    ) -> Result<(usize, Frame), Violation> {
        let index = self.index(mark.chunk_index)?;
        let slot = self.slots[index];
        if slot == COMMITTED {
            return Err(self.void(index, "sent a batch after the chunk's trailer"));
        }
        let expected = if slot == UNOPENED { 0 } else { self.open[slot as usize].batches };
        if mark.sequence != expected {
            let what = format!("sent batch {} where batch {expected} was due", mark.sequence);
            return Err(self.void(index, &what));
        }
        let rows = shape
            .check_frame(&header, body.len())
            .map_err(|what| self.void(index, &format!("sent a bad frame: {what}")))?;
        let chunk = self.open_chunk(index);
        chunk.digest.update(&body);
        chunk.rows = chunk.rows.saturating_add(rows);
        chunk.batches += 1;
        Ok((index, Frame { header, body, rows }))
    }

    /// Keeps a frame until its chunk's trailer.
    pub(super) fn hold(&mut self, index: usize, held: Held) {
        self.open_chunk(index).waiting.push(held);
    }

    /// Keeps a frame until its successor comes; gives those whose turn has come, in order, to be
    /// passed on now: they count as delivered.
    pub(super) fn lag(&mut self, index: usize, frame: Frame) -> [Option<Frame>; 2] {
        let bytes = frame.body.len();
        let room = LAG_BYTES.saturating_sub(self.lag_bytes) >= bytes;
        let chunk = self.open_chunk(index);
        let earlier = chunk.waiting.pop().and_then(Held::into_memory);
        let now = if room {
            chunk.waiting.push(Held::lagging(frame));
            None
        } else {
            Some(frame)
        };
        let rows: u64 = [&earlier, &now].into_iter().flatten().map(|frame| frame.rows).sum();
        chunk.delivered += rows;
        self.jobs[index].delivered += rows;
        if now.is_none() {
            self.lag_bytes += bytes;
        }
        self.lag_bytes -= earlier.as_ref().map_or(0, |frame| frame.body.len());
        [earlier, now]
    }

    /// Compares a trailer with what came. None when the chunk is committed already.
    pub(super) fn trailer(&mut self, trailer: &ChunkTrailer) -> Result<Option<Closed>, Violation> {
        let index = self.index(trailer.chunk_index)?;
        let slot = self.slots[index];
        if slot == COMMITTED {
            self.late_trailers += 1;
            // Dropped, but not for ever.
            return if self.late_trailers <= self.jobs.len() {
                Ok(None)
            } else {
                Err(self.void(index, "repeats its trailers"))
            };
        }
        let (rows, batches, digest, delivered) = match self.open.get(slot as usize) {
            Some(chunk) => (chunk.rows, chunk.batches, chunk.digest.finish(), chunk.delivered),
            None => (0, 0, self.empty_digest, 0),
        };
        if (trailer.rows, trailer.batches, trailer.digest) != (rows, batches, digest) {
            let reason = format!(
                "said it had sent {} rows in {} batches with digest {:016x}, but {rows} rows in {batches} batches \
                 with digest {digest:016x} came",
                trailer.rows, trailer.batches, trailer.digest
            );
            return Err(if delivered > 0 {
                Violation::Lost { planned: self.jobs[index].planned, reason }
            } else {
                self.void(index, &reason)
            });
        }
        let mut frames = Vec::new();
        if let Some(chunk) = self.open.get_mut(slot as usize) {
            frames = std::mem::take(chunk).waiting;
            self.free.push(slot);
        }
        if self.streamed {
            for frame in &frames {
                self.lag_bytes -= frame.body_bytes();
                self.jobs[index].delivered += frame.rows();
            }
        }
        self.slots[index] = COMMITTED;
        self.committed += 1;
        Ok(Some(Closed {
            frames,
            counters: trailer.counters.unwrap_or_default(),
        }))
    }

    /// The jobs without a trailer, with their attempt counted; for the next stream.
    pub(super) fn into_unfinished(self) -> Vec<Job> {
        let open = self.jobs.into_iter().zip(self.slots).filter(|(_, slot)| *slot != COMMITTED);
        open.map(|(job, _)| Job { attempts: job.attempts + 1, ..job }).collect()
    }

    fn index(&self, index: u32) -> Result<usize, Violation> {
        let index = index as usize;
        if index < self.jobs.len() {
            Ok(index)
        } else {
            Err(Violation::Attempt(format!(
                "spoke of chunk number {index} of a task of {} chunks",
                self.jobs.len()
            )))
        }
    }

    fn open_chunk(&mut self, index: usize) -> &mut OpenChunk {
        if self.slots[index] == UNOPENED {
            self.slots[index] = match self.free.pop() {
                Some(slot) => slot,
                None => {
                    self.open.push(OpenChunk::default());
                    self.open.len() as u32 - 1
                }
            };
        }
        &mut self.open[self.slots[index] as usize]
    }

    fn void(&self, index: usize, what: &str) -> Violation {
        Violation::Attempt(format!("{what} (chunk number {index} of its task)"))
    }
}
