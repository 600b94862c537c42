//! The caller in a session token, and the token of a caller.

use std::collections::BTreeMap;
use std::time::Duration;

use skyflight_proto::{ClusterKeys, SessionClaims, TokenError};

use super::Caller;
use crate::clock::unix_ms;

const SCHEMA: &str = "schema";
const SHUFFLE: &str = "shuffle";
const ENDPOINTS: &str = "endpoints";

/// A token for `caller`, good for `ttl`.
pub(super) fn issue(keys: &ClusterKeys, caller: &Caller, ttl: Duration) -> Result<String, TokenError> {
    let now = unix_ms() / 1_000;
    let options = [
        (SCHEMA, caller.default_database.clone()),
        (SHUFFLE, caller.shuffle.map(|mode| mode.name().to_owned())),
        (ENDPOINTS, caller.endpoints.map(|mode| mode.name().to_owned())),
    ];
    let options = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    keys.sign_token(&SessionClaims {
        sub: caller.user.clone(),
        iat: now,
        exp: now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        login: caller.login,
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
        let token = issue(&keys, &caller, Duration::from_secs(60)).unwrap();
        let now = unix_ms();
        assert_eq!(verify(&keys, &token, now).unwrap(), caller);
        assert!(matches!(verify(&keys, &token, now + 61_000), Err(TokenError::Expired { .. })));
        let plain = Caller::of("ada".into());
        let token = issue(&keys, &plain, Duration::from_secs(60)).unwrap();
        assert_eq!(verify(&keys, &token, now).unwrap(), plain);
    }
}
