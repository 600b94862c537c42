//! How many bytes a function will give, from its arguments alone; never too few.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

const NANOS_OF_DAY: i128 = 86_400_000_000_000;

/// The shape of a function's growth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Estimate {
    /// (text, times): text again and again.
    Repeat,
    /// (text, characters, fill): as many characters as asked for.
    Pad,
    /// (text, from, to): `to` for every `from`.
    Replace,
    /// (text, pattern, to, flags): `to`, with groups of the match, for every match.
    RegexpReplace,
    /// (text, pattern): a text for every group of the pattern.
    RegexpMatch,
    /// All arguments side by side.
    Sum,
    /// (separator, texts…): the texts with the separator between them.
    Join,
    /// ([start,] stop [, step]): a list of all between.
    Range,
    /// (value, times): a list of the value.
    ListRepeat,
    /// (list, items, fill): as many items as asked for.
    ListResize,
    /// (list, from, to [, times]): `to` for items.
    ListReplace,
    /// (list, delimiter, null): the delimiter between all items.
    ListJoin,
    /// (a, b): not large, but takes |a| times |b| steps that cannot be interrupted.
    Product,
    /// Nothing but a result type that may be wide.
    Cast,
}

impl Estimate {
    /// Every function of DataFusion whose result can be more than a small multiple of what its
    /// arguments hold, where a constant argument counts once however many rows there are.
    pub(super) const ALL: [(Estimate, &'static [&'static str]); 14] = [
        (Estimate::Repeat, &["repeat"]),
        (Estimate::Pad, &["lpad", "rpad"]),
        (Estimate::Replace, &["replace"]),
        (Estimate::RegexpReplace, &["regexp_replace"]),
        (Estimate::RegexpMatch, &["regexp_match"]),
        (
            Estimate::Sum,
            &[
                "concat",
                "overlay",
                "make_array",
                "array_concat",
                "array_append",
                "array_prepend",
                "array_union",
                "named_struct",
                "struct",
                "map",
            ],
        ),
        (Estimate::Join, &["concat_ws"]),
        (Estimate::Range, &["range", "generate_series"]),
        (Estimate::ListRepeat, &["array_repeat"]),
        (Estimate::ListResize, &["array_resize"]),
        (Estimate::ListReplace, &["array_replace", "array_replace_n", "array_replace_all"]),
        (Estimate::ListJoin, &["array_to_string"]),
        (Estimate::Product, &["levenshtein"]),
        (Estimate::Cast, &["arrow_cast", "arrow_try_cast"]),
    ];

    /// Bytes of the result for all rows of the call; at least the true figure.
    pub(super) fn result_bytes(self, args: &ScalarFunctionArgs) -> Result<u64> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        // A constant result is spread over all rows of the batch.
        let (rows, times) = if constant { (1, args.number_rows.max(1) as u64) } else { (args.number_rows, 1) };
        let columns = args.args.iter().map(|arg| Column::new(arg, self)).collect::<Result<Vec<_>>>()?;
        let mut bytes = 0_u64;
        for row in 0..rows {
            bytes = bytes.saturating_add(self.row_bytes(&columns, row));
        }
        Ok(bytes.saturating_mul(times))
    }

    fn row_bytes(self, columns: &[Column], row: usize) -> u64 {
        let size = |index: usize| columns.get(index).map_or(0, |column| column.bytes(row));
        let count = |index: usize| {
            columns.get(index).and_then(|column| column.number(row)).map_or(0, |n| u64::try_from(n).unwrap_or_default())
        };
        let items = |index: usize| columns.get(index).map_or(0, |column| column.items(row));
        match self {
            Estimate::Repeat => size(0).saturating_mul(count(1)),
            Estimate::Pad => count(1).saturating_mul(widest_char(columns, row)),
            Estimate::Replace => {
                let found = size(0) / size(1).max(1) + 1;
                size(0).saturating_add(found.saturating_mul(size(2)))
            }
            Estimate::RegexpReplace => {
                let everywhere = columns.get(3).and_then(|flags| flags.text(row)).is_some_and(|f| f.contains('g'));
                let found = if everywhere { size(0) + 1 } else { 1 };
                // All matches together hold the text at most once for each group named in `to`.
                let groups = size(2) / 2 + 1;
                found.saturating_mul(size(2)).saturating_add(size(0).saturating_mul(groups))
            }
            Estimate::RegexpMatch => {
                let groups = columns
                    .get(1)
                    .and_then(|pattern| pattern.text(row))
                    .map_or(0, |pattern| pattern.bytes().filter(|byte| *byte == b'(').count());
                size(0).saturating_mul(groups as u64 + 1)
            }
            Estimate::Sum => (0..columns.len()).fold(0, |sum, index| sum.saturating_add(size(index))),
            Estimate::Join => {
                let between = size(0).saturating_mul(columns.len() as u64);
                (1..columns.len()).fold(between, |sum, index| sum.saturating_add(size(index)))
            }
            Estimate::Range => range_items(columns, row).saturating_mul(8),
            Estimate::ListRepeat => (size(0) + 8).saturating_mul(count(1)),
            Estimate::ListResize => {
                let item = size(0) / items(0).max(1) + size(2) + 8;
                item.saturating_mul(count(1).max(items(0)))
            }
            Estimate::ListReplace => size(0).saturating_add(items(0).saturating_mul(size(2))),
            Estimate::ListJoin => {
                let between = size(1).saturating_add(size(2)).saturating_add(32);
                size(0).saturating_mul(4).saturating_add(items(0).saturating_mul(between))
            }
            // A step costs about what writing a sixteenth of a byte does.
            Estimate::Product => size(0).saturating_mul(size(1)) / 16,
            Estimate::Cast => 0,
        }
    }
}

