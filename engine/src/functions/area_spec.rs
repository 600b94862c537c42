//! `qserv_areaspec_*`: a restriction of a query to an area, without naming the position columns.
//!
//! As in Qserv the function stands in WHERE and means the table that has positions; here the
//! analyzer finds that table and writes the ordinary test in its place.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, TableReference, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, Filter, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::arguments::{number_types, scalar_number};
use super::docs;
use super::footprint::Footprint;
use super::membership::PointIn;
use crate::schema::{KIND_KEY, ROLE_KEY};

/// One of Qserv's area restrictors; it has no meaning of its own outside a condition.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AreaSpec {
    name: &'static str,
    /// The function that tests a position against the same numbers.
    test: &'static str,
    footprint: Footprint,
    signature: Signature,
}

impl AreaSpec {
    pub(super) fn new(name: &'static str, test: &'static str, footprint: Footprint) -> Self {
        AreaSpec { name, test, footprint, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for AreaSpec {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let usage = format!("{}({})", self.name, self.footprint.usage());
        number_types(self.name, given, |count| self.footprint.accepts(count), &usage)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let known: Vec<Option<f64>> = args.scalar_arguments.iter().map(|s| s.and_then(scalar_number)).collect();
        if let Err(problem) = self.footprint.check(&known) {
            return plan_err!("{}: {problem}", self.name);
        }
        Ok(Arc::new(Field::new(self.name, DataType::Boolean, true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} restricts a table and belongs in WHERE; elsewhere use {}(ra, dec, …)", self.name, self.test)
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}

/// Replaces `qserv_areaspec_*` in conditions by the test of the positions of the first director
/// table in FROM, or of a child with positions of its own where there is no director.
///
/// May run before or after type coercion.
#[derive(Debug, Default)]
pub struct AreaSpecRule;

impl AnalyzerRule for AreaSpecRule {
    fn name(&self) -> &str {
        "skyflight_area_spec"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Filter(filter) => {
                let schema = Arc::clone(filter.input.schema());
                let predicate = replace(filter.predicate, &schema)?;
                Ok(Transformed::new_transformed(
                    LogicalPlan::Filter(Filter::new(predicate.data, filter.input)),
                    predicate.transformed,
                ))
            }
            LogicalPlan::Join(mut join) => {
                let Some(condition) = join.filter.take() else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
                let schema = join.left.schema().join(join.right.schema())?;
                let condition = replace(condition, &schema)?;
                join.filter = Some(condition.data);
                Ok(Transformed::new_transformed(LogicalPlan::Join(join), condition.transformed))
            }
            other => Ok(Transformed::no(other)),
        })
        .map(|transformed| transformed.data)
    }
}

fn replace(condition: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    condition.transform_up(|expr| {
        let Expr::ScalarFunction(call) = expr else { return Ok(Transformed::no(expr)) };
        let function: &dyn Any = call.func.inner().as_ref();
        let Some(area) = function.downcast_ref::<AreaSpec>() else {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        };
        let Some((ra, dec)) = restricted_position(schema) else {
            return plan_err!(
                "{}: no table in FROM has a position to restrict; use {}(ra, dec, …) on the columns that hold one",
                area.name,
                area.test
            );
        };
        let mut numbers = vec![ra, dec];
        numbers.extend(call.args.iter().cloned());
        let test = Arc::new(ScalarUDF::from(PointIn::scisql(area.test, area.footprint)));
        let test = Expr::ScalarFunction(ScalarFunction::new_udf(test, numbers));
        Ok(Transformed::yes(test.not_eq(lit(0_i32))))
    })
}

/// The position columns, as Float64, of the table an area restricts.
fn restricted_position(schema: &DFSchema) -> Option<(Expr, Expr)> {
    let mut positions: Vec<TablePosition> = Vec::new();
    for (qualifier, field) in schema.iter() {
        let Some(role) = field.metadata().get(ROLE_KEY) else { continue };
        let director = field.metadata().get(KIND_KEY).is_some_and(|kind| kind == "director");
        let known = positions.iter_mut().find(|p| p.qualifier == qualifier && p.director == director);
        let position = match known {
            Some(position) => position,
            None => {
                positions.push(TablePosition { qualifier, director, ra: None, dec: None });
                positions.last_mut()?
            }
        };
        let place = match role.as_str() {
            "ra" => &mut position.ra,
            "dec" => &mut position.dec,
            _ => continue,
        };
        place.get_or_insert_with(|| number_column(qualifier, field));
    }
    positions.retain(|p| p.ra.is_some() && p.dec.is_some());
    let chosen = positions.iter().position(|p| p.director).unwrap_or(0);
    let chosen = positions.into_iter().nth(chosen)?;
    Some((chosen.ra?, chosen.dec?))
}

struct TablePosition<'a> {
    qualifier: Option<&'a TableReference>,
    director: bool,
    ra: Option<Expr>,
    dec: Option<Expr>,
}

fn number_column(qualifier: Option<&TableReference>, field: &FieldRef) -> Expr {
    let column = Expr::Column(Column::from((qualifier, field)));
    if field.data_type() == &DataType::Float64 {
        return column;
    }
    datafusion::logical_expr::cast(column, DataType::Float64)
}
