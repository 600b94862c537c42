//! Reads the head of a statement, token by token.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};

use super::{Name, TableName};
use crate::error::EngineError;
use crate::names::CATALOG;

/// What is left of a statement.
pub(super) struct Head<'a> {
    sql: &'a str,
    /// Without blanks, comments and the semicolons around the statement.
    tokens: Vec<&'a TokenWithSpan>,
    at: usize,
}

impl<'a> Head<'a> {
    pub(super) fn new(sql: &'a str, tokens: &'a [TokenWithSpan]) -> Head<'a> {
        let mut tokens: Vec<&TokenWithSpan> =
            tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
        while tokens.last().is_some_and(|token| token.token == Token::SemiColon) {
            tokens.pop();
        }
        let at = tokens.iter().take_while(|token| token.token == Token::SemiColon).count();
        Head { sql, tokens, at }
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at).map(|token| &token.token)
    }

    fn peek_word(&self, ahead: usize) -> Option<&'a Word> {
        match self.tokens.get(self.at + ahead).map(|token| &token.token) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// Takes these keywords if all of them come next.
    pub(super) fn take(&mut self, keywords: &[Keyword]) -> bool {
        let all = keywords.iter().enumerate().all(|(ahead, keyword)| {
            self.peek_word(ahead).is_some_and(|word| word.quote_style.is_none() && word.keyword == *keyword)
        });
        if all {
            self.at += keywords.len();
        }
        all
    }

    /// Takes a word that is no keyword of SQL.
    pub(super) fn take_word(&mut self, wanted: &str) -> bool {
        let found =
            self.peek_word(0).is_some_and(|word| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted));
        self.at += usize::from(found);
        found
    }

    fn take_token(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// A text in single quotes.
    pub(super) fn text(&mut self, what: &str) -> Result<String, EngineError> {
        match self.peek() {
            Some(Token::SingleQuotedString(text)) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => Err(self.unexpected(what)),
        }
    }

    fn name(&mut self, what: &str) -> Result<Name, EngineError> {
        match self.peek_word(0) {
            Some(word) => {
                self.at += 1;
                Ok(Name { text: word.value.clone(), quoted: word.quote_style.is_some() })
            }
            None => Err(self.unexpected(what)),
        }
    }

    /// `table`, `database.table` or `skyflight.database.table`; `what` is said to be missing where nothing is.
    pub(super) fn table(&mut self, what: &str) -> Result<TableName, EngineError> {
        let mut parts = vec![self.name(what)?];
        while self.take_token(&Token::Period) {
            parts.push(self.name("a name after the dot")?);
        }
        if parts.len() == 3 && parts.first().is_some_and(|catalog| catalog.text.eq_ignore_ascii_case(CATALOG)) {
            parts.remove(0);
        }
        match (parts.pop(), parts.pop(), parts.is_empty()) {
            (Some(table), database, true) => Ok(TableName { database, table }),
            _ => Err(EngineError::Syntax("names of tables are database.table".to_owned())),
        }
    }

    pub(super) fn at_parenthesis(&self) -> bool {
        self.peek() == Some(&Token::LParen)
    }

    /// Whether names in parentheses come next, and not a query in parentheses.
    pub(super) fn at_names(&self) -> bool {
        let query = [Keyword::SELECT, Keyword::WITH, Keyword::VALUES, Keyword::FROM];
        self.at_parenthesis()
            && self.peek_word(1).is_some_and(|word| word.quote_style.is_some() || !query.contains(&word.keyword))
    }

    /// `(name, …)`.
    pub(super) fn names(&mut self) -> Result<Vec<Name>, EngineError> {
        let mut names = Vec::new();
        self.listed("a column", |head| {
            names.push(head.name("the name of a column")?);
            Ok(())
        })?;
        Ok(names)
    }

    /// `(option = value, …)`.
    pub(super) fn options(&mut self) -> Result<Vec<(String, String)>, EngineError> {
        let mut options = Vec::new();
        self.listed("an option", |head| {
            let name = head.name("the name of an option")?.text.to_lowercase();
            if !head.take_token(&Token::Eq) {
                return Err(head.unexpected("= and the option's value"));
            }
            options.push((name, head.value("the option's value")?));
            Ok(())
        })?;
        Ok(options)
    }

    /// A text, a number or a word.
    pub(super) fn value(&mut self, what: &str) -> Result<String, EngineError> {
        let value = match self.peek() {
            Some(Token::SingleQuotedString(text) | Token::Number(text, _)) => text.clone(),
            Some(Token::Word(word)) => word.value.clone(),
            _ => return Err(self.unexpected(what)),
        };
        self.at += 1;
        Ok(value)
    }

    /// Passes over `=` or TO.
    pub(super) fn take_equals(&mut self) {
        let _ = self.take_token(&Token::Eq) || self.take(&[Keyword::TO]);
    }

    /// `(name type, …)` as a query for no rows of those names and types.
    pub(super) fn column_list(&mut self) -> Result<String, EngineError> {
        let mut columns = Vec::new();
        self.listed("a column", |head| {
            let name = head.name("the name of a column")?;
            let data_type = head.data_type()?;
            columns.push(format!("CAST(NULL AS {data_type}) AS \"{}\"", name.text.replace('"', "\"\"")));
            Ok(())
        })?;
        Ok(format!("SELECT {} LIMIT 0", columns.join(", ")))
    }

    /// A type as it is written, up to the next comma or parenthesis that is not its own.
    fn data_type(&mut self) -> Result<String, EngineError> {
        // What may stand after a type is never part of one.
        let constraints = [
            Keyword::NOT,
            Keyword::PRIMARY,
            Keyword::UNIQUE,
            Keyword::DEFAULT,
            Keyword::REFERENCES,
            Keyword::CHECK,
            Keyword::CONSTRAINT,
            Keyword::GENERATED,
            Keyword::COLLATE,
            Keyword::FOREIGN,
        ];
        let mut words = Vec::new();
        let mut open = 0_usize;
        while let Some(token) = self.peek() {
            match token {
                Token::Comma | Token::RParen if open == 0 => break,
                Token::LParen => open += 1,
                Token::RParen => open -= 1,
                Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::NULL => {
                    self.at += 1;
                    continue;
                }
                Token::Word(word) if word.quote_style.is_none() && constraints.contains(&word.keyword) => {
                    return Err(EngineError::Unsupported(format!(
                        "{} in a list of columns is not kept by Skyflight; leave it out",
                        word.value.to_uppercase()
                    )));
                }
                _ => {}
            }
            words.push(token.to_string());
            self.at += 1;
        }
        if words.is_empty() { Err(self.unexpected("the type of the column")) } else { Ok(words.join(" ")) }
    }

    fn listed(
        &mut self,
        what: &str,
        mut item: impl FnMut(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if !self.take_token(&Token::LParen) {
            return Err(self.unexpected("a list in parentheses"));
        }
        loop {
            item(self)?;
            if self.take_token(&Token::RParen) {
                return Ok(());
            }
            if !self.take_token(&Token::Comma) {
                return Err(self.unexpected(&format!("a comma and {what}, or the end of the list")));
            }
        }
    }

    /// The rest, which must begin as a query does.
    pub(super) fn query(&self, after: &str) -> Result<String, EngineError> {
        let begins = match self.peek() {
            Some(Token::LParen) => true,
            Some(Token::Word(word)) => {
                word.quote_style.is_none()
                    && matches!(
                        word.keyword,
                        Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::FROM | Keyword::TABLE
                    )
            }
            _ => false,
        };
        match self.tokens.get(self.at) {
            Some(first) if begins => Ok(from(self.sql, first.span.start)),
            _ => Err(self.unexpected(&format!("a query after {after}"))),
        }
    }

    /// That nothing follows.
    pub(super) fn end(&self, form: &str) -> Result<(), EngineError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected(&format!("the end of the statement ({form})"))),
        }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> EngineError {
        EngineError::Syntax(match self.tokens.get(self.at) {
            Some(found) => {
                let Location { line, column } = found.span.start;
                format!("expected {wanted}, found {} at line {line}, column {column}", found.token)
            }
            None => format!("expected {wanted}, found the end of the statement"),
        })
    }
}

/// The text from a place on, with everything before it blank: positions in it stay those in the whole.
fn from(sql: &str, place: Location) -> String {
    let (mut line, mut column) = (1, 1);
    let mut text = String::with_capacity(sql.len());
    for (at, c) in sql.char_indices() {
        if (line, column) == (place.line, place.column) {
            text.push_str(&sql[at..]);
            break;
        }
        if c == '\n' {
            line += 1;
            column = 1;
            text.push('\n');
        } else {
            column += 1;
            text.push(' ');
        }
    }
    text
}
