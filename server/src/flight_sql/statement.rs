//! Statements: planned at GetFlightInfo, fetched by a ticket that holds all it takes, so that any
//! coordinator of the cluster can serve it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use sha2::{Digest, Sha256};
use skyflight_catalog::{CatalogStore, DatabaseId, Estimated, SnapshotId};
use skyflight_engine::dispatch::{ChunkDispatcher, QueryContext};
use skyflight_engine::frames::{decode_batches, encode_batches, encode_schema};
use skyflight_engine::guard::{Command, SqlLimits};
use skyflight_engine::message_limit::MessageLimit;
use skyflight_engine::parameters::Described;
use skyflight_engine::{Engine, EngineError, PlannedQuery, SessionOptions};
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, FailureKind, SnapshotRef, StatementTicket, Ticket};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::commands::Outcome;
use super::endpoints::{Endpoint, EndpointPolicy, HandedOut, Reach};
use super::metadata::result_schema;
use super::own_tables::OwnTables;
use super::poll::FirstBatch;
use super::prepared::Bindings;
use super::promise::{Promise, after, no_statement, query_id};
use super::pump::pumped;
use super::put::Puts;
use super::rows::{FlightDataStream, Rows, batch_messages};
use crate::error::status_of;
use crate::jobs::{Jobs, estimated};
use crate::query::{Gate, Journal, Place, QueryLife, WaitingQueries, WaitingQuery, trace};
use crate::session::{Agent, Caller};

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
    pub(crate) renewal_limit: Duration,
    pub(crate) endpoints: EndpointPolicy,
    pub(crate) jobs: Jobs,
    pub(crate) store: Arc<dyn CatalogStore>,
    /// The longest estimate of a query that may be waited for.
    pub(crate) blocking_limit: Option<Duration>,
    pub(crate) sql_limits: SqlLimits,
    pub(crate) own_tables: OwnTables,
}

/// Plans statements, signs their tickets, and serves their rows.
pub(crate) struct Statements {
    parts: StatementsConfig,
    bindings: Bindings,
    puts: Puts,
}

/// A statement as it is to run: its text, and rows of values for its parameters.
#[derive(Clone, Copy)]
pub(super) struct Statement<'a> {
    pub(super) sql: &'a str,
    pub(super) values: Option<&'a RecordBatch>,
    /// Digest of the schema that its client was told when it was prepared.
    pub(super) promised: Option<&'a [u8]>,
}

impl<'a> Statement<'a> {
    /// A statement without values.
    pub(super) fn plain(sql: &'a str) -> Self {
        Statement { sql, values: None, promised: None }
    }
}

/// A statement whose plan waits: what GetFlightInfo tells of it.
pub(super) struct Announced {
    pub(super) schema: SchemaRef,
    /// Where its rows are; at least one.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) query_id: Uuid,
    /// How many rows come, or, of a statement that changed something, how many it wrote.
    pub(super) rows: Option<u64>,
    /// Until when the ticket is good.
    pub(super) expires_unix_ms: i64,
}

/// What DoGet gives.
pub(super) struct Fetched {
    pub(super) messages: FlightDataStream,
    pub(super) query_id: Uuid,
}

type Snapshots = Vec<(DatabaseId, SnapshotId)>;

impl Statements {
    pub(crate) fn new(parts: StatementsConfig) -> Self {
        Statements { parts, bindings: Bindings::new(), puts: Puts::default() }
    }

    pub(super) fn puts(&self) -> &Puts {
        &self.puts
    }

    pub(super) fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// What it is built from.
    pub(super) fn parts(&self) -> &StatementsConfig {
        &self.parts
    }

    /// The engine that plans.
    pub(super) fn engine(&self) -> &Engine {
        &self.parts.engine
    }

    pub(super) fn own_tables(&self) -> &OwnTables {
        &self.parts.own_tables
    }

    /// Where decoding and encoding run.
    pub(super) fn cpu(&self) -> &Handle {
        &self.parts.cpu
    }

    pub(super) fn sql_limits(&self) -> &SqlLimits {
        &self.parts.sql_limits
    }

