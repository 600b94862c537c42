//! Bearer tokens: a user and a default database, signed by the cluster, so that any coordinator
//! knows them again and a restart locks nobody out.

use std::time::Duration;

use bytes::Bytes;
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, StatementTicket, Ticket, TicketError};

use super::Caller;
use crate::clock::unix_ms;

/// How our tokens start, so that a bad one of ours is told from somebody else's.
const PREFIX: &str = "skyflight.";

/// What stands in a token where a statement has the SHA-256 of its schema. Together with the empty
/// SQL it keeps tokens and statement tickets apart: neither is ever taken for the other.
const MARK: &[u8] = b"session token";

/// True for text that claims to be a token of ours.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// A token for `caller`, good for `ttl`.
pub(super) fn issue(keys: &ClusterKeys, caller: &Caller, ttl: Duration) -> String {
    let signed = keys.sign(&Ticket {
        expires_unix_ms: unix_ms().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
        user: caller.user.clone(),
        query_id: Bytes::new(),
        body: Some(Body::Statement(StatementTicket {
            schema_hash: Bytes::from_static(MARK),
            default_schema: caller.default_database.clone().unwrap_or_default(),
            shuffle: caller.shuffle.map(|mode| mode.name().to_owned()).unwrap_or_default(),
            ..StatementTicket::default()
        })),
    });
    format!("{PREFIX}{}", hex::encode(signed))
}

/// The caller a token was issued to.
pub(super) fn verify(keys: &ClusterKeys, text: &str, now_unix_ms: i64) -> Result<Caller, TicketError> {
    let digits = text.strip_prefix(PREFIX).ok_or(TicketError::Malformed)?;
    let signed = hex::decode(digits).map_err(|_| TicketError::Malformed)?;
    let ticket = keys.verify(&signed, now_unix_ms)?;
    match ticket.body {
        Some(Body::Statement(body)) if body.schema_hash == MARK && body.sql.is_empty() => Ok(Caller {
            default_database: (!body.default_schema.is_empty()).then_some(body.default_schema),
            shuffle: body.shuffle.parse().ok(),
            ..Caller::of(ticket.user)
        }),
        _ => Err(TicketError::Malformed),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller {
            user: "vera".into(),
            default_database: Some("dr1".into()),
            shuffle: Some(skyflight_engine::shuffle::ShuffleMode::Always),
        }
    }

    #[test]
    fn a_token_gives_its_caller_back_until_it_expires() {
        let keys = ClusterKeys::generate();
        let token = issue(&keys, &caller(), Duration::from_secs(60));
        assert!(is_ours(&token) && token.is_ascii());
        let now = unix_ms();
        let found = verify(&keys, &token, now).unwrap();
        assert_eq!(found, caller());
        assert!(matches!(verify(&keys, &token, now + 61_000), Err(TicketError::Expired { .. })));
    }

    #[test]
    fn an_altered_token_is_refused_wherever_it_was_altered() {
        let keys = ClusterKeys::generate();
        let token = issue(&keys, &caller(), Duration::from_secs(60));
        for at in PREFIX.len()..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(verify(&keys, &altered, unix_ms()).is_err(), "digit {at}");
        }
        assert!(verify(&ClusterKeys::generate(), &token, unix_ms()).is_err());
    }

    #[test]
    fn a_statement_ticket_is_no_token() {
        let keys = ClusterKeys::generate();
        let signed = keys.sign(&Ticket {
            expires_unix_ms: i64::MAX,
            user: "vera".into(),
            query_id: Bytes::new(),
            body: Some(Body::Statement(StatementTicket { sql: "SELECT 1".into(), ..Default::default() })),
        });
        let text = format!("{PREFIX}{}", hex::encode(signed));
        assert!(matches!(verify(&keys, &text, unix_ms()), Err(TicketError::Malformed)));
    }
}
