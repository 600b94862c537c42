//! Text values becoming columns.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::error::Result;
use crate::types::convert;

/// A column that is being read from text.
pub(super) trait Cells: Debug {
    /// Adds a value, none being null. False when the text is no value of the type: then a null is added.
    fn push(&mut self, text: Option<&str>) -> bool;
    /// The column so far; a new one begins.
    fn finish(&mut self) -> Result<ArrayRef>;
}

/// A column of the type.
pub(super) fn cells(data_type: &DataType) -> Box<dyn Cells> {
    fn of<T: Parser + Debug>() -> Box<dyn Cells> {
        Box::new(Numbers(PrimitiveBuilder::<T>::new()))
    }
    match data_type {
        DataType::Int8 => of::<Int8Type>(),
        DataType::Int16 => of::<Int16Type>(),
        DataType::Int32 => of::<Int32Type>(),
        DataType::Int64 => of::<Int64Type>(),
        DataType::UInt8 => of::<UInt8Type>(),
        DataType::UInt16 => of::<UInt16Type>(),
        DataType::UInt32 => of::<UInt32Type>(),
        DataType::UInt64 => of::<UInt64Type>(),
        DataType::Float32 => of::<Float32Type>(),
        DataType::Float64 => of::<Float64Type>(),
        DataType::Date32 => of::<Date32Type>(),
        DataType::Timestamp(TimeUnit::Second, None) => of::<TimestampSecondType>(),
        DataType::Timestamp(TimeUnit::Millisecond, None) => of::<TimestampMillisecondType>(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => of::<TimestampMicrosecondType>(),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => of::<TimestampNanosecondType>(),
        DataType::Boolean => Box::new(Truths(BooleanBuilder::new())),
        DataType::Utf8 => Box::new(Strings(StringBuilder::new())),
        other => Box::new(Converted { strings: StringBuilder::new(), to: other.clone() }),
    }
}

/// The value of a text as Arrow's parsers read it; blanks around it do not count.
pub(super) fn parse<T: Parser>(text: &str) -> Option<T::Native> {
    T::parse(text.trim_ascii())
}

/// Reads a truth value.
pub(super) fn parse_truth(text: &str) -> Option<bool> {
    match text.trim_ascii() {
        "1" | "t" | "T" => Some(true),
        "0" | "f" | "F" => Some(false),
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[derive(Debug)]
struct Numbers<T: ArrowPrimitiveType>(PrimitiveBuilder<T>);

impl<T: Parser + Debug> Cells for Numbers<T> {
    fn push(&mut self, text: Option<&str>) -> bool {
        let value = text.and_then(parse::<T>);
        self.0.append_option(value);
        value.is_some() || text.is_none()
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

#[derive(Debug)]
struct Truths(BooleanBuilder);

impl Cells for Truths {
    fn push(&mut self, text: Option<&str>) -> bool {
        let value = text.and_then(parse_truth);
        self.0.append_option(value);
        value.is_some() || text.is_none()
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

#[derive(Debug)]
struct Strings(StringBuilder);

impl Cells for Strings {
    fn push(&mut self, text: Option<&str>) -> bool {
        self.0.append_option(text);
        true
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

/// Types without a parser of their own: Arrow casts from text. Rare, so each value is tried alone.
#[derive(Debug)]
struct Converted {
    strings: StringBuilder,
    to: DataType,
}

impl Cells for Converted {
    fn push(&mut self, text: Option<&str>) -> bool {
        let readable = text.is_none_or(|text| {
            let single: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text]));
            cast(&single, &self.to).is_ok_and(|value| value.null_count() == 0)
        });
        self.strings.append_option(text.filter(|_| readable));
        readable
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let strings: ArrayRef = Arc::new(self.strings.finish());
        convert(&strings, &self.to)
    }
}
