//! What a frame must look like before it may be passed on unread.
//!
//! In a deterministic dispatch rows pass on before their chunk's trailer has come, so a frame is
//! checked by itself as far as its header goes: row counts, the number of arrays and buffers, and
//! that every buffer lies within the body. The body's bytes are covered by the trailer's digest.

use arrow_ipc::{MetadataVersion, RecordBatch, root_as_message};
use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use skyflight_engine::frames::encode_schema;

/// The shape that a schema gives to its record batches.
#[derive(Debug)]
pub(super) struct FrameShape {
    schema: Schema,
    schema_message: Bytes,
    /// Position among the batch's nodes of each top-level column.
    columns: Vec<usize>,
    nodes: usize,
    /// None where the schema has a type whose buffers vary from batch to batch.
    buffers: Option<usize>,
}

impl FrameShape {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut columns = Vec::with_capacity(schema.fields().len());
        let mut nodes = 0;
        let mut buffers = Some(0);
        for field in schema.fields() {
            columns.push(nodes);
            count(field, &mut nodes, &mut buffers);
        }
        FrameShape { schema: schema.clone(), schema_message: encode_schema(schema), columns, nodes, buffers }
    }

    /// Whether `header` is the schema message the frames were promised to have. Metadata may differ.
    pub(super) fn check_schema(&self, header: &[u8]) -> Result<(), String> {
        if header == self.schema_message {
            return Ok(());
        }
        let message = root_as_message(header).map_err(|e| format!("the stream opens with no IPC message: {e}"))?;
        let Some(found) = message.header_as_schema() else {
            return Err("the stream does not open with a schema".into());
        };
        // Panics on types that Arrow does not have; the task's panic then ends the query.
        let found = arrow_ipc::convert::fb_to_schema(found);
        let same = found.fields().len() == self.schema.fields().len()
            && found
                .fields()
                .iter()
                .zip(self.schema.fields())
                .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
        if same {
            Ok(())
        } else {
            Err(format!("its rows have columns ({}), not ({})", list(&found), list(&self.schema)))
        }
    }

    /// Checks a record batch's header against the schema and the length of its body; gives its rows.
    pub(super) fn check_frame(&self, header: &[u8], body_bytes: usize) -> Result<u64, String> {
        let message = root_as_message(header).map_err(|e| format!("not an IPC message: {e}"))?;
        if message.version() != MetadataVersion::V5 {
            return Err(format!("IPC version {:?}, not V5", message.version()));
        }
        if message.bodyLength() != body_bytes as i64 {
            return Err(format!("a body of {body_bytes} bytes where the header says {}", message.bodyLength()));
        }
        let batch = message.header_as_record_batch().ok_or("not a record batch")?;
        let rows = u64::try_from(batch.length()).map_err(|_| "a negative row count")?;
        self.check_nodes(&batch)?;
        self.check_buffers(&batch, body_bytes as i64)?;
        Ok(rows)
    }

    fn check_nodes(&self, batch: &RecordBatch<'_>) -> Result<(), String> {
        let nodes = batch.nodes().unwrap_or_default();
        if nodes.len() != self.nodes {
            return Err(format!("{} arrays where the schema has {}", nodes.len(), self.nodes));
        }
        if nodes.iter().any(|node| node.length() < 0 || !(0..=node.length()).contains(&node.null_count())) {
            return Err("an array with an impossible length or null count".into());
        }
        if self.columns.iter().any(|&column| nodes.get(column).length() != batch.length()) {
            return Err("columns of different lengths".into());
        }
        Ok(())
    }

    fn check_buffers(&self, batch: &RecordBatch<'_>, body_bytes: i64) -> Result<(), String> {
        let buffers = batch.buffers().unwrap_or_default();
        if self.buffers.is_some_and(|expected| expected != buffers.len()) {
            return Err(format!("{} buffers, more or fewer than the schema has", buffers.len()));
        }
        let inside = |offset: i64, length: i64| {
            offset >= 0 && length >= 0 && offset.checked_add(length).is_some_and(|end| end <= body_bytes)
        };
        if buffers.iter().all(|buffer| inside(buffer.offset(), buffer.length())) {
            Ok(())
        } else {
            Err("a buffer that lies outside the body".into())
        }
    }
}

