//! A small catalog whose rows are known, the fragments a real engine makes for it, and a reader
//! of task streams that believes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::utils::flight_data_to_arrow_batch;
use datafusion::parquet::arrow::ArrowWriter;
use futures::StreamExt;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use skyflight_catalog::{
    CatalogStore, Column, Commit, CommitMode, FileId, FileKind, NewFile, NewTable, Owner, SqliteStore, TableCommit,
    TableFacts, TableKind, TransactionId, WorkerId,
};
use skyflight_engine::dispatch::{ChunkDispatcher, DispatchRequest, FrameStream, QueryContext};
use skyflight_engine::{Engine, EngineConfig, SessionOptions};
use skyflight_proto::task_message::Body;
use skyflight_proto::{ChunkTask, ChunkTrailer, Message, TaskDone, TaskMessage, TaskTicket};
use skyflight_sky::{ChunkId, SchemeSpec};
use tonic::{Status, Streaming};

use crate::rig::Rig;

const TRANSACTION: i64 = 1;

/// Rows of Object in a chunk; `mag` is null in every 17th.
pub(crate) fn objects(chunk: u64, rows: usize) -> RecordBatch {
    named_objects(chunk, rows, 8)
}

/// The same with names of so many bytes, which do not compress.
pub(crate) fn named_objects(chunk: u64, rows: usize, name_bytes: usize) -> RecordBatch {
    let ids = (0..rows).map(|i| (chunk * 1_000_000) as i64 + i as i64);
    let mut noise = chunk | 1;
    let mut name = || -> String {
        let letter = |_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + ((noise >> 33) % 26) as u8)
        };
        (0..name_bytes).map(letter).collect()
    };
    let columns: [(&str, ArrayRef, bool); 6] = [
        ("objectId", Arc::new(Int64Array::from_iter_values(ids)), false),
        ("ra", Arc::new(Float64Array::from_iter_values((0..rows).map(|i| i as f64 * 0.001))), false),
        ("dec", Arc::new(Float64Array::from_iter_values((0..rows).map(|i| i as f64 * 0.0005 - 10.0))), false),
        (
            "mag",
            Arc::new((0..rows).map(|i| (i % 17 != 0).then_some((i % 100) as f32 / 4.0)).collect::<Float32Array>()),
            true,
        ),
        ("name", Arc::new(StringArray::from_iter_values((0..rows).map(|_| name()))), true),
        healpix(rows),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Three sources of each object of a chunk.
pub(crate) fn sources(chunk: u64, objects: usize) -> RecordBatch {
    let rows = objects * 3;
    let object = |i: usize| (chunk * 1_000_000) as i64 + (i / 3) as i64;
    let columns: [(&str, ArrayRef, bool); 4] = [
        (
            "sourceId",
            Arc::new(Int64Array::from_iter_values((0..rows).map(|i| (chunk * 9_000_000) as i64 + i as i64))),
            false,
        ),
        ("objectId", Arc::new(Int64Array::from_iter_values((0..rows).map(object))), false),
        ("flux", Arc::new(Float64Array::from_iter_values((0..rows).map(|i| (i % 1_000) as f64 * 0.5))), true),
        healpix(rows),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn healpix(rows: usize) -> (&'static str, ArrayRef, bool) {
    ("_healpix_29", Arc::new(Int64Array::from_iter_values((0..rows).map(|i| i as i64 * 7))), false)
}

pub(crate) fn parquet(rows: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
    bytes
}

/// Tables on record, and the content of their files.
#[derive(Default)]
pub(crate) struct Sky {
    tables: Vec<TableCommit>,
    files: Vec<(String, u64, i64, Vec<u8>, u64)>,
}

impl Sky {
    /// Object with one file for each of `chunks` (ids of HEALPix cells of order 1: 16 to 63).
    pub(crate) fn with_objects(chunks: &[(u64, RecordBatch)]) -> Sky {
        let mut sky = Sky::default();
        sky.add("Object", TableKind::Director, chunks);
        sky
    }

    pub(crate) fn with_sources(mut self, chunks: &[(u64, RecordBatch)]) -> Sky {
        self.add("Source", TableKind::Child, chunks);
        self
    }

    fn add(&mut self, name: &str, kind: TableKind, chunks: &[(u64, RecordBatch)]) {
        let key = |column: &str, of: TableKind| (kind == of).then(|| column.to_owned());
        let table = NewTable {
            name: name.into(),
            kind,
            columns: chunks[0].1.schema().fields().iter().map(|f| column(f)).collect(),
            id_column: Some(if kind == TableKind::Director { "objectId" } else { "sourceId" }.into()),
            ra_column: key("ra", TableKind::Director),
            dec_column: key("dec", TableKind::Director),
            director: key("Object", TableKind::Child),
            director_key: key("objectId", TableKind::Child),
            second_director: None,
            second_director_key: None,
            description: None,
        };
        let mut files = Vec::new();
        for (chunk, rows) in chunks {
            let content = parquet(rows);
            let id = FileId::new(TransactionId(TRANSACTION), self.files.len() as u32);
            files.push(NewFile {
                id,
                chunk: ChunkId(*chunk),
                kind: FileKind::Rows,
                rows: rows.num_rows() as u64,
                bytes: content.len() as u64,
                sha256: Sha256::digest(&content).into(),
                statistics: Vec::new(),
                workers: vec![WorkerId("w".into())],
            });
            self.files.push((name.into(), *chunk, id.0, content, rows.num_rows() as u64));
        }
        let facts = TableFacts { rows: files.iter().map(|f| f.rows).sum(), ..TableFacts::default() };
        self.tables.push(TableCommit { table, mode: CommitMode::Replace, facts, files, ended: Vec::new() });
    }

    /// Sends every file to the worker.
    pub(crate) async fn fill(&self, rig: &mut Rig) {
        for (table, chunk, file, content, rows) in &self.files {
            rig.hold(table, *chunk, *file, skyflight_proto::FileKind::Rows, content, *rows).await;
        }
    }

    /// What the coordinator would ask the workers for `sql`: the leaf of its plan.
    pub(crate) async fn plan(&self, sql: &str) -> DispatchRequest {
        let store = SqliteStore::in_memory().await.unwrap();
        let database = store.create_database("dr1", None).await.unwrap();
        let opened = store.open_transaction(database.id, &Owner::this_process("test")).await.unwrap();
        assert_eq!(opened.id, TransactionId(TRANSACTION));
        let scheme = SchemeSpec::Healpix { cells: (16..64).collect(), overlap_arcsec: 60.0 };
        let commit = Commit { scheme: Some(scheme), tables: self.tables.clone() };
        store.commit(opened.id, commit).await.unwrap();

        let recorder = Arc::new(Recorder::default());
        let config = EngineConfig {
            index_dir: None,
            target_partitions: 2,
            memory_bytes: 256 << 20,
            spill_dir: std::env::temp_dir().join("skyflight-worker-test-spill"),
            spill_bytes: 1 << 30,
            limits: Default::default(),
            default_database: None,
            shuffle: Default::default(),
            runtime: planning().handle().clone(),
        };
        let engine = Engine::new(config, Arc::new(store), Arc::clone(&recorder) as _).unwrap();
        let options =
            SessionOptions { user: "tester".into(), default_database: Some("dr1".into()), ..Default::default() };
        let session = engine.session(options).await.unwrap();
        let planned = session.plan(sql, QueryContext::new("tester")).await.unwrap();
        if let Some(request) = planned.relay().unwrap() {
            return request;
        }
        let mut rows = planned.execute().unwrap();
        while let Some(Ok(_)) = rows.next().await {}
        let request = recorder.0.lock().take();
        request.expect("the plan has a leaf")
    }

    /// The task of `sql` on all chunks, with the fragment in it.
    pub(crate) async fn task(&self, sql: &str) -> TaskTicket {
        task(&self.plan(sql).await)
    }
}

fn column(field: &Field) -> Column {
    Column {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        nullable: field.is_nullable(),
        unit: None,
        ucd: None,
        description: None,
    }
}

/// The ticket a dispatcher would write for all chunks of `request`.
pub(crate) fn task(request: &DispatchRequest) -> TaskTicket {
    let chunk = |c: &skyflight_engine::dispatch::PlannedChunk| ChunkTask {
        chunk: c.chunk.0,
        files: c.files.iter().map(|f| f.0).collect(),
        files_per_scan: c.files_per_scan.clone(),
        skip_rows: 0,
    };
    TaskTicket {
        fragment_hash: request.fragment.hash.to_vec().into(),
        fragment: Some(request.fragment.bytes.clone()),
        deterministic: request.deterministic,
        chunks: request.chunks.chunks.iter().map(chunk).collect(),
        ..TaskTicket::default()
    }
}

/// The planner's threads: deep stacks, as the engine wants them.
fn planning() -> &'static tokio::runtime::Runtime {
    static PLANNING: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    PLANNING.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).thread_stack_size(16 << 20).enable_all().build().unwrap()
    })
}

