//! Which endpoints a client gets: one at the coordinator, or some at the workers that hold the chunks.
//!
//! Workers are named where the rows of a query are exactly theirs, the client follows locations, and
//! the workers answer. What a client does with locations is known by its user-agent; an unknown one
//! gets a single endpoint without any, which means here. Every endpoint can be redeemed here too, as
//! often as wanted until it expires.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use skyflight_catalog::{Estimated, QueryRecord, QueryState};
use skyflight_engine::EngineError;
use skyflight_engine::dispatch::{DispatchRequest, QueryContext, QueryCounters};
use skyflight_engine::message_limit::MessageLimit;
use skyflight_proto::ticket::Body;
use skyflight_proto::wire::RECALL_MEMORY;
use skyflight_proto::{EndpointTicket, Ticket};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use uuid::Uuid;

use super::promise::{after, query_id};
use super::pump::pumped;
use super::rows::Rows;
use super::statement::{Fetched, Statements};
use crate::dispatch::{divide, endpoint_ticket, request_of};
use crate::error::status_of;
use crate::query::{QueryLife, WaitingQuery};
use crate::session::{Caller, ENDPOINTS_PROPERTY, EndpointMode, JAVA_LIBRARY, JDBC_DRIVER, user_agent};

/// The location that means the connection by which the FlightInfo came.
const REUSE_CONNECTION: &str = "arrow-flight-reuse-connection://?";

/// Fewer chunks are not worth a client's connections.
const FEWEST_CHUNKS: u64 = 2;

/// Most bytes of all tickets of one FlightInfo, which has to fit in a message of 4 MB.
const TICKETS_BYTES: usize = 3 << 20;

/// An endpoint as a client is told of it.
pub(super) struct Endpoint {
    /// A signed ticket.
    pub(super) ticket: Bytes,
    /// Where it is to be redeemed, in the order in which to try; empty for here.
    pub(super) locations: Vec<String>,
}

impl Endpoint {
    /// At the coordinator.
    pub(super) fn here(ticket: Bytes) -> Self {
        Endpoint { ticket, locations: Vec::new() }
    }
}

/// The endpoints of a query that workers serve.
pub(super) struct HandedOut {
    /// At least one of them is at a worker.
    pub(super) endpoints: Vec<Endpoint>,
    /// When their tickets expire.
    pub(super) expires_unix_ms: i64,
}

/// How a coordinator decides where the caller does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndpointPolicy {
    pub(crate) mode: EndpointMode,
    /// In `auto`, bytes of chunk files that a query has to read to be served by workers.
    pub(crate) direct_bytes: u64,
    /// Whether clients come by TLS; they are not sent to workers without it.
    pub(crate) secure: bool,
}

/// What a client does with the locations of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Ignores them, or is not known.
    Stays,
    /// Goes to the first, or to others too.
    Goes,
    /// The same, and knows [`REUSE_CONNECTION`].
    GoesAndComesBack,
}

impl Habit {
    fn of(headers: &MetadataMap) -> Habit {
        let user_agent = user_agent(headers);
        // JDBC's driver does not say its name before version 19, but nobody else makes this header.
        let jdbc = user_agent.starts_with(JAVA_LIBRARY) && headers.contains_key(ENDPOINTS_PROPERTY);
        if jdbc || ["ADBC Flight SQL Driver", JDBC_DRIVER].iter().any(|name| user_agent.starts_with(name)) {
            Habit::GoesAndComesBack
        } else if user_agent.to_ascii_lowercase().contains("odbc") {
            Habit::Goes
        } else {
            Habit::Stays
        }
    }
}

/// Where the client of one request can be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// What the caller says.
    mode: Option<EndpointMode>,
    habit: Habit,
    /// Whether it is on this machine, where loopback addresses of workers are right.
    on_loopback: bool,
}

impl Reach {
    pub(super) fn of<T>(request: &Request<T>, caller: &Caller) -> Reach {
        let on_loopback = request.remote_addr().is_some_and(|address| address.ip().to_canonical().is_loopback());
        Reach { mode: caller.endpoints, habit: Habit::of(request.metadata()), on_loopback }
    }

    /// For what is served here whatever the client could do.
    pub(super) fn here() -> Reach {
        Reach { mode: Some(EndpointMode::Single), habit: Habit::Stays, on_loopback: false }
    }

    /// Whether `address` means the worker for this client too.
    fn understands(self, address: &str, secure: bool) -> bool {
        if secure && !address.starts_with("https://") {
            return false;
        }
        let Ok(uri) = address.parse::<tonic::transport::Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        if ip.is_some_and(|ip| ip.is_unspecified()) {
            return false;
        }
        let loopback = host.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback());
        !loopback || self.on_loopback
    }
}

