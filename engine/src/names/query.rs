//! Walks queries: which tables each reads, and which columns it gives.

use datafusion::sql::sqlparser::ast::{
    Cte, ExcludeSelectItem, Expr, Ident, Join, JoinConstraint, JoinOperator, NamedWindowExpr, ObjectName,
    ObjectNamePart, Query, ReplaceSelectElement, ReplaceSelectItem, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins, WildcardAdditionalOptions,
};

use super::NameCatalog;
use super::distinct;
use super::expressions::{Expressions, Outputs, lower, lower_function_name};
use super::merged::{NO_TABLES, Tables, name_subqueries, write_wildcards};
use super::scope::{Columns, Relation, RelationName, Scope, all_columns, column_among, declared, find, means, same};
use super::tables::{FoundTable, find_table};
use crate::error::EngineError;

/// WITH entries in sight, innermost last.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    own: Vec<Entry>,
    outer: Option<&'a Entries<'a>>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    /// The planner takes no name twice, also of an entry that hides one further out.
    planned: String,
    columns: Columns,
}

impl Entries<'_> {
    fn find(&self, ident: &Ident) -> Option<&Entry> {
        self.chain().find_map(|entries| entries.own.iter().rev().find(|entry| means(ident, &entry.name)))
    }

    fn chain(&self) -> impl Iterator<Item = &Entries<'_>> {
        std::iter::successors(Some(self), |entries| entries.outer)
    }

    /// The name under which an entry of this WITH is planned.
    fn planned_name(&self, name: &str) -> Result<String, EngineError> {
        if let Some(Entry { name: other, .. }) = self.own.iter().find(|entry| same(&entry.name, name)) {
            return Err(EngineError::Invalid(format!(
                "WITH has \"{other}\" and \"{name}\"; give each entry a name of its own"
            )));
        }
        let is_taken =
            |wanted: &str| self.chain().flat_map(|entries| &entries.own).any(|entry| entry.planned == wanted);
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        Ok(std::iter::once(name.to_owned()).chain(numbered).find(|wanted| !is_taken(wanted)).unwrap_or_default())
    }
}

