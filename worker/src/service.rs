//! The Flight face of a worker: decodes, calls, encodes.

use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use skyflight_catalog::TransactionId;
use skyflight_engine::message_limit::MessageLimit;
use skyflight_proto::ticket::Body;
use skyflight_proto::{DropTransactionResult, Message, RecallResult, wire};
use tonic::{Request, Response, Status, Streaming};
use tracing::info;
use uuid::Uuid;

use crate::worker::{Worker, blocking};
use crate::{WorkerError, direct, put, shuffle, task};

pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// Flight of one worker: DoGet runs a task, for a coordinator or for a client, or reads a partition,
/// DoPut takes a file, DoExchange holds a stage's task, DoAction does the rest.
pub(crate) struct WorkerService {
    worker: Arc<Worker>,
}

impl WorkerService {
    pub(crate) fn new(worker: Arc<Worker>) -> WorkerService {
        WorkerService { worker }
    }

    async fn drop_transaction(&self, body: &[u8]) -> Result<Answers<arrow_flight::Result>, WorkerError> {
        let Some(Body::DropTransaction(ticket)) = self.worker.verify(body)?.body else {
            return Err(wrong_ticket(wire::ACTION_DROP_TRANSACTION));
        };
        let store = Arc::clone(&self.worker.store);
        let files = blocking(move || store.drop_transaction(TransactionId(ticket.transaction))).await?;
        Ok(one(DropTransactionResult { files }))
    }

    fn recall(&self, body: &[u8]) -> Result<Answers<arrow_flight::Result>, WorkerError> {
        let ticket = self.worker.verify(body)?;
        let (Some(Body::Recall(_)), Ok(query)) = (ticket.body, Uuid::from_slice(&ticket.query_id)) else {
            return Err(wrong_ticket(wire::ACTION_RECALL));
        };
        let streams = self.worker.recalls.recall(query);
        info!(query_id = %query, streams, "query recalled");
        Ok(one(RecallResult { streams }))
    }

    fn list_files(&self, body: &[u8]) -> Result<Answers<arrow_flight::Result>, WorkerError> {
        let Some(Body::ListFiles(ticket)) = self.worker.verify(body)?.body else {
            return Err(wrong_ticket(wire::ACTION_LIST_FILES));
        };
        let store = Arc::clone(&self.worker.store);
        let receipts = stream::iter(store.files_of(&ticket.database))
            .then(move |file| {
                let store = Arc::clone(&store);
                blocking(move || store.receipt(file))
            })
            .try_filter_map(async |receipt| Ok(receipt.map(|r| answer(&r))))
            .map_err(Status::from);
        Ok(Box::pin(receipts))
    }
}

fn wrong_ticket(action: &str) -> WorkerError {
    WorkerError::Invalid(format!("{action} takes a ticket of its own kind"))
}

fn answer(message: &impl Message) -> arrow_flight::Result {
    arrow_flight::Result { body: message.encode_to_vec().into() }
}

fn one(message: impl Message) -> Answers<arrow_flight::Result> {
    one_encoded(message.encode_to_vec().into())
}

fn one_encoded(body: Bytes) -> Answers<arrow_flight::Result> {
    Box::pin(stream::iter([Ok(arrow_flight::Result { body })]))
}

fn not_here<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("a worker has no {what}; connect to the coordinator for SQL")))
}

#[tonic::async_trait]
impl FlightService for WorkerService {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let (headers, _, asked) = request.into_parts();
        let ticket = self.worker.verify(&direct::unwrapped(asked.ticket))?;
        let rows: Self::DoGetStream = match ticket.body {
            Some(Body::Task(task)) => task::start(&self.worker, &ticket.query_id, task).await?.boxed(),
            Some(Body::Endpoint(endpoint)) => {
                let limit = MessageLimit::of_headers(&headers)?;
                direct::start(&self.worker, &ticket.query_id, endpoint, limit).await?.boxed()
            }
            Some(Body::Partition(partition)) => shuffle::read(&self.worker, partition).await?.boxed(),
            _ => return Err(WorkerError::Invalid("DoGet on a worker takes the ticket of a task".into()).into()),
        };
        Ok(Response::new(rows))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let receipt = put::receive(&self.worker, request.into_inner()).await?;
        let result = PutResult { app_metadata: receipt.encode_to_vec().into() };
        Ok(Response::new(Box::pin(stream::iter([Ok(result)]))))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let action = request.into_inner();
        let answers = match action.r#type.as_str() {
            wire::ACTION_DROP_TRANSACTION => self.drop_transaction(&action.body).await?,
            wire::ACTION_LIST_FILES => self.list_files(&action.body)?,
            wire::ACTION_RECALL => self.recall(&action.body)?,
            direct::SET_SESSION_OPTIONS => one_encoded(direct::set_session_options()),
            direct::GET_SESSION_OPTIONS => one_encoded(direct::get_session_options()),
            direct::CLOSE_SESSION => one_encoded(direct::close_session()),
            wire::ACTION_PING => one(self.worker.status().await),
            other => return not_here(&format!("action {:?}", other.chars().take(64).collect::<String>())),
        };
        Ok(Response::new(answers))
    }

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        Ok(direct::handshake(&request))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        not_here("ListFlights")
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        not_here("GetFlightInfo")
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        not_here("PollFlightInfo")
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        not_here("GetSchema")
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        let held = shuffle::hold(&self.worker, request.into_inner()).await?;
        Ok(Response::new(Box::pin(held)))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        not_here("ListActions")
    }
}
