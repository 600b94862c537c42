//! Tells what a statement is before any of it is parsed: a query, a query to run as a job, a choice for
//! the session, or a change to tables of the user's own.
//!
//! Only the head of a statement that is no query is read here, token by token, so nothing can nest.
//! What follows the head is a query like any other: its text goes to [`super::parse_guarded`] when it
//! is planned, measured and checked as all queries are. Whatever is none of these forms counts as a
//! query, and the guard refuses it in its own words.

mod head;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use datafusion::sql::sqlparser::keywords::Keyword;

use self::head::Head;
use super::{SqlLimits, tokenize};
use crate::error::EngineError;
use crate::names::CATALOG;

/// One statement. Texts of queries keep the lines and columns they have in the whole statement, so
/// that an error in them names the place the user sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Gives rows: a query, EXPLAIN, SHOW; or something that the guard refuses.
    Query(String),
    /// `SUBMIT query`: runs as a job.
    Submit {
        /// The query.
        query: String,
    },
    /// `CANCEL 'id'` or `CANCEL QUERY 'id'`.
    Cancel {
        /// The id, as it was written.
        id: String,
    },
    /// `USE database`, `SET SCHEMA database` or `SET shuffle = mode`: an option of the session.
    SetOption(SetOption),
    /// `CREATE TABLE`, from a query or as a list of columns.
    CreateTable(CreateTable),
    /// `DROP TABLE`.
    DropTable {
        /// The table.
        table: TableName,
        /// Whether an absent table is no error.
        if_exists: bool,
    },
    /// `INSERT INTO table query`, where the query may be VALUES.
    Insert {
        /// The table.
        table: TableName,
        /// The columns that the query's columns go to, in its order; empty for all of the table's.
        columns: Vec<Name>,
        /// The query.
        query: String,
    },
}

/// An option of the session, and its value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetOption {
    /// The database of unqualified names.
    Schema(String),
    /// Whether workers exchange rows among themselves.
    Shuffle(String),
}

/// `CREATE [OR REPLACE] TABLE [IF NOT EXISTS] table [(columns)] [WITH (option = value, …)] [AS query]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    /// The table.
    pub table: TableName,
    /// What is to happen where it exists.
    pub existing: Existing,
    /// Options in their order, names in lower case.
    pub options: Vec<(String, String)>,
    /// Its rows. A list of columns is a query for no rows of those names and types.
    pub query: String,
}

/// What CREATE TABLE does where the table exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fails.
    Fail,
    /// Leaves it as it is: IF NOT EXISTS.
    Keep,
    /// Makes it anew: OR REPLACE.
    Replace,
}

/// A name of a statement as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Its letters, without quotes.
    pub text: String,
    /// Whether it stood in quotes, and so is exact.
    pub quoted: bool,
}

/// The table that a statement changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The database, where one is named.
    pub database: Option<Name>,
    /// The table.
    pub table: Name,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.database {
            Some(database) => write!(f, "{}.{}", database.text, self.table.text),
            None => f.write_str(&self.table.text),
        }
    }
}

const A_TABLE: &str = "the name of a table";

