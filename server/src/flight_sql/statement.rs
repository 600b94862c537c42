//! Statements: planned at GetFlightInfo, fetched by a ticket that holds all it takes, so that any
//! coordinator of the cluster can serve it.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::{FlightDescriptor, PollInfo};
use bytes::Bytes;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use skyflight_catalog::{CatalogStore, DatabaseId, Estimated, SnapshotId};
use skyflight_engine::dispatch::{ChunkDispatcher, QueryContext};
use skyflight_engine::frames::encode_schema;
use skyflight_engine::{Engine, EngineError, PlannedQuery, SessionOptions};
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, FailureKind, SnapshotRef, StatementTicket, Ticket};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::message_limit::MessageLimit;
use super::poll::FirstBatch;
use super::rows::{FlightDataStream, Rows};
use crate::clock::unix_ms;
use crate::error::status_of;
use crate::jobs::{Jobs, estimated};
use crate::query::{Gate, Journal, Place, QueryLife, WaitingQueries, WaitingQuery};
use crate::session::Caller;

/// How long the handle of a prepared statement may be used.
pub(super) const HANDLE_TTL: Duration = Duration::from_secs(24 * 3_600);

/// What [`Statements`] is built from.
pub(crate) struct StatementsConfig {
    pub(crate) engine: Engine,
    pub(crate) dispatcher: Arc<dyn ChunkDispatcher>,
    pub(crate) keys: Arc<ClusterKeys>,
    pub(crate) journal: Journal,
    pub(crate) waiting: WaitingQueries,
    pub(crate) gate: Gate,
    pub(crate) cpu: Handle,
    /// Parent of every query's token: cancelled when the coordinator stops.
    pub(crate) stop: CancellationToken,
    pub(crate) ticket_ttl: Duration,
    pub(crate) jobs: Jobs,
    pub(crate) store: Arc<dyn CatalogStore>,
    /// The longest estimate of a query that may be waited for.
    pub(crate) blocking_limit: Option<Duration>,
}

/// Plans statements, signs their tickets, and serves their rows.
pub(crate) struct Statements(StatementsConfig);

/// A statement whose plan waits: what GetFlightInfo tells of it.
pub(super) struct Announced {
    pub(super) schema: SchemaRef,
    /// A signed `StatementTicket`.
    pub(super) ticket: Bytes,
    pub(super) query_id: Uuid,
    /// Until when the ticket is good.
    pub(super) expires_unix_ms: i64,
}

/// What DoGet gives.
pub(super) struct Fetched {
    pub(super) messages: FlightDataStream,
    pub(super) query_id: Uuid,
}

/// A prepared statement: its handle is the statement itself, signed.
pub(super) struct Prepared {
    pub(super) schema: SchemaRef,
    /// A signed `StatementTicket` that is marked as prepared.
    pub(super) handle: Bytes,
}

/// A verified handle.
pub(super) struct PreparedStatement {
    caller: Caller,
    sql: String,
    schema_hash: Bytes,
}

type Snapshots = Vec<(DatabaseId, SnapshotId)>;

impl Statements {
    pub(crate) fn new(config: StatementsConfig) -> Self {
        Statements(config)
    }

    /// What it is built from.
    pub(super) fn parts(&self) -> &StatementsConfig {
        &self.0
    }

    /// The engine that plans.
    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Plans `sql` on the current snapshots and keeps the plan for its fetch.
    ///
    /// Errors: those of planning; `ResourceExhausted` when too many queries run.
    pub(super) async fn announce(&self, caller: &Caller, sql: &str) -> Result<Announced, Status> {
        let _place = self.0.gate.enter()?;
        let (snapshots, waiting) = self.plan(caller, sql, None, self.query(&caller.user)).await?;
        let waiting = self.short_enough(waiting)?;
        let schema = waiting.planned.schema();
        let query_id = waiting.planned.query().id;
        let statement = StatementTicket {
            sql: sql.to_owned(),
            snapshots: snapshots.iter().map(|(d, s)| SnapshotRef { database: d.0, snapshot: s.0 }).collect(),
            schema_hash: schema_hash(&schema),
            default_schema: caller.default_database.clone().unwrap_or_default(),
            prepared: false,
            shuffle: shuffle_name(caller),
        };
        let expires_unix_ms = after(self.0.ticket_ttl);
        let ticket = self.sign(&caller.user, query_id.as_bytes(), expires_unix_ms, statement);
        self.0.waiting.put(query_id, waiting);
        Ok(Announced { schema, ticket, query_id, expires_unix_ms })
    }

