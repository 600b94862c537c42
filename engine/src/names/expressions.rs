//! Names within expressions.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Query, VisitMut, VisitorMut, WindowType,
};

use super::query::{Entries, Resolver};
use super::scope::{Scope, declared, find};
use crate::error::EngineError;

/// Where the columns of the result itself are found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outputs<'a> {
    /// Nowhere, as in WHERE.
    Hidden,
    /// Before those of FROM, as in ORDER BY.
    First(&'a [String]),
    /// After those of FROM, as in GROUP BY and HAVING.
    Last(&'a [String]),
}

/// Rewrites the names of expressions of one query.
pub(super) struct Expressions<'a> {
    pub(super) resolver: &'a Resolver<'a>,
    pub(super) scope: Scope<'a>,
    pub(super) entries: &'a Entries<'a>,
    pub(super) outputs: Outputs<'a>,
    /// Subqueries around the visited place, which are already done.
    depth: usize,
}

impl<'a> Expressions<'a> {
    pub(super) fn new(
        resolver: &'a Resolver<'a>,
        scope: Scope<'a>,
        entries: &'a Entries<'a>,
        outputs: Outputs<'a>,
    ) -> Self {
        Expressions { resolver, scope, entries, outputs, depth: 0 }
    }

    /// Rewrites the names of a part of the query that has no subqueries but in expressions.
    pub(super) fn rewrite<T: VisitMut>(&mut self, part: &mut T) -> Result<(), EngineError> {
        match part.visit(self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn rewrite_expr(&self, expr: &mut Expr) -> Result<(), EngineError> {
        match expr {
            Expr::Identifier(ident) if !is_variable(ident) => {
                if let Some(column) = self.column(ident)? {
                    *expr = column;
                }
                Ok(())
            }
            Expr::CompoundIdentifier(parts) if !parts.first().is_some_and(is_variable) => {
                self.scope.resolve_compound(parts)
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.rewrite_access(root, access_chain),
            Expr::Function(function) => self.rewrite_function(function),
            _ => Ok(()),
        }
    }

    fn column(&self, ident: &Ident) -> Result<Option<Expr>, EngineError> {
        let output = |names: &[String]| {
            let found = find(names, ident, || "the result".to_owned())?;
            Ok::<_, EngineError>(found.map(|name| Expr::Identifier(declared(ident, name))))
        };
        match self.outputs {
            Outputs::Hidden => self.scope.column(ident),
            Outputs::First(names) => match output(names)? {
                Some(column) => Ok(Some(column)),
                None => self.scope.column(ident),
            },
            Outputs::Last(names) => match self.scope.own_column(ident)? {
                Some(name) => Ok(Some(self.scope.written_out(ident, name))),
                None => match output(names)? {
                    Some(column) => Ok(Some(column)),
                    None => self.scope.column(ident),
                },
            },
        }
    }

    /// `t.list[1].field`: the names up to the first bracket are those of a column. They get quotes,
    /// because the visitor comes by each of them once more as if it stood alone.
    fn rewrite_access(&self, root: &mut Expr, chain: &mut Vec<AccessExpr>) -> Result<(), EngineError> {
        let mut parts = match root {
            Expr::Identifier(ident) => vec![ident.clone()],
            Expr::CompoundIdentifier(parts) => parts.clone(),
            _ => Vec::new(),
        };
        let mut dots = 0;
        for access in chain.iter() {
            match access {
                AccessExpr::Dot(Expr::Identifier(ident)) if !parts.is_empty() => parts.push(ident.clone()),
                _ => break,
            }
            dots += 1;
        }
        match parts.as_mut_slice() {
            [] => {}
            [column] => match self.column(column)? {
                Some(Expr::Identifier(found)) => *column = found,
                Some(Expr::CompoundIdentifier(found)) => parts = found,
                // A structure that was merged stays as written, for the planner to complain of.
                _ => {}
            },
            _ => self.scope.resolve_compound(&mut parts)?,
        }
        let mut exact = parts.into_iter().map(|part| Ident { quote_style: Some('"'), ..part });
        if let Some(first) = exact.next() {
            *root = Expr::Identifier(first);
            chain.splice(..dots, exact.map(|part| AccessExpr::Dot(Expr::Identifier(part))));
        }
        for access in chain.iter_mut() {
            if let AccessExpr::Dot(Expr::Identifier(field)) = access {
                field.quote_style = Some('"');
            }
        }
        Ok(())
    }

    fn rewrite_function(&self, function: &mut Function) -> Result<(), EngineError> {
        lower_function_name(&mut function.name);
        match &mut function.over {
            Some(WindowType::NamedWindow(name)) => lower(name),
            Some(WindowType::WindowSpec(spec)) => spec.window_name.iter_mut().for_each(lower),
            None => {}
        }
        let FunctionArguments::List(list) = &mut function.args else {
            return Ok(());
        };
        for arg in &mut list.args {
            let (FunctionArg::Unnamed(arg) | FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. }) = arg;
            if let FunctionArgExpr::QualifiedWildcard(qualifier) = arg {
                self.rewrite_qualifier(qualifier)?;
            }
        }
        Ok(())
    }

    fn rewrite_qualifier(&self, qualifier: &mut ObjectName) -> Result<(), EngineError> {
        let mut parts: Vec<Ident> = qualifier.0.iter().filter_map(ObjectNamePart::as_ident).cloned().collect();
        self.scope.resolve_wildcard(&mut parts)?;
        *qualifier = ObjectName::from(parts);
        Ok(())
    }
}

impl VisitorMut for Expressions<'_> {
    type Break = EngineError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<EngineError> {
        if self.depth == 0
            && let Err(error) = self.resolver.resolve_query(query, &self.scope, self.entries)
        {
            return ControlFlow::Break(error);
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<EngineError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<EngineError> {
        if self.depth == 0
            && let Err(error) = self.rewrite_expr(expr)
        {
            return ControlFlow::Break(error);
        }
        ControlFlow::Continue(())
    }
}

/// `@name` is a variable, not a column.
fn is_variable(ident: &Ident) -> bool {
    ident.quote_style.is_none() && ident.value.starts_with('@')
}

/// Functions are registered in lower case, and none needs quotes.
pub(super) fn lower_function_name(name: &mut ObjectName) {
    if let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice() {
        lower(ident);
    }
}

/// Makes a name that is local to the statement the same wherever it stands.
pub(super) fn lower(ident: &mut Ident) {
    ident.value = ident.value.to_lowercase();
    ident.quote_style = None;
}
