//! Splits a script into statements at semicolons outside strings, quoted names and comments.

/// The statements of a script, trimmed, without their semicolons; empty ones are left out.
pub fn split_statements(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut rest = script;
    while let Some(end) = statement_end(rest) {
        push(&mut statements, &rest[..end]);
        rest = &rest[end + 1..];
    }
    push(&mut statements, rest);
    statements
}

/// The byte at which the first statement's semicolon stands, if it has one.
pub(crate) fn statement_end(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            ';' => return Some(at),
            '\'' | '"' => {
                // A doubled quote closes and opens again, which comes to the same.
                chars.by_ref().find(|(_, other)| *other == c)?;
            }
            '-' if text[at..].starts_with("--") => {
                chars.by_ref().find(|(_, other)| *other == '\n')?;
            }
            '/' if text[at..].starts_with("/*") => {
                let close = text[at + 2..].find("*/")? + at + 4;
                while chars.peek().is_some_and(|(next, _)| *next < close) {
                    chars.next();
                }
            }
            _ => {}
        }
    }
    None
}

fn push(statements: &mut Vec<String>, text: &str) {
    let text = text.trim();
    let said = text.lines().any(|line| !line.trim().is_empty() && !line.trim().starts_with("--"));
    if said {
        statements.push(text.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_strings_names_and_comments_do_not_split() {
        let script = "select ';', \";\", 'it''s;' -- no; really\n; /* a; b */ select 2;\n-- the end;\n";
        assert_eq!(split_statements(script), vec!["select ';', \";\", 'it''s;' -- no; really", "/* a; b */ select 2"]);
    }

    #[test]
    fn an_open_string_is_one_statement() {
        assert_eq!(split_statements("select 'a; b"), vec!["select 'a; b"]);
        assert!(split_statements(" ;;\n; -- nothing").is_empty());
    }
}
