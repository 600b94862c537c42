//! The caller in a session token, and the token of a caller.

use std::collections::BTreeMap;
use std::time::Duration;

use skyflight_proto::{ClusterKeys, SessionClaims, TokenError};

use super::Caller;
use crate::clock::unix_ms;

const SCHEMA: &str = "schema";
const SHUFFLE: &str = "shuffle";
const ENDPOINTS: &str = "endpoints";

/// How long a token is good, and how long all tokens of a session are together, however often one is given
/// out for another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    pub(crate) token: Duration,
    pub(crate) session: Duration,
}

/// A token for `caller`.
///
/// Errors: `Expired` for a session that has lasted as long as it may.
pub(super) fn issue(keys: &ClusterKeys, caller: &Caller, lifetimes: Lifetimes) -> Result<String, TokenError> {
    let now = unix_ms() / 1_000;
    let after = |from: i64, span: Duration| from.saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX));
    let since = caller.since.unwrap_or(now);
    let last = after(since, lifetimes.session);
    if last <= now {
        return Err(TokenError::Expired { by_s: now.abs_diff(last) });
    }
    let options = [
        (SCHEMA, caller.default_database.clone()),
        (SHUFFLE, caller.shuffle.map(|mode| mode.name().to_owned())),
        (ENDPOINTS, caller.endpoints.map(|mode| mode.name().to_owned())),
    ];
    let options = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    keys.sign_token(&SessionClaims {
        sub: caller.user.clone(),
        iat: now,
        exp: after(now, lifetimes.token).min(last),
        login: caller.login,
        since: Some(since),
        options: options.collect::<BTreeMap<_, _>>(),
    })
}

/// The caller a token was issued to.
pub(super) fn verify(keys: &ClusterKeys, text: &str, now_unix_ms: i64) -> Result<Caller, TokenError> {
    let mut claims = keys.verify_token(text, now_unix_ms / 1_000)?;
    Ok(Caller {
        default_database: claims.options.remove(SCHEMA),
        shuffle: claims.options.get(SHUFFLE).and_then(|mode| mode.parse().ok()),
        endpoints: claims.options.get(ENDPOINTS).and_then(|mode| mode.parse().ok()),
        login: claims.login,
        since: claims.since.or(Some(claims.iat)),
        ..Caller::of(claims.sub)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_caller_back_until_it_expires() {
        let keys = ClusterKeys::generate();
        let caller = Caller {
            default_database: Some("dr1".into()),
            shuffle: Some(skyflight_engine::shuffle::ShuffleMode::Always),
            endpoints: Some(crate::session::EndpointMode::Direct),
            login: Some(5),
            ..Caller::of("vera".into())
        };
        let lifetimes = Lifetimes { token: Duration::from_secs(60), session: Duration::from_secs(3_600) };
        let now = unix_ms();
        let token = issue(&keys, &caller, lifetimes).unwrap();
        let found = verify(&keys, &token, now).unwrap();
        assert!(found.since.unwrap().abs_diff(now / 1_000) <= 1);
        assert_eq!(Caller { since: None, ..found }, caller);
        assert!(matches!(verify(&keys, &token, now + 61_000), Err(TokenError::Expired { .. })));
        let plain = Caller::of("ada".into());
        let token = issue(&keys, &plain, lifetimes).unwrap();
        assert_eq!(Caller { since: None, ..verify(&keys, &token, now).unwrap() }, plain);
    }

    #[test]
    fn tokens_for_tokens_do_not_outlast_their_session() {
        let keys = ClusterKeys::generate();
        let lifetimes = Lifetimes { token: Duration::from_secs(60), session: Duration::from_secs(3_600) };
        let now = unix_ms();
        let begun = |ago_s: i64| Caller { since: Some(now / 1_000 - ago_s), ..Caller::of("ada".into()) };
        let late = issue(&keys, &begun(3_580), lifetimes).unwrap();
        let again = verify(&keys, &late, now).unwrap();
        assert_eq!(again.since, begun(3_580).since, "what is given out for it began when it did");
        assert!(matches!(verify(&keys, &late, now + 25_000), Err(TokenError::Expired { .. })), "before its 60 s");
        assert!(matches!(issue(&keys, &begun(3_600), lifetimes), Err(TokenError::Expired { .. })));
    }
}
