//! Text files as records of fields: delimiters, quotes, and the backslashes of MySQL dumps.
//!
//! The csv crate is not used here because it gives no meaning to a backslash outside quotes, and does not tell
//! an unquoted `\N` (null) from a quoted one (two characters).

use std::io::BufRead;
use std::ops::Range;

use crate::description::{CsvDescription, TextEncoding};

/// A record longer than this is taken for a quote that was never closed.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// How a file is cut into fields.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    null: Vec<Vec<u8>>,
    latin1: bool,
}

impl Dialect {
    pub(crate) fn new(csv: &CsvDescription, tabs: bool) -> Dialect {
        let default = if tabs { '\t' } else { ',' };
        // Both are ASCII, which the description's check has seen to.
        let byte = |character: char| u8::try_from(character).unwrap_or(b',');
        Dialect {
            delimiter: byte(csv.delimiter.unwrap_or(default)),
            quote: csv.quote_byte(),
            escape: csv.escape.map(byte),
            null: csv.null.iter().map(|text| text.as_bytes().to_vec()).collect(),
            latin1: csv.encoding == TextEncoding::Latin1,
        }
    }

    fn is_null(&self, raw: &[u8]) -> bool {
        self.null.iter().any(|null| null == raw)
    }
}

/// What is at fault with a record as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The file ended, or [`MAX_RECORD_BYTES`] passed, inside quotes.
    OpenQuote,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Something other than a delimiter after a closing quote.
    AfterQuote,
}

impl Fault {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Fault::OpenQuote => "a quote is opened and not closed",
            Fault::NotUtf8 => "is not UTF-8; for ISO 8859-1 set `csv.encoding = \"latin1\"`",
            Fault::AfterQuote => "a value goes on after its closing quote",
        }
    }
}

/// One record; its buffers are used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The bytes as read, line end included.
    raw: Vec<u8>,
    /// The values, unquoted and unescaped.
    text: String,
    /// Where in `text` each value is; none for null.
    fields: Vec<Option<Range<usize>>>,
    /// The line the record begins on, from 1.
    pub(crate) line: u64,
}

impl Record {
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The value of a field; none when it is null.
    pub(crate) fn get(&self, at: usize) -> Option<&str> {
        self.fields.get(at).and_then(|range| range.clone()).and_then(|range| self.text.get(range))
    }

    /// The record as it stands in the file, bytes that are not UTF-8 replaced.
    pub(crate) fn raw_text(&self) -> String {
        String::from_utf8_lossy(&self.raw).trim_end_matches(['\n', '\r']).to_owned()
    }

    /// Bytes of the record in the file.
    pub(crate) fn bytes(&self) -> usize {
        self.raw.len()
    }
}

/// Reads a file record by record.
#[derive(Debug)]
pub(crate) struct Records<R> {
    reader: R,
    dialect: Dialect,
    /// Lines read so far.
    lines: u64,
    values: Vec<u8>,
}

impl<R: BufRead> Records<R> {
    pub(crate) fn new(reader: R, dialect: Dialect) -> Records<R> {
        Records { reader, dialect, lines: 0, values: Vec::new() }
    }

    /// Reads the next record that is not an empty line. `Ok(false)` at the end of the file; the inner error
    /// is a fault of this record, after which reading can go on.
    pub(crate) fn next(&mut self, record: &mut Record) -> std::io::Result<Result<bool, Fault>> {
        loop {
            record.raw.clear();
            record.fields.clear();
            record.text.clear();
            record.line = self.lines + 1;
            if !self.read_line(record)? {
                return Ok(Ok(false));
            }
            if record.line == 1 && record.raw.starts_with(b"\xef\xbb\xbf") {
                record.raw.drain(..3);
            }
            if !matches!(record.raw.as_slice(), b"\n" | b"\r\n" | b"") {
                break;
            }
        }
        let special = |byte: Option<u8>| byte.is_some_and(|byte| record.raw.contains(&byte));
        self.values.clear();
        if special(self.dialect.quote) || special(self.dialect.escape) {
            if let Err(fault) = self.split_special(record)? {
                return Ok(Err(fault));
            }
        } else {
            self.split_plain(record);
        }
        Ok(self.decode(record).map(|()| true))
    }

