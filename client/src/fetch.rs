//! One endpoint's rows. The server numbers the batches of a job's result, so a fetch of those that
//! breaks off goes on at the next batch, also at a server that was started anew meanwhile.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{FlightEndpoint, Ticket};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tonic::Code;
use tonic::transport::Channel;

use crate::{ClientError, Result};

/// The header by which the server is told where to begin.
const FIRST_BATCH: &str = "x-skyflight-first-batch";

/// Pauses before a broken fetch is taken up again, for as long as no batch comes; then it fails.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Where a fetch is.
struct Fetch {
    client: FlightSqlServiceClient<Channel>,
    ticket: Ticket,
    stream: Option<FlightDataDecoder>,
    /// The number of the next batch, once the server has told one.
    next: Option<u64>,
    /// Failures since the last batch.
    failures: usize,
}

/// Redeems one endpoint at the server the connection is to, which serves every ticket it issues.
pub(crate) async fn fetch(
    client: FlightSqlServiceClient<Channel>,
    endpoint: FlightEndpoint,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let ticket = endpoint.ticket.ok_or_else(|| ClientError::Protocol("an endpoint without a ticket".to_string()))?;
    let mut fetch = Fetch { client, ticket, stream: None, next: None, failures: 0 };
    fetch.stream = Some(fetch.open().await?);
    let batches = futures::stream::try_unfold(fetch, |mut fetch| async move {
        let batch = fetch.batch().await?;
        Ok(batch.map(|batch| (batch, fetch)))
    });
    Ok(batches.boxed())
}

impl Fetch {
    async fn open(&mut self) -> Result<FlightDataDecoder> {
        let mut client = self.client.clone();
        if let Some(next) = self.next {
            client.set_header(FIRST_BATCH, next.to_string());
        }
        Ok(client.do_get(self.ticket.clone()).await?.into_inner())
    }

    async fn batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            match self.step().await {
                Ok(batch) => return Ok(batch),
                Err(error) if self.may_go_on(&error) => {
                    self.stream = None;
                    tokio::time::sleep(PAUSES[self.failures]).await;
                    self.failures += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next batch of the stream, which is opened where there is none.
    async fn step(&mut self) -> Result<Option<RecordBatch>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = self.open().await?;
                self.stream.insert(stream)
            }
        };
        while let Some(data) = stream.try_next().await? {
            let DecodedPayload::RecordBatch(batch) = data.payload else { continue };
            let number = std::str::from_utf8(&data.inner.app_metadata).ok().and_then(|text| text.parse::<u64>().ok());
            self.next = number.map(|number| number + 1);
            self.failures = 0;
            return Ok(Some(batch));
        }
        Ok(None)
    }

    /// Only what the way to the server does is worth another try, and only where batches have numbers.
    fn may_go_on(&self, error: &ClientError) -> bool {
        let transport = match error {
            ClientError::Server { code, .. } => matches!(code, Code::Unavailable | Code::Unknown | Code::Internal),
            ClientError::Protocol(_) => false,
            ClientError::Address { .. }
            | ClientError::NoAuthorities { .. }
            | ClientError::Connect { .. }
            | ClientError::Write(_)
            | ClientError::File { .. } => false,
        };
        transport && self.next.is_some() && self.failures < PAUSES.len()
    }
}
