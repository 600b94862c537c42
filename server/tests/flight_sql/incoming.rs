//! Rows from clients that become far more than was sent: refused before memory is asked for, because a
//! failed allocation ends the process.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, DictionaryArray, Int32Array, Int64Array, ListArray, NullArray, RecordBatch,
    RecordBatchOptions, RunArray, StringArray, StringViewArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use arrow_flight::{FlightData, FlightDescriptor};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use bytes::Bytes;
use tonic::{Code, Status};

use super::coordinator::{Client, TestCoordinator, integers, prepare, query};
use super::prepared::command;

/// A batch as its messages, just as it is.
fn messages(descriptor: FlightDescriptor, batch: &RecordBatch, codec: Option<CompressionType>) -> Vec<FlightData> {
    let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
    let (generator, mut tracker) = (IpcDataGenerator::default(), DictionaryTracker::new(false));
    let schema = generator.schema_to_bytes_with_dictionary_tracker(&batch.schema(), &mut tracker, &options);
    let (dictionaries, rows) =
        generator.encode(batch, &mut tracker, &options, &mut IpcWriteContext::default()).unwrap();
    let message = |encoded: arrow_ipc::writer::EncodedData| FlightData {
        data_header: encoded.ipc_message.into(),
        data_body: encoded.arrow_data.into(),
        ..FlightData::default()
    };
    let mut messages: Vec<_> = [schema].into_iter().chain(dictionaries).chain([rows]).map(message).collect();
    messages[0].flight_descriptor = Some(descriptor);
    messages
}

fn batch(column: ArrayRef) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("0", column.data_type().clone(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap()
}

async fn put(client: &mut Client, messages: Vec<FlightData>) -> Result<(), Status> {
    let mut results = client.inner_mut().do_put(futures::stream::iter(messages)).await?.into_inner();
    results.message().await.map(drop)
}

/// A coordinator, its client, and a handle whose one parameter is a number.
async fn rig() -> (TestCoordinator, Client, Bytes) {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let (prepared, _) = prepare(&mut client, "SELECT value FROM generate_series(1, 4) WHERE value = ?").await;
    (coordinator, client, prepared.prepared_statement_handle)
}

/// Sees that the messages are refused with these words, and that the coordinator is still there.
async fn refused(client: &mut Client, what: &str, messages: Vec<FlightData>, words: &str) {
    let status = put(client, messages).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains(words), "{what}: {status}");
    assert_eq!(integers(&query(client, "SELECT 1").await.1, 0), [1], "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_rows_are_no_larger_than_they_say_and_may_be() {
    let (_coordinator, mut client, handle) = rig().await;
    let numbers = |rows: i64| batch(Arc::new(Int64Array::from_iter_values((0..rows).map(|n| n % 3))));
    let zeros = |rows: usize| batch(Arc::new(Int64Array::from(vec![0; rows])));
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let small = messages(command(&handle), &numbers(1_000), Some(codec));
        put(&mut client, small.clone()).await.unwrap();
        let with_length = |mut messages: Vec<FlightData>, length: i64| {
            let rows = messages.last_mut().unwrap();
            let mut body = rows.data_body.to_vec();
            // The first buffer of the body is that of the values: there are no NULLs.
            assert!(i64::from_le_bytes(body[..8].try_into().unwrap()) > 0);
            body[..8].copy_from_slice(&length.to_le_bytes());
            rows.data_body = body.into();
            messages
        };
        for length in [1_i64 << 46, i64::MAX] {
            refused(&mut client, "a huge length", with_length(small.clone(), length), "256 MiB").await;
        }
        refused(&mut client, "no length", with_length(small.clone(), -2), "negative").await;
        let large = messages(command(&handle), &zeros(1 << 25), Some(codec));
        assert!(large.last().unwrap().data_body.len() < 4 << 20);
        refused(&mut client, "a bomb", large, "more than").await;
    }
    // 64 MiB that are told to be eight bytes: the decoder would make all of them before it counts.
    let mut lying = messages(command(&handle), &zeros(8 << 20), Some(CompressionType::LZ4_FRAME));
    let rows = lying.last_mut().unwrap();
    let mut body = rows.data_body.to_vec();
    body[..8].copy_from_slice(&8_i64.to_le_bytes());
    rows.data_body = body.into();
    refused(&mut client, "a lie", lying, "longer than it says").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_bytes_are_bounded() {
    let (_coordinator, mut client, handle) = rig().await;
    let nulls = |rows: usize| batch(Arc::new(NullArray::new(rows)));
    let none = |rows: usize| {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap()
    };
    for rows in [1 << 46, (1 << 25) + 1] {
        refused(&mut client, "NULLs", messages(command(&handle), &nulls(rows), None), "send fewer rows").await;
        refused(&mut client, "no columns", messages(command(&handle), &none(rows), None), "send fewer rows").await;
    }
    let item = Arc::new(Field::new_list_field(DataType::Null, true));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, i32::MAX]));
    let nested = ListArray::new(item, offsets, Arc::new(NullArray::new(i32::MAX as usize)), None);
    let nested = messages(command(&handle), &batch(Arc::new(nested)), None);
    refused(&mut client, "nested NULLs", nested, "send fewer rows").await;
    let runs = RunArray::<Int64Type>::try_new(&Int64Array::from(vec![1 << 46]), &StringArray::from(vec!["x"]));
    let runs = messages(command(&handle), &batch(Arc::new(runs.unwrap())), None);
    refused(&mut client, "runs", runs, "cast it to a plain one").await;
    put(&mut client, messages(command(&handle), &nulls(3), None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_many_rows_share_are_counted_for_each() {
    let (_coordinator, mut client, handle) = rig().await;
    let (rows, long) = (1 << 17, "x".repeat(4_096));
    let keys = Int32Array::from(vec![0; rows]);
    let dictionary = DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from(vec![long.as_str()])));
    let dictionary = messages(command(&handle), &batch(Arc::new(dictionary)), None);
    refused(&mut client, "a dictionary", dictionary, "256 MiB").await;
    let text = StringViewArray::from(vec![long.as_str()]);
    let views = vec![text.views()[0]; rows];
    let shared = [Buffer::from(long.as_bytes())];
    let text = StringViewArray::new(views.clone().into(), shared.clone(), None);
    refused(&mut client, "text", messages(command(&handle), &batch(Arc::new(text)), None), "256 MiB").await;
    let bytes = BinaryViewArray::new(views.into(), shared, None);
    refused(&mut client, "bytes", messages(command(&handle), &batch(Arc::new(bytes)), None), "256 MiB").await;
    // Many columns of one message share its body, which is no more for that.
    let sql = (1..=100).map(|n| format!("${n} > 0")).collect::<Vec<_>>().join(" AND ");
    let (prepared, _) = prepare(&mut client, &format!("SELECT 1 WHERE {sql}")).await;
    let columns: Vec<ArrayRef> = (0..100).map(|_| Arc::new(Int64Array::from(vec![7; 1_000])) as ArrayRef).collect();
    let wide = super::parameters::values(columns);
    put(&mut client, messages(command(&prepared.prepared_statement_handle), &wide, None)).await.unwrap();
}