/// A worker's address as Flight spells it.
fn location(address: &str) -> String {
    let address = address.trim_end_matches('/');
    match address.strip_prefix("https://") {
        Some(host) => format!("grpc+tls://{host}"),
        None => format!("grpc+tcp://{}", address.strip_prefix("http://").unwrap_or(address)),
    }
}

impl Statements {
    /// The endpoints at workers of a planned query, whose record is then closed; `None` where it is to
    /// be served here.
    ///
    /// Errors: the fragment cannot be encoded, which is a fault of ours.
    pub(super) async fn hand_out(
        &self,
        waiting: &mut WaitingQuery,
        promised: &Schema,
        reach: Reach,
    ) -> Result<Option<HandedOut>, Status> {
        let policy = self.parts().endpoints;
        let follows = reach.habit != Habit::Stays;
        let planned = &waiting.planned;
        let query = planned.query().id;
        let failed = |error: EngineError| status_of(&error, Some(query));
        let worth_it = match reach.mode.unwrap_or(policy.mode) {
            EndpointMode::Single => false,
            // Some clients read the first of several endpoints and take it for all: they have to ask.
            EndpointMode::Direct => follows || reach.mode.is_some(),
            EndpointMode::Auto if follows => {
                let estimate = planned.estimate().map_err(failed)?;
                estimate.chunks >= FEWEST_CHUNKS && estimate.bytes >= policy.direct_bytes
            }
            EndpointMode::Auto => false,
        };
        if !worth_it {
            return Ok(None);
        }
        let Some(request) = planned.relay().map_err(failed)? else { return Ok(None) };
        let expires_unix_ms = after(self.endpoint_ttl());
        let Some(endpoints) = self.divided(&request, promised, reach, expires_unix_ms).await else { return Ok(None) };
        waiting.life.handed_out(endpoints.len(), request.chunks.chunks.len() as u64);
        Ok(Some(HandedOut { endpoints, expires_unix_ms }))
    }

    /// How long the tickets of endpoints are good: no longer than workers remember that they were recalled.
    pub(super) fn endpoint_ttl(&self) -> Duration {
        self.parts().ticket_ttl.min(RECALL_MEMORY)
    }

