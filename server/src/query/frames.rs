//! The rows of a planned query as encoded frames.

use std::sync::Arc;

use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use futures::stream::BoxStream;
use skyflight_engine::dispatch::ChunkDispatcher;
use skyflight_engine::fragment::error_of;
use skyflight_engine::frames::{Frame, encode_batch};
use skyflight_engine::{EngineError, PlannedQuery, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Encoded frames that may wait for their reader: about as many MiB.
const FRAMES_AHEAD: usize = 4;

/// Starts `planned`. Where its rows are exactly the workers' frames these are relayed undecoded;
/// otherwise the merge plan runs and its batches are encoded on `cpu`.
///
/// Errors: the plan cannot be started.
pub(crate) fn frames_of(
    planned: &PlannedQuery,
    dispatcher: &Arc<dyn ChunkDispatcher>,
    cpu: &Handle,
) -> Result<BoxStream<'static, Result<Frame>>> {
    match planned.relay()? {
        Some(request) => Ok(dispatcher.dispatch(request)),
        None => Ok(encoded(planned.execute()?, cpu)),
    }
}

/// Batches as frames, encoded by a task on `cpu` that keeps at most [`FRAMES_AHEAD`] ahead.
fn encoded(mut batches: SendableRecordBatchStream, cpu: &Handle) -> BoxStream<'static, Result<Frame>> {
    let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
    let encoder = AbortOnDropHandle::new(cpu.spawn(async move {
        while let Some(batch) = batches.next().await {
            let frames = match batch.map_err(error_of).and_then(|batch| encode_batch(&batch)) {
                Ok(frames) => frames,
                Err(error) => {
                    // The reader may have gone; then nobody wants to know.
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            for frame in frames {
                if sender.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
        }
    }));
    futures::stream::unfold((receiver, Some(encoder)), |(mut receiver, encoder)| async move {
        let encoder = encoder?;
        if let Some(frame) = receiver.recv().await {
            // After an error nothing follows.
            let encoder = frame.is_ok().then_some(encoder);
            return Some((frame, (receiver, encoder)));
        }
        // The channel is let go by an encoder that is done, but by one that panicked too, and then
        // rows are missing.
        match encoder.await {
            Ok(()) => None,
            Err(failure) => {
                let error = EngineError::Internal(format!("encoding the rows failed: {failure}"));
                Some((Err(error), (receiver, None)))
            }
        }
    })
    .boxed()
}
