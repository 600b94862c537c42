//! Columns that USING and NATURAL make one of.
//!
//! The planner takes such a column from the left table, where a right or full join may have no row,
//! finds it ambiguous in WHERE, and within a sub-query prefers a column of the outer query. So it is
//! written out wherever it is named: `k` becomes `a.k`, `b.k` or `coalesce(a.k, b.k)`.

use std::ops::Range;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, JoinOperator,
    ObjectName, TableAlias, TableFactor, TableWithJoins,
};

use super::scope::Relation;
use crate::error::EngineError;

/// The tables of a FROM, and the columns their joins merged.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) relations: Vec<Relation>,
    merged: Vec<Merged>,
}

/// One column in place of several of the same name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Merged {
    pub(super) name: String,
    /// The relations, by index, whose columns it stands for; ascending.
    relations: Vec<usize>,
    /// Its value is the first of these that is not NULL.
    values: Vec<Expr>,
}

/// No tables at all.
pub(super) static NO_TABLES: Tables = Tables { relations: Vec::new(), merged: Vec::new() };

impl Tables {
    /// Adds tables that are joined to these by a comma or a nested join.
    pub(super) fn append(&mut self, other: Tables) {
        let before = self.relations.len();
        self.relations.extend(other.relations);
        self.merged.extend(other.merged.into_iter().map(|mut merged| {
            merged.relations.iter_mut().for_each(|relation| *relation += before);
            merged
        }));
    }

    /// Joins what comes before relation `right` with what comes from it on, by columns of one name.
    ///
    /// # Errors
    /// The planner would compare the first table's column, which is not what the name means.
    pub(super) fn merge(&mut self, name: &str, right: usize, operator: &JoinOperator) -> Result<(), EngineError> {
        let sides = (self.side(name, 0..right), self.side(name, right..self.relations.len()));
        // Of a column that is not there, or twice, the planner complains.
        let (Some(left), Some(right)) = sides else { return Ok(()) };
        if let Some(side) = [&left, &right].into_iter().find(|side| self.is_misread(side)) {
            return Err(EngineError::Invalid(format!(
                "USING ({name}): the column is already {} of a right or full join; join with ON",
                side.value()
            )));
        }
        let values = match operator {
            JoinOperator::Right(_)
            | JoinOperator::RightOuter(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::RightAnti(_) => right.values,
            JoinOperator::FullOuter(_) => [left.values, right.values].concat(),
            _ => left.values,
        };
        self.merged.retain(|merged| merged.name != name);
        self.merged.push(Merged {
            name: name.to_owned(),
            relations: [left.relations, right.relations].concat(),
            values,
        });
        Ok(())
    }

    /// True of a merged column whose value is not that of its first table.
    fn is_misread(&self, merged: &Merged) -> bool {
        let first = merged.relations.first().and_then(|index| self.relations[*index].column(&merged.name));
        first.is_some_and(|first| merged.values != [first])
    }

    /// The one column of a name that some of the relations give, merged or not.
    fn side(&self, name: &str, relations: Range<usize>) -> Option<Merged> {
        let holders: Vec<usize> = relations.filter(|index| self.relations[*index].has(name)).collect();
        if let Some(merged) = self.merged.iter().find(|merged| merged.name == name && merged.relations == holders) {
            return Some(merged.clone());
        }
        let [only] = holders.as_slice() else { return None };
        let column = self.relations[*only].column(name)?;
        Some(Merged { name: name.to_owned(), relations: holders, values: vec![column] })
    }

    /// The merged column that an unqualified name means, if it is one and the only one.
    pub(super) fn merged(&self, name: &str) -> Option<&Merged> {
        let holds = |index: &usize| self.relations[*index].has(name);
        let holders: Vec<usize> = (0..self.relations.len()).filter(holds).collect();
        self.merged.iter().find(|merged| merged.name == name && merged.relations == holders)
    }

    /// The merged columns that `*` would give the value of their first table, which is another.
    pub(super) fn misread_by_wildcard(&self) -> impl Iterator<Item = &Merged> {
        self.merged.iter().filter(|merged| self.is_misread(merged))
    }
}

impl Merged {
    /// The column written out.
    pub(super) fn value(&self) -> Expr {
        match self.values.as_slice() {
            [value] => value.clone(),
            values => coalesce(values),
        }
    }
}

fn coalesce(values: &[Expr]) -> Expr {
    let args = values.iter().map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value.clone()))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("coalesce")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Gives each sub-query of a FROM a name, so that its columns can be told from others of the name.
pub(super) fn name_subqueries(from: &mut TableWithJoins) {
    let factors = std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation));
    for (number, factor) in factors.enumerate() {
        if let TableFactor::Derived { alias: alias @ None, .. } = factor {
            let name = Ident::new(format!("subquery_{}", number + 1));
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
    }
}