    /// The dispatch as endpoints; `None` where no worker can be named, or too many would have to be.
    async fn divided(
        &self,
        request: &DispatchRequest,
        promised: &Schema,
        reach: Reach,
        expires_unix_ms: i64,
    ) -> Option<Vec<Endpoint>> {
        let parts = self.parts();
        let addresses = match parts.dispatcher.direct()?.addresses(&request.chunks.workers).await {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(query_id = %request.query.id, %error, "a query is served here: the workers are not known");
                return None;
            }
        };
        let secure = parts.endpoints.secure;
        let locations: Vec<Option<String>> = addresses
            .iter()
            .map(|address| address.as_deref().filter(|address| reach.understands(address, secure)).map(location))
            .collect();
        let usable: Vec<bool> = locations.iter().map(Option::is_some).collect();
        let divided = divide(&request.chunks, &usable)?;
        if divided.iter().all(|part| part.workers.is_empty()) {
            return None;
        }
        let mut bytes = 0;
        let mut endpoints = Vec::with_capacity(divided.len());
        for part in &divided {
            let ticket = parts.keys.sign(&Ticket {
                expires_unix_ms,
                user: request.query.user.clone(),
                query_id: Bytes::copy_from_slice(request.query.id.as_bytes()),
                body: Some(Body::Endpoint(endpoint_ticket(request, part, promised))),
            });
            bytes += ticket.len();
            if bytes > TICKETS_BYTES {
                return None;
            }
            let named = part.workers.iter().filter_map(|worker| locations[*worker as usize].clone());
            let mut named: Vec<String> = named.collect();
            if !named.is_empty() && reach.habit == Habit::GoesAndComesBack {
                named.push(REUSE_CONNECTION.to_owned());
            }
            endpoints.push(Endpoint { ticket, locations: named });
        }
        Some(endpoints)
    }

    /// The rows of an endpoint, for clients that come here with its verified ticket. Each redemption
    /// reads the chunks anew, and from replicas where it has to.
    ///
    /// Errors: `Cancelled` where the query was; `ResourceExhausted` when too many queries run.
    pub(super) async fn redeem(
        &self,
        ticket: &Ticket,
        endpoint: EndpointTicket,
        limit: MessageLimit,
    ) -> Result<Fetched, Status> {
        let parts = self.parts();
        let query_id = query_id(ticket)?;
        // Tickets of endpoints do not hold the statement; and it may have been cancelled elsewhere.
        let record = parts.store.query(&query_id.to_string()).await.ok();
        let cancelled = record.as_ref().is_some_and(|record| record.state == QueryState::Cancelled);
        if cancelled || parts.waiting.is_void(query_id) {
            return Err(status_of(&EngineError::Cancelled, Some(query_id)));
        }
        let sql = record.map_or_else(|| "an endpoint of a query".to_owned(), |record| record.sql);
        let place = parts.gate.enter_announced(&ticket.user)?;
        let query = QueryContext { id: query_id, ..self.query(&ticket.user) };
        let (promised, request) = request_of(endpoint, query.clone()).map_err(|e| status_of(&e, Some(query_id)))?;
        QueryCounters::add(&query.counters.chunks_planned, request.chunks.chunks.len() as u64);
        let mut life = QueryLife::open_part(&query, &sql, &parts.journal);
        life.planned(Estimated::default());
        let rows = Rows::relay(request, promised, life, place, &parts.dispatcher, limit);
        Ok(Fetched { query_id, messages: pumped(rows) })
    }

    /// Ends what workers send to clients of a query of `user`'s that was handed out, makes its tickets
    /// void, and records that it was cancelled. A worker that cannot be told is logged.
    pub(super) async fn recall(&self, user: &str, query_id: Uuid) {
        let parts = self.parts();
        parts.waiting.void(query_id);
        if let Some(workers) = parts.dispatcher.direct() {
            workers.recall(user, query_id).await;
        }
        parts.journal.settled().await;
        match parts.store.query(&query_id.to_string()).await {
            Ok(record) if record.state == QueryState::Direct => parts.journal.record(QueryRecord {
                state: QueryState::Cancelled,
                error: Some(EngineError::Cancelled.to_string()),
                ..record
            }),
            Ok(_) => {}
            Err(error) => tracing::warn!(%query_id, %error, "the record of a recalled query stays as it is"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn clients_are_known_by_their_user_agents() {
        // As they come on the wire, what the gRPC library adds included.
        let known = [
            ("ADBC Flight SQL Driver v1.13.0 grpc-go/1.81.0", Habit::GoesAndComesBack),
            ("JDBC Flight SQL Driver 19.0.0 grpc-java-netty/1.79.0", Habit::GoesAndComesBack),
            ("arrow-flight-sql-odbc/1 grpc-c++/1.46.3", Habit::Goes),
            ("grpc-c++/1.46.3 grpc-c/24.0.0 (linux; chttp2)", Habit::Stays),
            ("grpc-java-netty/1.73.0", Habit::Stays),
            ("grpc-dotnet/2.71", Habit::Stays),
            ("", Habit::Stays),
        ];
        for (user_agent, habit) in known {
            let mut headers = MetadataMap::new();
            headers.insert("user-agent", user_agent.parse().unwrap());
            assert_eq!(Habit::of(&headers), habit, "{user_agent}");
            // The driver of JDBC 18.3, whose URL says so.
            headers.insert(ENDPOINTS_PROPERTY, "direct".parse().unwrap());
            let told = if user_agent.starts_with("grpc-java") { Habit::GoesAndComesBack } else { habit };
            assert_eq!(Habit::of(&headers), told, "{user_agent}, endpoints=direct");
        }
    }

    #[test]
    fn loopback_is_named_to_neighbours_only_and_plain_workers_to_plain_clients() {
        let reach = |on_loopback| Reach { mode: None, habit: Habit::Goes, on_loopback };
        for address in ["http://127.0.0.1:5", "http://[::1]:5", "http://localhost:5", "http://[::ffff:127.0.0.1]:5"] {
            assert!(reach(true).understands(address, false), "{address}");
            assert!(!reach(false).understands(address, false), "{address}");
        }
        assert!(reach(false).understands("http://w1.example.org:5", false));
        assert!(!reach(false).understands("http://w1.example.org:5", true));
        assert!(reach(false).understands("https://w1.example.org:5", true));
        assert!(!reach(true).understands("no address", false));
        assert!(!reach(true).understands("http://0.0.0.0:5", false), "it is nowhere for others");
    }

    #[test]
    fn locations_are_spelled_as_flight_does() {
        assert_eq!(location("http://10.0.0.1:50/"), "grpc+tcp://10.0.0.1:50");
        assert_eq!(location("https://w1:50"), "grpc+tls://w1:50");
    }
}
