//! The small TOML file that says what a table is: its name, kind, key columns, and what is known of its columns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skyflight_catalog::{TableKind, check_name};
use skyflight_sky::SchemeSpec;

use crate::error::{IngestError, IoContext, Result};

/// The largest `max_order` of an adaptive scheme: positions are counted in cells of this order.
const MAX_ORDER: u8 = 10;

/// What a table is. Read from TOML; unknown keys fail with the key named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableDescription {
    /// The table's name.
    pub name: String,
    /// What it is to the other tables of the database.
    pub kind: TableKind,
    /// The column that identifies a row; required for a director.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The director table of a child or companion, and the first one of a match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub director: Option<String>,
    /// The column that holds that director's id. In a companion no id occurs twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub director_key: Option<String>,
    /// A match's second director table; it may be the first one again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_director: Option<String>,
    /// The column that holds the second director's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_director_key: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where to write rows that cannot be used; without it the first such row stops the ingest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<PathBuf>,
    /// The columns that hold a row's position; required for a director.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<PositionColumns>,
    /// How the database is to cut the sky; only read with the database's first director.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<SchemeDescription>,
    /// How text files are to be read.
    #[serde(default, skip_serializing_if = "CsvDescription::is_default")]
    pub csv: CsvDescription,
    /// What is known of single columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnDescription>,
}

/// The columns that hold a row's position, ICRS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionColumns {
    /// Right ascension.
    pub ra: String,
    /// Declination.
    pub dec: String,
    /// Their unit.
    #[serde(default)]
    pub unit: AngleUnit,
    /// Whether right ascensions outside [0, 360) are brought into it before they are stored. Without it such
    /// a row is a bad row, because a query for a range of right ascension would not find it.
    #[serde(default)]
    pub wrap_ra: bool,
}

/// The unit of a position's columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AngleUnit {
    /// Degrees.
    #[default]
    #[serde(rename = "deg")]
    Degrees,
}

/// How a database is to cut the sky.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum SchemeDescription {
    /// HEALPix cells whose order adapts to the density of the first director.
    Healpix {
        /// Chunks are at least of this order (default 1, 48 cells).
        #[serde(default = "default_min_order")]
        min_order: u8,
        /// Chunks are at most of this order (default 8).
        #[serde(default = "default_max_order")]
        max_order: u8,
        /// A cell with more director rows is split (default 250,000).
        #[serde(default = "default_row_limit")]
        row_limit: u64,
        /// Overlap radius in arcseconds (default 60).
        #[serde(default = "default_overlap_arcsec")]
        overlap_arcsec: f64,
    },
    /// Qserv's declination stripes.
    Stripes {
        /// Number of stripes (default 85).
        #[serde(default = "default_stripes")]
        stripes: u32,
        /// Sub-stripes in a stripe (default 12).
        #[serde(default = "default_sub_stripes")]
        sub_stripes: u32,
        /// Overlap in degrees (default 0.01667, one arcminute).
        #[serde(default = "default_overlap_deg")]
        overlap_deg: f64,
    },
}

fn default_min_order() -> u8 {
    1
}
fn default_max_order() -> u8 {
    8
}
fn default_row_limit() -> u64 {
    250_000
}
fn default_overlap_arcsec() -> f64 {
    60.0
}
fn default_stripes() -> u32 {
    85
}
fn default_sub_stripes() -> u32 {
    12
}
fn default_overlap_deg() -> f64 {
    0.01667
}

impl Default for SchemeDescription {
    fn default() -> SchemeDescription {
        SchemeDescription::Healpix {
            min_order: default_min_order(),
            max_order: default_max_order(),
            row_limit: default_row_limit(),
            overlap_arcsec: default_overlap_arcsec(),
        }
    }
}

