//! Argon2id, the only place that knows it.

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, PasswordHash as Parsed};
use skyflight_catalog::PasswordHash;

/// The shortest password; there is no other rule (NIST SP 800-63B, 5.1.1.2).
const LEAST_CHARACTERS: usize = 8;

/// The longest, in bytes: hashing takes as long as its input is.
const MOST_BYTES: usize = 1_024;

/// Why a password is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short to be one.
    #[error("a password has at least {LEAST_CHARACTERS} characters")]
    Short,
    /// Too long to be hashed in reasonable time.
    #[error("a password has at most {MOST_BYTES} bytes")]
    Long,
    /// The hash cannot be made.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

/// The hash of a new password: Argon2id (RFC 9106) with a random salt and the parameters that OWASP
/// recommends (19 MiB, two passes). Takes tens of milliseconds on purpose.
///
/// # Errors
/// The password is too short or too long.
pub fn hash_password(password: &str) -> Result<PasswordHash, PasswordError> {
    if password.chars().count() < LEAST_CHARACTERS {
        return Err(PasswordError::Short);
    }
    if password.len() > MOST_BYTES {
        return Err(PasswordError::Long);
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| PasswordHash(hash.to_string())).map_err(|e| PasswordError::Hash(e.to_string()))
}

/// Whether `hash` is that of `password`. As slow as [`hash_password`].
pub(super) fn matches(hash: &PasswordHash, password: &str) -> bool {
    if password.len() > MOST_BYTES {
        return false;
    }
    match Parsed::new(&hash.0) {
        Ok(parsed) => Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok(),
        Err(error) => {
            tracing::error!(%error, "a user's password hash in the catalog cannot be read");
            false
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_matches_and_no_two_hashes_are_alike() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert!(matches(&hash, "correct horse"));
        assert!(!matches(&hash, "correct horsf") && !matches(&hash, ""));
        assert_ne!(hash, hash_password("correct horse").unwrap());
    }

    #[test]
    fn hashes_of_the_reference_implementation_are_read() {
        // From the test vectors of the reference implementation (github.com/P-H-C/phc-winner-argon2,
        // src/test.c): Argon2id, version 0x13, t=2, m=2^16, p=1, "password", salt "somesalt".
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(matches(&PasswordHash(hash.into()), "password"));
        assert!(!matches(&PasswordHash(hash.into()), "Password"));
        assert!(!matches(&PasswordHash("nonsense".into()), "nonsense"));
    }

    #[test]
    fn passwords_have_a_length() {
        assert!(matches!(hash_password("1234567"), Err(PasswordError::Short)));
        assert!(matches!(hash_password(&"x".repeat(MOST_BYTES + 1)), Err(PasswordError::Long)));
        assert!(hash_password("ßßßßßßßß").is_ok());
    }
}