    /// The rows a ticket promises, on the snapshots it names, as the user it was made for: whoever
    /// has a ticket may redeem it. The plan made when it was announced is
    /// used where it still waits here; otherwise the statement is planned again.
    ///
    /// Errors: `Unauthenticated` for a ticket that is altered, expired or of another kind;
    /// `FailedPrecondition` when the statement no longer gives the promised schema; those of planning.
    pub(super) async fn fetch(
        &self,
        signed: &[u8],
        first_batch: FirstBatch,
        limit: MessageLimit,
    ) -> Result<Fetched, Status> {
        let (ticket, statement) = match self.promise(signed)? {
            Promise::Statement(ticket, statement) => (ticket, statement),
            Promise::Job { user, id, first } => return self.fetch_job(&user, id, first_batch.or(first), limit).await,
        };
        if statement.prepared {
            return Err(no_statement());
        }
        let query_id = Uuid::from_slice(&ticket.query_id).map_err(|_| no_statement())?;
        if self.0.waiting.is_void(query_id) {
            return Err(status_of(&EngineError::Cancelled, Some(query_id)));
        }
        let place = self.0.gate.enter()?;
        let waiting = match self.0.waiting.take(query_id) {
            Some(waiting) => waiting,
            None => {
                let snapshots: Snapshots =
                    statement.snapshots.iter().map(|s| (DatabaseId(s.database), SnapshotId(s.snapshot))).collect();
                let caller = caller_of(ticket.user, statement.default_schema, &statement.shuffle);
                let query = QueryContext { id: query_id, ..self.query(&caller.user) };
                self.plan(&caller, &statement.sql, Some(snapshots), query).await?.1
            }
        };
        self.start(waiting, &statement.schema_hash, place, limit)
    }

    /// The schema of `sql` on the current snapshots; nothing is kept.
    ///
    /// Errors: those of planning; `ResourceExhausted` when too many queries run.
    pub(super) async fn describe(&self, caller: &Caller, sql: &str) -> Result<SchemaRef, Status> {
        let _place = self.0.gate.enter()?;
        let query = self.query(&caller.user);
        let id = query.id;
        match self.planned(caller, sql, None, query).await {
            Ok((_, planned, _)) => Ok(planned.schema()),
            Err(error) => Err(status_of(&error, Some(id))),
        }
    }

    /// Prepares `sql`: checks that it can be planned, and makes its handle.
    ///
    /// Errors: as [`Statements::describe`].
    pub(super) async fn prepare(&self, caller: &Caller, sql: &str) -> Result<Prepared, Status> {
        let schema = self.describe(caller, sql).await?;
        let statement = StatementTicket {
            sql: sql.to_owned(),
            snapshots: Vec::new(),
            schema_hash: schema_hash(&schema),
            default_schema: caller.default_database.clone().unwrap_or_default(),
            prepared: true,
            shuffle: shuffle_name(caller),
        };
        let handle = self.sign(&caller.user, &[], after(HANDLE_TTL), statement);
        Ok(Prepared { schema, handle })
    }

    /// The statement behind a handle.
    ///
    /// Errors: `Unauthenticated` for a handle that is altered, expired or of another kind.
    pub(super) fn prepared(&self, handle: &[u8]) -> Result<PreparedStatement, Status> {
        let (ticket, statement) = self.verify(handle)?;
        if !statement.prepared {
            return Err(FailureKind::Unauthenticated.status("this is not the handle of a prepared statement"));
        }
        let caller = caller_of(ticket.user, statement.default_schema, &statement.shuffle);
        Ok(PreparedStatement { caller, sql: statement.sql, schema_hash: statement.schema_hash })
    }