/// Rewrites queries against one catalog.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    catalog: &'a NameCatalog,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(catalog: &'a NameCatalog) -> Self {
        Resolver { catalog }
    }

    pub(super) fn resolve_top(&self, query: &mut Query) -> Result<(), EngineError> {
        let entries = Entries { own: Vec::new(), outer: None };
        self.resolve_query(query, &Scope::EMPTY, &entries).map(|_| ())
    }

    pub(super) fn resolve_table_name(&self, name: &mut ObjectName) -> Result<(), EngineError> {
        *name = find_table(self.catalog, name)?.object_name();
        Ok(())
    }

    /// Rewrites a query and gives the columns of its result.
    pub(super) fn resolve_query(
        &self,
        query: &mut Query,
        outer: &Scope<'_>,
        entries: &Entries<'_>,
    ) -> Result<Columns, EngineError> {
        let mut own = Entries { own: Vec::new(), outer: Some(entries) };
        if let Some(with) = &mut query.with {
            for entry in &mut with.cte_tables {
                let name = entry.alias.name.value.clone();
                let planned = own.planned_name(&name)?;
                let columns = if with.recursive {
                    self.resolve_recursive(entry, &planned, outer, &own)?
                } else {
                    self.resolve_query(&mut entry.query, outer, &own)?.renamed(column_names(&entry.alias))
                };
                entry.alias.name.value.clone_from(&planned);
                own.own.push(Entry { name, planned, columns });
            }
        }
        let (columns, tables) = self.resolve_body(&mut query.body, outer, &own)?;
        let scope = Scope { tables: &tables, outer: Some(outer) };
        if let Some(order_by) = &mut query.order_by {
            Expressions::new(self, scope, &own, Outputs::First(&columns.names)).rewrite(order_by)?;
        }
        distinct::tell_casts_apart(query, &tables);
        if let Some(limit) = &mut query.limit_clause {
            Expressions::new(self, Scope::EMPTY, &own, Outputs::Hidden).rewrite(limit)?;
        }
        Ok(columns)
    }

    /// The second part of a recursive entry sees the columns of the first under the entry's name.
    fn resolve_recursive(
        &self,
        entry: &mut Cte,
        planned: &str,
        outer: &Scope<'_>,
        entries: &Entries<'_>,
    ) -> Result<Columns, EngineError> {
        let SetExpr::SetOperation { left, right, .. } = entry.query.body.as_mut() else {
            return Ok(self.resolve_query(&mut entry.query, outer, entries)?.renamed(column_names(&entry.alias)));
        };
        let columns = self.resolve_body(left, outer, entries)?.0.renamed(column_names(&entry.alias));
        let name = entry.alias.name.value.clone();
        let itself = Entry { name, planned: planned.to_owned(), columns: columns.clone() };
        self.resolve_body(right, outer, &Entries { own: vec![itself], outer: Some(entries) })?;
        Ok(columns)
    }

    /// Gives the columns, and what ORDER BY may name besides them.
    fn resolve_body(
        &self,
        body: &mut SetExpr,
        outer: &Scope<'_>,
        entries: &Entries<'_>,
    ) -> Result<(Columns, Tables), EngineError> {
        match body {
            SetExpr::Select(select) => self.resolve_select(select, outer, entries),
            SetExpr::Query(query) => Ok((self.resolve_query(query, outer, entries)?, Tables::default())),
            SetExpr::SetOperation { left, right, .. } => {
                let (columns, _) = self.resolve_body(left, outer, entries)?;
                self.resolve_body(right, outer, entries)?;
                Ok((columns, Tables::default()))
            }
            SetExpr::Values(values) => {
                let scope = Scope { tables: &NO_TABLES, outer: Some(outer) };
                Expressions::new(self, scope, entries, Outputs::Hidden).rewrite(values)?;
                let width = values.rows.first().map_or(0, |row| row.len());
                Ok((Columns::new((1..=width).map(|number| format!("column{number}")).collect()), Tables::default()))
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) | SetExpr::Table(_) => {
                Ok((Columns::default(), Tables::default()))
            }
        }
    }

    fn resolve_select(
        &self,
        select: &mut Select,
        outer: &Scope<'_>,
        entries: &Entries<'_>,
    ) -> Result<(Columns, Tables), EngineError> {
        let mut tables = Tables::default();
        for from in &mut select.from {
            let joined = self.resolve_joins(from, &Scope { tables: &tables, outer: Some(outer) }, outer, entries)?;
            tables.append(joined);
        }
        let scope = Scope { tables: &tables, outer: Some(outer) };
        let mut plain = Expressions::new(self, scope, entries, Outputs::Hidden);
        plain.rewrite(&mut select.selection)?;
        for window in &mut select.named_window {
            lower(&mut window.0);
            match &mut window.1 {
                NamedWindowExpr::NamedWindow(name) => lower(name),
                NamedWindowExpr::WindowSpec(spec) => {
                    spec.window_name.iter_mut().for_each(lower);
                    plain.rewrite(spec)?;
                }
            }
        }
        write_wildcards(&mut select.projection, &tables)?;
        let mut columns = Columns::default();
        let mut given = Vec::with_capacity(select.projection.len());
        for item in &mut select.projection {
            let before = columns.names.len();
            self.resolve_item(item, &mut plain, &mut columns)?;
            given.push(before..columns.names.len());
        }
        distinct::name_apart(&mut select.projection, &given, &mut columns.names, &tables);
        Expressions::new(self, scope, entries, Outputs::First(&columns.names)).rewrite(&mut select.distinct)?;
        let mut grouped = Expressions::new(self, scope, entries, Outputs::Last(&columns.names));
        grouped.rewrite(&mut select.group_by)?;
        grouped.rewrite(&mut select.having)?;
        grouped.rewrite(&mut select.qualify)?;
        Ok((columns, tables))
    }

    /// Rewrites an item of the SELECT list and adds the columns it gives.
    fn resolve_item(
        &self,
        item: &mut SelectItem,
        plain: &mut Expressions<'_>,
        columns: &mut Columns,
    ) -> Result<(), EngineError> {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let written = if let Expr::Identifier(ident) = &*expr { Some(ident.clone()) } else { None };
                plain.rewrite(expr)?;
                match (written, &*expr) {
                    (_, Expr::Identifier(ident)) => columns.names.push(ident.value.clone()),
                    (_, Expr::CompoundIdentifier(parts)) => {
                        columns.names.extend(parts.last().map(|part| part.value.clone()))
                    }
                    (Some(ident), Expr::Function(_)) => {
                        // Columns that were merged keep their name.
                        let name = plain.scope.own_column(&ident)?.unwrap_or_else(|| ident.value.clone());
                        columns.names.push(name.clone());
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: declared(&ident, name) };
                    }
                    _ => {}
                }
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                plain.rewrite(expr)?;
                columns.names.push(alias.value.clone());
            }
            SelectItem::ExprWithAliases { expr, aliases } => {
                plain.rewrite(expr)?;
                columns.names.extend(aliases.iter().map(|alias| alias.value.clone()));
            }
            SelectItem::Wildcard(options) => {
                let all = plain.scope.all_columns();
                columns.names.extend(resolve_options(options, all, plain)?.names);
                replace_misread(options, plain.scope.tables);
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                let mut parts: Vec<Ident> = name.0.iter().filter_map(ObjectNamePart::as_ident).cloned().collect();
                let all = plain.scope.resolve_wildcard(&mut parts)?;
                *name = ObjectName::from(parts);
                columns.names.extend(resolve_options(options, all, plain)?.names);
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), _) => plain.rewrite(expr)?,
        }
        Ok(())
    }

    /// `before` is what a lateral sub-query sees besides the tables joined so far.
    fn resolve_joins(
        &self,
        from: &mut TableWithJoins,
        before: &Scope<'_>,
        outer: &Scope<'_>,
        entries: &Entries<'_>,
    ) -> Result<Tables, EngineError> {
        if from.joins.iter_mut().any(|join| merges(constraint_of(&mut join.join_operator))) {
            name_subqueries(from);
        }
        let mut tables = Tables::default();
        self.resolve_factor(&mut from.relation, &mut tables, before, outer, entries)?;
        for Join { relation, join_operator, .. } in &mut from.joins {
            let right = tables.relations.len();
            self.resolve_factor(relation, &mut tables, before, outer, entries)?;
            let mut merged = Vec::new();
            match constraint_of(join_operator) {
                Some(JoinConstraint::On(expr)) => {
                    let scope = Scope { tables: &tables, outer: Some(outer) };
                    Expressions::new(self, scope, entries, Outputs::Hidden).rewrite(expr)?;
                }
                Some(JoinConstraint::Using(names)) => {
                    let (left, right) = tables.relations.split_at(right);
                    for name in names {
                        merged.extend(resolve_using(name, left, right)?);
                    }
                }
                Some(JoinConstraint::Natural) => {
                    let (left, right) = tables.relations.split_at(right);
                    merged = common_columns(left, right)?;
                }
                Some(JoinConstraint::None) | None => {}
            }
            let condition = tables.condition_on(&merged, right);
            for name in merged {
                tables.merge(&name, right, join_operator, condition.is_some());
            }
            if let (Some(condition), Some(constraint)) = (condition, constraint_of(join_operator)) {
                *constraint = JoinConstraint::On(condition);
            }
        }
        Ok(tables)
    }

    /// Rewrites one table of FROM and adds the relations it stands for.
    fn resolve_factor(
        &self,
        factor: &mut TableFactor,
        tables: &mut Tables,
        before: &Scope<'_>,
        outer: &Scope<'_>,
        entries: &Entries<'_>,
    ) -> Result<(), EngineError> {
        // What a lateral subquery or the argument of a function may name.
        let beside = Scope { tables, outer: Some(before) };
        let mut arguments = Expressions::new(self, beside, entries, Outputs::Hidden);
        let relation = match factor {
            TableFactor::Table { name, alias, args: Some(args), .. } => {
                lower_function_name(name);
                arguments.rewrite(&mut args.args)?;
                function_relation(alias.as_ref())
            }
            TableFactor::Function { name, args, alias, .. } => {
                lower_function_name(name);
                arguments.rewrite(args)?;
                function_relation(alias.as_ref())
            }
            TableFactor::UNNEST { alias, array_exprs, .. } => {
                arguments.rewrite(array_exprs)?;
                relation(alias.as_ref(), RelationName::Nameless, Columns::default())
            }
            TableFactor::Table { name, alias, args: None, .. } => self.resolve_table(name, alias, entries)?,
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let around = if *lateral { &beside } else { outer };
                let columns = self.resolve_query(subquery, around, entries)?;
                relation(alias.as_ref(), RelationName::Nameless, columns)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let inner = self.resolve_joins(table_with_joins, before, outer, entries)?;
                if alias.is_none() {
                    tables.append(inner);
                    return Ok(());
                }
                let columns = all_columns(&inner.relations);
                relation(alias.as_ref(), RelationName::Nameless, columns)
            }
            // Not let through by the guard.
            _ => return Ok(()),
        };
        tables.relations.push(relation);
        Ok(())
    }

    fn resolve_table(
        &self,
        name: &mut ObjectName,
        alias: &mut Option<TableAlias>,
        entries: &Entries<'_>,
    ) -> Result<Relation, EngineError> {
        if let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice()
            && let Some(entry) = entries.find(ident)
        {
            if alias.is_none() && entry.planned != entry.name {
                let name = declared(ident, entry.name.clone());
                *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
            }
            *ident = declared(ident, entry.planned.clone());
            return Ok(relation(alias.as_ref(), RelationName::Alias(entry.name.clone()), entry.columns.clone()));
        }
        let found = find_table(self.catalog, name)?;
        *name = found.object_name();
        let FoundTable { database, table, columns } = found;
        Ok(relation(alias.as_ref(), RelationName::Table { database, table }, columns))
    }
}

