//! PollFlightInfo: a query is submitted as a job by the first descriptor, and watched by those that
//! each answer gives for the next call.

use std::time::Duration;

use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, PollInfo, Ticket};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use futures::StreamExt;
use prost::Message;
use skyflight_catalog::JobState;
use skyflight_engine::frames::decode_schema;
use skyflight_proto::ticket::Body;
use skyflight_proto::{JobTicket, Ticket as SignedTicket};
use tonic::Status;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::commands::Command;
use super::endpoints::{Endpoint, Reach};
use super::metadata::result_schema;
use super::prepared::kept_values;
use super::promise::Owner;
use super::rows::{frame_message, schema_message};
use super::statement::{Announced, Fetched, Statement, Statements};
use crate::clock::unix_ms;
use crate::error::{bad_request, internal, status_of};
use crate::jobs::{JobView, frames, without_rows};
use crate::session::Caller;
use skyflight_engine::message_limit::MessageLimit;

/// The header by which a client says with which batch of a job's rows to begin, counted from 0.
const FIRST_BATCH_HEADER: &str = "x-skyflight-first-batch";

/// How long a poll waits for something new.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a ticket by which a job is watched is good; each poll gives a new one.
const WATCH_TTL: Duration = Duration::from_secs(24 * 3_600);

/// The batch of a job's rows with which a client wants to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstBatch(Option<u64>);

impl FirstBatch {
    /// Errors: `InvalidArgument` when the header is no number.
    pub(super) fn of_headers(headers: &MetadataMap) -> Result<FirstBatch, Status> {
        let Some(value) = headers.get(FIRST_BATCH_HEADER) else { return Ok(FirstBatch(None)) };
        let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        let number = number.ok_or_else(|| bad_request(format!("{FIRST_BATCH_HEADER} is a number, counted from 0")))?;
        Ok(FirstBatch(Some(number)))
    }

    /// What the client says, else what its ticket does.
    pub(super) fn or(self, of_ticket: u64) -> u64 {
        self.0.unwrap_or(of_ticket)
    }
}

impl Statements {
    /// Submits a query, and tells of its job. A statement that is no query is run at once.
    ///
    /// Errors: those of planning; `ResourceExhausted` when its user has too many jobs; `InvalidArgument`
    /// for more values than a job keeps.
    pub(super) async fn poll_statement(
        &self,
        caller: &Caller,
        statement: Statement<'_>,
        descriptor: FlightDescriptor,
    ) -> Result<PollInfo, Status> {
        if !matches!(self.classify(statement.sql)?, Command::Query(_)) {
            let announced = self.announce(caller, statement, Reach::here()).await?;
            return Ok(PollInfo::new().with_info(announced.info(descriptor)?));
        }
        let view = self.submit(caller, statement.sql, statement.values).await?;
        self.poll_info(&view, descriptor)
    }