/// One argument: an array, or one value for all rows.
struct Column {
    array: ArrayRef,
    constant: bool,
    /// The argument as whole numbers, where the function takes it as such.
    numbers: Option<Int64Array>,
    interval: Option<ArrayRef>,
}

impl Column {
    fn new(arg: &ColumnarValue, estimate: Estimate) -> Result<Column> {
        let (array, constant) = match arg {
            ColumnarValue::Array(array) => (array.clone(), false),
            ColumnarValue::Scalar(value) => (value.to_array()?, true),
        };
        let takes_numbers = matches!(
            estimate,
            Estimate::Repeat | Estimate::Pad | Estimate::Range | Estimate::ListRepeat | Estimate::ListResize
        );
        let interval = matches!(array.data_type(), DataType::Interval(_)).then(|| array.clone());
        let numbers = if takes_numbers { as_numbers(&array) } else { None };
        Ok(Column { array, constant, numbers, interval })
    }

    fn index(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    fn number(&self, row: usize) -> Option<i64> {
        let numbers = self.numbers.as_ref()?;
        let index = self.index(row);
        numbers.is_valid(index).then(|| numbers.value(index))
    }

    fn text(&self, row: usize) -> Option<&str> {
        let index = self.index(row);
        if self.array.is_null(index) {
            return None;
        }
        match self.array.data_type() {
            DataType::Utf8 => Some(self.array.as_string::<i32>().value(index)),
            DataType::LargeUtf8 => Some(self.array.as_string::<i64>().value(index)),
            DataType::Utf8View => Some(self.array.as_string_view().value(index)),
            _ => None,
        }
    }

    fn bytes(&self, row: usize) -> u64 {
        value_bytes(&self.array, self.index(row))
    }

    fn items(&self, row: usize) -> u64 {
        let index = self.index(row);
        match self.array.data_type() {
            DataType::List(_) => self.array.as_list::<i32>().value_length(index).unsigned_abs().into(),
            DataType::LargeList(_) => self.array.as_list::<i64>().value_length(index).unsigned_abs(),
            DataType::FixedSizeList(_, size) => size.unsigned_abs().into(),
            _ => 1,
        }
    }
}

/// Dates as days and timestamps as nanoseconds.
fn as_numbers(array: &ArrayRef) -> Option<Int64Array> {
    let array = match array.data_type() {
        DataType::Date64 => cast(array, &DataType::Date32).ok()?,
        DataType::Timestamp(_, zone) => cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())).ok()?,
        _ => array.clone(),
    };
    let array = if *array.data_type() == DataType::Date32 { cast(&array, &DataType::Int32).ok()? } else { array };
    let numbers = cast(&array, &DataType::Int64).ok()?;
    Some(numbers.as_primitive::<datafusion::arrow::datatypes::Int64Type>().clone())
}

