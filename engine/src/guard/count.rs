//! Bounds the depth of a syntax tree before the tree exists.
//!
//! A chain such as `1+1+…` becomes a tree as deep as it is long, and walking or only dropping a
//! deep tree overflows the stack and ends the process. So the depth is bounded from above on the
//! tokens: an expression of k operators over operands of depth d is at most k + d deep, whatever
//! the precedences.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::SqlLimits;
use crate::error::EngineError;

/// What the statement amounts to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Measure {
    /// Tokens without blanks and comments.
    pub(super) tokens: usize,
    /// Deepest nesting of parentheses, brackets, braces and CASE.
    pub(super) nesting: usize,
    /// Upper bound of the depth of the syntax tree.
    pub(super) depth: usize,
}

/// Measures the statement, or tells which limit it breaks and where.
pub(super) fn measure(tokens: &[TokenWithSpan], limits: &SqlLimits) -> Result<Measure, EngineError> {
    match measure_with(tokens, limits, Cases::AreLevels)? {
        Some(measure) => Ok(measure),
        // Whether some END is the end of a CASE or a column cannot be told from tokens alone:
        // count every CASE as part of one chain, which is always an upper bound.
        None => Ok(measure_with(tokens, limits, Cases::AreChains)?.unwrap_or_default()),
    }
}

/// How CASE is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cases {
    /// As a level like parentheses, with parts of its own.
    AreLevels,
    /// As one more operator of the chain it stands in.
    AreChains,
}

/// None when an END was met that could be either.
fn measure_with(tokens: &[TokenWithSpan], limits: &SqlLimits, cases: Cases) -> Result<Option<Measure>, EngineError> {
    let mut counter = Counter {
        limits,
        cases,
        unsure: false,
        levels: vec![Level::new(Kind::Statement)],
        before: Before::Expecting,
        measure: Measure::default(),
    };
    for token in tokens {
        if !matches!(token.token, Token::Whitespace(_) | Token::EOF) {
            counter.measure.tokens += 1;
            counter.take(&token.token, token.span.start)?;
            if counter.unsure {
                return Ok(None);
            }
        }
    }
    while counter.levels.len() > 1 {
        counter.close();
    }
    counter.measure.depth = counter.measure.depth.max(counter.level().depth());
    Ok(Some(counter.measure))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Statement,
    Paren,
    Bracket,
    Brace,
    Case,
}

/// What came before a token: whether a word here can be an operand. SQL lets most keywords be
/// column names, so `1 + and + 1` has no AND in it, and `x = 1 and y` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A whole operand: a literal, or a word that is no keyword.
    Operand,
    /// A whole operand that ends with a closing parenthesis, bracket or brace.
    Closed,
    /// Something that an operand must follow.
    Expecting,
    /// A dot: what follows is a name, whatever the word.
    Dot,
    /// UNION, INTERSECT, EXCEPT and what may stand between them and SELECT.
    SetOperator,
    /// A keyword after which either may come.
    Unknown,
}

impl Before {
    /// Two words in a row cannot both be operands, so a keyword here is the keyword.
    fn ends_operand(self) -> bool {
        matches!(self, Before::Operand | Before::Closed)
    }
}

/// One level of parentheses. A level has lists of expressions; an expression is an OR of ANDs of
/// runs of other operators, and each of the three adds to its depth.
#[derive(Debug)]
struct Level {
    kind: Kind,
    ors: usize,
    ands: usize,
    most_ands: usize,
    run: usize,
    longest_run: usize,
    dots: usize,
    most_dots: usize,
    /// BETWEENs whose AND has not come yet.
    betweens: usize,
    /// Depth of the deepest level within the current expression.
    inner: usize,
    /// Depth of the deepest expression before the current one.
    deepest: usize,
    commas: usize,
    set_operators: usize,
    joins: usize,
}

impl Level {
    fn new(kind: Kind) -> Self {
        Level {
            kind,
            ors: 0,
            ands: 0,
            most_ands: 0,
            run: 0,
            longest_run: 0,
            dots: 0,
            most_dots: 0,
            betweens: 0,
            inner: 0,
            deepest: 0,
            commas: 0,
            set_operators: 0,
            joins: 0,
        }
    }

