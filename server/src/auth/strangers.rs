//! Calls that say nothing of their caller, where only users may ask. A few kinds of them are served, and
//! what they may take is bounded before anybody is known: how many there are at a time, from all and from one
//! network, and by the service behind the door how long they last and how large they are.

use std::net::IpAddr;
use std::time::Duration;

use super::throttle::network;
use crate::places::{Place, Places};

/// How long such a call may take: Handshake waits 10 s for its message, and then for a password check.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// The largest message of such a call, in bytes: a password or the ticket of a worker.
pub(crate) const MESSAGE_BYTES: usize = 64 << 10;

/// Such calls at a time, and how many of them from one network.
const MOST: usize = 512;
const MOST_OF_NETWORK: usize = 64;

/// The strangers who are being served, by their networks. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Strangers(Places<Option<IpAddr>>);

/// One of them, until it is dropped.
pub(super) type Stranger = Place<Option<IpAddr>>;

impl Default for Strangers {
    fn default() -> Self {
        Strangers(Places::new(MOST, MOST_OF_NETWORK))
    }
}

impl Strangers {
    /// Lets one in; `None` when there are too many.
    pub(super) fn enter(&self, from: Option<IpAddr>) -> Option<Stranger> {
        self.0.enter(from.map(network)).ok()
    }
}

/// Whether a call may come without credentials: Handshake has them in its message, and a worker has a
/// ticket, which its action is refused without.
pub(super) fn may_say_nothing(path: &str) -> bool {
    matches!(path.rsplit('/').next(), Some("Handshake" | "DoAction"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn one_network_leaves_room_for_others_and_goes_again() {
        let strangers = Strangers::default();
        let address = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let mut inside: Vec<Stranger> = (0..MOST_OF_NETWORK).map(|_| strangers.enter(address(1)).unwrap()).collect();
        assert!(strangers.enter(address(1)).is_none());
        inside.extend((2..9).flat_map(|n| vec![n; MOST_OF_NETWORK]).map(|n| strangers.enter(address(n)).unwrap()));
        assert_eq!(inside.len(), MOST);
        assert!(strangers.enter(address(10)).is_none());
        inside.pop();
        assert!(strangers.enter(address(10)).is_some());
        inside.clear();
        assert!(strangers.0.is_forgotten());
    }
}
