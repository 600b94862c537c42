//! Signing tickets and checking them: a worker trusts a ticket, not a caller.

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use prost::Message;
use sha2::Sha256;

use crate::error::FailureKind;
use crate::generated::{SignedTicket, Ticket};
use crate::keys::{ClusterKeys, Key};

/// Why a ticket is not believed. No variant tells more than its bearer may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The bytes are not a ticket, or ask for something that this version does not know.
    #[error(
        "this is not a ticket of Skyflight; pass on tickets exactly as they were received, and run \
         one version of Skyflight in all processes of the cluster"
    )]
    Malformed,
    /// Signed with a key that this process has not.
    #[error(
        "the ticket was signed with a key this process does not have; run the query again, and give \
         every process of the cluster the same cluster.key"
    )]
    UnknownKey,
    /// The signature does not fit the content.
    #[error(
        "the ticket's signature is wrong: the ticket was altered on its way, or the processes of \
         the cluster have different keys of the same name; run the query again"
    )]
    BadSignature,
    /// Genuine, but too old.
    #[error(
        "the ticket expired {by_ms} ms ago; run the query again, and compare the clocks of the \
         machines if this happens at once"
    )]
    Expired {
        /// Milliseconds since the ticket became void.
        by_ms: u64,
    },
}

impl From<&TicketError> for FailureKind {
    fn from(error: &TicketError) -> FailureKind {
        // All alike: what cannot be read was not proved to be ours either, so one altered bit gives
        // one code wherever in the ticket it falls.
        match error {
            TicketError::Malformed
            | TicketError::UnknownKey
            | TicketError::BadSignature
            | TicketError::Expired { .. } => FailureKind::Unauthenticated,
        }
    }
}

impl From<TicketError> for tonic::Status {
    fn from(error: TicketError) -> tonic::Status {
        FailureKind::from(&error).status(error.to_string())
    }
}

impl ClusterKeys {
    /// Signs `ticket` with the first key: an encoded [`SignedTicket`], ready for Flight.
    ///
    /// The signature is HMAC-SHA-256 over `skyflight ticket 1`, one zero byte, the length of the
    /// key's id as one byte, the id, and the payload. The id is covered because two ids may, by
    /// an operator's mistake, name one secret.
    pub fn sign(&self, ticket: &Ticket) -> Bytes {
        let key = self.signing();
        let payload = Bytes::from(ticket.encode_to_vec());
        let mac = mac_of(&key, &payload).finalize().into_bytes();
        let signed = SignedTicket { payload, key_id: key.id().to_owned(), mac: Bytes::copy_from_slice(&mac) };
        Bytes::from(signed.encode_to_vec())
    }

    /// The ticket in `bytes`, if one of these keys signed it and it has not expired at
    /// `now_unix_ms` (milliseconds since 1970-01-01 UTC).
    ///
    /// The signature is compared in constant time, and before anything inside is decoded. The
    /// ticket always has a body; whether it is the right one is for the caller to see.
    pub fn verify(&self, bytes: &[u8], now_unix_ms: i64) -> Result<Ticket, TicketError> {
        let signed = SignedTicket::decode(bytes).map_err(|_| TicketError::Malformed)?;
        // One ticket, one spelling: protobuf would let pass unknown and repeated fields.
        if signed.encoded_len() != bytes.len() {
            return Err(TicketError::Malformed);
        }
        let key = self.find(&signed.key_id).ok_or(TicketError::UnknownKey)?;
        mac_of(&key, &signed.payload).verify_slice(&signed.mac).map_err(|_| TicketError::BadSignature)?;

        let ticket = Ticket::decode(signed.payload).map_err(|_| TicketError::Malformed)?;
        if ticket.expires_unix_ms <= now_unix_ms {
            let by_ms = now_unix_ms.abs_diff(ticket.expires_unix_ms);
            return Err(TicketError::Expired { by_ms });
        }
        if ticket.body.is_none() {
            return Err(TicketError::Malformed);
        }
        Ok(ticket)
    }
}

fn mac_of(key: &Key, payload: &[u8]) -> Hmac<Sha256> {
    key.mac()
        .chain_update(b"skyflight ticket 1\0")
        .chain_update([key.id_len()])
        .chain_update(key.id())
        .chain_update(payload)
}

/// Whoever holds a ticket can redeem it, so its signature never reaches a log.
impl fmt::Debug for SignedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedTicket")
            .field("payload_bytes", &self.payload.len())
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}