/// Bytes of one value: its text, its items, or the width of its type.
fn value_bytes(array: &ArrayRef, index: usize) -> u64 {
    if array.is_null(index) {
        return 0;
    }
    let average = |items: u64, values: &ArrayRef| {
        items.saturating_mul(values.get_array_memory_size() as u64 / (values.len().max(1) as u64) + 1)
    };
    let length = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_length(index).unsigned_abs().into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value_length(index).unsigned_abs(),
        DataType::Utf8View => array.as_string_view().value(index).len() as u64,
        DataType::Binary => array.as_binary::<i32>().value_length(index).unsigned_abs().into(),
        DataType::LargeBinary => array.as_binary::<i64>().value_length(index).unsigned_abs(),
        DataType::BinaryView => array.as_binary_view().value(index).len() as u64,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            average(list.value_length(index).unsigned_abs().into(), list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            average(list.value_length(index).unsigned_abs(), list.values())
        }
        DataType::FixedSizeList(_, size) => average(size.unsigned_abs().into(), array.as_fixed_size_list().values()),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().fold(0, |sum, column| sum + value_bytes(column, index))
        }
        // A number written as text is at most about this long.
        other => other.primitive_width().map_or(32, |width| width.max(24)) as u64,
    };
    // Zero-length text still costs its offset.
    length.max(1)
}

/// Bytes of the widest character that padding may write.
fn widest_char(columns: &[Column], row: usize) -> u64 {
    let ascii = [0, 2].iter().all(|index| columns.get(*index).and_then(|c| c.text(row)).is_none_or(str::is_ascii));
    if ascii { 1 } else { 4 }
}

/// Items from start to stop by step, both ends counted.
fn range_items(columns: &[Column], row: usize) -> u64 {
    let (start, stop) = match columns {
        [stop] => (Some(0), stop.number(row)),
        [start, stop, ..] => (start.number(row), stop.number(row)),
        [] => (None, None),
    };
    let (Some(start), Some(stop)) = (start, stop) else {
        return 0;
    };
    let span = (i128::from(stop) - i128::from(start)).unsigned_abs();
    let step = match columns.get(2) {
        None => 1,
        Some(step) => match &step.interval {
            None => step.number(row).map_or(1, |n| i128::from(n).unsigned_abs()),
            Some(interval) => interval_step(interval, step.index(row), columns),
        },
    };
    u64::try_from(span / step.max(1)).unwrap_or(u64::MAX).saturating_add(1)
}

/// The interval in days for dates and in nanoseconds for timestamps, never more than it is.
fn interval_step(interval: &ArrayRef, index: usize, columns: &[Column]) -> u128 {
    let Some(interval) = interval.as_primitive_opt::<IntervalMonthDayNanoType>() else {
        return 1;
    };
    if interval.is_null(index) {
        return u128::MAX;
    }
    let value = interval.value(index);
    let days = i128::from(value.months) * 28 + i128::from(value.days);
    let dates =
        columns.first().is_some_and(|first| matches!(first.array.data_type(), DataType::Date32 | DataType::Date64));
    let step = if dates { days } else { days * NANOS_OF_DAY + i128::from(value.nanoseconds) };
    step.unsigned_abs()
}

/// Bytes that a value of the type takes even when it is null; 0 for what grows with its content.
pub(super) fn fixed_width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(size) => size.unsigned_abs().into(),
        DataType::FixedSizeList(item, size) => {
            u64::from(size.unsigned_abs()).saturating_mul(fixed_width(item.data_type()).max(1))
        }
        DataType::Struct(fields) => {
            fields.iter().fold(0, |sum, field| fixed_width(field.data_type()).saturating_add(sum))
        }
        DataType::List(item) | DataType::LargeList(item) => fixed_width(item.data_type()),
        other => other.primitive_width().unwrap_or_default() as u64,
    }
}
