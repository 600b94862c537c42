//! Guessing passwords gets slower with each wrong guess.
//!
//! Counted by user and address together, so that a stranger cannot lock a user out, and by address
//! alone with more patience, so that one address cannot try all users.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use moka::Entry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
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
        let failures = Cache::builder().max_capacity(COUNTED).time_to_idle(FORGIVEN);
        // Those counted last are those who guess.
        Throttle { failures: failures.eviction_policy(EvictionPolicy::lru()).build() }
    }

    /// Lets a guess be made at `now`, else says how long to wait. It counts as wrong until it
    /// [succeeds](Throttle::succeeded), so that many at once are no more than one after the other; one
    /// that is refused counts too, but does not put off the next.
    pub(super) fn admit(&self, user: &str, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut longest = Duration::ZERO;
        for (target, free) in targets(user, from) {
            self.failures.entry(target).and_upsert_with(|before| {
                let before = before.map_or(Failures { count: 0, last: now }, Entry::into_value);
                let wait = penalty(before.count, free).saturating_sub(now.duration_since(before.last));
                longest = longest.max(wait);
                let last = if wait.is_zero() { now } else { before.last };
                Failures { count: before.count.saturating_add(1), last }
            });
        }
        if longest.is_zero() { Ok(()) } else { Err(longest) }
    }

    /// A guess that was admitted was right; what the address did to other users still counts.
    pub(super) fn succeeded(&self, user: &str, from: Option<IpAddr>) {
        let [(target, _), (address, _)] = targets(user, from);
        self.failures.invalidate(&target);
        self.forget_one(address);
    }

    /// A guess that was admitted could not be looked at.
    pub(super) fn unanswered(&self, user: &str, from: Option<IpAddr>) {
        for (target, _) in targets(user, from) {
            self.forget_one(target);
        }
    }

    fn forget_one(&self, target: Target) {
        self.failures.entry(target).and_compute_with(|before| match before.map(Entry::into_value) {
            Some(Failures { count, last }) => Op::Put(Failures { count: count.saturating_sub(1), last }),
            None => Op::Nop,
        });
    }
}

fn targets(user: &str, from: Option<IpAddr>) -> [(Target, u32); 2] {
    // A name longer than any user's is cut: what cannot log in anyway need not be told apart.
    let user: String = user.chars().take(64).map(|c| c.to_ascii_lowercase()).collect();
    let from = from.map(network);
    [(Target { user: Some(user), from }, FREE_FOR_USER), (Target { user: None, from }, FREE_FOR_ADDRESS)]
}

/// Whoever has an IPv6 address has 2^64 of them: the least that a site is given (RFC 6177).
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
        four => four,
    }
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
            throttle.admit("Ada", HERE, start).unwrap();
        }
        assert_eq!(throttle.admit("ada", HERE, start), Err(Duration::from_secs(1)));
        assert_eq!(throttle.admit("ada", THERE, start), Ok(()), "nobody is locked out by a stranger");
        assert_eq!(throttle.admit("vera", HERE, start), Ok(()));
        // The refused one counts.
        let later = start + Duration::from_secs(1);
        assert_eq!(throttle.admit("ada", HERE, later), Err(Duration::from_secs(1)));
        for _ in 0..100 {
            assert!(throttle.admit("ada", HERE, later).is_err());
        }
        // But however many are refused, nobody waits for ever.
        assert_eq!(throttle.admit("ada", HERE, later + LONGEST), Ok(()));
        assert_eq!(throttle.admit("ada", HERE, later + LONGEST), Err(LONGEST));
    }

    #[test]
    fn a_right_guess_forgives_the_user_and_not_the_address() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        for n in 0..FREE_FOR_ADDRESS {
            throttle.admit(&format!("user{n}"), HERE, start).unwrap();
        }
        assert!(throttle.admit("ada", HERE, start).is_err(), "one address tries all users");
        throttle.succeeded("ada", HERE);
        assert!(throttle.admit("ada", HERE, start).is_err());

        for _ in 0..FREE_FOR_USER {
            throttle.admit("ada", THERE, start).unwrap();
        }
        throttle.succeeded("ada", THERE);
        assert_eq!(throttle.admit("ada", THERE, start), Ok(()));
    }

    #[test]
    fn right_guesses_cost_an_address_nothing() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        for n in 0..3 * FREE_FOR_ADDRESS {
            throttle.admit(&format!("user{n}"), HERE, start).unwrap();
            throttle.succeeded(&format!("user{n}"), HERE);
            throttle.admit("ada", HERE, start).unwrap();
            throttle.unanswered("ada", HERE);
        }
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        let address = |low: u128| Some(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | low)));
        for low in 0..u128::from(FREE_FOR_USER) {
            throttle.admit("ada", address(low), start).unwrap();
        }
        assert!(throttle.admit("ada", address(0xffff), start).is_err());
        assert_eq!(throttle.admit("ada", address(1 << 64), start), Ok(()), "the next network");
        let mapped = Some(IpAddr::V6(std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped()));
        for _ in 0..FREE_FOR_USER {
            throttle.admit("vera", mapped, start).unwrap();
        }
        assert!(throttle.admit("vera", HERE, start).is_err(), "an IPv4 address in other clothes");
    }
}
