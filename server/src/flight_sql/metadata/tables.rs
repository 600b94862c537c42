//! GetTables: every table of every database, with its schema where asked.

use std::sync::Arc;

use arrow_flight::sql::CommandGetTables;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, Schema};
use skyflight_catalog::{Snapshot, Table};
use skyflight_engine::schema::{arrow_schema, client_schema};
use tonic::Status;

use super::fields::{PREFIX, result_schema};
use super::pattern::Pattern;
use super::{TABLE, failed, in_catalog, tables_builder};
use crate::error::status_of;
use crate::session::options::CATALOG;

/// The tables that pass the command's filters, by database and name.
pub(super) fn answer(command: &CommandGetTables, catalog: &[Arc<Snapshot>]) -> Result<RecordBatch, Status> {
    let databases = Pattern::of_filter(command.db_schema_filter_pattern.as_deref());
    let names = Pattern::of_filter(command.table_name_filter_pattern.as_deref());
    let mut found = tables_builder(command.include_schema);
    if !in_catalog(command.catalog.as_deref()) || !wants_tables(&command.table_types) {
        return found.build().map_err(failed);
    }
    for snapshot in catalog.iter().filter(|snapshot| databases.matches(&snapshot.database.name)) {
        let database = &snapshot.database.name;
        for table in snapshot.tables.iter().map(|t| &t.table).filter(|table| names.matches(&table.name)) {
            let schema = if command.include_schema { described_schema(database, table)? } else { Schema::empty() };
            found.append(CATALOG, database, &table.name, TABLE, &schema).map_err(failed)?;
        }
    }
    found.build().map_err(failed)
}

fn wants_tables(types: &[String]) -> bool {
    types.is_empty() || types.iter().any(|t| t.eq_ignore_ascii_case(TABLE) || t.eq_ignore_ascii_case("BASE TABLE"))
}

/// The schema that `SELECT *` gives, with the field metadata that JDBC and ODBC show as columns of
/// their own.
fn described_schema(database: &str, table: &Table) -> Result<Schema, Status> {
    let stored = arrow_schema(table).map_err(|error| status_of(&error, None))?;
    let of_table = |field: &FieldRef| {
        let mut metadata = field.metadata().clone();
        for (key, value) in
            [("CATALOG_NAME", CATALOG), ("DB_SCHEMA_NAME", database), ("TABLE_NAME", table.name.as_str())]
        {
            metadata.insert(format!("{PREFIX}{key}"), value.to_owned());
        }
        field.as_ref().clone().with_metadata(metadata)
    };
    Ok(Schema::new(result_schema(&client_schema(&stored)).fields().iter().map(of_table).collect::<Vec<_>>()))
}
