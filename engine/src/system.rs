//! The database `system`: tables that say how the system itself is, and the results of jobs.
//!
//! Their rows come from whoever runs queries, through [`SystemTables`]. A table is read when the query
//! that names it is planned, and read for its user alone.
//!
//! `job('<id>')` is a table of this database too: [`find_jobs`] makes it one before names are resolved,
//! so that its columns are found in any case, as those of any table.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor, Value, VisitMut,
    VisitorMut,
};

use crate::names::{NameDatabase, NameTable};
use crate::plan::dispatch::into_plan_error;
use crate::{EngineError, Result};

/// The name of the database.
pub const SYSTEM: &str = "system";

/// The table function that gives the rows of a job.
pub(crate) const JOB_FUNCTION: &str = "job";

/// Knows how the system is.
#[async_trait]
pub trait SystemTables: Debug + Send + Sync {
    /// The tables, by name.
    fn tables(&self) -> Vec<(&'static str, SchemaRef)>;

    /// The rows of one of them that `user` may see.
    async fn rows(&self, table: &str, user: &str) -> Result<RecordBatch>;

    /// The rows of a job of `user`.
    ///
    /// Errors: `NotFound` where there is none, or another's; otherwise why it has no rows.
    async fn job(&self, id: &str, user: &str) -> Result<Arc<dyn TableProvider>>;
}

/// The database as one session sees it.
#[derive(Debug)]
pub(crate) struct SystemDatabase {
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
}

impl SystemDatabase {
    /// The tables of `source` for `user`, and the results of these jobs of theirs.
    pub(crate) async fn open(source: &Arc<dyn SystemTables>, user: &str, jobs: &[String]) -> Result<SystemDatabase> {
        let mut tables: BTreeMap<String, Arc<dyn TableProvider>> = BTreeMap::new();
        for (name, schema) in source.tables() {
            let table = SystemTable { name, schema, source: Arc::clone(source), user: user.to_owned() };
            tables.insert(name.to_owned(), Arc::new(table));
        }
        for id in jobs {
            tables.insert(job_table(id), source.job(id, user).await?);
        }
        Ok(SystemDatabase { tables })
    }

    /// The names of its tables and columns.
    pub(crate) fn names(&self) -> NameDatabase {
        let tables = self.tables.iter().map(|(name, table)| {
            let columns = table.schema().fields().iter().map(|field| field.name().clone()).collect();
            Arc::new(NameTable { name: name.clone(), columns })
        });
        NameDatabase { name: SYSTEM.to_owned(), tables: tables.collect() }
    }
}

#[async_trait]
impl SchemaProvider for SystemDatabase {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().filter(|name| !name.starts_with(JOB_TABLE)).cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.tables.get(name).map(Arc::clone))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

/// One table, not read yet.
#[derive(Debug)]
struct SystemTable {
    name: &'static str,
    schema: SchemaRef,
    source: Arc<dyn SystemTables>,
    user: String,
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let rows = self.source.rows(self.name, &self.user).await.map_err(into_plan_error)?;
        let memory: Arc<dyn ExecutionPlan> =
            MemorySourceConfig::try_new_exec(&[vec![rows]], Arc::clone(&self.schema), projection.cloned())?;
        Ok(memory)
    }
}

/// How the names of tables begin that are results of jobs; no table that can be declared has a blank.
const JOB_TABLE: &str = "job ";

fn job_table(id: &str) -> String {
    format!("{JOB_TABLE}{id}")
}

/// Makes each `job('<id>')` of the statement a table of [`SYSTEM`], and gives the ids.
///
/// # Errors
/// `Invalid`: the function was called with anything but one text.
pub(crate) fn find_jobs(statement: &mut Statement) -> Result<Vec<String>> {
    let mut finder = JobFinder::default();
    let flow = match statement {
        Statement::Statement(statement) => statement.visit(&mut finder),
        Statement::Explain(explain) => return find_jobs(&mut explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => return Ok(Vec::new()),
    };
    match flow {
        ControlFlow::Continue(()) => Ok(finder.ids),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The job of a statement that is `SELECT * FROM job('<id>')`, before [`find_jobs`] has seen it.
pub(crate) fn whole_job(statement: &Statement, sql: &str) -> Option<String> {
    const LONGEST: usize = 200;
    let text = (sql.len() <= LONGEST).then(|| statement.to_string())?.to_ascii_lowercase();
    let id = text.strip_prefix("select * from job('")?.strip_suffix("')")?;
    (!id.contains('\'')).then(|| id.trim().to_owned())
}

#[derive(Default)]
struct JobFinder {
    ids: Vec<String>,
}

impl VisitorMut for JobFinder {
    type Break = EngineError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<EngineError> {
        let TableFactor::Table { name, alias, args: called @ Some(_), .. } = factor else {
            return ControlFlow::Continue(());
        };
        let [ObjectNamePart::Identifier(function)] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        if !function.value.eq_ignore_ascii_case(JOB_FUNCTION) {
            return ControlFlow::Continue(());
        }
        let Some(id) = called.as_ref().and_then(|called| only_text(&called.args)) else {
            return ControlFlow::Break(EngineError::Invalid(
                "job takes the id of a job as a text: job('0198c5a0-…')".to_owned(),
            ));
        };
        // The text of an id has more than one spelling.
        let id = id.trim().to_ascii_lowercase();
        alias.get_or_insert_with(|| TableAlias {
            explicit: true,
            name: Ident::new(JOB_FUNCTION),
            columns: Vec::new(),
            at: None,
        });
        *name = ObjectName::from(vec![Ident::new(SYSTEM), Ident::with_quote('"', job_table(&id))]);
        *called = None;
        if !self.ids.contains(&id) {
            self.ids.push(id);
        }
        ControlFlow::Continue(())
    }
}

fn only_text(args: &[FunctionArg]) -> Option<&str> {
    match args {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Value(value)))] => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}
