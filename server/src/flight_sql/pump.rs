//! Between a query's rows and the connection: a client that stops reading holds a few messages, and its
//! query can be cancelled all the same.

use arrow_flight::FlightData;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::rows::{FlightDataStream, Rows};
use crate::error::internal;

/// Messages that may wait for the connection. They share their bytes with the frames, so this costs no copy.
const MESSAGES_AHEAD: usize = 2;

/// The messages of `rows`, which a task of its own hands on. When the query is cancelled, its record is
/// closed and its place is free at once, whether or not anybody reads. Dropping the stream stops the query.
pub(super) fn pumped(rows: Rows) -> FlightDataStream {
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
    let pump = AbortOnDropHandle::new(Handle::current().spawn(pump(rows, sender)));
    futures::stream::unfold((receiver, Some(pump)), |(mut receiver, pump)| async move {
        let pump = pump?;
        if let Some(message) = receiver.recv().await {
            return Some((Ok(message), (receiver, Some(pump))));
        }
        // The channel is let go at the end, by an error, and by a panic: then rows are missing.
        match pump.await {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some((Err(status), (receiver, None))),
            Err(failure) => Some((Err(internal("handing on the rows failed", failure)), (receiver, None))),
        }
    })
    .boxed()
}

async fn pump(mut rows: Rows, sender: mpsc::Sender<FlightData>) -> Result<(), Status> {
    let cancel = rows.cancel_token();
    // A cancelled query ends its rows by itself; what has to be watched is the client.
    while let Some(message) = rows.next().await {
        let message = message?;
        tokio::select! {
            biased;
            sent = sender.send(message) => if sent.is_err() {
                return Ok(());
            },
            () = cancel.cancelled() => return Err(why_cancelled(rows).await),
        }
    }
    Ok(())
}

/// A query that fails is cancelled as well: then its rows end with what went wrong.
async fn why_cancelled(mut rows: Rows) -> Status {
    while let Some(message) = rows.next().await {
        if let Err(status) = message {
            return status;
        }
    }
    rows.cancelled()
}
