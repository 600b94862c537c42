//! Statements with parameters, statements that write, and uploads.

use arrow::array::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};
use futures::{Stream, StreamExt};

use crate::{Connection, Result, Rows};

/// What an upload does where its table exists, and where it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadMode {
    /// Makes the table; an error where it exists.
    Create,
    /// Adds to the table; an error where there is none.
    Append,
    /// Makes the table, in place of one that exists.
    Replace,
    /// Adds to the table, which is made where there is none.
    CreateAppend,
}

impl UploadMode {
    fn options(self) -> TableDefinitionOptions {
        let (absent, present) = match self {
            UploadMode::Create => (TableNotExistOption::Create, TableExistsOption::Fail),
            UploadMode::Append => (TableNotExistOption::Fail, TableExistsOption::Append),
            UploadMode::Replace => (TableNotExistOption::Create, TableExistsOption::Replace),
            UploadMode::CreateAppend => (TableNotExistOption::Create, TableExistsOption::Append),
        };
        TableDefinitionOptions { if_not_exist: absent.into(), if_exists: present.into() }
    }
}

impl Connection {
    /// Runs a query with a row of values for its parameters `?`, a column for each, in order.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn query_with(&mut self, sql: &str, parameters: RecordBatch) -> Result<Rows> {
        let mut prepared = self.client.prepare(sql.to_string(), None).await?;
        prepared.set_parameters(parameters)?;
        let info = prepared.execute().await?;
        self.rows(info)
    }

    /// Runs a statement that writes; how many rows it wrote.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn update(&mut self, sql: &str) -> Result<i64> {
        Ok(self.client.execute_update(sql.to_string(), None).await?)
    }

    /// Runs a statement that writes once for each row of parameters; how many rows it wrote.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn update_with(&mut self, sql: &str, rows: RecordBatch) -> Result<i64> {
        let mut prepared = self.client.prepare(sql.to_string(), None).await?;
        prepared.set_parameters(rows)?;
        let written = prepared.execute_update().await?;
        prepared.close().await?;
        Ok(written)
    }

    /// Loads batches into a table; how many rows were written.
    ///
    /// # Errors
    /// One of the batches; the server's own, with its gRPC code.
    pub async fn upload<S>(&mut self, database: &str, table: &str, mode: UploadMode, batches: S) -> Result<i64>
    where
        S: Stream<Item = arrow::error::Result<RecordBatch>> + Send + 'static,
    {
        let command = CommandStatementIngest {
            table_definition_options: Some(mode.options()),
            table: table.to_string(),
            schema: Some(database.to_string()),
            ..CommandStatementIngest::default()
        };
        Ok(self.client.execute_ingest(command, batches.map(|batch| batch.map_err(FlightError::from))).await?)
    }
}
