//! DoPut: values for parameters, statements that change something, and uploads.

use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use prost::Message;
use tonic::{Status, Streaming};

use super::actions::no_transaction;
use super::commands::Outcome;
use super::incoming::Incoming;
use super::ingest::{ingest, put_path};
use super::metadata::decode_command;
use super::statement::Statements;
use crate::error::{bad_request, unsupported};
use crate::session::Caller;

/// Most bytes of values bound by one call.
const MOST_VALUE_BYTES: usize = 64 << 20;

/// Serves one DoPut.
///
/// Errors: `InvalidArgument` for values that fit no parameters, for a SELECT sent as an update, and for
/// streams that hold neither a command nor a path; those of running the statement or of the upload;
/// `Unimplemented` for Substrait.
pub(super) async fn put(
    statements: &Statements,
    caller: &Caller,
    mut stream: Streaming<FlightData>,
) -> Result<PutResult, Status> {
    let Some(first) = stream.message().await? else {
        return Err(bad_request(
            "the DoPut stream is empty, without even a descriptor; a driver may send an empty table so: make the table \
             with CREATE TABLE mydb.name (column type, …)",
        ));
    };
    let command = first.flight_descriptor.as_ref().and_then(|descriptor| decode_command(&descriptor.cmd));
    match command {
        Some(Command::CommandPreparedStatementQuery(query)) => {
            let handle = query.prepared_statement_handle;
            let statement = statements.prepared(&handle)?;
            let values = values(statements, first, stream).await?;
            Ok(result(&DoPutPreparedStatementResult {
                prepared_statement_handle: Some(statements.bind(&statement, handle, &values)?),
            }))
        }
        Some(Command::CommandPreparedStatementUpdate(update)) => {
            let statement = statements.prepared(&update.prepared_statement_handle)?;
            let values = values(statements, first, stream).await?;
            Ok(counted(&statements.update_prepared(&statement, &values).await?))
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

/// The rows of values in a stream.
async fn values(
    statements: &Statements,
    first: FlightData,
    stream: Streaming<FlightData>,
) -> Result<Vec<RecordBatch>, Status> {
    Incoming::collect(Incoming::read(first, stream, statements.cpu()).await?, MOST_VALUE_BYTES).await
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
