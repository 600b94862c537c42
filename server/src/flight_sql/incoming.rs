//! Rows that a client streams to the server: bound values and uploads.
//!
//! Crafted IPC has made decoders panic, so a stream is decoded in a task of its own, where a panic is
//! this client's error and nobody else's. A failed allocation would be everybody's: see [`super::growth`].

use std::time::Duration;

use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use skyflight_proto::FailureKind;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::growth::{Growth, pieces, plain_bytes};
use crate::error::bad_request;

/// Batches that may wait for whoever takes them.
const BATCHES_AHEAD: usize = 2;

/// How long a client may pause between messages: some compute what they send.
const SILENCE: Duration = Duration::from_secs(600);

/// Messages without rows that are read of one stream.
const MOST_EMPTY: usize = 1_000;

/// The rows of a stream.
pub(super) struct Incoming {
    pub(super) schema: SchemaRef,
    pub(super) batches: BoxStream<'static, Result<RecordBatch, Status>>,
}

impl Incoming {
    /// Reads the rest of a DoPut stream, of which `first` was read. `None` where it has no schema, which
    /// is how clients say that they have no rows to send.
    ///
    /// Errors: `InvalidArgument` for what is not Arrow IPC; what the connection says.
    pub(super) async fn read(
        first: FlightData,
        rest: Streaming<FlightData>,
        cpu: &Handle,
    ) -> Result<Option<Incoming>, Status> {
        let (batches, decoded) = mpsc::channel(BATCHES_AHEAD);
        let (tell_schema, schema) = oneshot::channel();
        let decoder = AbortOnDropHandle::new(cpu.spawn(decode(first, rest, tell_schema, batches)));
        let schema = match schema.await {
            Ok(schema) => schema?,
            Err(_) => return Err(undecodable("the decoder failed")),
        };
        let Some(schema) = schema else { return Ok(None) };
        let batches = futures::stream::unfold((decoded, Some(decoder)), |(mut decoded, decoder)| async move {
            let decoder = decoder?;
            if let Some(batch) = decoded.recv().await {
                let decoder = Result::<RecordBatch, Status>::is_ok(&batch).then_some(decoder);
                return Some((batch, (decoded, decoder)));
            }
            // The channel is let go by a decoder that is done, and by one that panicked.
            match decoder.await {
                Ok(()) => None,
                Err(failure) => Some((Err(undecodable(&failure.to_string())), (decoded, None))),
            }
        });
        Ok(Some(Incoming { schema, batches: batches.boxed() }))
    }

    /// All of a stream that should be small.
    ///
    /// Errors: as [`Incoming::read`]; `InvalidArgument` beyond `most_bytes`.
    pub(super) async fn collect(mut self, most_bytes: u64) -> Result<Vec<RecordBatch>, Status> {
        let (mut batches, mut bytes) = (Vec::new(), 0_u64);
        while let Some(batch) = self.batches.try_next().await? {
            bytes = bytes.saturating_add(plain_bytes(&batch));
            if bytes > most_bytes {
                return Err(bad_request(format!(
                    "the bound values take more than {most_bytes} bytes; upload them as a table"
                )));
            }
            batches.push(batch);
        }
        Ok(batches)
    }
}

async fn decode(
    first: FlightData,
    rest: Streaming<FlightData>,
    tell_schema: oneshot::Sender<Result<Option<SchemaRef>, Status>>,
    batches: mpsc::Sender<Result<RecordBatch, Status>>,
) {
    let rest = futures::stream::unfold(Some(rest), |rest| async move {
        let mut rest = rest?;
        match tokio::time::timeout(SILENCE, rest.message()).await {
            Ok(Ok(message)) => message.map(|message| (Ok(message), Some(rest))),
            Ok(Err(status)) => Some((Err(FlightError::from(status)), None)),
            Err(_) => {
                let silent = format!("nothing was sent for {} s", SILENCE.as_secs());
                Some((Err(FlightError::from(FailureKind::DeadlineExceeded.status(silent))), None))
            }
        }
    });
    let messages = futures::stream::once(async { Ok(first) }).chain(rest);
    // A descriptor may come alone, before the schema or without any.
    let (mut empty, mut growth) = (0, Growth::default());
    let messages = messages.try_filter_map(move |message| {
        let is_empty = message.data_header.is_empty();
        empty += usize::from(is_empty);
        let message = match is_empty {
            true if empty > MOST_EMPTY => Err(FlightError::DecodeError("the stream does not begin".to_owned())),
            true => Ok(None),
            false => growth.admit(&message).map(|()| Some(message)).map_err(FlightError::DecodeError),
        };
        std::future::ready(message)
    });
    let mut decoded = FlightRecordBatchStream::new_from_flight_data(messages.boxed());
    let mut next = decoded.next().await;
    // The schema message itself gives no batch: with none, the schema is known at the end of the stream.
    let schema = match &next {
        Some(Err(_)) => None,
        Some(Ok(_)) | None => decoded.schema().cloned(),
    };
    let told = match (schema, next.take_if(|first| first.is_err())) {
        (_, Some(Err(error))) => Err(status_of_flight(error)),
        (schema, _) => Ok(schema),
    };
    let failed = told.is_err();
    // Whoever waited may have gone.
    if tell_schema.send(told).is_err() || failed {
        return;
    }
    while let Some(batch) = next {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // Whoever took the batches may have gone.
                let _ = batches.send(Err(status_of_flight(error))).await;
                return;
            }
        };
        for piece in pieces(&batch) {
            let piece = piece.map_err(|why| undecodable(&why));
            let failed = piece.is_err();
            if batches.send(piece).await.is_err() || failed {
                return;
            }
        }
        next = decoded.next().await;
    }
}

fn status_of_flight(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        FlightError::DecodeError(why) => undecodable(&why),
        other => undecodable(&other.to_string()),
    }
}

fn undecodable(why: &str) -> Status {
    bad_request(format!("the rows sent cannot be read as Arrow IPC: {why}"))
}
