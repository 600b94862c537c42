//! The Flight service of the coordinator: each method decodes, calls and encodes.

use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use prost::Message;
use skyflight_catalog::CatalogStore;
use skyflight_engine::EngineError;
use skyflight_engine::message_limit::MessageLimit;
use skyflight_engine::views::views;
use skyflight_proto::wire::ACTION_REGISTER_WORKER;
use skyflight_proto::{ClusterKeys, TicketError};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::endpoints::{Endpoint, Reach};
use super::metadata::{Question, decode_command};
use super::poll::{FirstBatch, expiring};
use super::rows::{FlightDataStream, batch_messages};
use super::statement::{Announced, Statement, Statements, session_options};
use super::{actions, put};
use crate::cluster::register_worker;
use crate::error::{bad_request, internal, status_of, unsupported};
use crate::session::{Caller, Sessions, options};

/// The response header that names the query, for logs on both sides.
const QUERY_ID_HEADER: &str = "x-skyflight-query-id";

/// The largest answer that every client takes: gRPC's default is 4 MiB, and some libraries mean 4,000,000 by it.
pub(super) const MOST_ANSWERED_BYTES: usize = 4_000_000;

/// The Flight SQL service.
pub(crate) struct Face {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) statements: Statements,
    pub(crate) store: Arc<dyn CatalogStore>,
    pub(crate) keys: Arc<ClusterKeys>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Face {
    type HandshakeStream = crate::session::HandshakeStream;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = FlightDataStream;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        self.sessions.handshake(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        self.sessions.caller(request.metadata())?;
        // Nothing is published under a path: what there is, is found by SQL.
        Ok(Response::new(futures::stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let caller = self.sessions.caller(request.metadata())?;
        let reach = Reach::of(&request, &caller);
        let descriptor = request.into_inner();
        match command_of(&descriptor)? {
            Command::CommandStatementQuery(query) => {
                actions::no_transaction(query.transaction_id.as_deref())?;
                let announced = self.statements.announce(&caller, Statement::plain(&query.query), reach).await?;
                statement_info(announced, descriptor)
            }
            Command::CommandPreparedStatementQuery(query) => {
                let statement = self.statements.prepared(&caller, &query.prepared_statement_handle)?;
                let announced = self.statements.announce_prepared(&statement, reach).await?;
                statement_info(announced, descriptor)
            }
            command => {
                // The ticket is the question itself: it gives nothing that the caller could not ask.
                let schema = question_of(command)?.schema()?;
                let ticket = descriptor.cmd.clone();
                Ok(Response::new(info(&schema, [question_endpoint(ticket)], descriptor)?))
            }
        }
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let caller = self.sessions.caller(request.metadata())?;
        let descriptor = request.into_inner();
        let poll = match command_of(&descriptor)? {
            Command::TicketStatementQuery(ticket) => {
                self.statements.poll_job(&caller, &ticket.statement_handle, descriptor).await?
            }
            Command::CommandStatementQuery(query) => {
                actions::no_transaction(query.transaction_id.as_deref())?;
                self.statements.poll_statement(&caller, Statement::plain(&query.query), descriptor).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                let statement = self.statements.prepared(&caller, &query.prepared_statement_handle)?;
                self.statements.poll_prepared(&statement, descriptor).await?
            }
            command => {
                let schema = question_of(command)?.schema()?;
                let ticket = descriptor.cmd.clone();
                PollInfo::new().with_info(info(&schema, [question_endpoint(ticket)], descriptor)?)
            }
        };
        Ok(Response::new(poll))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let caller = self.sessions.caller(request.metadata())?;
        let schema = match command_of(request.get_ref())? {
            Command::CommandStatementQuery(query) => {
                actions::no_transaction(query.transaction_id.as_deref())?;
                self.statements.describe(&caller, &self.statements.classify(&query.query)?).await?.rows
            }
            Command::CommandPreparedStatementQuery(query) => {
                let statement = self.statements.prepared(&caller, &query.prepared_statement_handle)?;
                self.statements.describe_prepared(&statement).await?
            }
            command => question_of(command)?.schema()?,
        };
        Ok(Response::new(SchemaResult { schema: actions::schema_bytes(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let caller = self.sessions.caller(request.metadata())?;
        let limit = MessageLimit::of_headers(request.metadata())?;
        // What cannot be read is no ticket of ours, wherever it was altered.
        let Some(command) = decode_command(&request.get_ref().ticket) else {
            return Err(TicketError::Malformed.into());
        };
        let fetched = match command {
            Command::TicketStatementQuery(ticket) => {
                let first_batch = FirstBatch::of_headers(request.metadata())?;
                self.statements.fetch(&caller, &ticket.statement_handle, first_batch, limit).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                let statement = self.statements.prepared(&caller, &query.prepared_statement_handle)?;
                self.statements.fetch_prepared(&statement, limit).await?
            }
            command => {
                let Some(question) = Question::of(command) else { return Err(TicketError::Malformed.into()) };
                return self.answer(question, &caller, limit).await.map(Response::new);
            }
        };
        let mut response = Response::new(fetched.messages);
        name_query(response.metadata_mut(), fetched.query_id);
        Ok(response)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let caller = self.sessions.caller(request.metadata())?;
        let result = put::put(&self.statements, &caller, request.into_inner()).await?;
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        self.sessions.caller(request.metadata())?;
        Err(unsupported("DoExchange is not supported; Flight SQL does not use it"))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let (headers, _, action) = request.into_parts();
        if action.r#type == ACTION_REGISTER_WORKER {
            // A worker is believed for its ticket, not for who it is.
            register_worker(&self.keys, self.store.as_ref(), &action.body).await?;
            return Ok(results([]));
        }
        let caller = self.sessions.caller(&headers)?;
        match action.r#type.as_str() {
            actions::CREATE_PREPARED => {
                Ok(results([actions::create_prepared(&self.statements, &caller, &action.body).await?]))
            }
            actions::CLOSE_PREPARED => actions::close_prepared(&self.statements, &action.body).map(|()| results([])),
            actions::CANCEL_FLIGHT_INFO => {
                Ok(results([self.statements.cancel_flight_info(&caller, &action.body).await?]))
            }
            actions::CANCEL_QUERY => Ok(results([self.statements.cancel_query(&caller, &action.body).await?])),
            actions::RENEW_ENDPOINT => Ok(results([self.statements.renew(&caller, &action.body)?])),
            options::SET => self.set_options(&caller, &action.body).await,
            options::GET => Ok(results([Bytes::from(options::get(&caller))])),
            options::CLOSE => Ok(results([Bytes::from(options::close())])),
            _ => Err(actions::refuse(&action)),
        }
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        self.sessions.caller(request.metadata())?;
        Ok(Response::new(futures::stream::iter(actions::list().into_iter().map(Ok)).boxed()))
    }
}

impl Face {
    async fn answer(
        &self,
        question: Question,
        caller: &Caller,
        limit: MessageLimit,
    ) -> Result<FlightDataStream, Status> {
        let failed = |error: EngineError| status_of(&error, None);
        let question = question.asked_by(&caller.user);
        let (catalog, views) = if question.needs_catalog() {
            let session = self.statements.engine().session(session_options(caller, None)).await.map_err(failed)?;
            (session.catalog().to_vec(), views().await.map_err(failed)?)
        } else {
            (Vec::new(), Vec::new())
        };
        let batch = question.answer(&catalog, &views, caller.agent.wants_signed_integers())?;
        batch_messages(&batch.schema(), &[batch], limit)
    }

    async fn set_options(&self, caller: &Caller, body: &[u8]) -> Answer<<Self as FlightService>::DoActionStream> {
        let (changed, answer) = options::set(caller, body, self.store.as_ref()).await?;
        let mut response = results([Bytes::from(answer)]);
        if let Some(changed) = changed {
            let bearer = self.sessions.bearer(&self.sessions.token(&changed)?)?;
            response.metadata_mut().insert("authorization", bearer);
        }
        Ok(response)
    }
}

fn command_of(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    decode_command(&descriptor.cmd).ok_or_else(|| {
        bad_request("the descriptor holds no Flight SQL command; paths and plain commands are not served")
    })
}

fn question_of(command: Command) -> Result<Question, Status> {
    if let Command::CommandStatementSubstraitPlan(_) = command {
        return Err(unsupported("Substrait plans are not supported; send SQL"));
    }
    let name = command.type_url().to_owned();
    Question::of(command).ok_or_else(|| unsupported(format!("{name} is not a command that gives rows here")))
}

fn statement_info(announced: Announced, descriptor: FlightDescriptor) -> Answer<FlightInfo> {
    let query_id = announced.query_id;
    let mut response = Response::new(announced.info(descriptor)?);
    name_query(response.metadata_mut(), query_id);
    Ok(response)
}

impl Announced {
    /// What GetFlightInfo tells of it.
    pub(super) fn info(self, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        let expires = self.expires_unix_ms;
        let endpoints = self.endpoints.into_iter().map(|endpoint| expiring(statement_endpoint(endpoint), expires));
        let mut info = info(&self.schema, endpoints, descriptor)?;
        if let Some(rows) = self.rows {
            info.total_records = i64::try_from(rows).unwrap_or(i64::MAX);
        }
        // A long text is in the ticket too, and twice may be more than a client takes. It knows what it asked.
        if info.encoded_len() > MOST_ANSWERED_BYTES {
            info.flight_descriptor = None;
        }
        Ok(info)
    }
}

fn question_endpoint(ticket: Bytes) -> FlightEndpoint {
    FlightEndpoint::new().with_ticket(Ticket::new(ticket))
}

fn statement_endpoint(endpoint: Endpoint) -> FlightEndpoint {
    let ticket = TicketStatementQuery { statement_handle: endpoint.ticket }.as_any().encode_to_vec();
    let told = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    endpoint.locations.into_iter().fold(told, |told, location| told.with_location(location))
}

/// How much comes is not known. An endpoint without locations means here.
fn info(
    schema: &Schema,
    endpoints: impl IntoIterator<Item = FlightEndpoint>,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let info = FlightInfo::new().try_with_schema(schema).map_err(|e| internal("a schema cannot be encoded", e))?;
    Ok(endpoints.into_iter().fold(info.with_descriptor(descriptor), FlightInfo::with_endpoint))
}

fn name_query(headers: &mut MetadataMap, id: Uuid) {
    // A UUID is always a header value.
    if let Ok(value) = id.to_string().parse() {
        headers.insert(QUERY_ID_HEADER, value);
    }
}

fn results(
    bodies: impl IntoIterator<Item = Bytes, IntoIter: Send + 'static>,
) -> Response<BoxStream<'static, Result<ActionResult, Status>>> {
    Response::new(futures::stream::iter(bodies.into_iter().map(|body| Ok(ActionResult { body }))).boxed())
}
