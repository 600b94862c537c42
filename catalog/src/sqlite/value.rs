//! Between the records' types and the few that SQL has.

use std::fmt::Display;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::SqliteConnection;

use crate::error::{CatalogError, Result};

/// Characters of a text or an error in a list, of which thousands are held at once.
pub(super) const LISTED_CHARS: usize = 16 << 10;

/// Milliseconds of Unix time by this machine's clock.
pub(super) fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The next id of `noun`, never given out before nor again, unless the write transaction is rolled back.
pub(super) async fn next_id(write: &mut SqliteConnection, noun: &'static str) -> Result<i64> {
    let id = sqlx::query_scalar("UPDATE last_ids SET last_id = last_id + 1 WHERE noun = $1 RETURNING last_id")
        .bind(noun)
        .fetch_one(write)
        .await?;
    Ok(id)
}

/// A count as SQL keeps it.
pub(super) fn count_to_sql(what: &str, count: u64) -> Result<i64> {
    i64::try_from(count)
        .map_err(|_| CatalogError::Invalid(format!("{count} {what} are more than the catalog can count")))
}

/// A count read back.
pub(super) fn count_from_sql(what: &str, stored: i64) -> Result<u64> {
    u64::try_from(stored).map_err(|_| corrupt(what, format!("a count of {stored}")))
}

/// A word read back.
pub(super) fn word_from_sql<T>(what: &str, stored: &str) -> Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    stored.parse().map_err(|error: T::Err| corrupt(what, error.to_string()))
}

pub(super) fn corrupt(what: impl Display, reason: impl Display) -> CatalogError {
    CatalogError::Corrupt { what: what.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn counts_beyond_sql_are_refused() {
        assert_eq!(count_to_sql("rows", i64::MAX as u64).unwrap(), i64::MAX);
        assert!(count_to_sql("rows", u64::MAX).is_err());
        assert!(count_from_sql("rows", -1).is_err());
    }
}
