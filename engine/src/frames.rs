//! Record batches as IPC frames: the form in which rows cross the wire and are relayed.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc;
use datafusion::arrow::ipc::convert::fb_to_schema;
use datafusion::arrow::ipc::reader::{StreamReader, read_record_batch};
use datafusion::arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, StreamWriter,
};

use crate::{EngineError, Result};

/// The target size of a frame's body; a single row larger than it makes a larger frame.
pub const FRAME_BYTES: usize = 1 << 20;

/// One encapsulated IPC record batch: the flatbuffer header and the buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The IPC message header.
    pub header: Bytes,
    /// The IPC message body.
    pub body: Bytes,
    /// Rows in the batch.
    pub rows: u64,
}

/// The IPC schema message of `schema`, as a Flight stream opens with.
pub fn encode_schema(schema: &Schema) -> Bytes {
    let mut tracker = DictionaryTracker::new(true);
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut tracker,
        &IpcWriteOptions::default(),
    );
    Bytes::from(encoded.ipc_message)
}

/// The schema in an IPC schema message, as [`encode_schema`] makes it.
///
/// # Errors
/// `Corrupt`: the bytes are none.
pub fn decode_schema(message: &[u8]) -> Result<SchemaRef> {
    let corrupt = |what: String| EngineError::Corrupt(format!("not an IPC schema message: {what}"));
    let message = ipc::root_as_message(message).map_err(|e| corrupt(e.to_string()))?;
    let schema = message.header_as_schema().ok_or_else(|| corrupt("another message".into()))?;
    Ok(Arc::new(fb_to_schema(schema)))
}

/// Encodes a batch as frames of about [`FRAME_BYTES`], rows in order. Dictionaries are an error:
/// the engine's schemas have none.
pub fn encode_batch(batch: &RecordBatch) -> Result<Vec<Frame>> {
    let rows = batch.num_rows();
    if rows == 0 {
        return Ok(Vec::new());
    }
    let pieces = needed_bytes(batch).div_ceil(FRAME_BYTES).clamp(1, rows);
    let step = rows.div_ceil(pieces);
    let mut frames = Vec::with_capacity(pieces);
    let mut start = 0;
    while start < rows {
        let length = step.min(rows - start);
        frames.push(encode_slice(&batch.slice(start, length))?);
        start += length;
    }
    Ok(frames)
}

/// How many bytes the rows of a batch need. Sliced and filtered arrays keep their whole buffers alive, and
/// those of one message share its body, so this is not what the buffers hold.
pub fn needed_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

fn encode_slice(batch: &RecordBatch) -> Result<Frame> {
    let mut tracker = DictionaryTracker::new(true);
    let (dictionaries, encoded) = IpcDataGenerator::default()
        .encode(batch, &mut tracker, &IpcWriteOptions::default(), &mut IpcWriteContext::default())
        .map_err(|e| EngineError::Internal(format!("cannot encode a batch: {e}")))?;
    if !dictionaries.is_empty() {
        return Err(EngineError::Internal("a dictionary column reached the wire".into()));
    }
    Ok(Frame {
        header: Bytes::from(encoded.ipc_message),
        body: Bytes::from(encoded.arrow_data),
        rows: batch.num_rows() as u64,
    })
}

/// A schema and a few batches as an Arrow IPC stream.
///
/// # Errors
/// A batch is not of the schema.
pub fn encode_batches(schema: &Schema, batches: &[RecordBatch]) -> Result<Bytes> {
    let failed = |e| EngineError::Internal(format!("cannot encode batches: {e}"));
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.into_inner().map(Bytes::from).map_err(failed)
}

/// What [`encode_batches`] made; only for bytes that are known to be our own.
///
/// # Errors
/// `Corrupt`: the bytes are none.
pub fn decode_batches(stream: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let failed = |e| EngineError::Corrupt(format!("cannot decode batches: {e}"));
    let reader = StreamReader::try_new(stream, None).map_err(failed)?;
    let schema = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
    Ok((schema, batches))
}

/// Reads the row count of a record-batch header without touching its body.
pub fn frame_rows(header: &[u8]) -> Result<u64> {
    let message = ipc::root_as_message(header).map_err(|e| EngineError::Corrupt(format!("not an IPC message: {e}")))?;
    let batch =
        message.header_as_record_batch().ok_or_else(|| EngineError::Corrupt("expected a record batch frame".into()))?;
    u64::try_from(batch.length()).map_err(|_| EngineError::Corrupt("a frame with a negative row count".into()))
}

/// Decodes a frame; buffers are shared with the frame's body, not copied, where aligned.
pub fn decode_frame(frame: &Frame, schema: &SchemaRef) -> Result<RecordBatch> {
    let corrupt = |e: &dyn std::fmt::Display| EngineError::Corrupt(format!("a worker sent a bad frame: {e}"));
    let message = ipc::root_as_message(&frame.header).map_err(|e| corrupt(&e))?;
    let batch = message.header_as_record_batch().ok_or_else(|| corrupt(&"not a record batch"))?;
    read_record_batch(
        &Buffer::from(frame.body.clone()),
        batch,
        Arc::clone(schema),
        &Default::default(),
        None,
        &message.version(),
    )
    .map_err(|e| corrupt(&e))
}
