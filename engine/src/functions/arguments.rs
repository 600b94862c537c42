//! Arguments of the sky functions: which types are taken, how columns of numbers are read without
//! copying, and what is known of an argument when a statement is planned.

use datafusion::arrow::array::{
    Array, ArrowPrimitiveType, AsArray, BinaryArray, Float64Array, Int64Array, PrimitiveArray,
};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use skyflight_sky::{Degrees, Position};

/// The type a numeric argument is coerced to.
pub(super) fn number_type(function: &str, index: usize, given: &DataType) -> Result<DataType> {
    match given {
        DataType::Dictionary(_, values) => number_type(function, index, values),
        _ if given.is_numeric() || given.is_null() => Ok(DataType::Float64),
        _ => plan_err!("{function} takes numbers, but argument {} is {given}; cast it to DOUBLE", index + 1),
    }
}

/// The type an integer argument (an order, an index) is coerced to.
pub(super) fn integer_type(function: &str, index: usize, given: &DataType) -> Result<DataType> {
    if given.is_integer() || given.is_null() {
        return Ok(DataType::Int64);
    }
    plan_err!("{function} takes a whole number as argument {}, not {given}; cast it to BIGINT", index + 1)
}

/// All arguments of a function of numbers, `expected` saying how many there may be.
pub(super) fn number_types(
    function: &str,
    given: &[DataType],
    accepts: impl Fn(usize) -> bool,
    usage: &str,
) -> Result<Vec<DataType>> {
    if !accepts(given.len()) {
        return plan_err!("{function} does not take {} arguments; use {usage}", given.len());
    }
    given.iter().enumerate().map(|(i, t)| number_type(function, i, t)).collect()
}

/// One argument of an invocation: a constant or a column of numbers.
pub(super) enum Numbers<'a> {
    Constant(Option<f64>),
    Column(&'a Float64Array),
}

impl<'a> Numbers<'a> {
    /// Views a value that was coerced to Float64.
    pub(super) fn read(value: &'a ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Scalar(scalar) => Ok(Numbers::Constant(scalar_number(scalar))),
            ColumnarValue::Array(array) => array
                .as_primitive_opt::<Float64Type>()
                .map(Numbers::Column)
                .ok_or_else(|| wrong_type("Float64", array.data_type())),
        }
    }

    /// Views all `values`.
    pub(super) fn read_all(values: &'a [ColumnarValue]) -> Result<Vec<Self>> {
        values.iter().map(Numbers::read).collect()
    }

    /// The number in `row`, `None` for NULL.
    pub(super) fn get(&self, row: usize) -> Option<f64> {
        match self {
            Numbers::Constant(value) => *value,
            Numbers::Column(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }

    /// Whether every row has the same value.
    pub(super) fn is_constant(&self) -> bool {
        matches!(self, Numbers::Constant(_))
    }
}

/// One integer argument of an invocation.
pub(super) enum Integers<'a> {
    Constant(Option<i64>),
    Column(&'a Int64Array),
}

impl<'a> Integers<'a> {
    /// Views a value that was coerced to Int64.
    pub(super) fn read(value: &'a ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Scalar(ScalarValue::Int64(value)) => Ok(Integers::Constant(*value)),
            ColumnarValue::Scalar(other) => Err(wrong_type("Int64", &other.data_type())),
            ColumnarValue::Array(array) => array
                .as_primitive_opt::<Int64Type>()
                .map(Integers::Column)
                .ok_or_else(|| wrong_type("Int64", array.data_type())),
        }
    }

    /// The number in `row`, `None` for NULL.
    pub(super) fn get(&self, row: usize) -> Option<i64> {
        match self {
            Integers::Constant(value) => *value,
            Integers::Column(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// The type that bytes are coerced to.
pub(super) fn bytes_type(function: &str, index: usize, given: &DataType) -> Result<DataType> {
    let is_bytes = matches!(
        given,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) | DataType::Null
    );
    if is_bytes {
        return Ok(DataType::Binary);
    }
    plan_err!("{function} takes bytes as argument {}, not {given}", index + 1)
}

/// One argument of bytes.
pub(super) enum Bytes<'a> {
    Constant(Option<&'a [u8]>),
    Column(&'a BinaryArray),
}

impl<'a> Bytes<'a> {
    /// Views a value that was coerced to Binary.
    pub(super) fn read(value: &'a ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Scalar(ScalarValue::Binary(value)) => Ok(Bytes::Constant(value.as_deref())),
            ColumnarValue::Scalar(other) => Err(wrong_type("Binary", &other.data_type())),
            ColumnarValue::Array(array) => {
                array.as_binary_opt::<i32>().map(Bytes::Column).ok_or_else(|| wrong_type("Binary", array.data_type()))
            }
        }
    }

    /// The bytes in `row`, `None` for NULL.
    pub(super) fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Bytes::Constant(value) => *value,
            Bytes::Column(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// Two arguments that are a position; worked out once when both are constant.
pub(super) enum Positions<'a> {
    Constant(Option<Position>),
    Columns(&'a Numbers<'a>, &'a Numbers<'a>),
}

impl<'a> Positions<'a> {
    pub(super) fn new(ra: &'a Numbers<'a>, dec: &'a Numbers<'a>) -> Self {
        if ra.is_constant() && dec.is_constant() {
            return Positions::Constant(position(ra.get(0), dec.get(0)));
        }
        Positions::Columns(ra, dec)
    }

    /// The position in `row`; `None` for NULL and for numbers that are no position.
    pub(super) fn get(&self, row: usize) -> Option<Position> {
        match self {
            Positions::Constant(position) => *position,
            Positions::Columns(ra, dec) => position(ra.get(row), dec.get(row)),
        }
    }
}

fn position(ra: Option<f64>, dec: Option<f64>) -> Option<Position> {
    Position::new(Degrees(ra?), Degrees(dec?)).ok()
}

/// Evaluates `row` for each row, or once when all arguments are constant.
pub(super) fn map_rows<T: ArrowPrimitiveType>(
    args: &ScalarFunctionArgs,
    row: impl FnMut(usize) -> Option<T::Native>,
) -> Result<ColumnarValue> {
    let constant = is_constant(args);
    let rows = if constant { 1 } else { args.number_rows };
    let array: PrimitiveArray<T> = (0..rows).map(row).collect();
    if constant {
        return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
    }
    Ok(ColumnarValue::Array(std::sync::Arc::new(array)))
}

/// Whether an invocation has no column among its arguments.
pub(super) fn is_constant(args: &ScalarFunctionArgs) -> bool {
    args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)))
}

/// A literal's value as a number, whatever numeric type it was written in; `None` for NULL and for
/// what is not a number.
pub(crate) fn scalar_number(scalar: &ScalarValue) -> Option<f64> {
    match scalar {
        ScalarValue::Float64(value) => *value,
        ScalarValue::Boolean(value) => value.map(f64::from),
        _ if scalar.is_null() || !scalar.data_type().is_numeric() => None,
        _ => match scalar.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(value)) => value,
            _ => None,
        },
    }
}

