//! What clients ask about the server and what it holds. Each command knows its schema, which is the
//! specification's to the letter, and its rows.

mod fields;
mod keys;
mod pattern;
mod sql_info;
mod tables;
mod types;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{GetCatalogsBuilder, GetDbSchemasBuilder, GetTablesBuilder};
use arrow_flight::sql::{
    Any, Command, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo,
};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use skyflight_catalog::Snapshot;
use skyflight_engine::SYSTEM;
use skyflight_engine::own::{OWN_ALIAS, own_database};
use skyflight_engine::views::View;
use tonic::Status;

use crate::error::internal;
use crate::session::options::CATALOG;
pub(super) use fields::result_schema;
use pattern::Pattern;

/// The type of tables that hold rows. Some tools know only this word, others only `BASE TABLE`, so filters
/// accept both.
const TABLE: &str = "TABLE";

/// The type of tables that are made when they are read.
const VIEW: &str = "VIEW";

/// A question about the server or what it holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    Catalogs,
    DbSchemas(CommandGetDbSchemas),
    Tables(CommandGetTables),
    TableTypes,
    PrimaryKeys(CommandGetPrimaryKeys),
    ExportedKeys(CommandGetExportedKeys),
    ImportedKeys(CommandGetImportedKeys),
    CrossReference(CommandGetCrossReference),
    SqlInfo(CommandGetSqlInfo),
    XdbcTypeInfo(CommandGetXdbcTypeInfo),
}

impl Question {
    /// The question in a command. `None` where it is none.
    pub(super) fn of(command: Command) -> Option<Question> {
        Some(match command {
            Command::CommandGetCatalogs(CommandGetCatalogs {}) => Question::Catalogs,
            Command::CommandGetDbSchemas(command) => Question::DbSchemas(command),
            Command::CommandGetTables(command) => Question::Tables(command),
            Command::CommandGetTableTypes(CommandGetTableTypes {}) => Question::TableTypes,
            Command::CommandGetPrimaryKeys(command) => Question::PrimaryKeys(command),
            Command::CommandGetExportedKeys(command) => Question::ExportedKeys(command),
            Command::CommandGetImportedKeys(command) => Question::ImportedKeys(command),
            Command::CommandGetCrossReference(command) => Question::CrossReference(command),
            Command::CommandGetSqlInfo(command) => Question::SqlInfo(command),
            Command::CommandGetXdbcTypeInfo(command) => Question::XdbcTypeInfo(command),
            _ => return None,
        })
    }

    /// The question with the name of the caller's own database where it says `mydb`.
    pub(super) fn asked_by(mut self, user: &str) -> Question {
        match &mut self {
            Question::DbSchemas(command) => name_own(user, &mut command.db_schema_filter_pattern, pattern_for),
            Question::Tables(command) => name_own(user, &mut command.db_schema_filter_pattern, pattern_for),
            Question::PrimaryKeys(command) => name_own(user, &mut command.db_schema, str::to_owned),
            Question::ExportedKeys(command) => name_own(user, &mut command.db_schema, str::to_owned),
            Question::ImportedKeys(command) => name_own(user, &mut command.db_schema, str::to_owned),
            Question::CrossReference(command) => {
                name_own(user, &mut command.pk_db_schema, str::to_owned);
                name_own(user, &mut command.fk_db_schema, str::to_owned);
            }
            Question::Catalogs | Question::TableTypes | Question::SqlInfo(_) | Question::XdbcTypeInfo(_) => {}
        }
        self
    }

    /// The schema of the answer.
    pub(super) fn schema(&self) -> Result<SchemaRef, Status> {
        Ok(match self {
            Question::Catalogs => GetCatalogsBuilder::new().schema(),
            Question::DbSchemas(_) => GetDbSchemasBuilder::new(None::<String>, None::<String>).schema(),
            Question::Tables(command) => tables_builder(command.include_schema).schema(),
            Question::TableTypes => CommandGetTableTypes {}.into_builder().schema(),
            Question::PrimaryKeys(_) => keys::primary_schema(),
            Question::ExportedKeys(_) | Question::ImportedKeys(_) | Question::CrossReference(_) => {
                keys::foreign_schema()
            }
            Question::SqlInfo(_) => sql_info::all().map_err(failed)?.schema(),
            Question::XdbcTypeInfo(_) => types::all().map_err(failed)?.schema(),
        })
    }

