//! Statements: planned at GetFlightInfo, fetched by a ticket that holds all it takes, so that any
//! coordinator of the cluster can serve it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use sha2::{Digest, Sha256};
use skyflight_catalog::{DatabaseId, SnapshotId};
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
use super::rows::Rows;
use crate::clock::unix_ms;
use crate::error::status_of;
use crate::query::{Gate, Journal, Place, QueryLife, WaitingQueries, WaitingQuery, trace};
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
}

/// Plans statements, signs their tickets, and serves their rows.
pub(crate) struct Statements(StatementsConfig);

/// A statement whose plan waits: what GetFlightInfo tells of it.
pub(super) struct Announced {
    pub(super) schema: SchemaRef,
    /// A signed `StatementTicket`.
    pub(super) ticket: Bytes,
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
        let ticket = self.sign(&caller.user, query_id.as_bytes(), self.0.ticket_ttl, statement);
        self.0.waiting.put(query_id, waiting);
        Ok(Announced { schema, ticket, query_id })
    }

    /// The rows a ticket promises, on the snapshots it names, as the user it was made for: whoever
    /// has a ticket may redeem it. The plan made when it was announced is
    /// used where it still waits here; otherwise the statement is planned again.
    ///
    /// Errors: `Unauthenticated` for a ticket that is altered, expired or of another kind;
    /// `FailedPrecondition` when the statement no longer gives the promised schema; those of planning.
    pub(super) async fn fetch(&self, signed: &[u8], limit: MessageLimit) -> Result<Rows, Status> {
        let (ticket, statement) = self.verify(signed)?;
        if statement.prepared {
            return Err(no_statement());
        }
        let query_id = Uuid::from_slice(&ticket.query_id).map_err(|_| no_statement())?;
        // Announced, so no new query: it is served while the coordinator drains.
        let place = self.0.gate.enter_announced()?;
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
            Ok((_, planned)) => Ok(planned.schema()),
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
        let handle = self.sign(&caller.user, &[], HANDLE_TTL, statement);
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
    ) -> Result<Rows, Status> {
        let place = self.0.gate.enter()?;
        let query = self.query(&statement.caller.user);
        let (_, waiting) = self.plan(&statement.caller, &statement.sql, None, query).await?;
        self.start(waiting, &statement.schema_hash, place, limit)
    }

    /// The schema of a prepared statement on the current snapshots.
    ///
    /// Errors: as [`Statements::describe`].
    pub(super) async fn describe_prepared(&self, statement: &PreparedStatement) -> Result<SchemaRef, Status> {
        self.describe(&statement.caller, &statement.sql).await
    }

    fn start(&self, waiting: WaitingQuery, promised: &[u8], place: Place, limit: MessageLimit) -> Result<Rows, Status> {
        let WaitingQuery { planned, mut life } = waiting;
        if schema_hash(&planned.schema()) != promised {
            life.fail(&EngineError::Invalid("the result has another schema than was promised".into()));
            return Err(schema_changed("run the query again"));
        }
        Rows::start(planned, life, place, &self.0.dispatcher, &self.0.cpu, limit)
    }

    /// Plans a query whose life begins here.
    async fn plan(
        &self,
        caller: &Caller,
        sql: &str,
        snapshots: Option<Snapshots>,
        query: QueryContext,
    ) -> Result<(Snapshots, WaitingQuery), Status> {
        let query = QueryContext { trace: trace::begin(caller.traceparent.as_deref(), &query), ..query };
        let id = query.id;
        let mut life = QueryLife::open(&query, sql, &self.0.journal);
        match self.planned(caller, sql, snapshots, query).await {
            Ok((snapshots, planned)) => {
                life.planned();
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
    ) -> skyflight_engine::Result<(Snapshots, PlannedQuery)> {
        let session = self.0.engine.session(session_options(caller, snapshots)).await?;
        let planned = session.plan(sql, query).await?;
        Ok((session.snapshots(), planned))
    }

    /// A fresh query of `user`.
    fn query(&self, user: &str) -> QueryContext {
        QueryContext { cancel: self.0.stop.child_token(), ..QueryContext::new(user) }
    }

    fn sign(&self, user: &str, query_id: &[u8], ttl: Duration, statement: StatementTicket) -> Bytes {
        self.0.keys.sign(&Ticket {
            expires_unix_ms: unix_ms().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
            user: user.to_owned(),
            query_id: Bytes::copy_from_slice(query_id),
            body: Some(Body::Statement(statement)),
        })
    }

    fn verify(&self, signed: &[u8]) -> Result<(Ticket, StatementTicket), Status> {
        let mut ticket = self.0.keys.verify(signed, unix_ms())?;
        match ticket.body.take() {
            Some(Body::Statement(statement)) if statement.schema_hash.len() == Sha256::output_size() => {
                Ok((ticket, statement))
            }
            _ => Err(no_statement()),
        }
    }
}

/// How the engine is told on whose behalf a session is.
pub(super) fn session_options(caller: &Caller, snapshots: Option<Snapshots>) -> SessionOptions {
    SessionOptions {
        user: caller.user.clone(),
        default_database: caller.default_database.clone(),
        snapshots,
        shuffle: caller.shuffle,
    }
}

fn caller_of(user: String, default_schema: String, shuffle: &str) -> Caller {
    let default_database = (!default_schema.is_empty()).then_some(default_schema);
    Caller { default_database, shuffle: shuffle.parse().ok(), ..Caller::of(user) }
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
