//! Which statements and clauses pass, told on the syntax tree.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, ArrayElemTypeDef, DataType, Expr, Function, FunctionArguments, GroupByExpr, ObjectName, ObjectNamePart,
    OrderByKind, Query, Select, SetExpr, TableFactor, ValueWithSpan, Visit, Visitor,
};

use super::leading::{CONFIGURE_INSTEAD, FETCH_INSTEAD, LOAD_INSTEAD, QUERY_INSTEAD, SHOW_INSTEAD, refused};
use super::{SqlLimits, expand};
use crate::error::EngineError;
use crate::system::JOB_FUNCTION;

/// Table functions that read nothing and stream what they make.
pub(crate) const TABLE_FUNCTIONS: [&str; 2] = ["generate_series", "range"];

/// Lets through queries, EXPLAIN of a query, and the statements that show what there is.
pub(super) fn check(statement: &Statement, limits: &SqlLimits) -> Result<(), EngineError> {
    match statement {
        Statement::Statement(statement) => check_plain(statement, limits),
        Statement::Explain(explain) => match explain.statement.as_ref() {
            Statement::Statement(inner) => match inner.as_ref() {
                ast::Statement::Query(query) => check_query(query, limits),
                other => Err(refused(&format!("EXPLAIN of {}", name_of(other)), "EXPLAIN takes a query")),
            },
            Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Explain(_) | Statement::Reset(_) => {
                Err(refused("EXPLAIN of anything but a query", "EXPLAIN takes a query"))
            }
        },
        Statement::CreateExternalTable(_) => Err(refused("CREATE EXTERNAL TABLE", LOAD_INSTEAD)),
        Statement::CopyTo(_) => Err(refused("COPY", FETCH_INSTEAD)),
        Statement::Reset(_) => Err(refused("RESET", CONFIGURE_INSTEAD)),
    }
}

fn check_plain(statement: &ast::Statement, limits: &SqlLimits) -> Result<(), EngineError> {
    match statement {
        ast::Statement::Query(query) => check_query(query, limits),
        ast::Statement::Explain { statement, .. } => match statement.as_ref() {
            ast::Statement::Query(query) => check_query(query, limits),
            other => Err(refused(&format!("EXPLAIN of {}", name_of(other)), "EXPLAIN takes a query")),
        },
        ast::Statement::ExplainTable { table_name, .. } => check_relation(table_name),
        ast::Statement::ShowColumns { show_options, .. } => {
            match show_options.show_in.as_ref().and_then(|show_in| show_in.parent_name.as_ref()) {
                Some(table) => check_relation(table),
                None => Ok(()),
            }
        }
        ast::Statement::ShowTables { .. }
        | ast::Statement::ShowDatabases { .. }
        | ast::Statement::ShowSchemas { .. } => Ok(()),
        ast::Statement::ShowVariable { .. }
        | ast::Statement::ShowVariables { .. }
        | ast::Statement::ShowStatus { .. }
        | ast::Statement::ShowFunctions { .. }
        | ast::Statement::ShowCreate { .. }
        | ast::Statement::ShowCatalogs { .. }
        | ast::Statement::ShowViews { .. }
        | ast::Statement::ShowProcessList { .. }
        | ast::Statement::ShowObjects(_)
        | ast::Statement::ShowCharset(_)
        | ast::Statement::ShowCollation { .. } => Err(refused(&name_of(statement), SHOW_INSTEAD)),
        ast::Statement::Set(_) => Err(refused("SET", CONFIGURE_INSTEAD)),
        other => Err(refused(&name_of(other), QUERY_INSTEAD)),
    }
}

/// The first words of a statement, without what may be private in it.
fn name_of(statement: &ast::Statement) -> String {
    let text = statement.to_string();
    let words: Vec<&str> =
        text.split_whitespace().take(2).take_while(|word| word.chars().all(|c| c.is_ascii_uppercase())).collect();
    if words.is_empty() { "this statement".to_owned() } else { words.join(" ") }
}

