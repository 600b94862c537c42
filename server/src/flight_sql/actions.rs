//! DoAction: prepared statements, session options, and workers that say that they live.

use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Any, ProstMessageExt,
};
use arrow_flight::{Action, ActionType, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use prost::Message;
use skyflight_proto::wire::ACTION_REGISTER_WORKER;
use tonic::Status;

use super::statement::Statements;
use crate::error::{bad_request, internal, unsupported};
use crate::session::{Caller, options};

/// Name of the action that prepares a statement.
pub(super) const CREATE_PREPARED: &str = "CreatePreparedStatement";
/// Name of the action that gives its handle back.
pub(super) const CLOSE_PREPARED: &str = "ClosePreparedStatement";

/// Name of the action that cancels a query or a job.
pub(super) const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
/// Its older form.
pub(super) const CANCEL_QUERY: &str = "CancelQuery";
/// Name of the action that gives an endpoint a longer life.
pub(super) const RENEW_ENDPOINT: &str = "RenewFlightEndpoint";

/// The tag of the field `is_update` (number 4, a bool) of `ActionCreatePreparedStatementResult`.
/// arrow-flight 59.3 has no such field, but newer JDBC drivers decide by it.
const IS_UPDATE: u8 = 0x20;

/// What ListActions tells.
pub(super) fn list() -> Vec<ActionType> {
    [
        (CREATE_PREPARED, "Prepares a statement. Takes ActionCreatePreparedStatementRequest, gives ActionCreatePreparedStatementResult."),
        (CLOSE_PREPARED, "Gives the handle of a prepared statement back. Takes ActionClosePreparedStatementRequest, gives nothing."),
        (CANCEL_FLIGHT_INFO, "Cancels a query or a job. Takes CancelFlightInfoRequest, gives CancelFlightInfoResult."),
        (CANCEL_QUERY, "Cancels a query or a job. Takes ActionCancelQueryRequest, gives ActionCancelQueryResult."),
        (RENEW_ENDPOINT, "Gives an endpoint a longer life. Takes RenewFlightEndpointRequest, gives FlightEndpoint."),
        (options::SET, "Sets the options catalog and schema of the session. Takes SetSessionOptionsRequest, gives SetSessionOptionsResult, and a new bearer token in the authorization header."),
        (options::GET, "Reads the options of the session. Takes GetSessionOptionsRequest, gives GetSessionOptionsResult."),
        (options::CLOSE, "Ends the session. Takes CloseSessionRequest, gives CloseSessionResult."),
        (ACTION_REGISTER_WORKER, "A worker of this cluster says that it lives. Takes a signed ticket, gives nothing."),
    ]
    .into_iter()
    .map(|(name, description)| ActionType { r#type: name.to_owned(), description: description.to_owned() })
    .collect()
}

/// Prepares the statement in an action's body; the encoded answer.
///
/// Errors: `InvalidArgument` for a body that is not the request; those of planning.
pub(super) async fn create_prepared(statements: &Statements, caller: &Caller, body: &[u8]) -> Result<Bytes, Status> {
    let request: ActionCreatePreparedStatementRequest = unpack(body)?;
    no_transaction(request.transaction_id.as_deref())?;
    let prepared = statements.prepare(caller, &request.query).await?;
    let answer = ActionCreatePreparedStatementResult {
        prepared_statement_handle: prepared.handle,
        dataset_schema: schema_bytes(&prepared.described.rows)?,
        parameter_schema: schema_bytes(&prepared.described.parameters)?,
    };
    let mut value = answer.encode_to_vec();
    value.extend([IS_UPDATE, u8::from(prepared.is_update)]);
    let any = Any { type_url: ActionCreatePreparedStatementResult::type_url().to_owned(), value: Bytes::from(value) };
    Ok(Bytes::from(any.encode_to_vec()))
}

/// Closes a prepared statement. The handle is the statement, so only values remembered for it go.
///
/// Errors: `InvalidArgument` for a body that is not the request.
pub(super) fn close_prepared(statements: &Statements, body: &[u8]) -> Result<(), Status> {
    let request: ActionClosePreparedStatementRequest = unpack(body)?;
    statements.forget_values(&request.prepared_statement_handle);
    Ok(())
}

/// The refusal of an action that is not served.
pub(super) fn refuse(action: &Action) -> Status {
    match action.r#type.as_str() {
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
            unsupported("there are no transactions: each statement reads one snapshot and takes effect by itself")
        }
        "CreatePreparedSubstraitPlan" => unsupported("Substrait plans are not supported; send SQL"),
        other => unsupported(format!("there is no action \"{other}\"; ListActions names those there are")),
    }
}

/// Refuses a statement inside a transaction, which cannot have been begun here.
pub(super) fn no_transaction(id: Option<&[u8]>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(bad_request("there are no transactions; send the statement without one")),
        _ => Ok(()),
    }
}

/// A schema as an encapsulated IPC message, as Flight SQL's messages hold it.
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &options).try_into().map_err(|e| internal("a schema cannot be encoded", e))?;
    Ok(bytes)
}

fn unpack<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let any = Any::decode(body).map_err(|e| bad_request(format!("the action's body is not a protobuf Any: {e}")))?;
    match any.unpack::<M>() {
        Ok(Some(message)) => Ok(message),
        _ => Err(bad_request(format!("the action's body is not {}", M::type_url()))),
    }
}