/// Takes the request and gives no rows.
#[derive(Debug, Default)]
struct Recorder(Mutex<Option<DispatchRequest>>);

impl ChunkDispatcher for Recorder {
    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        *self.0.lock() = Some(request);
        futures::stream::empty().boxed()
    }
}

/// All that came of one chunk.
#[derive(Debug, Default)]
pub(crate) struct ChunkAnswer {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) trailer: Option<ChunkTrailer>,
    bodies: Vec<u8>,
}

impl ChunkAnswer {
    pub(crate) fn rows(&self, schema: &SchemaRef) -> RecordBatch {
        arrow::compute::concat_batches(schema, &self.batches).unwrap()
    }
}

/// All that came of a task.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) chunks: BTreeMap<u32, ChunkAnswer>,
    /// The chunk of each batch, as they came.
    pub(crate) order: Vec<u32>,
    pub(crate) done: Option<TaskDone>,
    pub(crate) error: Option<Status>,
}

impl Answer {
    /// The rows of chunk `index`.
    pub(crate) fn chunk(&self, index: u32) -> RecordBatch {
        self.chunks[&index].rows(&self.schema)
    }

    /// All rows, by chunk.
    pub(crate) fn all(&self) -> RecordBatch {
        let chunks: Vec<RecordBatch> = self.chunks.values().map(|c| c.rows(&self.schema)).collect();
        arrow::compute::concat_batches(&self.schema, &chunks).unwrap()
    }
}

