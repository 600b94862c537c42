//! A worker that speaks the contract between coordinator and worker, except where its script says
//! otherwise. Each has a runtime of its own, so that it can die as a process dies.

use std::collections::{HashSet, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use skyflight_proto::task_message::Body;
use skyflight_proto::ticket::Body as TicketBody;
use skyflight_proto::wire::{ACTION_PING, MAX_MESSAGE_BYTES};
use skyflight_proto::{ClusterKeys, Message, TaskMessage, TaskTicket, WorkerStatus};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use super::sky::{self, Part};

/// What a worker does wrong in one stream. `at` counts messages after the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The whole process dies.
    Die { at: usize },
    /// The stream ends in a status.
    Status { at: usize, code: Code },
    /// The stream ends as if it were complete, without `done`.
    End { at: usize },
    /// Nothing more comes.
    Hang { at: usize },
    /// Metadata that is no `TaskMessage`.
    Garbage { at: usize },
    /// Metadata that is none at all.
    Blank { at: usize },
    /// A batch of a chunk that was not asked for.
    UnknownChunk { at: usize },
    /// `done` while chunks are missing.
    DoneEarly { at: usize },
    /// The message comes twice: a batch with the same number, or a trailer.
    Twice { at: usize },
    /// The message does not come.
    Lost { at: usize },
    /// A bit of the message's body is not what the digest was made of.
    Flip { at: usize },
    /// The frame's header is cut.
    BadHeader { at: usize },
    /// The n-th trailer has another digest.
    WrongDigest { trailer: usize },
    /// The n-th trailer has one row more.
    WrongRows { trailer: usize },
    /// The n-th trailer has one batch more.
    WrongBatches { trailer: usize },
    /// A batch of a chunk follows its trailer.
    BatchAfterTrailer { trailer: usize },
    /// All trailers are said again before `done`.
    TrailersAgain,
    /// No schema.
    NoSchema,
    /// The schema of something else.
    OtherSchema,
    /// The task is refused.
    Refuse { code: Code },
    /// Between any two messages there is a pause.
    Slow { millis: u64 },
}

/// What a worker was asked in one stream.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) task: TaskTicket,
    pub(crate) inline: bool,
}

/// How honest streams look.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// Rows of one frame, at most.
    pub(crate) frame_rows: u64,
    /// Chunks that run side by side.
    pub(crate) abreast: usize,
    /// Whether pings are answered, and with moving counts.
    pub(crate) ping: Ping,
    /// Seed of the interleaving.
    pub(crate) seed: u64,
}

/// What a worker says to pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ping {
    /// Unimplemented.
    None,
    /// A task runs, and chunks are done in the meantime.
    Moving,
    /// A task runs, and nothing moves.
    Still,
}

impl Default for Manners {
    fn default() -> Self {
        Manners { frame_rows: 7, abreast: 3, ping: Ping::None, seed: 1 }
    }
}

/// A worker in this process.
pub(crate) struct Worker {
    pub(crate) address: String,
    pub(crate) state: Arc<State>,
}

pub(crate) struct State {
    keys: Arc<ClusterKeys>,
    manners: Manners,
    /// Faults of the streams to come; when it is empty, none.
    pub(crate) script: Mutex<VecDeque<Fault>>,
    pub(crate) asked: Mutex<Vec<Asked>>,
    fragments: Mutex<HashSet<Bytes>>,
    /// Forget each fragment at once.
    pub(crate) forgetful: AtomicBool,
    pub(crate) open: AtomicUsize,
    pub(crate) sent: AtomicUsize,
    pub(crate) pings: AtomicUsize,
    dead: AtomicBool,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
}

