//! Values as DataFusion's `.slt` files write them; after `engines/conversion.rs` and
//! `engines/datafusion_engine/normalize.rs` of `datafusion-sqllogictest`.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float16Type, Float32Type,
    Float64Type, Schema,
};
use datafusion::arrow::util::display::ArrayFormatter;
use datafusion::config::FormatOptions;
use sqllogictest::ColumnType;

/// Decimal places of floats that are compared.
const FLOAT_PLACES: usize = 12;
const NULL: &str = "NULL";

/// The letter for a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TypeLetter(char);

impl ColumnType for TypeLetter {
    fn from_char(letter: char) -> Option<Self> {
        Some(TypeLetter(if "BDIPRT".contains(letter) { letter } else { '?' }))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

/// A letter for each column of a schema.
pub(super) fn type_letters(schema: &Schema) -> Vec<TypeLetter> {
    schema.fields().iter().map(|field| TypeLetter(letter(field.data_type()))).collect()
}

fn letter(data_type: &DataType) -> char {
    match data_type {
        DataType::Boolean => 'B',
        integer if integer.is_integer() => 'I',
        number if number.is_floating() || number.is_decimal() => 'R',
        text if text.is_string() => 'T',
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => 'D',
        DataType::Timestamp(..) => 'P',
        DataType::Dictionary(_, values) if values.is_string() => 'T',
        _ => '?',
    }
}

/// The rows of a batch. A value of several lines in the last column continues on rows of its own,
/// numbered and with dashes for leading spaces.
pub(super) fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for row in 0..batch.num_rows() {
        let mut cells: Vec<String> = batch.columns().iter().map(|column| cell(column, row)).collect();
        let lines = cells.pop_if(|last| last.contains('\n'));
        rows.push(cells);
        for (number, line) in lines.iter().flat_map(|lines| lines.split('\n')).enumerate() {
            let text = line.trim_start();
            rows.push(vec![format!("{:02}){}{text}", number + 1, "-".repeat(line.len() - text.len()))]);
        }
    }
    rows
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return NULL.to_string();
    }
    match column.data_type() {
        DataType::Null => NULL.to_string(),
        DataType::Float16 => float(&column.as_primitive::<Float16Type>().value(row).to_string()),
        DataType::Float32 => float(&column.as_primitive::<Float32Type>().value(row).to_string()),
        DataType::Float64 => float(&column.as_primitive::<Float64Type>().value(row).to_string()),
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(column, row, *scale),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(column, row, *scale),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(column, row, *scale),
        DataType::Decimal256(_, scale) => decimal::<Decimal256Type>(column, row, *scale),
        DataType::Utf8 => text(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(column.as_string::<i64>().value(row)),
        DataType::Utf8View => text(column.as_string_view().value(row)),
        _ => {
            let options = FormatOptions { null: NULL.to_string(), ..FormatOptions::default() };
            match ArrayFormatter::try_new(column.as_ref(), &(&options).try_into().unwrap()) {
                Ok(formatter) => formatter.value(row).to_string(),
                Err(error) => error.to_string(),
            }
        }
    }
}

fn text(value: &str) -> String {
    if value.is_empty() { "(empty)".to_string() } else { value.trim_end_matches('\n').replace('\0', "\\0") }
}

/// A float that was printed in full, without an exponent.
fn float(printed: &str) -> String {
    match printed {
        "NaN" => "NaN".to_string(),
        "inf" => "Infinity".to_string(),
        "-inf" => "-Infinity".to_string(),
        number => plain(number, FLOAT_PLACES),
    }
}

fn decimal<T: DecimalType>(column: &ArrayRef, row: usize, scale: i8) -> String {
    let printed = T::format_decimal(column.as_primitive::<T>().value(row), u8::MAX, scale);
    plain(&printed, usize::MAX)
}

/// A decimal number rounded half to even at a number of places, without zeros at its end.
fn plain(number: &str, places: usize) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut kept: Vec<u8> = whole.bytes().chain(fraction.bytes().take(places)).collect();
    let cut = fraction.get(places..).unwrap_or("");
    if rounds_up(kept.last().copied(), cut) {
        let nines = kept.iter().rev().take_while(|digit| **digit == b'9').count();
        let first_nine = kept.len() - nines;
        kept[first_nine..].fill(b'0');
        match first_nine.checked_sub(1) {
            Some(at) => kept[at] += 1,
            None => kept.insert(0, b'1'),
        }
    }
    let kept = String::from_utf8(kept).unwrap();
    let (whole, fraction) = kept.split_at(kept.len() - fraction.len().min(places));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    match (whole, fraction) {
        ("", "") => "0".to_string(),
        (whole, "") => format!("{sign}{whole}"),
        ("", fraction) => format!("{sign}0.{fraction}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    }
}

fn rounds_up(last: Option<u8>, cut: &str) -> bool {
    let Some(first) = cut.bytes().next() else { return false };
    let exactly_half = first == b'5' && cut[1..].bytes().all(|digit| digit == b'0');
    if exactly_half { last.is_some_and(|last| last % 2 == 1) } else { first >= b'5' }
}

#[test]
fn numbers_are_rounded_like_datafusions() {
    for (number, places, expected) in [
        ("0", 12, "0"),
        ("-0", 12, "0"),
        ("-0.0000000000001", 12, "0"),
        ("0.5", 0, "0"),
        ("1.5", 0, "2"),
        ("2.5", 0, "2"),
        ("2.51", 0, "3"),
        ("99.996", 2, "100"),
        ("-9.9999", 3, "-10"),
        ("1200", 12, "1200"),
        ("1.2500", usize::MAX, "1.25"),
        ("0.1234567890125", 12, "0.123456789012"),
    ] {
        assert_eq!(plain(number, places), expected, "{number} at {places} places");
    }
}
