//! Finding the columns and types of an input before it is read.

use std::path::{Path, PathBuf};

use arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};

use super::cells::{parse, parse_truth};
use super::files::{Format, InputFile, discover};
use super::records::Record;
use super::text::TextFile;
use super::{Input, parquet};
use crate::description::TableDescription;
use crate::error::{IngestError, Result};
use crate::schema::TableSchema;

/// Records of text looked at to find types, over all files.
const SAMPLE_RECORDS: usize = 10_000;

/// Records looked at in each file at least.
const SAMPLE_PER_FILE: usize = 100;

/// The input of a table with the schema it will be stored with.
pub(crate) fn find_schema(inputs: &[PathBuf], description: &TableDescription) -> Result<Input> {
    description.checked()?;
    let files = discover(inputs)?;
    let mut found: Option<(PathBuf, Vec<FoundColumn>)> = None;
    let sample = (SAMPLE_RECORDS / files.len()).max(SAMPLE_PER_FILE);
    for file in &files {
        let columns = match file.format {
            Format::Parquet => parquet_columns(file)?,
            Format::Text => text_columns(&file.path, description, sample)?,
        };
        found = Some(match found {
            None => (file.path.clone(), columns),
            Some((first, known)) => (first.clone(), merge(&first, known, &file.path, columns)?),
        });
    }
    let (first, columns) = found.ok_or_else(|| IngestError::Request("no input file was given".into()))?;
    let fields: Vec<Field> = columns.into_iter().map(|column| column.field(description)).collect();
    refuse_duplicates(&first, &fields)?;
    let schema = TableSchema::resolve(&fields, description)?;
    Ok(Input { files, schema, description: description.clone() })
}

/// A column as one or more files have it.
#[derive(Debug)]
enum FoundColumn {
    Typed(Field),
    Text(String, Guess),
}

impl FoundColumn {
    fn name(&self) -> &str {
        match self {
            FoundColumn::Typed(field) => field.name(),
            FoundColumn::Text(name, _) => name,
        }
    }

    fn field(self, description: &TableDescription) -> Field {
        match self {
            FoundColumn::Typed(field) => field,
            FoundColumn::Text(name, guess) => {
                // A position that is no number is a bad row, not a column of strings.
                let is_position = description.position.as_ref().is_some_and(|position| {
                    [&position.ra, &position.dec].into_iter().any(|column| column.eq_ignore_ascii_case(&name))
                });
                let data_type = if is_position { DataType::Float64 } else { guess.data_type() };
                Field::new(name, data_type, true)
            }
        }
    }
}

fn parquet_columns(file: &InputFile) -> Result<Vec<FoundColumn>> {
    Ok(parquet::fields(&file.path)?.into_iter().map(FoundColumn::Typed).collect())
}

fn text_columns(path: &Path, description: &TableDescription, sample: usize) -> Result<Vec<FoundColumn>> {
    let mut file = TextFile::open(path, &description.csv)?;
    let mut guesses = vec![Guess::default(); file.names.len()];
    let mut record = Record::default();
    for _ in 0..sample {
        match file.next(&mut record)? {
            Ok(false) => break,
            Ok(true) if record.len() == guesses.len() => {
                for (at, guess) in guesses.iter_mut().enumerate() {
                    if let Some(text) = record.get(at) {
                        guess.see(text);
                    }
                }
            }
            // Bad rows are told when the file is read.
            Ok(true) | Err(_) => {}
        }
    }
    Ok(file.names.into_iter().zip(guesses).map(|(name, guess)| FoundColumn::Text(name, guess)).collect())
}

/// The columns two files have in common must be all they have.
fn merge(first: &Path, known: Vec<FoundColumn>, path: &Path, mut new: Vec<FoundColumn>) -> Result<Vec<FoundColumn>> {
    let differs = |reason: String| IngestError::Input { file: path.to_owned(), reason };
    let mut merged = Vec::with_capacity(known.len());
    for column in known {
        let name = column.name().to_owned();
        let Some(at) = new.iter().position(|other| other.name() == name) else {
            return Err(differs(format!("has no column \"{name}\", which {} has", first.display())));
        };
        merged.push(match (column, new.swap_remove(at)) {
            (FoundColumn::Text(name, a), FoundColumn::Text(_, b)) => FoundColumn::Text(name, a.and(b)),
            (FoundColumn::Typed(a), FoundColumn::Typed(b)) => {
                // Types that are stored alike are alike.
                let (stored_a, stored_b) =
                    (crate::types::stored_type(a.data_type()), crate::types::stored_type(b.data_type()));
                if stored_a != stored_b {
                    return Err(differs(format!(
                        "column \"{name}\" is {stored_b}, but {stored_a} in {}; give them one type",
                        first.display()
                    )));
                }
                let nullable = a.is_nullable() || b.is_nullable();
                FoundColumn::Typed(a.with_nullable(nullable))
            }
            // The file with types knows better.
            (FoundColumn::Typed(field), FoundColumn::Text(..)) | (FoundColumn::Text(..), FoundColumn::Typed(field)) => {
                FoundColumn::Typed(field.with_nullable(true))
            }
        });
    }
    match new.first() {
        Some(extra) => Err(differs(format!("has a column \"{}\", which {} has not", extra.name(), first.display()))),
        None => Ok(merged),
    }
}

