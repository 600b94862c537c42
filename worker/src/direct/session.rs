//! What clients say before and after DoGet on a connection they were sent to. The ticket is what is
//! trusted here, so there is nobody to log in and nothing to set; but the JDBC driver takes a refusal
//! for a dead worker.

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use bytes::Bytes;
use futures::StreamExt;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::service::Answers;

/// Name of the action by which a client sets the session's catalog.
pub(crate) const SET_SESSION_OPTIONS: &str = "SetSessionOptions";
/// Name of the action by which it reads the session's options.
pub(crate) const GET_SESSION_OPTIONS: &str = "GetSessionOptions";
/// Name of the action by which it ends the session.
pub(crate) const CLOSE_SESSION: &str = "CloseSession";

/// The token of clients that came without one. It opens nothing.
const NOBODY: &str = "Bearer worker";

/// Answers once, with the bearer token that the client has sent or, to a name and password, with one
/// that means nothing.
pub(crate) fn handshake(request: &Request<Streaming<HandshakeRequest>>) -> Response<Answers<HandshakeResponse>> {
    let sent = request.metadata().get("authorization").filter(|value| is_bearer(value));
    let bearer = sent.cloned().unwrap_or_else(|| AsciiMetadataValue::from_static(NOBODY));
    let answer: Result<HandshakeResponse, Status> = Ok(HandshakeResponse::default());
    let mut response = Response::new(futures::stream::iter([answer]).boxed());
    response.metadata_mut().insert("authorization", bearer);
    response
}

fn is_bearer(value: &AsciiMetadataValue) -> bool {
    value.to_str().is_ok_and(|text| text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")))
}

/// The encoded `SetSessionOptionsResult` without errors.
pub(crate) fn set_session_options() -> Bytes {
    Bytes::new()
}

/// The encoded `GetSessionOptionsResult` without options.
pub(crate) fn get_session_options() -> Bytes {
    Bytes::new()
}

/// The encoded `CloseSessionResult` with the status CLOSED.
pub(crate) fn close_session() -> Bytes {
    Bytes::from_static(&[0x08, 0x01])
}
