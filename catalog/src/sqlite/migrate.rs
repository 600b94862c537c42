//! Brings a catalog file to the schema this program knows, step by step, in one transaction: of two
//! processes that open a new file at once one does the work and the other finds it done.

use sqlx::SqliteConnection;

use crate::error::{CatalogError, Result};

// Never edit a step that was released; add the next.
const STEPS: [&str; 6] = [
    include_str!("../../migrations/0001_records.sql"),
    include_str!("../../migrations/0002_jobs.sql"),
    include_str!("../../migrations/0003_users.sql"),
    include_str!("../../migrations/0004_match_tables.sql"),
    include_str!("../../migrations/0005_bound_jobs.sql"),
    include_str!("../../migrations/0006_superseded.sql"),
];

/// Applies the steps the catalog lacks. `connection` is inside a write transaction that the caller commits.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<()> {
    sqlx::query("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .execute(&mut *connection)
        .await?;
    let found: Option<i64> =
        sqlx::query_scalar("SELECT MAX(version) FROM schema_version").fetch_one(&mut *connection).await?;
    let found = found.unwrap_or(0);
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(CatalogError::NewerSchema { found, known });
    }
    for (version, step) in (1_i64..).zip(STEPS).skip_while(|(version, _)| *version <= found) {
        sqlx::raw_sql(step).execute(&mut *connection).await?;
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(version).execute(&mut *connection).await?;
        tracing::info!(version, "catalog schema migrated");
    }
    Ok(())
}
