//! The figures and names both ends of a stream must agree on.

use std::fmt;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

/// Aim for the size of one Flight message, and the limit of one piece of a file, in bytes (1 MiB).
pub const FRAME_BYTES: usize = 1 << 20;

/// The largest gRPC message a process of the cluster accepts from another, in bytes (64 MiB). Task
/// tickets carry their fragment, so they can be long.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// HTTP/2 flow-control window of one stream, in bytes (4 MiB).
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// HTTP/2 flow-control window of one connection, in bytes (16 MiB).
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How often a worker says that it lives.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Flight action on a coordinator: [`crate::RegisterWorker`] in a signed ticket.
pub const ACTION_REGISTER_WORKER: &str = "skyflight.register_worker";

/// Flight action on a worker: [`crate::DropTransactionTicket`] in a signed ticket, answered by one
/// [`crate::DropTransactionResult`].
pub const ACTION_DROP_TRANSACTION: &str = "skyflight.drop_transaction";

/// Flight action on a worker: [`crate::ListFilesTicket`] in a signed ticket, answered by a stream
/// of [`crate::FileReceipt`].
pub const ACTION_LIST_FILES: &str = "skyflight.list_files";

/// Flight action on a worker: [`crate::RecallTicket`] in a signed ticket that names the query,
/// answered by one [`crate::RecallResult`].
pub const ACTION_RECALL: &str = "skyflight.recall";

/// How long a worker remembers that a query was recalled. No ticket of an endpoint may be good for longer.
pub const RECALL_MEMORY: Duration = Duration::from_secs(2 * 3_600);

/// Flight action on a worker: no body, answered by one [`crate::WorkerStatus`].
pub const ACTION_PING: &str = "skyflight.ping";

/// How the message of a worker's `FailedPrecondition` starts when it has not the fragment that a
/// task names: the caller sends the task again with the fragment in it.
pub const FRAGMENT_UNKNOWN: &str = "fragment unknown";

/// XXH3-64 (seed 0) over a sequence of byte strings, as if they were one.
///
/// It finds what a network or a bug alters, not what an enemy forges.
#[derive(Clone, Default)]
pub struct Digest(Xxh3);

impl Digest {
    /// A digest of nothing yet.
    pub fn new() -> Digest {
        Digest::default()
    }

    /// Adds `bytes`; where one call ends and the next begins does not matter.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added so far. More may be added afterwards.
    pub fn finish(&self) -> u64 {
        self.0.digest()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:016x})", self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_gives_published_values_however_it_is_fed() {
        // XXH3_64bits of the empty input, from the test vectors of the reference implementation
        // (github.com/Cyan4973/xxHash, tests/sanity_test_vectors.h).
        assert_eq!(Digest::new().finish(), 0x2D06_8005_38D3_94C2);

        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i * 31 % 251) as u8).collect();
        // The same bytes through the reference implementation 0.8.4 (Python's xxhash).
        let whole = 0x02DF_1E98_5A77_6B74;
        for piece in [1, 7, 64, 256, 1_023, 99_999] {
            let mut digest = Digest::new();
            for part in bytes.chunks(piece) {
                digest.update(part);
            }
            assert_eq!(digest.finish(), whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn digest_sees_order_and_single_bits() {
        let of = |parts: &[&[u8]]| {
            let mut digest = Digest::new();
            for part in parts {
                digest.update(part);
            }
            digest.finish()
        };
        assert_ne!(of(&[b"ab", b"cd"]), of(&[b"cd", b"ab"]));
        assert_ne!(of(&[&[0; 1_000]]), of(&[&[0; 999], &[1]]));
        assert_ne!(of(&[&[0; 1_000]]), of(&[&[0; 999]]));
    }
}
