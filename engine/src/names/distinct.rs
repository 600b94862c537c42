//! Columns of a SELECT that would have one name get names apart, as DuckDB gives them in a sub-query:
//! `SELECT a, a` has `a` and `a_1`. The planner refuses them, also where nobody asks for them by name.
//!
//! What the planner calls an expression is not known here, but which expressions it calls alike: those
//! that differ only in casts and in whether columns are qualified.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, GroupByExpr, Ident, Query, SelectItem, SetExpr, Value, Visit, VisitMut, Visitor, VisitorMut,
};

use super::merged::Tables;

/// A column that the SELECT gives.
struct Output {
    /// Its item, by index.
    item: usize,
    /// The table of a column that is passed on.
    qualifier: Option<String>,
    name: String,
    /// Whether its name can be changed; that of a column of `*` cannot.
    can_be_named: bool,
    /// Whether it is an expression, whose name nobody chose.
    made_up: bool,
}

impl Output {
    fn clashes(&self, other: &Output) -> bool {
        self.name == other.name
            && (self.qualifier.is_none() || other.qualifier.is_none() || self.qualifier == other.qualifier)
    }
}

/// Gives names to items that the planner would not tell apart. `given` says which of `names` are those
/// of each item; expressions without a name have none.
pub(super) fn name_apart(items: &mut [SelectItem], given: &[Range<usize>], names: &mut Vec<String>, tables: &Tables) {
    let outputs = outputs(items, given, names, tables);
    let mut chosen: Vec<(usize, String)> = Vec::new();
    for (place, output) in outputs.iter().enumerate() {
        // A column of `*` keeps its name, so what clashes with it has to give way wherever it stands.
        let is_second = outputs.iter().take(place).any(|other| other.clashes(output))
            || outputs.iter().skip(place + 1).any(|other| !other.can_be_named && other.clashes(output));
        let is_first = || outputs.iter().skip(place + 1).any(|other| other.clashes(output));
        if !output.can_be_named {
            continue;
        }
        if is_second {
            let is_taken = |wanted: &String| {
                outputs.iter().any(|other| other.name == *wanted) || chosen.iter().any(|(_, name)| name == wanted)
            };
            let numbered = (1..).map(|number| format!("{}_{number}", output.name));
            chosen.extend(numbered.into_iter().find(|wanted| !is_taken(wanted)).map(|name| (output.item, name)));
        } else if output.made_up && is_first() {
            // Named like the others, not as the planner would.
            chosen.push((output.item, output.name.clone()));
        }
    }
    // From the back, so that ranges before stay right.
    for (index, name) in chosen.into_iter().rev() {
        let (Some(item), Some(range)) = (items.get_mut(index), given.get(index)) else { continue };
        let alias = Ident::with_quote('"', &name);
        match item {
            SelectItem::ExprWithAlias { alias: old, .. } => *old = alias,
            SelectItem::UnnamedExpr(expr) => {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            _ => continue,
        }
        names.splice(range.clone(), [name]);
    }
}

fn outputs(items: &[SelectItem], given: &[Range<usize>], names: &[String], tables: &Tables) -> Vec<Output> {
    let mut outputs = Vec::with_capacity(items.len());
    for (item, range) in given.iter().enumerate() {
        let own = names.get(range.clone()).unwrap_or_default();
        let output = |qualifier, name, made_up| Output { item, qualifier, name, can_be_named: true, made_up };
        match &items[item] {
            SelectItem::ExprWithAlias { alias, .. } => outputs.push(output(None, alias.value.clone(), false)),
            SelectItem::UnnamedExpr(expr) => outputs.push(match column(expr, tables) {
                Some((qualifier, name)) => output(qualifier, name, false),
                None => output(None, made_up_name(expr, tables), true),
            }),
            SelectItem::ExprWithAliases { .. } => {}
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                let shown = |relation: &super::scope::Relation, name: &String| {
                    let is_named = match &items[item] {
                        SelectItem::QualifiedWildcard(kind, _) => kind.to_string() == qualified(relation) + ".*",
                        _ => true,
                    };
                    is_named && own.contains(name)
                };
                for relation in &tables.relations {
                    let columns = relation.columns.names.iter().filter(|name| shown(relation, name));
                    outputs.extend(columns.map(|name| Output {
                        item,
                        qualifier: Some(qualified(relation)).filter(|qualifier| !qualifier.is_empty()),
                        name: name.clone(),
                        can_be_named: false,
                        made_up: false,
                    }));
                }
            }
        }
    }
    outputs
}

fn qualified(relation: &super::scope::Relation) -> String {
    super::scope::joined(&relation.qualifier())
}

/// The table and name of a column that is passed on as it is.
fn column(expr: &Expr, tables: &Tables) -> Option<(Option<String>, String)> {
    match expr {
        Expr::Identifier(ident) => {
            let mut holders = tables.relations.iter().filter(|relation| relation.has(&ident.value));
            let only = holders.next().filter(|_| holders.next().is_none());
            let qualifier = only.map(qualified).filter(|qualifier| !qualifier.is_empty());
            Some((qualifier, ident.value.clone()))
        }
        Expr::CompoundIdentifier(parts) => {
            let (last, qualifier) = parts.split_last()?;
            let qualifier = super::scope::joined(qualifier);
            // Else it is a part of a structure.
            let is_column = tables.relations.iter().any(|relation| qualified(relation) == qualifier);
            is_column.then(|| (Some(qualifier), last.value.clone()))
        }
        _ => None,
    }
}

