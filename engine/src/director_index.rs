//! Where the rows of given ids lie, told by a director's index before any chunk is touched.
//!
//! An index is sorted Parquet files on the coordinator's disk, in shards of ids that do not overlap, with the
//! columns `id`, `chunk`, `sub_chunk` and `_healpix_29`. The catalog knows between which ids the entries of a
//! file are, so only the shards that may hold the ids are opened, and of a file only the pages that may. What
//! its pages hold is kept in a [`PageCache`]. An index that is not whole, or cannot be read, tells nothing: the
//! chunk files' own statistics and filters decide then.

mod pages;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{OwnedRow, Row, RowConverter, SortField};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use parking_lot::Mutex;
use skyflight_catalog::{ChunkFile, FileKind, TableSnapshot, index_path};
use skyflight_sky::ChunkId;

pub(crate) use pages::PageCache;
use pages::Place;

/// Of more entries than this the chunks are not looked up: ids in so wide a range are nearly everywhere.
const RANGE_ENTRIES: usize = 500_000;

/// Shorter text is in a file's statistics as it is; longer text may be cut there.
const EXACT_TEXT_BYTES: usize = 60;

/// In more cells than this the rows of some ids are not told: a condition that names them would be long.
const FEW_CELLS: usize = 64;

/// Where the indexes of a coordinator are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexHome<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) pages: &'a Arc<PageCache>,
}

/// The index of the ids of one table on one snapshot.
#[derive(Debug)]
pub(crate) struct DirectorIndex {
    files: Vec<IndexFile>,
    id_type: DataType,
    converter: RowConverter,
    pages: Arc<PageCache>,
    /// The last question and its answer: planning asks the same more than once.
    last: Mutex<Option<Answer>>,
    last_range: Mutex<Option<RangeAnswer>>,
}

#[derive(Debug)]
struct Answer {
    ids: HashSet<ScalarValue>,
    found: Arc<Found>,
}

/// Where the rows of some ids lie; an id that is nowhere has no place.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) chunks: BTreeSet<ChunkId>,
    cells: BTreeSet<i64>,
}

impl Found {
    fn add(&mut self, place: Place) {
        self.chunks.insert(place.chunk);
        if self.cells.len() <= FEW_CELLS {
            self.cells.insert(place.cell);
        }
    }

    /// The values of `_healpix_29` that rows with the ids have, orphans' too; `None` where they are more than a few.
    pub(crate) fn cells(&self) -> Option<&BTreeSet<i64>> {
        (self.cells.len() <= FEW_CELLS).then_some(&self.cells)
    }
}

#[derive(Debug)]
struct RangeAnswer {
    limits: Vec<(Operator, ScalarValue)>,
    chunks: Option<Arc<BTreeSet<ChunkId>>>,
}

#[derive(Debug, Clone)]
struct IndexFile {
    path: PathBuf,
    rows: usize,
    /// The least and the greatest id; `None` where the catalog does not tell them exactly.
    ends: Option<(OwnedRow, OwnedRow)>,
}

impl DirectorIndex {
    /// The index of a director; `None` where it does not hold every row.
    pub(crate) fn of(director: &TableSnapshot, database: &str, home: IndexHome<'_>) -> Option<DirectorIndex> {
        if index_files(director).map(|file| file.rows).sum::<u64>() != director.facts.rows {
            return None;
        }
        let id = director.table.id_column.as_deref()?;
        let column = director.table.columns.iter().find(|column| column.name == id)?;
        let index = DirectorIndex::empty(index_type(&column.data_type), home)?;
        let files = index.opened(director, database, home);
        Some(DirectorIndex { files, ..index })
    }

    /// The index of a child's rows: they lie where a row of their director does, and those without one where
    /// an index of their own says. `None` where it does not hold every such row that has an id.
    pub(crate) fn with_orphans(
        &self,
        child: &TableSnapshot,
        key: &str,
        database: &str,
        home: IndexHome<'_>,
    ) -> Option<DirectorIndex> {
        let rows = child.files.iter().filter(|file| file.kind.counts());
        let nulls = rows.map(|file| {
            let statistics = file.statistics.iter().find(|statistics| statistics.column == key);
            statistics.map(|statistics| statistics.null_count)
        });
        let known = index_files(child).map(|file| file.rows).sum::<u64>() + nulls.sum::<Option<u64>>()?;
        if known != child.facts.orphans {
            return None;
        }
        let index = DirectorIndex::empty(self.id_type.clone(), home)?;
        let mut files = self.files.clone();
        files.extend(index.opened(child, database, home));
        Some(DirectorIndex { files, ..index })
    }

