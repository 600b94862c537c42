//! Sub-queries that give one value, in a shuffled query.
//!
//! What they give is known on the coordinator only, and a stage knows nothing that does not travel with
//! it. So they are asked first, the rest is planned with their values as literals, and that is cut into
//! stages. Until then, for EXPLAIN, functions without a meaning take their place.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility,
};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;

use crate::dispatch::QueryContext;
use crate::interrupt::protect;

/// A query that can be planned once its sub-queries have been asked.
#[derive(Debug)]
pub(super) struct Asking {
    /// The query with a function in the place of each sub-query.
    query: LogicalPlan,
    questions: Vec<Question>,
    /// The session in which the query is planned.
    state: SessionState,
}

/// A sub-query of one value.
#[derive(Debug)]
struct Question {
    plan: Arc<dyn ExecutionPlan>,
    place: Arc<ScalarUDF>,
    kind: DataType,
}

impl Asking {
    /// Takes the sub-queries out of a query; `None` where it has none. It will be planned in `state`, and
    /// they are in `merged`: the coordinator merges what they read.
    pub(super) async fn of(
        query: &LogicalPlan,
        state: &SessionState,
        merged: &SessionState,
    ) -> Result<Option<Arc<Asking>>> {
        let mut found: Vec<Subquery> = Vec::new();
        let query = replaced(query.clone(), |expr| match expr {
            Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => {
                // The same question is asked once, as on the coordinator.
                let number = found.iter().position(|other| other == subquery).unwrap_or(found.len());
                if number == found.len() {
                    found.push(subquery.clone());
                }
                Some(Place::of(number, subquery).call(vec![]))
            }
            _ => None,
        })?;
        if found.is_empty() {
            return Ok(None);
        }
        let mut questions = Vec::with_capacity(found.len());
        for (number, subquery) in found.iter().enumerate() {
            let plan = merged.query_planner().create_physical_plan(&subquery.subquery, merged).await?;
            let place = Place::of(number, subquery);
            questions.push(Question { plan, place: Arc::new(place), kind: kind_of(subquery) });
        }
        Ok(Some(Arc::new(Asking { query, questions, state: state.clone() })))
    }

    /// The query as it would be planned, whatever the sub-queries give; it cannot run.
    pub(super) async fn unasked(&self) -> Result<Arc<dyn ExecutionPlan>> {
        self.planned(&self.query).await
    }

    /// The functions that stand in the place of sub-queries.
    pub(super) fn places(&self) -> impl Iterator<Item = &Arc<ScalarUDF>> {
        self.questions.iter().map(|question| &question.place)
    }

    /// Asks the sub-queries and plans the query with their values.
    pub(super) async fn asked(
        &self,
        query: &QueryContext,
        context: &Arc<TaskContext>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut values = Vec::with_capacity(self.questions.len());
        for question in &self.questions {
            values.push(question.ask(query, context).await?);
        }
        let value = |expr: &Expr| {
            let Expr::ScalarFunction(call) = expr else { return None };
            let number = self.places().position(|place| *place == call.func)?;
            Some(Expr::Literal(values[number].clone(), None))
        };
        self.planned(&replaced(self.query.clone(), value)?).await
    }

    async fn planned(&self, query: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        self.state.query_planner().create_physical_plan(query, &self.state).await
    }
}

impl Question {
    async fn ask(&self, query: &QueryContext, context: &Arc<TaskContext>) -> Result<ScalarValue> {
        let plan = protect(reset_plan_states(Arc::clone(&self.plan))?, &query.cancel)?;
        let mut rows = execute_stream(plan, Arc::clone(context))?;
        let mut value = None;
        while let Some(batch) = rows.try_next().await? {
            if batch.num_rows() + usize::from(value.is_some()) > 1 {
                return exec_err!("Scalar subquery returned more than one row");
            }
            if batch.num_rows() == 1 {
                value = Some(ScalarValue::try_from_array(batch.column(0), 0)?.cast_to(&self.kind)?);
            }
        }
        value.map_or_else(|| ScalarValue::try_from(&self.kind), Ok)
    }
}

fn kind_of(subquery: &Subquery) -> DataType {
    subquery.subquery.schema().field(0).data_type().clone()
}

/// The plan with some of its expressions replaced; what they are called stays.
fn replaced(plan: LogicalPlan, mut by: impl FnMut(&Expr) -> Option<Expr>) -> Result<LogicalPlan> {
    plan.transform_up(|node| {
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| {
                let other = by(&expr);
                Ok(other.map_or_else(|| Transformed::no(expr), Transformed::yes))
            })?;
            Ok(match expr.transformed {
                true => expr.update_data(|expr| name.restore(expr)),
                false => expr,
            })
        })?;
        // A value may be known not to be NULL, and so is what is made of it above.
        Ok(Transformed::yes(node.data.recompute_schema()?))
    })
    .data()
}

/// Stands where the value of a sub-query will be.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    name: String,
    signature: Signature,
    kind: DataType,
}

impl Place {
    fn of(number: usize, subquery: &Subquery) -> ScalarUDF {
        // Not immutable: nothing is to be computed of it when the query is planned.
        ScalarUDF::new_from_impl(Place {
            name: format!("value_of_subquery_{}", number + 1),
            signature: Signature::nullary(Volatility::Stable),
            kind: kind_of(subquery),
        })
    }
}

impl ScalarUDFImpl for Place {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.kind.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("a stage asks for {}, which was to be put in before", self.name)
    }
}