    fn read_line(&mut self, record: &mut Record) -> std::io::Result<bool> {
        let read = self.reader.read_until(b'\n', &mut record.raw)?;
        if read > 0 {
            self.lines += 1;
        }
        Ok(read > 0)
    }

    /// A line in which nothing has a special meaning.
    fn split_plain(&mut self, record: &mut Record) {
        let line = trim_line_end(&record.raw);
        self.values.extend_from_slice(line);
        let mut start = 0;
        let delimiter = self.dialect.delimiter;
        for field in line.split(|byte| *byte == delimiter) {
            let range = start..start + field.len();
            start = range.end + 1;
            record.fields.push((!self.dialect.is_null(field)).then_some(range));
        }
    }

    /// A record with quotes or escapes; reads on while a line end is inside them.
    fn split_special(&mut self, record: &mut Record) -> std::io::Result<Result<(), Fault>> {
        let mut at = 0;
        let mut field = OpenField { raw_start: 0, start: 0, quote: Quote::Never };
        let mut fault = None;
        loop {
            if at >= record.raw.len() {
                let in_quotes = field.quote == Quote::Open;
                let ends = record.raw.last() != Some(&b'\n');
                if (ends && !in_quotes) || !self.more(record)? {
                    if in_quotes {
                        return Ok(Err(Fault::OpenQuote));
                    }
                    self.end_field(record, &field, at);
                    break;
                }
            }
            let Some(&byte) = record.raw.get(at) else { continue };
            if Some(byte) == self.dialect.escape {
                if record.raw.get(at + 1).is_none() && !self.more(record)? {
                    self.values.push(byte);
                    at += 1;
                    continue;
                }
                let next = record.raw.get(at + 1).copied().unwrap_or(byte);
                self.values.push(unescaped(next));
                at += 2;
                continue;
            }
            match field.quote {
                Quote::Open if Some(byte) == self.dialect.quote => {
                    // Twice is the character itself; the second may be the next line's first only at a file's end.
                    if record.raw.get(at + 1).copied() == self.dialect.quote {
                        self.values.push(byte);
                        at += 1;
                    } else {
                        field.quote = Quote::Closed;
                    }
                }
                Quote::Open => self.values.push(byte),
                Quote::Never if Some(byte) == self.dialect.quote && at == field.raw_start => field.quote = Quote::Open,
                Quote::Never | Quote::Closed if byte == self.dialect.delimiter => {
                    self.end_field(record, &field, at);
                    field = OpenField { raw_start: at + 1, start: self.values.len(), quote: Quote::Never };
                }
                Quote::Never | Quote::Closed if byte == b'\n' => {
                    self.end_field(record, &field, at);
                    break;
                }
                Quote::Never | Quote::Closed if byte == b'\r' && record.raw.get(at + 1) == Some(&b'\n') => {}
                Quote::Closed => fault = Some(Fault::AfterQuote),
                Quote::Never => self.values.push(byte),
            }
            at += 1;
        }
        Ok(fault.map_or(Ok(()), Err))
    }

    fn more(&mut self, record: &mut Record) -> std::io::Result<bool> {
        if record.raw.len() > MAX_RECORD_BYTES {
            return Ok(false);
        }
        self.read_line(record)
    }

    fn end_field(&mut self, record: &mut Record, field: &OpenField, raw_end: usize) {
        let raw = record.raw.get(field.raw_start..raw_end).unwrap_or_default();
        let null = field.quote == Quote::Never && self.dialect.is_null(trim_line_end(raw));
        record.fields.push((!null).then_some(field.start..self.values.len()));
    }

