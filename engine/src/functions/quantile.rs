//! scisql's aggregates `scisql_median` and `scisql_percentile`.
//!
//! DataFusion's `median` and `percentile_cont` differ: NaN counts there, a percentile must be one constant, and
//! fractions are rounded to six digits. All values of a group are kept until it is whole, as there; their memory is
//! that of the group and counts in the query's pool.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err, resources_datafusion_err};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Signature, Volatility,
};

use super::arguments::{constant_number, number_types};
use super::docs;

/// A value between those of a group, at a place from 0 to 100 per cent of their order.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Quantile {
    name: &'static str,
    parameters: &'static str,
    /// Whether the place is half way and not an argument.
    half: bool,
    signature: Signature,
}

impl Quantile {
    pub(super) fn median() -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Quantile { name: "scisql_median", parameters: "value", half: true, signature }
    }

    pub(super) fn percentile() -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Quantile { name: "scisql_percentile", parameters: "value, percent", half: false, signature }
    }

    fn groups(&self, distinct: bool) -> Groups {
        Groups { groups: Vec::new(), bytes_of_values: 0, half: self.half, distinct }
    }
}

impl AggregateUDFImpl for Quantile {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let count = if self.half { 1 } else { 2 };
        number_types(self.name, given, |n| n == count, &format!("{}({})", self.name, self.parameters))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    /// The values of a group, and the percentage.
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let values = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "values"), values, true)),
            Arc::new(Field::new(format_state_name(args.name, "percent"), DataType::Float64, true)),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup(self.groups(args.is_distinct))))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.groups(args.is_distinct)))
    }

    /// Leaves the call as it is, but refuses a percentage that makes every answer NULL.
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        if self.half {
            return None;
        }
        let name = self.name;
        Some(Box::new(move |call: AggregateFunction, _: &SimplifyContext| {
            match call.params.args.get(1).and_then(constant_number) {
                Some(percent) if !(0.0..=100.0).contains(&percent) => {
                    plan_err!("{name}: there is no percentile {percent}; give a number from 0 to 100")
                }
                _ => Ok(Expr::AggregateFunction(call)),
            }
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name)
    }
}

/// What has been seen of a group.
#[derive(Debug, Clone, Default)]
struct Group {
    values: Vec<f64>,
    /// The first percentage seen; they are all to be the same.
    percent: Option<f64>,
}

impl Group {
    /// Adds values, and says how many more bytes they are kept in.
    fn extend(&mut self, values: &[f64]) -> usize {
        let before = self.values.capacity();
        self.values.extend_from_slice(values);
        (self.values.capacity() - before) * size_of::<f64>()
    }

    fn quantile(&mut self, distinct: bool) -> Option<f64> {
        let percent = self.percent.filter(|percent| (0.0..=100.0).contains(percent))?;
        if distinct {
            self.values.sort_unstable_by(f64::total_cmp);
            self.values.dedup();
        }
        let last = self.values.len().checked_sub(1)?;
        let place = last as f64 * (percent / 100.0);
        // A place that rounding puts beyond the last value is that of the last value.
        let below = (place.floor() as usize).min(last);
        let fraction = place - below as f64;
        let (_, low, above) = self.values.select_nth_unstable_by(below, f64::total_cmp);
        let low = *low;
        if fraction <= 0.0 {
            return Some(low);
        }
        let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
        // Between equal values there is nothing, also where they are infinite.
        Some(if high == low { low } else { low + fraction * (high - low) })
    }
}

/// All groups of an aggregation.
#[derive(Debug)]
struct Groups {
    groups: Vec<Group>,
    /// Bytes of the groups' values, which are too many groups to be asked after every batch.
    bytes_of_values: usize,
    half: bool,
    distinct: bool,
}

impl Groups {
    /// Adds the row of each value to its group; `group_of` gives `None` for rows that do not count.
    fn add(&mut self, arguments: &[ArrayRef], group_of: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let values = numbers(arguments, 0)?;
        let percents = if self.half { None } else { Some(numbers(arguments, 1)?) };
        for row in 0..values.len() {
            let Some(group) = group_of(row).and_then(|group| self.groups.get_mut(group)) else { continue };
            let percent = match percents {
                None => Some(50.0),
                Some(percents) => percents.is_valid(row).then(|| percents.value(row)),
            };
            group.percent = group.percent.or(percent);
            if values.is_valid(row) && !values.value(row).is_nan() {
                self.bytes_of_values += group.extend(&[values.value(row)]);
            }
        }
        Ok(())
    }

