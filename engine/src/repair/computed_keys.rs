//! `PARTITION BY abs(x) < 7` and `ORDER BY abs(x) < 7`: DataFusion sorts rows by such keys and then does not
//! recognize the order where a key is an expression of certain kinds. Here what windows are divided by is a
//! column, computed below, and so is a condition that windows or rows are ordered by.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Sort, Window};
use datafusion::optimizer::AnalyzerRule;

use super::windows;
use crate::tables::contains_subquery;

/// Computes keys of windows and sorts before them.
#[derive(Debug)]
pub(super) struct ComputedKeysRule;

impl AnalyzerRule for ComputedKeysRule {
    fn name(&self) -> &'static str {
        "computed_keys_are_columns"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = AliasGenerator::new();
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Window(window)
                if window.window_expr.iter().any(|expr| has_computed_key(expr, window.input.schema())) =>
            {
                windows_on_columns(window, &names).map(Transformed::yes)
            }
            LogicalPlan::Sort(sort) if sort.expr.iter().any(|by| is_condition(&by.expr, sort.input.schema())) => {
                sort_on_columns(sort, &names).map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

fn has_computed_key(window: &Expr, schema: &DFSchema) -> bool {
    match window {
        Expr::Alias(alias) => has_computed_key(&alias.expr, schema),
        Expr::WindowFunction(function) => {
            function.params.partition_by.iter().any(is_computed)
                || function.params.order_by.iter().any(|by| is_condition(&by.expr, schema))
        }
        _ => false,
    }
}

fn is_computed(key: &Expr) -> bool {
    !matches!(key, Expr::Column(_) | Expr::Literal(..) | Expr::OuterReferenceColumn(..))
}

fn is_condition(key: &Expr, schema: &DFSchema) -> bool {
    is_computed(key) && !contains_subquery(key) && key.get_type(schema).is_ok_and(|kind| kind == DataType::Boolean)
}

/// The columns of a node's input, and those that are computed of them.
struct Columns<'a> {
    names: &'a AliasGenerator,
    below: Vec<Expr>,
    made: Vec<(Expr, Column)>,
}

impl<'a> Columns<'a> {
    fn of(input: &LogicalPlan, names: &'a AliasGenerator) -> Self {
        let below = input.schema().columns().into_iter().map(Expr::from).collect();
        Columns { names, below, made: Vec::new() }
    }

    /// Puts a column in the place of a key.
    fn compute(&mut self, key: &mut Expr) {
        let column = match self.made.iter().find(|(known, _)| known == key) {
            Some((_, column)) => column.clone(),
            None => {
                let column = Column::new_unqualified(self.names.next("computed_key"));
                self.below.push(key.clone().alias(&column.name));
                self.made.push((key.clone(), column.clone()));
                column
            }
        };
        *key = Expr::Column(column);
    }

    fn on(self, input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
        LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(self.below)?.build()
    }
}

fn windows_on_columns(window: Window, names: &AliasGenerator) -> Result<LogicalPlan> {
    let given: Vec<Expr> = window.schema.columns().into_iter().map(Expr::from).collect();
    let schema = window.input.schema();
    let mut columns = Columns::of(&window.input, names);
    let windows = windows::changed(window.window_expr, |params| {
        params.partition_by.iter_mut().filter(|key| is_computed(key)).for_each(|key| columns.compute(key));
        let order = params.order_by.iter_mut().map(|by| &mut by.expr);
        order.filter(|key| is_condition(key, schema)).for_each(|key| columns.compute(key));
    })?;
    let input = columns.on(Arc::clone(&window.input))?;
    let window = LogicalPlan::Window(Window::try_new(windows, Arc::new(input))?);
    LogicalPlanBuilder::from(window).project(given)?.build()
}

fn sort_on_columns(mut sort: Sort, names: &AliasGenerator) -> Result<LogicalPlan> {
    let given: Vec<Expr> = sort.input.schema().columns().into_iter().map(Expr::from).collect();
    let mut columns = Columns::of(&sort.input, names);
    let schema = Arc::clone(sort.input.schema());
    let keys = sort.expr.iter_mut().map(|by| &mut by.expr);
    keys.filter(|key| is_condition(key, &schema)).for_each(|key| columns.compute(key));
    let input = columns.on(sort.input)?;
    let sort = LogicalPlan::Sort(Sort { input: Arc::new(input), ..sort });
    LogicalPlanBuilder::from(sort).project(given)?.build()
}
