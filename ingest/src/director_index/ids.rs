//! Ids of any integer type or of text, compared as what they are.

use std::borrow::Cow;
use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};

use crate::error::{IngestError, Result};

/// The type ids of a column are indexed as.
pub(crate) fn index_type(column: &DataType) -> DataType {
    match column {
        DataType::Utf8 => DataType::Utf8,
        DataType::UInt64 => DataType::UInt64,
        _ => DataType::Int64,
    }
}

/// One id. Ids of one index are all of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Id<'a> {
    Signed(i64),
    Unsigned(u64),
    Text(Cow<'a, str>),
}

/// A file's statistics hold shorter text as it is; longer text may be cut there.
const EXACT_TEXT_BYTES: usize = 60;

impl Id<'static> {
    /// An id as the statistics of a file spell it; `None` where they may not tell it exactly.
    pub(crate) fn parse(text: &str, id_type: &DataType) -> Option<Id<'static>> {
        match id_type {
            DataType::Utf8 => (text.len() < EXACT_TEXT_BYTES).then(|| Id::Text(Cow::Owned(text.to_owned()))),
            DataType::UInt64 => text.parse().ok().map(Id::Unsigned),
            _ => text.parse().ok().map(Id::Signed),
        }
    }
}

impl Id<'_> {
    pub(crate) fn into_owned(self) -> Id<'static> {
        match self {
            Id::Signed(id) => Id::Signed(id),
            Id::Unsigned(id) => Id::Unsigned(id),
            Id::Text(id) => Id::Text(Cow::Owned(id.into_owned())),
        }
    }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Signed(id) => id.fmt(f),
            Id::Unsigned(id) => id.fmt(f),
            Id::Text(id) => write!(f, "{id:?}"),
        }
    }
}

/// A column of ids.
#[derive(Debug)]
pub(crate) enum IdColumn<'a> {
    Signed(&'a Int64Array),
    Unsigned(&'a UInt64Array),
    Text(&'a StringArray),
}

impl<'a> IdColumn<'a> {
    /// The column, which has one of the types of [`index_type`].
    pub(crate) fn new(column: &'a ArrayRef) -> Result<IdColumn<'a>> {
        match column.data_type() {
            DataType::Int64 => Ok(IdColumn::Signed(column.as_primitive::<Int64Type>())),
            DataType::UInt64 => Ok(IdColumn::Unsigned(column.as_primitive::<UInt64Type>())),
            DataType::Utf8 => Ok(IdColumn::Text(column.as_string::<i32>())),
            other => Err(IngestError::Request(format!("ids are integers or strings, not {other}"))),
        }
    }

    /// Of a column in order, the first row whose id is not below another.
    pub(crate) fn first_from(&self, id: &Id<'_>) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(|here| here < *id) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn len(&self) -> usize {
        match self {
            IdColumn::Signed(ids) => ids.len(),
            IdColumn::Unsigned(ids) => ids.len(),
            IdColumn::Text(ids) => ids.len(),
        }
    }

    /// The id of a row; none when it is null.
    pub(crate) fn get(&self, row: usize) -> Option<Id<'a>> {
        match self {
            IdColumn::Signed(ids) => ids.is_valid(row).then(|| Id::Signed(ids.value(row))),
            IdColumn::Unsigned(ids) => ids.is_valid(row).then(|| Id::Unsigned(ids.value(row))),
            IdColumn::Text(ids) => ids.is_valid(row).then(|| Id::Text(Cow::Borrowed(ids.value(row)))),
        }
    }
}