    /// Adds the states of groups that were begun elsewhere.
    fn merge(&mut self, states: &[ArrayRef], group_of: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let lists = states.first().and_then(|lists| lists.as_list_opt::<i32>());
        let lists = lists.ok_or_else(|| exec_datafusion_err!("a quantile's state has no values"))?;
        let percents = numbers(states, 1)?;
        for row in 0..lists.len() {
            let Some(group) = group_of(row).and_then(|group| self.groups.get_mut(group)) else { continue };
            group.percent = group.percent.or_else(|| percents.is_valid(row).then(|| percents.value(row)));
            if lists.is_valid(row) {
                self.bytes_of_values += group.extend(numbers(&[lists.value(row)], 0)?.values());
            }
        }
        Ok(())
    }

    fn states(groups: &[Group]) -> Result<[ArrayRef; 2]> {
        let total: usize = groups.iter().map(|group| group.values.len()).sum();
        if i32::try_from(total).is_err() {
            return Err(resources_datafusion_err!(
                "a quantile of {total} values at once; group them, or use approx_percentile_cont"
            ));
        }
        let mut values = Vec::with_capacity(total);
        groups.iter().for_each(|group| values.extend_from_slice(&group.values));
        let lists = ListArray::try_new(
            Arc::new(Field::new_list_field(DataType::Float64, true)),
            OffsetBuffer::from_lengths(groups.iter().map(|group| group.values.len())),
            Arc::new(Float64Array::new(ScalarBuffer::from(values), None)),
            None,
        )?;
        let percents: Float64Array = groups.iter().map(|group| group.percent).collect();
        Ok([Arc::new(lists), Arc::new(percents)])
    }

    /// Gives groups away, the first ones or all.
    fn take(&mut self, emit_to: EmitTo) -> Vec<Group> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.bytes_of_values = self.groups.iter().map(|group| group.values.capacity() * size_of::<f64>()).sum();
        taken
    }

    fn bytes(&self) -> usize {
        self.bytes_of_values + self.groups.capacity() * size_of::<Group>()
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize(total_num_groups.max(self.groups.len()), Group::default());
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        self.add(values, |row| if counts(row) { group_indices.get(row).copied() } else { None })
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups.resize(total_num_groups.max(self.groups.len()), Group::default());
        self.merge(states, |row| group_indices.get(row).copied())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut groups = self.take(emit_to);
        let quantiles = groups.iter_mut().map(|group| group.quantile(self.distinct));
        Ok(Arc::new(quantiles.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Groups::states(&self.take(emit_to)).map(Vec::from)
    }

    /// Each row as the state of a group of its own.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let groups = vec![Group::default(); rows];
        let mut alone = Groups { groups, bytes_of_values: 0, half: self.half, distinct: self.distinct };
        let each: Vec<usize> = (0..rows).collect();
        alone.update_batch(values, &each, filter, rows)?;
        Groups::states(&alone.groups).map(Vec::from)
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

/// The aggregation of all rows, and of a window's.
#[derive(Debug)]
struct OneGroup(Groups);

impl OneGroup {
    fn group(&mut self) -> &mut Groups {
        self.0.groups.resize(1, Group::default());
        &mut self.0
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.group().add(values, |_| Some(0))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.group().merge(states, |_| Some(0))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let states = Groups::states(&self.group().groups)?;
        states.iter().map(|state| ScalarValue::try_from_array(state, 0)).collect()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let distinct = self.0.distinct;
        let quantile = self.group().groups.first_mut().and_then(|group| group.quantile(distinct));
        Ok(ScalarValue::Float64(quantile))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.bytes()
    }
}

fn numbers(columns: &[ArrayRef], index: usize) -> Result<&Float64Array> {
    match columns.get(index).and_then(|column| column.as_primitive_opt::<Float64Type>()) {
        Some(numbers) => Ok(numbers),
        None => exec_err!("a quantile was given no numbers as column {index}"),
    }
}
