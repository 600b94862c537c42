//! Bounds what the planner makes of a statement by writing parts of it twice.
//!
//! The optimizer turns `x BETWEEN a AND b` into two comparisons of x, `coalesce(x, y)` into a CASE
//! over x, plans subqueries of subqueries again, and puts a WITH entry wherever it is named; what
//! [`crate::repair`] writes out for it holds parts several times, too. Each is harmless alone and doubles at every
//! level of nesting: 25 levels of BETWEEN plan for an hour.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, GroupByExpr, ObjectName, ObjectNamePart, Query, Select, TableFactor, Visit,
    Visitor, visit_expressions,
};

use super::SqlLimits;
use crate::error::EngineError;
use crate::repair::ROWS_COMPARED;

/// Expressions that may be added by writing others twice.
const COPIES_LIMIT: u64 = 20_000;
/// Combinations of grouping columns of one GROUP BY with CUBE, ROLLUP or GROUPING SETS.
const GROUPINGS_LIMIT: u64 = 1_024;

/// Refuses a query that grows too far when it is planned.
pub(super) fn check(query: &Query, limits: &SqlLimits) -> Result<(), EngineError> {
    let mut expander = Expander {
        limits,
        nodes: vec![0],
        copies: 0,
        tables: vec![0],
        entries: HashMap::new(),
        tables_of: HashMap::new(),
    };
    match query.visit(&mut expander) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Expander<'a> {
    limits: &'a SqlLimits,
    /// Expressions below each open expression, copies counted; literals weigh nothing.
    nodes: Vec<u64>,
    copies: u64,
    /// Tables below each open query, WITH entries counted wherever they are named.
    tables: Vec<u64>,
    /// Address of the query of each WITH entry met, and its name.
    entries: HashMap<usize, String>,
    tables_of: HashMap<String, u64>,
}

impl Visitor for Expander<'_> {
    type Break = EngineError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<EngineError> {
        for entry in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.entries.insert(address(&entry.query), entry.alias.name.value.to_lowercase());
        }
        self.tables.push(0);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<EngineError> {
        let tables = self.tables.pop().unwrap_or_default();
        match self.entries.remove(&address(query)) {
            // Counted where it is named.
            Some(name) => {
                self.tables_of.insert(name, tables);
                ControlFlow::Continue(())
            }
            None => self.add_tables(tables),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<EngineError> {
        match table {
            TableFactor::Table { name, .. } => {
                let tables = self.tables_in(name);
                self.add_tables(tables)
            }
            _ => self.add_tables(1),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<EngineError> {
        let GroupByExpr::Expressions(items, _) = &select.group_by else {
            return ControlFlow::Continue(());
        };
        let groupings = items.iter().map(groupings_of).fold(1_u64, u64::saturating_mul);
        if groupings > GROUPINGS_LIMIT {
            return ControlFlow::Break(EngineError::TooLarge(format!(
                "the GROUP BY asks for {groupings} combinations of columns; at most {GROUPINGS_LIMIT} are planned"
            )));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<EngineError> {
        self.nodes.push(0);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<EngineError> {
        let below = self.nodes.pop().unwrap_or_default();
        let own = u64::from(!matches!(expr, Expr::Value(_)));
        let written_again = copies(expr, below);
        self.copies = self.copies.saturating_add(written_again);
        if let Some(parent) = self.nodes.last_mut() {
            *parent = parent.saturating_add(below).saturating_add(written_again).saturating_add(own);
        }
        if self.copies > COPIES_LIMIT {
            return ControlFlow::Break(EngineError::TooLarge(
                "subqueries, BETWEEN, IS DISTINCT FROM, coalesce or rows such as (a, b) are nested too deeply in each other; \
                 name the inner parts in subqueries of FROM"
                    .to_owned(),
            ));
        }
        ControlFlow::Continue(())
    }
}

impl Expander<'_> {
    fn tables_in(&self, name: &ObjectName) -> u64 {
        match name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] => {
                self.tables_of.get(&ident.value.to_lowercase()).copied().unwrap_or_default().max(1)
            }
            _ => 1,
        }
    }

    fn add_tables(&mut self, more: u64) -> ControlFlow<EngineError> {
        let Some(tables) = self.tables.last_mut() else {
            return ControlFlow::Continue(());
        };
        *tables = tables.saturating_add(more);
        if *tables > self.limits.tables as u64 {
            return ControlFlow::Break(EngineError::TooLarge(format!(
                "the statement reads more than {} tables, WITH entries counted wherever they are named; split it",
                self.limits.tables
            )));
        }
        ControlFlow::Continue(())
    }
}

/// How much is added to an expression with `below` others in it: by the optimizer, as measured, and by what
/// [`crate::repair`] writes out.
fn copies(expr: &Expr, below: u64) -> u64 {
    match expr {
        Expr::Between { .. }
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::Subquery(_)
        | Expr::Exists { .. } => below,
        // Three sub-queries where NULL is told from false.
        Expr::InSubquery { .. } => below.saturating_mul(2),
        Expr::InList { expr: row, list, .. } if is_row(row) => {
            let row = below.saturating_sub(weight(list));
            // A long list becomes a table, and each value of the row is compared with its column.
            let times = if list.len() <= ROWS_COMPARED { list.len() as u64 } else { 4 };
            row.saturating_mul(times)
        }
        Expr::BinaryOp { left, op, right } if is_row(left) && is_row(right) => match op {
            BinaryOperator::Eq | BinaryOperator::NotEq => 0,
            _ => below,
        },
        Expr::Case { operand: Some(_), .. } => below,
        Expr::Function(Function { name, .. }) if is_written_twice(name) => below,
        _ => 0,
    }
}

fn is_row(expr: &Expr) -> bool {
    matches!(expr, Expr::Tuple(_))
}

fn is_written_twice(function: &ObjectName) -> bool {
    function.0.last().and_then(ObjectNamePart::as_ident).is_some_and(|name| {
        ["coalesce", "nvl", "ifnull", "nvl2", "nullif"].iter().any(|twice| name.value.eq_ignore_ascii_case(twice))
    })
}

/// What expressions weigh that are written once.
fn weight(exprs: &[Expr]) -> u64 {
    let mut weight = 0;
    for expr in exprs {
        let _ = visit_expressions(expr, |expr| {
            weight += u64::from(!matches!(expr, Expr::Value(_)));
            ControlFlow::<()>::Continue(())
        });
    }
    weight
}

fn groupings_of(item: &Expr) -> u64 {
    match item {
        Expr::Cube(columns) => 1_u64.checked_shl(u32::try_from(columns.len()).unwrap_or(u32::MAX)).unwrap_or(u64::MAX),
        Expr::Rollup(columns) => columns.len() as u64 + 1,
        Expr::GroupingSets(sets) => sets.len() as u64,
        _ => 1,
    }
}

fn address(query: &Query) -> usize {
    std::ptr::from_ref(query).addr()
}
