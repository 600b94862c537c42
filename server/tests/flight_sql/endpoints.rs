//! Endpoints at workers: who gets them, what their tickets hold, and that the coordinator serves them too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{ActionCancelQueryRequest, Any, CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightEndpoint,
    FlightInfo, RenewFlightEndpointRequest,
};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use skyflight_catalog::{
    CatalogStore, Commit, CommitMode, FileId, FileKind, NewFile, Owner, QueryState, SqliteStore, TableCommit,
    TableFacts, WorkerId,
};
use skyflight_engine::dispatch::{ChunkDispatcher, DirectWorkers, DispatchRequest, FrameStream};
use skyflight_engine::frames::encode_batch;
use skyflight_engine::{EngineError, Result};
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, EndpointTicket};
use skyflight_server::{CoordinatorConfig, EndpointMode};
use skyflight_sky::{ChunkId, SchemeSpec};
use tonic::{Code, Request};
use uuid::Uuid;

use super::coordinator::{Client, TestCoordinator, column, director, fetch, integers, query, status, texts};

const CHUNKS: std::ops::Range<u64> = 16..46;
const WORKERS: [&str; 3] = ["w0", "w1", "w2"];
const SQL: &str = "SELECT id, ra FROM Sky.Object";
const ADBC: &str = "ADBC Flight SQL Driver v1.13.0";

/// Each chunk is on two of three workers; a dispatch gives one row for each of its chunks.
#[derive(Debug, Default)]
struct Fleet {
    /// Those that do not answer.
    gone: Mutex<Vec<&'static str>>,
    /// Whether a dispatch never ends after its rows.
    endless: AtomicBool,
    dispatched: Mutex<Vec<DispatchRequest>>,
    recalled: Mutex<Vec<(String, Uuid)>>,
}

fn holders(chunk: u64) -> [&'static str; 2] {
    [WORKERS[chunk as usize % 3], WORKERS[(chunk as usize + 1) % 3]]
}

fn address(worker: &str) -> String {
    format!("http://{worker}.example.org:50")
}

impl ChunkDispatcher for Fleet {
    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        self.dispatched.lock().push(request.clone());
        let ids: Vec<i64> = request.chunks.chunks.iter().map(|chunk| chunk.chunk.0 as i64).collect();
        let ra = Float64Array::from_iter_values(ids.iter().map(|id| *id as f64));
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(ra)];
        let batch = RecordBatch::try_new(Arc::clone(&request.schema), columns).unwrap();
        let rows = futures::stream::iter(encode_batch(&batch).unwrap().into_iter().map(Ok));
        if self.endless.load(Ordering::Relaxed) {
            let cancel = request.query.cancel.clone();
            let end = async move { cancel.cancelled_owned().await }.map(|()| Err(EngineError::Cancelled));
            return rows.chain(end.into_stream()).boxed();
        }
        rows.boxed()
    }
}

/// The fleet, as a coordinator is given it.
#[derive(Debug, Clone)]
struct Reachable(Arc<Fleet>);

impl ChunkDispatcher for Reachable {
    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        self.0.dispatch(request)
    }

    fn direct(&self) -> Option<Arc<dyn DirectWorkers>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl DirectWorkers for Reachable {
    async fn addresses(&self, workers: &[WorkerId]) -> Result<Vec<Option<String>>> {
        let gone = self.0.gone.lock();
        Ok(workers.iter().map(|worker| (!gone.contains(&worker.0.as_str())).then(|| address(&worker.0))).collect())
    }

    async fn recall(&self, user: &str, query: Uuid) {
        self.0.recalled.lock().push((user.to_owned(), query));
    }
}

