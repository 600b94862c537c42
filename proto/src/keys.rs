//! The secret a cluster shares: one key signs, several verify, so that keys can change while
//! tickets are out.

use std::collections::HashSet;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

use crate::key_file;

const SECRET_BYTES: usize = 32;
const MAX_ID_BYTES: usize = 64;
const HMAC_BLOCK_BYTES: usize = 64;

/// The keys of a cluster: the first signs, all verify.
///
/// As text, one key a line, `id:secret` with the secret as 64 hexadecimal digits; empty lines and
/// lines that start with `#` are passed over. To change keys without refusing a ticket that is out:
/// add the new line at the end everywhere, then move it to the top everywhere, then drop the old
/// line when its last ticket has expired. Never prints its secrets, except by
/// [`ClusterKeys::to_text`].
#[derive(Clone)]
pub struct ClusterKeys {
    first: Key,
    others: Vec<Key>,
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
    /// One new key from the system's random numbers, with a random id.
    pub fn generate() -> ClusterKeys {
        let id = format!("{:08x}", rand::random::<u32>());
        ClusterKeys { first: Key::new(id, rand::random()), others: Vec::new() }
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
        Ok(ClusterKeys { first, others: keys.collect() })
    }

    /// The keys as [`ClusterKeys::parse`] reads them: the secrets in clear.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for key in self.all() {
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

    pub(crate) fn signing(&self) -> &Key {
        &self.first
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Key> {
        self.all().find(|key| key.id == id)
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.all().map(Key::id).collect();
        f.debug_struct("ClusterKeys").field("ids", &ids).finish_non_exhaustive()
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
}
