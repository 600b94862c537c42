//! Guessing passwords gets slower with each wrong guess.
//!
//! Counted by user and address together, so that a stranger cannot lock a user out, and by address
//! alone with more patience, so that one address cannot try all users.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use moka::sync::Cache;

/// Wrong guesses of one user's password from one address that cost nothing.
const FREE_FOR_USER: u32 = 5;
/// The same from one address for all users.
const FREE_FOR_ADDRESS: u32 = 50;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// When all is forgiven, after the last guess.
const FORGIVEN: Duration = Duration::from_secs(900);
/// Most users and addresses that are counted.
const COUNTED: u64 = 20_000;

/// What was guessed at: one user from an address, or anybody from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Target {
    user: Option<String>,
    from: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// The wrong guesses of late.
#[derive(Debug)]
pub(super) struct Throttle {
    failures: Cache<Target, Failures>,
}

impl Throttle {
    pub(super) fn new() -> Throttle {
        Throttle { failures: Cache::builder().max_capacity(COUNTED).time_to_idle(FORGIVEN).build() }
    }

    /// Whether a guess may be made at `now`; else how long to wait.
    pub(super) fn admit(&self, user: &str, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        for (target, free) in targets(user, from) {
            let Some(failures) = self.failures.get(&target) else { continue };
            let wait = penalty(failures.count, free).saturating_sub(now.duration_since(failures.last));
            if !wait.is_zero() {
                return Err(wait);
            }
        }
        Ok(())
    }

    /// The guess was wrong.
    pub(super) fn failed(&self, user: &str, from: Option<IpAddr>, now: Instant) {
        for (target, _) in targets(user, from) {
            self.failures.entry(target).and_upsert_with(|before| {
                let count = before.map_or(0, |entry| entry.into_value().count);
                Failures { count: count.saturating_add(1), last: now }
            });
        }
    }

    /// The guess was right; what the address did to other users still counts.
    pub(super) fn succeeded(&self, user: &str, from: Option<IpAddr>) {
        let [(target, _), _] = targets(user, from);
        self.failures.invalidate(&target);
    }
}

fn targets(user: &str, from: Option<IpAddr>) -> [(Target, u32); 2] {
    // A name longer than any user's is cut: what cannot log in anyway need not be told apart.
    let user: String = user.chars().take(64).map(|c| c.to_ascii_lowercase()).collect();
    [(Target { user: Some(user), from }, FREE_FOR_USER), (Target { user: None, from }, FREE_FOR_ADDRESS)]
}

/// One second after the last free guess, doubled with each further one.
fn penalty(count: u32, free: u32) -> Duration {
    match count.checked_sub(free) {
        None => Duration::ZERO,
        Some(beyond) => Duration::from_secs(1_u64 << beyond.min(10)).min(LONGEST),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    #[test]
    fn the_sixth_guess_waits_and_each_further_one_longer() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        for _ in 0..FREE_FOR_USER {
            throttle.admit("ada", HERE, start).unwrap();
            throttle.failed("Ada", HERE, start);
        }
        assert_eq!(throttle.admit("ada", HERE, start), Err(Duration::from_secs(1)));
        assert_eq!(throttle.admit("ada", THERE, start), Ok(()), "nobody is locked out by a stranger");
        assert_eq!(throttle.admit("vera", HERE, start), Ok(()));
        let later = start + Duration::from_secs(1);
        assert_eq!(throttle.admit("ada", HERE, later), Ok(()));
        throttle.failed("ada", HERE, later);
        assert_eq!(throttle.admit("ada", HERE, later), Err(Duration::from_secs(2)));
        for _ in 0..100 {
            throttle.failed("ada", HERE, later);
        }
        assert_eq!(throttle.admit("ada", HERE, later), Err(LONGEST));
    }

    #[test]
    fn a_right_guess_forgives_the_user_and_not_the_address() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        for n in 0..FREE_FOR_ADDRESS {
            throttle.failed(&format!("user{n}"), HERE, start);
        }
        assert!(throttle.admit("ada", HERE, start).is_err(), "one address tries all users");
        throttle.succeeded("ada", HERE);
        assert!(throttle.admit("ada", HERE, start).is_err());

        for _ in 0..FREE_FOR_USER {
            throttle.failed("ada", THERE, start);
        }
        throttle.succeeded("ada", THERE);
        assert_eq!(throttle.admit("ada", THERE, start), Ok(()));
    }
}
