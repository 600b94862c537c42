//! Tables and files that a test file asks for and that are not here, because they come from outside
//! the crate or from what does. Statements that need them are left out, and no others.

use std::collections::BTreeSet;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;

/// How paths to files begin that are not in the crate.
const OUTSIDE: [&str; 3] = ["'../", "'data/", "'test_files/tpch/data/"];

/// What is not here.
#[derive(Debug, Default)]
pub(super) struct Missing {
    tables: BTreeSet<String>,
    files: BTreeSet<String>,
}

/// What a statement leaves behind and what files it reads.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) table: Option<String>,
    file: Option<String>,
    reads: Vec<String>,
}

impl Missing {
    /// True of a statement that reads files which are not here.
    pub(super) fn is_needed_by(&self, sql: &str, effects: &Effects) -> bool {
        let in_a_gone_folder = |read: &String| self.files.iter().any(|file| file.starts_with(read));
        OUTSIDE.iter().any(|path| sql.contains(path))
            || self.files.iter().any(|file| sql.contains(file) && effects.file.as_ref() != Some(file))
            || effects.reads.iter().any(in_a_gone_folder)
    }

    /// True of an error that says that one of the tables is not here.
    pub(super) fn explains(&self, error: &DataFusionError) -> bool {
        let text = error.strip_backtrace().to_lowercase();
        self.tables.iter().any(|table| {
            ["'", "."].iter().any(|before| {
                [" not found", " doesn't exist"].iter().any(|after| text.contains(&format!("{before}{table}'{after}")))
            })
        })
    }

    /// A statement was left out: what it would have made is missing too.
    pub(super) fn add(&mut self, effects: &Effects) {
        self.tables.extend(effects.table.clone());
        self.files.extend(effects.file.clone());
    }

    /// A statement was run.
    pub(super) fn remove(&mut self, effects: &Effects) {
        effects.table.as_ref().map(|table| self.tables.remove(table));
        effects.file.as_ref().map(|file| self.files.remove(file));
    }
}

impl Effects {
    pub(super) fn of(sql: &str) -> Effects {
        let parsed = DFParserBuilder::new(sql).build().and_then(|mut parser| parser.parse_statements());
        match parsed.ok().and_then(|mut statements| statements.pop_front()) {
            Some(Statement::CreateExternalTable(create)) => {
                Effects { table: last_part(&create.name), reads: create.locations, file: None }
            }
            Some(Statement::CopyTo(copy)) => Effects { file: Some(copy.target), ..Effects::default() },
            Some(Statement::Statement(statement)) => match *statement {
                ast::Statement::CreateTable(create) => Effects::on_table(&create.name),
                ast::Statement::CreateView(create) => Effects::on_table(&create.name),
                ast::Statement::Insert(ast::Insert { table: ast::TableObject::TableName(name), .. }) => {
                    Effects::on_table(&name)
                }
                _ => Effects::default(),
            },
            _ => Effects::default(),
        }
    }

    fn on_table(name: &ast::ObjectName) -> Effects {
        Effects { table: last_part(name), ..Effects::default() }
    }
}

fn last_part(name: &ast::ObjectName) -> Option<String> {
    name.0.last()?.as_ident().map(|ident| ident.value.to_lowercase())
}
