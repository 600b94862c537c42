//! Parameters of a statement: of which types they are, and how their values reach the plan.
//!
//! Values are put into the logical plan as literals before it is optimized, so that they prune chunks
//! like values written into the text. A parameter has the type of what it stands beside, as wide as a
//! literal would be; where nothing tells it is text, never NULL's type, to which drivers could bind
//! nothing but NULL.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use crate::schema::client_type;
use crate::{EngineError, Result};

/// What a statement gives and takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The schema of its rows.
    pub rows: SchemaRef,
    /// Its parameters in order, named `$1`, `$2`, ….
    pub parameters: SchemaRef,
}

/// The parameters of a plan that has `count` of them. `targets` are the types of the columns that its
/// rows go to, where they go to a table.
pub(crate) fn infer(plan: &LogicalPlan, count: usize, targets: &[DataType]) -> PlanResult<SchemaRef> {
    let mut types = Types(vec![None; count]);
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let whole_number = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                types.note_in(part, &schema);
                if whole_number {
                    types.note_if_untyped(part, || Some(DataType::Int64));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    types.note_outputs(plan, targets);
    let field = |(at, found): (usize, Option<DataType>)| {
        Field::new(format!("${}", at + 1), found.unwrap_or(DataType::Utf8), true)
    };
    Ok(Arc::new(Schema::new(types.0.into_iter().enumerate().map(field).collect::<Vec<_>>())))
}

/// The types found so far, by parameter.
struct Types(Vec<Option<DataType>>);

impl Types {
    fn note(&mut self, id: &str, found: &DataType) {
        let at = id.trim_start_matches('$').parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let Some(slot) = at.and_then(|at| self.0.get_mut(at)) else { return };
        let found = wide(found);
        *slot = Some(match slot.take() {
            // Used twice, beside columns of two types: what both can be compared as.
            Some(known) if known != found => type_union_resolution(&[known.clone(), found]).unwrap_or(known),
            _ => found,
        });
    }

    fn note_if_untyped(&mut self, expr: &Expr, found: impl FnOnce() -> Option<DataType>) {
        if let Some(id) = untyped(expr)
            && let Some(found) = found()
            && found != DataType::Null
        {
            self.note(id, &found);
        }
    }

    /// What one expression tells of the parameters directly in it.
    fn note_in(&mut self, expr: &Expr, schema: &DFSchema) {
        match expr {
            Expr::Placeholder(Placeholder { id, field: Some(field) }) if field.data_type() != &DataType::Null => {
                self.note(id, field.data_type());
            }
            Expr::Cast(cast) => self.note_if_untyped(&cast.expr, || Some(cast.field.data_type().clone())),
            Expr::TryCast(cast) => self.note_if_untyped(&cast.expr, || Some(cast.field.data_type().clone())),
            Expr::Negative(inner) => self.note_if_untyped(inner, || Some(DataType::Float64)),
            Expr::BinaryExpr(binary) => {
                let arithmetic = matches!(
                    binary.op,
                    Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
                );
                if arithmetic {
                    self.note_if_untyped(&binary.left, || Some(DataType::Float64));
                    self.note_if_untyped(&binary.right, || Some(DataType::Float64));
                }
            }
            Expr::Case(case) => {
                let result = expr.get_type(schema).ok();
                let branches = case.when_then_expr.iter().map(|(_, then)| then);
                for branch in branches.chain(&case.else_expr) {
                    self.note_if_untyped(branch, || result.clone());
                }
            }
            Expr::ScalarFunction(function) => {
                for (at, arg) in function.args.iter().enumerate() {
                    self.note_if_untyped(arg, || type_of_argument(function, at, schema));
                }
            }
            _ => {}
        }
    }

    /// `VALUES ($1, …)` and `SELECT $1` on their way into a table.
    fn note_outputs(&mut self, plan: &LogicalPlan, targets: &[DataType]) {
        let rows: Vec<&Vec<Expr>> = match plan {
            LogicalPlan::Values(values) => values.values.iter().collect(),
            LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                LogicalPlan::Values(values) => values.values.iter().collect(),
                _ => vec![&projection.expr],
            },
            _ => Vec::new(),
        };
        for row in rows {
            for (expr, target) in row.iter().zip(targets) {
                let expr = if let Expr::Alias(alias) = expr { &alias.expr } else { expr };
                self.note_if_untyped(expr, || Some(target.clone()));
            }
        }
    }
}