/// Adds the arrays and buffers of `field`, in the Arrow columnar format, version 1.5.
fn count(field: &Field, nodes: &mut usize, buffers: &mut Option<usize>) {
    *nodes += 1;
    let mut add = |n: usize| *buffers = buffers.map(|sum| sum + n);
    match field.data_type() {
        DataType::Null => {}
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => add(3),
        DataType::List(child) | DataType::LargeList(child) | DataType::Map(child, _) => {
            add(2);
            count(child, nodes, buffers);
        }
        DataType::FixedSizeList(child, _) => {
            add(1);
            count(child, nodes, buffers);
        }
        DataType::Struct(children) => {
            add(1);
            for child in children {
                count(child, nodes, buffers);
            }
        }
        DataType::Utf8View | DataType::BinaryView => *buffers = None,
        DataType::ListView(child) | DataType::LargeListView(child) => {
            add(3);
            count(child, nodes, buffers);
        }
        DataType::Union(children, _) => {
            *buffers = None;
            for (_, child) in children.iter() {
                count(child, nodes, buffers);
            }
        }
        DataType::RunEndEncoded(ends, values) => {
            count(ends, nodes, buffers);
            count(values, nodes, buffers);
        }
        // Validity and one buffer of values; a dictionary's keys.
        _ => add(2),
    }
}

fn list(schema: &Schema) -> String {
    let columns: Vec<String> = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    columns.join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int32Array, ListArray, NullArray, RecordBatch, StringArray, StructArray,
    };
    use datafusion::arrow::datatypes::Int32Type;
    use skyflight_engine::frames::encode_batch;

    use super::*;

    fn batch() -> RecordBatch {
        let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("f", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]))),
            ("s", Arc::new(StringArray::from(vec![Some("a"), None, Some("ccc")]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("n", Arc::new(NullArray::new(3))),
            (
                "l",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
                    Some(vec![Some(1), Some(2)]),
                    None,
                    Some(vec![]),
                ])),
            ),
            ("t", Arc::new(StructArray::from(vec![(Arc::new(Field::new("i", DataType::Int32, true)), values)]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn frames_of_the_schema_pass_and_say_their_rows() {
        let batch = batch();
        let shape = FrameShape::new(batch.schema_ref());
        let frames = encode_batch(&batch).unwrap();
        assert_eq!(frames.len(), 1);
        assert_eq!(shape.check_frame(&frames[0].header, frames[0].body.len()), Ok(3));
        shape.check_schema(&encode_schema(batch.schema_ref())).unwrap();
    }

    #[test]
    fn frames_of_another_schema_or_body_do_not() {
        let batch = batch();
        let frame = encode_batch(&batch).unwrap().remove(0);
        let shape = FrameShape::new(batch.schema_ref());
        assert!(shape.check_frame(&frame.header, frame.body.len() - 8).is_err());
        assert!(shape.check_frame(&frame.header[..frame.header.len() / 2], frame.body.len()).is_err());
        assert!(shape.check_frame(b"", 0).is_err());
        assert!(shape.check_frame(&encode_schema(batch.schema_ref()), 0).is_err());
        let fewer = FrameShape::new(batch.project(&[0, 1]).unwrap().schema_ref());
        assert!(fewer.check_frame(&frame.header, frame.body.len()).is_err());
        let swapped = batch.project(&[1, 0, 2, 3, 4, 5]).unwrap();
        let error = shape.check_schema(&encode_schema(swapped.schema_ref())).unwrap_err();
        assert!(error.contains("columns (s Utf8, f Float64"), "{error}");
    }

    #[test]
    fn metadata_of_the_schema_does_not_matter() {
        let batch = batch();
        let shape = FrameShape::new(batch.schema_ref());
        let with = batch.schema_ref().as_ref().clone().with_metadata([("unit".into(), "deg".into())].into());
        shape.check_schema(&encode_schema(&with)).unwrap();
    }
}
