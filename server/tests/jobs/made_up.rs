//! A table whose chunks are made up by the dispatcher, which counts how often each is run, and can be
//! told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, PollInfo};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use skyflight_catalog::{
    CatalogStore, Commit, CommitMode, FileId, FileKind, NewFile, Owner, SqliteStore, TableCommit, TableFacts, WorkerId,
};
use skyflight_engine::EngineError;
use skyflight_engine::dispatch::{ChunkDispatcher, DispatchRequest, FrameStream, PlannedChunk, QueryCounters};
use skyflight_engine::frames::{Frame, encode_batch};
use skyflight_proto::ClusterKeys;
use skyflight_server::CoordinatorConfig;
use skyflight_sky::ChunkId;
use tokio::sync::watch;

use crate::flight_sql::coordinator::{Client, TestCoordinator, column, director, texts};

pub(crate) const CHUNKS: u64 = 12;
pub(crate) const ROWS_PER_CHUNK: i64 = 3;

/// Makes up chunks.
#[derive(Debug)]
pub(crate) struct MadeUp {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// How often each chunk was run.
    runs: Mutex<BTreeMap<u64, u32>>,
    /// The fragments of all dispatches, by their digests.
    fragments: Mutex<Vec<[u8; 32]>>,
    /// How many chunks may be run in all.
    allowed: watch::Sender<usize>,
    /// How many were begun, of all dispatches: no more than are allowed.
    begun: AtomicUsize,
    /// Dispatches whose rows somebody wants.
    open: AtomicUsize,
    /// Errors of the dispatches to come.
    errors: Mutex<Vec<EngineError>>,
    /// After how many chunks the workers are gone for once.
    gone_after: Mutex<Option<usize>>,
}

impl MadeUp {
    /// Runs so many chunks, then waits.
    pub(crate) fn allowing(chunks: usize) -> Arc<MadeUp> {
        let (allowed, _) = watch::channel(chunks);
        Arc::new(MadeUp {
            state: Arc::new(State {
                runs: Mutex::default(),
                fragments: Mutex::default(),
                allowed,
                begun: AtomicUsize::new(0),
                open: AtomicUsize::new(0),
                errors: Mutex::default(),
                gone_after: Mutex::default(),
            }),
        })
    }

    pub(crate) fn unbounded() -> Arc<MadeUp> {
        MadeUp::allowing(usize::MAX)
    }

    /// Lets the next dispatches fail.
    pub(crate) fn failing(self: Arc<Self>, errors: Vec<EngineError>) -> Arc<MadeUp> {
        *self.state.errors.lock() = errors;
        self
    }

    /// Lets the workers be gone, once, when so many chunks were run.
    pub(crate) fn gone_after(self: Arc<Self>, chunks: usize) -> Arc<MadeUp> {
        *self.state.gone_after.lock() = Some(chunks);
        self
    }

    pub(crate) fn allow(&self, chunks: usize) {
        self.state.allowed.send_replace(chunks);
    }

    pub(crate) fn runs(&self) -> BTreeMap<u64, u32> {
        self.state.runs.lock().clone()
    }

    pub(crate) fn fragments(&self) -> Vec<[u8; 32]> {
        self.state.fragments.lock().clone()
    }

