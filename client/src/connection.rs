//! A connection to a Flight SQL server.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightInfo;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::fetch::fetch;
use crate::{ClientError, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server may send frames above tonic's default of 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A connection; clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) client: FlightSqlServiceClient<Channel>,
}

/// How a server is reached that wants TLS.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// The authorities of the server's certificate, PEM.
    pub authorities: Vec<u8>,
    /// The client's own certificate and its private key, PEM, where the server asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsOptions").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects without naming a user.
    ///
    /// # Errors
    /// `url` is no `http://host:port`, or nobody answers there within 5 s.
    pub async fn open(url: &str) -> Result<Connection> {
        Connection::open_with(url, None).await
    }

    /// Connects without naming a user; to an `https` address by TLS.
    ///
    /// # Errors
    /// `url` is no `http://host:port` or `https://host:port`, nobody answers there within 5 s, or the
    /// server is not who it should be.
    pub async fn open_with(url: &str, tls: Option<&TlsOptions>) -> Result<Connection> {
        let endpoint = Endpoint::from_shared(url.to_string())
            .map_err(|_| ClientError::Address { url: url.to_string() })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let failed = |cause| ClientError::Connect { url: url.to_string(), cause };
        let endpoint = match (url.starts_with("https://"), tls) {
            (false, _) => endpoint,
            (true, None) => return Err(ClientError::NoAuthorities { url: url.to_string() }),
            (true, Some(tls)) => {
                let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authorities));
                if let Some((certificate, key)) = &tls.identity {
                    config = config.identity(Identity::from_pem(certificate, key));
                }
                endpoint.tls_config(config).map_err(failed)?
            }
        };
        let channel = endpoint.connect().await.map_err(failed)?;
        let inner = FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Connection { client: FlightSqlServiceClient::new_from_inner(inner) })
    }

    /// Names the user of what follows; the server answers with a token that is sent from then on.
    ///
    /// # Errors
    /// The server does not take the user.
    pub async fn log_in(&mut self, user: &str, password: &str) -> Result<()> {
        self.client.handshake(user, password).await?;
        Ok(())
    }

    /// Sends a header with every call, for example `x-skyflight-schema`.
    pub fn set_header(&mut self, name: &str, value: &str) {
        self.client.set_header(name, value);
    }

    /// Runs a query. Rows arrive as they are polled; dropping them cancels the query.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn query(&mut self, sql: &str) -> Result<Rows> {
        let info = self.client.execute(sql.to_string(), None).await?;
        self.rows(info)
    }

    /// The schema of a query's rows, without running it.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn schema(&mut self, sql: &str) -> Result<SchemaRef> {
        let prepared = self.client.prepare(sql.to_string(), None).await?;
        let schema = prepared.dataset_schema()?.clone();
        prepared.close().await?;
        Ok(schema.into())
    }

    /// The rows that an answer's endpoints give.
    pub(crate) fn rows(&self, info: FlightInfo) -> Result<Rows> {
        let schema = Schema::try_from(info.clone())?;
        let client = self.client.clone();
        let endpoints = futures::stream::iter(info.endpoint.into_iter().map(Ok));
        let batches = endpoints.and_then(move |endpoint| fetch(client.clone(), endpoint)).try_flatten().boxed();
        Ok(Rows { schema: schema.into(), batches })
    }
}

/// The rows of a query, a batch at a time. An error is the last item.
pub struct Rows {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Rows {
    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(cx)
    }
}
