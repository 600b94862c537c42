//! A task's stream as a client reads it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use arrow_flight::FlightData;
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use futures::{FutureExt, Stream, StreamExt};
use skyflight_engine::frames::{Frame, decode_schema, encode_schema, frame_rows};
use skyflight_engine::message_limit::MessageLimit;
use skyflight_engine::schema::same_types;
use skyflight_proto::task_message::Body;
use skyflight_proto::{Message, TaskMessage};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use super::recall::RunningStream;
use crate::task::TaskStream;
use crate::{Result, WorkerError};

/// The rows of one endpoint: the promised schema, record batches, and the end, which is an error
/// unless every chunk was given whole. Dropping it ends the task.
pub(crate) struct ClientRows {
    /// `None` once the stream has ended.
    task: Option<TaskStream>,
    promised: SchemaRef,
    /// Whether the task's own schema has been seen.
    opened: bool,
    /// Pieces of a frame that was too large for one message.
    cut: VecDeque<Frame>,
    limit: MessageLimit,
    /// Chunks asked for, and chunks whose trailer has passed.
    chunks: usize,
    closed: usize,
    recalled: Pin<Box<WaitForCancellationFutureOwned>>,
    _running: RunningStream,
}

impl ClientRows {
    pub(super) fn new(
        task: TaskStream,
        promised: SchemaRef,
        chunks: usize,
        limit: MessageLimit,
        running: RunningStream,
    ) -> ClientRows {
        ClientRows {
            task: Some(task),
            promised,
            opened: false,
            cut: VecDeque::new(),
            limit,
            chunks,
            closed: 0,
            recalled: Box::pin(running.recalled()),
            _running: running,
        }
    }

    /// What the client gets of one message of the task; nothing for marks.
    fn take(&mut self, message: FlightData) -> Result<Option<FlightData>> {
        if !self.opened {
            self.opened = true;
            let found = decode_schema(&message.data_header)?;
            if !same_types(&found, &self.promised) {
                let what = "the fragment's rows have other types than the client was promised";
                return Err(WorkerError::Invalid(what.into()));
            }
            return Ok(Some(FlightData { data_header: encode_schema(&self.promised), ..FlightData::default() }));
        }
        let mark = TaskMessage::decode(message.app_metadata).ok().and_then(|mark| mark.body);
        match mark {
            Some(Body::Batch(_)) => {
                let rows = frame_rows(&message.data_header)?;
                self.pass(Frame { header: message.data_header, body: message.data_body, rows })
            }
            Some(Body::Trailer(_)) => {
                self.closed += 1;
                Ok(None)
            }
            Some(Body::Done(done)) if self.closed == self.chunks && done.chunks as usize == self.chunks => {
                // The one place where the rows can end well.
                self.task = None;
                Ok(None)
            }
            Some(Body::Done(_)) => {
                let (closed, chunks) = (self.closed, self.chunks);
                Err(WorkerError::Panicked(format!("the task ended after {closed} of {chunks} chunks")))
            }
            None => Err(WorkerError::Panicked("the task sent a message that is no part of its stream".into())),
        }
    }

    fn pass(&mut self, frame: Frame) -> Result<Option<FlightData>> {
        if frame.rows == 0 {
            return Ok(None);
        }
        if self.limit.fits(&frame) {
            return Ok(Some(message(frame)));
        }
        self.cut = self.limit.cut(frame, &self.promised)?;
        Ok(self.cut.pop_front().map(message))
    }

    fn fail(&mut self, error: WorkerError) -> Option<Result<FlightData, Status>> {
        self.task = None;
        self.cut.clear();
        Some(Err(error.into()))
    }
}

impl Stream for ClientRows {
    type Item = Result<FlightData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.as_mut().get_mut();
        loop {
            if let Some(piece) = this.cut.pop_front() {
                return Poll::Ready(Some(Ok(message(piece))));
            }
            let Some(task) = &mut this.task else { return Poll::Ready(None) };
            if this.recalled.poll_unpin(context).is_ready() {
                return Poll::Ready(this.fail(WorkerError::Recalled));
            }
            match std::task::ready!(task.poll_next_unpin(context)) {
                Some(Ok(data)) => match this.take(data) {
                    Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(this.fail(error)),
                },
                Some(Err(status)) => {
                    this.task = None;
                    return Poll::Ready(Some(Err(status)));
                }
                None => {
                    let cut_off = WorkerError::Panicked("the task ended without a last word".into());
                    return Poll::Ready(this.fail(cut_off));
                }
            }
        }
    }
}

/// A frame as a message without marks; header and body are handed on, not copied.
fn message(frame: Frame) -> FlightData {
    FlightData { data_header: frame.header, data_body: frame.body, app_metadata: Bytes::new(), flight_descriptor: None }
}
