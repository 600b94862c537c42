//! Credentials as clients send them: four forms, read but not judged.

use arrow_flight::BasicAuth;
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::{base64, token};

/// The header in which Arrow's oldest clients send back what Handshake gave them.
const OLD_TOKEN_HEADER: &str = "auth-token-bin";

/// What a request says of its caller.
#[derive(Debug)]
pub(super) enum Credentials {
    /// Nothing.
    None,
    /// User and password; the password means nothing in local mode and is dropped here.
    Basic { user: String },
    /// A token that claims to be ours.
    Token(String),
    /// A token of somebody else's, which means nothing in local mode.
    Foreign,
}

/// The credentials in a request's headers.
///
/// Errors: `Unauthenticated` when there are some that cannot be read.
pub(super) fn of_headers(headers: &MetadataMap) -> Result<Credentials, Status> {
    if let Some(value) = headers.get("authorization") {
        let text = value.to_str().map_err(|_| unreadable("the authorization header is not ASCII text"))?.trim();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        return if scheme.eq_ignore_ascii_case("basic") {
            basic(rest.trim())
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Ok(of_token(rest.trim()))
        } else {
            Err(unreadable("the authorization header is neither Basic nor Bearer"))
        };
    }
    if let Some(value) = headers.get_bin(OLD_TOKEN_HEADER) {
        let bytes = value.to_bytes().map_err(|_| unreadable("the auth-token-bin header is not base64"))?;
        return Ok(std::str::from_utf8(&bytes).map_or(Credentials::Foreign, of_token));
    }
    Ok(Credentials::None)
}

/// The credentials in the payload of a Handshake message: Arrow's old `BasicAuth`, or a token.
pub(super) fn of_payload(payload: &[u8]) -> Result<Credentials, Status> {
    if payload.is_empty() {
        return Ok(Credentials::None);
    }
    if let Ok(text) = std::str::from_utf8(payload)
        && token::is_ours(text)
    {
        return Ok(of_token(text));
    }
    let old = BasicAuth::decode(payload)
        .map_err(|_| unreadable("the Handshake payload is not a BasicAuth message; send an authorization header"))?;
    Ok(Credentials::Basic { user: old.username })
}

fn of_token(text: &str) -> Credentials {
    if token::is_ours(text) { Credentials::Token(text.to_owned()) } else { Credentials::Foreign }
}

fn basic(encoded: &str) -> Result<Credentials, Status> {
    let plain = base64::decode(encoded)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|_| !encoded.is_empty())
        .ok_or_else(|| {
            unreadable("the authorization header says Basic, but base64 of user:password does not follow")
        })?;
    // A user without a colon has no password (some clients leave it out).
    let user = plain.split_once(':').map_or(plain.as_str(), |(user, _)| user);
    Ok(Credentials::Basic { user: user.to_owned() })
}

fn unreadable(message: &str) -> Status {
    Status::unauthenticated(message)
}
