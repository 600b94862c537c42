//! Kinds of failure and their gRPC codes, in one place, so that no crate invents its own.

use tonic::{Code, Status};

/// What kind of failure it is, from the point of view of whoever must act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The request itself is wrong (SQL, a value in the data it asks to divide by): ask differently.
    BadRequest,
    /// What was named does not exist, or the user may not know that it does.
    NotFound,
    /// What was to be made exists.
    AlreadyExists,
    /// No proof, or no good proof, of who asks; a ticket that is forged, altered or expired.
    Unauthenticated,
    /// The user is known and may not.
    PermissionDenied,
    /// The request needs more memory, disk, rows or slots than it may have.
    ResourceExhausted,
    /// The other side cannot answer now: try again, or elsewhere.
    Unavailable,
    /// Whoever asked has gone, or has cancelled.
    Cancelled,
    /// It took longer than allowed.
    DeadlineExceeded,
    /// Stored or transmitted bytes are not what they were.
    DataLoss,
    /// A part of the protocol or of SQL that this version does not have.
    Unimplemented,
    /// The request is fine but its ground is not there: something must be done or sent first.
    FailedPrecondition,
    /// A bug of Skyflight. Never a user's mistake.
    Internal,
}

impl FailureKind {
    /// The gRPC code clients see.
    pub fn code(self) -> Code {
        Code::from(&self)
    }

    /// A gRPC status of this kind.
    pub fn status(self, message: impl Into<String>) -> Status {
        Status::new(self.code(), message)
    }
}

impl From<&FailureKind> for Code {
    fn from(kind: &FailureKind) -> Code {
        match kind {
            FailureKind::BadRequest => Code::InvalidArgument,
            FailureKind::NotFound => Code::NotFound,
            FailureKind::AlreadyExists => Code::AlreadyExists,
            FailureKind::Unauthenticated => Code::Unauthenticated,
            FailureKind::PermissionDenied => Code::PermissionDenied,
            FailureKind::ResourceExhausted => Code::ResourceExhausted,
            FailureKind::Unavailable => Code::Unavailable,
            FailureKind::Cancelled => Code::Cancelled,
            FailureKind::DeadlineExceeded => Code::DeadlineExceeded,
            FailureKind::DataLoss => Code::DataLoss,
            FailureKind::Unimplemented => Code::Unimplemented,
            FailureKind::FailedPrecondition => Code::FailedPrecondition,
            FailureKind::Internal => Code::Internal,
        }
    }
}

/// Whether a coordinator may ask a replica after a worker answered with `code`.
///
/// True where the worker or the way to it may be at fault; `NotFound` means a file that this worker
/// should have. False where the query is at fault and every replica would say the same. The one
/// `FailedPrecondition` worth an answer, [`crate::wire::FRAGMENT_UNKNOWN`], goes to the same worker
/// again and so is not retryable in this sense.
pub fn retryable(code: Code) -> bool {
    match code {
        Code::Unavailable
        | Code::Internal
        | Code::DataLoss
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::NotFound => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [FailureKind; 13] = [
        FailureKind::BadRequest,
        FailureKind::NotFound,
        FailureKind::AlreadyExists,
        FailureKind::Unauthenticated,
        FailureKind::PermissionDenied,
        FailureKind::ResourceExhausted,
        FailureKind::Unavailable,
        FailureKind::Cancelled,
        FailureKind::DeadlineExceeded,
        FailureKind::DataLoss,
        FailureKind::Unimplemented,
        FailureKind::FailedPrecondition,
        FailureKind::Internal,
    ];

    #[test]
    fn kinds_have_codes_of_their_own() {
        // Numbers from grpc.github.io/grpc/core/md_doc_statuscodes.html, in the order of ALL.
        let numbers = [3, 5, 6, 16, 7, 8, 14, 1, 4, 15, 12, 9, 13];
        for (kind, number) in ALL.into_iter().zip(numbers) {
            assert_eq!(kind.code() as i32, number, "{kind:?}");
            assert_eq!(kind.status("why").message(), "why");
            assert_eq!(kind.status("why").code(), kind.code());
        }
    }

    #[test]
    fn a_replica_is_asked_only_where_the_query_is_not_at_fault() {
        let yes: Vec<FailureKind> = ALL.into_iter().filter(|k| retryable(k.code())).collect();
        assert_eq!(
            yes,
            [
                FailureKind::NotFound,
                FailureKind::Unavailable,
                FailureKind::Cancelled,
                FailureKind::DeadlineExceeded,
                FailureKind::DataLoss,
                FailureKind::Internal,
            ]
        );
        assert!(retryable(Code::Unknown));
        assert!(!retryable(Code::Ok));
    }
}
