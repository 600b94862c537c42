//! The file in which the finished chunks of one leaf are kept: frames as they come, of whatever
//! chunk, and a mark where a chunk is whole.
//!
//! Written at its end alone. What a coordinator that died left half written has a wrong digest; there
//! the file is cut off. Frames of chunks without a mark count for nothing, and each life
//! begins with a mark of its own, so that they are not taken for those of a later attempt. It is not
//! synced: of what a power cut takes away, the digests tell, and those chunks run again.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Error, ErrorKind, Read, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use skyflight_engine::frames::Frame;
use skyflight_proto::Digest;
use skyflight_sky::ChunkId;
use tokio_util::sync::CancellationToken;

/// Kind, three counts and a digest.
const HEAD_BYTES: usize = 40;

const FRAME: u32 = 1;
const COMMITTED: u32 = 2;
const BEGUN: u32 = 3;

/// A frame in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    offset: u64,
    head: Head,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    kind: u32,
    header_bytes: u32,
    body_bytes: u32,
    chunk: u64,
    rows: u64,
    digest: u64,
}

#[derive(Debug)]
pub(super) struct KeptFile {
    file: File,
    end: u64,
    /// Frames of whole chunks.
    chunks: BTreeMap<ChunkId, Vec<Extent>>,
    /// Frames of chunks that are not whole yet.
    open: HashMap<ChunkId, Vec<Extent>>,
    /// Marks in the file: more than there are chunks where one was run again.
    marks: u64,
}

impl KeptFile {
    /// Opens the file, or makes it, and reads what an earlier life of the job left.
    ///
    /// Errors: also `Interrupted`, when `stop` is cancelled before all is read.
    pub(super) fn open(path: &Path, stop: &CancellationToken) -> Result<KeptFile> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut kept = KeptFile { file, end: 0, chunks: BTreeMap::new(), open: HashMap::new(), marks: 0 };
        kept.read_records(stop)?;
        kept.open.clear();
        // Behind a record that is not believed there may lie whole ones: they must not follow what comes now.
        kept.file.set_len(kept.end)?;
        kept.append(Head { kind: BEGUN, header_bytes: 0, body_bytes: 0, chunk: 0, rows: 0, digest: 0 }, &[])?;
        Ok(kept)
    }

    fn read_records(&mut self, stop: &CancellationToken) -> Result<()> {
        let length = self.file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, self.file.try_clone()?);
        let mut payload = Vec::new();
        loop {
            if stop.is_cancelled() {
                return Err(ErrorKind::Interrupted.into());
            }
            let mut bytes = [0; HEAD_BYTES];
            if !read_whole(&mut reader, &mut bytes)? {
                return Ok(());
            }
            let head = Head::of(&bytes);
            let after = self.end + HEAD_BYTES as u64 + head.payload_bytes();
            if after > length {
                return Ok(());
            }
            payload.resize(head.payload_bytes() as usize, 0);
            if !read_whole(&mut reader, &mut payload)? || head.digest != digest(&bytes, &payload) {
                return Ok(());
            }
            let chunk = ChunkId(head.chunk);
            match head.kind {
                FRAME => self.open.entry(chunk).or_default().push(Extent { offset: self.end, head }),
                COMMITTED => self.close(chunk),
                // Frames of unfinished chunks are of an attempt that is gone.
                BEGUN => self.open.clear(),
                _ => return Ok(()),
            }
            self.end = after;
        }
    }

    fn close(&mut self, chunk: ChunkId) {
        let frames = self.open.remove(&chunk).unwrap_or_default();
        // The first counts, as everywhere.
        self.chunks.entry(chunk).or_insert(frames);
        self.marks += 1;
    }

    /// Keeps a frame of a chunk. Errors leave the file as it was.
    pub(super) fn frame(&mut self, chunk: ChunkId, frame: &Frame) -> Result<()> {
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).map_err(|_| Error::from(ErrorKind::FileTooLarge));
        let head = Head {
            kind: FRAME,
            header_bytes: length(&frame.header)?,
            body_bytes: length(&frame.body)?,
            chunk: chunk.0,
            rows: frame.rows,
            digest: 0,
        };
        let extent = self.append(head, &[&frame.header, &frame.body])?;
        self.open.entry(chunk).or_default().push(extent);
        Ok(())
    }

    /// Marks a chunk as whole.
    pub(super) fn commit(&mut self, chunk: ChunkId) -> Result<()> {
        let head = Head { kind: COMMITTED, header_bytes: 0, body_bytes: 0, chunk: chunk.0, rows: 0, digest: 0 };
        self.append(head, &[])?;
        self.close(chunk);
        Ok(())
    }

    fn append(&mut self, mut head: Head, parts: &[&[u8]]) -> Result<Extent> {
        head.digest = digest(&head.bytes(), &parts.concat());
        let mut at = self.end;
        for part in [&head.bytes()[..]].iter().chain(parts) {
            self.file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        let extent = Extent { offset: self.end, head };
        self.end = at;
        Ok(extent)
    }

    /// The whole chunks.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (ChunkId, &[Extent])> {
        self.chunks.iter().map(|(chunk, frames)| (*chunk, frames.as_slice()))
    }

    pub(super) fn marks(&self) -> u64 {
        self.marks
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Reads a frame back.
    ///
    /// Errors: also `InvalidData` when it is not what was written.
    pub(super) fn read(&self, extent: &Extent) -> Result<Frame> {
        let head = &extent.head;
        let mut bytes = BytesMut::zeroed(head.payload_bytes() as usize);
        self.file.read_exact_at(&mut bytes, extent.offset + HEAD_BYTES as u64)?;
        if head.digest != digest(&head.bytes(), &bytes) {
            return Err(ErrorKind::InvalidData.into());
        }
        let header = bytes.split_to(head.header_bytes as usize).freeze();
        Ok(Frame { header, body: bytes.freeze(), rows: head.rows })
    }
}

