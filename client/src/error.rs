//! What a client can meet: an unreachable server, the server's own message, a file it cannot write.

use arrow::error::ArrowError;
use arrow_flight::error::FlightError;

/// A failure of a request or of writing its rows.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no URL that can be connected to.
    #[error("{url:?} is no address of a server; write http://host:port or https://host:port")]
    Address {
        /// What was given.
        url: String,
    },
    /// A server that wants TLS, and nothing by which to know it.
    #[error("{url} wants TLS: give the file with the authority of its certificate (--ca-file)")]
    NoAuthorities {
        /// The server's address.
        url: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to {url}: {}; is the server running?", whole(.cause))]
    Connect {
        /// The server's address.
        url: String,
        /// What the transport says.
        cause: tonic::transport::Error,
    },
    /// The server refused or failed; `message` is its own.
    #[error("{message}")]
    Server {
        /// The gRPC code.
        code: tonic::Code,
        /// The server's message.
        message: String,
    },
    /// The server answered, but not as Flight SQL says.
    #[error("the server's answer cannot be used: {0}")]
    Protocol(String),
    /// Rows cannot be written.
    #[error("cannot write rows: {0}")]
    Write(String),
    /// A file or the terminal failed.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// An error with all that caused it: the transport's own message says only that it is one.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl From<FlightError> for ClientError {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => ClientError::from(*status),
            FlightError::Arrow(error) => ClientError::from(error),
            other => ClientError::Protocol(other.to_string()),
        }
    }
}

impl From<ArrowError> for ClientError {
    fn from(error: ArrowError) -> Self {
        match error {
            // The Flight SQL client wraps the server's status in an Arrow error.
            ArrowError::ExternalError(inner) => match inner.downcast::<tonic::Status>() {
                Ok(status) => ClientError::from(*status),
                Err(other) => ClientError::Protocol(other.to_string()),
            },
            other => ClientError::Protocol(other.to_string()),
        }
    }
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        ClientError::Server { code: status.code(), message: status.message().to_string() }
    }
}

impl ClientError {
    /// The gRPC code, where the server gave one.
    pub fn code(&self) -> Option<tonic::Code> {
        match self {
            ClientError::Server { code, .. } => Some(*code),
            _ => None,
        }
    }
}