async fn coordinator(adjust: impl FnOnce(&mut CoordinatorConfig)) -> (TestCoordinator, Arc<Fleet>) {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("Sky", None).await.unwrap();
    let owner = Owner { host: "here".into(), pid: std::process::id(), program: "test".into() };
    let transaction = store.open_transaction(database.id, &owner).await.unwrap().id;
    let file = |(number, chunk): (usize, u64)| NewFile {
        id: FileId::new(transaction, number as u32),
        chunk: ChunkId(chunk),
        kind: FileKind::Rows,
        rows: 1_000,
        bytes: 1 << 20,
        sha256: [7; 32],
        statistics: Vec::new(),
        workers: holders(chunk).map(WorkerId::from).to_vec(),
    };
    let table = TableCommit {
        ended: Vec::new(),
        table: director(
            "Object",
            ["id", "ra", "dec"],
            vec![
                column("id", "Int64", None, None),
                column("ra", "Float64", Some("deg"), Some("right ascension")),
                column("dec", "Float64", Some("deg"), None),
                column("_healpix_29", "Int64", None, None),
            ],
        ),
        mode: CommitMode::Append,
        facts: TableFacts { rows: 30_000, ..TableFacts::default() },
        files: CHUNKS.enumerate().map(file).collect(),
    };
    let scheme = SchemeSpec::Healpix { cells: (16..64).collect(), overlap_arcsec: 60.0 };
    store.commit(transaction, Commit { scheme: Some(scheme), tables: vec![table] }).await.unwrap();
    let fleet = Arc::new(Fleet::default());
    let dispatcher = Arc::new(Reachable(Arc::clone(&fleet)));
    let keys = Arc::new(ClusterKeys::generate());
    (TestCoordinator::start_over(Arc::new(store), keys, dispatcher, adjust).await, fleet)
}

