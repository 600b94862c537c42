//! Who may log in. A password is known here by its hash only, and the hash never prints.

use std::fmt;

use crate::error::{CatalogError, Result};
use crate::names::{self, MAX_NAME_BYTES};

/// How the database of a user's own tables starts.
const DATABASE_PREFIX: &str = "user_";

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

/// Refuses what cannot name a user: whatever would not make a valid name of the user's own database,
/// which is the name after `user_` ([`user_database`]).
///
/// Errors: `Invalid` with the rule.
pub fn check_user_name(name: &str) -> Result<()> {
    let most = MAX_NAME_BYTES - DATABASE_PREFIX.len();
    let fits = !name.is_empty() && name.len() <= most;
    if fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(CatalogError::Invalid(format!(
        "\"{}\" cannot name a user: use ASCII letters, digits and _, at most {most} in all",
        name.escape_debug()
    )))
}

/// The name of the database of a user's own tables.
pub fn user_database(user: &str) -> String {
    format!("{DATABASE_PREFIX}{}", names::key(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_name_makes_a_name_of_a_database() {
        let longest = "a".repeat(MAX_NAME_BYTES - DATABASE_PREFIX.len());
        for good in ["ada", "Ada_2", "007", "_", longest.as_str()] {
            assert!(check_user_name(good).is_ok(), "{good}");
            assert!(names::check_database_name(&user_database(good)).is_ok(), "{good}");
        }
        assert_eq!(user_database("Ada"), "user_ada");
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
