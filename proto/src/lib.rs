//! What travels between the processes of a Skyflight cluster.
//!
//! - [`generated`]: the messages, from `proto/skyflight.proto`;
//! - [`ClusterKeys`]: signs tickets and session tokens, and believes none that it did not sign;
//! - [`tls`]: how a node listens and how it reaches others;
//! - [`wire`]: frame sizes, action names and the digest of a chunk's rows;
//! - [`error`]: kinds of failure, their gRPC codes, and which of them a replica may cure.
//!
//! Nothing here knows what a fragment, a chunk or a table is; rows are Arrow's business.

mod counters;
pub mod error;
#[rustfmt::skip]
pub mod generated;
mod key_file;
mod keys;
mod session_token;
mod signature;
pub mod tls;
pub mod wire;

/// The description of the Flight service for gRPC reflection: an encoded `FileDescriptorSet`.
pub const FLIGHT_DESCRIPTOR: &[u8] = include_bytes!("flight_descriptor.bin");

pub use error::{FailureKind, retryable};
pub use generated::*;
pub use keys::{ClusterKeys, KeyError, KeyStep};
pub use prost::Message;
pub use session_token::{SessionClaims, TokenError, claims_to_be_ours};
pub use signature::TicketError;
pub use wire::Digest;
