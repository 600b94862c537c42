//! Uploads: CommandStatementIngest in its modes, and plain DoPut to a path.

use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use datafusion::arrow::datatypes::Schema;
use futures::StreamExt;
use skyflight_engine::EngineError;
use skyflight_engine::guard::{Name, TableName};
use tonic::Status;

use super::actions::no_transaction;
use super::incoming::Incoming;
use super::own_tables::{IfExists, Matching, NewRows, Policy, director};
use super::statement::Statements;
use crate::error::{bad_request, unsupported};
use crate::session::{Caller, options};

/// How the keys begin by which a schema's metadata says what its table is to be.
const METADATA_PREFIX: &str = "skyflight.";

/// The rows of a CommandStatementIngest into a table: their number.
///
/// Errors: `InvalidArgument` for a stream without a schema; `Unimplemented` for temporary tables; those
/// of the table and its rows.
pub(super) async fn ingest(
    statements: &Statements,
    caller: &Caller,
    command: CommandStatementIngest,
    rows: Option<Incoming>,
) -> Result<u64, Status> {
    no_transaction(command.transaction_id.as_deref())?;
    if command.temporary {
        return Err(unsupported("there are no temporary tables; make one in mydb and drop it"));
    }
    let policy = policy_of(&command)?;
    let table = table_name(command.catalog.as_deref(), command.schema.as_deref(), command.table)?;
    let options = command.options.iter();
    let options = options.filter_map(|(key, value)| {
        let key = key.strip_prefix(METADATA_PREFIX).unwrap_or(key);
        // Drivers put settings of their own into the map.
        ["ra", "dec", "id"].contains(&key).then(|| (key.to_owned(), value.clone()))
    });
    upload(statements, caller, &table, policy, options.collect(), rows).await
}

/// Rows for the table at a path: `[table]`, `[database, table]` or `[catalog, database, table]`. It is made
/// where it does not exist, otherwise the rows join those it has.
///
/// Errors: as [`ingest`].
pub(super) async fn put_path(
    statements: &Statements,
    caller: &Caller,
    mut path: Vec<String>,
    rows: Option<Incoming>,
) -> Result<u64, Status> {
    let table = path.pop();
    let database = path.pop();
    let catalog = path.pop();
    let (Some(table), true) = (table, path.is_empty()) else {
        return Err(bad_request("the path of an upload is table or database, table"));
    };
    let table = table_name(catalog.as_deref(), database.as_deref(), table)?;
    let policy = Policy { create: true, existing: IfExists::Append };
    upload(statements, caller, &table, policy, Vec::new(), rows).await
}

async fn upload(
    statements: &Statements,
    caller: &Caller,
    table: &TableName,
    policy: Policy,
    mut options: Vec<(String, String)>,
    rows: Option<Incoming>,
) -> Result<u64, Status> {
    let Some(Incoming { schema, batches }) = rows else {
        return Err(bad_request(format!(
            "the upload into {table} has no schema, so that no table can be made of it; send the schema, if without rows"
        )));
    };
    options.extend(options_in(&schema));
    let director = director(options.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    let batches = batches.map(|batch| batch.map_err(|status| EngineError::Invalid(status.message().to_owned())));
    let rows = NewRows { schema, batches: batches.boxed(), matching: Matching::Name };
    statements.upload(caller, table, policy, director, rows).await
}

/// `skyflight.ra` and the like in the metadata of the schema.
fn options_in(schema: &Schema) -> Vec<(String, String)> {
    let metadata = schema.metadata().iter();
    let options =
        metadata.filter_map(|(key, value)| Some((key.strip_prefix(METADATA_PREFIX)?.to_owned(), value.clone())));
    options.collect()
}

fn policy_of(command: &CommandStatementIngest) -> Result<Policy, Status> {
    let Some(options) = &command.table_definition_options else {
        return Ok(Policy { create: true, existing: IfExists::Fail });
    };
    let create = match options.if_not_exist() {
        TableNotExistOption::Unspecified | TableNotExistOption::Create => true,
        TableNotExistOption::Fail => false,
    };
    let existing = match options.if_exists() {
        TableExistsOption::Unspecified | TableExistsOption::Fail => IfExists::Fail,
        TableExistsOption::Append => IfExists::Append,
        TableExistsOption::Replace => IfExists::Replace,
    };
    if !create && existing == IfExists::Fail {
        return Err(bad_request("an upload that is to fail whether the table exists or not writes nothing"));
    }
    Ok(Policy { create, existing })
}

fn table_name(catalog: Option<&str>, database: Option<&str>, table: String) -> Result<TableName, Status> {
    match catalog {
        Some(other) if !other.is_empty() && !other.eq_ignore_ascii_case(options::CATALOG) => {
            return Err(bad_request(format!("there is no catalog \"{other}\"; the only one is {}", options::CATALOG)));
        }
        _ => {}
    }
    let name = |text: String| Name { text, quoted: true };
    let database = database.filter(|database| !database.is_empty()).map(|database| name(database.to_owned()));
    Ok(TableName { database, table: name(table) })
}