/// GetFlightInfo with headers; tonic puts its own name behind the user agent.
async fn info(coordinator: &TestCoordinator, sql: &str, headers: &[(&'static str, &str)]) -> FlightInfo {
    let user_agent =
        headers.iter().find(|(name, _)| *name == "user-agent").map_or("test", |(_, value)| value).to_owned();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", coordinator.running.address()));
    let channel = channel.unwrap().user_agent(user_agent).unwrap().connect().await.unwrap();
    let command = CommandStatementQuery { query: sql.into(), transaction_id: None }.as_any().encode_to_vec();
    let mut request = Request::new(FlightDescriptor::new_cmd(command));
    for (name, value) in headers.iter().filter(|(name, _)| *name != "user-agent") {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    FlightServiceClient::new(channel).get_flight_info(request).await.unwrap().into_inner()
}

async fn direct(coordinator: &TestCoordinator) -> FlightInfo {
    info(coordinator, SQL, &[("x-skyflight-endpoints", "direct")]).await
}

fn locations(endpoint: &FlightEndpoint) -> Vec<&str> {
    endpoint.location.iter().map(|location| location.uri.as_str()).collect()
}

fn is_single(info: &FlightInfo) -> bool {
    info.endpoint.len() == 1 && info.endpoint[0].location.is_empty()
}

fn signed(endpoint: &FlightEndpoint) -> bytes::Bytes {
    let any = Any::decode(endpoint.ticket.clone().unwrap().ticket).unwrap();
    any.unpack::<TicketStatementQuery>().unwrap().unwrap().statement_handle
}

fn opened(coordinator: &TestCoordinator, endpoint: &FlightEndpoint) -> EndpointTicket {
    match coordinator.keys.verify(&signed(endpoint), 0).unwrap().body {
        Some(Body::Endpoint(ticket)) => ticket,
        other => panic!("not the ticket of an endpoint: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_chunk_is_in_one_endpoint_whose_workers_hold_it() {
    let (coordinator, fleet) = coordinator(|_| ()).await;
    let info = direct(&coordinator).await;
    assert!(info.endpoint.len() > 1);
    let mut seen = BTreeSet::new();
    let mut firsts = BTreeSet::new();
    for endpoint in &info.endpoint {
        let named = locations(endpoint);
        assert_eq!(named.len(), 2, "a worker and a replica");
        firsts.insert(named[0].to_owned());
        let ticket = opened(&coordinator, endpoint);
        let task = ticket.task.unwrap();
        assert!(task.fragment.is_some());
        for chunk in task.chunks {
            assert!(seen.insert(chunk.chunk), "chunk {} twice", chunk.chunk);
            for location in &named {
                assert!(holders(chunk.chunk).iter().any(|w| format!("grpc+tcp://{w}.example.org:50") == *location));
            }
        }
    }
    assert_eq!(seen, CHUNKS.collect());
    assert_eq!(firsts.len(), 3, "all workers have something to do");
    assert!(fleet.dispatched.lock().is_empty(), "the coordinator reads nothing");
    let record = coordinator.closed_record().await;
    assert_eq!((record.state, record.error), (QueryState::Direct, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_serves_an_endpoint_as_often_as_wanted() {
    let (coordinator, fleet) = coordinator(|_| ()).await;
    let info = direct(&coordinator).await;
    let mut client: Client = coordinator.client().await;
    for _ in 0..2 {
        let mut ids = Vec::new();
        for endpoint in &info.endpoint {
            let alone =
                FlightInfo { endpoint: vec![FlightEndpoint { location: vec![], ..endpoint.clone() }], ..info.clone() };
            let (_, batches) = fetch(&mut client, alone).await;
            ids.extend(integers(&batches, 0));
        }
        ids.sort_unstable();
        assert_eq!(ids, CHUNKS.map(|chunk| chunk as i64).collect::<Vec<_>>());
    }
    for request in fleet.dispatched.lock().iter() {
        for chunk in &request.chunks.chunks {
            let known: BTreeSet<&str> =
                chunk.workers.iter().map(|at| request.chunks.workers[*at as usize].0.as_str()).collect();
            assert_eq!(known, BTreeSet::from(holders(chunk.chunk.0)), "a retry has all replicas to go to");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_do_not_answer_are_not_named() {
    let (coordinator, fleet) = coordinator(|_| ()).await;
    *fleet.gone.lock() = vec!["w1"];
    let some = direct(&coordinator).await;
    let named: BTreeSet<&str> = some.endpoint.iter().flat_map(locations).collect();
    assert_eq!(named, BTreeSet::from(["grpc+tcp://w0.example.org:50", "grpc+tcp://w2.example.org:50"]));
    // Chunks that lie on both of these alone are left to the coordinator.
    *fleet.gone.lock() = vec!["w0", "w1"];
    let few = direct(&coordinator).await;
    assert!(few.endpoint.iter().any(|endpoint| endpoint.location.is_empty()));
    assert!(few.endpoint.iter().any(|endpoint| locations(endpoint) == ["grpc+tcp://w2.example.org:50"]));
    *fleet.gone.lock() = WORKERS.to_vec();
    assert!(is_single(&direct(&coordinator).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_what_it_understands() {
    let (coordinator, _) = coordinator(|config| config.direct_bytes = 0).await;
    for agent in [ADBC, "JDBC Flight SQL Driver 19.0.0"] {
        let info = info(&coordinator, SQL, &[("user-agent", agent)]).await;
        assert!(info.endpoint.len() > 1);
        for endpoint in &info.endpoint {
            let named = locations(endpoint);
            assert_eq!((named.len(), named[2]), (3, "arrow-flight-reuse-connection://?"), "{agent}");
        }
    }
    let old_jdbc = [("user-agent", "grpc-java-netty/1.73.0"), ("endpoints", "auto")];
    let said = info(&coordinator, SQL, &old_jdbc).await;
    assert!(said.endpoint.len() > 1 && said.endpoint.iter().all(|endpoint| locations(endpoint).len() == 3));
    assert!(is_single(&info(&coordinator, SQL, &old_jdbc[..1]).await));
    let odbc = info(&coordinator, SQL, &[("user-agent", "arrow-odbc/1")]).await;
    assert!(odbc.endpoint.iter().all(|endpoint| locations(endpoint).len() == 2));
    assert!(is_single(&info(&coordinator, SQL, &[("user-agent", "grpc-c++/1.46.3")]).await));
    // A client's own word counts more than its name.
    let single = [("user-agent", ADBC), ("endpoints", "single")];
    assert!(is_single(&info(&coordinator, SQL, &single).await));
    // What is not the workers' rows, and what is one chunk.
    for sql in ["SELECT count(DISTINCT ra) FROM Sky.Object", "SELECT id, ra FROM Sky.Object ORDER BY ra", "SELECT 1"] {
        assert!(is_single(&info(&coordinator, sql, &[("user-agent", ADBC)]).await), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_results_stay_here_and_so_do_all_where_it_is_configured() {
    let (small, _) = coordinator(|config| config.direct_bytes = 1 << 40).await;
    assert!(is_single(&info(&small, SQL, &[("user-agent", ADBC)]).await));
    let (single, _) = coordinator(|config| {
        config.endpoints = EndpointMode::Single;
        config.direct_bytes = 0;
    })
    .await;
    assert!(is_single(&info(&single, SQL, &[("user-agent", ADBC)]).await));
    assert!(!is_single(&direct(&single).await), "unless the client asks");
    let (all, _) = coordinator(|config| {
        config.endpoints = EndpointMode::Direct;
        config.direct_bytes = 1 << 40;
    })
    .await;
    assert!(!is_single(&info(&all, SQL, &[("user-agent", ADBC)]).await));
    assert!(is_single(&info(&all, SQL, &[]).await), "a client that may read the first endpoint only has to ask");
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_and_expired_endpoints_open_nothing_here() {
    let (coordinator, fleet) = coordinator(|config| config.ticket_ttl = Duration::from_millis(700)).await;
    let info = direct(&coordinator).await;
    let ticket = info.endpoint[0].ticket.clone().unwrap().ticket;
    let mut client = coordinator.client().await;
    for at in (0..ticket.len()).step_by(1 + ticket.len() / 40) {
        let mut altered = ticket.to_vec();
        altered[at] ^= 1 << (at % 8);
        let refused = client.do_get(arrow_flight::Ticket::new(altered)).await.unwrap_err();
        assert_eq!(status(&refused).0, Code::Unauthenticated, "byte {at}");
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    let (code, message) = status(&client.do_get(arrow_flight::Ticket { ticket }).await.unwrap_err());
    assert_eq!(code, Code::Unauthenticated);
    assert!(message.contains("expired"), "{message}");
    assert!(fleet.dispatched.lock().is_empty());
}

fn query_of(coordinator: &TestCoordinator, info: &FlightInfo) -> Uuid {
    Uuid::from_slice(&coordinator.keys.verify(&signed(&info.endpoint[0]), 0).unwrap().query_id).unwrap()
}

/// The endpoint as the coordinator's own.
fn here(info: &FlightInfo, at: usize) -> FlightInfo {
    FlightInfo { endpoint: vec![FlightEndpoint { location: vec![], ..info.endpoint[at].clone() }], ..info.clone() }
}

async fn act(client: &mut Client, name: &str, body: Vec<u8>) -> std::result::Result<Vec<u8>, tonic::Status> {
    let mut request = Request::new(Action::new(name, body));
    if let Some(token) = client.token() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let mut answer = client.inner_mut().do_action(request).await?.into_inner();
    Ok(answer.message().await?.unwrap().body.to_vec())
}

async fn state_of(coordinator: &TestCoordinator, query: Uuid) -> QueryState {
    coordinator.store.query(&query.to_string()).await.unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_is_recalled_from_the_workers_however_it_is_cancelled() {
    let (coordinator, fleet) = coordinator(|_| ()).await;
    let mut client = coordinator.client().await;
    let mut stranger = coordinator.client().await;
    stranger.handshake("stranger", "").await.unwrap();
    for way in ["CancelFlightInfo", "CancelQuery", "CANCEL"] {
        fleet.recalled.lock().clear();
        let info = direct(&coordinator).await;
        let id = query_of(&coordinator, &info);
        let told = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
        assert_eq!(act(&mut stranger, "CancelFlightInfo", told.clone()).await.unwrap_err().code(), Code::NotFound);
        assert!(stranger.execute(format!("CANCEL '{id}'"), None).await.is_err());
        assert!(fleet.recalled.lock().is_empty(), "nobody recalls another's query");
        // At once, when its record may not be written yet.
        match way {
            "CancelFlightInfo" => {
                let answer = act(&mut client, way, told.clone()).await.unwrap();
                let status = CancelFlightInfoResult::decode(answer.as_slice()).unwrap().status();
                assert_eq!(status, CancelStatus::Cancelled);
            }
            "CancelQuery" => {
                let request = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
                act(&mut client, way, request.as_any().encode_to_vec()).await.unwrap();
            }
            _ => {
                let (_, answer) = query(&mut client, &format!("CANCEL '{id}'")).await;
                assert!(answer.iter().any(|batch| format!("{batch:?}").contains("cancelled")), "{answer:?}");
            }
        }
        assert_eq!(*fleet.recalled.lock(), [("local".to_owned(), id)], "{way}");
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        assert_eq!(status(&client.do_get(ticket).await.unwrap_err()).0, Code::Cancelled, "{way}");
        let renewal = RenewFlightEndpointRequest::new(info.endpoint[0].clone()).encode_to_vec();
        let refused = act(&mut client, "RenewFlightEndpoint", renewal).await.unwrap_err();
        assert_eq!(refused.code(), Code::Cancelled, "{way}");
        // Cancelling it again says the same, and the record says it too.
        act(&mut client, "CancelFlightInfo", told).await.unwrap();
        assert_eq!(state_of(&coordinator, id).await, QueryState::Cancelled);
    }
    assert!(fleet.dispatched.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_served_here_leaves_the_query_as_it_was_and_is_cancelled_with_it() {
    let (coordinator, fleet) = coordinator(|_| ()).await;
    let mut client = coordinator.client().await;
    let info = direct(&coordinator).await;
    let id = query_of(&coordinator, &info);
    let (_, rows) = fetch(&mut client, here(&info, 0)).await;
    assert!(!integers(&rows, 0).is_empty());
    drop(client.do_get(info.endpoint[1].ticket.clone().unwrap()).await.unwrap());
    let (_, told) = query(&mut client, &format!("SELECT id, state FROM system.queries WHERE id = '{id}'")).await;
    assert_eq!(texts(&told, "state"), ["direct"]);

    fleet.endless.store(true, Ordering::Relaxed);
    let mut stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let mut other = coordinator.client().await;
    query(&mut other, &format!("CANCEL '{id}'")).await;
    assert_eq!(*fleet.recalled.lock(), [("local".to_owned(), id)], "other endpoints may be read from the workers");
    let ended = stream.next().await.unwrap().unwrap_err();
    assert_eq!(status(&ended).0, Code::Cancelled);
    assert_eq!(
        act(&mut other, "CancelFlightInfo", CancelFlightInfoRequest::new(info).encode_to_vec()).await.unwrap(),
        { CancelFlightInfoResult::new(CancelStatus::Cancelled).encode_to_vec() }
    );
    assert_eq!(state_of(&coordinator, id).await, QueryState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_of_a_worker_is_renewed_with_its_locations() {
    let (coordinator, _) = coordinator(|config| config.ticket_ttl = Duration::from_secs(2)).await;
    let info = direct(&coordinator).await;
    let mut client = coordinator.client().await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let body = RenewFlightEndpointRequest::new(info.endpoint[0].clone()).encode_to_vec();
    let renewed =
        FlightEndpoint::decode(act(&mut client, "RenewFlightEndpoint", body).await.unwrap().as_slice()).unwrap();
    assert_eq!(renewed.location, info.endpoint[0].location);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let expired = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap_err();
    assert_eq!(status(&expired).0, Code::Unauthenticated);
    let (_, rows) = fetch(&mut client, here(&FlightInfo { endpoint: vec![renewed], ..info }, 0)).await;
    assert!(!integers(&rows, 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_that_nobody_fetches_hold_nothing() {
    let (coordinator, fleet) = coordinator(|_| ()).await;
    let mut client = coordinator.client().await;
    client.set_header("x-skyflight-endpoints", "direct");
    for number in 0..1_000 {
        let info = client.execute(format!("SELECT id, {number} AS number FROM Sky.Object"), None).await.unwrap();
        assert!(info.endpoint.len() > 1);
    }
    // Neither plans nor queries wait: only what was handed out is told.
    let sql = "SELECT state, count(*) AS n FROM system.queries WHERE sql LIKE 'SELECT id, %' GROUP BY state";
    let (_, told) = query(&mut client, sql).await;
    assert_eq!(texts(&told, "state"), ["direct"]);
    assert!(fleet.dispatched.lock().is_empty() && fleet.recalled.lock().is_empty());
}
