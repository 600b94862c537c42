//! Whose fault a failed stream is: the worker's, and a replica may do better; or the query's, and
//! no replica would.

use skyflight_engine::EngineError;
use skyflight_proto::retryable;
use skyflight_proto::wire::FRAGMENT_UNKNOWN;
use tonic::{Code, Status};

/// Why a task stream did not end well.
#[derive(Debug)]
pub(super) enum Failure {
    /// The worker, or the way to it: its unfinished chunks go elsewhere. Says what it did.
    Worker(String),
    /// The query: it ends.
    Query(EngineError),
    /// The worker has forgotten the fragment, or never had it.
    FragmentUnknown,
    /// Nobody wants the rows any more.
    Gone,
}

impl Failure {
    /// Reads what a worker, or the connection to it, answered.
    pub(super) fn of(status: &Status) -> Failure {
        let code = status.code();
        let message = status.message().to_owned();
        if code == Code::FailedPrecondition && message.starts_with(FRAGMENT_UNKNOWN) {
            return Failure::FragmentUnknown;
        }
        // Our own receiver says OutOfRange to a length that no honest worker sends.
        if retryable(code) || code == Code::OutOfRange {
            return Failure::Worker(describe(status));
        }
        Failure::Query(match code {
            Code::InvalidArgument => EngineError::Invalid(message),
            Code::ResourceExhausted => EngineError::ResourceExhausted(message),
            Code::PermissionDenied => EngineError::Refused(message),
            Code::Unimplemented => EngineError::Unsupported(message),
            Code::Unauthenticated => EngineError::Internal(format!(
                "a worker refused the coordinator's ticket ({message}); check that both have the same cluster key \
                 and that their clocks agree"
            )),
            Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::Aborted
            | Code::Ok
            | Code::OutOfRange
            | Code::Unavailable
            | Code::Internal
            | Code::DataLoss
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::NotFound => EngineError::Internal(format!("a worker refused the task: {message}")),
        })
    }
}

/// A status with what lies below it: tonic's own messages end in "transport error".
fn describe(status: &Status) -> String {
    let mut text = if status.message().is_empty() {
        status.code().description().to_lowercase()
    } else {
        status.message().to_owned()
    };
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use skyflight_proto::FailureKind;

    use super::*;

    fn kind(code: Code) -> Option<FailureKind> {
        match Failure::of(&Status::new(code, "why")) {
            Failure::Query(error) => Some(error.kind()),
            Failure::Worker(_) | Failure::FragmentUnknown | Failure::Gone => None,
        }
    }

    #[test]
    fn a_users_mistake_keeps_its_code_and_is_never_retried() {
        assert_eq!(kind(Code::InvalidArgument), Some(FailureKind::BadRequest));
        assert_eq!(kind(Code::ResourceExhausted), Some(FailureKind::ResourceExhausted));
        assert_eq!(kind(Code::PermissionDenied), Some(FailureKind::PermissionDenied));
        assert_eq!(kind(Code::Unimplemented), Some(FailureKind::Unimplemented));
    }

    #[test]
    fn a_workers_fault_is_retried() {
        let codes = [
            Code::Unavailable,
            Code::Internal,
            Code::DataLoss,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unknown,
            Code::NotFound,
            Code::OutOfRange,
        ];
        for code in codes {
            assert_eq!(kind(code), None, "{code:?}");
        }
    }

    #[test]
    fn the_fragment_is_asked_for_by_a_message_of_its_own() {
        let unknown = Status::failed_precondition("fragment unknown: 12ab");
        assert!(matches!(Failure::of(&unknown), Failure::FragmentUnknown));
        let other = Status::failed_precondition("something else");
        assert!(matches!(Failure::of(&other), Failure::Query(EngineError::Internal(_))));
    }
}
