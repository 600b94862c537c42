//! GetTables: every table of every database, and the views that describe them, with schemas where asked.

use std::sync::Arc;

use arrow_flight::sql::CommandGetTables;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, FieldRef, Schema};
use skyflight_catalog::{Snapshot, Table};
use skyflight_engine::schema::{arrow_schema, client_schema};
use skyflight_engine::views::View;
use tonic::Status;

use super::pattern::Pattern;
use super::types::type_of;
use super::{TABLE, VIEW, failed, in_catalog, tables_builder};
use crate::error::status_of;
use crate::session::options::CATALOG;

/// The tables and views that pass the command's filters, by database and name.
pub(super) fn answer(
    command: &CommandGetTables,
    catalog: &[Arc<Snapshot>],
    views: &[View],
) -> Result<RecordBatch, Status> {
    let databases = Pattern::of_filter(command.db_schema_filter_pattern.as_deref());
    let names = Pattern::of_filter(command.table_name_filter_pattern.as_deref());
    let wanted = |database: &str, table: &str| databases.matches(database) && names.matches(table);
    let mut found = tables_builder(command.include_schema);
    if !in_catalog(command.catalog.as_deref()) {
        return found.build().map_err(failed);
    }
    if wants(&command.table_types, &[TABLE, "BASE TABLE"]) {
        for snapshot in catalog {
            let database = &snapshot.database.name;
            for table in snapshot.tables.iter().map(|t| &t.table).filter(|table| wanted(database, &table.name)) {
                let schema = if command.include_schema { table_schema(database, table)? } else { Schema::empty() };
                found.append(CATALOG, database, &table.name, TABLE, &schema).map_err(failed)?;
            }
        }
    }
    if wants(&command.table_types, &[VIEW]) {
        for view in views.iter().filter(|view| wanted(view.database, &view.name)) {
            // Without `include_schema` the builder leaves the schema out.
            found.append(CATALOG, view.database, &view.name, VIEW, &view_schema(view)).map_err(failed)?;
        }
    }
    found.build().map_err(failed)
}

/// Whether a filter asks for a type of one of these names; an empty filter asks for all.
fn wants(types: &[String], names: &[&str]) -> bool {
    types.is_empty() || types.iter().any(|wanted| names.iter().any(|name| wanted.eq_ignore_ascii_case(name)))
}

/// The schema that `SELECT *` gives, with the field metadata that JDBC and ODBC show as columns of
/// their own.
fn table_schema(database: &str, table: &Table) -> Result<Schema, Status> {
    let stored = arrow_schema(table).map_err(|error| status_of(&error, None))?;
    let described = |field: &FieldRef| described_field(database, &table.name, field, remarks(table, field.name()));
    Ok(Schema::new(client_schema(&stored).fields().iter().map(described).collect::<Vec<_>>()))
}

fn view_schema(view: &View) -> Schema {
    let described = |field: &FieldRef| described_field(view.database, &view.name, field, None);
    Schema::new(view.schema.fields().iter().map(described).collect::<Vec<_>>())
}

fn described_field(database: &str, table: &str, field: &Field, remarks: Option<String>) -> Field {
    let mut metadata = field.metadata().clone();
    let mut tell = |key: &str, value: String| metadata.insert(format!("ARROW:FLIGHT:SQL:{key}"), value);
    tell("CATALOG_NAME", CATALOG.to_owned());
    tell("DB_SCHEMA_NAME", database.to_owned());
    tell("TABLE_NAME", table.to_owned());
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
    if let Some(remarks) = remarks {
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