    /// Plans a query on the current snapshots and keeps the plan for its fetch, or hands it out to the
    /// workers; a statement that is no query is run.
    ///
    /// Errors: those of planning and of [`Statements::run`]; `ResourceExhausted` when too many queries run;
    /// `FailedPrecondition` for a query whose rows are no longer of the promised schema.
    pub(super) async fn announce(
        &self,
        caller: &Caller,
        statement: Statement<'_>,
        reach: Reach,
    ) -> Result<Announced, Status> {
        match self.classify(statement.sql)? {
            Command::Query(_) => self.announce_query(caller, statement, reach).await,
            command => {
                let outcome = self.run(caller, command, statement.values).await?;
                self.announce_outcome(caller, outcome)
            }
        }
    }

    async fn announce_query(
        &self,
        caller: &Caller,
        statement: Statement<'_>,
        reach: Reach,
    ) -> Result<Announced, Status> {
        let _place = self.parts.gate.enter(&caller.user)?;
        let (snapshots, waiting) = self.plan(caller, statement, None, self.query(&caller.user)).await?;
        if let Some(job) = waiting.planned.whole_job().map(str::to_owned) {
            return self.announce_job(caller, &job).await;
        }
        let mut waiting = self.short_enough(waiting)?;
        let schema = result_schema(&waiting.planned.schema());
        if statement.promised.is_some_and(|promised| schema_hash(&schema) != promised) {
            return Err(schema_changed("prepare the statement again"));
        }
        let query_id = waiting.planned.query().id;
        if let Some(HandedOut { endpoints, expires_unix_ms }) = self.hand_out(&mut waiting, &schema, reach).await? {
            return Ok(Announced { schema, endpoints, query_id, rows: None, expires_unix_ms });
        }
        let expires_unix_ms = after(self.parts.ticket_ttl);
        let ticket = StatementTicket {
            sql: statement.sql.to_owned(),
            snapshots: snapshots.iter().map(|(d, s)| SnapshotRef { database: d.0, snapshot: s.0 }).collect(),
            parameters: encoded_values(statement.values)?,
            ..statement_of(caller, &schema)
        };
        let ticket = self.sign(&caller.user, query_id, expires_unix_ms, ticket);
        self.parts.waiting.put(query_id, waiting);
        let endpoints = vec![Endpoint::here(ticket)];
        Ok(Announced { schema, endpoints, query_id, rows: None, expires_unix_ms })
    }

    /// The ticket of a statement that was run holds what came of it.
    fn announce_outcome(&self, caller: &Caller, outcome: Outcome) -> Result<Announced, Status> {
        let schema = outcome.rows.schema();
        let query_id = Uuid::now_v7();
        // Without the text: it is not run again, and the answer must reach a client whose change is made.
        let ticket = StatementTicket { outcome: encoded_values(Some(&outcome.rows))?, ..statement_of(caller, &schema) };
        let expires_unix_ms = after(self.parts.ticket_ttl);
        let ticket = self.sign(&caller.user, query_id, expires_unix_ms, ticket);
        let endpoints = vec![Endpoint::here(ticket)];
        Ok(Announced { schema, endpoints, query_id, rows: outcome.affected, expires_unix_ms })
    }

    /// The rows a ticket promises, on the snapshots it names, as the user it was made for: whoever
    /// has a ticket may redeem it, and `asker` only gives its trace. The plan made when it was announced is
    /// used where it still waits here; otherwise the statement is planned again. What came of a statement that
    /// is no query is in its ticket.
    ///
    /// Errors: `Unauthenticated` for a ticket that is altered, expired or of another kind;
    /// `FailedPrecondition` when the statement no longer gives the promised schema; those of planning.
    pub(super) async fn fetch(
        &self,
        asker: &Caller,
        signed: &[u8],
        first_batch: FirstBatch,
        limit: MessageLimit,
    ) -> Result<Fetched, Status> {
        let (ticket, statement) = match self.promise(signed)? {
            Promise::Statement(promised) => *promised,
            Promise::Job { user, id, first } => return self.fetch_job(&user, id, first_batch.or(first), limit).await,
            Promise::Endpoint(promised) => {
                let (ticket, endpoint) = *promised;
                return self.redeem(&ticket, endpoint, limit).await;
            }
        };
        if statement.prepared {
            return Err(no_statement());
        }
        let query_id = query_id(&ticket)?;
        if self.parts.waiting.is_void(query_id) {
            return Err(status_of(&EngineError::Cancelled, Some(query_id)));
        }
        if !statement.outcome.is_empty() {
            let (schema, rows) = decode_batches(&statement.outcome).map_err(|error| status_of(&error, None))?;
            return Ok(Fetched { messages: batch_messages(&schema, &rows, limit)?, query_id });
        }
        // Announced, so no new query: it is served while the coordinator drains.
        let place = self.parts.gate.enter_announced(&ticket.user)?;
        let waiting = match self.parts.waiting.take(query_id) {
            Some(waiting) => waiting,
            None => {
                let snapshots: Snapshots =
                    statement.snapshots.iter().map(|s| (DatabaseId(s.database), SnapshotId(s.snapshot))).collect();
                let caller = Caller { traceparent: asker.traceparent.clone(), ..caller_of(ticket.user, &statement) };
                let query = QueryContext { id: query_id, ..self.query(&caller.user) };
                let values = bound_values(&statement)?;
                let again = Statement { values: values.as_ref(), ..Statement::plain(&statement.sql) };
                self.plan(&caller, again, Some(snapshots), query).await?.1
            }
        };
        self.start(waiting, &statement.schema_hash, place, limit)
    }