impl SchemeDescription {
    /// The scheme where it needs no counting of positions.
    pub(crate) fn fixed(&self) -> Option<SchemeSpec> {
        match *self {
            SchemeDescription::Stripes { stripes, sub_stripes, overlap_deg } => {
                Some(SchemeSpec::Stripes { stripes, sub_stripes, overlap_deg })
            }
            SchemeDescription::Healpix { .. } => None,
        }
    }
}

/// How text files are to be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CsvDescription {
    /// What separates values; by default a tab in `.tsv` files and a comma in others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether the first line of every file names the columns (default true).
    pub header: bool,
    /// The names of the columns, in order, where there is no header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Unquoted values that mean null (default: nothing at all, and `\N`).
    pub null: Vec<String>,
    /// What may surround a value (default `"`; empty string for none). Inside, it is written twice.
    pub quote: String,
    /// What takes its special meaning from the next character, as in MySQL dumps (default none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escape: Option<char>,
    /// How the bytes are to be read.
    pub encoding: TextEncoding,
}

/// How the bytes of a text file are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextEncoding {
    /// UTF-8; other bytes make a bad row.
    #[default]
    Utf8,
    /// ISO 8859-1: every byte is a character.
    Latin1,
}

impl Default for CsvDescription {
    fn default() -> CsvDescription {
        CsvDescription {
            delimiter: None,
            header: true,
            columns: None,
            null: vec![String::new(), "\\N".to_owned()],
            quote: "\"".to_owned(),
            escape: None,
            encoding: TextEncoding::Utf8,
        }
    }
}

impl CsvDescription {
    fn is_default(&self) -> bool {
        *self == CsvDescription::default()
    }
}

/// What is known of one column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnDescription {
    /// Its type, instead of the one found: `int64`, `float32`, `string`, `bool`, `date`, `timestamp`, … or
    /// Arrow's own spelling of a type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub data_type: Option<String>,
    /// Unit in VOUnit spelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// IVOA unified content descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ucd: Option<String>,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl TableDescription {
    /// A description with the name and kind alone.
    #[must_use]
    pub fn new(name: &str, kind: TableKind) -> TableDescription {
        TableDescription {
            name: name.to_owned(),
            kind,
            id: None,
            director: None,
            director_key: None,
            second_director: None,
            second_director_key: None,
            description: None,
            rejects: None,
            position: None,
            scheme: None,
            csv: CsvDescription::default(),
            columns: BTreeMap::new(),
        }
    }

    /// Reads and checks a description.
    ///
    /// # Errors
    /// `Io` when the file cannot be read, `Description` when it is not one.
    pub fn load(path: &Path) -> Result<TableDescription> {
        let text = std::fs::read_to_string(path).at("read", path)?;
        TableDescription::parse(&text, &path.display().to_string())
    }

    /// Reads and checks a description from TOML text; `origin` is named in errors.
    ///
    /// # Errors
    /// `Description`: not TOML, an unknown key (named), or keys that contradict each other.
    pub fn parse(text: &str, origin: &str) -> Result<TableDescription> {
        let description: TableDescription = toml::from_str(text).map_err(|error| IngestError::Description {
            origin: origin.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        description.check().map_err(|reason| IngestError::Description { origin: origin.to_owned(), reason })?;
        Ok(description)
    }

    /// The description as TOML text that [`TableDescription::parse`] reads back.
    ///
    /// # Errors
    /// `Description` when a value has no TOML form.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|error| IngestError::Description { origin: self.name.clone(), reason: error.to_string() })
    }

    /// An error of this description.
    pub(crate) fn error(&self, reason: impl Into<String>) -> IngestError {
        IngestError::Description { origin: format!("of {}", self.name), reason: reason.into() }
    }

    /// What must be true of a description before any file is opened.
    pub(crate) fn checked(&self) -> Result<()> {
        self.check().map_err(|reason| self.error(reason))
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_name("table", &self.name).map_err(|error| error.to_string())?;
        match self.kind {
            TableKind::Director => {
                if self.id.is_none() {
                    return Err("a director needs `id`, the column that identifies a row".into());
                }
                if self.position.is_none() {
                    return Err("a director needs `[position]` with `ra` and `dec`".into());
                }
            }
            TableKind::Child | TableKind::Companion | TableKind::Match => {
                if self.director.is_none() || self.director_key.is_none() {
                    let kind = self.kind;
                    return Err(format!(
                        "a {kind} needs `director` (a table) and `director_key` (a column of this table)"
                    ));
                }
            }
            TableKind::Replicated => {}
        }
        let of_one = self.director.is_some() || self.director_key.is_some();
        if matches!(self.kind, TableKind::Director | TableKind::Replicated) && of_one {
            return Err(format!("`director` and `director_key` belong to a child, not to a {} table", self.kind));
        }
        let of_two = self.second_director.is_some() || self.second_director_key.is_some();
        if self.kind == TableKind::Match && (self.second_director.is_none() || self.second_director_key.is_none()) {
            return Err(
                "a match needs `second_director` (a table) and `second_director_key` (a column of this table)".into()
            );
        }
        if self.kind != TableKind::Match && of_two {
            return Err(format!(
                "`second_director` and `second_director_key` belong to a match, not to a {} table",
                self.kind
            ));
        }
        if self.kind != TableKind::Director && self.scheme.is_some() {
            return Err(format!("`[scheme]` belongs to a director, not to a {} table", self.kind));
        }
        check_scheme(self.scheme.as_ref())?;
        self.csv.check()
    }
}

