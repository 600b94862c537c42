//! The rows every chunk is known to have, and the messages that carry them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow_flight::FlightData;
use bytes::Bytes;
use parking_lot::Mutex;
use skyflight_engine::frames::{Frame, decode_frame, encode_batch, encode_schema};
use skyflight_proto::task_message::Body;
use skyflight_proto::{BatchMark, ChunkTrailer, Digest, Message, ScanCounters, TaskDone, TaskMessage, TaskTicket};

/// Columns: chunk, row in the chunk, stamp of the attempt, some text.
pub(crate) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("chunk", DataType::Int64, false),
        Field::new("row", DataType::Int64, false),
        Field::new("stamp", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
    ]))
});

/// Chunks from this id on have 4,000 rows.
pub(crate) const WIDE: u64 = 1 << 40;

/// How many rows a chunk has: none for every seventh chunk, up to 40 for others.
pub(crate) fn rows_of(chunk: u64) -> u64 {
    if chunk >= WIDE {
        return 4_000;
    }
    if chunk % 7 == 3 { 0 } else { mix(chunk) % 40 + 1 }
}

/// A deterministic stream of numbers.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn text(chunk: i64, row: i64) -> String {
    format!("{chunk}/{row}")
}

fn batch(chunk: u64, rows: Range<u64>, stamp: u64) -> RecordBatch {
    let chunk = chunk as i64;
    let numbers: Vec<i64> = rows.map(|row| row as i64).collect();
    let texts: StringArray = numbers.iter().map(|row| Some(text(chunk, *row))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![chunk; numbers.len()])),
        Arc::new(Int64Array::from(numbers.clone())),
        Arc::new(Int64Array::from(vec![stamp as i64; numbers.len()])),
        Arc::new(texts),
    ];
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns).unwrap()
}

/// One message of a task's stream.
pub(crate) enum Part {
    Batch(BatchMark, Frame),
    Trailer(ChunkTrailer),
}

impl Part {
    pub(crate) fn message(self) -> FlightData {
        match self {
            Part::Batch(mark_, frame) => FlightData {
                flight_descriptor: None,
                data_header: frame.header,
                app_metadata: mark(Body::Batch(mark_)),
                data_body: frame.body,
            },
            Part::Trailer(trailer) => control(Body::Trailer(trailer)),
        }
    }
}

/// What an honest worker sends for a task, `abreast` chunks at a time, mixed by `seed`.
pub(crate) fn task_parts(task: &TaskTicket, frame_rows: u64, abreast: usize, seed: u64, stamp: u64) -> Vec<Part> {
    let mut dice = Dice(seed);
    let mut running: Vec<std::vec::IntoIter<Part>> = Vec::new();
    let mut waiting = task.chunks.iter().enumerate();
    let mut parts = Vec::new();
    loop {
        while running.len() < abreast {
            let Some((index, chunk)) = waiting.next() else { break };
            assert!(task.deterministic || chunk.skip_rows == 0, "only deterministic tasks resume");
            assert_eq!(chunk.files.len(), chunk.files_per_scan.iter().sum::<u32>() as usize);
            running.push(chunk_parts(index as u32, chunk.chunk, chunk.skip_rows, frame_rows, stamp).into_iter());
        }
        if running.is_empty() {
            return parts;
        }
        let pick = dice.below(running.len() as u64) as usize;
        match running[pick].next() {
            Some(part) => parts.push(part),
            None => drop(running.remove(pick)),
        }
    }
}

fn chunk_parts(index: u32, chunk: u64, skip: u64, frame_rows: u64, stamp: u64) -> Vec<Part> {
    let total = rows_of(chunk);
    assert!(skip <= total, "skips {skip} of {total} rows");
    let mut parts = Vec::new();
    let mut digest = Digest::new();
    let mut start = skip;
    let mut batches = 0;
    while start < total {
        let end = (start + frame_rows).min(total);
        for frame in frames(chunk, start..end, stamp) {
            digest.update(&frame.body);
            let mark = BatchMark { chunk_index: index, sequence: batches };
            parts.push(Part::Batch(mark, frame));
            batches += 1;
        }
        start = end;
    }
    parts.push(Part::Trailer(ChunkTrailer {
        chunk_index: index,
        rows: total - skip,
        batches,
        digest: digest.finish(),
        counters: Some(ScanCounters { bytes_read: 1_000, rows_read: total, ..ScanCounters::default() }),
    }));
    parts
}

