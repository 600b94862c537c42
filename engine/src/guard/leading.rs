//! Tells statements by their first words, before they are parsed.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::EngineError;

/// What to do instead of a statement that is not run.
pub(super) const LOAD_INSTEAD: &str = "tables are made and filled by `skyflight ingest`, and your own by CREATE TABLE mydb.name AS SELECT … and INSERT INTO";
pub(super) const FETCH_INSTEAD: &str = "fetch the result over Flight SQL and write it on the client";
pub(super) const CONFIGURE_INSTEAD: &str = "options are set in the server's configuration file";
pub(super) const SHOW_INSTEAD: &str =
    "the configuration is not shown; SHOW TABLES, SHOW COLUMNS FROM a table, SHOW DATABASES and information_schema are";
pub(super) const PREPARE_INSTEAD: &str = "use the prepared statements of Flight SQL";
pub(super) const SNAPSHOT_INSTEAD: &str = "there are no transactions: every query reads one snapshot";
pub(super) const QUERY_INSTEAD: &str = "only queries, EXPLAIN of a query, SHOW and DESCRIBE are run";

/// Refuses statements that need no parser to be told.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<(), EngineError> {
    let mut words = tokens.iter().filter_map(|token| match &token.token {
        Token::Whitespace(_) | Token::SemiColon => None,
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => Some(Keyword::NoKeyword),
    });
    match words.next() {
        Some(Keyword::EXPLAIN) => check_explained(words),
        Some(Keyword::DESCRIBE | Keyword::DESC) => match words.next() {
            Some(Keyword::NoKeyword | Keyword::TABLE | Keyword::FORMATTED | Keyword::EXTENDED) | None => Ok(()),
            Some(word) if is_explain(word) => Err(nested_explain()),
            Some(word) => refuse(word),
        },
        Some(word) => refuse(word),
        None => Ok(()),
    }
}

/// The parser takes EXPLAIN of EXPLAIN of … by unbounded recursion.
fn check_explained(words: impl Iterator<Item = Keyword>) -> Result<(), EngineError> {
    for word in words {
        match word {
            Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::FROM => return Ok(()),
            word if is_explain(word) || matches!(word, Keyword::SHOW) => return Err(nested_explain()),
            word => refuse(word)?,
        }
    }
    Ok(())
}

fn is_explain(word: Keyword) -> bool {
    matches!(word, Keyword::EXPLAIN | Keyword::DESCRIBE | Keyword::DESC)
}

fn nested_explain() -> EngineError {
    EngineError::Refused("EXPLAIN takes a query and nothing else".to_owned())
}

fn refuse(word: Keyword) -> Result<(), EngineError> {
    let instead = match word {
        Keyword::INSERT
        | Keyword::UPDATE
        | Keyword::DELETE
        | Keyword::MERGE
        | Keyword::REPLACE
        | Keyword::CREATE
        | Keyword::DROP
        | Keyword::ALTER
        | Keyword::TRUNCATE
        | Keyword::RENAME
        | Keyword::COMMENT
        | Keyword::LOAD
        | Keyword::CACHE
        | Keyword::UNCACHE
        | Keyword::REFRESH
        | Keyword::MSCK
        | Keyword::VACUUM
        | Keyword::OPTIMIZE => LOAD_INSTEAD,
        Keyword::COPY | Keyword::UNLOAD | Keyword::EXPORT => FETCH_INSTEAD,
        Keyword::SET | Keyword::RESET | Keyword::USE | Keyword::PRAGMA | Keyword::DISCARD => CONFIGURE_INSTEAD,
        Keyword::PREPARE
        | Keyword::EXECUTE
        | Keyword::EXEC
        | Keyword::DEALLOCATE
        | Keyword::DECLARE
        | Keyword::FETCH => PREPARE_INSTEAD,
        Keyword::BEGIN
        | Keyword::START
        | Keyword::COMMIT
        | Keyword::ROLLBACK
        | Keyword::SAVEPOINT
        | Keyword::RELEASE => SNAPSHOT_INSTEAD,
        Keyword::INSTALL
        | Keyword::ATTACH
        | Keyword::DETACH
        | Keyword::GRANT
        | Keyword::REVOKE
        | Keyword::DENY
        | Keyword::CALL
        | Keyword::KILL
        | Keyword::FLUSH
        | Keyword::LOCK
        | Keyword::UNLOCK
        | Keyword::LISTEN
        | Keyword::NOTIFY
        | Keyword::RAISE
        | Keyword::IF
        | Keyword::WHILE
        | Keyword::PRINT
        | Keyword::ASSERT => QUERY_INSTEAD,
        _ => return Ok(()),
    };
    Err(refused(&format!("{word:?}"), instead))
}

pub(super) fn refused(statement: &str, instead: &str) -> EngineError {
    EngineError::Refused(format!("{statement} is not run here; {instead}"))
}
