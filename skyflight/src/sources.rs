//! What `skyflight ingest` is pointed at: descriptions and the files they describe.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use skyflight_ingest::{CommitMode, TableDescription, TableSource};

/// Endings of files that hold rows, in the order in which they are looked for beside `X.toml`.
const ENDINGS: [&str; 8] = ["parquet", "csv", "tsv", "txt", "csv.gz", "tsv.gz", "txt.gz", ""];

/// Reads `description.toml=file[,file…]` or a folder of descriptions.
pub(crate) fn table_sources(source: &str, mode: CommitMode) -> Result<Vec<TableSource>> {
    if let Some((description, files)) = source.split_once(".toml=") {
        let description = TableDescription::load(Path::new(&format!("{description}.toml")))?;
        let inputs: Vec<PathBuf> = files.split(',').filter(|f| !f.is_empty()).map(PathBuf::from).collect();
        ensure!(!inputs.is_empty(), "{source} names no file after the equals sign");
        return Ok(vec![TableSource { description, inputs, mode }]);
    }
    let folder = Path::new(source);
    ensure!(folder.is_dir(), "{source:?} is neither `description.toml=file` nor a folder with table descriptions");
    let mut descriptions: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot list {source}"))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    descriptions.sort();
    ensure!(!descriptions.is_empty(), "{source} holds no table description (X.toml)");
    descriptions.iter().map(|path| beside(path, mode)).collect()
}

/// The table whose rows lie beside its description under the same name.
fn beside(path: &Path, mode: CommitMode) -> Result<TableSource> {
    let description = TableDescription::load(path)?;
    let stem = path.with_extension("");
    for ending in ENDINGS {
        let input =
            if ending.is_empty() { stem.clone() } else { PathBuf::from(format!("{}.{ending}", stem.display())) };
        if input.exists() {
            return Ok(TableSource { description, inputs: vec![input], mode });
        }
    }
    bail!("{} has no rows beside it: expected {}/ or {0}.parquet, .csv, .tsv", path.display(), stem.display())
}
