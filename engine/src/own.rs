//! Tables of a user's own: the database `user_<name>`, which nobody else sees, and which SQL calls
//! `mydb`.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// How SQL calls the database of whoever asks.
pub const OWN_ALIAS: &str = "mydb";

/// How the names of users' databases begin.
const PREFIX: &str = "user_";

/// Bytes of a database's name.
const NAME_BYTES: usize = 64;

/// The database of a user. Names of databases are found in any case and hold letters, digits and
/// underscores only, so whatever else a user's name has is written as `_` and two hexadecimal digits,
/// and an underscore twice: two users never have one database.
#[must_use]
pub fn own_database(user: &str) -> String {
    let mut name = PREFIX.to_owned();
    for byte in user.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => name.push(char::from(byte)),
            b'_' => name.push_str("__"),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(name, "_{other:02x}");
            }
        }
    }
    if name.len() > NAME_BYTES {
        // No name above has `_z`.
        let digest: String = Sha256::digest(user).iter().take(24).map(|byte| format!("{byte:02x}")).collect();
        name = format!("{PREFIX}_z{digest}");
    }
    name
}

/// Whether a database is the user's own or nobody's; another user's does not exist for them.
#[must_use]
pub fn sees(user: &str, database: &str) -> bool {
    !is_private(database) || database.eq_ignore_ascii_case(&own_database(user))
}

/// Whether a database is of a single user.
#[must_use]
pub fn is_private(database: &str) -> bool {
    database.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_databases_of_their_own() {
        for (user, database) in [
            ("vera", "user_vera"),
            ("Vera", "user__56era"),
            ("v_r", "user_v__r"),
            ("v5fr", "user_v5fr"),
            ("a@b.c", "user_a_40b_2ec"),
            ("é", "user__c3_a9"),
        ] {
            assert_eq!(own_database(user), database);
            assert!(sees(user, database) && sees(user, &database.to_uppercase()));
            assert!(!sees("other", database), "{database}");
        }
        let (a, b) = ("x".repeat(100), "x".repeat(101));
        assert!(own_database(&a).len() <= NAME_BYTES && own_database(&a) != own_database(&b));
        assert!(sees("vera", "dr1") && sees("vera", "use") && !sees("vera", "user_x"));
    }
}
