//! Users: few, read at every login.

use sqlx::{SqliteConnection, SqlitePool};

use super::value::now_unix_ms;
use crate::error::{CatalogError, Result};
use crate::names;
use crate::user::{PasswordHash, User, check_user_name};

type Row = (String, String, i64, i64);

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<User>> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT name, password_hash, created_unix_ms, password_unix_ms FROM users ORDER BY name_key")
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(from_row).collect())
}

pub(super) async fn find(pool: &SqlitePool, name: &str) -> Result<Option<User>> {
    let row: Option<Row> =
        sqlx::query_as("SELECT name, password_hash, created_unix_ms, password_unix_ms FROM users WHERE name_key = $1")
            .bind(names::key(name))
            .fetch_optional(pool)
            .await?;
    Ok(row.map(from_row))
}

pub(super) async fn add(write: &mut SqliteConnection, name: &str, password: &PasswordHash) -> Result<()> {
    check_user_name(name)?;
    let taken: Option<String> = sqlx::query_scalar("SELECT name FROM users WHERE name_key = $1")
        .bind(names::key(name))
        .fetch_optional(&mut *write)
        .await?;
    if let Some(name) = taken {
        return Err(CatalogError::AlreadyExists { what: "user", name });
    }
    let now = now_unix_ms();
    sqlx::query(
        "INSERT INTO users (name_key, name, password_hash, created_unix_ms, password_unix_ms) \
         VALUES ($1, $2, $3, $4, $4)",
    )
    .bind(names::key(name))
    .bind(name)
    .bind(&password.0)
    .bind(now)
    .execute(write)
    .await?;
    Ok(())
}

/// A second password within one millisecond, or after the clock went back, still counts as a later one.
pub(super) async fn set_password(write: &mut SqliteConnection, name: &str, password: &PasswordHash) -> Result<()> {
    let changed = sqlx::query(
        "UPDATE users SET password_hash = $1, password_unix_ms = \
           CASE WHEN $2 > password_unix_ms THEN $2 ELSE password_unix_ms + 1 END WHERE name_key = $3",
    )
    .bind(&password.0)
    .bind(now_unix_ms())
    .bind(names::key(name))
    .execute(&mut *write)
    .await?;
    if changed.rows_affected() == 0 { Err(not_found(write, name).await?) } else { Ok(()) }
}

pub(super) async fn remove(write: &mut SqliteConnection, name: &str) -> Result<()> {
    let removed =
        sqlx::query("DELETE FROM users WHERE name_key = $1").bind(names::key(name)).execute(&mut *write).await?;
    if removed.rows_affected() == 0 { Err(not_found(write, name).await?) } else { Ok(()) }
}

async fn not_found(connection: &mut SqliteConnection, name: &str) -> Result<CatalogError> {
    let existing: Vec<String> = sqlx::query_scalar("SELECT name FROM users").fetch_all(connection).await?;
    Ok(names::not_found("user", name, existing.iter().map(String::as_str)))
}

fn from_row((name, password, created_unix_ms, password_unix_ms): Row) -> User {
    User { name, password: PasswordHash(password), created_unix_ms, password_unix_ms }
}