    /// True where the answer depends on what the caller's databases hold.
    pub(super) fn needs_catalog(&self) -> bool {
        match self {
            Question::Catalogs | Question::TableTypes | Question::SqlInfo(_) | Question::XdbcTypeInfo(_) => false,
            Question::DbSchemas(_)
            | Question::Tables(_)
            | Question::PrimaryKeys(_)
            | Question::ExportedKeys(_)
            | Question::ImportedKeys(_)
            | Question::CrossReference(_) => true,
        }
    }

    /// The answer, in the specification's order, for a caller who sees these databases and views, `signed`
    /// where integers are told as signed ones.
    ///
    /// Errors: `Internal` when the catalog's records cannot be expressed.
    pub(super) fn answer(self, catalog: &[Arc<Snapshot>], views: &[View], signed: bool) -> Result<RecordBatch, Status> {
        match self {
            Question::Catalogs => {
                let mut catalogs = GetCatalogsBuilder::new();
                catalogs.append(CATALOG);
                catalogs.build().map_err(failed)
            }
            Question::DbSchemas(command) => db_schemas(&command, catalog, views),
            Question::Tables(command) => tables::answer(&command, catalog, views, signed),
            Question::TableTypes => {
                let mut types = CommandGetTableTypes {}.into_builder();
                types.append(TABLE);
                types.append(VIEW);
                types.build().map_err(failed)
            }
            Question::PrimaryKeys(command) => keys::primary(&command, catalog),
            Question::ExportedKeys(command) => keys::exported(&command, catalog),
            Question::ImportedKeys(command) => keys::imported(&command, catalog),
            Question::CrossReference(command) => keys::cross_reference(&command, catalog),
            Question::SqlInfo(command) => {
                let all = sql_info::all().map_err(failed)?;
                command.into_builder(&all).build().map_err(failed)
            }
            Question::XdbcTypeInfo(command) => {
                let all = types::all().map_err(failed)?;
                command.into_builder(&all).build().map_err(failed)
            }
        }
    }
}

fn name_own(user: &str, filter: &mut Option<String>, written: impl Fn(&str) -> String) {
    if let Some(name) = filter.as_mut().filter(|name| name.eq_ignore_ascii_case(OWN_ALIAS)) {
        *name = written(&own_database(user));
    }
}

/// The search pattern that only this name matches.
fn pattern_for(name: &str) -> String {
    name.replace('_', "\\_")
}

/// Decodes a Flight SQL command. `None` for bytes that are none.
pub(super) fn decode_command(bytes: &[u8]) -> Option<Command> {
    let any: Any = prost::Message::decode(bytes).ok()?;
    Command::try_from(any).ok().filter(|command| !matches!(command, Command::Unknown(_)))
}

fn db_schemas(command: &CommandGetDbSchemas, catalog: &[Arc<Snapshot>], views: &[View]) -> Result<RecordBatch, Status> {
    let wanted = Pattern::of_filter(command.db_schema_filter_pattern.as_deref());
    let mut found = GetDbSchemasBuilder::new(None::<String>, None::<String>);
    if in_catalog(command.catalog.as_deref()) {
        let names = catalog.iter().map(|snapshot| snapshot.database.name.as_str());
        let names: BTreeSet<&str> = names.chain(views.iter().map(|view| view.database)).chain([SYSTEM]).collect();
        for name in names.into_iter().filter(|name| wanted.matches(name)) {
            found.append(CATALOG, name);
        }
    }
    found.build().map_err(failed)
}

fn tables_builder(include_schema: bool) -> GetTablesBuilder {
    GetTablesBuilder::new(None::<String>, None::<String>, None::<String>, std::iter::empty::<String>(), include_schema)
}

/// Whether a catalog filter lets our one catalog pass: no filter does, an empty one asks for what
/// has no catalog.
fn in_catalog(filter: Option<&str>) -> bool {
    filter.is_none_or(|name| name.eq_ignore_ascii_case(CATALOG))
}

fn failed(error: FlightError) -> Status {
    internal("a metadata answer cannot be built", error)
}
