//! The same query in forms that can be divided among workers, where those of the merge plan cannot.
//!
//! - `x NOT IN (SELECT y …)` gives nothing where any `y` is NULL, and a NULL `x` only where there is no
//!   `y`. No worker sees all `y`, so that is asked first, as the value of a sub-query, and becomes a
//!   condition on `x`; what is left is a join that looks at one key at a time.
//! - `count(DISTINCT a), count(DISTINCT b)` of all rows would hold all values in one place. Rows are
//!   grouped by `a` and, once more, by `b`; then the groups are counted. Sums, extremes and counts beside
//!   them are put together from those of the groups by the first.
//!
//! Runs on the optimized plan, of which nothing is simplified afterwards.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result, ScalarValue};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, GroupingSet};
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Distinct, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, lit, scalar_subquery, when,
};

use crate::plan::local::ChunkLocal;
use crate::spherical::SphericalJoin;
use crate::steady::{is_plain_aggregate, is_steady};

/// Of more different arguments than these, rows would be grouped too many times.
const MOST_DISTINCT: usize = 8;

/// See the module; what is in no such form stays as it is.
pub(super) fn divisible(plan: LogicalPlan) -> Result<LogicalPlan> {
    let divided = plan.transform_up(|node| {
        let other = match &node {
            LogicalPlan::Join(join) => not_in(join)?,
            LogicalPlan::Aggregate(aggregate) => count_distinct(aggregate)?,
            _ => None,
        };
        Ok(other.map_or_else(|| Transformed::no(node), Transformed::yes))
    })?;
    Ok(divided.data)
}

fn not_in(join: &Join) -> Result<Option<LogicalPlan>> {
    let [(key, other)] = join.on.as_slice() else { return Ok(None) };
    let is_one = join.null_aware && join.join_type == JoinType::LeftAnti && join.filter.is_none();
    if !is_one || !gives_the_same_again(&join.right)? {
        return Ok(None);
    }
    let counted = LogicalPlanBuilder::from(join.right.as_ref().clone())
        .aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64)).alias("all"), count(other.clone()).alias("known")])?;
    let (all, known) = (Expr::Column(Column::from_name("all")), Expr::Column(Column::from_name("known")));
    // True where every row is wanted, false where none is, NULL where those with a key are.
    let wanted = when(all.clone().eq(lit(0_i64)), lit(true))
        .when(known.lt(all), lit(false))
        .otherwise(lit(ScalarValue::Boolean(None)))?;
    let wanted = scalar_subquery(Arc::new(counted.project(vec![wanted.alias("wanted")])?.build()?));
    let wanted = when(wanted.clone().is_null(), key.clone().is_not_null()).otherwise(wanted)?;
    let left = LogicalPlan::Filter(Filter::try_new(wanted, Arc::clone(&join.left))?);
    Ok(Some(LogicalPlan::Join(Join { left: Arc::new(left), null_aware: false, ..join.clone() })))
}

