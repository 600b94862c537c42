//! The file with the rows of a finished job: an Arrow IPC file, written from encoded frames and served
//! as encoded frames.
//!
//! Its footer knows where each batch lies, so a fetch can begin at any; and, in its metadata, the digest
//! of each, so that no altered row is served.

use std::fs::File;
use std::io::{BufWriter, Error, ErrorKind, Result, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_ipc::convert::{IpcSchemaEncoder, fb_to_schema, metadata_to_fb};
use arrow_ipc::{Block, FooterBuilder, MetadataVersion, root_as_footer};
use bytes::{Bytes, BytesMut};
use datafusion::arrow::datatypes::SchemaRef;
use flatbuffers::FlatBufferBuilder;
use sha2::{Digest, Sha256};
use skyflight_catalog::JobResult;
use skyflight_engine::frames::{Frame, encode_schema, frame_rows};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 6] = b"ARROW1";
const CONTINUATION: [u8; 4] = [0xff; 4];
const ALIGNMENT: usize = 8;

/// The length of a footer and the magic at the end of the file.
const TAIL_BYTES: u64 = 10;

/// Key of the digests in the footer's metadata: XXH3-64 of each batch's header and body, 16 hexadecimal
/// digits each.
const DIGESTS_KEY: &str = "skyflight.xxh3";

/// A result on its way to disk: under another name until it is whole.
pub(super) struct ResultWriter {
    file: BufWriter<File>,
    written: PathBuf,
    path: PathBuf,
    schema: SchemaRef,
    sha256: Sha256,
    end: u64,
    blocks: Vec<Block>,
    digests: String,
    rows: u64,
}

impl ResultWriter {
    pub(super) fn create(path: &Path, schema: &SchemaRef) -> Result<ResultWriter> {
        let written = path.with_extension("tmp");
        let mut writer = ResultWriter {
            file: BufWriter::with_capacity(1 << 20, File::create(&written)?),
            written,
            path: path.to_owned(),
            schema: Arc::clone(schema),
            sha256: Sha256::new(),
            end: 0,
            blocks: Vec::new(),
            digests: String::new(),
            rows: 0,
        };
        writer.put(MAGIC)?;
        writer.pad()?;
        writer.message(&encode_schema(schema))?;
        Ok(writer)
    }

    /// Adds a batch.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<()> {
        let offset = signed(self.end)?;
        let header_bytes = self.message(&frame.header)?;
        self.put(&frame.body)?;
        self.pad()?;
        let body_bytes = self.end - offset as u64 - header_bytes;
        let header_bytes = i32::try_from(header_bytes).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
        self.blocks.push(Block::new(offset, header_bytes, signed(body_bytes)?));
        self.digests.push_str(&format!("{:016x}", digest(frame)));
        self.rows += frame.rows;
        Ok(())
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Writes the footer, brings all to the disk, and gives the file its name.
    pub(super) fn finish(mut self) -> Result<JobResult> {
        self.put(&CONTINUATION)?;
        self.put(&[0; 4])?;
        let footer = self.footer();
        self.put(&footer)?;
        let length = i32::try_from(footer.len()).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
        self.put(&length.to_le_bytes())?;
        self.put(MAGIC)?;
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&self.written, &self.path)?;
        // The name of the file in the job's folder, and that of the folder, which was made for this job.
        for folder in self.path.ancestors().skip(1).take(2) {
            File::open(folder)?.sync_all()?;
        }
        Ok(JobResult {
            rows: self.rows,
            bytes: self.end,
            batches: self.blocks.len() as u64,
            sha256: self.sha256.finalize().into(),
        })
    }

    fn footer(&self) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let dictionaries = builder.create_vector::<Block>(&[]);
        let batches = builder.create_vector(&self.blocks);
        let schema = IpcSchemaEncoder::new().schema_to_fb_offset(&mut builder, &self.schema);
        let metadata = [(DIGESTS_KEY.to_owned(), self.digests.clone())].into();
        let metadata = metadata_to_fb(&mut builder, &metadata);
        let mut footer = FooterBuilder::new(&mut builder);
        footer.add_version(MetadataVersion::V5);
        footer.add_schema(schema);
        footer.add_dictionaries(dictionaries);
        footer.add_recordBatches(batches);
        footer.add_custom_metadata(metadata);
        let footer = footer.finish();
        builder.finish(footer, None);
        builder.finished_data().to_vec()
    }

    /// An encapsulated message without its body; how long it is.
    fn message(&mut self, header: &[u8]) -> Result<u64> {
        let start = self.end;
        let padded = header.len().next_multiple_of(ALIGNMENT);
        let length = i32::try_from(padded).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
        self.put(&CONTINUATION)?;
        self.put(&length.to_le_bytes())?;
        self.put(header)?;
        self.pad()?;
        Ok(self.end - start)
    }

    fn pad(&mut self) -> Result<()> {
        let missing = (self.end as usize).next_multiple_of(ALIGNMENT) - self.end as usize;
        self.put(&[0; ALIGNMENT][..missing])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sha256.update(bytes);
        self.file.write_all(bytes)?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// A whole result, to be read at any batch. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ResultFile {
    file: Arc<File>,
    schema: SchemaRef,
    batches: Arc<Vec<Batch>>,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    offset: u64,
    header_bytes: u64,
    body_bytes: u64,
    digest: u64,
}

