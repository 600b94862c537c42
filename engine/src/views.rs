//! Tables that describe the tables: those of `information_schema`, for clients that list what there is.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::information_schema::{INFORMATION_SCHEMA, InformationSchemaProvider};
use datafusion::catalog::{MemoryCatalogProviderList, SchemaProvider};

use crate::Result;
use crate::fragment::error_of;
use crate::schema::client_schema;

/// The configuration, which no statement may read (`guard`).
const HIDDEN: &str = "df_settings";

/// A table that is made when it is read.
#[derive(Debug, Clone)]
pub struct View {
    /// The database it is found in.
    pub database: &'static str,
    /// Its name.
    pub name: String,
    /// The schema that `SELECT *` gives.
    pub schema: SchemaRef,
}

/// The views that every session sees, by name.
///
/// # Errors
/// `Internal`: DataFusion does not know its own tables.
pub async fn views() -> Result<Vec<View>> {
    // Names and columns do not depend on what is described.
    let described = InformationSchemaProvider::new(Arc::new(MemoryCatalogProviderList::new()));
    let mut found = Vec::new();
    for name in described.table_names() {
        if name == HIDDEN {
            continue;
        }
        if let Some(table) = described.table(&name).await.map_err(error_of)? {
            found.push(View { database: INFORMATION_SCHEMA, name, schema: client_schema(&table.schema()) });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn information_schema_is_described_without_the_configuration() {
        let views = views().await.unwrap();
        let names: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
        assert_eq!(names, ["columns", "parameters", "routines", "schemata", "tables", "views"]);
        assert_eq!(views[4].schema.field(2).name(), "table_name");
    }
}