impl Worker {
    /// Starts a worker on a free port.
    pub(crate) fn start(keys: &Arc<ClusterKeys>, manners: Manners) -> Worker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fake")
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(State {
            keys: Arc::clone(keys),
            manners,
            script: Mutex::default(),
            asked: Mutex::default(),
            fragments: Mutex::default(),
            forgetful: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            pings: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            runtime: Mutex::new(None),
        });
        let service = FlightServiceServer::new(Service(Arc::clone(&state)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            Server::builder()
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(16 << 20)
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        *state.runtime.lock() = Some(runtime);
        Worker { address: format!("http://{address}"), state }
    }

    /// Appends faults for the streams to come.
    pub(crate) fn script(&self, faults: &[Fault]) {
        self.state.script.lock().extend(faults);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().clone()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.state.die();
    }
}

impl State {
    /// Closes every socket at once.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

/// Counts a stream as open until it is dropped.
struct Open(Arc<State>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Service(Arc<State>);

impl Service {
    fn task(&self, ticket: &Ticket) -> Result<TaskTicket, Status> {
        let ticket =
            self.0.keys.verify(&ticket.ticket, sky::unix_ms()).map_err(|e| Status::unauthenticated(e.to_string()))?;
        assert_eq!(ticket.user, "ada");
        assert_eq!(ticket.query_id.len(), 16);
        let Some(TicketBody::Task(task)) = ticket.body else {
            return Err(Status::invalid_argument("not a task"));
        };
        Ok(task)
    }

    fn know(&self, task: &TaskTicket) -> Result<(), Status> {
        let mut fragments = self.0.fragments.lock();
        if task.fragment.is_some() {
            if !self.0.forgetful.load(Ordering::SeqCst) {
                fragments.insert(task.fragment_hash.clone());
            }
            return Ok(());
        }
        if fragments.contains(&task.fragment_hash) {
            return Ok(());
        }
        Err(Status::failed_precondition("fragment unknown: send it again"))
    }
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let task = self.task(request.get_ref())?;
        self.know(&task)?;
        let fault = self.0.script.lock().pop_front().unwrap_or(Fault::None);
        let stream_number = {
            let mut asked = self.0.asked.lock();
            asked.push(Asked { inline: task.fragment.is_some(), task: TaskTicket { fragment: None, ..task.clone() } });
            asked.len() as u64
        };
        if let Fault::Refuse { code } = fault {
            return Err(Status::new(code, "scripted refusal"));
        }
        let manners = &self.0.manners;
        // An attempt that is not deterministic says in each row which attempt it is.
        let stamp = if task.deterministic { 0 } else { manners.seed * 1_000 + stream_number };
        let parts = sky::task_parts(&task, manners.frame_rows, manners.abreast, manners.seed ^ stream_number, stamp);
        self.0.open.fetch_add(1, Ordering::SeqCst);
        let play = Play {
            open: Open(Arc::clone(&self.0)),
            task,
            fault,
            parts: parts.into_iter(),
            queue: VecDeque::new(),
            number: 0,
            trailers: 0,
            said: Vec::new(),
            begun: false,
            ended: false,
        };
        let stream = futures::stream::unfold(play, |mut play| async move {
            let item = play.next().await?;
            play.open.0.sent.fetch_add(1, Ordering::SeqCst);
            Some((item, play))
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let pings = self.0.pings.fetch_add(1, Ordering::SeqCst) as u64;
        if request.get_ref().r#type != ACTION_PING || self.0.manners.ping == Ping::None {
            return Err(Status::unimplemented("no such action"));
        }
        let status = WorkerStatus {
            worker: "fake".into(),
            running_tasks: 1,
            chunks_done: if self.0.manners.ping == Ping::Moving { pings } else { 0 },
            ..WorkerStatus::default()
        };
        let result = ActionResult { body: status.encode_to_vec().into() };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("handshake"))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("list_flights"))
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented("get_flight_info"))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("poll_flight_info"))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented("get_schema"))
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented("do_put"))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("do_exchange"))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("list_actions"))
    }
}

/// One stream as it is performed.
struct Play {
    open: Open,
    task: TaskTicket,
    fault: Fault,
    parts: std::vec::IntoIter<Part>,
    queue: VecDeque<FlightData>,
    /// Messages after the schema.
    number: usize,
    trailers: usize,
    said: Vec<FlightData>,
    begun: bool,
    ended: bool,
}

