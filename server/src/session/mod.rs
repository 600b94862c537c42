//! Who asks, and in which database: from the headers of a request.
//!
//! Where everybody may ask, a request that says nothing runs as [`LOCAL_USER`], and a password means
//! nothing; a token of ours that is altered or expired is refused all the same: a client that
//! believes to be somebody must not silently become somebody else. Where only users may ask, the door
//! ([`crate::auth`]) has turned passwords into tokens before a request arrives here.

mod agent;
mod credentials;
mod endpoints;
mod handshake;
pub(crate) mod options;
mod token;

use std::sync::Arc;

use skyflight_catalog::check_user_name;
use skyflight_engine::shuffle::ShuffleMode;
use skyflight_proto::{ClusterKeys, TokenError};
use tonic::Status;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::auth::{Auth, Login, who_are_you};
use crate::clock::unix_ms;
use crate::error::{bad_request, internal};
pub(crate) use agent::{Agent, JAVA_LIBRARY, JDBC_DRIVER, user_agent};
pub(crate) use credentials::{Credentials, of_headers as credentials_of};
pub use endpoints::{EndpointMode, UnknownEndpointMode};
pub(crate) use handshake::HandshakeStream;
pub(crate) use token::Lifetimes;

/// The user of requests that name none.
pub const LOCAL_USER: &str = "local";

/// Headers that name the default database, the first that is there counts. JDBC makes headers of
/// the properties in its URL, which is where the short names come from.
const DATABASE_HEADERS: [&str; 3] = ["x-skyflight-schema", "database", "schema"];

/// The header that says whether queries are shuffled: `auto`, `always` or `never`.
const SHUFFLE_HEADER: &str = "x-skyflight-shuffle";

/// The property of a JDBC URL that says whether workers serve rows; the driver makes it a header.
pub(crate) const ENDPOINTS_PROPERTY: &str = "endpoints";

/// Headers that say whether workers serve rows: `auto`, `single` or `direct`.
const ENDPOINTS_HEADERS: [&str; 2] = ["x-skyflight-endpoints", ENDPOINTS_PROPERTY];

/// The header with the client's trace context (W3C).
const TRACE_HEADER: &str = "traceparent";

/// On whose behalf a request is served, and where its unqualified names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) default_database: Option<String>,
    /// Whether queries are shuffled; `None` where the caller does not say.
    pub(crate) shuffle: Option<ShuffleMode>,
    /// Whether workers serve rows; `None` where the caller does not say.
    pub(crate) endpoints: Option<EndpointMode>,
    /// When the password by which the user logged in was set; `None` where nobody checked one.
    pub(crate) login: Option<i64>,
    /// When the session began, in seconds of Unix time; `None` where it begins with this request.
    pub(crate) since: Option<i64>,
    /// The driver that asks.
    pub(crate) agent: Agent,
    /// The client's trace, of which the query is to be a part: a `traceparent` header.
    pub(crate) traceparent: Option<String>,
}

impl Caller {
    /// `user`, who says nothing else.
    pub(crate) fn of(user: String) -> Caller {
        Caller {
            user,
            default_database: None,
            shuffle: None,
            endpoints: None,
            login: None,
            since: None,
            agent: Agent::Other,
            traceparent: None,
        }
    }
}

/// Knows callers, and issues the tokens by which they are known again.
#[derive(Debug)]
pub(crate) struct Sessions {
    keys: Arc<ClusterKeys>,
    lifetimes: Lifetimes,
    default_database: Option<String>,
    /// Knows the users; `None` where everybody may ask.
    auth: Option<Auth>,
}

impl Sessions {
    pub(crate) fn new(
        keys: Arc<ClusterKeys>,
        lifetimes: Lifetimes,
        default_database: Option<String>,
        auth: Option<Auth>,
    ) -> Self {
        Sessions { keys, lifetimes, default_database, auth }
    }

    /// Who knows the users; `None` where everybody may ask.
    pub(crate) fn auth(&self) -> Option<&Auth> {
        self.auth.as_ref()
    }

    /// The caller of a request with these headers.
    ///
    /// Errors: `Unauthenticated` for a token of ours that is bad or expired, and for credentials
    /// that cannot be read; `InvalidArgument` for a header of ours with a value it cannot have.
    pub(crate) fn caller(&self, headers: &MetadataMap) -> Result<Caller, Status> {
        self.caller_with(headers, credentials::of_headers(headers)?)
    }