    /// [`Statements::announce`] for a prepared statement, on the snapshots that are current now.
    ///
    /// Errors: also `FailedPrecondition` when its schema has changed since it was prepared.
    pub(super) async fn announce_prepared(&self, statement: &PreparedStatement) -> Result<Announced, Status> {
        let announced = self.announce(&statement.caller, &statement.sql).await?;
        if schema_hash(&announced.schema) != statement.schema_hash {
            drop(self.0.waiting.take(announced.query_id));
            return Err(schema_changed("prepare the statement again"));
        }
        Ok(announced)
    }

    /// The rows of a prepared statement, for clients that redeem the command itself.
    ///
    /// Errors: as [`Statements::announce_prepared`].
    pub(super) async fn fetch_prepared(
        &self,
        statement: &PreparedStatement,
        limit: MessageLimit,
    ) -> Result<Fetched, Status> {
        let place = self.0.gate.enter()?;
        let query = self.query(&statement.caller.user);
        let (_, waiting) = self.plan(&statement.caller, &statement.sql, None, query).await?;
        self.start(waiting, &statement.schema_hash, place, limit)
    }

    /// Submits a prepared statement, and tells of its job.
    ///
    /// Errors: as [`Statements::poll_query`].
    pub(super) async fn poll_prepared(
        &self,
        statement: &PreparedStatement,
        descriptor: FlightDescriptor,
    ) -> Result<PollInfo, Status> {
        self.poll_query(&statement.caller, &statement.sql, descriptor).await
    }

    /// The schema of a prepared statement on the current snapshots.
    ///
    /// Errors: as [`Statements::describe`].
    pub(super) async fn describe_prepared(&self, statement: &PreparedStatement) -> Result<SchemaRef, Status> {
        self.describe(&statement.caller, &statement.sql).await
    }

    fn start(&self, waiting: WaitingQuery, promised: &[u8], place: Place, limit: MessageLimit) -> Result<Fetched, Status> {
        let WaitingQuery { planned, mut life } = waiting;
        if schema_hash(&planned.schema()) != promised {
            life.fail(&EngineError::Invalid("the result has another schema than was promised".into()));
            return Err(schema_changed("run the query again"));
        }
        let rows = Rows::start(planned, life, place, &self.0.dispatcher, &self.0.cpu, limit)?;
        Ok(Fetched { query_id: rows.query_id(), messages: rows.boxed() })
    }

    /// Lets a query pass that its client may wait for.
    ///
    /// Errors: `FailedPrecondition`, with the estimate and the way to submit it.
    fn short_enough(&self, waiting: WaitingQuery) -> Result<WaitingQuery, Status> {
        let Some(limit) = self.0.blocking_limit else { return Ok(waiting) };
        let WaitingQuery { planned, mut life } = waiting;
        let id = planned.query().id;
        let estimate = planned.estimate().map_err(|error| status_of(&error, Some(id)))?;
        if estimate.seconds <= limit.as_secs_f64() || planned.may_stop_early() {
            return Ok(WaitingQuery { planned, life });
        }
        let why = format!(
            "the query would read {estimate}, longer than the {:.0} s for which a client may wait (jobs.blocking_limit_s); \
             submit it as a job with SUBMIT before its text, and find it in system.queries",
            limit.as_secs_f64()
        );
        life.fail(&EngineError::Refused(why.clone()));
        Err(FailureKind::FailedPrecondition.status(why))
    }

    /// Plans a query whose life begins here.
    async fn plan(
        &self,
        caller: &Caller,
        sql: &str,
        snapshots: Option<Snapshots>,
        query: QueryContext,
    ) -> Result<(Snapshots, WaitingQuery), Status> {
        let id = query.id;
        let mut life = QueryLife::open(&query, sql, &self.0.journal);
        match self.planned(caller, sql, snapshots, query).await {
            Ok((snapshots, planned, estimate)) => {
                life.planned(estimate);
                Ok((snapshots, WaitingQuery { planned, life }))
            }
            Err(error) => {
                life.fail(&error);
                Err(status_of(&error, Some(id)))
            }
        }
    }

