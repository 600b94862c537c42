//! A query's rows as Flight messages: the schema at once, then frames, then the end, which is an
//! error unless every row was given.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_flight::FlightData;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use skyflight_engine::dispatch::{ChunkDispatcher, DispatchRequest};
use skyflight_engine::frames::{Frame, encode_batch, encode_schema};
use skyflight_engine::message_limit::MessageLimit;
use skyflight_engine::{EngineError, PlannedQuery, Result};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::error::status_of;
use crate::query::{Place, QueryLife, frames_of};

/// The answer of DoGet.
pub(super) type FlightDataStream = BoxStream<'static, Result<FlightData, Status>>;

/// The rows of one query. Dropping it stops the query and closes its record.
pub(super) struct Rows {
    schema: SchemaRef,
    /// The schema message, until it was sent.
    opening: Option<FlightData>,
    frames: BoxStream<'static, Result<Frame>>,
    /// Pieces of a frame that was too large for one message.
    cut: VecDeque<Frame>,
    limit: MessageLimit,
    query_id: Uuid,
    life: QueryLife,
    ended: bool,
    _place: Place,
}

impl Rows {
    /// Starts `planned`, whose rows are told to be of `schema`.
    ///
    /// Errors: the plan cannot be started; the record is then closed as failed.
    pub(super) fn start(
        planned: PlannedQuery,
        schema: SchemaRef,
        mut life: QueryLife,
        place: Place,
        dispatcher: &Arc<dyn ChunkDispatcher>,
        cpu: &Handle,
        limit: MessageLimit,
    ) -> Result<Rows, Status> {
        life.executing();
        let query_id = planned.query().id;
        match frames_of(&planned, dispatcher, cpu) {
            Ok(frames) => Ok(Rows::new(frames, schema, query_id, life, place, limit)),
            Err(error) => {
                life.fail(&error);
                Err(status_of(&error, Some(query_id)))
            }
        }
    }

    /// Relays what a dispatch gives, whose rows are told to be of `schema`.
    pub(super) fn relay(
        request: DispatchRequest,
        schema: SchemaRef,
        mut life: QueryLife,
        place: Place,
        dispatcher: &Arc<dyn ChunkDispatcher>,
        limit: MessageLimit,
    ) -> Rows {
        life.executing();
        let query_id = request.query.id;
        Rows::new(dispatcher.dispatch(request), schema, query_id, life, place, limit)
    }

    fn new(
        frames: BoxStream<'static, Result<Frame>>,
        schema: SchemaRef,
        query_id: Uuid,
        life: QueryLife,
        place: Place,
        limit: MessageLimit,
    ) -> Rows {
        let (opening, cut) = (Some(schema_message(&schema)), VecDeque::new());
        Rows { opening, schema, frames, cut, limit, query_id, life, ended: false, _place: place }
    }

    /// The query whose rows these are.
    pub(super) fn query_id(&self) -> Uuid {
        self.query_id
    }

    /// The token by which the query is cancelled.
    pub(super) fn cancel_token(&self) -> CancellationToken {
        self.life.cancel_token()
    }

    /// Closes the record of the query as cancelled: what its client is told.
    pub(super) fn cancelled(mut self) -> Status {
        self.fail(&EngineError::Cancelled)
    }

    fn fail(&mut self, error: &EngineError) -> Status {
        self.ended = true;
        self.life.fail(error);
        status_of(error, Some(self.query_id))
    }

    fn send(&mut self, frame: Frame) -> FlightData {
        self.life.sent(frame.rows, (frame.header.len() + frame.body.len()) as u64);
        frame_message(frame)
    }
}

impl Stream for Rows {
    type Item = Result<FlightData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(Ok(opening)));
        }
        loop {
            if let Some(frame) = self.cut.pop_front() {
                return Poll::Ready(Some(Ok(self.send(frame))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match std::task::ready!(self.frames.poll_next_unpin(context)) {
                Some(Ok(frame)) if self.limit.fits(&frame) => return Poll::Ready(Some(Ok(self.send(frame)))),
                Some(Ok(frame)) => match self.limit.cut(frame, &self.schema) {
                    Ok(pieces) => self.cut = pieces,
                    Err(error) => return Poll::Ready(Some(Err(self.fail(&error)))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(&error)))),
                None => {
                    self.ended = true;
                    self.life.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }
}

/// A few batches that are there already.
///
/// Errors: `ResourceExhausted` when a single row is over the limit.
pub(super) fn batch_messages(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    limit: MessageLimit,
) -> Result<FlightDataStream, Status> {
    let failed = |error: EngineError| status_of(&error, None);
    let mut messages = vec![Ok(schema_message(schema))];
    for batch in batches {
        for frame in encode_batch(batch).map_err(failed)? {
            let pieces = limit.cut(frame, schema).map_err(failed)?;
            messages.extend(pieces.into_iter().map(|piece| Ok(frame_message(piece))));
        }
    }
    Ok(futures::stream::iter(messages).boxed())
}

/// The schema message that opens a stream.
pub(super) fn schema_message(schema: &Schema) -> FlightData {
    FlightData { data_header: encode_schema(schema), ..FlightData::default() }
}

/// A frame as a message; header and body are handed on, not copied.
pub(super) fn frame_message(frame: Frame) -> FlightData {
    FlightData { data_header: frame.header, data_body: frame.body, app_metadata: Bytes::new(), flight_descriptor: None }
}
