//! Parameters of a statement, told on its tokens: `?` in the order of the text, or `$1`, `$2`, ….

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::EngineError;

/// Most parameters of one statement.
const MOST_PARAMETERS: usize = 32_767;

/// Writes every parameter as `$n` and gives the greatest n, which is how many values are bound.
///
/// # Errors
/// `Invalid` for both forms in one statement; `Unsupported` for parameters with names; `TooLarge` for
/// more of them than are taken.
pub(super) fn number(tokens: &mut [TokenWithSpan]) -> Result<usize, EngineError> {
    let (mut marks, mut greatest) = (0, 0);
    for token in tokens {
        let Token::Placeholder(text) = &mut token.token else { continue };
        let n = if text == "?" {
            marks += 1;
            marks
        } else {
            let digits = text.trim_start_matches(['$', '?']);
            let n = digits.parse::<usize>().ok().filter(|n| *n > 0);
            let n = n.ok_or_else(|| {
                EngineError::Unsupported(format!("parameters are written ? or $1, $2, …; {text} is not one"))
            })?;
            greatest = greatest.max(n);
            n
        };
        if n > MOST_PARAMETERS {
            return Err(EngineError::TooLarge(format!(
                "the statement has parameter {n}; at most {MOST_PARAMETERS} are taken"
            )));
        }
        *text = format!("${n}");
    }
    if marks > 0 && greatest > 0 {
        return Err(EngineError::Invalid(
            "parameters are written ? or $1, $2, …, not both in one statement".to_owned(),
        ));
    }
    Ok(marks.max(greatest))
}

/// The parameters of `VALUES ($1, $2, …)`, counted from 0.
pub(super) fn as_row(tokens: &[TokenWithSpan]) -> Option<Vec<usize>> {
    let mut tokens = tokens
        .iter()
        .map(|token| &token.token)
        .filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF));
    let values = matches!(tokens.next()?, Token::Word(word) if word.keyword == Keyword::VALUES);
    if !values || tokens.next()? != &Token::LParen {
        return None;
    }
    let mut row = Vec::new();
    loop {
        let Token::Placeholder(text) = tokens.next()? else { return None };
        row.push(text.trim_start_matches('$').parse::<usize>().ok()?.checked_sub(1)?);
        match tokens.next()? {
            Token::Comma => {}
            Token::RParen => return tokens.next().is_none().then_some(row),
            _ => return None,
        }
    }
}
