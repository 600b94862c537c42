//! The logical node of a join of rows that lie near each other.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Fields, Schema};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DFSchemaRef, JoinSide, JoinType, NullEquality, Result, internal_err};
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, SortExpr, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;

use super::best::Best;
use super::condition::{Nearness, nearness};
use super::exec::{PlaceExprs, Residual, SphericalJoinExec, SphericalJoinSpec};
use super::nearest::Wanted;

/// A join on a condition that keeps its sides near each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SphericalJoin {
    pub(crate) left: LogicalPlan,
    pub(crate) right: LogicalPlan,
    pub(crate) join_type: JoinType,
    /// The whole condition of the join.
    pub(crate) condition: Expr,
    /// What the condition says of the positions.
    pub(crate) near: Nearness,
    /// The only pairs that anything above looks at.
    pub(crate) wanted: Option<Wanted>,
    schema: DFSchemaRef,
}

/// Plans an expression over the columns of a schema.
pub(crate) type PhysicalExprPlanner<'a> = dyn Fn(&Expr, &DFSchema) -> Result<Arc<dyn PhysicalExpr>> + 'a;

/// Replaces every join that can be one by a [`SphericalJoin`], also inside sub-queries.
///
/// A join on equal keys stays what it is: keys find partners faster than places do.
pub(crate) fn plan_spherical_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match SphericalJoin::of(&join)? {
            Some(spherical) => Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(spherical) }))),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })
    .map(|planned| planned.data)
}

impl SphericalJoin {
    fn of(join: &Join) -> Result<Option<SphericalJoin>> {
        let marks = matches!(join.join_type, JoinType::LeftMark | JoinType::RightMark);
        if marks || !join.on.is_empty() || join.null_aware || join.null_equality == NullEquality::NullEqualsNull {
            return Ok(None);
        }
        let Some(condition) = &join.filter else { return Ok(None) };
        let Some(near) = nearness(condition, join.left.schema(), join.right.schema()) else { return Ok(None) };
        Ok(Some(SphericalJoin {
            left: join.left.as_ref().clone(),
            right: join.right.as_ref().clone(),
            join_type: join.join_type,
            condition: condition.clone(),
            near,
            wanted: None,
            schema: Arc::clone(&join.schema),
        }))
    }

    /// The same join where only some of its pairs are wanted.
    pub(crate) fn wanting(self, wanted: Wanted) -> SphericalJoin {
        SphericalJoin { wanted: Some(wanted), ..self }
    }

    /// The operator on planned inputs.
    pub(crate) fn physical(
        &self,
        left: &Arc<dyn ExecutionPlan>,
        right: &Arc<dyn ExecutionPlan>,
        physical: &PhysicalExprPlanner<'_>,
    ) -> Result<SphericalJoinExec> {
        let places = |position: &[Expr; 2], radius: &Option<Expr>, schema: &DFSchema| -> Result<PlaceExprs> {
            Ok(PlaceExprs {
                ra: physical(&position[0], schema)?,
                dec: physical(&position[1], schema)?,
                radius: radius.as_ref().map(|radius| physical(radius, schema)).transpose()?,
            })
        };
        let near = &self.near;
        let pairs = |expr: &Expr| self.of_pairs(expr, left, right, physical);
        let best = match &self.wanted {
            None => None,
            Some(wanted) => {
                let key = |by: &SortExpr| {
                    let way = SortOptions { descending: !by.asc, nulls_first: by.nulls_first };
                    Ok((pairs(&by.expr)?, way))
                };
                let order = wanted.order.iter().map(key).collect::<Result<Vec<_>>>()?;
                Some(Best { order, most: wanted.most, ties: wanted.ties })
            }
        };
        let spec = SphericalJoinSpec {
            join_type: self.join_type,
            condition: pairs(&self.condition)?,
            residual: match near.conjunct.map(|conjunct| self.without(conjunct)) {
                None => Residual::Unknown,
                Some(None) => Residual::Nothing,
                Some(Some(rest)) => Residual::Condition(pairs(&rest)?),
            },
            left: places(&near.left, &near.left_radius, self.left.schema())?,
            right: places(&near.right, &near.right_radius, self.right.schema())?,
            radius_deg: near.constant_deg(),
            // The side of which few pairs are wanted is not the one that is arranged.
            arranged: self.wanted.as_ref().map_or(JoinSide::Left, |wanted| wanted.of_each.negate()),
            best,
            projection: None,
            by_cell: false,
        };
        SphericalJoinExec::try_new(Arc::clone(left), Arc::clone(right), Arc::new(spec))
    }

