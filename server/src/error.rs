//! Errors on their way out: every failure gets its gRPC code in one place.

use std::net::SocketAddr;

use skyflight_engine::EngineError;
use skyflight_proto::FailureKind;
use tonic::{Code, Status};
use uuid::Uuid;

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; is another server running there?")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The threads for planning and merging cannot be made.
    #[error("cannot start the threads that plan queries: {0}")]
    Threads(std::io::Error),
    /// The engine cannot be built.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The network server failed after it had started.
    #[error("the server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Long messages do not fit in gRPC's trailers; what a user can act on stands at the start.
const MESSAGE_BYTES: usize = 2_000;

/// The gRPC status of a failure, its message kept. A fault of ours is logged here, with the query's
/// id, and the text names the id so that the two can be brought together.
pub(crate) fn status_of(error: &EngineError, query: Option<Uuid>) -> Status {
    let kind = error.kind();
    let mut message = error.to_string();
    match kind {
        FailureKind::BadRequest
        | FailureKind::NotFound
        | FailureKind::AlreadyExists
        | FailureKind::Unauthenticated
        | FailureKind::PermissionDenied
        | FailureKind::ResourceExhausted
        | FailureKind::Cancelled
        | FailureKind::DeadlineExceeded
        | FailureKind::Unimplemented
        | FailureKind::FailedPrecondition => {}
        FailureKind::Unavailable => {
            tracing::warn!(query_id = query.map(tracing::field::display), %error, "workers cannot be reached");
        }
        FailureKind::DataLoss | FailureKind::Internal => {
            tracing::error!(query_id = query.map(tracing::field::display), %error, "query failed by a fault of ours");
            if let Some(id) = query {
                message = format!("{message} (query {id}; the coordinator's log says more under this id)");
            }
        }
    }
    kind.status(shortened(&message, MESSAGE_BYTES))
}

/// A status for a request that is itself wrong.
pub(crate) fn bad_request(message: impl Into<String>) -> Status {
    FailureKind::BadRequest.status(message)
}

/// A status for what this version does not do.
pub(crate) fn unsupported(message: impl Into<String>) -> Status {
    FailureKind::Unimplemented.status(message)
}

/// A status for a fault of ours outside any query.
pub(crate) fn internal(what: &str, cause: impl std::fmt::Display) -> Status {
    tracing::error!(%cause, "{what}");
    Status::new(Code::Internal, format!("{what}: {cause}"))
}

/// The first bytes of a text, cut between characters; a cut text says so.
pub(crate) fn shortened(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    let end = (0..=most_bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{} …", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kept_and_codes_follow_the_kind() {
        let status = status_of(&EngineError::NotFound("there is no table \"objct\"".into()), None);
        assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no table \"objct\""));
        let status = status_of(&EngineError::Syntax("Expected an expression".into()), Some(Uuid::nil()));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(!status.message().contains("query 0"), "a user's mistake needs no id: {}", status.message());
    }

    #[test]
    fn a_fault_of_ours_names_its_query() {
        let id = Uuid::now_v7();
        let status = status_of(&EngineError::Internal("a bug".into()), Some(id));
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("a bug") && status.message().contains(&id.to_string()));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let status = status_of(&EngineError::Invalid("é".repeat(5_000)), None);
        assert!(status.message().len() < MESSAGE_BYTES + 10);
        assert!(status.message().ends_with(" …"));
    }
}