    async fn planned(
        &self,
        caller: &Caller,
        sql: &str,
        snapshots: Option<Snapshots>,
        query: QueryContext,
    ) -> skyflight_engine::Result<(Snapshots, PlannedQuery, Estimated)> {
        let session = self.0.engine.session(session_options(caller, snapshots)).await?;
        let planned = session.plan(sql, query).await?;
        let estimate = estimated(&planned.estimate()?);
        Ok((session.snapshots(), planned, estimate))
    }

    /// A fresh query of `user`.
    fn query(&self, user: &str) -> QueryContext {
        QueryContext { cancel: self.0.stop.child_token(), ..QueryContext::new(user) }
    }

    fn sign(&self, user: &str, query_id: &[u8], expires_unix_ms: i64, statement: StatementTicket) -> Bytes {
        self.0.keys.sign(&Ticket {
            expires_unix_ms,
            user: user.to_owned(),
            query_id: Bytes::copy_from_slice(query_id),
            body: Some(Body::Statement(statement)),
        })
    }

    fn verify(&self, signed: &[u8]) -> Result<(Ticket, StatementTicket), Status> {
        match self.promise(signed)? {
            Promise::Statement(ticket, statement) => Ok((ticket, statement)),
            Promise::Job { .. } => Err(no_statement()),
        }
    }

    /// What a ticket of ours promises.
    ///
    /// Errors: `Unauthenticated` for a ticket that is altered, expired or of another kind.
    pub(super) fn promise(&self, signed: &[u8]) -> Result<Promise, Status> {
        let mut ticket = self.0.keys.verify(signed, unix_ms())?;
        match ticket.body.take() {
            Some(Body::Statement(statement)) if statement.schema_hash.len() == Sha256::output_size() => {
                Ok(Promise::Statement(ticket, statement))
            }
            Some(Body::Job(job)) => {
                let id = Uuid::from_slice(&ticket.query_id).map_err(|_| no_statement())?;
                Ok(Promise::Job { user: ticket.user, id, first: job.first_batch })
            }
            _ => Err(no_statement()),
        }
    }

    /// Whose query or job a ticket is of, and which.
    ///
    /// Errors: as [`Statements::promise`].
    pub(super) fn owner_of(&self, signed: &[u8]) -> Result<(String, Uuid), Status> {
        match self.promise(signed)? {
            Promise::Statement(ticket, _) => {
                let id = Uuid::from_slice(&ticket.query_id).map_err(|_| no_statement())?;
                Ok((ticket.user, id))
            }
            Promise::Job { user, id, .. } => Ok((user, id)),
        }
    }
}

/// What a verified ticket promises.
pub(super) enum Promise {
    /// The rows of a statement, or the statement itself.
    Statement(Ticket, StatementTicket),
    /// The rows of a job.
    Job {
        user: String,
        id: Uuid,
        /// The batch to begin with.
        first: u64,
    },
}

/// The moment so long from now.
fn after(ttl: Duration) -> i64 {
    unix_ms().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
}

/// How the engine is told on whose behalf a session is.
pub(super) fn session_options(caller: &Caller, snapshots: Option<Snapshots>) -> SessionOptions {
    SessionOptions {
        user: caller.user.clone(),
        default_database: caller.default_database.clone(),
        snapshots,
        shuffle: caller.shuffle,
        clock_unix_ms: None,
    }
}

fn caller_of(user: String, default_schema: String, shuffle: &str) -> Caller {
    let default_database = (!default_schema.is_empty()).then_some(default_schema);
    Caller { user, default_database, shuffle: shuffle.parse().ok() }
}

fn shuffle_name(caller: &Caller) -> String {
    caller.shuffle.map(|mode| mode.name().to_owned()).unwrap_or_default()
}

fn schema_hash(schema: &Schema) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(encode_schema(schema)))
}

fn no_statement() -> Status {
    FailureKind::Unauthenticated.status("this is not the ticket of a statement's rows")
}

fn schema_changed(advice: &str) -> Status {
    FailureKind::FailedPrecondition
        .status(format!("the tables have changed and the result has another schema now; {advice}"))
}
