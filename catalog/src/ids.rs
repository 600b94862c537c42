//! Ids are types, so that a table's id is never passed where a snapshot's belongs.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A database; never used again after a drop.
    DatabaseId
}
id! {
    /// A table of one database; stays when the table is replaced, is never used again after a drop.
    TableId
}
id! {
    /// A version of a database. Of two snapshots of one database the later has the larger id.
    SnapshotId
}
id! {
    /// An ingest, finished or not; between 1 and 2³¹ − 1, never used again.
    TransactionId
}
id! {
    /// A stored file: the transaction that wrote it in the upper 32 bits, a sequence in the lower,
    /// so that the leftovers of a transaction are recognised by their names alone.
    FileId
}

impl FileId {
    /// The id of the `sequence`-th file of `transaction`; positive for every id a store gives out.
    #[must_use]
    pub fn new(transaction: TransactionId, sequence: u32) -> FileId {
        FileId((transaction.0 << 32) | i64::from(sequence))
    }

    /// The transaction that wrote the file.
    #[must_use]
    pub fn transaction(self) -> TransactionId {
        TransactionId(self.0 >> 32)
    }
}

/// A worker's own name, kept in its data folder: 1 to 128 bytes of ASCII letters, digits, `.`, `_`, `:` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub String);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for WorkerId {
    fn from(name: &str) -> WorkerId {
        WorkerId(name.to_owned())
    }
}