    pub(crate) fn run(&self) -> usize {
        self.state.runs.lock().values().sum::<u32>() as usize
    }

    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl ChunkDispatcher for MadeUp {
    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        self.state.fragments.lock().push(request.fragment.hash);
        if let Some(error) = self.state.errors.lock().pop() {
            return futures::stream::iter([Err(error)]).boxed();
        }
        let state = Arc::clone(&self.state);
        state.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&state));
        let request = Arc::new(request);
        futures::stream::iter(request.chunks.chunks.clone())
            .then(move |chunk| {
                let _ = &open;
                run_chunk(Arc::clone(&state), Arc::clone(&request), chunk)
            })
            .map_ok(|frames| futures::stream::iter(frames.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}

struct Open(Arc<State>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn run_chunk(
    state: Arc<State>,
    request: Arc<DispatchRequest>,
    chunk: PlannedChunk,
) -> Result<Vec<Frame>, EngineError> {
    let done = || state.runs.lock().values().sum::<u32>() as usize;
    let begin = |allowed| {
        let next = |begun| (begun < allowed).then_some(begun + 1);
        state.begun.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    };
    let mut allowed = state.allowed.subscribe();
    let cancelled = request.query.cancel.cancelled();
    tokio::select! {
        () = cancelled => return Err(EngineError::Cancelled),
        _ = allowed.wait_for(|allowed| begin(*allowed)) => {}
    }
    if state.gone_after.lock().take_if(|chunks| done() >= *chunks).is_some() {
        state.begun.fetch_sub(1, Ordering::SeqCst);
        return Err(EngineError::Unavailable("worker w1 is gone".into()));
    }
    let frames = encode_batch(&rows(chunk.chunk.0, &request))?;
    if let Some(commits) = &request.commits {
        for frame in &frames {
            commits.frame(chunk.chunk, frame).await?;
        }
        commits.committed(chunk.chunk).await?;
    }
    // Counted when it is kept: a coordinator that is dropped now has it.
    *state.runs.lock().entry(chunk.chunk.0).or_default() += 1;
    QueryCounters::add(&request.query.counters.chunks_done, 1);
    Ok(frames)
}

fn rows(chunk: u64, request: &DispatchRequest) -> RecordBatch {
    let ids = || (0..ROWS_PER_CHUNK).map(|row| chunk as i64 * 10 + row);
    let columns = request.schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "objectId" | "_healpix_29" => Arc::new(Int64Array::from_iter_values(ids())),
            "name" => Arc::new(StringArray::from_iter_values(ids().map(|id| format!("object {id}")))),
            "ra_PS" | "decl_PS" => Arc::new(Float64Array::from_iter_values(ids().map(|id| id as f64 / 100.0))),
            // What a fragment computes: anything of its type will do.
            _ => new_default_array(field.data_type()),
        }
    });
    let rows = RecordBatchOptions::new().with_row_count(Some(ROWS_PER_CHUNK as usize));
    RecordBatch::try_new_with_options(Arc::clone(&request.schema), columns.collect(), &rows).unwrap()
}

fn new_default_array(data_type: &DataType) -> ArrayRef {
    let rows = ROWS_PER_CHUNK as usize;
    match data_type {
        DataType::Boolean => Arc::new(BooleanArray::from(vec![true; rows])),
        other => cast(&Int64Array::from(vec![1; rows]), other).unwrap(),
    }
}

/// The names that all rows have, sorted.
pub(crate) fn all_names() -> Vec<String> {
    let ids = (100..100 + CHUNKS as i64).flat_map(|chunk| (0..ROWS_PER_CHUNK).map(move |row| chunk * 10 + row));
    ids.map(|id| format!("object {id}")).collect()
}

/// Records with a table `Sky.Object` of so many chunks, from 100 on.
pub(crate) async fn sky() -> Arc<dyn CatalogStore> {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("Sky", None).await.unwrap();
    let owner = Owner { host: "here".into(), pid: std::process::id(), program: "test".into() };
    let transaction = store.open_transaction(database.id, &owner).await.unwrap().id;
    let rows = ROWS_PER_CHUNK as u64;
    let file = |number: u64| NewFile {
        id: FileId::new(transaction, number as u32),
        chunk: ChunkId(100 + number),
        kind: FileKind::Rows,
        rows,
        bytes: 1_000,
        sha256: [7; 32],
        statistics: Vec::new(),
        workers: vec![WorkerId::from("w1")],
    };
    let table = TableCommit {
        ended: Vec::new(),
        table: director(
            "Object",
            ["objectId", "ra_PS", "decl_PS"],
            vec![
                column("objectId", "Int64", None, None),
                column("ra_PS", "Float64", Some("deg"), Some("right ascension")),
                column("decl_PS", "Float64", Some("deg"), Some("declination")),
                column("name", "Utf8", None, Some("of the object,\nas its survey\tnames it")),
                column("_healpix_29", "Int64", None, None),
            ],
        ),
        mode: CommitMode::Append,
        facts: TableFacts { rows: rows * CHUNKS, ..TableFacts::default() },
        files: (0..CHUNKS).map(file).collect(),
    };
    let scheme = Some(skyflight_sky::SchemeSpec::Stripes { stripes: 18, sub_stripes: 10, overlap_deg: 0.01 });
    store.commit(transaction, Commit { scheme, tables: vec![table] }).await.unwrap();
    Arc::new(store)
}

