//! Handshake: whatever form it takes, one answer with one token.

use std::time::Duration;

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::Sessions;
use super::credentials::{self, Credentials};

/// How long a client that sent no header may take to send its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// The answer of Handshake.
pub(crate) type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;

impl Sessions {
    /// Accepts Basic and Bearer in the `authorization` header, the old protobuf `BasicAuth` in the
    /// first message, or nothing. Answers exactly once, with the token in the `authorization`
    /// header for today's clients and in the payload for the oldest.
    ///
    /// Errors: `Unauthenticated` for credentials that are wrong or cannot be read, and for a token of
    /// ours that is bad or expired.
    pub(crate) async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<HandshakeStream>, Status> {
        let from = request.remote_addr().map(|address| address.ip());
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
        let caller = match (credentials, self.auth()) {
            // Headers passed the door; what came in a message did not.
            (Credentials::Basic { user, password }, Some(auth)) => {
                let login = auth.log_in(&user, password.text(), from).await?;
                self.with_headers(self.of_login(login), &headers)?
            }
            (Credentials::Token(text), Some(auth)) => {
                let caller = self.of_token(&text)?;
                auth.still(&caller.user, caller.login).await?;
                self.with_headers(caller, &headers)?
            }
            (credentials, _) => self.caller_with(&headers, credentials)?,
        };
        let token = self.token(&caller)?;
        let bearer = self.bearer(&token)?;
        let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::from(token) };
        let mut response = Response::new(futures::stream::iter([Ok(answer)]).boxed());
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }
}
