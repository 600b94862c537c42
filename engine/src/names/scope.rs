//! What names mean at a place of a statement.

use datafusion::sql::sqlparser::ast::{Expr, Ident};

use super::CATALOG;
use super::merged::{NO_TABLES, Tables};
use crate::error::EngineError;
use crate::own::{OWN_ALIAS, is_private};

/// Whether an identifier of the statement means a declared name: quoted exactly, else in any case.
pub(super) fn means(ident: &Ident, declared: &str) -> bool {
    if ident.quote_style.is_some() { ident.value == declared } else { same(&ident.value, declared) }
}

/// Whether an identifier means a database of the session. Of users' databases a session has its own only.
pub(super) fn names_database(ident: &Ident, declared: &str) -> bool {
    means(ident, declared) || (means(ident, OWN_ALIAS) && is_private(declared))
}

/// Whether two names are the same but for case.
pub(super) fn same(left: &str, right: &str) -> bool {
    left == right || left.eq_ignore_ascii_case(right) || left.to_lowercase() == right.to_lowercase()
}

/// The names of the columns that a table or query gives, in order, without those the planner makes
/// up.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    pub(super) names: Vec<String>,
}

impl Columns {
    pub(super) fn new(names: Vec<String>) -> Columns {
        Columns { names }
    }

    /// The same columns under the names of `t (a, b)`.
    pub(super) fn renamed<'a>(mut self, names: impl IntoIterator<Item = &'a Ident>) -> Columns {
        for (index, ident) in names.into_iter().enumerate() {
            match self.names.get_mut(index) {
                Some(name) => name.clone_from(&ident.value),
                None => self.names.push(ident.value.clone()),
            }
        }
        self
    }
}

/// A table of FROM, as columns can be qualified by it.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) name: RelationName,
    pub(super) columns: Columns,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RelationName {
    /// `FROM t AS name`, or a WITH entry.
    Alias(String),
    /// A table of a database without an alias.
    Table { database: String, table: String },
    /// A subquery or function without an alias.
    Nameless,
}

impl Relation {
    /// Whether `qualifier` in `qualifier.column` means this relation.
    fn is_named(&self, qualifier: &[Ident]) -> bool {
        match (&self.name, qualifier) {
            (RelationName::Alias(alias), [name]) => means(name, alias),
            (RelationName::Table { table, .. }, [name]) => means(name, table),
            (RelationName::Table { database, table }, [first, name]) => {
                names_database(first, database) && means(name, table)
            }
            (RelationName::Table { database, table }, [catalog, first, name]) => {
                means(catalog, CATALOG) && names_database(first, database) && means(name, table)
            }
            _ => false,
        }
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.names.iter().any(|name| name == column)
    }

    /// A column under its qualifier; `None` of a relation without a name.
    pub(super) fn column(&self, name: &str) -> Option<Expr> {
        let mut parts = self.qualifier();
        if parts.is_empty() {
            return None;
        }
        parts.push(Ident::new(name));
        // Quoted, because the walk over the statement comes by them once more.
        Some(Expr::CompoundIdentifier(parts.into_iter().map(|part| Ident { quote_style: Some('"'), ..part }).collect()))
    }

    /// The qualifier as the planner knows it.
    pub(super) fn qualifier(&self) -> Vec<Ident> {
        match &self.name {
            RelationName::Alias(alias) => vec![Ident::new(alias.clone())],
            RelationName::Table { database, table } => vec![Ident::new(database.clone()), Ident::new(table.clone())],
            RelationName::Nameless => Vec::new(),
        }
    }

    fn shown(&self) -> String {
        match &self.name {
            RelationName::Alias(alias) => alias.clone(),
            RelationName::Table { database, table } => format!("{database}.{table}"),
            RelationName::Nameless => "a subquery".to_owned(),
        }
    }
}