    fn empty(id_type: DataType, home: IndexHome<'_>) -> Option<DirectorIndex> {
        Some(DirectorIndex {
            files: Vec::new(),
            converter: RowConverter::new(vec![SortField::new(id_type.clone())]).ok()?,
            id_type,
            pages: Arc::clone(home.pages),
            last: Mutex::new(None),
            last_range: Mutex::new(None),
        })
    }

    fn opened(&self, table: &TableSnapshot, database: &str, home: IndexHome<'_>) -> Vec<IndexFile> {
        let file = |file: &ChunkFile| IndexFile {
            path: index_path(home.folder, database, &table.table.name, file.id),
            rows: file.rows as usize,
            ends: self.ends(file),
        };
        index_files(table).map(file).collect()
    }

    fn ends(&self, file: &ChunkFile) -> Option<(OwnedRow, OwnedRow)> {
        let statistics = file.statistics.iter().find(|statistics| statistics.column == "id")?;
        let end = |text: &str| {
            if self.id_type == DataType::Utf8 && text.len() >= EXACT_TEXT_BYTES {
                return None;
            }
            let value = ScalarValue::try_from_string(text.to_owned(), &self.id_type).ok()?;
            self.row(&value).ok().flatten()
        };
        end(&statistics.min).zip(end(&statistics.max))
    }

    /// A value as it is compared with ids; `None` where no id is like it.
    fn row(&self, value: &ScalarValue) -> Result<Option<OwnedRow>> {
        let value = cast(&value.to_array()?, &self.id_type)?;
        if value.null_count() > 0 {
            return Ok(None);
        }
        Ok(Some(self.converter.convert_columns(&[value])?.row(0).owned()))
    }

    /// Where the rows with one of `ids` lie.
    ///
    /// # Errors
    /// A file cannot be read, or the ids are of another type.
    pub(crate) fn places_of(&self, ids: &HashSet<ScalarValue>) -> Result<Arc<Found>> {
        if let Some(answer) = self.last.lock().as_ref().filter(|answer| answer.ids == *ids) {
            return Ok(Arc::clone(&answer.found));
        }
        let mut found = Found::default();
        let wanted = self.in_order(ids)?;
        for file in &self.files {
            let wanted = file.holding(&wanted);
            if !wanted.is_empty() {
                self.find(file, wanted, &mut found)?;
            }
        }
        let found = Arc::new(found);
        *self.last.lock() = Some(Answer { ids: ids.clone(), found: Arc::clone(&found) });
        Ok(found)
    }

