//! GetTables: every table of every database, with its schema where asked.

use std::sync::Arc;

use arrow_flight::sql::CommandGetTables;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema};
use skyflight_catalog::{Snapshot, Table};
use skyflight_engine::schema::{arrow_schema, client_schema};
use tonic::Status;

use super::pattern::Pattern;
use super::types::type_of;
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
    let fields: Vec<Field> =
        client_schema(&stored).fields().iter().map(|field| described_field(database, table, field)).collect();
    Ok(Schema::new(fields))
}

fn described_field(database: &str, table: &Table, field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    let mut tell = |key: &str, value: String| metadata.insert(format!("ARROW:FLIGHT:SQL:{key}"), value);
    tell("CATALOG_NAME", CATALOG.to_owned());
    tell("DB_SCHEMA_NAME", database.to_owned());
    tell("TABLE_NAME", table.name.clone());
    let described = type_of(field.data_type());
    tell("TYPE_NAME", described.name.to_owned());
    if let Some(precision) = described.precision {
        tell("PRECISION", precision.to_string());
    }
    if let Some(scale) = described.scale {
        tell("SCALE", scale.to_string());
    }
    tell("IS_AUTO_INCREMENT", "0".to_owned());
    tell("IS_CASE_SENSITIVE", if described.is_text { "1" } else { "0" }.to_owned());
    tell("IS_READ_ONLY", "1".to_owned());
    tell("IS_SEARCHABLE", "1".to_owned());
    if let Some(remarks) = remarks(table, field.name()) {
        tell("REMARKS", remarks);
    }
    field.clone().with_metadata(metadata)
}

/// Description and unit, as people read them: `right ascension [deg]`.
fn remarks(table: &Table, column: &str) -> Option<String> {
    let column = table.columns.iter().find(|c| c.name == column)?;
    match (&column.description, &column.unit) {
        (Some(description), Some(unit)) => Some(format!("{description} [{unit}]")),
        (Some(description), None) => Some(description.clone()),
        (None, Some(unit)) => Some(format!("[{unit}]")),
        (None, None) => None,
    }
}
