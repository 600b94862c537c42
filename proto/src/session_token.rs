//! Session tokens: JSON Web Tokens (RFC 7519) that the cluster signs for those who have logged in.
//!
//! One algorithm, HMAC with SHA-256 (RFC 7518, 3.2), and one explicit type (RFC 8725, 3.11), so there
//! is nothing for a token to choose. The `kid` of the header names the cluster key: any live key
//! verifies, the first signs, and keys on disk outlive a restart. The secret is derived from the
//! cluster key, so that a token is never a ticket, nor a ticket a token.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::keys::{ClusterKeys, Key};

/// The `typ` of our tokens.
const TYPE: &str = "skyflight+jwt";
/// The `iss` of our tokens.
const ISSUER: &str = "skyflight";
/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// What a token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClaims {
    /// The user.
    pub sub: String,
    /// When it was issued: seconds since 1970-01-01 UTC.
    pub iat: i64,
    /// When it becomes void: seconds since 1970-01-01 UTC.
    pub exp: i64,
    /// When the password by which the user logged in was set (milliseconds since 1970-01-01 UTC);
    /// none where nobody checked a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<i64>,
    /// When the session began: seconds since 1970-01-01 UTC. Tokens that are given out for others keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// The session's options by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Why a token is not believed. No variant tells more than its bearer may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of Skyflight.
    #[error("it is not a token of Skyflight")]
    Malformed,
    /// Signed with a key that this process has not, perhaps no more.
    #[error("it was signed with a key that this server does not have (any more)")]
    UnknownKey,
    /// The signature does not fit the content.
    #[error("its signature is wrong")]
    BadSignature,
    /// Genuine, but too old.
    #[error("it expired {by_s} s ago")]
    Expired {
        /// Seconds since it became void.
        by_s: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    iss: String,
    #[serde(flatten)]
    claims: SessionClaims,
}

/// Whether `text` says that it is a token of ours, in its header or in its payload; an altered one
/// still does. Nothing is verified.
pub fn claims_to_be_ours(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Type {
        typ: String,
    }
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let mut parts = text.split('.');
    text.len() <= MAX_TOKEN_BYTES
        && (part::<Type>(parts.next()).is_some_and(|header| header.typ == TYPE)
            || part::<Issuer>(parts.next()).is_some_and(|payload| payload.iss == ISSUER))
}

impl ClusterKeys {
    /// A token with these claims, signed with the first key.
    ///
    /// # Errors
    /// `Malformed` for claims too long to be a token.
    pub fn sign_token(&self, claims: &SessionClaims) -> Result<String, TokenError> {
        let key = self.signing();
        let header = Header { alg: "HS256".into(), typ: TYPE.into(), kid: key.id().to_owned() };
        let payload = Payload { iss: ISSUER.into(), claims: claims.clone() };
        let mut token = format!("{}.{}", encoded(&header)?, encoded(&payload)?);
        let mac = mac_of(&key, &token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut token);
        if token.len() > MAX_TOKEN_BYTES { Err(TokenError::Malformed) } else { Ok(token) }
    }

    /// What a token says, if one of these keys signed it and it has not expired at `now_unix_s`
    /// (seconds since 1970-01-01 UTC). The signature is compared in constant time, and before the
    /// payload is decoded.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify_token(&self, token: &str, now_unix_s: i64) -> Result<SessionClaims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = part(Some(header)).ok_or(TokenError::Malformed)?;
        if header.alg != "HS256" || header.typ != TYPE {
            return Err(TokenError::Malformed);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        let key = self.find(&header.kid).ok_or(TokenError::UnknownKey)?;
        mac_of(&key, signed).verify_slice(&signature).map_err(|_| TokenError::BadSignature)?;

        let payload: Payload = part(Some(payload)).ok_or(TokenError::Malformed)?;
        if payload.iss != ISSUER {
            return Err(TokenError::Malformed);
        }
        if payload.claims.exp <= now_unix_s {
            return Err(TokenError::Expired { by_s: now_unix_s.abs_diff(payload.claims.exp) });
        }
        Ok(payload.claims)
    }
}

fn encoded(value: &impl Serialize) -> Result<String, TokenError> {
    let json = serde_json::to_vec(value).map_err(|_| TokenError::Malformed)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn part<T: for<'a> Deserialize<'a>>(text: Option<&str>) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text?).ok()?).ok()
}

fn mac_of(key: &Key, signed: &str) -> Hmac<Sha256> {
    key.derived(b"skyflight session token 1").chain_update(signed)
}