    fn expression_depth(&self) -> usize {
        self.ors
            + self.most_ands.max(self.ands)
            + self.longest_run.max(self.run)
            + self.most_dots.max(self.dots)
            + self.inner
    }

    fn depth(&self) -> usize {
        self.set_operators + self.deepest.max(self.expression_depth())
    }

    fn end_run(&mut self) {
        self.longest_run = self.longest_run.max(self.run);
        self.run = 0;
        self.end_dots();
    }

    fn end_dots(&mut self) {
        self.most_dots = self.most_dots.max(self.dots);
        self.dots = 0;
    }

    fn end_ands(&mut self) {
        self.end_run();
        self.most_ands = self.most_ands.max(self.ands);
        self.ands = 0;
    }

    fn end_expression(&mut self) {
        self.deepest = self.deepest.max(self.expression_depth());
        self.ors = 0;
        self.ands = 0;
        self.most_ands = 0;
        self.run = 0;
        self.longest_run = 0;
        self.dots = 0;
        self.most_dots = 0;
        self.betweens = 0;
        self.inner = 0;
    }
}

struct Counter<'a> {
    limits: &'a SqlLimits,
    cases: Cases,
    unsure: bool,
    /// Never empty: the first level is the statement itself.
    levels: Vec<Level>,
    before: Before,
    measure: Measure,
}