impl Head {
    fn payload_bytes(&self) -> u64 {
        u64::from(self.header_bytes) + u64::from(self.body_bytes)
    }

    fn bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.header_bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.rows.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8; HEAD_BYTES]) -> Head {
        let four = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let eight = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Head {
            kind: four(0),
            header_bytes: four(4),
            body_bytes: four(8),
            chunk: eight(16),
            rows: eight(24),
            digest: eight(32),
        }
    }
}

/// Over a head, without its own digest, and what follows it.
fn digest(head: &[u8; HEAD_BYTES], payload: &[u8]) -> u64 {
    let mut digest = Digest::new();
    digest.update(&head[..32]);
    digest.update(payload);
    digest.finish()
}

/// False where the file ends before.
fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn frame(seed: u8, bytes: usize) -> Frame {
        Frame { header: Bytes::from(vec![seed; 24]), body: Bytes::from(vec![seed ^ 1; bytes]), rows: u64::from(seed) }
    }

    fn opened(path: &Path) -> KeptFile {
        KeptFile::open(path, &CancellationToken::new()).unwrap()
    }

    fn read_all(kept: &KeptFile) -> Vec<(u64, Vec<Frame>)> {
        let frames = |extents: &[Extent]| extents.iter().map(|e| kept.read(e).unwrap()).collect();
        kept.chunks().map(|(chunk, extents)| (chunk.0, frames(extents))).collect()
    }

    /// Chunk 1 in two frames that interleave with chunk 2, which is not whole; chunk 3 without rows.
    fn write(path: &Path) {
        let mut kept = opened(path);
        kept.frame(ChunkId(1), &frame(1, 100)).unwrap();
        kept.frame(ChunkId(2), &frame(2, 0)).unwrap();
        kept.frame(ChunkId(1), &frame(3, 3_000)).unwrap();
        kept.commit(ChunkId(1)).unwrap();
        kept.commit(ChunkId(3)).unwrap();
        kept.frame(ChunkId(2), &frame(4, 10)).unwrap();
    }

    fn expected() -> Vec<(u64, Vec<Frame>)> {
        vec![(1, vec![frame(1, 100), frame(3, 3_000)]), (3, vec![])]
    }

    #[test]
    fn whole_chunks_come_back_and_others_count_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf");
        write(&path);
        let mut kept = opened(&path);
        assert_eq!(read_all(&kept), expected());
        assert_eq!(kept.marks(), 2);
        // The second attempt on chunk 2 does not get the frames of the first.
        kept.frame(ChunkId(2), &frame(9, 5)).unwrap();
        kept.commit(ChunkId(2)).unwrap();
        let mut with_two = expected();
        with_two.insert(1, (2, vec![frame(9, 5)]));
        assert_eq!(read_all(&kept), with_two);
        assert_eq!(read_all(&opened(&path)), with_two);
    }

    #[test]
    fn a_file_cut_anywhere_gives_the_chunks_before_the_cut_and_goes_on_from_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut kept = opened(&path);
            let found = read_all(&kept);
            assert!(expected().starts_with(&found), "cut at {length}");
            kept.frame(ChunkId(8), &frame(8, 50)).unwrap();
            kept.commit(ChunkId(8)).unwrap();
            let mut after = found;
            after.push((8, vec![frame(8, 50)]));
            assert_eq!(read_all(&opened(&path)), after, "cut at {length}");
        }
    }

    #[test]
    fn an_altered_byte_ends_what_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(11) {
            let mut altered = whole.clone();
            altered[at] ^= 0x10;
            std::fs::write(&path, &altered).unwrap();
            let found = read_all(&opened(&path));
            assert!(expected().starts_with(&found), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn records_behind_one_that_is_not_believed_do_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf");
        write(&path);
        let mut altered = std::fs::read(&path).unwrap();
        // The mark of chunk 1: as long as the mark of a new life, which would fit in exactly before that of chunk 3.
        let mark = altered.len() - 3 * HEAD_BYTES - 24 - 10;
        altered[mark + 17] ^= 1;
        std::fs::write(&path, &altered).unwrap();
        assert_eq!(read_all(&opened(&path)), []);
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(length, (mark + HEAD_BYTES) as u64);
        assert_eq!(read_all(&opened(&path)), []);
    }

    #[test]
    fn a_length_beyond_the_file_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf");
        write(&path);
        let whole = std::fs::metadata(&path).unwrap().len();
        let head = Head { kind: FRAME, header_bytes: u32::MAX, body_bytes: u32::MAX, chunk: 5, rows: 1, digest: 0 };
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&head.bytes(), whole).unwrap();
        assert_eq!(read_all(&opened(&path)), expected());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole + HEAD_BYTES as u64);
    }

    #[test]
    fn reading_stops_when_it_is_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf");
        write(&path);
        let before = std::fs::read(&path).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(KeptFile::open(&path, &stop).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(std::fs::read(&path).unwrap(), before, "and nothing is taken away");
    }
}
