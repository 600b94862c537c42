//! Who asks, and in which database: from the headers of a request.
//!
//! This version has one mode, local: whoever reaches the port may ask, as any user, and a request
//! that says nothing runs as [`LOCAL_USER`]. A token of ours that is altered or expired is refused
//! all the same: a client that believes to be somebody must not silently become somebody else.

mod base64;
mod credentials;
mod endpoints;
mod handshake;
pub(crate) mod options;
mod token;

use std::sync::Arc;
use std::time::Duration;

use skyflight_engine::shuffle::ShuffleMode;
use skyflight_proto::ClusterKeys;
use tonic::Status;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::clock::unix_ms;
use crate::error::{bad_request, internal};
use credentials::Credentials;
pub use endpoints::{EndpointMode, UnknownEndpointMode};
pub(crate) use handshake::HandshakeStream;

/// The user of requests that name none.
pub const LOCAL_USER: &str = "local";

/// Headers that name the default database, the first that is there counts. JDBC makes headers of
/// the properties in its URL, which is where the short names come from.
const DATABASE_HEADERS: [&str; 3] = ["x-skyflight-schema", "database", "schema"];

/// The header that says whether queries are shuffled: `auto`, `always` or `never`.
const SHUFFLE_HEADER: &str = "x-skyflight-shuffle";

/// Headers that say whether workers serve rows: `auto`, `single` or `direct`. The second is a property
/// in a JDBC URL.
const ENDPOINTS_HEADERS: [&str; 2] = ["x-skyflight-endpoints", "endpoints"];

const MAX_USER_BYTES: usize = 128;

/// On whose behalf a request is served, and where its unqualified names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) default_database: Option<String>,
    /// Whether queries are shuffled; `None` where the caller does not say.
    pub(crate) shuffle: Option<ShuffleMode>,
    /// Whether workers serve rows; `None` where the caller does not say.
    pub(crate) endpoints: Option<EndpointMode>,
}

impl Caller {
    /// `user`, who says nothing else.
    pub(crate) fn of(user: String) -> Caller {
        Caller { user, default_database: None, shuffle: None, endpoints: None }
    }
}

/// Knows callers, and issues the tokens by which they are known again.
#[derive(Debug)]
pub(crate) struct Sessions {
    keys: Arc<ClusterKeys>,
    token_ttl: Duration,
    default_database: Option<String>,
}

impl Sessions {
    pub(crate) fn new(keys: Arc<ClusterKeys>, token_ttl: Duration, default_database: Option<String>) -> Self {
        Sessions { keys, token_ttl, default_database }
    }

    /// The caller of a request with these headers.
    ///
    /// Errors: `Unauthenticated` for a token of ours that is bad or expired, and for credentials
    /// that cannot be read; `InvalidArgument` for a header of ours with a value it cannot have.
    pub(crate) fn caller(&self, headers: &MetadataMap) -> Result<Caller, Status> {
        self.caller_with(headers, credentials::of_headers(headers)?)
    }

    fn caller_with(&self, headers: &MetadataMap, credentials: Credentials) -> Result<Caller, Status> {
        let mut caller = match credentials {
            Credentials::None | Credentials::Foreign => Caller::of(LOCAL_USER.to_owned()),
            Credentials::Basic { user } => Caller::of(checked_user(user)?),
            Credentials::Token(text) => token::verify(&self.keys, &text, unix_ms())
                .map_err(|e| Status::unauthenticated(format!("the bearer token is not valid; log in again: {e}")))?,
        };
        for name in DATABASE_HEADERS {
            if let Some(value) = headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim)
                && !value.is_empty()
            {
                caller.default_database = Some(value.to_owned());
                break;
            }
        }
        if let Some(value) = headers.get(SHUFFLE_HEADER) {
            let mode = value.to_str().unwrap_or_default().trim().parse();
            caller.shuffle = Some(mode.map_err(|e| bad_request(format!("{SHUFFLE_HEADER}: {e}")))?);
        }
        if let Some((name, value)) = ENDPOINTS_HEADERS.iter().find_map(|name| Some((name, headers.get(*name)?))) {
            let mode = value.to_str().unwrap_or_default().trim().parse();
            caller.endpoints = Some(mode.map_err(|e| bad_request(format!("{name}: {e}")))?);
        }
        if caller.default_database.is_none() {
            caller.default_database.clone_from(&self.default_database);
        }
        Ok(caller)
    }

    /// A new token for `caller`, good for the configured time from now.
    pub(crate) fn token(&self, caller: &Caller) -> String {
        token::issue(&self.keys, caller, self.token_ttl)
    }

    /// The value of the `authorization` header that hands `token` to a client.
    pub(crate) fn bearer(&self, token: &str) -> Result<AsciiMetadataValue, Status> {
        format!("Bearer {token}").parse().map_err(|e| internal("a token is no header value", e))
    }
}