/// A relation under its alias, or under the name it has without one.
fn relation(alias: Option<&TableAlias>, name: RelationName, columns: Columns) -> Relation {
    match alias {
        Some(alias) => Relation {
            name: RelationName::Alias(alias.name.value.clone()),
            columns: columns.renamed(column_names(alias)),
        },
        None => Relation { name, columns },
    }
}

/// generate_series and range give one column.
fn function_relation(alias: Option<&TableAlias>) -> Relation {
    relation(alias, RelationName::Nameless, Columns::new(vec!["value".to_owned()]))
}

fn column_names(alias: &TableAlias) -> impl Iterator<Item = &Ident> {
    alias.columns.iter().map(|column| &column.name)
}

fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint)
        | JoinOperator::StraightJoin(constraint)
        | JoinOperator::AsOf { constraint, .. } => Some(constraint),
        JoinOperator::CrossApply
        | JoinOperator::OuterApply
        | JoinOperator::ArrayJoin
        | JoinOperator::LeftArrayJoin
        | JoinOperator::InnerArrayJoin => None,
    }
}

fn merges(constraint: Option<&mut JoinConstraint>) -> bool {
    matches!(constraint, Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
}

/// A column of USING has one name in the result, so it must be spelled alike on both sides. Gives
/// that name where both sides have it.
fn resolve_using(name: &mut ObjectName, left: &[Relation], right: &[Relation]) -> Result<Option<String>, EngineError> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice() else {
        return Ok(None);
    };
    match (column_among(left, ident)?, column_among(right, ident)?) {
        (Some(left), Some(right)) if left != right => Err(EngineError::Invalid(format!(
            "USING ({}): the column is \"{left}\" on one side and \"{right}\" on the other; join with ON",
            ident.value
        ))),
        (Some(found), Some(_)) => {
            *ident = declared(ident, found.clone());
            Ok(Some(found))
        }
        (Some(found), None) | (None, Some(found)) => {
            *ident = declared(ident, found);
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

/// The columns that NATURAL joins by. The planner joins on columns spelled alike, and would pass over
/// those that differ in case.
fn common_columns(left: &[Relation], right: &[Relation]) -> Result<Vec<String>, EngineError> {
    let left = all_columns(left).names;
    let mut common = Vec::new();
    for column in all_columns(right).names {
        if left.contains(&column) {
            common.push(column);
        } else if let Some(other) = left.iter().find(|other| same(other, &column)) {
            return Err(EngineError::Invalid(format!(
                "NATURAL JOIN: the column is \"{other}\" on one side and \"{column}\" on the other; join with ON"
            )));
        }
    }
    Ok(common)
}

/// Makes `*` give merged columns the value of the side that has one.
fn replace_misread(options: &mut WildcardAdditionalOptions, tables: &Tables) {
    let replaced = |options: &WildcardAdditionalOptions, name: &str| {
        let items = options.opt_replace.iter().flat_map(|replace| &replace.items);
        items.into_iter().any(|item| item.column_name.value == name)
    };
    for merged in tables.misread_by_wildcard() {
        if !replaced(options, &merged.name) {
            let replace = options.opt_replace.get_or_insert_with(|| ReplaceSelectItem { items: Vec::new() });
            replace.items.push(Box::new(ReplaceSelectElement {
                expr: merged.value(),
                column_name: Ident::with_quote('"', &merged.name),
                as_keyword: true,
            }));
        }
    }
}

/// Rewrites what follows a `*` and gives the columns that remain.
fn resolve_options(
    options: &mut WildcardAdditionalOptions,
    mut all: Columns,
    plain: &mut Expressions<'_>,
) -> Result<Columns, EngineError> {
    let mut gone = Vec::new();
    let mut drop_column = |ident: &mut Ident| -> Result<(), EngineError> {
        if let Some(name) = find(&all.names, ident, || "the table".to_owned())? {
            gone.push(name.clone());
            *ident = declared(ident, name);
        }
        Ok(())
    };
    if let Some(except) = &mut options.opt_except {
        drop_column(&mut except.first_element)?;
        except.additional_elements.iter_mut().try_for_each(&mut drop_column)?;
    }
    let excluded = match &mut options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => std::slice::from_mut(name),
        Some(ExcludeSelectItem::Multiple(names)) => names.as_mut_slice(),
        None => &mut [],
    };
    for name in excluded {
        if let Some(ObjectNamePart::Identifier(ident)) = name.0.last_mut() {
            drop_column(ident)?;
        }
    }
    for replaced in options.opt_replace.iter_mut().flat_map(|replace| &mut replace.items) {
        plain.rewrite(&mut replaced.expr)?;
        if let Some(name) = find(&all.names, &replaced.column_name, || "the table".to_owned())? {
            replaced.column_name = declared(&replaced.column_name, name);
        }
    }
    all.names.retain(|name| !gone.contains(name));
    Ok(all)
}
