//! Where a chunk file lies: `chunks/<database>/<table>/<chunk>/<file>[.overlap].parquet`.
//!
//! A path is only ever made from a [`FileKey`], and a key only from checked names, so that no
//! request reaches outside the folder.

use std::path::{Path, PathBuf};

use skyflight_catalog::FileId;
use skyflight_proto::FileKind;
use skyflight_sky::ChunkId;

use crate::{Result, WorkerError};

const ROWS_SUFFIX: &str = ".parquet";
const OVERLAP_SUFFIX: &str = ".overlap.parquet";

/// Which chunk file is meant. Database and table are in their declared case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey {
    /// Database name.
    pub database: String,
    /// Table name.
    pub table: String,
    /// The chunk; [`ChunkId::EVERYWHERE`] for a replicated table.
    pub chunk: ChunkId,
    /// The file, unique among all files of the cluster.
    pub file: FileId,
    /// Rows or overlap.
    pub kind: FileKind,
}

impl FileKey {
    /// A key from what a ticket says.
    ///
    /// # Errors
    /// `Invalid` for names that are not names, ids that are not positive, an unknown kind.
    pub fn checked(database: &str, table: &str, chunk: u64, file: i64, kind: i32) -> Result<FileKey> {
        check_name("database", database)?;
        check_name("table", table)?;
        if file <= 0 {
            return Err(WorkerError::Invalid(format!("{file} is not a file id")));
        }
        let kind = FileKind::try_from(kind)
            .map_err(|_| WorkerError::Invalid(format!("{kind} is not a kind of chunk file")))?;
        Ok(FileKey {
            database: database.to_owned(),
            table: table.to_owned(),
            chunk: ChunkId(chunk),
            file: FileId(file),
            kind,
        })
    }

    /// The file's path below `root`.
    pub fn path(&self, root: &Path) -> PathBuf {
        chunk_path(&root.join(&self.database).join(&self.table), self.chunk, self.file, self.kind)
    }
}

/// The path of a file of a table whose folder is known.
pub(super) fn chunk_path(table: &Path, chunk: ChunkId, file: FileId, kind: FileKind) -> PathBuf {
    let suffix = match kind {
        FileKind::Rows => ROWS_SUFFIX,
        FileKind::Overlap => OVERLAP_SUFFIX,
    };
    table.join(format!("{chunk}/{file}{suffix}"))
}

/// Reads back what [`chunk_path`] wrote; `None` for a name that it never writes.
pub(super) fn parse_file_name(name: &str) -> Option<(FileId, FileKind)> {
    let (digits, kind) = match name.strip_suffix(OVERLAP_SUFFIX) {
        Some(digits) => (digits, FileKind::Overlap),
        None => (name.strip_suffix(ROWS_SUFFIX)?, FileKind::Rows),
    };
    let file: i64 = digits.parse().ok()?;
    // One file, one spelling: `+7` and `07` parse as well.
    (file > 0 && file.to_string() == digits).then_some((FileId(file), kind))
}

/// Reads back a chunk's folder name; `None` for a name that [`chunk_path`] never writes.
pub(super) fn parse_chunk_name(name: &str) -> Option<ChunkId> {
    let chunk: ChunkId = name.parse().ok()?;
    (chunk.to_string() == name).then_some(chunk)
}

/// Refuses what cannot be the name of a database or table.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    skyflight_catalog::check_name(what, name).map_err(|error| WorkerError::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_read_back() {
        for kind in [FileKind::Rows, FileKind::Overlap] {
            for chunk in [ChunkId(0), ChunkId(4_295), ChunkId::EVERYWHERE] {
                let path = chunk_path(Path::new("t"), chunk, FileId(5 << 32 | 7), kind);
                let mut parts = path.iter().map(|p| p.to_str().unwrap());
                assert_eq!(parts.next(), Some("t"));
                assert_eq!(parse_chunk_name(parts.next().unwrap()), Some(chunk));
                assert_eq!(parse_file_name(parts.next().unwrap()), Some((FileId(21_474_836_487), kind)));
                assert_eq!(parts.next(), None);
            }
        }
    }

    #[test]
    fn strange_names_are_not_files() {
        for name in
            ["", "7", "07.parquet", "+7.parquet", "-7.parquet", "0.parquet", "7.overlap", "x.parquet", "7.parquet~"]
        {
            assert_eq!(parse_file_name(name), None, "{name:?}");
        }
        assert_eq!(parse_chunk_name("07"), None);
        assert_eq!(parse_chunk_name(".."), None);
    }

    #[test]
    fn a_key_never_leaves_its_folder() {
        for name in ["", "..", ".", "a/b", "a\\b", "a\0", "/etc", "é", ".incoming", "1a", &"x".repeat(65)] {
            assert!(FileKey::checked(name, "t", 1, 1, 0).is_err(), "{name:?}");
            assert!(FileKey::checked("d", name, 1, 1, 0).is_err(), "{name:?}");
        }
        assert!(FileKey::checked("d", "t", 1, 0, 0).is_err());
        assert!(FileKey::checked("d", "t", 1, -5, 0).is_err());
        assert!(FileKey::checked("d", "t", 1, 1, 9).is_err());
        let key = FileKey::checked("d", "T_1", 9, 3, 1).unwrap();
        assert_eq!(key.path(Path::new("/r")), Path::new("/r/d/T_1/9/3.overlap.parquet"));
    }
}
