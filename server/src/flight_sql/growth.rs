//! How large the rows that a client sends become. Compression, columns without buffers, dictionaries and
//! views make much of little, and an allocation that fails ends the process, not the call. So what a
//! message becomes is counted before it is decoded, and what a batch becomes before it is cast.

use std::collections::HashMap;
use std::io::Read;

use arrow_flight::FlightData;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::{CompressionType, MessageHeader, root_as_message_with_opts};
use datafusion::arrow::array::{AnyDictionaryArray, Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use flatbuffers::VerifierOptions;
use lz4_flex::frame::FrameDecoder;

/// Bytes that a message, or the rows of a batch written out, may become. A client's message has 16 MiB.
const MOST_BYTES: u64 = 256 << 20;

/// Values in a message, nested ones counted too: at eight bytes each they are as many bytes.
const MOST_VALUES: u64 = 1 << 25;

/// Tables in a message's header: a column takes a few of them.
const MOST_TABLES: usize = 100_000;

/// Rows that are cast at a time.
const ROWS_AT_ONCE: usize = 1 << 17;

/// What the messages of one stream have become so far.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Bytes of the dictionaries that the decoder keeps, by id.
    dictionaries: HashMap<i64, u64>,
}

impl Growth {
    /// Lets a message pass that can be decoded within the limits.
    ///
    /// Errors: why it cannot.
    pub(super) fn admit(&mut self, message: &FlightData) -> Result<(), String> {
        let options = VerifierOptions { max_tables: MOST_TABLES, ..VerifierOptions::default() };
        let header = root_as_message_with_opts(&options, &message.data_header).map_err(|e| e.to_string())?;
        match header.header_type() {
            MessageHeader::Schema => {
                let schema = header.header_as_schema().ok_or("a schema message without a schema")?;
                for field in fb_to_schema(schema).fields() {
                    check_type(field.data_type()).map_err(|why| format!("column \"{}\" {why}", field.name()))?;
                }
                Ok(())
            }
            MessageHeader::RecordBatch => {
                let batch = header.header_as_record_batch().ok_or("a batch message without a batch")?;
                decoded_bytes(batch, &message.data_body).map(drop)
            }
            MessageHeader::DictionaryBatch => {
                let dictionary = header.header_as_dictionary_batch().ok_or("a dictionary message without one")?;
                let values = dictionary.data().ok_or("a dictionary without values")?;
                let bytes = decoded_bytes(values, &message.data_body)?;
                let kept = self.dictionaries.entry(dictionary.id()).or_default();
                *kept = if dictionary.isDelta() { kept.saturating_add(bytes) } else { bytes };
                within(self.dictionaries.values().fold(0, |sum, bytes| sum.saturating_add(*bytes)), "the dictionaries")
            }
            // The decoder knows what it does not take.
            _ => Ok(()),
        }
    }
}

/// A batch in pieces that can be cast to plain types, whatever its columns share or repeat.
///
/// Errors: why it cannot.
pub(super) fn pieces(batch: &RecordBatch) -> impl Iterator<Item = Result<RecordBatch, String>> {
    let rows = batch.num_rows();
    (0..rows).step_by(ROWS_AT_ONCE).map(move |start| {
        let piece = batch.slice(start, ROWS_AT_ONCE.min(rows - start));
        within(plain_bytes(&piece), "a batch").map(|()| piece)
    })
}

/// How many bytes the rows of a batch take when they are written out, of their own and at most.
pub(super) fn plain_bytes(batch: &RecordBatch) -> u64 {
    plain_of(batch.columns())
}

fn within(bytes: u64, what: &str) -> Result<(), String> {
    if bytes > MOST_BYTES {
        return Err(format!(
            "{what} would take more than {} MiB in memory; send fewer rows at a time",
            MOST_BYTES >> 20
        ));
    }
    Ok(())
}

