//! GetTables: every table of every database, and the views that describe them, with schemas where asked.

use std::sync::Arc;

use arrow_flight::sql::CommandGetTables;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use skyflight_catalog::{Snapshot, Table};
use skyflight_engine::SYSTEM;
use skyflight_engine::schema::{arrow_schema, client_schema, signed_schema};
use skyflight_engine::views::View;
use tonic::Status;

use super::fields::{PREFIX, result_schema};
use super::pattern::Pattern;
use super::{TABLE, VIEW, failed, in_catalog, tables_builder};
use crate::error::status_of;
use crate::session::options::CATALOG;

/// The tables and views that pass the command's filters, by database and name.
pub(super) fn answer(
    command: &CommandGetTables,
    catalog: &[Arc<Snapshot>],
    views: &[View],
    signed: bool,
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
                let schema =
                    if command.include_schema { table_schema(database, table, signed)? } else { Schema::empty() };
                found.append(CATALOG, database, &table.name, TABLE, &schema).map_err(failed)?;
            }
        }
        for (name, schema) in crate::system::tables().into_iter().filter(|(name, _)| wanted(SYSTEM, name)) {
            let schema =
                if command.include_schema { described_schema(SYSTEM, name, &schema, signed) } else { Schema::empty() };
            found.append(CATALOG, SYSTEM, name, TABLE, &schema).map_err(failed)?;
        }
    }
    if wants(&command.table_types, &[VIEW]) {
        for view in views.iter().filter(|view| wanted(view.database, &view.name)) {
            // Without `include_schema` the builder leaves the schema out.
            found
                .append(
                    CATALOG,
                    view.database,
                    &view.name,
                    VIEW,
                    &described_schema(view.database, &view.name, &view.schema, signed),
                )
                .map_err(failed)?;
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
fn table_schema(database: &str, table: &Table, signed: bool) -> Result<Schema, Status> {
    let stored = arrow_schema(table).map_err(|error| status_of(&error, None))?;
    Ok(described_schema(database, &table.name, &client_schema(&stored), signed))
}

/// A schema with the metadata of its fields.
fn described_schema(database: &str, table: &str, schema: &SchemaRef, signed: bool) -> Schema {
    let schema = if signed { signed_schema(schema) } else { Arc::clone(schema) };
    let of_table = |field: &FieldRef| {
        let mut metadata = field.metadata().clone();
        for (key, value) in [("CATALOG_NAME", CATALOG), ("DB_SCHEMA_NAME", database), ("TABLE_NAME", table)] {
            metadata.insert(format!("{PREFIX}{key}"), value.to_owned());
        }
        field.as_ref().clone().with_metadata(metadata)
    };
    Schema::new(result_schema(&schema).fields().iter().map(of_table).collect::<Vec<_>>())
}
