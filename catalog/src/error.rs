//! What can go wrong with the records, said so that the user knows what to do next.

use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::{SnapshotId, TransactionId};
use crate::owner::Owner;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// Why the store refused or failed. Cheap to clone, because one failed load may answer several callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// Nothing of that name or id exists; `suggestion` is the nearest name that does.
    #[error("there is no {what} \"{name}\"{}", did_you_mean(.suggestion.as_deref()))]
    NotFound {
        /// The noun: `database`, `table`, `snapshot`, `transaction`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The nearest existing name, where one is near.
        suggestion: Option<String>,
    },
    /// The name is taken, perhaps in another case.
    #[error("the {what} \"{name}\" exists already; choose another name or drop it first")]
    AlreadyExists {
        /// The noun.
        what: &'static str,
        /// The existing name as it was declared.
        name: String,
    },
    /// Another ingest into this database is alive.
    #[error(
        "database \"{database}\" is being written by {owner} (transaction {transaction}, last sign of life \
         {heartbeat_age_ms} ms ago); wait until it ends or stop it"
    )]
    Busy {
        /// The database's declared name.
        database: String,
        /// The transaction that is open.
        transaction: TransactionId,
        /// Who opened it.
        owner: Owner,
        /// Milliseconds since its last heartbeat.
        heartbeat_age_ms: i64,
    },
    /// The database has changed since the transaction was opened; nothing was committed.
    #[error(
        "database \"{database}\" changed while this transaction ran (it began on snapshot {}, now {} is current); \
         run it again", or_none(.base), or_none(.current)
    )]
    Conflict {
        /// The database's declared name.
        database: String,
        /// The snapshot the transaction began on.
        base: Option<SnapshotId>,
        /// The snapshot that is current.
        current: Option<SnapshotId>,
    },
    /// The transaction is no longer open: committed, aborted, or taken over because it gave no sign of life.
    #[error("transaction {transaction} is {state}, so it can no longer be written; start a new one")]
    TransactionClosed {
        /// The transaction.
        transaction: TransactionId,
        /// `committed`, `aborted` or `abandoned`.
        state: String,
    },
    /// The caller's records contradict each other or the rules; the text says which and how to put it right.
    #[error("{0}")]
    Invalid(String),
    /// The catalog's file cannot be made or read.
    #[error("cannot open the catalog {}: {reason}; check that it is a catalog and that its folder may be written", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file was written by a later version of Skyflight.
    #[error("the catalog has schema version {found}, this program knows up to {known}; use a newer skyflight")]
    NewerSchema {
        /// The version found in the file.
        found: i64,
        /// The newest version this program can read.
        known: i64,
    },
    /// A stored record cannot be read back.
    #[error("the catalog's record of {what} cannot be read ({reason}); restore the catalog from a backup")]
    Corrupt {
        /// Which record.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The SQL store failed: disk full, file locked for longer than the busy timeout, no permission.
    #[error("the catalog store failed: {0}")]
    Database(#[source] Arc<sqlx::Error>),
}

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> CatalogError {
        CatalogError::Database(Arc::new(error))
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}

fn or_none(snapshot: &Option<SnapshotId>) -> String {
    snapshot.map_or_else(|| "none".to_owned(), |id| id.to_string())
}
