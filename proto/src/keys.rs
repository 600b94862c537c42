//! The secret a cluster shares: one key signs, several verify, so that keys can change while
//! tickets and tokens are out.

use std::collections::HashSet;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::key_file;

const SECRET_BYTES: usize = 32;
const MAX_ID_BYTES: usize = 64;
const HMAC_BLOCK_BYTES: usize = 64;

/// The keys of a cluster, or of the session tokens of its coordinators: the first signs, all verify. Clones share them, also after a reload.
///
/// As text, one key a line, `id:secret` with the secret as 64 hexadecimal digits; empty lines and
/// lines that start with `#` are passed over. To change keys without refusing a ticket that is out:
/// add the new line at the end everywhere ([`KeyStep::Add`]), then move it to the top everywhere
/// ([`KeyStep::Promote`]), then drop the old lines when their last ticket has expired
/// ([`KeyStep::Retire`]). Never prints its secrets, except by [`ClusterKeys::to_text`].
#[derive(Clone)]
pub struct ClusterKeys {
    ring: Arc<RwLock<Arc<Ring>>>,
}

#[derive(Clone)]
struct Ring {
    first: Key,
    others: Vec<Key>,
}

/// One step of a change of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// A new key, the last: it verifies, and does not sign yet.
    Add,
    /// The last key becomes the first, which signs.
    Promote,
    /// All keys but the first are gone, and what they signed is void.
    Retire,
}

/// Why there are no keys. Messages are complete: each has its cause in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key in the text.
    #[error("there is no key: a cluster key file has lines of the form id:secret")]
    Empty,
    /// A line is not a key. The line itself is not repeated: it may be a secret.
    #[error("line {line} of the cluster key is wrong: {reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file cannot be read or made.
    #[error("cannot {action} the cluster key file {}: {cause}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The file was read, and what is in it is wrong.
    #[error("{}: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<KeyError>,
    },
}

impl ClusterKeys {
    /// One new key from the system's random numbers, whose id says when it was made.
    pub fn generate() -> ClusterKeys {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        ClusterKeys::of(Ring { first: Key::made_at(now), others: Vec::new() })
    }

    fn of(ring: Ring) -> ClusterKeys {
        ClusterKeys { ring: Arc::new(RwLock::new(Arc::new(ring))) }
    }

    /// The keys in `text`, in its order. Errors name the line, never its content.
    pub fn parse(text: &str) -> Result<ClusterKeys, KeyError> {
        let mut keys = Vec::new();
        let mut ids = HashSet::new();
        for (index, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            let wrong = |reason| KeyError::Line { line: index + 1, reason };
            let key = Key::parse(line_text).map_err(wrong)?;
            if !ids.insert(key.id.clone()) {
                return Err(wrong("its id is that of a line above; give each key its own"));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(KeyError::Empty)?;
        Ok(ClusterKeys::of(Ring { first, others: keys.collect() }))
    }

    /// The keys after one step of a change. These stay as they are.
    pub fn stepped(&self, step: KeyStep) -> ClusterKeys {
        let Ring { first, mut others } = self.ring().as_ref().clone();
        ClusterKeys::of(match step {
            KeyStep::Add => {
                others.push(ClusterKeys::generate().signing());
                Ring { first, others }
            }
            KeyStep::Promote => match others.pop() {
                Some(last) => {
                    others.insert(0, first);
                    Ring { first: last, others }
                }
                None => Ring { first, others },
            },
            KeyStep::Retire => Ring { first, others: Vec::new() },
        })
    }

    /// The keys after their time has passed: a first key older than `age` gives way to a new one, and keys
    /// that stopped signing longer than `keep` ago are gone, with whatever they signed. `None` where there is
    /// nothing to change. Keys that do not say when they were made count as old. `now_unix_s` is in seconds
    /// of Unix time.
    pub fn rotated(&self, now_unix_s: u64, age: Duration, keep: Duration) -> Option<ClusterKeys> {
        let old = self.ring();
        let mut keys: Vec<Key> = old.all().cloned().collect();
        let over = |from: Option<u64>, span: Duration| from.unwrap_or(0).saturating_add(span.as_secs()) <= now_unix_s;
        if over(old.first.made_unix_s(), age) {
            keys.insert(0, Key::made_at(now_unix_s));
        }
        let mut keys = keys.into_iter();
        let first = keys.next()?;
        // A key stopped signing when the one before it was made. One that is younger waits to be promoted.
        let mut successor = first.made_unix_s();
        let mut others = Vec::new();
        for key in keys {
            let made = key.made_unix_s();
            if made > first.made_unix_s() {
                others.push(key);
            } else {
                if !over(successor, keep) {
                    others.push(key);
                }
                successor = made;
            }
        }
        let changed = first.id != old.first.id || others.len() != old.others.len();
        changed.then(|| ClusterKeys::of(Ring { first, others }))
    }

    /// The ids of the keys; the first signs.
    pub fn ids(&self) -> Vec<String> {
        self.ring().all().map(|key| key.id.clone()).collect()
    }

    /// The keys as [`ClusterKeys::parse`] reads them: the secrets in clear.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for key in self.ring().all() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}:{}", key.id, hex::encode(key.secret));
        }
        text
    }