    /// Plans a query that runs at once, in the place of another call.
    ///
    /// Errors: those of planning; `FailedPrecondition` when it would run for too long; `ResourceExhausted`
    /// when too many queries run.
    pub(super) async fn plan_now(
        &self,
        caller: &Caller,
        statement: Statement<'_>,
    ) -> Result<(WaitingQuery, Place), Status> {
        let place = self.parts.gate.enter(&caller.user)?;
        let (_, waiting) = self.plan(caller, statement, None, self.query(&caller.user)).await?;
        Ok((self.short_enough(waiting)?, place))
    }

    /// The rows of a query that was not announced.
    ///
    /// Errors: those of planning; `FailedPrecondition` when its schema is not the promised one.
    pub(super) async fn fetch_now(
        &self,
        caller: &Caller,
        statement: Statement<'_>,
        promised: &[u8],
        limit: MessageLimit,
    ) -> Result<Fetched, Status> {
        let (waiting, place) = self.plan_now(caller, statement).await?;
        self.start(waiting, promised, place, limit)
    }

    /// The rows and parameters of a query on the current snapshots; nothing is kept, and nothing is run.
    /// `targets` are the types of the columns that its rows go to, where they go to a table.
    ///
    /// Errors: those of planning; `ResourceExhausted` when too many queries run.
    pub(super) async fn describe_query(
        &self,
        caller: &Caller,
        sql: &str,
        targets: Vec<DataType>,
    ) -> Result<Described, Status> {
        let _place = self.parts.gate.enter(&caller.user)?;
        let query = self.query(&caller.user);
        let id = query.id;
        let described = async {
            let session = self.parts.engine.session(session_options(caller, None)).await?;
            session.describe(sql, targets, query).await
        };
        let Described { rows, parameters } = described.await.map_err(|error| status_of(&error, Some(id)))?;
        Ok(Described { rows: result_schema(&rows), parameters })
    }

    fn start(
        &self,
        waiting: WaitingQuery,
        promised: &[u8],
        place: Place,
        limit: MessageLimit,
    ) -> Result<Fetched, Status> {
        let WaitingQuery { planned, mut life } = waiting;
        let schema = result_schema(&planned.schema());
        if schema_hash(&schema) != promised {
            life.fail(&EngineError::Invalid("the result has another schema than was promised".into()));
            return Err(schema_changed("run the query again"));
        }
        let rows = Rows::start(planned, schema, life, place, &self.parts.dispatcher, &self.parts.cpu, limit)?;
        Ok(Fetched { query_id: rows.query_id(), messages: pumped(rows) })
    }

    /// Lets a query pass that its client may wait for.
    ///
    /// Errors: `FailedPrecondition`, with the estimate and the way to submit it.
    fn short_enough(&self, waiting: WaitingQuery) -> Result<WaitingQuery, Status> {
        let Some(limit) = self.parts.blocking_limit else { return Ok(waiting) };
        let WaitingQuery { planned, mut life } = waiting;
        let id = planned.query().id;
        let estimate = planned.estimate().map_err(|error| status_of(&error, Some(id)))?;
        if estimate.seconds <= limit.as_secs_f64() || planned.may_stop_early() {
            return Ok(WaitingQuery { planned, life });
        }
        let why = format!(
            "the query would read {estimate}, longer than the {:.0} s for which a client may wait (jobs.blocking_limit_s); \
             submit it as a job with SUBMIT before its text, and find it in system.queries; its rows are those of the \
             table job('<id>')",
            limit.as_secs_f64()
        );
        life.fail(&EngineError::Refused(why.clone()));
        Err(FailureKind::FailedPrecondition.status(why))
    }

