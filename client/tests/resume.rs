//! A fetch of numbered batches that breaks off goes on at the next batch; one of others fails.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use skyflight_client::Connection;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

const BATCHES: u64 = 10;

/// Gives ten batches of one row, and breaks off after each third.
struct Breaking {
    numbered: bool,
    /// Where fetches began.
    begun: Arc<seen::Begun>,
}

/// What the server saw.
mod seen {
    use std::sync::Mutex;

    #[derive(Default)]
    pub(crate) struct Begun(Mutex<Vec<u64>>);

    impl Begun {
        pub(crate) fn push(&self, first: u64) {
            self.0.lock().unwrap().push(first);
        }

        pub(crate) fn all(&self) -> Vec<u64> {
            self.0.lock().unwrap().clone()
        }
    }
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Breaking {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new("rows"));
        Ok(Response::new(FlightInfo::new().try_with_schema(&schema()).unwrap().with_endpoint(endpoint)))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let first = request.metadata().get("x-skyflight-first-batch");
        let first: u64 = first.map_or(0, |value| value.to_str().unwrap().parse().unwrap());
        self.begun.push(first);
        let numbered = self.numbered;
        let number = AtomicUsize::new(first as usize);
        let batches = (first..BATCHES)
            .map(|n| Ok(RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![n as i64]))]).unwrap()));
        let messages = FlightDataEncoderBuilder::new()
            .with_schema(schema())
            .build(futures::stream::iter(batches))
            .map_err(Status::from)
            .map_ok(move |message| {
                if !numbered || message.data_body.is_empty() {
                    return message;
                }
                message.with_app_metadata(number.fetch_add(1, Ordering::Relaxed).to_string())
            })
            // The schema and three batches.
            .take(4);
        let breaks = (first + 3 < BATCHES).then(|| Err(Status::unavailable("the connection is gone")));
        Ok(Response::new(messages.chain(futures::stream::iter(breaks)).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        Err(Status::unimplemented(""))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(Status::unimplemented(""))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(Status::unimplemented(""))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(Status::unimplemented(""))
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        Err(Status::unimplemented(""))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(Status::unimplemented(""))
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        Err(Status::unimplemented(""))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(Status::unimplemented(""))
    }
}

/// The rows that came, whether they ended well, and where fetches began.
async fn fetch(numbered: bool) -> (Vec<i64>, bool, Vec<u64>) {
    let begun = Arc::<seen::Begun>::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = FlightServiceServer::new(Breaking { numbered, begun: Arc::clone(&begun) });
    let server =
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
    let _server = AbortOnDropHandle::new(tokio::runtime::Handle::current().spawn(server));
    let mut connection = Connection::open(&format!("http://{address}")).await.unwrap();
    let mut rows = connection.query("SELECT * FROM job('1')").await.unwrap();
    let mut found = Vec::new();
    let ended = loop {
        match rows.try_next().await {
            Ok(Some(batch)) => found.extend(batch.column(0).as_primitive::<Int64Type>().values()),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    (found, ended, begun.all())
}

#[tokio::test]
async fn numbered_batches_all_come_once() {
    let (found, ended, begun) = fetch(true).await;
    assert!(ended);
    assert_eq!(found, (0..10).collect::<Vec<i64>>());
    assert_eq!(begun, [0, 3, 6, 9]);
}

#[tokio::test]
async fn rows_without_numbers_are_not_begun_again() {
    let (found, ended, begun) = fetch(false).await;
    assert!(!ended, "a broken stream ends with its error");
    assert_eq!((found, begun), (vec![0, 1, 2], vec![0]));
}