/// The tables a query reads, and those of the queries around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) tables: &'a Tables,
    pub(super) outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    pub(super) const EMPTY: Scope<'static> = Scope { tables: &NO_TABLES, outer: None };

    /// This scope and those around it, innermost first.
    fn chain(&self) -> impl Iterator<Item = &Scope<'a>> {
        std::iter::successors(Some(self), |scope| scope.outer)
    }

    /// The declared spelling of an unqualified column of this scope alone.
    pub(super) fn own_column(&self, ident: &Ident) -> Result<Option<String>, EngineError> {
        column_among(&self.tables.relations, ident)
    }

    /// An unqualified column, of the innermost query that has it.
    pub(super) fn column(&self, ident: &Ident) -> Result<Option<Expr>, EngineError> {
        for scope in self.chain() {
            if let Some(name) = scope.own_column(ident)? {
                return Ok(Some(scope.written_out(ident, name)));
            }
        }
        Ok(None)
    }

    /// A column of this scope alone as an expression: its name, or what its name stands for where
    /// several columns were merged under it.
    pub(super) fn written_out(&self, ident: &Ident, name: String) -> Expr {
        match self.tables.merged(&name) {
            Some(merged) => merged.value(),
            None => Expr::Identifier(declared(ident, name)),
        }
    }

    /// Rewrites `qualifier.column.field…` in place.
    pub(super) fn resolve_compound(&self, parts: &mut Vec<Ident>) -> Result<(), EngineError> {
        for scope in self.chain() {
            if let Some(resolved) = scope.own_compound(parts)? {
                *parts = resolved;
                return Ok(());
            }
        }
        // No such column: at least the table is named as the planner knows it.
        for scope in self.chain() {
            for length in (1..parts.len()).rev() {
                if let Some(relation) = scope.relation(&parts[..length])? {
                    let rest = parts.split_off(length);
                    *parts = relation.qualifier();
                    parts.extend(rest);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn own_compound(&self, parts: &[Ident]) -> Result<Option<Vec<Ident>>, EngineError> {
        // The longest qualifier first, as the planner does.
        for length in (1..parts.len().min(4)).rev() {
            let (qualifier, rest) = parts.split_at(length);
            let Some((column, fields)) = rest.split_first() else {
                continue;
            };
            let Some(relation) = self.relation(qualifier)? else {
                continue;
            };
            if let Some(name) = column_of(relation, column)? {
                let mut resolved = relation.qualifier();
                resolved.push(declared(column, name));
                resolved.extend_from_slice(fields);
                return Ok(Some(resolved));
            }
        }
        // `column.field` of a structure.
        let Some((column, fields)) = parts.split_first() else {
            return Ok(None);
        };
        Ok(self.own_column(column)?.map(|name| {
            let mut resolved = vec![declared(column, name)];
            resolved.extend_from_slice(fields);
            resolved
        }))
    }

    /// The relation of this scope alone that a qualifier means.
    fn relation(&self, qualifier: &[Ident]) -> Result<Option<&Relation>, EngineError> {
        let mut named = self.tables.relations.iter().filter(|relation| relation.is_named(qualifier));
        match (named.next(), named.next()) {
            (Some(first), Some(second)) if first.name != second.name => Err(EngineError::Invalid(format!(
                "table \"{}\" is ambiguous: it could be {} or {}",
                joined(qualifier),
                first.shown(),
                second.shown()
            ))),
            (found, _) => Ok(found),
        }
    }

    /// Rewrites the qualifier of `qualifier.*` and gives the columns it stands for.
    pub(super) fn resolve_wildcard(&self, qualifier: &mut Vec<Ident>) -> Result<Columns, EngineError> {
        for scope in self.chain() {
            if let Some(relation) = scope.relation(qualifier)? {
                *qualifier = relation.qualifier();
                return Ok(relation.columns.clone());
            }
        }
        Ok(Columns::default())
    }

    /// All columns of this scope's relations, as `*` gives them.
    pub(super) fn all_columns(&self) -> Columns {
        all_columns(&self.tables.relations)
    }
}

/// All columns of some relations, as `*` gives them.
pub(super) fn all_columns(relations: &[Relation]) -> Columns {
    Columns::new(relations.iter().flat_map(|relation| relation.columns.names.iter().cloned()).collect())
}

/// The declared spelling of an unqualified column of some relations.
pub(super) fn column_among(relations: &[Relation], ident: &Ident) -> Result<Option<String>, EngineError> {
    let mut found: Option<(String, &Relation)> = None;
    for relation in relations {
        let Some(name) = column_of(relation, ident)? else {
            continue;
        };
        match &found {
            Some((other, first)) if *other != name => {
                return Err(EngineError::Invalid(format!(
                    "column \"{}\" is ambiguous: it could be {}.\"{other}\" or {}.\"{name}\"; put the table before it",
                    ident.value,
                    first.shown(),
                    relation.shown(),
                )));
            }
            Some(_) => {}
            None => found = Some((name, relation)),
        }
    }
    Ok(found.map(|(name, _)| name))
}

fn column_of(relation: &Relation, ident: &Ident) -> Result<Option<String>, EngineError> {
    find(&relation.columns.names, ident, || relation.shown())
}

/// The one of `names` that the identifier means.
pub(super) fn find(names: &[String], ident: &Ident, place: impl Fn() -> String) -> Result<Option<String>, EngineError> {
    let mut found: Option<&String> = None;
    for name in names.iter().filter(|name| means(ident, name)) {
        match found {
            Some(other) if other != name => {
                return Err(EngineError::Invalid(format!(
                    "columns \"{other}\" and \"{name}\" of {} differ only in case; write the one you mean in double \
                     quotes",
                    place()
                )));
            }
            _ => found = Some(name),
        }
    }
    Ok(found.cloned())
}

/// The identifier under its declared spelling, quoted as it was.
pub(super) fn declared(ident: &Ident, name: String) -> Ident {
    Ident { value: name, quote_style: ident.quote_style, span: ident.span }
}

pub(super) fn joined(parts: &[Ident]) -> String {
    parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".")
}
