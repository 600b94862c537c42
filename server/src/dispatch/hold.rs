//! Where frames wait for their chunk's trailer: memory up to a bound, then a nameless file.

use std::fs::File;
use std::io::{Error, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use skyflight_engine::frames::Frame;
use skyflight_engine::{EngineError, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::config::DispatchConfig;

/// Frames with a smaller body are copied when they are held: they are slices of a receive buffer
/// that they would otherwise keep alive as a whole.
const COPY_BELOW_BYTES: usize = 16 << 10;

/// What a held frame costs besides its bytes.
const OVERHEAD_BYTES: usize = 128;

/// The room of one query for frames that wait.
#[derive(Debug)]
pub(super) struct Hold {
    memory: Arc<Memory>,
    spool: Arc<Mutex<Spool>>,
}

#[derive(Debug)]
struct Memory {
    used: AtomicUsize,
    limit: usize,
}

/// One frame that waits.
#[derive(Debug)]
pub(super) enum Held {
    /// In memory, counted where it is held for its trailer.
    Memory {
        /// The frame.
        frame: Frame,
        /// Its part of the query's room.
        _charge: Option<Charge>,
    },
    /// On disk.
    Spooled(Extent),
}

/// Bytes taken from a query's room; given back on drop.
#[derive(Debug)]
pub(super) struct Charge {
    memory: Arc<Memory>,
    bytes: usize,
}

/// A frame in the spool file; its place is free again on drop.
#[derive(Debug)]
pub(super) struct Extent {
    spool: Arc<Mutex<Spool>>,
    offset: u64,
    header_bytes: usize,
    body_bytes: usize,
    rows: u64,
    digest: u64,
}

/// The file: written at its end, read anywhere, begun anew when nothing in it is wanted any more.
#[derive(Debug)]
struct Spool {
    dir: PathBuf,
    limit: u64,
    file: Option<File>,
    end: u64,
    live: u64,
}

impl Hold {
    pub(super) fn new(config: &DispatchConfig) -> Self {
        Hold {
            memory: Arc::new(Memory { used: AtomicUsize::new(0), limit: config.hold_bytes }),
            spool: Arc::new(Mutex::new(Spool {
                dir: config.spool_dir.clone(),
                limit: config.spool_bytes,
                file: None,
                end: 0,
                live: 0,
            })),
        }
    }

    /// Takes a frame in. `ResourceExhausted` when memory and disk are used up, `Internal` when the
    /// disk fails.
    pub(super) async fn keep(&self, frame: Frame) -> Result<Held> {
        if let Some(charge) = self.memory.charge(frame.header.len() + frame.body.len() + OVERHEAD_BYTES) {
            return Ok(Held::Memory { frame: compact(frame), _charge: Some(charge) });
        }
        let spool = Arc::clone(&self.spool);
        blocking(move || Spool::write(&spool, &frame)).await.map(Held::Spooled)
    }
}

impl Held {
    /// A frame that waits for its successor only.
    pub(super) fn lagging(frame: Frame) -> Held {
        Held::Memory { frame, _charge: None }
    }

    /// The frame, where it is in memory.
    pub(super) fn into_memory(self) -> Option<Frame> {
        match self {
            Held::Memory { frame, .. } => Some(frame),
            Held::Spooled(_) => None,
        }
    }

    /// The frame, read back where it was spooled.
    pub(super) async fn release(self) -> Result<Frame> {
        match self {
            Held::Memory { frame, .. } => Ok(frame),
            Held::Spooled(extent) => blocking(move || extent.read()).await,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        match self {
            Held::Memory { frame, .. } => frame.rows,
            Held::Spooled(extent) => extent.rows,
        }
    }

    pub(super) fn body_bytes(&self) -> usize {
        match self {
            Held::Memory { frame, .. } => frame.body.len(),
            Held::Spooled(extent) => extent.body_bytes,
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| EngineError::Internal(format!("the spool of held rows stopped: {e}")))?
}

fn compact(frame: Frame) -> Frame {
    if frame.body.len() >= COPY_BELOW_BYTES {
        return frame;
    }
    Frame { header: Bytes::copy_from_slice(&frame.header), body: Bytes::copy_from_slice(&frame.body), rows: frame.rows }
}

impl Memory {
    fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Charge { memory: Arc::clone(self), bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Spool {
    fn write(shared: &Arc<Mutex<Spool>>, frame: &Frame) -> Result<Extent> {
        let bytes = (frame.header.len() + frame.body.len()) as u64;
        let mut spool = shared.lock();
        let offset = spool.end;
        if offset + bytes > spool.limit {
            return Err(EngineError::ResourceExhausted(format!(
                "the query's partial results need more than the {} MiB of disk it may use; select fewer rows or columns",
                spool.limit >> 20
            )));
        }
        let file = match &mut spool.file {
            Some(file) => file,
            None => {
                let file = tempfile::tempfile_in(&spool.dir).map_err(|e| disk("make", &e))?;
                spool.file.insert(file)
            }
        };
        file.seek(SeekFrom::Start(offset)).map_err(|e| disk("write", &e))?;
        file.write_all(&frame.header).map_err(|e| disk("write", &e))?;
        file.write_all(&frame.body).map_err(|e| disk("write", &e))?;
        spool.end = offset + bytes;
        spool.live += bytes;
        Ok(Extent {
            spool: Arc::clone(shared),
            offset,
            header_bytes: frame.header.len(),
            body_bytes: frame.body.len(),
            rows: frame.rows,
            digest: xxh3_64(&frame.body),
        })
    }
}

impl Extent {
    fn read(self) -> Result<Frame> {
        let mut bytes = BytesMut::zeroed(self.header_bytes + self.body_bytes);
        let mut spool = self.spool.lock();
        let file = spool.file.as_mut().ok_or_else(|| EngineError::Internal("the spool of held rows is gone".into()))?;
        file.seek(SeekFrom::Start(self.offset)).map_err(|e| disk("read", &e))?;
        file.read_exact(&mut bytes).map_err(|e| disk("read", &e))?;
        drop(spool);
        let header = bytes.split_to(self.header_bytes).freeze();
        let body = bytes.freeze();
        if xxh3_64(&body) != self.digest {
            return Err(EngineError::Corrupt(
                "rows spooled to disk came back altered; check the disk of the spool folder and run the query again"
                    .into(),
            ));
        }
        Ok(Frame { header, body, rows: self.rows })
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        let mut spool = self.spool.lock();
        spool.live -= (self.header_bytes + self.body_bytes) as u64;
        if spool.live == 0 {
            spool.end = 0;
        }
    }
}

fn disk(action: &str, error: &Error) -> EngineError {
    EngineError::Internal(format!(
        "cannot {action} the spool file for held rows: {error}; check that the spool folder exists and has room"
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn frame(seed: u8, body_bytes: usize) -> Frame {
        Frame {
            header: Bytes::from(vec![seed; 40]),
            body: (0..body_bytes).map(|i| (i as u8).wrapping_mul(seed)).collect(),
            rows: u64::from(seed),
        }
    }

    fn hold(hold_bytes: usize, spool_bytes: u64) -> Hold {
        Hold::new(&DispatchConfig { hold_bytes, spool_bytes, ..DispatchConfig::default() })
    }

    #[tokio::test]
    async fn frames_come_back_as_they_went_from_memory_and_disk() {
        let hold = hold(3_000, 1 << 20);
        let mut held = Vec::new();
        for seed in 1..=20 {
            held.push(hold.keep(frame(seed, 1_000)).await.unwrap());
        }
        let on_disk = held.iter().filter(|h| matches!(h, Held::Spooled(_))).count();
        assert_eq!(on_disk, 18, "two frames of 1,168 bytes fit into 3,000");
        for (seed, held) in (1..=20).zip(held) {
            assert_eq!(held.release().await.unwrap(), frame(seed, 1_000));
        }
        assert_eq!(hold.memory.used.load(Ordering::Relaxed), 0);
        assert_eq!(hold.spool.lock().live, 0);
        assert_eq!(hold.spool.lock().end, 0, "the file is begun anew");
    }

    #[tokio::test]
    async fn disk_is_bounded_and_room_is_given_back() {
        let hold = hold(0, 2_500);
        let first = hold.keep(frame(1, 1_000)).await.unwrap();
        let second = hold.keep(frame(2, 1_000)).await.unwrap();
        let error = hold.keep(frame(3, 1_000)).await.unwrap_err();
        assert!(matches!(error, EngineError::ResourceExhausted(_)), "{error}");
        drop((first, second));
        hold.keep(frame(3, 1_000)).await.unwrap();
    }
}