    /// What the condition asks besides one of its conjuncts.
    fn without(&self, conjunct: usize) -> Option<Expr> {
        let all = split_conjunction(&self.condition).into_iter().enumerate();
        conjunction(all.filter(|(at, _)| *at != conjunct).map(|(_, expr)| expr.clone()))
    }

    /// An expression over the columns that it names, those of the left side first.
    fn of_pairs(
        &self,
        expr: &Expr,
        left: &Arc<dyn ExecutionPlan>,
        right: &Arc<dyn ExecutionPlan>,
        physical: &PhysicalExprPlanner<'_>,
    ) -> Result<JoinFilter> {
        let named = expr.column_refs();
        let of = |schema: &DFSchema| -> Vec<usize> {
            let mut found: Vec<usize> =
                named.iter().filter_map(|column| schema.maybe_index_of_column(column)).collect();
            found.sort_unstable();
            found
        };
        let (left_columns, right_columns) = (of(self.left.schema()), of(self.right.schema()));
        let qualified = |schema: &DFSchema, at: &usize| {
            let (qualifier, field) = schema.qualified_field(*at);
            (qualifier.cloned(), Arc::clone(field))
        };
        let fields = left_columns.iter().map(|at| qualified(self.left.schema(), at));
        let fields = fields.chain(right_columns.iter().map(|at| qualified(self.right.schema(), at)));
        let schema = DFSchema::new_with_metadata(fields.collect(), HashMap::new())?;
        let expression = physical(expr, &schema)?;
        let (left, right) = (left.schema().project(&left_columns)?, right.schema().project(&right_columns)?);
        let schema = Schema::new(left.fields().iter().chain(right.fields()).cloned().collect::<Fields>());
        let columns = JoinFilter::build_column_indices(left_columns, right_columns);
        Ok(JoinFilter::new(expression, columns, Arc::new(schema)))
    }
}

impl UserDefinedLogicalNodeCore for SphericalJoin {
    fn name(&self) -> &str {
        "SphericalJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let Nearness { left, right, left_radius, right_radius, constant: _, conjunct: _ } = &self.near;
        let radii = left_radius.iter().chain(right_radius);
        let order = self.wanted.iter().flat_map(|wanted| &wanted.order).map(|by| &by.expr);
        std::iter::once(&self.condition).chain(left).chain(right).chain(radii).chain(order).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SphericalJoin: {} on {}", self.join_type, self.condition)?;
        if let Some(wanted) = &self.wanted {
            write!(f, ", {wanted}")?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Ok([left, right]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return internal_err!("a spherical join has two inputs");
        };
        let mut exprs = exprs.into_iter();
        let mut next = || exprs.next();
        let (Some(condition), Some(ra1), Some(dec1), Some(ra2), Some(dec2)) = (next(), next(), next(), next(), next())
        else {
            return internal_err!("a spherical join has a condition and two positions");
        };
        let near = Nearness {
            left: [ra1, dec1],
            right: [ra2, dec2],
            constant: self.near.constant.clone(),
            left_radius: self.near.left_radius.as_ref().and_then(|_| next()),
            right_radius: self.near.right_radius.as_ref().and_then(|_| next()),
            conjunct: self.near.conjunct,
        };
        let wanted = self.wanted.clone().map(|wanted| Wanted {
            order: wanted.order.into_iter().map(|by| SortExpr { expr: next().unwrap_or(by.expr), ..by }).collect(),
            ..wanted
        });
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &self.join_type)?);
        Ok(SphericalJoin { left, right, join_type: self.join_type, condition, near, wanted, schema })
    }
}

impl PartialOrd for SphericalJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let order =
            (&self.left, &self.right, &self.condition).partial_cmp(&(&other.left, &other.right, &other.condition));
        order.filter(|order| *order != Ordering::Equal || self == other)
    }
}
