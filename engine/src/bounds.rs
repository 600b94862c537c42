//! What the snapshot knows of the values in each chunk: which chunks a condition leaves, and what can
//! be said of a whole table without reading it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef, UInt64Type};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, Result, ScalarValue, Statistics};
use datafusion::execution::context::ExecutionProps;
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Accumulator, BinaryExpr, Expr, Operator};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use skyflight_catalog::{ChunkFile, FileKind, TableSnapshot};
use skyflight_sky::ChunkId;

use crate::director_index::{DirectorIndex, Found};

/// Longer lists are compared by the chunk files' own filters.
const LISTED_VALUES: usize = 1_000;

/// Smallest and largest values of columns in each chunk of one table on one snapshot.
///
/// Of floating-point columns only those chunks are known that have no NaN: it is above all numbers in
/// a comparison, and has no place in the statistics of a file.
#[derive(Debug)]
pub(crate) struct ChunkBounds {
    /// Ascending.
    chunks: Vec<ChunkId>,
    rows: ArrayRef,
    columns: HashMap<String, ColumnBounds>,
    /// The column of ids, and the index that knows their chunks.
    ids: Option<(String, Arc<DirectorIndex>)>,
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
    /// Collects the statistics of a table's files of some kinds.
    pub(crate) fn of(table: &TableSnapshot, kinds: &[FileKind], schema: &SchemaRef) -> ChunkBounds {
        let mut files: BTreeMap<ChunkId, Vec<&ChunkFile>> = BTreeMap::new();
        for file in table.files.iter().filter(|f| kinds.contains(&f.kind)) {
            files.entry(file.chunk).or_default().push(file);
        }
        let mut columns = HashMap::new();
        for field in schema.fields() {
            let is_exact = field.data_type().is_integer() || field.data_type().is_temporal();
            let known = (is_exact || field.data_type().is_floating())
                .then(|| files.values().map(|files| known(files, field.name(), field.data_type())));
            if let Some(bounds) = known.and_then(|known| ColumnBounds::new(known, field.data_type())) {
                columns.insert(field.name().clone(), bounds);
            }
        }
        ChunkBounds {
            rows: Arc::new(UInt64Array::from_iter_values(files.values().map(|f| f.iter().map(|file| file.rows).sum()))),
            chunks: files.into_keys().collect(),
            columns,
            ids: None,
        }
    }

    /// The same with an index of the ids in a column, which must know every row of the table.
    pub(crate) fn with_index(self, ids: Option<(String, Arc<DirectorIndex>)>) -> ChunkBounds {
        ChunkBounds { ids, ..self }
    }

    /// What is known of all chunks together, column by column as in `schema`.
    pub(crate) fn whole(&self, schema: &SchemaRef) -> Statistics {
        let rows: u64 = self.rows.as_primitive::<UInt64Type>().values().iter().sum();
        let of = |field: &FieldRef| self.columns.get(field.name()).map_or_else(ColumnStatistics::new_unknown, whole);
        let mut statistics = Statistics {
            num_rows: Precision::Exact(rows as usize),
            total_byte_size: Precision::Absent,
            column_statistics: schema.fields().iter().map(of).collect(),
        };
        statistics.calculate_total_byte_size(schema);
        statistics.total_byte_size = statistics.total_byte_size.to_inexact();
        statistics
    }

    /// True of a floating-point column in which no chunk has a NaN.
    pub(crate) fn has_no_nan(&self, column: &str) -> bool {
        self.columns.get(column).is_some_and(|bounds| bounds.null_count.null_count() == 0)
    }

    /// True of the column of ids that the index knows.
    pub(crate) fn knows_id(&self, column: &str) -> bool {
        self.ids.as_ref().is_some_and(|(id, _)| id == column)
    }

    /// Where the rows with one of some ids lie; `None` where that cannot be told.
    pub(crate) fn places_of(&self, ids: &HashSet<ScalarValue>) -> Option<Arc<Found>> {
        let (_, index) = self.ids.as_ref()?;
        index.places_of(ids).ok()
    }