/// What survives a coordinator: its records, keys and folder.
pub(crate) struct House {
    pub(crate) store: Arc<dyn CatalogStore>,
    pub(crate) keys: Arc<ClusterKeys>,
    pub(crate) folder: tempfile::TempDir,
}

impl House {
    pub(crate) async fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        House { store: sky().await, keys: Arc::new(ClusterKeys::generate()), folder }
    }

    pub(crate) async fn coordinator(&self, chunks: &Arc<MadeUp>) -> TestCoordinator {
        self.coordinator_with(chunks, |_| ()).await
    }

    pub(crate) async fn coordinator_with(
        &self,
        chunks: &Arc<MadeUp>,
        adjust: impl FnOnce(&mut CoordinatorConfig),
    ) -> TestCoordinator {
        let jobs = self.folder.path().join("jobs");
        let dispatcher: Arc<dyn ChunkDispatcher> = Arc::clone(chunks) as _;
        TestCoordinator::start_over(Arc::clone(&self.store), Arc::clone(&self.keys), dispatcher, |config| {
            config.jobs.folder = jobs;
            adjust(config);
        })
        .await
    }

    /// Names of what lies in the folder of jobs.
    pub(crate) fn job_folders(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("jobs")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The descriptor of a query, as PollFlightInfo takes it.
pub(crate) fn descriptor(sql: &str) -> FlightDescriptor {
    let query = CommandStatementQuery { query: sql.into(), transaction_id: None };
    FlightDescriptor::new_cmd(query.as_any().encode_to_vec())
}

pub(crate) async fn poll(client: &mut Client, descriptor: FlightDescriptor) -> Result<PollInfo, tonic::Status> {
    client.inner_mut().poll_flight_info(descriptor).await.map(tonic::Response::into_inner)
}

/// The id that a poll tells.
pub(crate) fn id_of(poll: &PollInfo) -> String {
    String::from_utf8(poll.info.as_ref().unwrap().app_metadata.to_vec()).unwrap()
}

/// Polls until the job has ended; checks what must be true of every answer.
pub(crate) async fn poll_to_end(client: &mut Client, first: PollInfo) -> Result<PollInfo, tonic::Status> {
    let id = id_of(&first);
    let mut last = first;
    for _ in 0..200 {
        let info = last.info.as_ref().unwrap();
        assert!(!info.schema.is_empty(), "info has its schema from the first answer on");
        let progress = last.progress.unwrap();
        assert!((0.0..=1.0).contains(&progress), "{progress}");
        let Some(again) = last.flight_descriptor.clone() else { return Ok(last) };
        assert!(last.expiration_time.is_some());
        let next = poll(client, again).await?;
        assert_eq!(id_of(&next), id);
        assert!(next.info.as_ref().unwrap().endpoint.starts_with(&info.endpoint), "endpoints are only appended");
        last = next;
    }
    panic!("job {id} did not end");
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come true in 10 s");
}

/// The names in rows, sorted.
pub(crate) fn names(batches: &[RecordBatch]) -> Vec<String> {
    let mut names = texts(batches, "name");
    names.sort();
    names
}
