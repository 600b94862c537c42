//! Names are found whatever their case, and results carry the case they were declared with.
//!
//! As in MySQL and ADQL `SELECT OBJECTID FROM Dr1.object` finds the column `objectId` of
//! `dr1.Object`, and the result's column is `objectId`. Quoted names are exact, and of two columns
//! that differ only in case each needs its quotes. DataFusion compares names as written (with
//! `sql_parser.enable_ident_normalization = false`), so [`resolve`] rewrites every name of a
//! statement to the spelling it was declared with, and every table to `database.table`.

mod distinct;
mod expressions;
mod merged;
mod query;
mod scope;
mod tables;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use std::sync::Arc;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use self::query::Resolver;
use crate::error::EngineError;

/// The names of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTable {
    /// Name as declared.
    pub name: String,
    /// Names of the columns as declared, in order.
    pub columns: Vec<String>,
}

/// The names of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameDatabase {
    /// Name as declared.
    pub name: String,
    /// Its tables.
    pub tables: Vec<Arc<NameTable>>,
}

/// All names that a session can see. Cheap to clone; the parts are built once per snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameCatalog {
    /// The databases.
    pub databases: Vec<Arc<NameDatabase>>,
    /// Where a table without a database is looked for first.
    pub default_database: Option<String>,
    /// The database that is called `mydb`.
    pub own_database: Option<String>,
}

/// The one catalog there is.
pub(crate) const CATALOG: &str = "skyflight";

/// Rewrites every name of the statement to its declared spelling.
///
/// Tables become `database.table`; a table without a database is that of the WITH clause, of the
/// default database, or of the only database that has one. Columns are looked for in the innermost
/// query first. Columns that are nowhere stay as written, for the planner to complain of.
///
/// # Errors
/// `NotFound` for a table or database that does not exist, with the nearest name; `Invalid` for a
/// name that could mean two things.
pub fn resolve(statement: &mut Statement, catalog: &NameCatalog) -> Result<(), EngineError> {
    let resolver = Resolver::new(catalog);
    match statement {
        Statement::Statement(statement) => resolve_plain(statement, &resolver),
        Statement::Explain(explain) => resolve(&mut explain.statement, catalog),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Ok(()),
    }
}

fn resolve_plain(statement: &mut ast::Statement, resolver: &Resolver<'_>) -> Result<(), EngineError> {
    match statement {
        ast::Statement::Query(query) => resolver.resolve_top(query),
        ast::Statement::Explain { statement, .. } => resolve_plain(statement, resolver),
        ast::Statement::ExplainTable { table_name, .. } => resolver.resolve_table_name(table_name),
        ast::Statement::ShowColumns { show_options, .. } => {
            match show_options.show_in.as_mut().and_then(|show_in| show_in.parent_name.as_mut()) {
                Some(table) => resolver.resolve_table_name(table),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The candidate most like `name` whatever its case, if any is near enough to have been meant.
pub fn suggest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let wanted = name.to_lowercase();
    let far = wanted.chars().count() / 3 + 1;
    candidates
        .map(|candidate| {
            let lower = candidate.to_lowercase();
            let distance = strsim::damerau_levenshtein(&wanted, &lower);
            // `mag` for `mag_g` and `dec` for `decPM`: the beginning counts for more than the rest.
            let near =
                if lower.starts_with(&wanted) || wanted.starts_with(&lower) { distance.min(far) } else { distance };
            (near, distance, candidate)
        })
        .filter(|(near, _, _)| *near <= far)
        .min()
        .map(|(_, _, candidate)| candidate.to_owned())
}
