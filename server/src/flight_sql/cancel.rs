//! Cancelling a query or a job, by its id or by what a client was told of it.

use std::time::Duration;

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, Any, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use bytes::Bytes;
use prost::Message;
use skyflight_catalog::{CatalogError, QueryState};
use skyflight_engine::EngineError;
use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::statement::Statements;
use crate::error::{bad_request, status_of};
use crate::jobs::no_job;
use crate::session::Caller;

/// How long a cancelled query may take to stop before its canceller is told that it still does.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(5);

impl Statements {
    /// Serves the action CancelFlightInfo.
    ///
    /// Errors: `InvalidArgument` for a body that is not the request; `NotFound` for what is not the caller's.
    pub(super) async fn cancel_flight_info(&self, caller: &Caller, body: &[u8]) -> Result<Bytes, Status> {
        // Some clients wrap it, as they do the actions of Flight SQL.
        let request = match Any::decode(body).ok().filter(|any| any.type_url.ends_with("CancelFlightInfoRequest")) {
            Some(any) => CancelFlightInfoRequest::decode(any.value),
            None => CancelFlightInfoRequest::decode(body),
        };
        let info = request.ok().and_then(|request| request.info);
        let info =
            info.ok_or_else(|| bad_request("the action's body is not a CancelFlightInfoRequest with its info"))?;
        let status = self.cancel_told(caller, &info).await?;
        Ok(Bytes::from(CancelFlightInfoResult::new(status).encode_to_vec()))
    }

    /// Serves the action CancelQuery, the older form of the same.
    ///
    /// Errors: as [`Statements::cancel_flight_info`].
    pub(super) async fn cancel_query(&self, caller: &Caller, body: &[u8]) -> Result<Bytes, Status> {
        let request = Any::decode(body).ok().and_then(|any| any.unpack::<ActionCancelQueryRequest>().ok().flatten());
        let info = request.and_then(|request| FlightInfo::decode(request.info).ok());
        let info =
            info.ok_or_else(|| bad_request("the action's body is not an ActionCancelQueryRequest with its info"))?;
        let status = self.cancel_told(caller, &info).await?;
        // The numbers of both enumerations are the same.
        Ok(Bytes::from(ActionCancelQueryResult { result: status as i32 }.as_any().encode_to_vec()))
    }

    async fn cancel_told(&self, caller: &Caller, info: &FlightInfo) -> Result<CancelStatus, Status> {
        let (mut announced, mut handed_out) = (false, false);
        let mut id = std::str::from_utf8(&info.app_metadata).ok().and_then(|text| text.parse().ok());
        for ticket in info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()) {
            let wrapped = Any::decode(ticket.ticket.clone()).ok();
            let wrapped = wrapped.and_then(|any| any.unpack::<TicketStatementQuery>().ok().flatten());
            let signed = wrapped.ok_or_else(|| bad_request("the info has a ticket that is none of a query's"))?;
            let owner = self.owner_of(&signed.statement_handle)?;
            if owner.user != caller.user {
                return Err(absent(owner.query));
            }
            announced = true;
            handed_out |= owner.handed_out;
            id = Some(owner.query);
        }
        let id = id.ok_or_else(|| bad_request("the info names no query: it has neither a ticket nor an id"))?;
        match self.cancel(caller, id).await? {
            Some(status) => Ok(status),
            // Another coordinator handed it out, and its record is not here yet.
            None if handed_out => {
                self.recall(&caller.user, id).await;
                Ok(CancelStatus::Cancelled)
            }
            // Its plan has waited too long and was dropped; now its ticket is void too.
            None if announced => {
                self.parts().waiting.void(id);
                Ok(CancelStatus::Cancelled)
            }
            None => Err(absent(id)),
        }
    }

    /// Cancels what runs, waits or is queued under an id of the caller's; `None` where there is nothing.
    pub(super) async fn cancel(&self, caller: &Caller, id: Uuid) -> Result<Option<CancelStatus>, Status> {
        let parts = self.parts();
        let job = parts.jobs.cancel(&caller.user, id).await.map_err(|error| status_of(&error, Some(id)))?;
        if job.is_some() {
            return Ok(job);
        }
        let find = || parts.journal.running().find(&caller.user, id);
        let found = find();
        if found.is_empty() {
            return self.ended(caller, id).await;
        }
        parts.waiting.void(id);
        for live in &found {
            live.query.cancel.cancel();
        }
        drop(parts.waiting.take(id));
        if found.iter().any(|live| live.is_part) {
            self.recall(&caller.user, id).await;
        }
        drop(found);
        // A query has stopped when its record is closed: the streams to the workers go with it.
        let deadline = Instant::now() + PATIENCE;
        while !find().is_empty() {
            if Instant::now() >= deadline {
                return Ok(Some(CancelStatus::Cancelling));
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(Some(CancelStatus::Cancelled))
    }

    /// What can be said of a query that does not live.
    async fn ended(&self, caller: &Caller, id: Uuid) -> Result<Option<CancelStatus>, Status> {
        let parts = self.parts();
        // It may have ended, or have been handed out, a moment ago.
        parts.journal.settled().await;
        match parts.store.query(&id.to_string()).await {
            Ok(record) if record.user == caller.user => Ok(Some(match record.state {
                QueryState::Cancelled => CancelStatus::Cancelled,
                // Its rows go from the workers to the client; whether they still do is not known here.
                QueryState::Direct => {
                    self.recall(&caller.user, id).await;
                    CancelStatus::Cancelled
                }
                QueryState::Running | QueryState::Finished | QueryState::Failed => CancelStatus::NotCancellable,
            })),
            Ok(_) | Err(CatalogError::NotFound { .. }) => Ok(None),
            Err(error) => Err(status_of(&EngineError::Catalog(error), Some(id))),
        }
    }
}

/// The same for what does not exist and for what is another's.
pub(super) fn absent(id: impl std::fmt::Display) -> Status {
    status_of(&no_job(&id.to_string()), None)
}

/// How a result of cancelling is told in rows.
pub(super) fn word(status: CancelStatus) -> &'static str {
    match status {
        CancelStatus::Cancelled => "cancelled",
        CancelStatus::Cancelling => "cancelling",
        CancelStatus::NotCancellable | CancelStatus::Unspecified => "not cancellable",
    }
}