/// Reads a task's stream to its end and checks what any reader may rely on: batches in sequence,
/// nothing after a trailer, trailers and totals that agree with what came, one end.
pub(crate) async fn read(mut stream: Streaming<FlightData>) -> Answer {
    let first = stream.message().await.unwrap().expect("a schema");
    let schema = Arc::new(Schema::try_from(&first).unwrap());
    let mut answer = Answer { schema, chunks: BTreeMap::new(), order: Vec::new(), done: None, error: None };
    loop {
        match stream.message().await {
            Ok(Some(data)) => take(&mut answer, data),
            Ok(None) => break,
            Err(status) => {
                answer.error = Some(status);
                assert!(matches!(stream.message().await, Ok(None) | Err(_)), "nothing follows an error");
                break;
            }
        }
    }
    assert_eq!(answer.done.is_some(), answer.error.is_none(), "a stream ends with done or an error");
    if let Some(done) = &answer.done {
        let trailers: Vec<&ChunkTrailer> = answer.chunks.values().map(|c| c.trailer.as_ref().unwrap()).collect();
        assert_eq!(done.chunks as usize, trailers.len());
        let totals = done.totals.unwrap();
        assert_eq!(totals.rows_sent, trailers.iter().map(|t| t.rows).sum::<u64>());
        assert_eq!(totals.bytes_read, trailers.iter().map(|t| t.counters.unwrap().bytes_read).sum::<u64>());
        assert_eq!(totals.rows_read, trailers.iter().map(|t| t.counters.unwrap().rows_read).sum::<u64>());
    }
    answer
}

fn take(answer: &mut Answer, data: FlightData) {
    assert!(answer.done.is_none(), "nothing follows the end");
    match TaskMessage::decode(data.app_metadata.clone()).unwrap().body.expect("a mark") {
        Body::Batch(mark) => {
            let chunk = answer.chunks.entry(mark.chunk_index).or_default();
            assert!(chunk.trailer.is_none(), "no batch follows its trailer");
            assert_eq!(mark.sequence as usize, chunk.batches.len());
            let batch = flight_data_to_arrow_batch(&data, Arc::clone(&answer.schema), &Default::default()).unwrap();
            chunk.batches.push(batch);
            chunk.bodies.extend_from_slice(&data.data_body);
            answer.order.push(mark.chunk_index);
        }
        Body::Trailer(trailer) => {
            assert!(data.data_header.is_empty() && data.data_body.is_empty());
            let chunk = answer.chunks.entry(trailer.chunk_index).or_default();
            assert!(chunk.trailer.is_none(), "one trailer");
            assert_eq!(trailer.batches as usize, chunk.batches.len());
            assert_eq!(trailer.rows, chunk.batches.iter().map(|b| b.num_rows() as u64).sum::<u64>());
            assert_eq!(trailer.rows, trailer.counters.unwrap().rows_sent);
            assert_eq!(trailer.digest, xxhash_rust::xxh3::xxh3_64(&chunk.bodies));
            chunk.trailer = Some(trailer);
        }
        Body::Done(done) => answer.done = Some(done),
    }
}