impl ResultFile {
    /// Opens the file at `path`, which must be as long as was recorded.
    ///
    /// Errors: `InvalidData` for a file that is not what was written.
    pub(super) fn open(path: &Path, recorded: &JobResult) -> Result<ResultFile> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        if bytes != recorded.bytes || bytes < TAIL_BYTES {
            return Err(altered("another length"));
        }
        let mut tail = [0; TAIL_BYTES as usize];
        file.read_exact_at(&mut tail, bytes - TAIL_BYTES)?;
        let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if &tail[4..] != MAGIC || length > bytes - TAIL_BYTES {
            return Err(altered("no footer"));
        }
        let mut footer = vec![0; length as usize];
        file.read_exact_at(&mut footer, bytes - TAIL_BYTES - length)?;
        let footer = root_as_footer(&footer).map_err(|_| altered("a footer that cannot be read"))?;
        let schema = footer.schema().map(fb_to_schema).ok_or_else(|| altered("no schema"))?;
        let digests = footer.custom_metadata().into_iter().flatten().find(|pair| pair.key() == Some(DIGESTS_KEY));
        let digests = digests.and_then(|pair| pair.value()).unwrap_or_default();
        let blocks = footer.recordBatches().unwrap_or_default();
        let mut batches = Vec::with_capacity(blocks.len());
        for (number, block) in blocks.iter().enumerate() {
            let digest = digests.get(16 * number..16 * number + 16).and_then(|text| u64::from_str_radix(text, 16).ok());
            let unsigned = |value: i64| u64::try_from(value).ok().filter(|value| *value <= bytes);
            let header_bytes = unsigned(i64::from(block.metaDataLength())).filter(|length| *length >= 8);
            match (unsigned(block.offset()), header_bytes, unsigned(block.bodyLength()), digest) {
                (Some(offset), Some(header_bytes), Some(body_bytes), Some(digest)) => {
                    batches.push(Batch { offset, header_bytes, body_bytes, digest });
                }
                _ => return Err(altered("a footer that means nothing")),
            }
        }
        if batches.len() as u64 != recorded.batches {
            return Err(altered("more or fewer batches"));
        }
        Ok(ResultFile { file: Arc::new(file), schema: Arc::new(schema), batches: Arc::new(batches) })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many batches there are.
    pub(crate) fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Reads one batch.
    ///
    /// Errors: also `InvalidData` when it is not what was written, or there is none of that number.
    pub(crate) fn read(&self, number: usize) -> Result<Frame> {
        let batch = self.batches.get(number).ok_or_else(|| altered("no such batch"))?;
        let mut bytes = BytesMut::zeroed((batch.header_bytes + batch.body_bytes) as usize);
        self.file.read_exact_at(&mut bytes, batch.offset)?;
        let mut header = bytes.split_to(batch.header_bytes as usize).freeze().split_off(8);
        let body = bytes.freeze();
        // Padding was not part of what was given.
        let rows = frame_rows(&header).map_err(|_| altered("a batch without a header"))?;
        let frame = unpadded(&mut header, &body, rows, batch.digest);
        frame.ok_or_else(|| altered("an altered batch"))
    }
}