fn check_query(query: &Query, limits: &SqlLimits) -> Result<(), EngineError> {
    let mut checker = Checker { limits, tables: 0, depth: 0 };
    match query.visit(&mut checker) {
        ControlFlow::Continue(()) => expand::check(query, limits),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Checker<'a> {
    limits: &'a SqlLimits,
    tables: usize,
    /// Queries around the visited place.
    depth: usize,
}

impl Visitor for Checker<'_> {
    type Break = EngineError;

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<EngineError> {
        ControlFlow::Break(refused(&format!("{} within a query", name_of(statement)), LOAD_INSTEAD))
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<EngineError> {
        let checked = self.check_clauses(query);
        self.depth += 1;
        into_flow(checked)
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<EngineError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<EngineError> {
        into_flow(self.check_select(select))
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<EngineError> {
        into_flow(check_relation(relation))
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<EngineError> {
        self.tables += 1;
        into_flow(self.check_tables().and_then(|()| check_table_factor(table)))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<EngineError> {
        match expr {
            Expr::Function(Function { args: FunctionArguments::List(list), .. }) => {
                into_flow(self.check_items(list.args.len(), "arguments of one function"))
            }
            Expr::Cast { data_type, .. } => into_flow(self.check_type(data_type)),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<EngineError> {
        let bytes = value.value.clone().into_string().map_or(0, |text| text.len());
        if bytes > self.limits.literal_bytes {
            return ControlFlow::Break(EngineError::TooLarge(format!(
                "a text of {bytes} bytes in the statement; at most {} are read",
                self.limits.literal_bytes
            )));
        }
        ControlFlow::Continue(())
    }
}

impl Checker<'_> {
    fn check_clauses(&mut self, query: &Query) -> Result<(), EngineError> {
        if let Some(with) = &query.with {
            self.tables += with.cte_tables.len();
            self.check_tables()?;
        }
        if !query.locks.is_empty() {
            return Err(refused("FOR UPDATE", "every query reads one snapshot; leave it out"));
        }
        ignored(query.for_clause.is_some(), "FOR XML and FOR JSON")?;
        ignored(query.settings.is_some(), "SETTINGS")?;
        ignored(query.format_clause.is_some(), "FORMAT")?;
        if let SetExpr::Table(_) = query.body.as_ref() {
            return Err(EngineError::Unsupported("TABLE t is not supported; write SELECT * FROM t".to_owned()));
        }
        if let Some(order_by) = &query.order_by {
            ignored(order_by.interpolate.is_some(), "INTERPOLATE")?;
            if let OrderByKind::Expressions(items) = &order_by.kind {
                self.check_items(items.len(), "columns of one ORDER BY")?;
                ignored(items.iter().any(|item| item.with_fill.is_some()), "WITH FILL")?;
            }
        }
        // Its names are not resolved.
        ignored(!query.pipe_operators.is_empty(), "the pipe operator |>")?;
        Ok(())
    }

    /// Clauses that the planner would drop without a word are refused: the answer would be wrong.
    fn check_select(&self, select: &Select) -> Result<(), EngineError> {
        if select.into.is_some() {
            return Err(refused("SELECT INTO", LOAD_INSTEAD));
        }
        ignored(select.prewhere.is_some(), "PREWHERE")?;
        ignored(!select.connect_by.is_empty(), "CONNECT BY")?;
        ignored(!select.distribute_by.is_empty(), "DISTRIBUTE BY")?;
        ignored(select.value_table_mode.is_some(), "SELECT AS VALUE and SELECT AS STRUCT")?;
        ignored(select.exclude.is_some(), "EXCLUDE after the SELECT list")?;
        self.check_items(select.projection.len(), "columns of one SELECT")?;
        let modifiers = match &select.group_by {
            GroupByExpr::All(modifiers) => modifiers,
            GroupByExpr::Expressions(items, modifiers) => {
                self.check_items(items.len(), "columns of one GROUP BY")?;
                modifiers
            }
        };
        ignored(!modifiers.is_empty(), "GROUP BY … WITH")
    }

    fn check_items(&self, items: usize, what: &str) -> Result<(), EngineError> {
        if items > self.limits.columns {
            return Err(EngineError::TooLarge(format!(
                "the statement has {items} {what}; at most {} are planned",
                self.limits.columns
            )));
        }
        Ok(())
    }

    /// A value of `INT[1000000000]` takes 4 GB even when it is null.
    fn check_type(&self, data_type: &DataType) -> Result<(), EngineError> {
        let mut items = 1_u64;
        let mut inner = data_type;
        while let DataType::Array(element) = inner {
            inner = match element {
                ArrayElemTypeDef::SquareBracket(element, size) => {
                    items = items.saturating_mul(size.unwrap_or(1));
                    element
                }
                ArrayElemTypeDef::AngleBracket(element) | ArrayElemTypeDef::Parenthesis(element) => element,
                ArrayElemTypeDef::None => break,
            };
        }
        if items > self.limits.columns as u64 {
            return Err(EngineError::TooLarge(format!(
                "an array type of {items} items; at most {} are made, or any number without a size",
                self.limits.columns
            )));
        }
        Ok(())
    }

    fn check_tables(&self) -> Result<(), EngineError> {
        if self.tables > self.limits.tables {
            return Err(EngineError::TooLarge(format!(
                "the statement reads more than {} tables; split it",
                self.limits.tables
            )));
        }
        Ok(())
    }
}

fn check_table_factor(table: &TableFactor) -> Result<(), EngineError> {
    match table {
        TableFactor::Table {
            name, args, with_hints, version, with_ordinality, partitions, json_path, sample, ..
        } => {
            ignored(!with_hints.is_empty(), "WITH hints of a table")?;
            ignored(version.is_some(), "a table version")?;
            ignored(*with_ordinality, "WITH ORDINALITY")?;
            ignored(!partitions.is_empty(), "PARTITION of a table")?;
            ignored(json_path.is_some(), "a path after a table")?;
            ignored(sample.is_some(), "TABLESAMPLE")?;
            if args.is_some() { check_table_function(name) } else { Ok(()) }
        }
        TableFactor::Function { name, with_ordinality, .. } => {
            ignored(*with_ordinality, "WITH ORDINALITY")?;
            check_table_function(name)
        }
        TableFactor::Derived { sample, .. } => ignored(sample.is_some(), "TABLESAMPLE"),
        TableFactor::UNNEST { .. } | TableFactor::NestedJoin { .. } => Ok(()),
        TableFactor::TableFunction { .. }
        | TableFactor::JsonTable { .. }
        | TableFactor::OpenJsonTable { .. }
        | TableFactor::Pivot { .. }
        | TableFactor::Unpivot { .. }
        | TableFactor::MatchRecognize { .. }
        | TableFactor::XmlTable { .. }
        | TableFactor::SemanticView { .. } => {
            Err(EngineError::Unsupported("this form of table in FROM is not supported".to_owned()))
        }
    }
}

fn check_table_function(name: &ObjectName) -> Result<(), EngineError> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)]
            if TABLE_FUNCTIONS.iter().chain([&JOB_FUNCTION]).any(|known| ident.value.eq_ignore_ascii_case(known)) =>
        {
            Ok(())
        }
        _ => Err(refused(
            &format!("the table function {name}"),
            "generate_series, range, unnest and job are the table functions there are",
        )),
    }
}

/// `information_schema.df_settings` is the configuration under another name.
fn check_relation(name: &ObjectName) -> Result<(), EngineError> {
    let hidden = name.0.last().and_then(ObjectNamePart::as_ident).is_some_and(|last| {
        last.value.eq_ignore_ascii_case("df_settings")
            && name
                .0
                .iter()
                .rev()
                .nth(1)
                .and_then(ObjectNamePart::as_ident)
                .is_none_or(|schema| schema.value.eq_ignore_ascii_case("information_schema"))
    });
    if hidden { Err(refused("reading df_settings", SHOW_INSTEAD)) } else { Ok(()) }
}

fn ignored(present: bool, clause: &str) -> Result<(), EngineError> {
    if present { Err(EngineError::Unsupported(format!("{clause} is not supported"))) } else { Ok(()) }
}

fn into_flow(result: Result<(), EngineError>) -> ControlFlow<EngineError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}
