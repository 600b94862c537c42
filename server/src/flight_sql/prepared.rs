//! Prepared statements: a handle is the statement itself, signed, with its parameters and the values
//! bound to them, so that any coordinator can serve it.
//!
//! Binding gives a new handle. Some clients go on with the old one, so the last values bound to a
//! handle are also remembered here for a while; values in the handle itself come before those.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::{FlightDescriptor, PollInfo};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use skyflight_engine::frames::{decode_schema, encode_batches, encode_schema, needed_bytes};
use skyflight_engine::guard::Command;
use skyflight_engine::message_limit::MessageLimit;
use skyflight_engine::parameters::{Described, cast_values};
use skyflight_proto::{FailureKind, StatementTicket};
use tonic::Status;
use uuid::Uuid;

use super::commands::{Outcome, is_update};
use super::endpoints::Reach;
use super::face::MOST_ANSWERED_BYTES;
use super::promise::after;
use super::statement::{Announced, Fetched, HANDLE_TTL, Statement, Statements, bound_values, caller_of, statement_of};
use crate::error::{bad_request, status_of};
use crate::session::Caller;

/// Most bytes of values in a handle, which travels with every call.
const BOUND_BYTES: usize = 1 << 20;

/// Room for what surrounds text and values in a handle, a ticket and the answers that they travel in.
const ENVELOPE_BYTES: usize = 256 << 10;

/// How long values bound to a handle are remembered, and how many bytes of them.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
const REMEMBERED_BYTES: u64 = 64 << 20;

/// A statement that was just prepared.
pub(super) struct Prepared {
    pub(super) described: Described,
    /// A signed `StatementTicket` that is marked as prepared.
    pub(super) handle: Bytes,
    /// Whether it is to be run by DoPut, and gives a count instead of rows.
    pub(super) is_update: bool,
}

/// A verified handle, with the values bound to it.
pub(super) struct PreparedStatement {
    caller: Caller,
    ticket: StatementTicket,
    key: HandleKey,
    values: Option<RecordBatch>,
}

type HandleKey = [u8; 32];

/// The last values bound to each handle.
pub(super) struct Bindings(Cache<HandleKey, RecordBatch>);

impl Bindings {
    pub(super) fn new() -> Self {
        let weigh = |_: &HandleKey, values: &RecordBatch| u32::try_from(needed_bytes(values)).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(REMEMBERED_BYTES).weigher(weigh).time_to_live(REMEMBERED_FOR);
        // The newest binding is the one that is about to be used.
        Bindings(cache.eviction_policy(EvictionPolicy::lru()).build())
    }
}

/// Values as they are kept: in a handle, or with a job.
///
/// Errors: `InvalidArgument` when they are too large.
pub(super) fn kept_values(values: &RecordBatch) -> Result<Bytes, Status> {
    let encoded = encode_batches(&values.schema(), std::slice::from_ref(values));
    let encoded = encoded.map_err(|error| status_of(&error, None))?;
    if encoded.len() > BOUND_BYTES {
        return Err(bad_request(format!(
            "the bound values take {} bytes; at most {BOUND_BYTES} are kept for a query: bind fewer rows, or \
             upload them as a table and join with it",
            encoded.len()
        )));
    }
    Ok(encoded)
}

fn key_of(handle: &[u8]) -> HandleKey {
    Sha256::digest(handle).into()
}

impl PreparedStatement {
    /// The types of its parameters.
    fn parameters(&self) -> Result<SchemaRef, Status> {
        if self.ticket.parameter_schema.is_empty() {
            return Ok(Arc::new(Schema::empty()));
        }
        decode_schema(&self.ticket.parameter_schema).map_err(|error| status_of(&error, None))
    }

    /// Values as the types of its parameters, in one batch; `None` where there are none, or it has no
    /// parameters. A batch without rows stands for no run at all.
    ///
    /// Errors: `InvalidArgument` for values that are too many, too few or of other types.
    fn cast(&self, batches: Option<&[RecordBatch]>) -> Result<Option<RecordBatch>, Status> {
        let Some(batches) = batches else { return Ok(None) };
        let parameters = self.parameters()?;
        let batches = batches.iter().filter(|batch| batch.num_rows() > 0);
        let cast = batches.map(|batch| cast_values(batch, &parameters)).collect::<Result<Vec<_>, _>>();
        let cast = cast.map_err(|error| status_of(&error, None))?;
        if parameters.fields().is_empty() {
            return Ok(None);
        }
        concat_batches(&parameters, &cast).map(Some).map_err(|e| bad_request(format!("the bound values: {e}")))
    }

    fn statement(&self) -> Statement<'_> {
        Statement { sql: &self.ticket.sql, values: self.values.as_ref(), promised: Some(&self.ticket.schema_hash) }
    }
}

impl Statements {
    /// Prepares `sql`: checks that it can be planned, and makes its handle. Nothing is run.
    ///
    /// Errors: as [`Statements::describe`].
    pub(super) async fn prepare(&self, caller: &Caller, sql: &str) -> Result<Prepared, Status> {
        let command = self.classify(sql)?;
        let described = self.describe(caller, &command).await?;
        let parameter_schema = match described.parameters.fields().is_empty() {
            true => Bytes::new(),
            false => encode_schema(&described.parameters),
        };
        let ticket = StatementTicket {
            sql: sql.to_owned(),
            prepared: true,
            parameter_schema,
            ..statement_of(caller, &described.rows)
        };
        // The id makes each preparation a handle of its own, so that values bound to it are not another's.
        let handle = self.sign(&caller.user, Uuid::now_v7(), after(HANDLE_TTL), ticket);
        Ok(Prepared { described, handle, is_update: is_update(&command) })
    }

