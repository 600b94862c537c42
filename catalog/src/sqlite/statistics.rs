//! Statistics of a file as one text, as PostgreSQL's COPY writes rows: a line for each column, fields between
//! tabs. A snapshot reads tens of thousands of these, which a general format makes several times slower.

use std::borrow::Cow;

use super::value::corrupt;
use crate::error::Result;
use crate::records::ColumnStatistics;

const ESCAPES: [(char, char); 5] = [('\\', '\\'), ('\t', 't'), ('\n', 'n'), ('\r', 'r'), ('\0', '0')];

pub(super) fn to_sql(statistics: &[ColumnStatistics]) -> String {
    let mut text = String::new();
    for line in statistics {
        for field in [&line.column, &line.min, &line.max] {
            escape(field, &mut text);
            text.push('\t');
        }
        text.push_str(&line.null_count.to_string());
        if let Some(nans) = line.nan_count {
            text.push('\t');
            text.push_str(&nans.to_string());
        }
        text.push('\n');
    }
    text
}

pub(super) fn from_sql(what: &dyn Fn() -> String, text: &str) -> Result<Vec<ColumnStatistics>> {
    let bad = |line: &str| corrupt(what(), format!("statistics \"{}\"", line.escape_debug()));
    let mut statistics = Vec::new();
    for line in text.split_terminator('\n') {
        let mut fields = line.split('\t');
        let (Some(column), Some(min), Some(max), Some(nulls), nans, None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(bad(line));
        };
        let unescaped = |field: &str| unescape(field).map(Cow::into_owned).ok_or_else(|| bad(line));
        statistics.push(ColumnStatistics {
            column: unescaped(column)?,
            min: unescaped(min)?,
            max: unescaped(max)?,
            null_count: nulls.parse().map_err(|_| bad(line))?,
            nan_count: nans.map(str::parse).transpose().map_err(|_| bad(line))?,
        });
    }
    Ok(statistics)
}

fn escape(field: &str, text: &mut String) {
    for character in field.chars() {
        match ESCAPES.iter().find(|(plain, _)| *plain == character) {
            Some((_, escaped)) => text.extend(['\\', *escaped]),
            None => text.push(character),
        }
    }
}

fn unescape(field: &str) -> Option<Cow<'_, str>> {
    if !field.contains('\\') {
        return Some(Cow::Borrowed(field));
    }
    let mut plain = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            let escaped = characters.next()?;
            plain.push(ESCAPES.iter().find(|(_, letter)| *letter == escaped)?.0);
        } else {
            plain.push(character);
        }
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<ColumnStatistics>> {
        from_sql(&|| "file 1".to_owned(), text)
    }

    #[test]
    fn it_is_written_as_copy_writes_it() {
        let line = |column: &str, min: &str, max: &str, null_count, nan_count| ColumnStatistics {
            column: column.to_owned(),
            min: min.to_owned(),
            max: max.to_owned(),
            null_count,
            nan_count,
        };
        let statistics = [line("ra", "-1.5", "3", 0, Some(7)), line("a\tb", "", "\\\n", u64::MAX, None)];
        let text = to_sql(&statistics);
        assert_eq!(text, "ra\t-1.5\t3\t0\t7\na\\tb\t\t\\\\\\n\t18446744073709551615\n");
        assert_eq!(read(&text).unwrap(), statistics);
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn damaged_texts_are_refused() {
        for bad in [
            "ra",
            "ra\t1\t2",
            "ra\t1\t2\t3\t4\t5",
            "ra\t1\t2\t3\t",
            "ra\t1\t2\t-3",
            "ra\t1\\x\t2\t3",
            "ra\t1\t2\\\t3",
            "\n",
        ] {
            assert!(matches!(read(bad), Err(crate::CatalogError::Corrupt { .. })), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_statistics_survive(lines in prop::collection::vec(("(?s).*", r"[\\\t\n\r\x00tn0]*", any::<String>(), any::<u64>(), any::<Option<u64>>()), 0..5)) {
            let statistics: Vec<ColumnStatistics> = lines
                .into_iter()
                .map(|(column, min, max, null_count, nan_count)| ColumnStatistics {
                    column,
                    min,
                    max,
                    null_count,
                    nan_count,
                })
                .collect();
            prop_assert_eq!(read(&to_sql(&statistics)).unwrap(), statistics);
        }
    }
}
