//! Columns that USING and NATURAL make one of.
//!
//! The planner takes such a column from the left table, where a right or full join may have no row,
//! finds it ambiguous in WHERE, and within a sub-query prefers a column of the outer query. So it is
//! written out wherever it is named: `k` becomes `a.k`, `b.k` or `coalesce(a.k, b.k)`.

use std::ops::Range;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, JoinOperator, ObjectName, ReplaceSelectElement, ReplaceSelectItem, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, TableFactor, TableWithJoins, WildcardAdditionalOptions,
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
    /// A join by it has ON in place of USING, so that the planner does not know it is one column.
    in_on: bool,
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

    /// What is to stand in ON in place of USING of these columns; `None` where the planner compares what
    /// the names mean. It would compare the first table's column, which a right or full join on one side
    /// may have left empty.
    pub(super) fn condition_on(&self, names: &[String], right: usize) -> Option<Expr> {
        let sides = |name: &String| Some((self.side(name, 0..right)?, self.side(name, right..self.relations.len())?));
        // Of a column that is not there, or twice, the planner complains.
        let sides = names.iter().map(sides).collect::<Option<Vec<_>>>()?;
        if !sides.iter().any(|(left, right)| self.is_misread(left) || self.is_misread(right)) {
            return None;
        }
        let equal = |(left, right): (Merged, Merged)| Expr::BinaryOp {
            left: Box::new(left.value()),
            op: BinaryOperator::Eq,
            right: Box::new(right.value()),
        };
        sides.into_iter().map(equal).reduce(|left, right| Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::And,
            right: Box::new(right),
        })
    }

    /// Joins what comes before relation `right` with what comes from it on, by columns of one name;
    /// `in_on` where that is written out as a condition.
    pub(super) fn merge(&mut self, name: &str, right: usize, operator: &JoinOperator, in_on: bool) {
        let sides = (self.side(name, 0..right), self.side(name, right..self.relations.len()));
        let (Some(left), Some(right)) = sides else { return };
        let in_on = in_on || left.in_on || right.in_on;
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
            in_on,
        });
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
        Some(Merged { name: name.to_owned(), relations: holders, values: vec![column], in_on: false })
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

/// Writes `*` as `a.*, b.*` where the planner would show a merged column once for each table.
///
/// # Errors
/// `Unsupported` for a `*` that is changed by EXCLUDE, REPLACE or their like as well.
pub(super) fn write_wildcards(items: &mut Vec<SelectItem>, tables: &Tables) -> Result<(), EngineError> {
    if !tables.merged.iter().any(|merged| merged.in_on) {
        return Ok(());
    }
    let mut written = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        match item {
            SelectItem::Wildcard(options)
                if options
                    == WildcardAdditionalOptions {
                        wildcard_token: options.wildcard_token.clone(),
                        ..Default::default()
                    } =>
            {
                written.extend((0..tables.relations.len()).map(|index| tables.all_of(index)));
            }
            SelectItem::Wildcard(_) => {
                return Err(EngineError::Unsupported(
                    "* with EXCLUDE, EXCEPT, REPLACE or RENAME is not supported after USING of a column that a right or \
                     full join merged before; name the columns"
                        .to_owned(),
                ));
            }
            other => written.push(other),
        }
    }
    *items = written;
    Ok(())
}

impl Tables {
    /// `t.*` with merged columns in the first of their tables only.
    fn all_of(&self, index: usize) -> SelectItem {
        let mut options = WildcardAdditionalOptions::default();
        let mut excluded = Vec::new();
        let mut replaced = Vec::new();
        for merged in self.merged.iter().filter(|merged| merged.relations.contains(&index)) {
            let name = Ident::with_quote('"', &merged.name);
            if merged.relations.first() == Some(&index) {
                let expr = merged.value();
                replaced.push(Box::new(ReplaceSelectElement { expr, column_name: name, as_keyword: true }));
            } else {
                excluded.push(ObjectName::from(vec![name]));
            }
        }
        options.opt_exclude = (!excluded.is_empty()).then_some(ExcludeSelectItem::Multiple(excluded));
        options.opt_replace = (!replaced.is_empty()).then_some(ReplaceSelectItem { items: replaced });
        let qualifier = self.relations[index].qualifier();
        let qualifier = qualifier.into_iter().map(|part| Ident { quote_style: Some('"'), ..part }).collect::<Vec<_>>();
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(qualifier)), options)
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
