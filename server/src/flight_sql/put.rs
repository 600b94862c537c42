//! DoPut: what a read-only server takes of it, which is the binding of no parameters, and clear
//! refusals of the rest.

use arrow_flight::sql::{Command, DoPutPreparedStatementResult};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use datafusion::arrow::ipc;
use prost::Message;
use tonic::{Status, Streaming};

use super::metadata::decode_command;
use super::statement::Statements;
use crate::error::{bad_request, unsupported};
use crate::session::Caller;

/// Messages read of a stream that should hold nothing.
const MOST_MESSAGES: usize = 1_000;

/// Serves one DoPut.
///
/// Errors: `InvalidArgument` for parameters, for a SELECT sent as an update, and for streams that
/// are not of Flight SQL; what the engine says to statements that change something; `Unimplemented`
/// for ingest and Substrait.
pub(super) async fn put(
    statements: &Statements,
    caller: &Caller,
    mut stream: Streaming<FlightData>,
) -> Result<PutResult, Status> {
    let Some(first) = stream.message().await? else {
        return Err(bad_request("a DoPut stream begins with a message that has a descriptor; this one is empty"));
    };
    let command = first.flight_descriptor.as_ref().and_then(|descriptor| decode_command(&descriptor.cmd));
    match command {
        Some(Command::CommandPreparedStatementQuery(query)) => {
            statements.prepared(&query.prepared_statement_handle)?;
            without_parameters(first, stream).await?;
            Ok(result(&DoPutPreparedStatementResult {
                prepared_statement_handle: Some(query.prepared_statement_handle),
            }))
        }
        Some(Command::CommandPreparedStatementUpdate(update)) => {
            let statement = statements.prepared(&update.prepared_statement_handle)?;
            without_parameters(first, stream).await?;
            statements.describe_prepared(&statement).await?;
            Err(not_an_update())
        }
        Some(Command::CommandStatementUpdate(update)) => {
            // Planning refuses whatever is not a query, each kind in its own words.
            statements.describe(caller, &update.query).await?;
            Err(not_an_update())
        }
        Some(Command::CommandStatementIngest(_)) => {
            Err(unsupported("tables are not yet loaded over Flight SQL; use `skyflight ingest` on the server's side"))
        }
        Some(Command::CommandStatementSubstraitPlan(_)) => {
            Err(unsupported("Substrait plans are not supported; send SQL"))
        }
        Some(other) => Err(bad_request(format!("{} is not a command for DoPut", other.type_url()))),
        None => Err(bad_request("the descriptor of the DoPut stream holds no Flight SQL command")),
    }
}

/// Reads a stream of parameters to its end; it may hold a schema and batches without rows.
async fn without_parameters(first: FlightData, mut stream: Streaming<FlightData>) -> Result<(), Status> {
    let mut fields = 0;
    let mut message = Some(first);
    for _ in 0..MOST_MESSAGES {
        let Some(data) = message else { return Ok(()) };
        if !data.data_header.is_empty() {
            let header = ipc::root_as_message(&data.data_header)
                .map_err(|e| bad_request(format!("the parameters are not Arrow IPC: {e}")))?;
            if let Some(schema) = header.header_as_schema() {
                fields = schema.fields().map_or(0, |fields| fields.len());
            } else if let Some(batch) = header.header_as_record_batch()
                && fields > 0
                && batch.length() > 0
            {
                return Err(bad_request("parameters are not supported yet; write the values into the SQL text"));
            }
        }
        message = stream.message().await?;
    }
    Err(bad_request("the stream of parameters does not end"))
}

fn not_an_update() -> Status {
    bad_request("this statement returns rows and changes nothing; run it as a query, not as an update")
}

fn result(message: &impl Message) -> PutResult {
    PutResult { app_metadata: Bytes::from(message.encode_to_vec()) }
}