    /// Plans a query whose life begins here.
    async fn plan(
        &self,
        caller: &Caller,
        statement: Statement<'_>,
        snapshots: Option<Snapshots>,
        query: QueryContext,
    ) -> Result<(Snapshots, WaitingQuery), Status> {
        let query = QueryContext {
            trace: trace::begin("query", caller.traceparent.as_deref(), &query.id, &query.user),
            ..query
        };
        let id = query.id;
        let mut life = QueryLife::open(&query, statement.sql.trim(), &self.parts.journal);
        match self.planned(caller, statement, snapshots, query).await {
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
        statement: Statement<'_>,
        snapshots: Option<Snapshots>,
        query: QueryContext,
    ) -> skyflight_engine::Result<(Snapshots, PlannedQuery, Estimated)> {
        let session = self.parts.engine.session(session_options(caller, snapshots)).await?;
        let planned = session.plan_bound(statement.sql, statement.values.cloned(), query).await?;
        let estimate = estimated(&planned.estimate()?);
        Ok((session.snapshots(), planned, estimate))
    }

    /// A fresh query of `user`.
    pub(super) fn query(&self, user: &str) -> QueryContext {
        QueryContext { cancel: self.parts.stop.child_token(), ..QueryContext::new(user) }
    }

    pub(super) fn sign(&self, user: &str, query_id: Uuid, expires_unix_ms: i64, statement: StatementTicket) -> Bytes {
        self.parts.keys.sign(&Ticket {
            expires_unix_ms,
            user: user.to_owned(),
            query_id: Bytes::copy_from_slice(query_id.as_bytes()),
            body: Some(Body::Statement(statement)),
        })
    }
}

/// How the engine is told on whose behalf a session is.
pub(super) fn session_options(caller: &Caller, snapshots: Option<Snapshots>) -> SessionOptions {
    SessionOptions {
        user: caller.user.clone(),
        default_database: caller.default_database.clone(),
        snapshots,
        shuffle: caller.shuffle,
        signed_integers: caller.agent.wants_signed_integers(),
        clock_unix_ms: None,
    }
}

pub(super) fn caller_of(user: String, ticket: &StatementTicket) -> Caller {
    let default_database = (!ticket.default_schema.is_empty()).then(|| ticket.default_schema.clone());
    let agent = if ticket.signed_integers { Agent::Java } else { Agent::Other };
    Caller { default_database, shuffle: ticket.shuffle.parse().ok(), agent, ..Caller::of(user) }
}

fn encoded_values(values: Option<&RecordBatch>) -> Result<Bytes, Status> {
    let Some(values) = values else { return Ok(Bytes::new()) };
    encode_batches(&values.schema(), std::slice::from_ref(values)).map_err(|error| status_of(&error, None))
}

/// The values in a ticket of ours.
pub(super) fn bound_values(ticket: &StatementTicket) -> Result<Option<RecordBatch>, Status> {
    if ticket.parameters.is_empty() {
        return Ok(None);
    }
    let (_, values) = decode_batches(&ticket.parameters).map_err(|error| status_of(&error, None))?;
    Ok(values.into_iter().next())
}

/// What tickets and handles of a caller have in common.
pub(super) fn statement_of(caller: &Caller, schema: &Schema) -> StatementTicket {
    StatementTicket {
        schema_hash: schema_hash(schema),
        default_schema: caller.default_database.clone().unwrap_or_default(),
        shuffle: caller.shuffle.map(|mode| mode.name().to_owned()).unwrap_or_default(),
        signed_integers: caller.agent.wants_signed_integers(),
        ..StatementTicket::default()
    }
}

pub(super) fn schema_hash(schema: &Schema) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(encode_schema(schema)))
}

pub(super) fn schema_changed(advice: &str) -> Status {
    FailureKind::FailedPrecondition
        .status(format!("the tables have changed and the result has another schema now; {advice}"))
}
