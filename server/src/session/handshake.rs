//! Handshake: whatever form it takes, one answer with one token.

use std::time::Duration;

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Sessions, credentials};
use crate::session::credentials::Credentials;

/// How long a client that sent no header may take to send its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// The answer of Handshake.
pub(crate) type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;

impl Sessions {
    /// Accepts Basic and Bearer in the `authorization` header, the old protobuf `BasicAuth` in the
    /// first message, or nothing. Answers exactly once, with the token in the `authorization`
    /// header for today's clients and in the payload for the oldest.
    ///
    /// Errors: `Unauthenticated` for credentials that cannot be read, and for a token of ours that
    /// is bad or expired.
    pub(crate) async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<HandshakeStream>, Status> {
        let (headers, _, mut messages) = request.into_parts();
        let credentials = match credentials::of_headers(&headers)? {
            // Some clients wait for our headers before they send anything, so the messages are
            // looked at only where the headers say nothing.
            Credentials::None => match tokio::time::timeout(FIRST_MESSAGE, messages.message()).await {
                Ok(first) => credentials::of_payload(&first?.unwrap_or_default().payload)?,
                Err(_) => return Err(Status::deadline_exceeded("no Handshake message came within 10 s")),
            },
            found => found,
        };
        let caller = self.caller_with(&headers, credentials)?;
        let token = self.token(&caller);
        let bearer = self.bearer(&token)?;
        let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::from(token) };
        let mut response = Response::new(futures::stream::iter([Ok(answer)]).boxed());
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }
}
