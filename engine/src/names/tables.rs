//! From the name of a table in a statement to `database.table` as declared.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::scope::{Columns, joined, means, names_database};
use super::{CATALOG, NameCatalog, NameDatabase, NameTable, suggest};
use crate::error::EngineError;
use crate::own::OWN_ALIAS;
use crate::system::SYSTEM;

/// The schema of DataFusion that shows what there is. Its names are lower case.
const INFORMATION_SCHEMA: &str = "information_schema";

/// Columns of the tables of information_schema as DataFusion 55 has them.
const INFORMATION_TABLES: [(&str, &[&str]); 6] = [
    ("tables", &["table_catalog", "table_schema", "table_name", "table_type"]),
    ("views", &["table_catalog", "table_schema", "table_name", "definition"]),
    (
        "columns",
        &[
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "ordinal_position",
            "column_default",
            "is_nullable",
            "data_type",
            "character_maximum_length",
            "character_octet_length",
            "numeric_precision",
            "numeric_precision_radix",
            "numeric_scale",
            "datetime_precision",
            "interval_type",
        ],
    ),
    (
        "schemata",
        &[
            "catalog_name",
            "schema_name",
            "schema_owner",
            "default_character_set_catalog",
            "default_character_set_schema",
            "default_character_set_name",
            "sql_path",
        ],
    ),
    (
        "routines",
        &[
            "specific_catalog",
            "specific_schema",
            "specific_name",
            "routine_catalog",
            "routine_schema",
            "routine_name",
            "routine_type",
            "is_deterministic",
            "data_type",
            "function_type",
            "description",
            "syntax_example",
        ],
    ),
    (
        "parameters",
        &[
            "specific_catalog",
            "specific_schema",
            "specific_name",
            "ordinal_position",
            "parameter_mode",
            "parameter_name",
            "data_type",
            "parameter_default",
            "is_variadic",
            "rid",
        ],
    ),
];

/// A table found.
#[derive(Debug, Clone)]
pub(super) struct FoundTable {
    pub(super) database: String,
    pub(super) table: String,
    pub(super) columns: Columns,
}

impl FoundTable {
    fn new(database: &NameDatabase, table: &NameTable) -> FoundTable {
        FoundTable {
            database: database.name.clone(),
            table: table.name.clone(),
            columns: Columns::new(table.columns.clone()),
        }
    }

    /// `database.table` as declared.
    pub(super) fn object_name(&self) -> ObjectName {
        ObjectName::from(vec![Ident::new(self.database.clone()), Ident::new(self.table.clone())])
    }
}

/// Finds the table that `name` means.
pub(super) fn find_table(catalog: &NameCatalog, name: &ObjectName) -> Result<FoundTable, EngineError> {
    let parts: Vec<Ident> = name.0.iter().filter_map(ObjectNamePart::as_ident).cloned().collect();
    if parts.len() != name.0.len() {
        return Err(EngineError::Invalid(format!("{name} is not the name of a table")));
    }
    match parts.as_slice() {
        [table] => find_unqualified(catalog, table),
        [database, table] => find_in(catalog, database, table, &parts),
        [first, database, table] if means(first, CATALOG) => find_in(catalog, database, table, &parts),
        _ => Err(EngineError::NotFound(format!("no table \"{}\"; names are database.table", joined(&parts)))),
    }
}

fn find_unqualified(catalog: &NameCatalog, table: &Ident) -> Result<FoundTable, EngineError> {
    let mut found: Vec<FoundTable> = catalog
        .databases
        .iter()
        // Nobody means a table of the system without saying so.
        .filter(|database| database.name != SYSTEM || catalog.default_database.as_deref() == Some(SYSTEM))
        .filter_map(|database| table_of(database, table).map(|found| FoundTable::new(database, found)))
        .collect();
    let default = catalog.default_database.as_ref().map(|default| {
        if default.eq_ignore_ascii_case(OWN_ALIAS) { catalog.own_database.as_ref().unwrap_or(default) } else { default }
    });
    if let Some(default) = default
        && let Some(index) = found.iter().position(|found| found.database.eq_ignore_ascii_case(default))
    {
        return Ok(found.swap_remove(index));
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            let names: Vec<String> = found.iter().map(|found| format!("{}.{}", found.database, found.table)).collect();
            Err(EngineError::Invalid(format!(
                "table \"{}\" is in several databases; say which: {}",
                table.value,
                names.join(", ")
            )))
        }
        (None, _) => Err(no_table(catalog, &table.value, catalog.databases.iter())),
    }
}