fn check_scheme(scheme: Option<&SchemeDescription>) -> std::result::Result<(), String> {
    let Some(scheme) = scheme else { return Ok(()) };
    match *scheme {
        SchemeDescription::Healpix { min_order, max_order, row_limit, overlap_arcsec } => {
            if min_order > max_order || max_order > MAX_ORDER {
                return Err(format!(
                    "`min_order` {min_order} and `max_order` {max_order}: the first is at most the second, \
                     the second at most {MAX_ORDER}"
                ));
            }
            if row_limit == 0 {
                return Err("`row_limit` is at least 1".into());
            }
            if !(0.0..=3600.0).contains(&overlap_arcsec) {
                return Err(format!("`overlap_arcsec` {overlap_arcsec} is outside [0, 3600]"));
            }
        }
        SchemeDescription::Stripes { overlap_deg, .. } => {
            if !(0.0..=1.0).contains(&overlap_deg) {
                return Err(format!("`overlap_deg` {overlap_deg} is outside [0, 1]"));
            }
        }
    }
    Ok(())
}

impl CsvDescription {
    fn check(&self) -> std::result::Result<(), String> {
        let quote = self.quote_char()?;
        let ascii = |what: &str, c: Option<char>| match c {
            Some(c) if !c.is_ascii() || c == '\n' || c == '\r' => {
                Err(format!("`csv.{what}` {c:?} is not a plain ASCII character"))
            }
            _ => Ok(()),
        };
        ascii("delimiter", self.delimiter)?;
        ascii("quote", quote)?;
        ascii("escape", self.escape)?;
        if !self.header && self.columns.is_none() {
            return Err("without `csv.header` the names are needed: `csv.columns = [\"…\"]`".into());
        }
        if self.header && self.columns.is_some() {
            return Err("`csv.columns` is for files without a header; set `csv.header = false`".into());
        }
        Ok(())
    }

    /// The quote, where there is one.
    fn quote_char(&self) -> std::result::Result<Option<char>, String> {
        let mut characters = self.quote.chars();
        match (characters.next(), characters.next()) {
            (quote, None) => Ok(quote),
            (_, Some(_)) => Err(format!("`csv.quote` {:?} is more than one character", self.quote)),
        }
    }

    /// The quote as a byte, where there is one.
    pub(crate) fn quote_byte(&self) -> Option<u8> {
        self.quote.bytes().next()
    }
}