/// Frames of wide chunks are made once: there are megabytes of them.
static WIDE_FRAMES: LazyLock<Mutex<FrameCache>> = LazyLock::new(Mutex::default);

type FrameCache = HashMap<(u64, Range<u64>), Vec<Frame>>;

fn frames(chunk: u64, rows: Range<u64>, stamp: u64) -> Vec<Frame> {
    let make = || encode_batch(&batch(chunk, rows.clone(), stamp)).unwrap();
    if chunk < WIDE || stamp > 0 {
        return make();
    }
    let mut cache = WIDE_FRAMES.lock();
    cache.entry((chunk, rows.clone())).or_insert_with(make).clone()
}

pub(crate) fn mark(body: Body) -> Bytes {
    TaskMessage { body: Some(body) }.encode_to_vec().into()
}

fn control(body: Body) -> FlightData {
    FlightData { app_metadata: mark(body), ..FlightData::default() }
}

pub(crate) fn done_message(task: &TaskTicket) -> FlightData {
    control(Body::Done(TaskDone { totals: None, chunks: task.chunks.len() as u32 }))
}

pub(crate) fn schema_message() -> FlightData {
    FlightData { data_header: encode_schema(&SCHEMA), ..FlightData::default() }
}

pub(crate) fn other_schema_message() -> FlightData {
    let other = Schema::new(vec![Field::new("chunk", DataType::Float32, false)]);
    FlightData { data_header: encode_schema(&other), ..FlightData::default() }
}

/// A frame that is right in itself, of a chunk nobody has.
pub(crate) fn any_batch() -> FlightData {
    let frame = encode_batch(&batch(999_999, 0..3, 0)).unwrap().remove(0);
    FlightData { data_header: frame.header, data_body: frame.body, ..FlightData::default() }
}

/// Rows that have come, by chunk in the order of arrival: row number and stamp.
#[derive(Debug, Default)]
pub(crate) struct Harvest {
    chunks: HashMap<u64, Vec<(i64, i64)>>,
}

impl Harvest {
    pub(crate) fn add(&mut self, frame: &Frame) {
        let batch = decode_frame(frame, &SCHEMA).unwrap();
        assert_eq!(batch.num_rows() as u64, frame.rows);
        let chunks = batch.column(0).as_primitive::<Int64Type>();
        let rows = batch.column(1).as_primitive::<Int64Type>();
        let stamps = batch.column(2).as_primitive::<Int64Type>();
        let texts = batch.column(3).as_string::<i32>();
        for i in 0..batch.num_rows() {
            assert_eq!(texts.value(i), text(chunks.value(i), rows.value(i)));
            self.chunks.entry(chunks.value(i) as u64).or_default().push((rows.value(i), stamps.value(i)));
        }
    }

    /// Every row of every chunk, once, in the chunk's order, all of one attempt; nothing else.
    pub(crate) fn check(&self, chunks: &[u64]) -> Result<(), String> {
        for &chunk in chunks {
            let found = self.chunks.get(&chunk).map(Vec::as_slice).unwrap_or_default();
            let rows: Vec<i64> = found.iter().map(|(row, _)| *row).collect();
            let expected: Vec<i64> = (0..rows_of(chunk) as i64).collect();
            if rows != expected {
                return Err(format!("chunk {chunk}: rows {rows:?}, expected 0..{}", rows_of(chunk)));
            }
            if found.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                return Err(format!("chunk {chunk}: rows of different attempts: {found:?}"));
            }
        }
        let known: HashSet<u64> = chunks.iter().copied().collect();
        match self.chunks.keys().find(|chunk| !known.contains(chunk)) {
            Some(chunk) => Err(format!("rows of chunk {chunk}, which was not asked for")),
            None => Ok(()),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.chunks.values().map(Vec::len).sum()
    }
}
