//! What the snapshot knows of the values in each chunk, and which chunks a condition leaves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use skyflight_catalog::{ChunkFile, FileKind, TableSnapshot};
use skyflight_sky::ChunkId;

/// Longer lists are compared by the chunk files' own filters.
const LISTED_VALUES: usize = 1_000;

/// Smallest and largest values of columns in each chunk of one table on one snapshot.
///
/// Floating-point columns are left out: a NaN, which is above all numbers in a comparison, has no
/// place in the statistics of a file.
#[derive(Debug)]
pub(crate) struct ChunkBounds {
    /// Ascending.
    chunks: Vec<ChunkId>,
    rows: ArrayRef,
    columns: HashMap<String, ColumnBounds>,
}

/// One value for each chunk; NULL where it is not known.
#[derive(Debug)]
struct ColumnBounds {
    min: ArrayRef,
    max: ArrayRef,
    null_count: ArrayRef,
}

/// What is known of one column of one chunk.
#[derive(Debug, Default)]
struct Known {
    range: Option<(ScalarValue, ScalarValue)>,
    nulls: u64,
}

impl ChunkBounds {
    /// Collects the statistics of a table's files.
    pub(crate) fn of(table: &TableSnapshot, schema: &SchemaRef) -> ChunkBounds {
        let mut files: BTreeMap<ChunkId, Vec<&ChunkFile>> = BTreeMap::new();
        for file in table.files.iter().filter(|f| f.kind == FileKind::Rows) {
            files.entry(file.chunk).or_default().push(file);
        }
        let mut columns = HashMap::new();
        for field in schema.fields() {
            let is_exact = field.data_type().is_integer() || field.data_type().is_temporal();
            let known = is_exact.then(|| files.values().map(|files| known(files, field.name(), field.data_type())));
            if let Some(bounds) = known.and_then(|known| ColumnBounds::new(known, field.data_type())) {
                columns.insert(field.name().clone(), bounds);
            }
        }
        ChunkBounds {
            rows: Arc::new(UInt64Array::from_iter_values(files.values().map(|f| f.iter().map(|file| file.rows).sum()))),
            chunks: files.into_keys().collect(),
            columns,
        }
    }

    /// The chunks in which rows may be that pass all `filters`; `None` where nothing is known.
    pub(crate) fn kept(&self, filters: &[Expr], schema: &DFSchema, file_schema: &SchemaRef) -> Option<Vec<ChunkId>> {
        let named = |filter: &&Expr| filter.column_refs().iter().any(|column| self.columns.contains_key(&column.name));
        let condition = conjunction(filters.iter().filter(named).cloned())?;
        let props = ExecutionProps::new();
        let predicate = create_physical_expr(&condition, schema, &props, &PhysicalPlanningContext::default()).ok()?;
        let pruning = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(file_schema))
            .with_max_in_list_size(LISTED_VALUES)
            .build(predicate)?;
        // What cannot be worked out prunes nothing.
        let kept = pruning.prune(self).ok()?;
        Some(self.chunks.iter().zip(kept).filter(|(_, kept)| *kept).map(|(chunk, _)| *chunk).collect())
    }
}

fn known(files: &[&ChunkFile], column: &str, data_type: &DataType) -> Option<Known> {
    let mut all = Known::default();
    for file in files {
        let statistics = file.statistics.iter().find(|s| s.column == column)?;
        all.nulls += statistics.null_count;
        if statistics.null_count == file.rows {
            continue;
        }
        let parse = |text: &str| ScalarValue::try_from_string(text.to_owned(), data_type).ok();
        let (min, max) = (parse(&statistics.min)?, parse(&statistics.max)?);
        all.range = Some(match all.range {
            None => (min, max),
            Some((low, high)) => (if min < low { min } else { low }, if max > high { max } else { high }),
        });
    }
    Some(all)
}

impl ColumnBounds {
    /// `None` where nothing is known of any chunk.
    fn new(known: impl Iterator<Item = Option<Known>>, data_type: &DataType) -> Option<ColumnBounds> {
        let unknown = ScalarValue::try_from(data_type).ok()?;
        let (mut mins, mut maxes, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        for known in known {
            nulls.push(known.as_ref().map(|known| known.nulls));
            let (min, max) = known.and_then(|known| known.range).unwrap_or((unknown.clone(), unknown.clone()));
            mins.push(min);
            maxes.push(max);
        }
        if nulls.iter().all(Option::is_none) {
            return None;
        }
        Some(ColumnBounds {
            min: ScalarValue::iter_to_array(mins).ok()?,
            max: ScalarValue::iter_to_array(maxes).ok()?,
            null_count: Arc::new(UInt64Array::from(nulls)),
        })
    }
}

impl PruningStatistics for ChunkBounds {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.columns.get(&column.name).map(|bounds| Arc::clone(&bounds.min))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.columns.get(&column.name).map(|bounds| Arc::clone(&bounds.max))
    }

    fn num_containers(&self) -> usize {
        self.chunks.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.columns.get(&column.name).map(|bounds| Arc::clone(&bounds.null_count))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::clone(&self.rows))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
