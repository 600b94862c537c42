//! What a ticket of ours promises, once its signature is found good.

use std::time::Duration;

use sha2::{Digest, Sha256};
use skyflight_proto::ticket::Body;
use skyflight_proto::{FailureKind, StatementTicket, Ticket};
use tonic::Status;
use uuid::Uuid;

use super::statement::Statements;
use crate::clock::unix_ms;

/// What a verified ticket promises.
pub(super) enum Promise {
    /// The rows of a statement, or the statement itself.
    Statement(Box<(Ticket, StatementTicket)>),
    /// The rows of a job.
    Job {
        /// Whose it is.
        user: String,
        /// Its id.
        id: Uuid,
        /// The batch to begin with.
        first: u64,
    },
}

impl Statements {
    /// Reads a ticket.
    ///
    /// Errors: `Unauthenticated` for a ticket that is altered, expired or of another kind.
    pub(super) fn promise(&self, signed: &[u8]) -> Result<Promise, Status> {
        let mut ticket = self.parts().keys.verify(signed, unix_ms())?;
        match ticket.body.take() {
            Some(Body::Statement(statement)) if statement.schema_hash.len() == Sha256::output_size() => {
                Ok(Promise::Statement(Box::new((ticket, statement))))
            }
            Some(Body::Job(job)) => {
                Ok(Promise::Job { id: query_id(&ticket)?, user: ticket.user, first: job.first_batch })
            }
            _ => Err(no_statement()),
        }
    }

    /// A ticket that must be a statement's, or the statement itself.
    ///
    /// Errors: as [`Statements::promise`].
    pub(super) fn verify(&self, signed: &[u8]) -> Result<(Ticket, StatementTicket), Status> {
        match self.promise(signed)? {
            Promise::Statement(promised) => Ok(*promised),
            Promise::Job { .. } => Err(no_statement()),
        }
    }

    /// Whose query or job a ticket is of, and which.
    ///
    /// Errors: as [`Statements::promise`].
    pub(super) fn owner_of(&self, signed: &[u8]) -> Result<(String, Uuid), Status> {
        match self.promise(signed)? {
            Promise::Statement(promised) => {
                let (ticket, _) = *promised;
                let id = query_id(&ticket)?;
                Ok((ticket.user, id))
            }
            Promise::Job { user, id, .. } => Ok((user, id)),
        }
    }
}

/// The query of a ticket.
pub(super) fn query_id(ticket: &Ticket) -> Result<Uuid, Status> {
    Uuid::from_slice(&ticket.query_id).map_err(|_| no_statement())
}

pub(super) fn no_statement() -> Status {
    FailureKind::Unauthenticated.status("this is not the ticket of a statement's rows")
}

/// The moment so long from now, in milliseconds of Unix time.
pub(super) fn after(ttl: Duration) -> i64 {
    unix_ms().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
}
