//! Checking passwords without letting that be the server's main work.
//!
//! A check takes tens of milliseconds of a processor and 19 MiB, on purpose. So few run at a time,
//! on threads where blocking is allowed, few wait, and what was found right is remembered for a while: some
//! clients send user and password with every call.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use skyflight_catalog::{PasswordHash, User};
use tokio::sync::Semaphore;
use tonic::Status;

use super::hash;
use crate::error::internal;

/// Checks that run at a time.
const CHECKS: usize = 2;
/// Checks that run or wait; one more is refused.
const WAITING: usize = 64;
/// How long a right password is remembered.
const MEMORY: Duration = Duration::from_secs(300);
/// How many of them.
const REMEMBERED: u64 = 1_000;

/// A hash that no password is known for, so that an unknown user takes as long as a wrong password.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

/// Distinguishes this process's digests from any others, so that they are worth nothing elsewhere.
static PEPPER: LazyLock<[u8; 16]> = LazyLock::new(|| uuid::Uuid::new_v4().into_bytes());

/// The checks that run, and those that need not run again.
#[derive(Debug)]
pub(super) struct Passwords {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// Digests of a user's hash and the password that it was found to be of.
    right: Cache<[u8; 32], ()>,
}

impl Passwords {
    pub(super) fn new() -> Passwords {
        Passwords {
            running: Arc::new(Semaphore::new(CHECKS)),
            places: Arc::new(Semaphore::new(WAITING)),
            right: Cache::builder().max_capacity(REMEMBERED).time_to_live(MEMORY).build(),
        }
    }

    /// Whether this was found to be the user's password a short time ago.
    pub(super) fn remembers(&self, user: &User, password: &str) -> bool {
        self.right.contains_key(&digest(&user.password, password))
    }

    /// `user` again, if there is one and the password is right.
    ///
    /// Errors: `ResourceExhausted` when too many wait.
    pub(super) async fn check(&self, user: Option<Arc<User>>, password: &str) -> Result<Option<Arc<User>>, Status> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many logins at once; try again in a few seconds"));
        };
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|e| internal("logins have ended", e))?;
        let hash = user.as_ref().map_or_else(|| PasswordHash(NOBODY.into()), |user| user.password.clone());
        let key = digest(&hash, password);
        let password = password.to_owned();
        let checking = tokio::task::spawn_blocking(move || {
            let right = hash::matches(&hash, &password);
            // Here and not above: a caller that goes away does not stop the work it has begun.
            drop((place, turn));
            right
        });
        let right = checking.await.map_err(|e| internal("a password could not be checked", e))?;
        let found = user.filter(|_| right);
        if found.is_some() {
            self.right.insert(key, ());
        }
        Ok(found)
    }
}

/// What stands for a hash with its password. A new password has a new hash, and is not remembered.
fn digest(hash: &PasswordHash, password: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(*PEPPER);
    digest.update(&hash.0);
    digest.update([0]);
    digest.update(password);
    digest.finalize().into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn user(password: &str) -> Arc<User> {
        let password = hash::hash_password(password).unwrap();
        Arc::new(User { name: "ada".into(), password, created_unix_ms: 1, password_unix_ms: 1 })
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_and_no_other() {
        let passwords = Passwords::new();
        let ada = user("correct horse");
        assert_eq!(passwords.check(Some(Arc::clone(&ada)), "wrong horse").await.unwrap(), None);
        assert!(!passwords.remembers(&ada, "wrong horse") && !passwords.remembers(&ada, "correct horse"));
        assert!(passwords.check(Some(Arc::clone(&ada)), "correct horse").await.unwrap().is_some());
        assert!(passwords.remembers(&ada, "correct horse") && !passwords.remembers(&ada, "wrong horse"));
        assert!(!passwords.remembers(&user("correct horse"), "correct horse"), "another hash is another password");
        assert_eq!(passwords.check(None, "correct horse").await.unwrap(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_logins_at_once_are_refused_and_not_queued_for_ever() {
        let passwords = Passwords::new();
        let held = Arc::clone(&passwords.running).acquire_many_owned(CHECKS as u32).await.unwrap();
        let checks: Vec<_> = (0..WAITING + 3).map(|_| passwords.check(None, "correct horse")).collect();
        let all = futures::future::join_all(checks);
        let release = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let (answers, ()) = tokio::join!(all, release);
        let refused = answers.iter().filter(|a| a.as_ref().is_err_and(|s| s.code() == tonic::Code::ResourceExhausted));
        assert_eq!(refused.count(), 3);
    }

    #[test]
    fn nobodys_hash_is_as_slow_as_any() {
        let ours = hash::hash_password("correct horse").unwrap();
        let parameters = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(parameters(NOBODY), parameters(&ours.0));
        assert!(argon2::PasswordHash::new(NOBODY).is_ok());
    }
}
