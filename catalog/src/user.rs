//! Who may log in. A password is known here by its hash only, and the hash never prints.

use std::fmt;

use crate::error::{CatalogError, Result};

/// The longest name, in bytes: with a prefix it still names a database.
pub const MAX_USER_BYTES: usize = 56;

/// One who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name as it was declared; it is found in any case.
    pub name: String,
    /// The hash of the password.
    pub password: PasswordHash,
    /// When the user was added: milliseconds since 1970-01-01 UTC.
    pub created_unix_ms: i64,
    /// When the password was set, later than any earlier one: milliseconds since 1970-01-01 UTC.
    pub password_unix_ms: i64,
}

/// A password's hash in the PHC string format (`$argon2id$…`).
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Refuses what cannot name a user: anything but `[A-Za-z0-9_]+` of at most 56 bytes, because the
/// user's own database is named after it.
///
/// Errors: `Invalid` with the rule.
pub fn check_user_name(name: &str) -> Result<()> {
    let fits = !name.is_empty() && name.len() <= MAX_USER_BYTES;
    if fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(CatalogError::Invalid(format!(
        "\"{}\" cannot name a user: use ASCII letters, digits and _, at most {MAX_USER_BYTES} in all",
        name.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let longest = "a".repeat(MAX_USER_BYTES);
        for good in ["ada", "Ada_2", "007", "_", longest.as_str()] {
            assert!(check_user_name(good).is_ok(), "{good}");
        }
        let too_long = format!("{longest}a");
        for bad in ["", "a b", "ada@example.org", "a-b", "é", "..", "a\n", &too_long] {
            assert!(matches!(check_user_name(bad), Err(CatalogError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn a_hash_does_not_print() {
        assert!(!format!("{:?}", PasswordHash("$argon2id$secret".into())).contains("secret"));
    }
}
