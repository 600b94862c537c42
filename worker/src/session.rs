//! What drivers say to every server before they fetch: they log in, and choose a catalog.
//!
//! A worker knows no users and keeps no sessions: a ticket says all there is to know. So it answers
//! as a server would that lets everybody in, and the answers mean nothing.

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status, Streaming};

/// The token that drivers want to have got. No server believes it.
const TOKEN: &str = "workers-believe-tickets";

/// The answer to any Handshake: once, with a token.
pub(crate) fn handshake(
    _: Request<Streaming<HandshakeRequest>>,
) -> Response<BoxStream<'static, Result<HandshakeResponse, Status>>> {
    let answer = HandshakeResponse { protocol_version: 0, payload: TOKEN.into() };
    let mut response = Response::new(stream::iter([Ok(answer)]).boxed());
    if let Ok(bearer) = format!("Bearer {TOKEN}").parse() {
        response.metadata_mut().insert("authorization", bearer);
    }
    response
}

/// The encoded answer to an action on the session; `None` for other actions.
pub(crate) fn answer(action: &str) -> Option<&'static [u8]> {
    match action {
        // SetSessionOptionsResult without errors, GetSessionOptionsResult without options.
        "SetSessionOptions" | "GetSessionOptions" => Some(&[]),
        // CloseSessionResult { status: CLOSED }.
        "CloseSession" => Some(&[0x08, 0x01]),
        _ => None,
    }
}