    /// Accepts a query as a job.
    ///
    /// Errors: as [`Statements::poll_statement`].
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        sql: &str,
        values: Option<&RecordBatch>,
    ) -> Result<JobView, Status> {
        if let Some(values) = values {
            kept_values(values)?;
        }
        let _place = self.parts().gate.enter(&caller.user)?;
        self.parts().jobs.submit(caller, sql, values).await.map_err(|error| status_of(&error, None))
    }

    /// Waits until there is something new of a job, and tells it.
    ///
    /// Errors: `Unauthenticated` for a descriptor that is not ours or has expired; why the job failed.
    pub(super) async fn poll_job(
        &self,
        caller: &Caller,
        signed: &[u8],
        descriptor: FlightDescriptor,
    ) -> Result<PollInfo, Status> {
        let Owner { user, query: id, .. } = self.owner_of(signed)?;
        if user != caller.user {
            return Err(super::cancel::absent(id));
        }
        let view = self.parts().jobs.book().wait(&user, id, PATIENCE).await;
        self.poll_info(&view.map_err(|error| status_of(&error, Some(id)))?, descriptor)
    }

    fn poll_info(&self, view: &JobView, descriptor: FlightDescriptor) -> Result<PollInfo, Status> {
        let id = job_id(view)?;
        let mut poll = PollInfo::new().with_info(self.job_info(view, descriptor)?);
        match view.job.state {
            JobState::Finished => poll = poll.try_with_progress(1.0).map_err(|e| internal("a progress", e))?,
            JobState::Queued | JobState::Running => {
                let expires = unix_ms().saturating_add(WATCH_TTL.as_millis() as i64);
                let again = self.job_ticket(&view.job.user, id, expires);
                poll = poll
                    .with_descriptor(FlightDescriptor::new_cmd(again))
                    .try_with_progress(view.part_done())
                    .map_err(|e| internal("a progress", e))?;
                let expiry = poll.expiration_time.get_or_insert_default();
                expiry.seconds = expires.div_euclid(1_000);
                expiry.nanos = (expires.rem_euclid(1_000) * 1_000_000) as i32;
            }
            JobState::Failed => {
                let failure = view.job.failure.clone();
                let (code, message) = failure.map_or((13, String::new()), |failure| (failure.code, failure.message));
                return Err(Status::new(tonic::Code::from_i32(code), message));
            }
            JobState::Cancelled => return Err(Status::cancelled(format!("job {id} was cancelled"))),
            JobState::Expired => return Err(status_of(&without_rows(view), Some(id))),
        }
        Ok(poll)
    }

    /// What GetFlightInfo tells of a job: endpoints come when it has finished, and stay.
    fn job_info(&self, view: &JobView, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        let id = job_id(view)?;
        let schema = decode_schema(&view.job.schema).map_err(|error| status_of(&error, Some(id)))?;
        let mut info = FlightInfo::new()
            .try_with_schema(&result_schema(&schema))
            .map_err(|e| internal("a schema cannot be encoded", e))?
            .with_descriptor(descriptor)
            .with_app_metadata(id.to_string());
        if let (JobState::Finished, Some(result)) = (view.job.state, view.job.result) {
            let expires = view.job.expires_unix_ms.unwrap_or(i64::MAX);
            let ticket = Ticket::new(self.job_ticket(&view.job.user, id, expires));
            info = info.with_endpoint(expiring(FlightEndpoint::new().with_ticket(ticket), expires));
            info.total_records = i64::try_from(result.rows).unwrap_or(-1);
            info.total_bytes = i64::try_from(result.bytes).unwrap_or(-1);
        }
        Ok(info)
    }

    /// A job's ticket as clients send it: to DoGet for its rows, and as a descriptor to be told of it.
    fn job_ticket(&self, user: &str, id: Uuid, expires_unix_ms: i64) -> Bytes {
        let statement_handle = self.sign_job(user, id, expires_unix_ms);
        Bytes::from(TicketStatementQuery { statement_handle }.as_any().encode_to_vec())
    }

    fn sign_job(&self, user: &str, id: Uuid, expires_unix_ms: i64) -> Bytes {
        self.parts().keys.sign(&SignedTicket {
            expires_unix_ms,
            user: user.to_owned(),
            query_id: Bytes::copy_from_slice(id.as_bytes()),
            body: Some(Body::Job(JobTicket { first_batch: 0 })),
        })
    }

    /// What is announced of a query for all rows of a finished job: the job's own ticket.
    ///
    /// Errors: why it has no rows.
    pub(super) async fn announce_job(&self, caller: &Caller, id: &str) -> Result<Announced, Status> {
        let id: Uuid = id.parse().map_err(|_| super::cancel::absent(id))?;
        let view = self.parts().jobs.book().view(&caller.user, id).await.map_err(|error| status_of(&error, None))?;
        let Some(result) = view.job.result else { return Err(status_of(&without_rows(&view), Some(id))) };
        let schema = decode_schema(&view.job.schema).map_err(|error| status_of(&error, Some(id)))?;
        let expires_unix_ms = view.job.expires_unix_ms.unwrap_or(i64::MAX);
        Ok(Announced {
            schema: result_schema(&schema),
            endpoints: vec![Endpoint::here(self.sign_job(&caller.user, id, expires_unix_ms))],
            query_id: id,
            rows: Some(result.rows),
            expires_unix_ms,
        })
    }

    /// The rows of a finished job from batch number `first` on; each message says the number of its batch.
    ///
    /// Errors: `NotFound` for a job that is gone; why it has no rows; `InvalidArgument` for a batch that
    /// there is not.
    pub(super) async fn fetch_job(
        &self,
        user: &str,
        id: Uuid,
        first: u64,
        limit: MessageLimit,
    ) -> Result<Fetched, Status> {
        let failed = move |error| status_of(&error, Some(id));
        let place = self.parts().gate.enter(user)?;
        let (view, file) = self.parts().jobs.book().result(user, id).await.map_err(failed)?;
        let batches = file.batches();
        let first = usize::try_from(first).ok().filter(|first| *first <= batches);
        let first = first.ok_or_else(|| bad_request(format!("job {id} has {batches} batches, numbered from 0")))?;
        let schema = std::sync::Arc::clone(file.schema());
        let opening = schema_message(&result_schema(&schema));
        let numbered = frames(view.job.id, file, first).zip(futures::stream::iter(first..));
        let rows = numbered.flat_map(move |(frame, number)| {
            // The place among running queries goes with the stream.
            let _place = &place;
            let pieces =
                frame.and_then(|frame| if limit.fits(&frame) { Ok([frame].into()) } else { limit.cut(frame, &schema) });
            let messages: Vec<_> = match pieces {
                Ok(pieces) => pieces
                    .into_iter()
                    .map(|piece| Ok(frame_message(piece).with_app_metadata(number.to_string())))
                    .collect(),
                Err(error) => vec![Err(failed(error))],
            };
            futures::stream::iter(messages)
        });
        let messages = futures::stream::once(async { Ok(opening) }).chain(rows);
        Ok(Fetched { messages: until_error(messages).boxed(), query_id: id })
    }
}

/// Nothing follows an error.
fn until_error<T: Send>(
    messages: impl futures::Stream<Item = Result<T, Status>> + Send,
) -> impl futures::Stream<Item = Result<T, Status>> + Send {
    messages.scan(false, |failed, message| {
        let go_on = !*failed;
        *failed |= message.is_err();
        std::future::ready(go_on.then_some(message))
    })
}

fn job_id(view: &JobView) -> Result<Uuid, Status> {
    view.job.id.parse().map_err(|error| internal("a job has no id", error))
}

/// The endpoint with the time until which its ticket is good.
pub(super) fn expiring(mut endpoint: FlightEndpoint, expires_unix_ms: i64) -> FlightEndpoint {
    let expiry = endpoint.expiration_time.get_or_insert_default();
    expiry.seconds = expires_unix_ms.div_euclid(1_000);
    expiry.nanos = (expires_unix_ms.rem_euclid(1_000) * 1_000_000) as i32;
    endpoint
}
