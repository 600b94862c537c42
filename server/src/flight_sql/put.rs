//! DoPut: values for parameters, statements that change something, and uploads.

use std::time::Duration;

use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use prost::Message;
use skyflight_proto::FailureKind;
use tonic::{Status, Streaming};

use super::actions::no_transaction;
use super::commands::Outcome;
use super::incoming::Incoming;
use super::ingest::{ingest, put_path};
use super::metadata::decode_command;
use super::statement::Statements;
use crate::error::{bad_request, unsupported};
use crate::places::{Full, Place, Places};
use crate::session::Caller;

/// Most bytes of values bound by one call.
const MOST_VALUE_BYTES: u64 = 64 << 20;

/// Calls that may send something at a time, and how many of them are one user's: each may hold some
/// messages in memory.
const MOST_PUTS: usize = 64;
const MOST_OF_USER: usize = 32;

/// How long a client may take to say what it sends.
const FIRST_MESSAGE: Duration = Duration::from_secs(60);

/// The calls that are sending something, by user.
#[derive(Debug)]
pub(super) struct Puts(Places<String>);

impl Default for Puts {
    fn default() -> Self {
        Puts(Places::new(MOST_PUTS, MOST_OF_USER))
    }
}

impl Puts {
    /// Errors: `ResourceExhausted`, naming the limit.
    fn enter(&self, user: &str) -> Result<Place<String>, Status> {
        self.0.enter(user.to_owned()).map_err(|Full { all, own }| {
            FailureKind::ResourceExhausted.status(format!(
                "{all} clients are sending rows or changes, {own} of them yours; at most {MOST_PUTS} may at a time, \
                 {MOST_OF_USER} of one user; try again when one has ended"
            ))
        })
    }
}

/// Serves one DoPut.
///
/// Errors: `InvalidArgument` for values that fit no parameters, for a SELECT sent as an update, and for
/// streams that hold neither a command nor a path; those of running the statement or of the upload;
/// `ResourceExhausted` when too many send at once; `DeadlineExceeded` for a client that does not;
/// `Unimplemented` for Substrait.
pub(super) async fn put(
    statements: &Statements,
    caller: &Caller,
    mut stream: Streaming<FlightData>,
) -> Result<PutResult, Status> {
    let _sender = statements.puts().enter(&caller.user)?;
    let first = tokio::time::timeout(FIRST_MESSAGE, stream.message()).await;
    let first = first.map_err(|_| {
        FailureKind::DeadlineExceeded.status(format!("nothing was sent for {} s", FIRST_MESSAGE.as_secs()))
    })?;
    let Some(first) = first? else {
        return Err(bad_request(
            "the DoPut stream is empty, without even a descriptor; a driver may send an empty table so: make the table \
             with CREATE TABLE mydb.name (column type, …)",
        ));
    };
    let command = first.flight_descriptor.as_ref().and_then(|descriptor| decode_command(&descriptor.cmd));
    match command {
        Some(Command::CommandPreparedStatementQuery(query)) => {
            let handle = query.prepared_statement_handle;
            let statement = statements.prepared(caller, &handle)?;
            let values = values(statements, first, stream).await?;
            Ok(result(&DoPutPreparedStatementResult {
                prepared_statement_handle: Some(statements.bind(&statement, handle, values.as_deref())?),
            }))
        }
        Some(Command::CommandPreparedStatementUpdate(update)) => {
            let statement = statements.prepared(caller, &update.prepared_statement_handle)?;
            let values = values(statements, first, stream).await?;
            Ok(counted(&statements.update_prepared(&statement, values.as_deref()).await?))
        }
        Some(Command::CommandStatementUpdate(update)) => {
            no_transaction(update.transaction_id.as_deref())?;
            let command = statements.classify(&update.query)?;
            Ok(counted(&statements.run(caller, command, None).await?))
        }
        Some(Command::CommandStatementIngest(command)) => {
            let rows = Incoming::read(first, stream, statements.cpu()).await?;
            Ok(count(ingest(statements, caller, command, rows).await?))
        }
        Some(Command::CommandStatementSubstraitPlan(_)) => {
            Err(unsupported("Substrait plans are not supported; send SQL"))
        }
        Some(other) => Err(bad_request(format!("{} is not a command for DoPut", other.type_url()))),
        None => {
            let path = first.flight_descriptor.as_ref().map(|descriptor| descriptor.path.clone()).unwrap_or_default();
            if path.is_empty() {
                return Err(bad_request("the descriptor of the DoPut stream holds no Flight SQL command and no path"));
            }
            let rows = Incoming::read(first, stream, statements.cpu()).await?;
            Ok(count(put_path(statements, caller, path, rows).await?))
        }
    }
}

/// The rows of values in a stream; `None` where it holds no stream of values at all: no schema, or one
/// without columns and no rows, which is how drivers say that they bind nothing. No rows of some columns are
/// values for no run.
async fn values(
    statements: &Statements,
    first: FlightData,
    stream: Streaming<FlightData>,
) -> Result<Option<Vec<RecordBatch>>, Status> {
    let Some(incoming) = Incoming::read(first, stream, statements.cpu()).await? else { return Ok(None) };
    let says_nothing = incoming.schema.fields().is_empty();
    let batches = incoming.collect(MOST_VALUE_BYTES).await?;
    Ok((!says_nothing || batches.iter().any(|batch| batch.num_rows() > 0)).then_some(batches))
}

/// The answer to an update; 0 where there are no rows to count. Not -1, which the specification has for
/// what is not known: JDBC takes it for "there are rows instead", and runs the statement once more.
fn counted(outcome: &Outcome) -> PutResult {
    count(outcome.affected.unwrap_or(0))
}

fn count(rows: u64) -> PutResult {
    result(&DoPutUpdateResult { record_count: i64::try_from(rows).unwrap_or(i64::MAX) })
}

fn result(message: &impl Message) -> PutResult {
    PutResult { app_metadata: Bytes::from(message.encode_to_vec()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_the_others() {
        let puts = Puts::default();
        let mut sending: Vec<_> = (0..MOST_OF_USER).map(|_| puts.enter("ada").unwrap()).collect();
        let refused = puts.enter("ada").map(drop).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        sending.extend((MOST_OF_USER..MOST_PUTS).map(|_| puts.enter("vera").unwrap()));
        assert!(puts.enter("eve").is_err());
        sending.truncate(1);
        assert!(puts.enter("eve").is_ok());
        drop(sending);
        assert!(puts.0.is_forgotten());
    }
}
