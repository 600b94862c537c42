//! Rows straight to a client: what it is promised, and that it never takes a part for the whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef};
use arrow_flight::HandshakeRequest;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::utils::flight_data_to_arrow_batch;
use bytes::Bytes;
use skyflight_engine::frames::encode_schema;
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, EndpointTicket, Message, RecallResult, RecallTicket, Ticket, wire};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::rig::{Rig, refused, sign, unix_ms};
use crate::sky::{Sky, named_objects, objects};

/// As a client redeems it: inside Flight SQL's own message.
fn wrapped(statement_handle: Bytes) -> Bytes {
    TicketStatementQuery { statement_handle }.as_any().encode_to_vec().into()
}

async fn endpoint(sky: &Sky, sql: &str, promised: &Schema) -> EndpointTicket {
    EndpointTicket { task: Some(sky.task(sql).await), schema: encode_schema(promised), ..EndpointTicket::default() }
}

/// What a client has read.
#[derive(Debug)]
struct Read {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    largest: usize,
    end: Result<(), Status>,
}

impl Read {
    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn ids(&self) -> Vec<i64> {
        let ids = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        let mut ids: Vec<i64> = self.batches.iter().flat_map(ids).collect();
        ids.sort_unstable();
        ids
    }
}

async fn open(
    rig: &mut Rig,
    signed: Bytes,
    headers: &[(&'static str, &str)],
) -> Result<tonic::Streaming<arrow_flight::FlightData>, Status> {
    let mut map = MetadataMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    let ticket = arrow_flight::Ticket { ticket: wrapped(signed) };
    let request = Request::from_parts(map, tonic::Extensions::new(), ticket);
    Ok(rig.client.do_get(request).await?.into_inner())
}

/// Reads to the end as a client of Flight SQL does, which knows no marks.
async fn read(mut stream: tonic::Streaming<arrow_flight::FlightData>) -> Result<Read, Status> {
    let first = stream.message().await?.expect("a schema");
    assert!(first.app_metadata.is_empty() && first.data_body.is_empty());
    let schema = Arc::new(Schema::try_from(&first).unwrap());
    let mut read = Read { schema, batches: Vec::new(), largest: 0, end: Ok(()) };
    loop {
        match stream.message().await {
            Ok(Some(data)) => {
                assert!(data.app_metadata.is_empty(), "clients are sent no marks");
                read.largest = read.largest.max(data.encoded_len());
                let batch = flight_data_to_arrow_batch(&data, Arc::clone(&read.schema), &Default::default()).unwrap();
                assert!(batch.num_rows() > 0);
                read.batches.push(batch);
            }
            Ok(None) => return Ok(read),
            Err(status) => {
                read.end = Err(status);
                return Ok(read);
            }
        }
    }
}

async fn fetch(rig: &mut Rig, ticket: EndpointTicket) -> Result<Read, Status> {
    let signed = rig.sign(Body::Endpoint(ticket));
    read(open(rig, signed, &[]).await?).await
}

fn ids_of(chunks: &[(u64, RecordBatch)]) -> Vec<i64> {
    let ids = |(_, rows): &(u64, RecordBatch)| rows["objectId"].as_primitive::<Int64Type>().values().to_vec();
    let mut all: Vec<i64> = chunks.iter().flat_map(ids).collect();
    all.sort_unstable();
    all
}

/// The types of `SELECT objectId, name`, under names and with metadata of the client's own.
fn promise() -> Schema {
    let field = |name, of, nullable| Field::new(name, of, nullable);
    let unit = [("unit".to_owned(), "none".to_owned())].into();
    Schema::new(vec![
        field("id", arrow::datatypes::DataType::Int64, true).with_metadata(unit),
        field("called", arrow::datatypes::DataType::Utf8, true),
    ])
}

const SQL: &str = "SELECT objectId, name FROM Object";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_the_schema_it_was_promised_and_every_row() {
    let mut rig = Rig::new().await;
    let chunks: Vec<_> = [16, 17, 40, 63].map(|chunk| (chunk, objects(chunk, 20_000))).into();
    let sky = Sky::with_objects(&chunks);
    sky.fill(&mut rig).await;
    let ticket = endpoint(&sky, SQL, &promise()).await;
    // As often as it wants.
    for _ in 0..2 {
        let read = fetch(&mut rig, ticket.clone()).await.unwrap();
        read.end.as_ref().unwrap();
        assert_eq!(*read.schema, promise());
        assert_eq!(read.ids(), ids_of(&chunks));
    }
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_rows_is_its_schema() {
    let mut rig = Rig::new().await;
    let sky = Sky::with_objects(&[(16, objects(16, 100))]);
    sky.fill(&mut rig).await;
    let ticket = endpoint(&sky, "SELECT objectId, name FROM Object WHERE mag > 1000", &promise()).await;
    let read = fetch(&mut rig, ticket).await.unwrap();
    read.end.as_ref().unwrap();
    assert_eq!((read.rows(), &*read.schema), (0, &promise()));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_as_large_as_clients_take() {
    let mut rig = Rig::new().await;
    // By the average row five of these go into one frame.
    let long = named_objects(16, 5, 1_500_000);
    let short = objects(17, 10_000);
    let chunks = [(16, arrow::compute::concat_batches(&short.schema(), [&objects(16, 2_000), &long]).unwrap())];
    let sky = Sky::with_objects(&chunks);
    sky.fill(&mut rig).await;
    let ticket = endpoint(&sky, SQL, &promise()).await;
    let read = fetch(&mut rig, ticket).await.unwrap();
    read.end.as_ref().unwrap();
    assert_eq!(read.ids(), ids_of(&chunks));
    assert!(read.largest > 1_000_000 && read.largest <= 4_000_000, "{}", read.largest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_too_large_for_the_client_is_an_error_that_names_the_way_out() {
    let mut rig = Rig::new().await;
    let sky = Sky::with_objects(&[(16, named_objects(16, 3, 5_000_000))]);
    sky.fill(&mut rig).await;
    let ticket = endpoint(&sky, SQL, &promise()).await;
    let end = fetch(&mut rig, ticket.clone()).await.unwrap().end;
    refused(end, Code::ResourceExhausted, "x-skyflight-max-message-bytes");
    let signed = rig.sign(Body::Endpoint(ticket));
    let larger = open(&mut rig, signed, &[("x-skyflight-max-message-bytes", "8000000")]).await.unwrap();
    assert_eq!(read(larger).await.unwrap().rows(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_fails_is_an_error_at_the_client() {
    let mut rig = Rig::new().await;
    let chunks: Vec<_> = [16, 17, 40, 63].map(|chunk| (chunk, objects(chunk, 5_000))).into();
    let sky = Sky::with_objects(&chunks);
    sky.fill(&mut rig).await;
    let ticket = endpoint(&sky, SQL, &promise()).await;
    let lost = rig.files().into_iter().find(|file| file.to_string_lossy().contains("/40")).unwrap();
    std::fs::remove_file(lost).unwrap();
    let read = fetch(&mut rig, ticket).await.unwrap();
    assert!(read.rows() < ids_of(&chunks).len());
    let status = read.end.expect_err("a part is not the whole");
    assert!(!status.message().is_empty(), "{status:?}");
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_other_types_than_promised_are_not_sent() {
    let mut rig = Rig::new().await;
    let sky = Sky::with_objects(&[(16, objects(16, 100))]);
    sky.fill(&mut rig).await;
    let ticket = endpoint(&sky, "SELECT ra, name FROM Object", &promise()).await;
    refused(fetch(&mut rig, ticket).await, Code::InvalidArgument, "promised");
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_expired_and_foreign_tickets_open_nothing() {
    let mut rig = Rig::new().await;
    let sky = Sky::with_objects(&[(16, objects(16, 100))]);
    sky.fill(&mut rig).await;
    let ticket = endpoint(&sky, SQL, &promise()).await;
    let signed = rig.sign(Body::Endpoint(ticket.clone()));
    for at in (0..signed.len()).step_by(signed.len() / 50) {
        let mut altered = signed.to_vec();
        altered[at] ^= 1 << (at % 8);
        refused(open(&mut rig, altered.into(), &[]).await, Code::Unauthenticated, "");
    }
    let expired = sign(&rig.keys, Body::Endpoint(ticket.clone()), unix_ms() - 1);
    refused(open(&mut rig, expired, &[]).await, Code::Unauthenticated, "expired");
    let foreign = sign(&ClusterKeys::generate(), Body::Endpoint(ticket.clone()), unix_ms() + 60_000);
    refused(open(&mut rig, foreign, &[]).await, Code::Unauthenticated, "key");
    assert_eq!(fetch(&mut rig, ticket).await.unwrap().rows(), 100);
    rig.idle().await;
}

/// Rows of which most cannot be on their way before the client reads.
async fn large() -> (Rig, EndpointTicket) {
    let mut rig = Rig::new().await;
    let chunks: Vec<_> = [16, 17, 40, 63].map(|chunk| (chunk, named_objects(chunk, 500, 20_000))).into();
    let sky = Sky::with_objects(&chunks);
    sky.fill(&mut rig).await;
    let ticket = endpoint(&sky, SQL, &promise()).await;
    (rig, ticket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_the_worker() {
    let (mut rig, ticket) = large().await;
    let signed = rig.sign(Body::Endpoint(ticket));
    let mut stream = open(&mut rig, signed, &[]).await.unwrap();
    stream.message().await.unwrap();
    assert_eq!(rig.ping().await.running_tasks, 1);
    drop(stream);
    rig.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recalled_query_ends_and_does_not_begin_again() {
    let (mut rig, ticket) = large().await;
    let signed = rig.sign(Body::Endpoint(ticket.clone()));
    let stream = open(&mut rig, signed.clone(), &[]).await.unwrap();
    let begun = Instant::now();
    let recall = rig.sign(Body::Recall(RecallTicket {}));
    let answers = rig.act(wire::ACTION_RECALL, recall.clone()).await.unwrap();
    assert_eq!(RecallResult::decode(answers[0].clone()).unwrap().streams, 1);
    let seen = read(stream).await.unwrap();
    assert!(seen.rows() < 2_000, "all rows came");
    refused(seen.end, Code::Cancelled, "cancelled");
    rig.idle().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());

    refused(open(&mut rig, signed, &[]).await, Code::Cancelled, "cancelled");
    let other = Ticket {
        expires_unix_ms: unix_ms() + 60_000,
        user: "tester".into(),
        query_id: vec![8; 16].into(),
        body: Some(Body::Endpoint(ticket)),
    };
    let other = rig.keys.sign(&other);
    assert_eq!(read(open(&mut rig, other, &[]).await.unwrap()).await.unwrap().rows(), 2_000);
    // Only a ticket recalls.
    refused(rig.act(wire::ACTION_RECALL, Bytes::new()).await, Code::Unauthenticated, "ticket");
    let wrong = rig.sign(Body::ListFiles(Default::default()));
    refused(rig.act(wire::ACTION_RECALL, wrong).await, Code::InvalidArgument, "recall");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_logs_in_first_is_not_sent_away() {
    let mut rig = Rig::new().await;
    for (sent, back) in [("Bearer abc", "Bearer abc"), ("Basic QWxhZGRpbjpvcGVu", "Bearer worker")] {
        let mut request = Request::new(futures::stream::iter([HandshakeRequest::default()]));
        request.metadata_mut().insert("authorization", sent.parse().unwrap());
        let response = rig.client.handshake(request).await.unwrap();
        assert_eq!(response.metadata().get("authorization").unwrap(), back);
        let mut answers = response.into_inner();
        assert!(answers.message().await.unwrap().is_some());
        assert!(answers.message().await.unwrap().is_none(), "one answer");
    }
    // SetSessionOptionsResult without errors; CloseSessionResult with status 1, closed.
    assert_eq!(rig.act("SetSessionOptions", Bytes::new()).await.unwrap(), [Bytes::new()]);
    assert_eq!(rig.act("GetSessionOptions", Bytes::new()).await.unwrap(), [Bytes::new()]);
    assert_eq!(rig.act("CloseSession", Bytes::new()).await.unwrap(), [Bytes::from_static(&[8, 1])]);
}
