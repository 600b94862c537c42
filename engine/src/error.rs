//! What can go wrong between SQL text and rows, said so that the user can act on it.

use skyflight_catalog::CatalogError;
use skyflight_proto::FailureKind;

/// The result of everything in this crate.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// A failure of planning or running a query.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The text is not SQL that Skyflight reads.
    #[error("cannot read the SQL: {0}")]
    Syntax(String),
    /// The statement is larger or deeper than a planner can take safely.
    #[error("{0}")]
    TooLarge(String),
    /// The statement is SQL, but not one a client may run here.
    #[error("{0}")]
    Refused(String),
    /// A table, database or function that does not exist for this user.
    #[error("{0}")]
    NotFound(String),
    /// The statement is well formed but means nothing: unknown column, wrong type, ambiguous name.
    #[error("{0}")]
    Invalid(String),
    /// The query asked for more than its share of memory or disk.
    #[error("{0}")]
    ResourceExhausted(String),
    /// Somebody cancelled the query.
    #[error("query cancelled")]
    Cancelled,
    /// No worker that holds a needed chunk can be reached.
    #[error("{0}")]
    Unavailable(String),
    /// A file, frame or fragment is not what was written.
    #[error("{0}")]
    Corrupt(String),
    /// Valid SQL that Skyflight does not run.
    #[error("{0}")]
    Unsupported(String),
    /// The catalog store failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A fault of ours.
    #[error("internal: {0}")]
    Internal(String),
}

impl EngineError {
    /// The kind of failure, from which the gRPC code follows.
    pub fn kind(&self) -> FailureKind {
        match self {
            EngineError::Syntax(_) | EngineError::Invalid(_) | EngineError::TooLarge(_) => FailureKind::BadRequest,
            EngineError::Refused(_) => FailureKind::PermissionDenied,
            EngineError::NotFound(_) => FailureKind::NotFound,
            EngineError::ResourceExhausted(_) => FailureKind::ResourceExhausted,
            EngineError::Cancelled => FailureKind::Cancelled,
            EngineError::Unavailable(_) => FailureKind::Unavailable,
            EngineError::Corrupt(_) => FailureKind::DataLoss,
            EngineError::Unsupported(_) => FailureKind::Unimplemented,
            EngineError::Catalog(CatalogError::NotFound { .. }) => FailureKind::NotFound,
            EngineError::Catalog(CatalogError::AlreadyExists { .. }) => FailureKind::AlreadyExists,
            EngineError::Catalog(_) | EngineError::Internal(_) => FailureKind::Internal,
        }
    }
}

impl EngineError {
    /// The same error once more, for readers that share one failure.
    pub(crate) fn again(&self) -> EngineError {
        match self {
            EngineError::Syntax(m) => EngineError::Syntax(m.clone()),
            EngineError::TooLarge(m) => EngineError::TooLarge(m.clone()),
            EngineError::Refused(m) => EngineError::Refused(m.clone()),
            EngineError::NotFound(m) => EngineError::NotFound(m.clone()),
            EngineError::Invalid(m) => EngineError::Invalid(m.clone()),
            EngineError::ResourceExhausted(m) => EngineError::ResourceExhausted(m.clone()),
            EngineError::Cancelled => EngineError::Cancelled,
            EngineError::Unavailable(m) => EngineError::Unavailable(m.clone()),
            EngineError::Corrupt(m) => EngineError::Corrupt(m.clone()),
            EngineError::Unsupported(m) => EngineError::Unsupported(m.clone()),
            EngineError::Catalog(e) => EngineError::Internal(e.to_string()),
            EngineError::Internal(m) => EngineError::Internal(m.clone()),
        }
    }
}

impl From<datafusion::error::DataFusionError> for EngineError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        crate::fragment::error_of(error)
    }
}
