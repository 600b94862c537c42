//! Rows that nothing is computed of here: the workers' frames reach the client byte for byte, and
//! a dispatch that fails ends the stream with its error.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow_flight::FlightData;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use skyflight_catalog::{
    CatalogStore, Commit, CommitMode, FileId, FileKind, NewFile, NewTable, Owner, QueryState, SqliteStore, TableCommit,
    TableFacts, TableKind, WorkerId,
};
use skyflight_engine::EngineError;
use skyflight_engine::dispatch::{ChunkDispatcher, DispatchRequest, FrameStream};
use skyflight_engine::frames::{Frame, encode_batch};
use skyflight_proto::ClusterKeys;
use skyflight_sky::ChunkId;
use tonic::Code;

use super::coordinator::{TestCoordinator, column, query, texts, ticket};

/// Answers every dispatch with the same texts, in the dispatch's own schema, then perhaps an error.
#[derive(Debug)]
struct Canned {
    texts: Vec<String>,
    fails: bool,
    sent: Mutex<Vec<Frame>>,
}

impl ChunkDispatcher for Canned {
    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        assert_eq!(request.chunks.chunks.len(), 1);
        let columns = request.schema.fields().iter().map(|field| match field.name().as_str() {
            "band" => Arc::new(StringArray::from(self.texts.clone())) as _,
            _ => Arc::new(Int64Array::from_iter_values(0..self.texts.len() as i64)) as _,
        });
        let batch = RecordBatch::try_new(Arc::clone(&request.schema), columns.collect()).unwrap();
        let frames = encode_batch(&batch).unwrap();
        *self.sent.lock() = frames.clone();
        let end =
            self.fails.then(|| Err(EngineError::Unavailable("worker w1 is gone, and no other holds chunk 7".into())));
        futures::stream::iter(frames.into_iter().map(Ok).chain(end)).boxed()
    }
}

/// A coordinator over one replicated table `Sky.Band` of one file.
async fn coordinator(texts: Vec<String>, fails: bool) -> (TestCoordinator, Arc<Canned>) {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("Sky", None).await.unwrap();
    let owner = Owner { host: "here".into(), pid: std::process::id(), program: "test".into() };
    let transaction = store.open_transaction(database.id, &owner).await.unwrap().id;
    let rows = texts.len() as u64;
    let table = TableCommit {
        ended: Vec::new(),
        table: NewTable {
            name: "Band".into(),
            kind: TableKind::Replicated,
            columns: vec![column("band", "Utf8", None, None), column("number", "Int64", None, None)],
            id_column: None,
            ra_column: None,
            dec_column: None,
            director: None,
            director_key: None,
            second_director: None,
            second_director_key: None,
            description: None,
        },
        mode: CommitMode::Append,
        facts: TableFacts { rows, ..TableFacts::default() },
        files: vec![NewFile {
            id: FileId::new(transaction, 1),
            chunk: ChunkId::EVERYWHERE,
            kind: FileKind::Rows,
            rows,
            bytes: 1_000,
            sha256: [7; 32],
            statistics: Vec::new(),
            workers: vec![WorkerId::from("w1")],
        }],
    };
    store.commit(transaction, Commit { scheme: None, tables: vec![table] }).await.unwrap();
    let dispatcher = Arc::new(Canned { texts, fails, sent: Mutex::default() });
    let keys = Arc::new(ClusterKeys::generate());
    let coordinator = TestCoordinator::start_over(Arc::new(store), keys, Arc::clone(&dispatcher) as _, |_| ()).await;
    (coordinator, dispatcher)
}

fn many() -> Vec<String> {
    (0..300_000).map(|n| format!("band {n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_pass_byte_for_byte() {
    let (coordinator, dispatcher) = coordinator(many(), false).await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT band, number FROM Sky.Band".into(), None).await.unwrap();
    let mut stream = client.inner_mut().do_get(ticket(&info)).await.unwrap().into_inner();
    let first: FlightData = stream.message().await.unwrap().unwrap();
    assert!(first.data_body.is_empty(), "the schema comes first");
    let mut received: Vec<(Bytes, Bytes)> = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        received.push((message.data_header, message.data_body));
    }
    let sent: Vec<(Bytes, Bytes)> = dispatcher.sent.lock().iter().map(|f| (f.header.clone(), f.body.clone())).collect();
    assert!(sent.len() > 3, "{} frames prove little", sent.len());
    assert!(received == sent, "the frames were not relayed as they were");
    let record = coordinator.closed_record().await;
    assert_eq!((record.state, record.rows), (QueryState::Finished, 300_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_computed_here_is_computed() {
    let (coordinator, _) = coordinator(vec!["u".into(), "g".into(), "r".into()], false).await;
    let mut client = coordinator.client().await;
    let (_, batches) = query(&mut client, "SELECT band FROM Sky.Band ORDER BY band").await;
    assert_eq!(texts(&batches, "band"), ["g", "r", "u"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_that_fails_ends_the_stream_with_its_error() {
    let (coordinator, _) = coordinator(many(), true).await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT band, number FROM Sky.Band".into(), None).await.unwrap();
    let mut stream = client.inner_mut().do_get(ticket(&info)).await.unwrap().into_inner();
    let mut messages = 0;
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => messages += 1,
            Ok(None) => panic!("the stream ended as if it were complete"),
            Err(status) => break status,
        }
    };
    assert!(messages > 3);
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("chunk 7"));
    let record = coordinator.closed_record().await;
    assert_eq!(record.state, QueryState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_frame_over_the_limit_is_cut() {
    // Short rows and four of 1.5 MB side by side: by its average row the worker put them in one frame.
    let mut texts_sent: Vec<String> = (0..1_000).map(|n| format!("band {n}")).collect();
    for long in &mut texts_sent[500..504] {
        long.push_str(&"x".repeat(1_500_000));
    }
    let (coordinator, dispatcher) = coordinator(texts_sent.clone(), false).await;
    let mut client = coordinator.client().await;
    let (_, batches) = query(&mut client, "SELECT band, number FROM Sky.Band").await;
    assert!(dispatcher.sent.lock().iter().any(|frame| frame.body.len() > 4_000_000), "nothing had to be cut");
    assert!(texts(&batches, "band") == texts_sent, "rows lost or out of order");
}