/// Tells what a client's statement is. Nothing of a query is parsed yet.
///
/// # Errors
/// `TooLarge` and `Syntax` as in [`super::parse_guarded`]; `Syntax` for the head of a statement that
/// breaks off or goes on otherwise than it may, with what was expected.
pub fn classify(sql: &str, limits: &SqlLimits) -> Result<Command, EngineError> {
    let (tokens, _) = tokenize(sql, limits)?;
    let mut head = Head::new(sql, &tokens);
    if head.take_word("SUBMIT") {
        if head.take(&[Keyword::CREATE]) || head.take(&[Keyword::INSERT]) {
            return Err(EngineError::Unsupported(
                "a job gives rows and writes no table; submit the query alone, and when it has finished write its rows \
                 with CREATE TABLE mydb.name AS SELECT * FROM job('<its id>'), or with INSERT INTO"
                    .to_owned(),
            ));
        }
        return Ok(Command::Submit { query: head.query("SUBMIT")? });
    }
    if head.take_word("CANCEL") {
        head.take_word("QUERY");
        let id = head.text("the id of a query in single quotes")?;
        head.end("CANCEL 'id'")?;
        return Ok(Command::Cancel { id });
    }
    if head.take(&[Keyword::USE]) {
        return Ok(Command::SetOption(SetOption::Schema(used_database(head)?)));
    }
    if head.take(&[Keyword::SET]) {
        // What else is set the guard refuses, in its own words.
        return Ok(set_option(head)?.map_or_else(|| Command::Query(sql.to_owned()), Command::SetOption));
    }
    if head.take(&[Keyword::CREATE, Keyword::OR, Keyword::REPLACE, Keyword::TABLE]) {
        return create_table(head, Existing::Replace);
    }
    if head.take(&[Keyword::CREATE, Keyword::TABLE]) {
        return create_table(head, Existing::Fail);
    }
    if head.take(&[Keyword::DROP, Keyword::TABLE]) {
        let if_exists = head.take(&[Keyword::IF, Keyword::EXISTS]);
        let table = head.table(A_TABLE)?;
        head.end("DROP TABLE [IF EXISTS] table")?;
        return Ok(Command::DropTable { table, if_exists });
    }
    if head.take(&[Keyword::INSERT, Keyword::INTO]) {
        head.take(&[Keyword::TABLE]);
        let table = head.table(A_TABLE)?;
        let columns = if head.at_names() { head.names()? } else { Vec::new() };
        return Ok(Command::Insert { table, columns, query: head.query("INSERT INTO table [(columns)]")? });
    }
    Ok(Command::Query(sql.to_owned()))
}

/// The database of `USE [SCHEMA | DATABASE] [skyflight.]database`.
fn used_database(mut head: Head<'_>) -> Result<String, EngineError> {
    let _ = head.take(&[Keyword::SCHEMA]) || head.take(&[Keyword::DATABASE]);
    let TableName { database: catalog, table: database } = head.table("the name of a database")?;
    head.end("USE database")?;
    match catalog {
        Some(catalog) if !catalog.text.eq_ignore_ascii_case(CATALOG) => Err(EngineError::Syntax(format!(
            "USE takes a database, or {CATALOG}.database; {} is no catalog",
            catalog.text
        ))),
        _ => Ok(database.text),
    }
}

/// `SET [SESSION] option [= | TO] value` for the options that a statement sets.
fn set_option(mut head: Head<'_>) -> Result<Option<SetOption>, EngineError> {
    head.take(&[Keyword::SESSION]);
    let option = if head.take_word("SCHEMA") || head.take_word("SEARCH_PATH") {
        SetOption::Schema
    } else if head.take_word("SHUFFLE") {
        SetOption::Shuffle
    } else {
        return Ok(None);
    };
    head.take_equals();
    let value = head.value("the option's value")?;
    head.end("SET option = value")?;
    Ok(Some(option(value)))
}

fn create_table(mut head: Head<'_>, existing: Existing) -> Result<Command, EngineError> {
    let if_not_exists = head.take(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let existing = match (existing, if_not_exists) {
        (Existing::Replace, true) => {
            return Err(EngineError::Syntax("OR REPLACE and IF NOT EXISTS contradict each other".to_owned()));
        }
        (existing, false) => existing,
        (_, true) => Existing::Keep,
    };
    let table = head.table(A_TABLE)?;
    let columns = if head.at_parenthesis() { Some(head.column_list()?) } else { None };
    let options = if head.take(&[Keyword::WITH]) { head.options()? } else { Vec::new() };
    let query = match columns {
        Some(query) => {
            head.end("CREATE TABLE table (columns) [WITH (options)]; with AS the columns are those of the query")?;
            query
        }
        None if head.take(&[Keyword::AS]) => head.query("CREATE TABLE table [WITH (options)] AS")?,
        None => return Err(head.unexpected("AS and a query, or a list of columns")),
    };
    Ok(Command::CreateTable(CreateTable { table, existing, options, query }))
}
