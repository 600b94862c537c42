//! Databases by name and by id.

use skyflight_sky::SchemeSpec;
use sqlx::{SqliteConnection, SqlitePool};

use super::value::{corrupt, next_id, now_unix_ms};
use crate::error::{CatalogError, Result};
use crate::ids::{DatabaseId, SnapshotId};
use crate::names;
use crate::records::Database;

type Row = (i64, String, Option<String>, Option<i64>, Option<String>);

fn database((id, name, scheme, current, description): Row) -> Result<Database> {
    let scheme = scheme.map(|text| scheme_from_sql(&name, &text)).transpose()?;
    Ok(Database { id: DatabaseId(id), name, scheme, current: current.map(SnapshotId), description })
}

pub(super) fn scheme_from_sql(database: &str, text: &str) -> Result<SchemeSpec> {
    serde_json::from_str(text).map_err(|error| corrupt(format!("the scheme of database \"{database}\""), error))
}

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<Database>> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, name, scheme, current_snapshot, description FROM databases \
         WHERE dropped_unix_ms IS NULL ORDER BY name_key",
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(database).collect()
}

pub(super) async fn by_name(connection: &mut SqliteConnection, name: &str) -> Result<Database> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, name, scheme, current_snapshot, description FROM databases \
         WHERE dropped_unix_ms IS NULL AND name_key = $1",
    )
    .bind(names::key(name))
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = row {
        return database(row);
    }
    let existing: Vec<String> =
        sqlx::query_scalar("SELECT name FROM databases WHERE dropped_unix_ms IS NULL ORDER BY name_key")
            .fetch_all(connection)
            .await?;
    Err(names::not_found("database", name, existing.iter().map(String::as_str)))
}

pub(super) async fn by_id(connection: &mut SqliteConnection, id: DatabaseId) -> Result<Database> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, name, scheme, current_snapshot, description FROM databases \
         WHERE dropped_unix_ms IS NULL AND id = $1",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    row.map(database).transpose()?.ok_or_else(|| missing(id))
}

fn missing(id: DatabaseId) -> CatalogError {
    names::not_found("database", &format!("#{id}"), [])
}

pub(super) async fn create(write: &mut SqliteConnection, name: &str, description: Option<&str>) -> Result<Database> {
    names::check_database_name(name)?;
    match by_name(write, name).await {
        Ok(existing) => {
            return Err(CatalogError::AlreadyExists { what: "database", name: existing.name });
        }
        Err(CatalogError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let id = next_id(write, "database").await?;
    sqlx::query("INSERT INTO databases (id, name, name_key, description, created_unix_ms) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(name)
        .bind(names::key(name))
        .bind(description)
        .bind(now_unix_ms())
        .execute(write)
        .await?;
    Ok(Database {
        id: DatabaseId(id),
        name: name.to_owned(),
        scheme: None,
        current: None,
        description: description.map(str::to_owned),
    })
}

pub(super) async fn mark_dropped(write: &mut SqliteConnection, id: DatabaseId) -> Result<()> {
    sqlx::query("UPDATE databases SET dropped_unix_ms = $2 WHERE id = $1")
        .bind(id.0)
        .bind(now_unix_ms())
        .execute(write)
        .await?;
    Ok(())
}

pub(super) async fn current_snapshot(pool: &SqlitePool, id: DatabaseId) -> Result<Option<SnapshotId>> {
    let row: Option<(Option<i64>,)> =
        sqlx::query_as("SELECT current_snapshot FROM databases WHERE id = $1 AND dropped_unix_ms IS NULL")
            .bind(id.0)
            .fetch_optional(pool)
            .await?;
    let (current,) = row.ok_or_else(|| missing(id))?;
    Ok(current.map(SnapshotId))
}

pub(super) async fn current_snapshots(pool: &SqlitePool) -> Result<Vec<SnapshotId>> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT current_snapshot FROM databases \
         WHERE dropped_unix_ms IS NULL AND current_snapshot IS NOT NULL ORDER BY name_key",
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(SnapshotId).collect())
}