fn find_in(catalog: &NameCatalog, database: &Ident, table: &Ident, parts: &[Ident]) -> Result<FoundTable, EngineError> {
    if means(database, INFORMATION_SCHEMA) {
        return Ok(information_table(table));
    }
    let Some(found) = catalog.databases.iter().find(|known| names_database(database, &known.name)) else {
        if means(database, OWN_ALIAS) {
            return Err(EngineError::NotFound(format!(
                "no table \"{}\"; you have no tables of your own yet: make one with CREATE TABLE {OWN_ALIAS}.name AS SELECT …",
                joined(parts)
            )));
        }
        let hint = suggest(&database.value, catalog.databases.iter().map(|known| known.name.as_str()))
            .map_or_else(|| list("databases", catalog.databases.iter().map(|known| known.name.clone())), did_you_mean);
        return Err(EngineError::NotFound(format!("no database \"{}\"{hint}", database.value)));
    };
    match table_of(found, table) {
        Some(table) => Ok(FoundTable::new(found, table)),
        None => Err(no_table(catalog, &joined(parts), std::iter::once(found))),
    }
}

fn table_of<'a>(database: &'a NameDatabase, table: &Ident) -> Option<&'a NameTable> {
    database.tables.iter().find(|known| means(table, &known.name)).map(Arc::as_ref)
}

fn information_table(table: &Ident) -> FoundTable {
    let name = if table.quote_style.is_some() { table.value.clone() } else { table.value.to_lowercase() };
    let columns =
        INFORMATION_TABLES.iter().find(|(known, _)| *known == name).map_or_else(Columns::default, |(_, columns)| {
            Columns::new(columns.iter().map(|column| (*column).to_owned()).collect())
        });
    FoundTable { database: INFORMATION_SCHEMA.to_owned(), table: name, columns }
}

/// Says what there is instead: the nearest table of those databases, else of all.
fn no_table<'a>(
    catalog: &NameCatalog,
    wanted: &str,
    databases: impl Iterator<Item = &'a Arc<NameDatabase>>,
) -> EngineError {
    let bare = wanted.rsplit('.').next().unwrap_or(wanted);
    let databases: Vec<&Arc<NameDatabase>> = databases.collect();
    let nearest = nearest(bare, databases.iter().copied()).or_else(|| nearest(bare, catalog.databases.iter()));
    let hint = match nearest {
        Some(nearest) => did_you_mean(nearest),
        None => list(
            "tables",
            databases
                .iter()
                .flat_map(|database| database.tables.iter().map(|table| format!("{}.{}", database.name, table.name))),
        ),
    };
    EngineError::NotFound(format!("no table \"{wanted}\"{hint}"))
}

fn nearest<'a>(wanted: &str, databases: impl Iterator<Item = &'a Arc<NameDatabase>>) -> Option<String> {
    let tables: Vec<(&str, &str)> = databases
        .flat_map(|database| database.tables.iter().map(|table| (database.name.as_str(), table.name.as_str())))
        .collect();
    let name = suggest(wanted, tables.iter().map(|(_, table)| *table))?;
    tables.iter().find(|(_, table)| *table == name).map(|(database, table)| format!("{database}.{table}"))
}

fn did_you_mean(name: String) -> String {
    format!("; did you mean \"{name}\"?")
}

/// The first few of what there is.
fn list(what: &str, names: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = names.take(SHOWN + 1).collect();
    if names.is_empty() {
        return format!("; there are no {what}");
    }
    if names.len() > SHOWN {
        names.truncate(SHOWN);
        names.push("…".to_owned());
    }
    format!("; there are {}", names.join(", "))
}
