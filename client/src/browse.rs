//! What there is: databases, tables, columns and keys, by Flight SQL's own commands.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetTables};
use arrow_flight::{FlightInfo, IpcMessage};
use futures::TryStreamExt;

use crate::{ClientError, Connection, Result};

/// A table as the server names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// `TABLE` or `VIEW`.
    pub kind: String,
}

/// A column that refers to a column of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The column.
    pub column: String,
    /// The table it refers to.
    pub of_table: String,
    /// The column it refers to.
    pub of_column: String,
}

impl Connection {
    /// The databases the user may see, by name.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn databases(&mut self) -> Result<Vec<String>> {
        let info = self.client.get_db_schemas(CommandGetDbSchemas::default()).await?;
        let [names] = self.texts(info, ["db_schema_name"]).await?;
        Ok(names)
    }

    /// The tables the user may see, by database and name.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn tables(&mut self) -> Result<Vec<TableName>> {
        let info = self.client.get_tables(CommandGetTables::default()).await?;
        let [databases, names, kinds] = self.texts(info, ["db_schema_name", "table_name", "table_type"]).await?;
        let tables = databases.into_iter().zip(names).zip(kinds);
        Ok(tables.map(|((database, table), kind)| TableName { database, table, kind }).collect())
    }

    /// The columns of a table, with unit and description in their metadata.
    ///
    /// # Errors
    /// There is no such table; the server's own, with its gRPC code.
    pub async fn columns(&mut self, database: &str, table: &str) -> Result<SchemaRef> {
        let command = CommandGetTables {
            db_schema_filter_pattern: Some(literal_pattern(database)),
            table_name_filter_pattern: Some(literal_pattern(table)),
            include_schema: true,
            ..CommandGetTables::default()
        };
        let info = self.client.get_tables(command).await?;
        for batch in self.batches(info).await? {
            let schemas = batch.column_by_name("table_schema").and_then(|c| c.as_binary_opt::<i32>());
            let schemas = schemas.ok_or_else(|| ClientError::Protocol("GetTables without table_schema".to_string()))?;
            if let Some(bytes) = schemas.iter().flatten().next() {
                return Ok(Schema::try_from(IpcMessage(bytes.to_vec().into()))?.into());
            }
        }
        Err(ClientError::Protocol(format!("there is no table {database}.{table}")))
    }

    /// The columns of a table's primary key; none where it has no such key.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn primary_key(&mut self, database: &str, table: &str) -> Result<Vec<String>> {
        let command =
            CommandGetPrimaryKeys { catalog: None, db_schema: Some(database.to_string()), table: table.to_string() };
        let info = self.client.get_primary_keys(command).await?;
        let [columns] = self.texts(info, ["column_name"]).await?;
        Ok(columns)
    }

    /// What a table's columns refer to.
    ///
    /// # Errors
    /// The server's own, with its gRPC code.
    pub async fn foreign_keys(&mut self, database: &str, table: &str) -> Result<Vec<ForeignKey>> {
        let command =
            CommandGetImportedKeys { catalog: None, db_schema: Some(database.to_string()), table: table.to_string() };
        let info = self.client.get_imported_keys(command).await?;
        let [columns, tables, of] = self.texts(info, ["fk_column_name", "pk_table_name", "pk_column_name"]).await?;
        let keys = columns.into_iter().zip(tables).zip(of);
        Ok(keys.map(|((column, of_table), of_column)| ForeignKey { column, of_table, of_column }).collect())
    }

    async fn batches(&self, info: FlightInfo) -> Result<Vec<RecordBatch>> {
        self.rows(info)?.try_collect().await
    }

    /// Columns of text of an answer; NULL becomes empty.
    async fn texts<const N: usize>(&self, info: FlightInfo, names: [&str; N]) -> Result<[Vec<String>; N]> {
        let mut found = [const { Vec::new() }; N];
        for batch in self.batches(info).await? {
            for (name, values) in names.iter().zip(&mut found) {
                let column = batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
                let column = column.ok_or_else(|| ClientError::Protocol(format!("an answer without {name}")))?;
                values.extend(column.iter().map(|text| text.unwrap_or_default().to_string()));
            }
        }
        Ok(found)
    }
}

/// A search pattern that only `name` itself fits.
fn literal_pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::literal_pattern;

    #[test]
    fn wildcards_in_a_name_are_escaped() {
        assert_eq!(literal_pattern(r"forced_source 100% a\b"), r"forced\_source 100\% a\\b");
    }
}