fn checked_user(user: String) -> Result<String, Status> {
    if user.is_empty() {
        return Ok(LOCAL_USER.to_owned());
    }
    if user.len() > MAX_USER_BYTES || user.chars().any(char::is_control) {
        return Err(bad_request(format!("a user name has at most {MAX_USER_BYTES} bytes and no control characters")));
    }
    Ok(user)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions::new(Arc::new(ClusterKeys::generate()), Duration::from_secs(60), Some("sky".into()))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut map = MetadataMap::new();
        for (name, value) in pairs {
            map.insert(*name, value.parse().unwrap());
        }
        map
    }

    fn caller(user: &str, database: &str) -> Caller {
        Caller { default_database: Some(database.into()), ..Caller::of(user.into()) }
    }

    #[test]
    fn a_header_says_whether_to_shuffle() {
        for (text, mode) in
            [("always", ShuffleMode::Always), (" Never", ShuffleMode::Never), ("auto", ShuffleMode::Auto)]
        {
            let caller = sessions().caller(&headers(&[("x-skyflight-shuffle", text)])).unwrap();
            assert_eq!(caller.shuffle, Some(mode));
        }
        let refused = sessions().caller(&headers(&[("x-skyflight-shuffle", "sometimes")])).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_header_says_who_serves_the_rows() {
        for name in ENDPOINTS_HEADERS {
            let caller = sessions().caller(&headers(&[(name, " Direct")])).unwrap();
            assert_eq!(caller.endpoints, Some(EndpointMode::Direct));
            let refused = sessions().caller(&headers(&[(name, "many")])).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert!(refused.message().contains(name), "{}", refused.message());
        }
        let both = headers(&[("endpoints", "direct"), ("x-skyflight-endpoints", "single")]);
        assert_eq!(sessions().caller(&both).unwrap().endpoints, Some(EndpointMode::Single));
    }

    #[test]
    fn who_says_nothing_is_local() {
        assert_eq!(sessions().caller(&headers(&[])).unwrap(), caller("local", "sky"));
        // `:` in base64: no user, no password.
        assert_eq!(sessions().caller(&headers(&[("authorization", "Basic Og==")])).unwrap(), caller("local", "sky"));
    }

    #[test]
    fn basic_names_the_user() {
        let aladdin = headers(&[("authorization", "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")]);
        assert_eq!(sessions().caller(&aladdin).unwrap(), caller("Aladdin", "sky"));
        for bad in ["Basic", "Basic !!!", "Digest x", "Basic AP8="] {
            let refused = sessions().caller(&headers(&[("authorization", bad)])).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{bad}");
        }
    }

    #[test]
    fn a_token_carries_user_and_database_and_a_header_overrides_the_database() {
        let sessions = sessions();
        let bearer = format!("Bearer {}", sessions.token(&caller("vera", "dr1")));
        assert_eq!(sessions.caller(&headers(&[("authorization", &bearer)])).unwrap(), caller("vera", "dr1"));
        let with_schema = headers(&[("authorization", &bearer), ("schema", "dr2")]);
        assert_eq!(sessions.caller(&with_schema).unwrap(), caller("vera", "dr2"));
        let with_two = headers(&[("schema", "dr2"), ("x-skyflight-schema", "dr3")]);
        assert_eq!(sessions.caller(&with_two).unwrap(), caller("local", "dr3"));
    }

    #[test]
    fn a_bad_token_of_ours_is_refused_and_a_foreign_one_means_nothing() {
        let sessions = sessions();
        let bad = headers(&[("authorization", "Bearer skyflight.00ff")]);
        assert_eq!(sessions.caller(&bad).unwrap_err().code(), tonic::Code::Unauthenticated);
        let foreign = headers(&[("authorization", "Bearer eyJhbGciOi")]);
        assert_eq!(sessions.caller(&foreign).unwrap(), caller("local", "sky"));
    }
}
