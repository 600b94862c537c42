//! Rows straight to a client: DoGet of the ticket of one endpoint.
//!
//! The task runs as it would for a coordinator. Here its stream is turned into what the client was
//! promised: the promised schema at once, record batches without marks and no larger than the client
//! takes, and an end that is an error unless every chunk of the endpoint was given whole. Nothing is
//! retried: a client that has lost a worker in mid-stream is told so.

mod recall;
mod rows;
mod session;

use std::sync::Arc;

use arrow_flight::sql::{Any, TicketStatementQuery};
use bytes::Bytes;
use skyflight_engine::frames::decode_schema;
use skyflight_engine::message_limit::MessageLimit;
use skyflight_proto::{EndpointTicket, Message};
use uuid::Uuid;

pub(crate) use recall::Recalls;
pub(crate) use rows::ClientRows;
pub(crate) use session::{
    CLOSE_SESSION, GET_SESSION_OPTIONS, SET_SESSION_OPTIONS, close_session, get_session_options, handshake,
    set_session_options,
};

use crate::worker::Worker;
use crate::{Result, WorkerError, task};

/// The signed ticket in what a client redeems: clients of Flight SQL have it inside the message
/// `TicketStatementQuery`, coordinators send it as it is.
pub(crate) fn unwrapped(ticket: Bytes) -> Bytes {
    let statement =
        Any::decode(ticket.clone()).ok().and_then(|any| any.unpack::<TicketStatementQuery>().ok().flatten());
    statement.map_or(ticket, |statement| statement.statement_handle)
}

/// Starts the rows that a verified ticket promises to a client.
///
/// # Errors
/// `Invalid` for a ticket that contradicts itself, `Recalled` where the query was cancelled, and those
/// of [`task::start`]. Whatever goes wrong later ends the stream.
pub(crate) async fn start(
    worker: &Arc<Worker>,
    query_id: &[u8],
    ticket: EndpointTicket,
    limit: MessageLimit,
) -> Result<ClientRows> {
    let task = ticket.task.ok_or_else(|| WorkerError::Invalid("the ticket of an endpoint has no task".into()))?;
    let query = Uuid::from_slice(query_id).map_err(|_| WorkerError::Invalid("a query's id has 16 bytes".into()))?;
    let promised = decode_schema(&ticket.schema)?;
    let running = worker.recalls.enter(query)?;
    let chunks = task.chunks.len();
    let rows = task::start(worker, query_id, task).await?;
    Ok(ClientRows::new(rows, promised, chunks, limit, running))
}
