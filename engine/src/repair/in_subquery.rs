//! `x IN (SELECT y …)` is neither true nor false where x, or a y and no other, is NULL.
//!
//! DataFusion gets that right for an IN that is a condition by itself, which becomes a semi join, and
//! for a NOT IN by itself whose sub-query stands alone, an anti join that heeds NULL. Everywhere else,
//! below OR and NOT and where a NOT IN names columns of the query around it, its joins know no third
//! value; and it has no plan for an IN that is a value, as in a SELECT list. There the sub-query is
//! written as EXISTS, which has two values as a join has.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, Result, ScalarValue, Spans};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, find_out_reference_exprs, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, lit, not, when,
};
use datafusion::optimizer::AnalyzerRule;

/// Rewrites the IN sub-queries whose third truth value would be lost.
#[derive(Debug)]
pub(crate) struct InSubqueryRule;

impl AnalyzerRule for InSubqueryRule {
    fn name(&self) -> &'static str {
        "in_subquery_with_nulls"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = AliasGenerator::new();
        plan.transform_up_with_subqueries(|plan| {
            let LogicalPlan::Filter(filter) = plan else { return valued(plan, &names) };
            if !has_in_subquery(&filter.predicate)? {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            let conditions = split_conjunction_owned(filter.predicate)
                .into_iter()
                .map(|condition| rewritten(condition, filter.input.schema(), &names))
                .collect::<Result<Vec<_>>>()?;
            let predicate = conjunction(conditions).unwrap_or_else(|| lit(true));
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
        })
        .data()
    }
}

/// Any other node, where IN is no condition but a value.
fn valued(plan: LogicalPlan, names: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    let gives_values = matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_));
    let [input] = plan.inputs()[..] else { return Ok(Transformed::no(plan)) };
    if !gives_values {
        return Ok(Transformed::no(plan));
    }
    let schema = Arc::clone(input.schema());
    let preserved = NamePreserver::new(&plan);
    let rewritten = plan.map_expressions(|expr| {
        if !has_in_subquery(&expr)? {
            return Ok(Transformed::no(expr));
        }
        let name = preserved.save(&expr);
        let expr = all_three_valued(expr, &schema, names)?;
        Ok(Transformed::yes(name.restore(expr)))
    })?;
    if rewritten.transformed { rewritten.map_data(LogicalPlan::recompute_schema) } else { Ok(rewritten) }
}

fn all_three_valued(expr: Expr, schema: &DFSchema, names: &AliasGenerator) -> Result<Expr> {
    expr.transform_up(|e| match e {
        Expr::InSubquery(found) => three_valued(found, schema, names).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

fn has_in_subquery(expr: &Expr) -> Result<bool> {
    expr.exists(|e| Ok(matches!(e, Expr::InSubquery(_))))
}

/// One of the conditions that all must be true.
fn rewritten(condition: Expr, schema: &DFSchema, names: &AliasGenerator) -> Result<Expr> {
    let condition = match condition {
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(inner) => Expr::InSubquery(InSubquery { negated: !inner.negated, ..inner }),
            other => not(other),
        },
        other => other,
    };
    match condition {
        Expr::InSubquery(only) if !only.negated || only.subquery.outer_ref_columns.is_empty() => {
            Ok(Expr::InSubquery(named_apart(only, names)?))
        }
        other => all_three_valued(other, schema, names),
    }
}

/// The same with EXISTS.
fn three_valued(found: InSubquery, schema: &DFSchema, names: &AliasGenerator) -> Result<Expr> {
    // What names a query still further out is for the planner to refuse.
    if found.expr.contains_outer() || found.expr.is_volatile() {
        return Ok(Expr::InSubquery(found));
    }
    // Under a name of its own: the query around may read the same table, and the planner would take one
    // column for the other.
    let name = names.next("in_subquery");
    let rows = listed_as(&found.subquery.subquery, &name)?;
    let listed_may_be_null = rows.schema().field(0).is_nullable();
    let listed = Expr::Column(Column::new_unqualified(name));
    let subquery = Subquery { subquery: Arc::new(rows), ..found.subquery };
    let value_may_be_null = found.expr.nullable(schema)?;
    let outer_value = seen_from_within((*found.expr).clone(), schema)?;
    let matches = exists(&subquery, Some(outer_value.eq(listed.clone())))?;
    let mut unknown = Vec::new();
    if value_may_be_null {
        unknown.push(found.expr.as_ref().clone().is_null().and(exists(&subquery, None)?));
    }
    if listed_may_be_null {
        unknown.push(exists(&subquery, Some(listed.is_null()))?);
    }
    let is_in = match unknown.into_iter().reduce(Expr::or) {
        None => matches,
        Some(unknown) => {
            let neither = Expr::Literal(ScalarValue::Boolean(None), None);
            when(matches, lit(true)).when(unknown, neither).otherwise(lit(false))?
        }
    };
    Ok(if found.negated { not(is_in) } else { is_in })
}

/// The rows of a sub-query with its one column under a name.
///
/// The name is put into the sub-query's own projection: a cast has the name of what it casts, and beside
/// it the planner puts columns that the sub-query compares with those of the query around.
fn listed_as(rows: &LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let (listed, input) = match rows {
        LogicalPlan::Projection(Projection { expr, input, .. }) if expr.len() == 1 => {
            (expr[0].clone().unalias(), Arc::clone(input))
        }
        other => (Expr::Column(Column::from(other.schema().qualified_field(0))), Arc::new(other.clone())),
    };
    LogicalPlanBuilder::from(input).project([listed.alias(name)])?.build()
}

/// The sub-query of an IN that stays one; see [`listed_as`].
fn named_apart(found: InSubquery, names: &AliasGenerator) -> Result<InSubquery> {
    let is_computed = match found.subquery.subquery.as_ref() {
        LogicalPlan::Projection(projection) => !matches!(projection.expr.as_slice(), [Expr::Column(_)]),
        _ => false,
    };
    if !is_computed || found.subquery.outer_ref_columns.is_empty() {
        return Ok(found);
    }
    let rows = listed_as(&found.subquery.subquery, &names.next("in_subquery"))?;
    Ok(InSubquery { subquery: Subquery { subquery: Arc::new(rows), ..found.subquery }, ..found })
}

/// EXISTS of the sub-query's rows that pass `condition`.
fn exists(subquery: &Subquery, condition: Option<Expr>) -> Result<Expr> {
    let mut outer_ref_columns = subquery.outer_ref_columns.clone();
    let mut rows = subquery.subquery.as_ref().clone();
    if let Some(condition) = condition {
        let named = find_out_reference_exprs(&condition);
        outer_ref_columns.extend(named.into_iter().filter(|column| !subquery.outer_ref_columns.contains(column)));
        rows = LogicalPlanBuilder::from(rows).filter(condition)?.build()?;
    }
    let subquery = Subquery { subquery: Arc::new(rows), outer_ref_columns, spans: Spans::new() };
    Ok(Expr::Exists(Exists { subquery, negated: false }))
}

/// An expression of the query around as a sub-query names it.
fn seen_from_within(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    expr.transform_up(|e| match e {
        Expr::Column(column) => {
            let field = Arc::clone(schema.field_from_column(&column)?);
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}