/// A name for an expression, the same for those that the planner gives one name.
fn made_up_name(expr: &Expr, tables: &Tables) -> String {
    spelled(expr, &mut Plain { tables, with_casts: false })
}

fn spelled(expr: &Expr, plain: &mut Plain<'_>) -> String {
    let mut spelled = expr.clone();
    let _: ControlFlow<()> = VisitMut::visit(&mut spelled, plain);
    spelled.to_string()
}

/// Leaves out of an expression what the planner leaves out of its name.
struct Plain<'a> {
    tables: &'a Tables,
    /// Leaves in what tells apart two expressions of one name.
    with_casts: bool,
}

impl VisitorMut for Plain<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let plain = match expr {
            Expr::Cast { .. } if self.with_casts => return ControlFlow::Continue(()),
            Expr::Cast { expr, .. } | Expr::Nested(expr) => std::mem::replace(expr.as_mut(), Expr::value(Value::Null)),
            Expr::TypedString(typed) if !self.with_casts => Expr::Value(typed.value.clone()),
            Expr::Exists { negated: false, .. } => Expr::Identifier(Ident::new("EXISTS")),
            Expr::Exists { negated: true, .. } => Expr::Identifier(Ident::new("NOT EXISTS")),
            Expr::InSubquery { negated: false, .. } => Expr::Identifier(Ident::new("IN")),
            Expr::InSubquery { negated: true, .. } => Expr::Identifier(Ident::new("NOT IN")),
            Expr::Subquery(query) => match value_name(query) {
                Some(name) => Expr::Identifier(Ident::new(name)),
                None => return ControlFlow::Continue(()),
            },
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => match column(expr, self.tables) {
                // Without its table, unless another has a column of the name.
                Some((Some(qualifier), name)) if self.is_in_several(&name) => {
                    Expr::Identifier(Ident::new(format!("{qualifier}.{name}")))
                }
                Some((_, name)) => Expr::Identifier(Ident::new(name)),
                None => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        *expr = plain;
        ControlFlow::Continue(())
    }
}

impl Plain<'_> {
    fn is_in_several(&self, name: &str) -> bool {
        self.tables.relations.iter().filter(|relation| relation.has(name)).count() > 1
    }
}

/// The name of the one column of a query.
fn value_name(query: &Query) -> Option<String> {
    let mut body = query.body.as_ref();
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(query) => body = &query.body,
            _ => return None,
        }
    };
    match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr)] => Some(match expr {
            Expr::CompoundIdentifier(parts) => parts.last()?.value.clone(),
            other => other.to_string(),
        }),
        [SelectItem::ExprWithAlias { alias, .. }] => Some(alias.value.clone()),
        _ => None,
    }
}

/// Makes the planner's names of calls and keys differ that differ in casts only, such as `max(a)` and
/// `max(CAST(a AS DOUBLE))`: an aggregate or window gives its columns those names.
pub(super) fn tell_casts_apart(query: &mut Query, tables: &Tables) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let mut calls = Calls { tables, queries: 0, names: HashMap::new(), clash: false };
    let _: ControlFlow<()> = select.projection.visit(&mut calls);
    let _: ControlFlow<()> = select.having.visit(&mut calls);
    let _: ControlFlow<()> = select.qualify.visit(&mut calls);
    let _: ControlFlow<()> = query.order_by.visit(&mut calls);
    if let GroupByExpr::Expressions(keys, _) = &select.group_by
        && !keys.is_empty()
    {
        // A key may be one of the SELECT list, by its place or name.
        let listed = select.projection.iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        });
        keys.iter().chain(listed).for_each(|key| calls.compare(key));
    }
    if !calls.clash {
        return;
    }
    let mut shown = ShownCasts;
    let _: ControlFlow<()> = VisitMut::visit(&mut select.projection, &mut shown);
    let _: ControlFlow<()> = VisitMut::visit(&mut select.group_by, &mut shown);
    let _: ControlFlow<()> = VisitMut::visit(&mut select.having, &mut shown);
    let _: ControlFlow<()> = VisitMut::visit(&mut select.qualify, &mut shown);
    let _: ControlFlow<()> = VisitMut::visit(&mut query.order_by, &mut shown);
}

/// Looks for two calls of one name.
struct Calls<'a> {
    tables: &'a Tables,
    /// Sub-queries around the visited place, which have names of their own.
    queries: usize,
    /// By the planner's name of a call, what it is.
    names: HashMap<String, String>,
    clash: bool,
}

impl Visitor for Calls<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.queries == 0 && matches!(expr, Expr::Function(_)) {
            self.compare(expr);
        }
        ControlFlow::Continue(())
    }
}

impl Calls<'_> {
    fn compare(&mut self, expr: &Expr) {
        let exact = spelled(expr, &mut Plain { tables: self.tables, with_casts: true });
        let known = self.names.entry(made_up_name(expr, self.tables)).or_insert_with(|| exact.clone());
        self.clash |= *known != exact;
    }
}

/// Writes casts in a way that names show and the optimizer takes back.
struct ShownCasts;

impl VisitorMut for ShownCasts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { .. } = expr {
            let cast = std::mem::replace(expr, Expr::value(Value::Null));
            *expr = Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: vec![CaseWhen { condition: Expr::value(Value::Boolean(true)), result: cast }],
                else_result: None,
            };
        }
        ControlFlow::Continue(())
    }
}