/// True for a plan that gives the same rows, in some order, whenever it is run on the same snapshots.
fn gives_the_same_again(plan: &LogicalPlan) -> Result<bool> {
    let mut same = true;
    plan.apply(|node| {
        same &= match node {
            LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
            LogicalPlan::Sort(sort) => sort.fetch.is_none(),
            LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.iter().all(is_plain_aggregate),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                match (node.downcast_ref::<ChunkLocal>(), node.downcast_ref::<SphericalJoin>()) {
                    (Some(local), _) => gives_the_same_again(&local.plan)?,
                    // Of rows equally near any may be left.
                    (_, Some(join)) => join.wanted.is_none(),
                    _ => false,
                }
            }
            LogicalPlan::Filter(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Distinct(Distinct::All(_))
            | LogicalPlan::Values(_)
            | LogicalPlan::EmptyRelation(_) => true,
            _ => false,
        };
        same &= node.expressions().iter().all(is_steady);
        Ok(if same { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(same)
}

/// One aggregate among those of all rows.
enum Part {
    /// The count of different values of one of the arguments.
    Distinct(usize),
    /// What is put together from the groups' own, and whether it is a count.
    Whole { combine: Arc<AggregateUDF>, is_count: bool },
}

/// The aggregates of all rows, taken apart.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    /// What different values are counted of.
    distinct: Vec<Expr>,
    /// Columns of the rows for the groups' own aggregates, which follow.
    columns: Vec<Expr>,
    own: Vec<Expr>,
}

impl Parts {
    /// Adds an aggregate; `None` for one that is not of the kinds that are known.
    fn add(&mut self, expr: &Expr) -> Result<Option<()>> {
        let function = match expr {
            Expr::Alias(alias) => return self.add(&alias.expr),
            Expr::AggregateFunction(function) => function,
            _ => return Ok(None),
        };
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = &function.params;
        let [argument] = args.as_slice() else { return Ok(None) };
        let name = function.func.name();
        if !order_by.is_empty() || null_treatment.is_some() {
            return Ok(None);
        }
        if *distinct && !matches!(name, "min" | "max") {
            if name != "count" {
                return Ok(None);
            }
            let counted = match filter {
                Some(filter) => when(filter.as_ref().clone(), argument.clone()).end()?,
                None => argument.clone(),
            };
            let known = self.distinct.iter().position(|other| *other == counted);
            self.parts.push(Part::Distinct(known.unwrap_or(self.distinct.len())));
            if known.is_none() {
                self.distinct.push(counted);
            }
            return Ok(Some(()));
        }
        let combine = match name {
            "count" | "sum" => sum_udaf(),
            "min" => min_udaf(),
            "max" => max_udaf(),
            _ => return Ok(None),
        };
        let number = self.own.len();
        let mut column = |what: &str, expr: &Expr| {
            let name = format!("{what}_{number}");
            self.columns.push(expr.clone().alias(&name));
            Expr::Column(Column::from_name(name))
        };
        let argument = column("value", argument);
        let filter = filter.as_ref().map(|filter| Box::new(column("where", filter)));
        let own = aggregate(&function.func, argument, filter);
        self.own.push(own.alias(format!("own_{number}")));
        self.parts.push(Part::Whole { combine, is_count: name == "count" });
        Ok(Some(()))
    }
}

fn aggregate(function: &Arc<AggregateUDF>, argument: Expr, filter: Option<Box<Expr>>) -> Expr {
    let function = Arc::clone(function);
    Expr::AggregateFunction(AggregateFunction::new_udf(function, vec![argument], false, filter, vec![], None))
}

fn count_distinct(of_all: &Aggregate) -> Result<Option<LogicalPlan>> {
    if !of_all.group_expr.is_empty() {
        return Ok(None);
    }
    let mut taken = Parts::default();
    for expr in &of_all.aggr_expr {
        if taken.add(expr)?.is_none() {
            return Ok(None);
        }
    }
    let Parts { parts, distinct, columns, own } = taken;
    if distinct.is_empty() || distinct.len() > MOST_DISTINCT {
        return Ok(None);
    }
    let keys: Vec<Column> = (0..distinct.len()).map(|n| Column::from_name(format!("distinct_{n}"))).collect();
    let named = distinct.into_iter().zip(&keys).map(|(expr, key)| expr.alias(&key.name));
    let rows = LogicalPlanBuilder::from(of_all.input.as_ref().clone()).project(named.chain(columns))?.build()?;
    let mut sets: Vec<Vec<Expr>> = keys.iter().map(|key| vec![Expr::Column(key.clone())]).collect();
    let by = match sets.len() {
        1 => sets.pop().unwrap_or_default(),
        _ => vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))],
    };
    let groups = Aggregate::try_new(Arc::new(rows), by, own)?;
    let by_first = of_first_set(&groups, keys.len())?;
    let mut number = 0;
    let totals = parts.iter().enumerate().map(|(at, part)| {
        let total = match part {
            // In the groups of the other sets it is NULL.
            Part::Distinct(key) => aggregate(&count_udaf(), Expr::Column(keys[*key].clone()), None),
            Part::Whole { combine, .. } => {
                let own = Expr::Column(Column::from_name(format!("own_{number}")));
                number += 1;
                aggregate(combine, own, by_first.clone().map(Box::new))
            }
        };
        total.alias(format!("total_{at}"))
    });
    let totals = totals.collect::<Vec<Expr>>();
    let totals = Aggregate::try_new(Arc::new(LogicalPlan::Aggregate(groups)), vec![], totals)?;
    // The names by which the nodes above know them.
    let names = parts.iter().enumerate().map(|(at, part)| {
        let (qualifier, field) = of_all.schema.qualified_field(at);
        let total = Expr::Column(Column::from_name(format!("total_{at}")));
        let total = match part {
            // No rows have no groups. In this form the planner knows that it is never NULL.
            Part::Whole { is_count: true, .. } => when(total.clone().is_not_null(), total).otherwise(lit(0_i64))?,
            _ => total,
        };
        Ok(total.alias_qualified(qualifier.cloned(), field.name()))
    });
    let names = names.collect::<Result<Vec<Expr>>>()?;
    let plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(totals)).project(names)?.build()?;
    // The sum of sums of some types is of another type.
    let mut types = plan.schema().fields().iter().zip(of_all.schema.fields());
    let same = types.all(|(a, b)| a.data_type() == b.data_type() && a.is_nullable() == b.is_nullable());
    Ok(same.then_some(plan))
}

/// What is true of the groups by the first of so many keys; `None` where there are no others.
fn of_first_set(groups: &Aggregate, keys: usize) -> Result<Option<Expr>> {
    if keys == 1 {
        return Ok(None);
    }
    // One bit for each key that a group is not by, the first key's the highest.
    let id = ScalarValue::UInt64(Some((1 << (keys - 1)) - 1));
    let name = Aggregate::INTERNAL_GROUPING_ID;
    let kind = groups.schema.field_with_unqualified_name(name)?.data_type();
    Ok(Some(Expr::Column(Column::from_name(name)).eq(lit(id.cast_to(kind)?))))
}