    /// The keys in the file `path`.
    pub fn load(path: &Path) -> Result<ClusterKeys, KeyError> {
        key_file::load(path)
    }

    /// The keys in the file `path`, which is made with one new key when it is missing: readable by
    /// its owner alone, and whole from its first moment. Processes that start at the same time all
    /// get the same keys. The folder must exist.
    pub fn create_if_missing(path: &Path) -> Result<ClusterKeys, KeyError> {
        key_file::create_if_missing(path)
    }

    /// Takes the keys that are in the file `path` now, for these and all clones of them. Whether
    /// they are others than before.
    ///
    /// # Errors
    /// The file cannot be read or is wrong; the keys stay as they were.
    pub fn reload(&self, path: &Path) -> Result<bool, KeyError> {
        let fresh = ClusterKeys::load(path)?;
        if fresh.to_text() == self.to_text() {
            return Ok(false);
        }
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = fresh.ring();
        Ok(true)
    }

    /// Takes one step of a change of keys in the file `path`; the keys that are in it then. The file
    /// is replaced whole.
    ///
    /// # Errors
    /// The file cannot be read, is wrong, or cannot be replaced.
    pub fn step_file(path: &Path, step: KeyStep) -> Result<ClusterKeys, KeyError> {
        let keys = ClusterKeys::load(path)?.stepped(step);
        key_file::replace(path, &keys)?;
        Ok(keys)
    }

    /// Takes the step of time, as [`ClusterKeys::rotated`] has it, in the file `path`. Whether the file was
    /// changed; it is replaced whole.
    ///
    /// # Errors
    /// The file cannot be read, is wrong, or cannot be replaced.
    pub fn rotate_file(path: &Path, now_unix_s: u64, age: Duration, keep: Duration) -> Result<bool, KeyError> {
        let rotated = ClusterKeys::load(path)?.rotated(now_unix_s, age, keep);
        rotated.map_or(Ok(false), |keys| key_file::replace(path, &keys).map(|()| true))
    }

    pub(crate) fn signing(&self) -> Key {
        self.ring().first.clone()
    }

    pub(crate) fn find(&self, id: &str) -> Option<Key> {
        self.ring().all().find(|key| key.id == id).cloned()
    }

    fn ring(&self) -> Arc<Ring> {
        // Only whole rings are ever put there, so a panic elsewhere leaves a good one.
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ring {
    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKeys").field("ids", &self.ids()).finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub(crate) struct Key {
    id: String,
    secret: [u8; SECRET_BYTES],
}

impl Key {
    fn new(id: String, secret: [u8; SECRET_BYTES]) -> Key {
        Key { id, secret }
    }

    fn made_at(unix_s: u64) -> Key {
        Key::new(format!("{unix_s}-{:08x}", rand::random::<u32>()), rand::random())
    }

    /// When it was made, in seconds of Unix time, where its id says so.
    fn made_unix_s(&self) -> Option<u64> {
        self.id.split_once('-')?.0.parse().ok()
    }

    fn parse(line: &str) -> Result<Key, &'static str> {
        let (id, digits) = line.split_once(':').ok_or("it is not of the form id:secret")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || id.len() > MAX_ID_BYTES || !id.chars().all(fits) {
            return Err("an id has 1 to 64 ASCII letters, digits, - or _");
        }
        let mut secret = [0; SECRET_BYTES];
        hex::decode_to_slice(digits, &mut secret).map_err(|_| "a secret has exactly 64 hexadecimal digits")?;
        Ok(Key::new(id.to_owned(), secret))
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The id's length; at most [`MAX_ID_BYTES`], so it fits.
    pub(crate) fn id_len(&self) -> u8 {
        self.id.len().min(MAX_ID_BYTES) as u8
    }

    pub(crate) fn mac(&self) -> Hmac<Sha256> {
        // HMAC pads a short key with zeros to the block (RFC 2104, 2); doing it here leaves no
        // length to be wrong.
        let mut block = [0; HMAC_BLOCK_BYTES];
        block[..SECRET_BYTES].copy_from_slice(&self.secret);
        Hmac::new(&block.into())
    }

    /// The MAC under a secret of its own for one purpose, made from this one.
    pub(crate) fn derived(&self, purpose: &[u8]) -> Hmac<Sha256> {
        let secret = self.mac().chain_update(purpose).finalize().into_bytes();
        Key::new(String::new(), secret.into()).mac()
    }
}
