//! TLS of a node, as server and as client: certificates from files, which may change while it runs.
//!
//! One crypto library (ring), TLS 1.2 and 1.3, ALPN `h2`. A node shows the same certificate to
//! those who come to it and to the nodes it goes to; whom it believes is one list of authorities
//! for servers and one for clients.

mod accept;
mod development;
mod dial;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

pub use accept::{Connection, incoming};
pub use development::development_files;
pub use dial::{DialError, Dialer};

/// The files of a node's TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, followed by those between it and the authority's.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of the nodes it goes to.
    pub ca: Option<PathBuf>,
    /// The authorities of clients' certificates; without them none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub demand_client: bool,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the TLS file {}: {cause}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM form: {reason}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not fit together.
    #[error("the certificate {} cannot be used with its key or authorities: {reason}", .path.display())]
    Mismatch {
        /// The certificate.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The development certificate cannot be made.
    #[error("cannot make a development certificate in {}: {reason}", .folder.display())]
    Make {
        /// Where it was to be.
        folder: PathBuf,
        /// Why it is not.
        reason: String,
    },
}

/// A node's TLS. Its certificates may be replaced while it serves: new connections get the new ones.
pub struct NodeTls {
    files: TlsFiles,
    live: RwLock<Arc<Loaded>>,
}

struct Loaded {
    /// What the files held.
    content: Content,
    server: Arc<ServerConfig>,
    client: ClientTlsConfig,
}

#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Option<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl NodeTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, is no PEM, or does not fit the others.
    pub fn load(files: TlsFiles) -> Result<NodeTls, TlsError> {
        let loaded = Loaded::of(&files, Content::read(&files)?)?;
        Ok(NodeTls { files, live: RwLock::new(Arc::new(loaded)) })
    }

    /// Reads the files again; whether they have changed.
    ///
    /// # Errors
    /// As [`NodeTls::load`]; what was there stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let content = Content::read(&self.files)?;
        if content == self.live().content {
            return Ok(false);
        }
        let loaded = Arc::new(Loaded::of(&self.files, content)?);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(true)
    }

    fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.live().server)
    }

    fn client(&self) -> ClientTlsConfig {
        self.live().client.clone()
    }

    fn live(&self) -> Arc<Loaded> {
        // Only whole values are ever put there.
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Content {
    fn read(files: &TlsFiles) -> Result<Content, TlsError> {
        Ok(Content {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            ca: files.ca.as_deref().map(read).transpose()?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }
}

impl Loaded {
    fn of(files: &TlsFiles, content: Content) -> Result<Loaded, TlsError> {
        let mismatch = |reason: String| TlsError::Mismatch { path: files.certificate.clone(), reason };
        let chain = certificates(&files.certificate, &content.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&content.key).map_err(|e| TlsError::Pem {
            path: files.key.clone(),
            what: "private key",
            reason: e.to_string(),
        })?;
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| mismatch(e.to_string()))?;
        let builder = match (&files.client_ca, &content.client_ca) {
            (Some(path), Some(pem)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots(path, pem)?.into(), provider);
                let verifier = if files.demand_client { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| mismatch(e.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|e| mismatch(e.to_string()))?;
        server.alpn_protocols = vec![b"h2".to_vec()];

        let mut client = ClientTlsConfig::new().identity(Identity::from_pem(&content.certificate, &content.key));
        if let (Some(path), Some(pem)) = (&files.ca, &content.ca) {
            certificates(path, pem)?;
            client = client.ca_certificate(Certificate::from_pem(pem));
        }
        Ok(Loaded { content, server: Arc::new(server), client })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|cause| TlsError::Read { path: path.to_owned(), cause })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::Pem { path: path.to_owned(), what: "certificate", reason };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| wrong(e.to_string()))?;
    if found.is_empty() { Err(wrong("there is none".to_owned())) } else { Ok(found) }
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|e| TlsError::Pem {
            path: path.to_owned(),
            what: "authority's certificate",
            reason: e.to_string(),
        })?;
    }
    Ok(roots)
}
