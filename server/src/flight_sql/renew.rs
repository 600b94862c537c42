//! RenewFlightEndpoint: the same rows for longer, up to a bound.

use arrow_flight::sql::{Any, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightEndpoint, RenewFlightEndpointRequest, Ticket};
use bytes::Bytes;
use prost::Message;
use skyflight_engine::EngineError;
use skyflight_proto::FailureKind;
use skyflight_proto::ticket::Body;
use tonic::Status;
use uuid::Uuid;

use super::poll::expiring;
use super::promise::query_id;
use super::statement::Statements;
use crate::clock::unix_ms;
use crate::error::{bad_request, status_of};
use crate::session::Caller;

impl Statements {
    /// Serves the action RenewFlightEndpoint: the endpoint with a ticket that is good for the usual time
    /// from now. The rows of a job are kept as long as its record says, so its ticket stays as it is.
    ///
    /// Errors: `InvalidArgument` for a body that is not the request; `Unauthenticated` for a ticket that
    /// has expired; `PermissionDenied` for another's; `Cancelled` for a cancelled query's;
    /// `FailedPrecondition` when it cannot live longer.
    pub(super) fn renew(&self, caller: &Caller, body: &[u8]) -> Result<Bytes, Status> {
        let request = RenewFlightEndpointRequest::decode(body).ok().and_then(|request| request.endpoint);
        let endpoint = request.ok_or_else(|| bad_request("the action's body is not a RenewFlightEndpointRequest"))?;
        let wrapped = endpoint.ticket.as_ref().and_then(|ticket| Any::decode(ticket.ticket.clone()).ok());
        let wrapped = wrapped.and_then(|any| any.unpack::<TicketStatementQuery>().ok().flatten());
        let wrapped = wrapped.ok_or_else(|| bad_request("the endpoint has no ticket of a query's rows"))?;
        let parts = self.parts();
        let now = unix_ms();
        let mut ticket = parts.keys.verify(&wrapped.statement_handle, now)?;
        if ticket.user != caller.user {
            return Err(FailureKind::PermissionDenied.status("only the user of a query can renew its ticket"));
        }
        let ttl = match &ticket.body {
            Some(Body::Job(_)) => None,
            Some(Body::Statement(statement)) if !statement.prepared => Some(parts.ticket_ttl),
            Some(Body::Endpoint(_)) => Some(self.endpoint_ttl()),
            _ => return Err(bad_request("this ticket is none of a query's rows")),
        };
        if let Some(ttl) = ttl {
            let query = query_id(&ticket)?;
            if parts.waiting.is_void(query) {
                return Err(status_of(&EngineError::Cancelled, Some(query)));
            }
            let last = born_unix_ms(&ticket.query_id).saturating_add(parts.renewal_limit.as_millis() as i64);
            let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
            let renewed = now.saturating_add(ttl).min(last);
            if renewed <= ticket.expires_unix_ms && last <= now.saturating_add(ttl) {
                return Err(FailureKind::FailedPrecondition.status(format!(
                    "a ticket lives {} h at most, and this one is at its end; run the query again, or submit it \
                     as a job",
                    parts.renewal_limit.as_secs().div_ceil(3_600)
                )));
            }
            ticket.expires_unix_ms = renewed.max(ticket.expires_unix_ms);
        }
        let signed = TicketStatementQuery { statement_handle: parts.keys.sign(&ticket) }.as_any().encode_to_vec();
        let renewed = FlightEndpoint { ticket: Some(Ticket::new(signed)), ..endpoint };
        Ok(Bytes::from(expiring(renewed, ticket.expires_unix_ms).encode_to_vec()))
    }
}

/// When a query was accepted, which its id tells; 0 for an id that does not.
fn born_unix_ms(query_id: &[u8]) -> i64 {
    let timestamp = Uuid::from_slice(query_id).ok().and_then(|id| id.get_timestamp());
    timestamp.map_or(0, |timestamp| {
        let (seconds, nanos) = timestamp.to_unix();
        i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000).saturating_add(i64::from(nanos / 1_000_000))
    })
}
