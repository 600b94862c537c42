//! Credentials as clients send them: four forms, read but not judged.

use std::fmt;

use arrow_flight::BasicAuth;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::Message;
use skyflight_proto::claims_to_be_ours;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// The header in which Arrow's oldest clients send back what Handshake gave them.
const OLD_TOKEN_HEADER: &str = "auth-token-bin";

/// Base64 as HTTP's Basic scheme has it (RFC 4648, section 4); some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request says of its caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Nothing.
    None,
    /// User and password; both are empty where a client was given neither.
    Basic { user: String, password: Password },
    /// A token that claims to be ours.
    Token(String),
    /// A token of somebody else's.
    Foreign,
}

/// A password as it came. Never prints.
#[derive(PartialEq, Eq)]
pub(crate) struct Password(String);

impl Password {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The credentials in a request's headers.
///
/// Errors: `Unauthenticated` when there are some that cannot be read.
pub(crate) fn of_headers(headers: &MetadataMap) -> Result<Credentials, Status> {
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
        && claims_to_be_ours(text)
    {
        return Ok(of_token(text));
    }
    let old = BasicAuth::decode(payload)
        .map_err(|_| unreadable("the Handshake payload is not a BasicAuth message; send an authorization header"))?;
    Ok(of_user(old.username, old.password))
}

fn of_token(text: &str) -> Credentials {
    if claims_to_be_ours(text) { Credentials::Token(text.to_owned()) } else { Credentials::Foreign }
}

fn basic(encoded: &str) -> Result<Credentials, Status> {
    let plain = BASE64
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|_| !encoded.is_empty())
        .ok_or_else(|| {
            unreadable("the authorization header says Basic, but base64 of user:password does not follow")
        })?;
    // A user without a colon has no password (some clients leave it out).
    let (user, password) = plain.split_once(':').unwrap_or((&plain, ""));
    Ok(of_user(user.to_owned(), password.to_owned()))
}

/// Tools that know no tokens send one as the password; then it says who the user is.
fn of_user(user: String, password: String) -> Credentials {
    if claims_to_be_ours(&password) {
        Credentials::Token(password)
    } else {
        Credentials::Basic { user, password: Password(password) }
    }
}

fn unreadable(message: &str) -> Status {
    Status::unauthenticated(message)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn of_user(user: &str, password: &str) -> Credentials {
        super::of_user(user.into(), password.into())
    }

    #[test]
    fn base64_with_and_without_padding() {
        // RFC 7617, section 2.
        let aladdin = of_user("Aladdin", "open sesame");
        assert_eq!(basic("QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap(), aladdin);
        assert_eq!(basic("QWxhZGRpbjpvcGVuIHNlc2FtZQ").unwrap(), aladdin);
        assert_eq!(basic("YWRh").unwrap(), of_user("ada", ""));
        assert_eq!(basic("Og==").unwrap(), of_user("", ""));
        for bad in ["", "!!!", "AP8=", "Zg=v", "Z"] {
            assert_eq!(basic(bad).unwrap_err().code(), tonic::Code::Unauthenticated, "{bad}");
        }
    }

    #[test]
    fn a_password_does_not_print() {
        assert!(!format!("{:?}", of_user("ada", "secret")).contains("secret"));
    }
}
