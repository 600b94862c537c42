//! Checking passwords without letting that be the server's main work.
//!
//! A check takes tens of milliseconds of a processor and 19 MiB, on purpose. So few run at a time,
//! on threads where blocking is allowed, few wait, and what was found right is remembered for a while: some
//! clients send user and password with every call.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;
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
    /// Digests of attempts that were found right. One that is being made is made once, however many wait.
    right: Cache<[u8; 32], ()>,
}

/// One who says to be a user.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// The user, if there is one of that name.
    pub(super) known: Option<&'a User>,
    /// The name as it came.
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    pub(super) from: Option<IpAddr>,
}

impl Passwords {
    pub(super) fn new() -> Passwords {
        let right = Cache::builder().max_capacity(REMEMBERED).time_to_live(MEMORY);
        Passwords {
            running: Arc::new(Semaphore::new(CHECKS)),
            places: Arc::new(Semaphore::new(WAITING)),
            right: right.eviction_policy(EvictionPolicy::lru()).build(),
        }
    }

    /// Lets an attempt pass whose password is right; at once, and without asking `admit`, where it was found
    /// so a short time ago from the same address.
    ///
    /// Errors: that of `admit`; `Unauthenticated` for a wrong password; `ResourceExhausted` when too many
    /// wait.
    pub(super) async fn check(
        &self,
        attempt: Attempt<'_>,
        admit: impl FnOnce() -> Result<(), Status>,
    ) -> Result<(), Status> {
        let checked = async {
            admit()?;
            match self.is_right(attempt).await? {
                true => Ok(()),
                false => Err(Status::unauthenticated("user or password is wrong")),
            }
        };
        self.right.try_get_with(digest(&attempt), checked).await.map_err(|status: Arc<Status>| status.as_ref().clone())
    }

    async fn is_right(&self, Attempt { known, password, .. }: Attempt<'_>) -> Result<bool, Status> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many logins at once; try again in a few seconds"));
        };
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|e| internal("logins have ended", e))?;
        let hash = hash_of(known);
        let password = password.to_owned();
        let checking = tokio::task::spawn_blocking(move || {
            let right = hash::matches(&hash, &password);
            // Here and not above: a caller that goes away does not stop the work it has begun.
            drop((place, turn));
            right
        });
        let right = checking.await.map_err(|e| internal("a password could not be checked", e))?;
        Ok(right && known.is_some())
    }
}

fn hash_of(known: Option<&User>) -> PasswordHash {
    known.map_or_else(|| PasswordHash(NOBODY.into()), |user| user.password.clone())
}

/// What stands for an attempt. A new password has a new hash, and is not remembered; what one address has
/// proved is no proof of another's, and tells it nothing.
fn digest(attempt: &Attempt<'_>) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(*PEPPER);
    digest.update(hash_of(attempt.known).0);
    digest.update([0]);
    digest.update(attempt.from.map(|from| from.to_string()).unwrap_or_default());
    digest.update([0]);
    digest.update((attempt.user.len() as u64).to_le_bytes());
    digest.update(attempt.user.to_ascii_lowercase());
    digest.update(attempt.password);
    digest.finalize().into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn user(password: &str) -> User {
        let password = hash::hash_password(password).unwrap();
        User { name: "ada".into(), password, created_unix_ms: 1, password_unix_ms: 1 }
    }

    /// Whether the attempt passes, and whether it was asked for admission.
    async fn attempt(
        passwords: &Passwords,
        known: Option<&User>,
        password: &str,
        from: Option<IpAddr>,
    ) -> (bool, bool) {
        let mut asked = false;
        let admit = || {
            asked = true;
            Ok(())
        };
        let right = passwords.check(Attempt { known, user: "ada", password, from }, admit).await;
        (right.is_ok(), asked)
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_where_it_was_given_and_no_other() {
        let passwords = Passwords::new();
        let ada = user("correct horse");
        assert_eq!(attempt(&passwords, Some(&ada), "wrong horse", HERE).await, (false, true));
        assert_eq!(attempt(&passwords, Some(&ada), "wrong horse", HERE).await, (false, true));
        assert_eq!(attempt(&passwords, Some(&ada), "correct horse", HERE).await, (true, true));
        assert_eq!(attempt(&passwords, Some(&ada), "correct horse", HERE).await, (true, false));
        assert_eq!(attempt(&passwords, Some(&ada), "wrong horse", HERE).await, (false, true));
        assert_eq!(attempt(&passwords, Some(&ada), "correct horse", THERE).await, (true, true), "proved elsewhere");
        let again = user("correct horse");
        assert_eq!(attempt(&passwords, Some(&again), "correct horse", HERE).await, (true, true), "another hash");
        assert_eq!(attempt(&passwords, None, "correct horse", HERE).await, (false, true));
    }

    #[tokio::test]
    async fn who_is_not_admitted_is_not_checked() {
        let (passwords, ada) = (Passwords::new(), user("correct horse"));
        let correct = Attempt { known: Some(&ada), user: "ada", password: "correct horse", from: HERE };
        let refused = passwords.check(correct, || Err(Status::unauthenticated("later"))).await.unwrap_err();
        assert_eq!(refused.message(), "later");
        assert_eq!(attempt(&passwords, Some(&ada), "correct horse", HERE).await, (true, true));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_logins_at_once_are_refused_and_not_queued_for_ever() {
        let passwords = Passwords::new();
        let held = Arc::clone(&passwords.running).acquire_many_owned(CHECKS as u32).await.unwrap();
        let guesses: Vec<String> = (0..WAITING + 3).map(|n| format!("guess {n}")).collect();
        let guess = |password| Attempt { known: None, user: "ada", password, from: HERE };
        let all = futures::future::join_all(guesses.iter().map(|text| passwords.check(guess(text), || Ok(()))));
        let release = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let (answers, ()) = tokio::join!(all, release);
        let refused = answers.iter().filter(|a| a.as_ref().is_err_and(|s| s.code() == tonic::Code::ResourceExhausted));
        assert_eq!(refused.count(), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_same_attempt_many_times_at_once_is_one() {
        let (passwords, ada) = (Passwords::new(), user("correct horse"));
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let correct = Attempt { known: Some(&ada), user: "ada", password: "correct horse", from: HERE };
        let all = (0..20).map(|_| {
            passwords.check(correct, || {
                asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            })
        });
        assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
        assert_eq!(asked.into_inner(), 1);
    }

    #[test]
    fn nobodys_hash_is_as_slow_as_any() {
        let ours = hash::hash_password("correct horse").unwrap();
        let parameters = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(parameters(NOBODY), parameters(&ours.0));
        assert!(argon2::PasswordHash::new(NOBODY).is_ok());
    }
}
