//! Functions of numbers that are the same for every row: one number out, or several as named fields.
//!
//! What such a function is lies in a [`Formula`] or a [`Record`]; here is what they share: any type of number is
//! taken, a row without an answer is NULL, and what is known of constants is checked when a statement is planned.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, StructArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Numbers, is_constant, map_rows, number_types, scalar_number};
use super::docs;

/// No function here takes more numbers.
const MOST_ARGUMENTS: usize = 8;
/// No record has more fields.
pub(super) const MOST_FIELDS: usize = 6;

/// The numbers of a row, `None` for NULL.
pub(super) type Row<'a> = &'a [Option<f64>];

/// What is wrong with the numbers that are known when a statement is planned, `None` for those that are not.
pub(super) type Check = fn(Row) -> Result<(), String>;

/// A function that gives one number.
pub(super) struct Formula {
    pub(super) name: &'static str,
    /// Its arguments as they are written, separated by commas.
    pub(super) parameters: &'static str,
    pub(super) check: Check,
    /// `None` gives NULL.
    pub(super) value: fn(Row) -> Option<f64>,
}

/// A function that gives several numbers, as a struct.
pub(super) struct Record {
    pub(super) name: &'static str,
    /// Its arguments as they are written, separated by commas.
    pub(super) parameters: &'static str,
    /// At most [`MOST_FIELDS`].
    pub(super) fields: &'static [&'static str],
    pub(super) check: Check,
    /// A number for each field; `None` gives NULL for the whole.
    pub(super) value: fn(Row) -> Option<[Option<f64>; MOST_FIELDS]>,
}

/// Every constant is as good as any.
pub(super) fn unchecked(_: Row) -> Result<(), String> {
    Ok(())
}

/// The numbers, where all are there and finite.
pub(super) fn finite<const N: usize>(row: Row) -> Option<[f64; N]> {
    let mut numbers = [0.0; N];
    for (number, given) in numbers.iter_mut().zip(row) {
        *number = given.filter(|n| n.is_finite())?;
    }
    (row.len() == N).then_some(numbers)
}

/// A [`Formula`] as SQL calls it.
pub(super) struct NumberFunction {
    formula: &'static Formula,
    signature: Signature,
}

impl NumberFunction {
    pub(super) fn new(formula: &'static Formula) -> Self {
        NumberFunction { formula, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NumberFunction {
    fn name(&self) -> &str {
        self.formula.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        coerced(self.formula.name, self.formula.parameters, given)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check(self.formula.name, self.formula.check, &args)?;
        Ok(Arc::new(Field::new(self.formula.name, DataType::Float64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = Numbers::read_all(&args.args)?;
        let mut row_numbers = [None; MOST_ARGUMENTS];
        map_rows::<Float64Type>(&args, |row| (self.formula.value)(fill(&mut row_numbers, &numbers, row)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.formula.name)
    }
}

/// A [`Record`] as SQL calls it.
pub(super) struct RecordFunction {
    record: &'static Record,
    fields: Fields,
    signature: Signature,
}

impl RecordFunction {
    pub(super) fn new(record: &'static Record) -> Self {
        let fields = record.fields.iter().map(|name| Field::new(*name, DataType::Float64, true)).collect();
        RecordFunction { record, fields, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RecordFunction {
    fn name(&self) -> &str {
        self.record.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        coerced(self.record.name, self.record.parameters, given)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(self.fields.clone()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check(self.record.name, self.record.check, &args)?;
        Ok(Arc::new(Field::new(self.record.name, DataType::Struct(self.fields.clone()), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = Numbers::read_all(&args.args)?;
        let constant = is_constant(&args);
        let rows = if constant { 1 } else { args.number_rows };
        let mut row_numbers = [None; MOST_ARGUMENTS];
        let mut columns: Vec<Vec<Option<f64>>> = vec![Vec::with_capacity(rows); self.fields.len()];
        let mut valid = Vec::with_capacity(rows);
        for row in 0..rows {
            let values = (self.record.value)(fill(&mut row_numbers, &numbers, row));
            valid.push(values.is_some());
            for (column, value) in columns.iter_mut().zip(values.unwrap_or_default()) {
                column.push(value);
            }
        }
        records(&self.fields, columns, valid, constant)
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.record.name)
    }
}

/// Structs of the columns, or the first as a constant.
pub(super) fn records(
    fields: &Fields,
    columns: Vec<Vec<Option<f64>>>,
    valid: Vec<bool>,
    constant: bool,
) -> Result<ColumnarValue> {
    let columns = columns.into_iter().map(|column| Arc::new(Float64Array::from(column)) as ArrayRef).collect();
    let array = StructArray::try_new(fields.clone(), columns, Some(NullBuffer::from(valid)))?;
    if constant {
        return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
    }
    Ok(ColumnarValue::Array(Arc::new(array)))
}

/// The numbers of a row.
pub(super) fn fill<'a>(buffer: &'a mut [Option<f64>], numbers: &[Numbers], row: usize) -> Row<'a> {
    for (slot, number) in buffer.iter_mut().zip(numbers) {
        *slot = number.get(row);
    }
    &buffer[..numbers.len()]
}

/// The types of all arguments, which are as many as `parameters` names.
pub(super) fn coerced(name: &str, parameters: &str, given: &[DataType]) -> Result<Vec<DataType>> {
    let count = parameters.split(',').count();
    number_types(name, given, |n| n == count, &format!("{name}({parameters})"))
}

/// Refuses constants that are of no use.
pub(super) fn check(name: &str, check: Check, args: &ReturnFieldArgs) -> Result<()> {
    let known: Vec<Option<f64>> = args.scalar_arguments.iter().map(|s| s.and_then(scalar_number)).collect();
    match check(&known) {
        Ok(()) => Ok(()),
        Err(problem) => plan_err!("{name}: {problem}"),
    }
}

macro_rules! known_by_name {
    ($function:ty, $definition:ident) => {
        impl std::fmt::Debug for $function {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.$definition.name)
            }
        }

        impl PartialEq for $function {
            fn eq(&self, other: &Self) -> bool {
                self.$definition.name == other.$definition.name
            }
        }

        impl Eq for $function {}

        impl Hash for $function {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.$definition.name.hash(state);
            }
        }
    };
}

known_by_name!(NumberFunction, formula);
known_by_name!(RecordFunction, record);
