//! Which files an input consists of.

use std::path::{Path, PathBuf};

use crate::error::{IngestError, IoContext, Result};

/// How deep folders are searched.
const MAX_DEPTH: usize = 16;

/// What a file's name says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `.parquet`, `.parq`, `.pq`
    Parquet,
    /// `.csv`, `.tsv`, `.txt`
    Text,
}

/// An input file.
#[derive(Clone, Debug)]
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
}

/// The files named, and those in the folders named: by path within a folder. In a folder that holds Parquet
/// files anywhere, text files are not data (HATS keeps lists there). Names that begin with `.` or `_` are
/// passed over in folders.
pub(crate) fn discover(inputs: &[PathBuf]) -> Result<Vec<InputFile>> {
    let mut files = Vec::new();
    for input in inputs {
        let metadata = std::fs::metadata(input).at("open", input)?;
        if !metadata.is_dir() {
            let format = format_of(input)?.ok_or_else(|| unknown(input))?;
            files.push(InputFile { path: input.clone(), format });
            continue;
        }
        let mut found = Vec::new();
        search(input, 0, &mut found)?;
        if found.iter().any(|file| file.format == Format::Parquet) {
            found.retain(|file| file.format == Format::Parquet);
        }
        if found.is_empty() {
            return Err(IngestError::Input {
                file: input.clone(),
                reason: "the folder holds no .parquet, .csv or .tsv file".into(),
            });
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        files.append(&mut found);
    }
    if files.is_empty() {
        return Err(IngestError::Request("no input file or folder was given".into()));
    }
    Ok(files)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<InputFile>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(IngestError::Input { file: folder.to_owned(), reason: "folders are nested too deeply".into() });
    }
    for entry in std::fs::read_dir(folder).at("list", folder)? {
        let path = entry.at("list", folder)?.path();
        let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with(['.', '_']));
        if hidden {
            continue;
        }
        if path.is_dir() {
            search(&path, depth + 1, found)?;
        } else if let Some(format) = format_of(&path)? {
            found.push(InputFile { path, format });
        }
    }
    Ok(())
}

fn format_of(path: &Path) -> Result<Option<Format>> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "parquet" | "parq" | "pq" => Ok(Some(Format::Parquet)),
        "csv" | "tsv" | "txt" => Ok(Some(Format::Text)),
        // Text data that would be passed over silently is worse than a refusal.
        "gz" if matches!(format_of(&path.with_extension("")), Ok(Some(Format::Text))) => Err(IngestError::Input {
            file: path.to_owned(),
            reason: "compressed text is not read yet; unpack it with `gunzip` first".into(),
        }),
        _ => Ok(None),
    }
}

fn unknown(path: &Path) -> IngestError {
    IngestError::Input {
        file: path.to_owned(),
        reason: "neither .parquet nor .csv nor .tsv; rename the file to what it is".into(),
    }
}

/// Whether a text file's name says that tabs separate its values.
pub(crate) fn is_tab_separated(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"))
}