impl Counter<'_> {
    fn take(&mut self, token: &Token, at: Location) -> Result<(), EngineError> {
        let before = std::mem::replace(&mut self.before, Before::Expecting);
        match token {
            Token::LParen => {
                // `f(1)(2)` wraps what is before it.
                self.level().run += usize::from(before == Before::Closed);
                self.push(Kind::Paren, at)?;
            }
            Token::LBracket => {
                self.level().run += 1;
                self.push(Kind::Bracket, at)?;
            }
            Token::LBrace => self.push(Kind::Brace, at)?,
            Token::RParen => self.close_to(Kind::Paren),
            Token::RBracket => self.close_to(Kind::Bracket),
            Token::RBrace => self.close_to(Kind::Brace),
            Token::Comma => {
                let level = self.level();
                level.end_expression();
                level.commas += 1;
                self.check_list(at)?;
            }
            Token::SemiColon => self.level().end_expression(),
            Token::Period => {
                self.level().dots += 1;
                self.before = Before::Dot;
            }
            Token::Word(word) if before == Before::Dot || word.quote_style.is_some() => self.before = Before::Operand,
            Token::Word(word) => self.word(word.keyword, before, at)?,
            Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat
            | Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq => {
                // A new operand begins, and its dots are a chain of their own.
                self.level().end_dots();
                self.level().run += 1;
            }
            _ if is_literal(token) => self.before = Before::Operand,
            _ => self.level().run += 1,
        }
        self.check_depth(at)
    }

    fn word(&mut self, keyword: Keyword, before: Before, at: Location) -> Result<(), EngineError> {
        match keyword {
            Keyword::NoKeyword | Keyword::NULL | Keyword::TRUE | Keyword::FALSE => self.before = Before::Operand,
            Keyword::CASE if self.cases == Cases::AreLevels => self.push(Kind::Case, at)?,
            Keyword::END if self.cases == Cases::AreLevels => self.end_of_case(before),
            Keyword::OR if before.ends_operand() => {
                let level = self.level();
                level.end_ands();
                level.ors += 1;
            }
            Keyword::AND if before.ends_operand() && self.level().betweens == 0 => {
                let level = self.level();
                level.end_run();
                level.ands += 1;
            }
            Keyword::AND => {
                let level = self.level();
                level.run += 1;
                // `x BETWEEN and AND 5`: the first may be a column.
                if before.ends_operand() {
                    level.betweens = level.betweens.saturating_sub(1);
                }
                self.unless_operand(before);
            }
            Keyword::BETWEEN => {
                self.level().betweens += 1;
                self.level().run += 1;
                self.unless_operand(before);
            }
            Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS => {
                self.level().set_operators += 1;
                self.before = Before::SetOperator;
            }
            Keyword::ALL | Keyword::DISTINCT if before == Before::SetOperator => self.before = Before::SetOperator,
            Keyword::SELECT if before == Before::SetOperator => {
                self.level().end_expression();
                self.level().joins = 0;
            }
            Keyword::FROM | Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER | Keyword::ON
                if before.ends_operand() =>
            {
                self.level().end_expression();
            }
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE
                if before.ends_operand() && self.cases == Cases::AreLevels =>
            {
                self.level().end_expression();
            }
            Keyword::JOIN | Keyword::APPLY | Keyword::PIVOT | Keyword::UNPIVOT | Keyword::MATCH_RECOGNIZE => {
                if before.ends_operand() {
                    self.level().end_expression();
                }
                self.level().joins += 1;
                self.check_joins(at)?;
            }
            keyword if is_operator(keyword) => {
                self.level().run += 1;
                self.unless_operand(before);
            }
            _ => self.before = Before::Unknown,
        }
        Ok(())
    }

    /// A keyword operator where an operand is expected may be a column of that name.
    fn unless_operand(&mut self, before: Before) {
        if !before.ends_operand() {
            self.before = Before::Unknown;
        }
    }

    fn end_of_case(&mut self, before: Before) {
        match before {
            _ if self.level().kind != Kind::Case => self.before = Before::Unknown,
            Before::Operand | Before::Closed => self.close_to(Kind::Case),
            Before::Expecting | Before::Dot => self.before = Before::Operand,
            Before::SetOperator | Before::Unknown => self.unsure = true,
        }
    }

    fn push(&mut self, kind: Kind, at: Location) -> Result<(), EngineError> {
        self.levels.push(Level::new(kind));
        let nesting = self.levels.len() - 1;
        self.measure.nesting = self.measure.nesting.max(nesting);
        if nesting > self.limits.nesting {
            return Err(too_large(
                at,
                format!("more than {} levels of parentheses, brackets and CASE", self.limits.nesting),
                "name the inner parts in a WITH clause",
            ));
        }
        Ok(())
    }

    /// Closes levels up to the nearest of `kind`; without one the parser will say what is wrong.
    fn close_to(&mut self, kind: Kind) {
        self.before = Before::Closed;
        if !self.levels.iter().skip(1).any(|level| level.kind == kind) {
            return;
        }
        loop {
            let closed = self.level().kind;
            self.close();
            if closed == kind {
                return;
            }
        }
    }

    fn close(&mut self) {
        if self.levels.len() > 1
            && let Some(closed) = self.levels.pop()
        {
            let level = self.level();
            level.inner = level.inner.max(closed.depth() + 1);
        }
    }

    fn level(&mut self) -> &mut Level {
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn check_depth(&mut self, at: Location) -> Result<(), EngineError> {
        let depth = self.level().depth();
        self.measure.depth = self.measure.depth.max(depth);
        if depth > self.limits.chain_terms {
            return Err(too_large(
                at,
                format!("a chain of more than {} operators", self.limits.chain_terms),
                "use IN (…) or a join with VALUES instead of a long chain",
            ));
        }
        Ok(())
    }

    fn check_list(&mut self, at: Location) -> Result<(), EngineError> {
        if self.level().commas >= self.limits.list_items {
            return Err(too_large(
                at,
                format!("a list of more than {} items", self.limits.list_items),
                "send the list in parts",
            ));
        }
        Ok(())
    }

    fn check_joins(&mut self, at: Location) -> Result<(), EngineError> {
        if self.level().joins > self.limits.tables {
            return Err(too_large(at, format!("more than {} joins", self.limits.tables), "split the query"));
        }
        Ok(())
    }
}

/// Tokens that are whole operands.
fn is_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
    )
}

/// Keywords that join, prefix or follow operands within an expression.
fn is_operator(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::OR
            | Keyword::XOR
            | Keyword::NOT
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::MATCH
            | Keyword::SIMILAR
            | Keyword::MEMBER
            | Keyword::OVERLAPS
            | Keyword::OPERATOR
            | Keyword::DIV
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::INTERVAL
            | Keyword::NOTNULL
            | Keyword::PRIOR
            | Keyword::CONNECT_BY_ROOT
            | Keyword::CASE
    )
}

fn too_large(at: Location, what: String, instead: &str) -> EngineError {
    EngineError::TooLarge(format!("the statement has {what} at line {}, column {}; {instead}", at.line, at.column))
}
