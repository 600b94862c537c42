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
    /// Index into the request's chunks.
    pub(super) planned: u32,
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
        let earlier = self.open_chunk(index).waiting.pop().and_then(Held::into_memory);
        self.lag_bytes -= earlier.as_ref().map_or(0, |frame| frame.body.len());
        let now = if self.lag_bytes + bytes <= LAG_BYTES {
            self.lag_bytes += bytes;
            self.open_chunk(index).waiting.push(Held::lagging(frame));
            None
        } else {
            Some(frame)
        };
        let rows: u64 = [&earlier, &now].into_iter().flatten().map(|frame| frame.rows).sum();
        self.open_chunk(index).delivered += rows;
        self.jobs[index].delivered += rows;
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
        Ok(Some(Closed { planned: self.jobs[index].planned, frames, counters: trailer.counters.unwrap_or_default() }))
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
            Err(Violation::Attempt(format!("spoke of chunk number {index} of a task of {} chunks", self.jobs.len())))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use skyflight_engine::frames::encode_batch;

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![Field::new("x", DataType::Int64, false)])
    }

    fn frame(rows: i64) -> Frame {
        let column = Arc::new(Int64Array::from_iter_values(0..rows));
        let batch = RecordBatch::try_new(Arc::new(schema()), vec![column]);
        batch.map(|batch| encode_batch(&batch)).into_iter().flatten().flatten().next().unwrap_or(Frame {
            header: Bytes::new(),
            body: Bytes::new(),
            rows: 0,
        })
    }

    fn ledger(chunks: u32, streamed: bool) -> Ledger {
        let job = |planned| Job { planned, attempts: 0, delivered: 0 };
        Ledger::new((0..chunks).map(job).collect(), streamed)
    }

    fn send(ledger: &mut Ledger, chunk_index: u32, sequence: u32, frame: &Frame) -> Result<(usize, Frame), Violation> {
        let mark = BatchMark { chunk_index, sequence };
        ledger.batch(&FrameShape::new(&schema()), mark, frame.header.clone(), frame.body.clone())
    }

    fn trailer(chunk_index: u32, frames: &[Frame]) -> ChunkTrailer {
        let mut digest = Digest::new();
        frames.iter().for_each(|frame| digest.update(&frame.body));
        ChunkTrailer {
            chunk_index,
            rows: frames.iter().map(|frame| frame.rows).sum(),
            batches: frames.len() as u32,
            digest: digest.finish(),
            counters: None,
        }
    }

    fn rows(frames: [Option<Frame>; 2]) -> Vec<u64> {
        frames.into_iter().flatten().map(|frame| frame.rows).collect()
    }

    #[test]
    fn a_streamed_frame_goes_when_the_next_has_come() -> Result<(), Violation> {
        let mut ledger = ledger(2, true);
        let frames = [frame(3), frame(5), frame(7)];
        let (chunk, first) = send(&mut ledger, 1, 0, &frames[0])?;
        assert_eq!(rows(ledger.lag(chunk, first)), [0_u64; 0]);
        let (chunk, second) = send(&mut ledger, 1, 1, &frames[1])?;
        assert_eq!(rows(ledger.lag(chunk, second)), [3]);
        assert_eq!(ledger.jobs()[1].delivered, 3, "a retry would begin after the third row");
        let (chunk, third) = send(&mut ledger, 1, 2, &frames[2])?;
        assert_eq!(rows(ledger.lag(chunk, third)), [5]);
        let closed = ledger.trailer(&trailer(1, &frames))?;
        assert_eq!(closed.map(|closed| closed.frames.iter().map(Held::rows).sum()), Some(7));
        assert_eq!((ledger.committed(), ledger.jobs()[1].delivered, ledger.lag_bytes), (1, 15, 0));
        assert!(ledger.trailer(&trailer(1, &frames))?.is_none(), "the first trailer has won");
        let unfinished = ledger.into_unfinished();
        assert_eq!(unfinished, [Job { planned: 0, attempts: 1, delivered: 0 }]);
        Ok(())
    }

    #[test]
    fn frames_beyond_the_lag_do_not_wait() -> Result<(), Violation> {
        let mut ledger = ledger(20, true);
        let big = frame(100_000);
        let mut waited = 0;
        for index in 0..20 {
            let (chunk, frame) = send(&mut ledger, index, 0, &big)?;
            waited += usize::from(rows(ledger.lag(chunk, frame)).is_empty());
        }
        assert_eq!(waited, LAG_BYTES / big.body.len());
        // The next frame of a chunk whose last did not wait, and of one whose last did.
        for index in [19, 0] {
            let (chunk, frame) = send(&mut ledger, index, 1, &big)?;
            assert_eq!(rows(ledger.lag(chunk, frame)), [100_000]);
        }
        for index in 1..19 {
            ledger.trailer(&trailer(index, std::slice::from_ref(&big)))?;
        }
        for index in [0, 19] {
            ledger.trailer(&trailer(index, &[big.clone(), big.clone()]))?;
        }
        assert_eq!((ledger.committed(), ledger.lag_bytes), (20, 0));
        assert!(ledger.jobs().iter().map(|job| job.delivered).eq((0..20).map(|i| if i % 19 == 0 {
            200_000
        } else {
            100_000
        })));
        Ok(())
    }

    #[test]
    fn a_wrong_trailer_is_lost_only_when_rows_have_gone() -> Result<(), Violation> {
        for (sent, lost) in [(1, false), (2, true)] {
            let mut ledger = ledger(1, true);
            let frames: Vec<Frame> = (0..sent).map(|i| frame(i64::from(i) + 2)).collect();
            for (sequence, frame) in frames.iter().enumerate() {
                let (chunk, frame) = send(&mut ledger, 0, sequence as u32, frame)?;
                ledger.lag(chunk, frame);
            }
            let wrong = ChunkTrailer { digest: 1, ..trailer(0, &frames) };
            let violation = ledger.trailer(&wrong);
            assert_eq!(matches!(violation, Err(Violation::Lost { planned: 0, .. })), lost);
            assert!(violation.is_err());
        }
        Ok(())
    }

    #[test]
    fn an_empty_chunk_needs_a_right_trailer_too() -> Result<(), Violation> {
        let mut ledger = ledger(2, false);
        assert!(ledger.trailer(&ChunkTrailer { digest: 0, ..trailer(0, &[]) }).is_err());
        assert!(ledger.trailer(&trailer(0, &[]))?.is_some());
        assert!(ledger.trailer(&trailer(2, &[])).is_err(), "a chunk that was not asked for");
        for _ in 0..2 {
            assert!(ledger.trailer(&trailer(0, &[]))?.is_none());
        }
        assert!(ledger.trailer(&trailer(0, &[])).is_err(), "trailers are not dropped for ever");
        Ok(())
    }

    #[test]
    fn batches_out_of_order_or_after_the_trailer_void_the_attempt() -> Result<(), Violation> {
        let mut ledger = ledger(2, false);
        let frame = frame(4);
        assert!(send(&mut ledger, 0, 1, &frame).is_err());
        send(&mut ledger, 0, 0, &frame)?;
        assert!(send(&mut ledger, 0, 0, &frame).is_err());
        assert!(send(&mut ledger, 0, 2, &frame).is_err());
        assert!(send(&mut ledger, 5, 0, &frame).is_err());
        ledger.trailer(&trailer(0, std::slice::from_ref(&frame)))?;
        assert!(send(&mut ledger, 0, 1, &frame).is_err());
        Ok(())
    }
}
