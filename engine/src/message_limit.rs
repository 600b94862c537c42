//! How large a message a client takes, and frames cut to that size. The coordinator and the workers
//! both send rows to clients.

use std::collections::VecDeque;

use datafusion::arrow::datatypes::SchemaRef;
use skyflight_proto::FailureKind;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::frames::{Frame, decode_frame, encode_batch};
use crate::{EngineError, Result};

/// What every client takes: gRPC's default is 4 MiB, and some libraries mean 4,000,000 by 4 MB.
const DEFAULT_BYTES: usize = 4_000_000;

/// The most a client can ask for.
const MOST_BYTES: usize = 256 << 20;

/// The header by which a client says that it takes larger messages.
pub const HEADER: &str = "x-skyflight-max-message-bytes";

/// Room for what surrounds header and body in the protobuf message.
const ENVELOPE_BYTES: usize = 64;

/// The largest message a client takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimit(usize);

impl Default for MessageLimit {
    fn default() -> Self {
        MessageLimit(DEFAULT_BYTES)
    }
}

impl MessageLimit {
    /// The limit that a request's headers ask for.
    ///
    /// # Errors
    /// `InvalidArgument`: the header is no number of bytes in range.
    pub fn of_headers(headers: &MetadataMap) -> Result<MessageLimit, Status> {
        let Some(value) = headers.get(HEADER) else { return Ok(MessageLimit::default()) };
        let bytes = value.to_str().ok().and_then(|text| text.trim().parse::<usize>().ok());
        match bytes {
            Some(bytes) if (65_536..=MOST_BYTES).contains(&bytes) => Ok(MessageLimit(bytes)),
            _ => {
                Err(FailureKind::BadRequest.status(format!("{HEADER} is a number of bytes from 65536 to {MOST_BYTES}")))
            }
        }
    }

    /// True where `frame` can be sent as it is: the ordinary case, decided without a look inside.
    pub fn fits(self, frame: &Frame) -> bool {
        frame.header.len() + frame.body.len() + ENVELOPE_BYTES <= self.0
    }

    /// The rows of `frame`, in order, in frames that fit. Frames are cut by their average row, so
    /// one that holds a few very long rows can be far over its target size.
    ///
    /// # Errors
    /// `ResourceExhausted`: a single row does not fit.
    pub fn cut(self, frame: Frame, schema: &SchemaRef) -> Result<VecDeque<Frame>> {
        let mut fitting = VecDeque::new();
        let mut open = vec![frame];
        while let Some(frame) = open.pop() {
            if self.fits(&frame) {
                fitting.push_back(frame);
                continue;
            }
            if frame.rows <= 1 {
                return Err(self.row_too_large(&frame));
            }
            let batch = decode_frame(&frame, schema)?;
            let half = batch.num_rows() / 2;
            let mut pieces = encode_batch(&batch.slice(0, half))?;
            pieces.extend(encode_batch(&batch.slice(half, batch.num_rows() - half))?);
            open.extend(pieces.into_iter().rev());
        }
        Ok(fitting)
    }

    fn row_too_large(self, frame: &Frame) -> EngineError {
        EngineError::ResourceExhausted(format!(
            "one row takes {} bytes, more than the {} of the largest message; select fewer columns, or let the client \
             take larger messages and say so with the header {HEADER} (ADBC: option \
             adbc.flight.sql.client_option.with_max_msg_size and adbc.flight.sql.rpc.call_header.{HEADER})",
            frame.header.len() + frame.body.len(),
            self.0
        ))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batch(lengths: &[usize]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true)]));
        let texts: Vec<String> = lengths.iter().enumerate().map(|(n, l)| format!("{n}:{}", "x".repeat(*l))).collect();
        RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(texts))]).unwrap()
    }

    fn texts(frames: impl IntoIterator<Item = Frame>, schema: &SchemaRef) -> Vec<String> {
        let mut found = Vec::new();
        for frame in frames {
            let batch = decode_frame(&frame, schema).unwrap();
            let column = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
            found.extend((0..column.len()).map(|row| column.value(row).to_owned()));
        }
        found
    }

    #[test]
    fn frames_with_a_few_long_rows_are_cut_and_keep_their_order() {
        // 1,000 short rows and five of 1.5 MB next to each other: by the average row they share a frame.
        let mut lengths = vec![10; 1_000];
        lengths.splice(400..405, [1_500_000; 5]);
        let batch = batch(&lengths);
        let schema = batch.schema();
        let limit = MessageLimit::default();
        let frames = encode_batch(&batch).unwrap();
        assert!(frames.iter().any(|frame| !limit.fits(frame)), "nothing to cut");
        let mut cut = Vec::new();
        for frame in frames {
            cut.extend(limit.cut(frame, &schema).unwrap());
        }
        assert!(cut.iter().all(|frame| limit.fits(frame)));
        let expected: Vec<String> =
            lengths.iter().enumerate().map(|(n, l)| format!("{n}:{}", "x".repeat(*l))).collect();
        assert!(texts(cut, &schema) == expected, "rows lost or out of order");
    }

    #[test]
    fn a_row_that_fits_nowhere_is_named_with_its_size() {
        let batch = batch(&[10, 5_000_000, 10]);
        let schema = batch.schema();
        let frame = encode_batch(&batch).unwrap().into_iter().max_by_key(|f| f.body.len()).unwrap();
        let error = MessageLimit::default().cut(frame.clone(), &schema).unwrap_err();
        assert!(matches!(error, EngineError::ResourceExhausted(_)));
        assert!(error.to_string().contains("takes 5000") && error.to_string().contains(HEADER), "{error}");
        assert!(MessageLimit(8_000_000).cut(frame, &schema).is_ok());
    }

    #[test]
    fn the_header_raises_the_limit() {
        let mut headers = MetadataMap::new();
        assert_eq!(MessageLimit::of_headers(&headers).unwrap(), MessageLimit(4_000_000));
        headers.insert(HEADER, "16777216".parse().unwrap());
        assert_eq!(MessageLimit::of_headers(&headers).unwrap(), MessageLimit(16 << 20));
        for wrong in ["16M", "-1", "10", "99999999999999999999"] {
            headers.insert(HEADER, wrong.parse().unwrap());
            assert_eq!(MessageLimit::of_headers(&headers).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }
}