    fn in_order(&self, ids: &HashSet<ScalarValue>) -> Result<Vec<OwnedRow>> {
        // NULL is equal to no id.
        let wanted: Vec<ScalarValue> = ids.iter().filter(|id| !id.is_null()).cloned().collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let values = cast(&ScalarValue::iter_to_array(wanted)?, &self.id_type)?;
        let rows = self.converter.convert_columns(&[Arc::clone(&values)])?;
        let mut wanted: Vec<OwnedRow> =
            rows.iter().enumerate().filter(|(at, _)| values.is_valid(*at)).map(|(_, row)| row.owned()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        Ok(wanted)
    }

    /// The chunks that hold a row whose id compares with each of the values as its operator says: `<`,
    /// `<=`, `>` or `>=`. `None` where that would take too long, or cannot be told.
    ///
    /// # Errors
    /// A file cannot be read, or the values are of another type.
    pub(crate) fn chunks_within(&self, limits: &[(Operator, ScalarValue)]) -> Result<Option<Arc<BTreeSet<ChunkId>>>> {
        if let Some(answer) = self.last_range.lock().as_ref().filter(|answer| answer.limits == limits) {
            return Ok(answer.chunks.clone());
        }
        let chunks = self.find_within(limits)?.map(Arc::new);
        *self.last_range.lock() = Some(RangeAnswer { limits: limits.to_vec(), chunks: chunks.clone() });
        Ok(chunks)
    }

    fn find_within(&self, limits: &[(Operator, ScalarValue)]) -> Result<Option<BTreeSet<ChunkId>>> {
        let mut range = Range::default();
        for (operator, value) in limits {
            // A number with a fraction, cut to be an id, would be another limit.
            let same_kind = if self.id_type == DataType::Utf8 {
                value.data_type().is_string()
            } else {
                value.data_type().is_integer()
            };
            let Some(limit) = self.row(value)?.filter(|_| same_kind) else { return Ok(None) };
            range.limits.push((*operator, limit));
        }
        let files: Vec<&IndexFile> = self
            .files
            .iter()
            .filter(|file| file.ends.as_ref().is_none_or(|(least, greatest)| range.meets(least, greatest)))
            .collect();
        // Those that are within are read whole, which the catalog tells without opening them.
        let within = |file: &&&IndexFile| {
            let ends = file.ends.as_ref();
            ends.is_some_and(|(least, greatest)| range.holds(least.row()) && range.holds(greatest.row()))
        };
        if files.iter().filter(within).map(|file| file.rows).sum::<usize>() > RANGE_ENTRIES {
            return Ok(None);
        }
        let mut entries_left = RANGE_ENTRIES;
        let mut chunks = BTreeSet::new();
        for file in files {
            let pages = self.pages.get(&file.path)?;
            let selection = pages.selected(|least, greatest| range.meets(least, greatest));
            let entries: usize = selection.iter().map(std::ops::Range::len).sum();
            if entries > entries_left {
                return Ok(None);
            }
            entries_left -= entries;
            pages.read(&file.path, selection, &mut |row, place| {
                if range.holds(row) {
                    chunks.insert(place.chunk);
                }
            })?;
        }
        Ok(Some(chunks))
    }

    /// Adds the places of the wanted ids, which are in order.
    fn find(&self, file: &IndexFile, wanted: &[OwnedRow], found: &mut Found) -> Result<()> {
        let pages = self.pages.get(&file.path)?;
        let selection = pages.selected(|least, greatest| !between(wanted, least, greatest).is_empty());
        let mut at = 0;
        pages.read(&file.path, selection, &mut |row, place| {
            while wanted.get(at).is_some_and(|id| id.row() < row) {
                at += 1;
            }
            if wanted.get(at).is_some_and(|id| id.row() == row) {
                found.add(place);
            }
        })
    }
}

impl IndexFile {
    /// Those of `wanted`, which are in order, that the file may hold.
    fn holding<'a>(&self, wanted: &'a [OwnedRow]) -> &'a [OwnedRow] {
        match &self.ends {
            Some((least, greatest)) => between(wanted, least, greatest),
            None => wanted,
        }
    }
}

fn index_files(table: &TableSnapshot) -> impl Iterator<Item = &ChunkFile> {
    table.files.iter().filter(|file| file.kind == FileKind::DirectorIndex)
}

/// The type that ids of a column are indexed as, which ingest decides.
fn index_type(column: &str) -> DataType {
    match column.parse() {
        Ok(DataType::Utf8) => DataType::Utf8,
        Ok(DataType::UInt64) => DataType::UInt64,
        _ => DataType::Int64,
    }
}

fn between<'a>(wanted: &'a [OwnedRow], least: &OwnedRow, greatest: &OwnedRow) -> &'a [OwnedRow] {
    let from = wanted.partition_point(|id| id < least);
    let to = wanted.partition_point(|id| id <= greatest);
    wanted.get(from..to).unwrap_or_default()
}

/// Ids between limits, each of which is itself within or not.
#[derive(Debug, Default)]
struct Range {
    limits: Vec<(Operator, OwnedRow)>,
}

impl Range {
    fn above(&self, row: Row<'_>) -> bool {
        self.limits.iter().all(|(operator, limit)| match operator {
            Operator::Gt => row > limit.row(),
            Operator::GtEq => row >= limit.row(),
            _ => true,
        })
    }

    fn below(&self, row: Row<'_>) -> bool {
        self.limits.iter().all(|(operator, limit)| match operator {
            Operator::Lt => row < limit.row(),
            Operator::LtEq => row <= limit.row(),
            _ => true,
        })
    }

    fn holds(&self, row: Row<'_>) -> bool {
        self.above(row) && self.below(row)
    }

    /// Whether ids from `least` to `greatest` may be within.
    fn meets(&self, least: &OwnedRow, greatest: &OwnedRow) -> bool {
        self.below(least.row()) && self.above(greatest.row())
    }
}