    fn caller_with(&self, headers: &MetadataMap, credentials: Credentials) -> Result<Caller, Status> {
        let caller = match credentials {
            Credentials::Token(text) => self.of_token(&text)?,
            Credentials::None | Credentials::Foreign | Credentials::Basic { .. } if self.auth.is_some() => {
                return Err(who_are_you());
            }
            Credentials::None | Credentials::Foreign => Caller::of(LOCAL_USER.to_owned()),
            Credentials::Basic { user, password: _ } => Caller::of(checked_user(user)?),
        };
        self.with_headers(caller, headers)
    }

    /// The caller that a token of ours was issued to.
    ///
    /// Errors: `Unauthenticated` when it is bad or expired.
    pub(crate) fn of_token(&self, text: &str) -> Result<Caller, Status> {
        token::verify(&self.keys, text, unix_ms())
            .map_err(|e| Status::unauthenticated(format!("the bearer token is not valid; log in again: {e}")))
    }

    /// The caller who has just logged in.
    pub(crate) fn of_login(&self, login: Login) -> Caller {
        Caller { login: Some(login.password_unix_ms), ..Caller::of(login.user) }
    }

    fn with_headers(&self, mut caller: Caller, headers: &MetadataMap) -> Result<Caller, Status> {
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
        caller.agent = Agent::of_headers(headers);
        caller.traceparent = headers.get(TRACE_HEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        if caller.default_database.is_none() {
            caller.default_database.clone_from(&self.default_database);
        }
        Ok(caller)
    }

    /// A new token for `caller`, good for the configured time from now, or from when the session began.
    ///
    /// Errors: `Unauthenticated` for a session that has lasted as long as it may; `InvalidArgument` for a
    /// caller whose options are too long to be carried.
    pub(crate) fn token(&self, caller: &Caller) -> Result<String, Status> {
        token::issue(&self.keys, caller, self.lifetimes).map_err(|error| match error {
            TokenError::Expired { .. } => {
                Status::unauthenticated("this session has lasted as long as it may (auth.session_max_s); log in again")
            }
            _ => bad_request("the session's options are too long; choose a shorter schema"),
        })
    }

    /// The value of the `authorization` header that hands `token` to a client.
    pub(crate) fn bearer(&self, token: &str) -> Result<AsciiMetadataValue, Status> {
        format!("Bearer {token}").parse().map_err(|e| internal("a token is no header value", e))
    }
}

/// A user's name where nobody checks passwords; it still has to name the user's own database.
fn checked_user(user: String) -> Result<String, Status> {
    if user.is_empty() {
        return Ok(LOCAL_USER.to_owned());
    }
    check_user_name(&user).map_err(|refused| bad_request(refused.to_string()))?;
    Ok(user)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sessions() -> Sessions {
        let lifetimes = Lifetimes { token: Duration::from_secs(60), session: Duration::from_secs(3_600) };
        Sessions::new(Arc::new(ClusterKeys::generate()), lifetimes, Some("sky".into()), None)
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
        // `a b:` in base64.
        let refused = sessions().caller(&headers(&[("authorization", "Basic YSBiOg==")])).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        for bad in ["Basic", "Basic !!!", "Digest x", "Basic AP8="] {
            let refused = sessions().caller(&headers(&[("authorization", bad)])).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{bad}");
        }
    }

    #[test]
    fn a_token_carries_user_and_database_and_a_header_overrides_the_database() {
        let sessions = sessions();
        let bearer = format!("Bearer {}", sessions.token(&caller("vera", "dr1")).unwrap());
        let same = |found: Caller| Caller { since: None, ..found };
        let plain = headers(&[("authorization", &bearer)]);
        assert_eq!(same(sessions.caller(&plain).unwrap()), caller("vera", "dr1"));
        let with_schema = headers(&[("authorization", &bearer), ("schema", "dr2")]);
        assert_eq!(same(sessions.caller(&with_schema).unwrap()), caller("vera", "dr2"));
        let with_two = headers(&[("schema", "dr2"), ("x-skyflight-schema", "dr3")]);
        assert_eq!(same(sessions.caller(&with_two).unwrap()), caller("local", "dr3"));
    }

    #[test]
    fn a_bad_token_of_ours_is_refused_and_a_foreign_one_means_nothing() {
        let sessions = sessions();
        let mut bad = format!("Bearer {}", sessions.token(&caller("vera", "dr1")).unwrap());
        bad.pop();
        let bad = headers(&[("authorization", &bad)]);
        assert_eq!(sessions.caller(&bad).unwrap_err().code(), tonic::Code::Unauthenticated);
        let foreign = headers(&[("authorization", "Bearer eyJhbGciOi")]);
        assert_eq!(sessions.caller(&foreign).unwrap(), caller("local", "sky"));
    }
}