/// The frame as it was pushed: header and body ended at most seven bytes before.
fn unpadded(header: &mut Bytes, body: &Bytes, rows: u64, expected: u64) -> Option<Frame> {
    let length = arrow_ipc::root_as_message(header).ok()?.bodyLength();
    let body = body.slice(..usize::try_from(length).ok().filter(|length| *length <= body.len())?);
    (0..ALIGNMENT.min(header.len())).find_map(|padding| {
        let header = header.slice(..header.len() - padding);
        let frame = Frame { header, body: body.clone(), rows };
        (digest(&frame) == expected).then_some(frame)
    })
}

fn digest(frame: &Frame) -> u64 {
    let mut digest = Xxh3::new();
    digest.update(&frame.header);
    digest.update(&frame.body);
    digest.digest()
}

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::from(ErrorKind::FileTooLarge))
}

fn altered(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("it has {what}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow_ipc::reader::FileReader;
    use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use skyflight_engine::frames::encode_batch;

    use super::*;

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true).with_metadata(
                [("unit".to_owned(), "deg".to_owned()), ("ucd".to_owned(), "meta.id".to_owned())].into(),
            ),
            Field::new("x", DataType::Float64, true),
            Field::new("name", DataType::Utf8, true),
        ]);
        let ids = from..from + rows;
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(Int64Array::from_iter_values(ids.clone())),
                Arc::new(Float64Array::from_iter(ids.clone().map(|id| (id % 3 > 0).then_some(id as f64)))),
                Arc::new(StringArray::from_iter_values(ids.map(|id| format!("row {id}")))),
            ],
        )
        .unwrap()
    }

    fn written(folder: &Path) -> (PathBuf, JobResult, Vec<Frame>, Vec<RecordBatch>) {
        let batches: Vec<RecordBatch> = [(0, 5), (5, 1), (6, 7_000)].map(|(from, rows)| batch(from, rows)).to_vec();
        let path = folder.join("result.arrow");
        let mut writer = ResultWriter::create(&path, &batches[0].schema()).unwrap();
        let frames: Vec<Frame> = batches.iter().flat_map(|batch| encode_batch(batch).unwrap()).collect();
        frames.iter().for_each(|frame| writer.push(frame).unwrap());
        assert!(!path.exists(), "no file under its name before it is whole");
        let result = writer.finish().unwrap();
        (path, result, frames, batches)
    }

    #[test]
    fn others_read_it_as_an_arrow_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, result, _, batches) = written(folder.path());
        let reader = FileReader::try_new(File::open(&path).unwrap(), None).unwrap();
        assert_eq!(reader.schema(), batches[0].schema());
        let read: Vec<RecordBatch> = reader.map(|batch| batch.unwrap()).collect();
        assert_eq!(read, batches);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((result.rows, result.batches, result.bytes), (7_006, 3, bytes.len() as u64));
        assert_eq!(result.sha256[..], Sha256::digest(&bytes)[..]);
    }

    #[test]
    fn frames_come_back_as_they_went_from_any_batch_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, result, frames, batches) = written(folder.path());
        let file = ResultFile::open(&path, &result).unwrap();
        assert_eq!(file.schema(), &batches[0].schema());
        assert_eq!(file.batches(), 3);
        for number in [2, 0, 1, 2] {
            assert_eq!(file.read(number).unwrap(), frames[number]);
        }
        assert_eq!(file.read(3).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn an_altered_file_serves_no_altered_row() {
        let folder = tempfile::tempdir().unwrap();
        let (path, result, frames, _) = written(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for at in (0..whole.len()).step_by(131) {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            std::fs::write(&path, &altered).unwrap();
            let read =
                ResultFile::open(&path, &result).map(|file| (0..3).map(|n| file.read(n).ok()).collect::<Vec<_>>());
            match read {
                Err(_) => refused += 1,
                Ok(read) => {
                    for (frame, expected) in read.into_iter().zip(&frames) {
                        refused += usize::from(frame.is_none());
                        assert!(frame.is_none_or(|frame| frame == *expected), "byte {at}");
                    }
                }
            }
        }
        assert!(refused > 1_000, "{refused}");
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(ResultFile::open(&path, &result).is_err());
    }
}