/// Types of which a few bytes can stand for any number of values are not read.
fn check_type(data_type: &DataType) -> Result<(), String> {
    match data_type {
        DataType::RunEndEncoded(_, _) | DataType::ListView(_) | DataType::LargeListView(_) => {
            Err(format!("has the type {data_type}, which is not taken from clients; cast it to a plain one"))
        }
        // So flightsql-dbapi sends each value.
        DataType::Union(fields, _) => {
            fields.iter().map(|(_, field)| field.data_type()).try_for_each(|kind| match kind {
                DataType::Dictionary(_, _) => Err("is a union of dictionaries; cast it to a plain type".to_owned()),
                nested if nested.is_nested() => Err("is a union of nested values; cast it to a plain type".to_owned()),
                plain => check_type(plain),
            })
        }
        DataType::Dictionary(_, values) if values.is_nested() || matches!(**values, DataType::Dictionary(_, _)) => {
            Err("is a dictionary of nested values, which is not taken from clients; cast it to a plain type".to_owned())
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => check_type(item.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_type(field.data_type())),
        _ => Ok(()),
    }
}

/// What decoding allocates for a batch, at most.
fn decoded_bytes(batch: arrow_ipc::RecordBatch<'_>, body: &[u8]) -> Result<u64, String> {
    let count = |n: i64| u64::try_from(n).map_err(|_| "a length is negative".to_owned());
    let mut values = 0_u64;
    for node in batch.nodes().into_iter().flatten() {
        values = values.saturating_add(count(node.length())?);
    }
    if values.max(count(batch.length())?) > MOST_VALUES {
        return Err(format!("a batch has more than {MOST_VALUES} rows or values; send fewer rows at a time"));
    }
    let codec = batch.compression().map(|compression| compression.codec());
    let mut bytes = 0_u64;
    for buffer in batch.buffers().into_iter().flatten().filter(|buffer| buffer.length() != 0) {
        let start = usize::try_from(buffer.offset()).ok();
        let end =
            start.zip(usize::try_from(buffer.length()).ok()).and_then(|(start, length)| start.checked_add(length));
        let part = start.zip(end).and_then(|(start, end)| body.get(start..end));
        let part = part.ok_or("a buffer lies outside of its message")?;
        bytes = bytes.saturating_add(match codec {
            None => part.len() as u64,
            Some(codec) => uncompressed_bytes(part, codec)?,
        });
        within(bytes, "a batch")?;
    }
    Ok(bytes)
}

/// The length of a compressed buffer once it is not.
fn uncompressed_bytes(part: &[u8], codec: CompressionType) -> Result<u64, String> {
    let (prefix, compressed) = part.split_first_chunk::<8>().ok_or("a compressed buffer has no length")?;
    let bytes = match i64::from_le_bytes(*prefix) {
        // As it is.
        -1 => return Ok(compressed.len() as u64),
        told => u64::try_from(told).map_err(|_| "a length is negative")?,
    };
    within(bytes, "a batch")?;
    // Arrow's decoder of LZ4 goes on to the frame's end, whatever length was told. That of Zstandard does not.
    if codec == CompressionType::LZ4_FRAME {
        let mut frame = FrameDecoder::new(compressed).take(bytes + 1);
        let found = std::io::copy(&mut frame, &mut std::io::sink()).map_err(|e| e.to_string())?;
        if found > bytes {
            return Err("a compressed buffer is longer than it says".to_owned());
        }
    }
    Ok(bytes)
}

fn plain_of(columns: &[ArrayRef]) -> u64 {
    columns.iter().fold(0, |sum, column| sum.saturating_add(plain(column.as_ref())))
}

fn plain(array: &dyn Array) -> u64 {
    // Whatever it is, it may be cast to something of eight bytes.
    let own = 8 * array.len() as u64;
    let more = match array.data_type() {
        DataType::Utf8View => viewed(array.as_string_view().views()),
        DataType::BinaryView => viewed(array.as_binary_view().views()),
        DataType::Dictionary(_, _) => written_out(array.as_any_dictionary()),
        DataType::List(_) => plain(array.as_list::<i32>().values().as_ref()),
        DataType::LargeList(_) => plain(array.as_list::<i64>().values().as_ref()),
        DataType::FixedSizeList(_, _) => plain(array.as_fixed_size_list().values().as_ref()),
        DataType::Map(_, _) => plain(array.as_map().entries()),
        DataType::Struct(_) => plain_of(array.as_struct().columns()),
        DataType::Union(fields, _) => {
            // Each row may be the longest value of all.
            let array = array.as_union();
            let longest = fields.iter().flat_map(|(id, _)| lengths(array.child(id).as_ref())).max();
            longest.unwrap_or(0).saturating_mul(array.len() as u64)
        }
        _ => array.to_data().get_slice_memory_size().map_or(u64::MAX, |bytes| bytes as u64),
    };
    own.saturating_add(more)
}

/// The length of a view is its lowest 32 bits.
fn viewed(views: &[u128]) -> u64 {
    views.iter().map(|view| u64::from(*view as u32)).sum()
}

/// How many bytes each of some values has that are not nested.
fn lengths(values: &dyn Array) -> Vec<u64> {
    let between = |offsets: &[i32]| offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect();
    let between_large = |offsets: &[i64]| offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect();
    let each = |views: &[u128]| views.iter().map(|view| u64::from(*view as u32)).collect();
    match values.data_type() {
        DataType::Utf8 => between(values.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => between_large(values.as_string::<i64>().value_offsets()),
        DataType::Binary => between(values.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => between_large(values.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => each(values.as_string_view().views()),
        DataType::BinaryView => each(values.as_binary_view().views()),
        DataType::FixedSizeBinary(width) => vec![u64::try_from(*width).unwrap_or(0); values.len()],
        // None of the others has wider values than a decimal of 256 bits.
        _ => vec![32; values.len()],
    }
}

fn written_out(dictionary: &dyn AnyDictionaryArray) -> u64 {
    let values = dictionary.values();
    if values.is_empty() {
        return 0;
    }
    let lengths = lengths(values.as_ref());
    dictionary.normalized_keys().into_iter().map(|key| lengths.get(key).copied().unwrap_or(0)).sum()
}