fn refuse_duplicates(path: &Path, fields: &[Field]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for field in fields {
        if !seen.insert(field.name()) {
            return Err(IngestError::Input {
                file: path.to_owned(),
                reason: format!("has two columns named \"{}\"; rename one", field.name()),
            });
        }
    }
    Ok(())
}

/// Which types the values seen so far can have.
#[derive(Clone, Copy, Debug)]
struct Guess {
    seen: bool,
    truth: bool,
    signed: bool,
    unsigned: bool,
    float: bool,
    date: bool,
    timestamp: bool,
    /// A whole number that no integer type holds: as a float it would lose digits.
    huge: bool,
}

impl Default for Guess {
    fn default() -> Guess {
        Guess {
            seen: false,
            truth: true,
            signed: true,
            unsigned: true,
            float: true,
            date: true,
            timestamp: true,
            huge: false,
        }
    }
}

impl Guess {
    fn see(&mut self, text: &str) {
        let text = text.trim_ascii();
        // 0 and 1 are numbers unless the description says otherwise.
        let word = !text.starts_with(|c: char| c.is_ascii_digit());
        self.seen = true;
        self.truth &= word && text.len() > 1 && parse_truth(text).is_some();
        self.signed &= parse::<Int64Type>(text).is_some();
        self.unsigned &= parse::<UInt64Type>(text).is_some();
        self.float &= parse::<Float64Type>(text).is_some();
        self.date &= text.len() == 10 && parse::<Date32Type>(text).is_some();
        self.timestamp &= text.len() >= 10 && text.contains('-') && parse::<TimestampMicrosecondType>(text).is_some();
        let digits = text.trim_start_matches(['-', '+']);
        let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        self.huge |= whole && parse::<Int64Type>(text).is_none() && parse::<UInt64Type>(text).is_none();
    }

    fn and(self, other: Guess) -> Guess {
        Guess {
            seen: self.seen || other.seen,
            truth: self.truth && other.truth,
            signed: self.signed && other.signed,
            unsigned: self.unsigned && other.unsigned,
            float: self.float && other.float,
            date: self.date && other.date,
            timestamp: self.timestamp && other.timestamp,
            huge: self.huge || other.huge,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Guess { seen: false, .. } => DataType::Utf8,
            Guess { truth: true, .. } => DataType::Boolean,
            Guess { signed: true, .. } => DataType::Int64,
            Guess { unsigned: true, .. } => DataType::UInt64,
            Guess { float: true, huge: false, .. } => DataType::Float64,
            Guess { date: true, .. } => DataType::Date32,
            Guess { timestamp: true, .. } => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => DataType::Utf8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_text() {
        let of = |values: &[&str]| {
            let mut guess = Guess::default();
            values.iter().for_each(|value| guess.see(value));
            guess.data_type()
        };
        assert_eq!(of(&[]), DataType::Utf8);
        assert_eq!(of(&["1", "-7"]), DataType::Int64);
        assert_eq!(of(&["1", "18446744073709551615"]), DataType::UInt64);
        assert_eq!(of(&["1", "99999999999999999999999"]), DataType::Utf8);
        assert_eq!(of(&["1", "2.5e-3", "nan"]), DataType::Float64);
        assert_eq!(of(&["true", "FALSE"]), DataType::Boolean);
        assert_eq!(of(&["2026-01-31"]), DataType::Date32);
        assert_eq!(of(&["2026-01-31T12:00:00", "2026-01-31"]), DataType::Timestamp(TimeUnit::Microsecond, None));
        assert_eq!(of(&["1", "x"]), DataType::Utf8);
    }
}