impl Play {
    async fn next(&mut self) -> Option<Result<FlightData, Status>> {
        if let Fault::Slow { millis } = self.fault {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        if !self.begun {
            self.begun = true;
            match self.fault {
                Fault::NoSchema => {}
                Fault::OtherSchema => return Some(Ok(sky::other_schema_message())),
                _ => return Some(Ok(sky::schema_message())),
            }
        }
        if let Some(message) = self.queue.pop_front() {
            return Some(Ok(message));
        }
        if self.ended {
            return None;
        }
        let number = self.number;
        self.number += 1;
        match self.fault {
            Fault::Die { at } if at == number => {
                self.open.0.die();
                std::future::pending::<()>().await;
            }
            Fault::Hang { at } if at == number => std::future::pending().await,
            Fault::Status { at, code } if at == number => {
                self.ended = true;
                return Some(Err(Status::new(code, "scripted failure")));
            }
            Fault::End { at } if at == number => return None,
            Fault::DoneEarly { at } if at == number => {
                self.ended = true;
                return Some(Ok(sky::done_message(&self.task)));
            }
            Fault::UnknownChunk { at } if at == number => {
                let mut message = sky::any_batch();
                message.app_metadata = sky::mark(Body::Batch(skyflight_proto::BatchMark {
                    chunk_index: self.task.chunks.len() as u32,
                    sequence: 0,
                }));
                return Some(Ok(message));
            }
            _ => {}
        }
        let Some(part) = self.parts.next() else {
            self.ended = true;
            if self.fault == Fault::TrailersAgain {
                self.queue.extend(self.said.drain(..));
                self.queue.push_back(sky::done_message(&self.task));
                return self.queue.pop_front().map(Ok);
            }
            return Some(Ok(sky::done_message(&self.task)));
        };
        let message = self.altered(number, part.message());
        if message.is_none() {
            return Box::pin(self.next()).await;
        }
        message.map(Ok)
    }

    fn altered(&mut self, number: usize, mut message: FlightData) -> Option<FlightData> {
        match self.fault {
            Fault::Garbage { at } if at == number => message.app_metadata = Bytes::from_static(b"\xff\xfe\x01garbage"),
            Fault::Blank { at } if at == number => message.app_metadata = Bytes::new(),
            Fault::Twice { at } if at == number => self.queue.push_back(message.clone()),
            Fault::Lost { at } if at == number => return None,
            Fault::Flip { at } if at == number && !message.data_body.is_empty() => {
                let mut body = message.data_body.to_vec();
                let middle = body.len() / 2;
                body[middle] ^= 1;
                message.data_body = body.into();
            }
            Fault::BadHeader { at } if at == number => {
                message.data_header = message.data_header.slice(..message.data_header.len() / 2);
            }
            _ => {}
        }
        if let Ok(TaskMessage { body: Some(Body::Trailer(mut trailer)) }) =
            TaskMessage::decode(message.app_metadata.clone())
        {
            let this = self.trailers;
            self.trailers += 1;
            match self.fault {
                Fault::WrongDigest { trailer: n } if n == this => trailer.digest ^= 1,
                Fault::WrongRows { trailer: n } if n == this => trailer.rows += 1,
                Fault::WrongBatches { trailer: n } if n == this => trailer.batches += 1,
                Fault::BatchAfterTrailer { trailer: n } if n == this => {
                    let mut extra = sky::any_batch();
                    extra.app_metadata = sky::mark(Body::Batch(skyflight_proto::BatchMark {
                        chunk_index: trailer.chunk_index,
                        sequence: trailer.batches,
                    }));
                    self.queue.push_back(extra);
                }
                _ => {}
            }
            message.app_metadata = sky::mark(Body::Trailer(trailer));
            self.said.push(message.clone());
        }
        Some(message)
    }
}
