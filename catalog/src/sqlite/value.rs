//! Between the records' types and the few that SQL has.

use std::fmt::{Display, Write};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::SqliteConnection;

use crate::error::{CatalogError, Result};

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
    i64::try_from(count).map_err(|_| CatalogError::Invalid(format!("{count} {what} are more than the catalog can count")))
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

/// A digest in hexadecimal.
pub(super) fn digest_to_sql(digest: &[u8; 32]) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A digest read back.
pub(super) fn digest_from_sql(what: impl Display, stored: &str) -> Result<[u8; 32]> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut digest = [0; 32];
    let pairs = stored.as_bytes().chunks_exact(2);
    if stored.len() != 64 {
        return Err(corrupt(what, "a digest that is not of 64 digits"));
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        *byte = match pair {
            [high, low] => nibble(*high).zip(nibble(*low)).map(|(high, low)| (high << 4) | low),
            _ => None,
        }
        .ok_or_else(|| corrupt(&what, "a digest that is not hexadecimal"))?;
    }
    Ok(digest)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn digests_survive_and_damaged_ones_are_refused() {
        let digest: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 7).unwrap());
        let text = digest_to_sql(&digest);
        assert!(text.starts_with("00070e15"), "{text}");
        assert_eq!(digest_from_sql("file 1", &text).unwrap(), digest);
        for bad in ["", "00", &text[1..], &text.replace('7', "g"), &format!("{text}00")] {
            assert!(matches!(digest_from_sql("file 1", bad), Err(CatalogError::Corrupt { .. })), "{bad}");
        }
    }

    #[test]
    fn counts_beyond_sql_are_refused() {
        assert_eq!(count_to_sql("rows", i64::MAX as u64).unwrap(), i64::MAX);
        assert!(count_to_sql("rows", u64::MAX).is_err());
        assert!(count_from_sql("rows", -1).is_err());
    }
}
