//! Statements that do something instead of giving rows: each kind is run in one place, once, by
//! whichever call brings it, GetFlightInfo or DoPut. What came of it is a few rows, which travel in
//! the ticket, so that redeeming a ticket never runs anything.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
pub(super) use skyflight_engine::guard::Command;
use skyflight_engine::guard::classify;
use skyflight_engine::parameters::Described;
use tokio::runtime::{Handle, RuntimeFlavor};
use tonic::Status;
use uuid::Uuid;

use super::cancel::{absent, word};
use super::metadata::result_schema;
use super::statement::Statements;
use crate::error::{bad_request, internal, status_of};
use crate::session::Caller;
use crate::session::options::check_set;

/// Texts longer than this are read where waiting is allowed.
const LONG_TEXT_BYTES: usize = 64 << 10;

/// What came of a statement that is no query.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Rows of [`schema_of`] the statement.
    pub(super) rows: RecordBatch,
    /// Rows of tables that were written, where that means something.
    pub(super) affected: Option<u64>,
}

impl Outcome {
    /// What comes of a change: no rows.
    fn update(affected: Option<u64>) -> Outcome {
        Outcome { rows: RecordBatch::new_empty(Arc::new(Schema::empty())), affected }
    }
}

impl Statements {
    /// Tells what a statement is.
    ///
    /// Errors: `InvalidArgument` for text that is too long, or that begins like one of the commands and
    /// goes on otherwise.
    pub(super) fn classify(&self, sql: &str) -> Result<Command, Status> {
        let classified = || classify(sql, self.sql_limits()).map_err(|error| status_of(&error, None));
        // Long texts take milliseconds, in which other calls go on elsewhere.
        let elsewhere = Handle::try_current().is_ok_and(|here| here.runtime_flavor() == RuntimeFlavor::MultiThread);
        if sql.len() > LONG_TEXT_BYTES && elsewhere { tokio::task::block_in_place(classified) } else { classified() }
    }

    /// What a statement gives and takes; nothing is run.
    ///
    /// Errors: those of planning the query in it; `InvalidArgument` for parameters where none are taken.
    pub(super) async fn describe(&self, caller: &Caller, command: &Command) -> Result<Described, Status> {
        let targets = match command {
            Command::Insert { table, columns, .. } => self.insert_types(caller, table, columns).await?,
            _ => Vec::new(),
        };
        let within = match query_within(command) {
            Some(sql) => self.describe_query(caller, sql, targets).await?,
            None => Described { rows: Arc::new(Schema::empty()), parameters: Arc::new(Schema::empty()) },
        };
        Ok(match schema_of(command) {
            Some(rows) => Described { rows, parameters: within.parameters },
            None => within,
        })
    }

    /// Runs a statement that is no query, to its end, with rows of values for its parameters: once for
    /// each of them, so that without rows nothing is changed.
    ///
    /// Errors: `InvalidArgument` for a query; those of what is run.
    pub(super) async fn run(
        &self,
        caller: &Caller,
        command: Command,
        values: Option<&RecordBatch>,
    ) -> Result<Outcome, Status> {
        if is_update(&command) && values.is_some_and(|values| values.num_rows() == 0) {
            return Ok(Outcome::update(Some(0)));
        }
        match command {
            Command::Query(sql) => {
                // Planning refuses whatever is not a query, each kind in its own words.
                self.describe_query(caller, &sql, Vec::new()).await?;
                Err(bad_request("this statement returns rows and changes nothing; run it as a query, not as an update"))
            }
            Command::Submit { query } => {
                let view = self.submit(caller, &query, values).await?;
                told(&view.job.id, view.job.state.as_str(), Some(view.job.warnings.join("; ")))
            }
            Command::Cancel { id } => {
                let parsed: Uuid = id.trim().parse().map_err(|_| absent(&id))?;
                let status = self.cancel(caller, parsed).await?.ok_or_else(|| absent(&id))?;
                told(&parsed.to_string(), word(status), None)
            }
            Command::SetOption(option) => {
                check_set(caller, &option, self.parts().store.as_ref()).await?;
                Ok(Outcome::update(None))
            }
            Command::CreateTable(create) => Ok(Outcome::update(self.create_table(caller, &create, values).await?)),
            Command::DropTable { table, if_exists } => {
                self.drop_table(caller, &table, if_exists).await?;
                Ok(Outcome::update(None))
            }
            Command::Insert { table, columns, query } => {
                Ok(Outcome::update(Some(self.insert(caller, &table, columns, &query, values).await?)))
            }
        }
    }
}

/// The schema of the rows that running a command gives; `None` of a query, whose schema is its own.
pub(super) fn schema_of(command: &Command) -> Option<SchemaRef> {
    match command {
        Command::Query(_) => None,
        Command::Submit { .. } | Command::Cancel { .. } => Some(Arc::clone(&TOLD)),
        Command::SetOption(_) | Command::CreateTable(_) | Command::DropTable { .. } | Command::Insert { .. } => {
            Some(Arc::new(Schema::empty()))
        }
    }
}

/// What is told of a job or query that was submitted or cancelled: one row.
static TOLD: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    result_schema(&Arc::new(Schema::new(vec![text("id"), text("state"), text("warnings")])))
});

fn told(id: &str, state: &str, warnings: Option<String>) -> Result<Outcome, Status> {
    let text = |value: Option<&str>| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let warnings = warnings.filter(|warnings| !warnings.is_empty());
    let columns = vec![text(Some(id)), text(Some(state)), text(warnings.as_deref())];
    let rows =
        RecordBatch::try_new(Arc::clone(&TOLD), columns).map_err(|e| internal("an outcome cannot be told", e))?;
    Ok(Outcome { rows, affected: None })
}

/// The query in a statement.
fn query_within(command: &Command) -> Option<&str> {
    match command {
        Command::Query(query) | Command::Submit { query } | Command::Insert { query, .. } => Some(query),
        Command::CreateTable(create) => Some(&create.query),
        Command::Cancel { .. } | Command::SetOption(_) | Command::DropTable { .. } => None,
    }
}

/// Whether clients are to send a command as an update, for which they expect a count and no rows.
pub(super) fn is_update(command: &Command) -> bool {
    match command {
        Command::Query(_) | Command::Submit { .. } | Command::Cancel { .. } => false,
        Command::SetOption(_) | Command::CreateTable(_) | Command::DropTable { .. } | Command::Insert { .. } => true,
    }
}