    /// The statement behind a handle, to be run by `asker`, who prepared it. What its names and the like
    /// mean was settled then.
    ///
    /// Errors: `Unauthenticated` for a handle that is altered, expired or of another kind;
    /// `PermissionDenied` for another user's.
    pub(super) fn prepared(&self, asker: &Caller, handle: &[u8]) -> Result<PreparedStatement, Status> {
        let (signed, ticket) = self.verify(handle)?;
        if !ticket.prepared {
            return Err(FailureKind::Unauthenticated.status("this is not the handle of a prepared statement"));
        }
        if signed.user != asker.user {
            return Err(FailureKind::PermissionDenied
                .status("this statement was prepared by another user; prepare it in this session"));
        }
        let settled = caller_of(signed.user, &ticket);
        let caller = Caller {
            default_database: settled.default_database,
            shuffle: settled.shuffle,
            agent: settled.agent,
            ..asker.clone()
        };
        let key = key_of(handle);
        let values = if ticket.parameter_schema.is_empty() {
            None
        } else if ticket.parameters.is_empty() {
            self.bindings().0.get(&key)
        } else {
            bound_values(&ticket)?
        };
        Ok(PreparedStatement { caller, ticket, key, values })
    }

    /// Binds rows of values: the handle that holds them. Without values the handle stays as it is.
    ///
    /// Errors: `InvalidArgument` for values that are too many, too few, of other types or too large.
    pub(super) fn bind(
        &self,
        statement: &PreparedStatement,
        handle: Bytes,
        batches: Option<&[RecordBatch]>,
    ) -> Result<Bytes, Status> {
        let Some(values) = statement.cast(batches)? else { return Ok(handle) };
        let parameters = kept_values(&values)?;
        // The handle goes to the client, and comes back in tickets.
        let together = statement.ticket.sql.len() + parameters.len() + statement.ticket.parameter_schema.len();
        if together > MOST_ANSWERED_BYTES - ENVELOPE_BYTES {
            return Err(bad_request(format!(
                "the statement and its values take {together} bytes, more than clients take in an answer; bind fewer \
                 rows, or upload them as a table and join with it"
            )));
        }
        let ticket = StatementTicket { parameters, ..statement.ticket.clone() };
        self.bindings().0.insert(statement.key, values);
        Ok(self.sign(&statement.caller.user, Uuid::now_v7(), after(HANDLE_TTL), ticket))
    }

    /// Forgets the values bound to a handle; those in it are not here.
    pub(super) fn forget_values(&self, handle: &[u8]) {
        self.bindings().0.invalidate(&key_of(handle));
    }

    /// [`Statements::announce`] for a prepared statement, on the snapshots that are current now.
    ///
    /// Errors: also `FailedPrecondition` when its schema has changed since it was prepared.
    pub(super) async fn announce_prepared(
        &self,
        prepared: &PreparedStatement,
        reach: Reach,
    ) -> Result<Announced, Status> {
        self.announce(&prepared.caller, prepared.statement(), reach).await
    }

    /// Submits a prepared statement, and tells of its job; one that is no query is run.
    ///
    /// Errors: as [`Statements::poll_statement`].
    pub(super) async fn poll_prepared(
        &self,
        prepared: &PreparedStatement,
        descriptor: FlightDescriptor,
    ) -> Result<PollInfo, Status> {
        self.poll_statement(&prepared.caller, prepared.statement(), descriptor).await
    }

    /// Runs a prepared statement that is no query, with the values that came with the call, else those
    /// bound before.
    ///
    /// Errors: as [`Statements::run`]; `InvalidArgument` for values it does not take.
    pub(super) async fn update_prepared(
        &self,
        prepared: &PreparedStatement,
        batches: Option<&[RecordBatch]>,
    ) -> Result<Outcome, Status> {
        let values = prepared.cast(batches)?;
        let command = self.classify(&prepared.ticket.sql)?;
        self.run(&prepared.caller, command, values.as_ref().or(prepared.values.as_ref())).await
    }

    /// The rows of a prepared statement, for clients that redeem the command itself.
    ///
    /// Errors: as [`Statements::announce_prepared`].
    pub(super) async fn fetch_prepared(
        &self,
        prepared: &PreparedStatement,
        limit: MessageLimit,
    ) -> Result<Fetched, Status> {
        if !matches!(self.classify(&prepared.ticket.sql)?, Command::Query(_)) {
            return Err(bad_request("this statement runs by GetFlightInfo or DoPut; DoGet takes the ticket of either"));
        }
        self.fetch_now(&prepared.caller, prepared.statement(), &prepared.ticket.schema_hash, limit).await
    }

    /// The schema of a prepared statement on the current snapshots.
    ///
    /// Errors: as [`Statements::describe`].
    pub(super) async fn describe_prepared(&self, prepared: &PreparedStatement) -> Result<SchemaRef, Status> {
        let command = self.classify(&prepared.ticket.sql)?;
        Ok(self.describe(&prepared.caller, &command).await?.rows)
    }
}
