//! The cluster key on disk. Whoever reads it can forge tickets, and two processes that disagree
//! about it refuse each other, so the file is private and appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::keys::{ClusterKeys, KeyError};

pub(crate) fn load(path: &Path) -> Result<ClusterKeys, KeyError> {
    let text =
        fs::read_to_string(path).map_err(|cause| KeyError::Io { action: "read", path: path.to_owned(), cause })?;
    ClusterKeys::parse(&text).map_err(|cause| KeyError::File { path: path.to_owned(), cause: Box::new(cause) })
}

pub(crate) fn create_if_missing(path: &Path) -> Result<ClusterKeys, KeyError> {
    match load(path) {
        Err(KeyError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {}
        loaded => return loaded,
    }
    create(path, &ClusterKeys::generate()).map_err(|cause| KeyError::Io {
        action: "make",
        path: path.to_owned(),
        cause,
    })?;
    // What is on disk counts, whoever made it.
    load(path)
}

pub(crate) fn replace(path: &Path, keys: &ClusterKeys) -> Result<(), KeyError> {
    let replaced = write_beside(path, keys.to_text().as_bytes()).and_then(|temporary| {
        fs::rename(&temporary.0, path)?;
        File::open(folder_of(path))?.sync_all()
    });
    replaced.map_err(|cause| KeyError::Io { action: "replace", path: path.to_owned(), cause })
}

/// Puts `keys` at `path` unless a file is there already.
fn create(path: &Path, keys: &ClusterKeys) -> io::Result<()> {
    let temporary = write_beside(path, keys.to_text().as_bytes())?;
    // A link, not a rename: a rename would replace the key another process has just made.
    match fs::hard_link(&temporary.0, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(folder_of(path))?.sync_all(),
    }
}

/// A private file with `secret`, safely on disk, in the folder of `path`.
fn write_beside(path: &Path, secret: &[u8]) -> io::Result<Temporary> {
    let name = format!(".cluster.key.{}.{:016x}", std::process::id(), rand::random::<u64>());
    let temporary = Temporary(folder_of(path).join(name));
    let mut file = private().open(&temporary.0)?;
    file.write_all(secret)?;
    file.sync_all()?;
    Ok(temporary)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Removes the file when dropped: a secret is not left lying about.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may never have been made, and a stray copy does no harm to correctness.
        let _ = fs::remove_file(&self.0);
    }
}
