//! The one entry point for SQL that somebody else wrote.
//!
//! [`parse_guarded`] measures the text before any tree is built of it, parses it, and lets through
//! only what reads: queries, EXPLAIN of a query, SHOW TABLES and their like. What such a statement
//! can still blow up at run time is bounded by [`limited_functions`] and, for work that does not
//! stop when cancelled, by [`crate::interrupt`]. [`classify`] tells the statements that do something
//! else by their heads, and cuts out the query within.

mod allow;
mod command;
mod constants;
mod count;
mod dialect;
mod estimate;
mod expand;
mod functions;
mod leading;
mod placeholders;
mod precedence;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use std::thread;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{TokenWithSpan, Tokenizer, TokenizerError};

use self::count::Measure;
use self::dialect::BoundedDialect;
use crate::error::EngineError;

pub use self::command::{Command, CreateTable, Existing, Name, SetOption, TableName, classify};
pub use self::constants::check_constants;
pub use self::functions::{RESULT_BYTES_LIMIT, limited_functions};

/// How large a statement may be before it is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlLimits {
    /// Bytes of SQL text.
    pub text_bytes: usize,
    /// Depth of an expression or a set operation: operators in one chain, counted together with
    /// those of the chains nested in it.
    pub chain_terms: usize,
    /// Items of one list: IN, VALUES, array.
    pub list_items: usize,
    /// Parentheses, brackets, braces and CASE within each other.
    pub nesting: usize,
    /// Tables, subqueries in FROM and WITH entries of the whole statement.
    pub tables: usize,
    /// Items of one SELECT, GROUP BY or ORDER BY, arguments of one function, and the size of a
    /// fixed-size array type.
    pub columns: usize,
    /// Bytes of one text literal.
    pub literal_bytes: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        SqlLimits {
            text_bytes: 3 << 20,
            chain_terms: 500,
            list_items: 100_000,
            nesting: 50,
            tables: 200,
            columns: 2_000,
            literal_bytes: 128 << 10,
        }
    }
}

/// Parses one statement of a client.
///
/// # Errors
/// - `Syntax`: not SQL, no statement or more than one; with line and column where known.
/// - `TooLarge`: over one of `limits`; says which, where, and what to do instead.
/// - `Refused`: SQL, but not a query; names the statement and what to use instead.
/// - `Unsupported`: a clause that would otherwise be ignored silently.
pub fn parse_guarded(sql: &str, limits: &SqlLimits) -> Result<Statement, EngineError> {
    parse_numbered(sql, limits).map(|(statement, _)| statement)
}

/// [`parse_guarded`], with parameters written as `$1`, `$2`, …, and how many of them there are.
pub(crate) fn parse_numbered(sql: &str, limits: &SqlLimits) -> Result<(Statement, usize), EngineError> {
    let (mut tokens, dialect) = tokenize(sql, limits)?;
    let parameters = placeholders::number(&mut tokens)?;
    leading::check(&tokens)?;
    let measure = count::measure(&tokens, limits)?;
    on_enough_stack(&measure, || {
        let mut statement = parse(tokens, &dialect, limits)?;
        precedence::repair(&mut statement);
        allow::check(&statement, limits)?;
        Ok((statement, parameters))
    })?
}

/// Which parameters, counted from 0, a query of the form `VALUES ($1, $2, …)` takes as its one row;
/// `None` of any other query.
///
/// # Errors
/// As [`parse_guarded`].
pub fn parameters_as_row(sql: &str, limits: &SqlLimits) -> Result<Option<Vec<usize>>, EngineError> {
    let (mut tokens, _) = tokenize(sql, limits)?;
    placeholders::number(&mut tokens)?;
    Ok(placeholders::as_row(&tokens))
}

/// The tokens of a text that is not too long, and the dialect they are to be parsed in.
fn tokenize(sql: &str, limits: &SqlLimits) -> Result<(Vec<TokenWithSpan>, BoundedDialect), EngineError> {
    if sql.len() > limits.text_bytes {
        return Err(EngineError::TooLarge(format!(
            "the SQL text has {} bytes; at most {} are read",
            sql.len(),
            limits.text_bytes
        )));
    }
    // sqlparser begins each operand at most a few times in SQL that is correct.
    let dialect = BoundedDialect::new(20_000 + 2 * sql.len());
    let tokens =
        Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|TokenizerError { message, location }| {
            EngineError::Syntax(format!("{message} at line {}, column {}", location.line, location.column))
        })?;
    Ok((tokens, dialect))
}

fn parse(tokens: Vec<TokenWithSpan>, dialect: &BoundedDialect, limits: &SqlLimits) -> Result<Statement, EngineError> {
    // A level of parentheses takes up to three recursions of the parser.
    let recursion = 3 * limits.nesting + 50;
    let parsed = DFParserBuilder::new(tokens)
        .with_dialect(dialect)
        .with_recursion_limit(recursion)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| syntax_error(&error, dialect, recursion))?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(EngineError::Syntax("there is no statement in the text".to_owned())),
        (Some(_), more) => {
            Err(EngineError::Syntax(format!("{} statements in one text; send them one at a time", more + 1)))
        }
    }
}

/// Stack of the thread that parses nested SQL; only what is touched becomes memory.
const PARSER_STACK_BYTES: usize = 256 << 20;

/// The parser recurses with large frames, so a nested statement is parsed on a stack of its own.
fn on_enough_stack<T: Send>(measure: &Measure, work: impl FnOnce() -> T + Send) -> Result<T, EngineError> {
    if measure.nesting <= 4 && measure.depth <= 16 {
        return Ok(work());
    }
    thread::scope(|scope| {
        thread::Builder::new()
            .name("parse-sql".to_owned())
            .stack_size(PARSER_STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| EngineError::ResourceExhausted(format!("no thread to parse the SQL: {error}")))?
            .join()
            .map_err(|_| EngineError::Internal("the SQL parser panicked".to_owned()))
    })
}

fn syntax_error(error: &DataFusionError, dialect: &BoundedDialect, recursion: usize) -> EngineError {
    match error.find_root() {
        DataFusionError::SQL(parser_error, _) => match parser_error.as_ref() {
            ParserError::RecursionLimitExceeded if dialect.exhausted() => {
                EngineError::TooLarge("the SQL is nested in a way that takes too long to parse; simplify it".to_owned())
            }
            ParserError::RecursionLimitExceeded => {
                EngineError::TooLarge(format!("the SQL is nested more than {recursion} levels deep"))
            }
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                EngineError::Syntax(with_plain_position(message))
            }
        },
        other => EngineError::Syntax(with_plain_position(&other.strip_backtrace())),
    }
}

/// sqlparser ends its messages in ` at Line: 1, Column: 8`.
fn with_plain_position(message: &str) -> String {
    message.replace(" at Line: ", " at line ").replace(", Column: ", ", column ")
}