/// The number a constant expression has, however it is spelled; `None` for NULL, and for what
/// cannot be known before the query runs.
pub(crate) fn constant_number(expr: &Expr) -> Option<f64> {
    scalar_number(&constant(expr)?)
}

/// The value of a constant expression, however it is spelled; `None` for what cannot be known
/// before the query runs.
pub(super) fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(scalar, _) => Some(scalar.clone()),
        Expr::Alias(alias) => constant(&alias.expr),
        _ if has_inputs(expr) => None,
        _ => {
            let context = SimplifyContext::default();
            let schema = std::sync::Arc::clone(context.schema());
            let simplifier = ExprSimplifier::new(context);
            let folded = simplifier.coerce(expr.clone(), &schema).and_then(|e| simplifier.simplify(e)).ok()?;
            match folded {
                Expr::Literal(scalar, _) => Some(scalar),
                _ => None,
            }
        }
    }
}

/// Whether an expression depends on rows, parameters or other queries.
pub(super) fn has_inputs(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    expr.is_volatile()
        || expr
            .exists(|e| {
                Ok(!matches!(
                    e,
                    Expr::Literal(..)
                        | Expr::Alias(_)
                        | Expr::BinaryExpr(_)
                        | Expr::Negative(_)
                        | Expr::Cast(_)
                        | Expr::TryCast(_)
                        | Expr::ScalarFunction(_)
                ))
            })
            .unwrap_or(true)
}

/// An expression without the aliases and the casts to Float64 around it.
pub(super) fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => strip(&alias.expr),
        Expr::Cast(cast) if cast.field.data_type() == &DataType::Float64 => strip(&cast.expr),
        Expr::TryCast(cast) if cast.field.data_type() == &DataType::Float64 => strip(&cast.expr),
        _ => expr,
    }
}

fn wrong_type(expected: &str, got: &DataType) -> DataFusionError {
    DataFusionError::Internal(format!("a sky function expected {expected} and was given {got}"))
}
