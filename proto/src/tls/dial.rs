//! The client's side: how a node of the cluster reaches another.

use std::sync::Arc;

use tonic::transport::Endpoint;

use super::NodeTls;

/// Makes endpoints for the addresses of other nodes; `https` ones with this node's certificate.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    tls: Option<Arc<NodeTls>>,
}

/// Why an address cannot be dialled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// It is no address.
    #[error("\"{address}\" is no http://host:port or https://host:port: {reason}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It wants TLS, and this node has none.
    #[error(
        "{address} wants TLS, which this process has not: give tls.certificate, tls.key and tls.ca in its \
         configuration, or --ca-file to a client"
    )]
    NoTls {
        /// The address.
        address: String,
    },
}

impl Dialer {
    /// Goes to `https` addresses with `tls`; without it not at all.
    pub fn new(tls: Option<Arc<NodeTls>>) -> Dialer {
        Dialer { tls }
    }

    /// An endpoint for `address`, whose other settings are the caller's.
    ///
    /// # Errors
    /// It is no address, or wants TLS where there is none.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint, DialError> {
        let wrong = |reason: tonic::transport::Error| DialError::Address {
            address: address.to_owned(),
            reason: reason.to_string(),
        };
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(wrong)?;
        if !address.starts_with("https://") {
            return Ok(endpoint);
        }
        let tls = self.tls.as_ref().ok_or_else(|| DialError::NoTls { address: address.to_owned() })?;
        endpoint.tls_config(tls.client()).map_err(wrong)
    }
}