    fn decode(&mut self, record: &mut Record) -> Result<(), Fault> {
        if !self.dialect.latin1 || self.values.is_ascii() {
            record.text.push_str(std::str::from_utf8(&self.values).map_err(|_| Fault::NotUtf8)?);
            return Ok(());
        }
        // A character above 127 takes two bytes as UTF-8, so the ranges are moved.
        let mut fields = Vec::with_capacity(record.fields.len());
        for range in record.fields.drain(..) {
            fields.push(range.map(|range| {
                let start = record.text.len();
                let bytes = self.values.get(range).unwrap_or_default();
                record.text.extend(bytes.iter().map(|byte| char::from(*byte)));
                start..record.text.len()
            }));
        }
        record.fields = fields;
        Ok(())
    }
}

struct OpenField {
    /// Where the field begins in the record's bytes, its quote included.
    raw_start: usize,
    /// Where its value begins.
    start: usize,
    quote: Quote,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    Never,
    Open,
    Closed,
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The character an escape stands for, as MySQL writes it.
fn unescaped(byte: u8) -> u8 {
    match byte {
        b'0' => 0,
        b'b' => 8,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'Z' => 26,
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    type Fields = Result<Vec<Option<String>>, Fault>;

    fn read(text: &[u8], csv: &CsvDescription) -> Vec<(u64, Fields)> {
        let mut records = Records::new(text, Dialect::new(csv, false));
        let mut record = Record::default();
        let mut all = Vec::new();
        loop {
            match records.next(&mut record).unwrap() {
                Ok(false) => return all,
                Ok(true) => {
                    let fields = (0..record.len()).map(|at| record.get(at).map(str::to_owned)).collect();
                    all.push((record.line, Ok(fields)));
                }
                Err(fault) => all.push((record.line, Err(fault))),
            }
        }
    }

    fn fields(values: &[Option<&str>]) -> Fields {
        Ok(values.iter().map(|value| value.map(str::to_owned)).collect())
    }

    #[test]
    fn quotes_line_ends_and_nulls() {
        let text = b"a,b,c\r\n1,\"x, \"\"y\"\"\nz\",\\N\n\n\"\",\"\\N\",\nlast,,7";
        let got = read(text, &CsvDescription::default());
        assert_eq!(
            got,
            vec![
                (1, fields(&[Some("a"), Some("b"), Some("c")])),
                (2, fields(&[Some("1"), Some("x, \"y\"\nz"), None])),
                (5, fields(&[Some(""), Some("\\N"), None])),
                (6, fields(&[Some("last"), None, Some("7")])),
            ]
        );
    }

    #[test]
    fn mysql_escapes() {
        let csv = CsvDescription { escape: Some('\\'), quote: String::new(), ..CsvDescription::default() };
        let got = read(b"\\N,a\\,b,c\\\nd,\\\\N,\\0\\t\"\n2,3,4,5,6\n", &csv);
        assert_eq!(got[0], (1, fields(&[None, Some("a,b"), Some("c\nd"), Some("\\N"), Some("\0\t\"")])));
        assert_eq!(got[1].0, 3);
    }

    #[test]
    fn faults_are_of_one_record() {
        let got = read(b"a,b\n\"x\"y,1\n\xff,2\n3,4\n\"open,5\n6,7\n", &CsvDescription::default());
        assert_eq!(got[1], (2, Err(Fault::AfterQuote)));
        assert_eq!(got[2], (3, Err(Fault::NotUtf8)));
        assert_eq!(got[3], (4, fields(&[Some("3"), Some("4")])));
        assert_eq!(got[4], (5, Err(Fault::OpenQuote)));
        let latin1 = CsvDescription { encoding: TextEncoding::Latin1, ..CsvDescription::default() };
        assert_eq!(read(b"\xe9t\xe9,2,\xfc\n", &latin1)[0], (1, fields(&[Some("été"), Some("2"), Some("ü")])));
    }
}