/// The name of a parameter of which the planner does not know the type.
fn untyped(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Placeholder(Placeholder { id, field }) if field.as_ref().is_none_or(|f| f.data_type().is_null()) => {
            Some(id)
        }
        _ => None,
    }
}

/// The first type that the function takes as it is in this place: that of another argument, else a
/// number, else text.
fn type_of_argument(function: &ScalarFunction, at: usize, schema: &DFSchema) -> Option<DataType> {
    let known: Vec<Option<DataType>> =
        function.args.iter().map(|arg| if untyped(arg).is_some() { None } else { arg.get_type(schema).ok() }).collect();
    let beside = known.iter().flatten().find(|data_type| !data_type.is_null()).map(wide);
    let plain = [DataType::Float64, DataType::Int64, DataType::Utf8];
    let candidates: Vec<DataType> = beside.into_iter().chain(plain).collect();
    // Of the other parameters nothing is known either; whatever they are, this one must be taken as it is.
    let taken_beside = |candidate: &DataType, others: &DataType| {
        let of = |(place, known): (usize, &Option<DataType>)| {
            let unknown = if place == at { candidate } else { others };
            Arc::new(Field::new("", known.as_ref().unwrap_or(unknown).clone(), true))
        };
        let fields: Vec<FieldRef> = known.iter().enumerate().map(of).collect();
        let taken = fields_with_udf(&fields, function.func.as_ref()).ok()?;
        taken.get(at).map(|field| client_type(field.data_type()))
    };
    let fits = |candidate: &&DataType| {
        std::iter::once(*candidate)
            .chain(&candidates)
            .any(|others| taken_beside(candidate, others).as_ref() == Some(*candidate))
    };
    candidates.iter().find(fits).cloned()
}

/// As wide as a literal is: `mag <= 20.1` must mean the same whether the number is written or bound.
fn wide(data_type: &DataType) -> DataType {
    match client_type(data_type) {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            DataType::Int64
        }
        DataType::Float32 => DataType::Float64,
        other => other,
    }
}

/// A row of NULLs of these types: enough to know the schema of a statement's rows.
pub(crate) fn nulls(parameters: &SchemaRef) -> PlanResult<RecordBatch> {
    let columns = parameters.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    Ok(RecordBatch::try_new_with_options(Arc::clone(parameters), columns, &options)?)
}

/// Puts one row of values into a plan.
pub(crate) fn bind(plan: LogicalPlan, values: &RecordBatch, row: usize) -> PlanResult<LogicalPlan> {
    let values = values.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
    plan.with_param_values(values.collect::<PlanResult<Vec<ScalarValue>>>()?)
}

/// The values as the types of the parameters. Columns count by their order; drivers give them any names.
///
/// # Errors
/// `Invalid` when there are more or fewer columns than parameters, or a value is none of its
/// parameter's type, with the parameter and its type.
pub fn cast_values(values: &RecordBatch, parameters: &SchemaRef) -> Result<RecordBatch> {
    let (wanted, given) = (parameters.fields().len(), values.num_columns());
    if wanted != given {
        return Err(EngineError::Invalid(format!(
            "the statement has {wanted} parameters, but {given} values are bound to it"
        )));
    }
    let columns = parameters.fields().iter().zip(values.columns()).map(|(field, column)| cast_column(field, column));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(parameters), columns, &options)
        .map_err(|e| EngineError::Internal(format!("bound values do not fit their types: {e}")))
}

fn cast_column(field: &Field, column: &ArrayRef) -> Result<ArrayRef> {
    let (from, to) = (column.data_type(), field.data_type());
    if from == to {
        return Ok(Arc::clone(column));
    }
    if from.is_null() {
        return Ok(new_null_array(to, column.len()));
    }
    let refuse = |why: String| {
        EngineError::Invalid(format!(
            "parameter {} is {to}, and a bound value of type {from} is not: {why}",
            field.name()
        ))
    };
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(column, to, &strict).map_err(|e| refuse(e.to_string()))?;
    // 2.5 is no whole number, and must not silently become 2.
    if from.is_floating() && to.is_integer() {
        let back = cast_with_options(&cast, from, &strict).map_err(|e| refuse(e.to_string()))?;
        if back.to_data() != column.to_data() {
            return Err(refuse("it has a fraction".to_owned()));
        }
    }
    Ok(cast)
}