    /// The chunks in which rows may be that pass all `filters`; `None` where nothing is known.
    pub(crate) fn kept(&self, filters: &[Expr], schema: &DFSchema, file_schema: &SchemaRef) -> Option<Vec<ChunkId>> {
        let by_values = self.kept_by_values(filters, schema, file_schema);
        let Some(holding) = self.holding_range(filters) else { return by_values };
        let mut chunks = by_values.unwrap_or_else(|| self.chunks.clone());
        chunks.retain(|chunk| holding.contains(chunk));
        Some(chunks)
    }

    /// The chunks that hold ids of the range that `filters` leave together; `None` where they leave all,
    /// or so many that the index is not asked.
    fn holding_range(&self, filters: &[Expr]) -> Option<Arc<BTreeSet<ChunkId>>> {
        let (column, index) = self.ids.as_ref()?;
        let conditions = filters.iter().flat_map(|filter| split_conjunction(filter));
        let limits: Vec<_> = conditions.flat_map(|condition| limits_on(column, condition)).collect();
        if limits.is_empty() {
            return None;
        }
        // What cannot be read prunes nothing.
        index.chunks_within(&limits).ok().flatten()
    }

    fn kept_by_values(&self, filters: &[Expr], schema: &DFSchema, file_schema: &SchemaRef) -> Option<Vec<ChunkId>> {
        let known = |name: &str| self.columns.contains_key(name) || self.knows_id(name);
        let named = |filter: &&Expr| filter.column_refs().iter().any(|column| known(&column.name));
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

/// What a condition says of the order of a column's values and constants: comparisons that it implies.
fn limits_on(column: &str, condition: &Expr) -> Vec<(Operator, ScalarValue)> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(named) if named.name == column);
    let is_order = |op: Operator| matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    let constant = |expr: &Expr| match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value.clone()),
        _ => None,
    };
    match condition {
        Expr::Between(between) if !between.negated && is_column(&between.expr) => {
            let low = constant(&between.low).map(|low| (Operator::GtEq, low));
            let high = constant(&between.high).map(|high| (Operator::LtEq, high));
            low.into_iter().chain(high).collect()
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_column(left) && is_order(*op) => {
            constant(right).map(|value| (*op, value)).into_iter().collect()
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_column(right) && is_order(*op) => {
            constant(left).zip(op.swap()).map(|(value, op)| (op, value)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn known(files: &[&ChunkFile], column: &str, data_type: &DataType) -> Option<Known> {
    let mut all = Known::default();
    for file in files {
        let statistics = file.statistics.iter().find(|s| s.column == column)?;
        if data_type.is_floating() && statistics.nan_count != Some(0) {
            return None;
        }
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

/// One column in all chunks; nothing is said of it where one chunk is not known.
fn whole(bounds: &ColumnBounds) -> ColumnStatistics {
    if bounds.null_count.null_count() > 0 {
        return ColumnStatistics::new_unknown();
    }
    let nulls: u64 = bounds.null_count.as_primitive::<UInt64Type>().values().iter().sum();
    // A chunk without a value has no smallest one, and the others decide.
    let smallest = MinAccumulator::try_new(bounds.min.data_type()).and_then(|least| extreme(least, &bounds.min));
    let largest = MaxAccumulator::try_new(bounds.max.data_type()).and_then(|most| extreme(most, &bounds.max));
    ColumnStatistics::new_unknown()
        .with_null_count(Precision::Exact(nulls as usize))
        .with_min_value(smallest.unwrap_or(Precision::Absent))
        .with_max_value(largest.unwrap_or(Precision::Absent))
}

fn extreme(mut of: impl Accumulator, values: &ArrayRef) -> Result<Precision<ScalarValue>> {
    of.update_batch(&[Arc::clone(values)])?;
    let value = of.evaluate()?;
    Ok(match value {
        _ if value.is_null() => Precision::Absent,
        // Files do not tell zero from minus zero.
        _ if is_zero(&value) => Precision::Inexact(value),
        _ => Precision::Exact(value),
    })
}

fn is_zero(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float64(Some(value)) => *value == 0.0,
        ScalarValue::Float32(Some(value)) => *value == 0.0,
        _ => false,
    }
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

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let (_, index) = self.ids.as_ref().filter(|(id, _)| *id == column.name)?;
        // What cannot be read prunes nothing.
        let found = index.places_of(values).ok()?;
        // A chunk that holds one of the ids may hold others too.
        Some(self.chunks.iter().map(|chunk| (!found.chunks.contains(chunk)).then_some(false)).collect())
    }
}
