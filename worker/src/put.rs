//! Receiving one chunk file by DoPut.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightData;
use skyflight_proto::ticket::Body;
use skyflight_proto::{FileReceipt, PutFileTicket};
use tonic::{Status, Streaming};

use crate::WorkerError;
use crate::store::IncomingFile;
use crate::worker::{Worker, blocking};

/// How long a sender may be silent in the midst of a file.
const SILENCE: Duration = Duration::from_secs(60);

/// Takes in the file that the stream's first message has a ticket for. If the stream breaks off
/// nothing of the file remains.
pub(crate) async fn receive(worker: &Worker, mut stream: Streaming<FlightData>) -> Result<FileReceipt, Status> {
    let Some(first) = next(worker, &mut stream).await? else {
        return Err(WorkerError::Invalid("a file starts with its ticket".into()).into());
    };
    let ticket = ticket(worker, &first)?;
    let _turn = worker.puts.acquire().await.map_err(|_closed| WorkerError::ShuttingDown)?;
    let store = Arc::clone(&worker.store);
    let mut file = blocking(move || IncomingFile::begin(store, &ticket)).await?;
    while let Some(message) = next(worker, &mut stream).await? {
        file = blocking(move || file.append(&message.data_body).map(|()| file)).await?;
    }
    Ok(blocking(move || file.finish()).await?)
}

fn ticket(worker: &Worker, first: &FlightData) -> Result<PutFileTicket, WorkerError> {
    let signed = first.flight_descriptor.as_ref().map(|d| d.cmd.as_ref()).unwrap_or_default();
    match worker.verify(signed)?.body {
        Some(Body::PutFile(ticket)) if first.data_body.is_empty() => Ok(ticket),
        Some(Body::PutFile(_)) => {
            Err(WorkerError::Invalid("the first message of a file carries its ticket alone".into()))
        }
        _ => Err(WorkerError::Invalid("DoPut on a worker takes the ticket of a file".into())),
    }
}

async fn next(worker: &Worker, stream: &mut Streaming<FlightData>) -> Result<Option<FlightData>, Status> {
    tokio::select! {
        message = tokio::time::timeout(SILENCE, stream.message()) => match message {
            Ok(message) => message,
            Err(_elapsed) => Err(WorkerError::PutStalled { seconds: SILENCE.as_secs() }.into()),
        },
        () = worker.stop.cancelled() => Err(WorkerError::ShuttingDown.into()),
    }
}
