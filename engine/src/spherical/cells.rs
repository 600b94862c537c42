//! Cells of the sky by which a spherical join is divided where its rows come from many chunks.
//!
//! A row of one side, the owner, goes to the one cell that it lies in; a row of the other goes to every
//! cell that a circle of the join's radius about it touches, as a copy. So an owner's row meets all that
//! is near it in its own cell, and a pair is made nowhere else if the join asks for equal cells. Rows are
//! then brought together by their cell, like those of any other join by their key.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::TryStreamExt;

use super::arranged::places;
use super::exec::PlaceExprs;
use super::zones::{Place, SLACK_DEG, ra_reach};

/// The column of a row's cell.
pub(super) const CELL_COLUMN: &str = "_near_cell";

/// The cell of rows without a position, which are near nothing.
const NOWHERE: i64 = -1;

/// How many radii a cell is high and wide: rarely is a row copied, and there are many cells.
const RADII: f64 = 16.0;

/// Cells are at least so many degrees high: fewer rows are copied, and there still are many cells.
const LEAST_DEG: f64 = 0.5;

/// Declination zones cut into cells of right ascension.
#[derive(Debug, Clone, Copy)]
struct Cells {
    radius_deg: f64,
    zones: i64,
}

impl Cells {
    fn new(radius_deg: f64) -> Cells {
        let radius_deg = radius_deg.max(0.0) + SLACK_DEG;
        let height = (radius_deg * RADII).clamp(LEAST_DEG, 180.0);
        Cells { radius_deg, zones: ((180.0 / height) as i64).max(1) }
    }

    fn zone_of(&self, dec: f64) -> i64 {
        (((dec + 90.0) / 180.0 * self.zones as f64) as i64).clamp(0, self.zones - 1)
    }

    /// How many cells a zone has: none is narrower than some radii.
    fn columns(&self, zone: i64) -> i64 {
        let height = 180.0 / self.zones as f64;
        let low = zone as f64 * height - 90.0;
        let farthest = low.abs().max((low + height).abs());
        let width = RADII * ra_reach(farthest.min(90.0), self.radius_deg);
        ((360.0 / width.max(height)) as i64).max(1)
    }

    fn column_of(ra: f64, columns: i64) -> i64 {
        (ra / 360.0 * columns as f64).floor() as i64
    }

    fn number(zone: i64, column: i64) -> i64 {
        zone << 32 | column
    }

    /// The cell that holds a place.
    fn of(&self, place: &Place) -> i64 {
        let zone = self.zone_of(place.dec);
        let columns = self.columns(zone);
        Cells::number(zone, Cells::column_of(place.ra, columns).clamp(0, columns - 1))
    }

    /// Adds the cells of all places within the radius, each once; there may be others among them.
    fn around(&self, place: &Place, cells: &mut Vec<i64>) {
        let reach = ra_reach(place.dec, self.radius_deg);
        for zone in self.zone_of(place.dec - self.radius_deg)..=self.zone_of(place.dec + self.radius_deg) {
            let columns = self.columns(zone);
            let (first, last) =
                (Cells::column_of(place.ra - reach, columns), Cells::column_of(place.ra + reach, columns));
            let all = reach >= 180.0 || last - first >= columns - 1;
            let (first, last) = if all { (0, columns - 1) } else { (first, last) };
            cells.extend((first..=last).map(|column| Cells::number(zone, column.rem_euclid(columns))));
        }
    }
}

/// What becomes of the rows of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Each goes to its cell.
    Owner,
    /// Each goes to the cells around it, and nowhere if it has no position.
    Beside,
}

/// Gives the rows of its input with their cell in a column of its own, the last.
#[derive(Debug)]
pub(crate) struct CellsExec {
    pub(crate) input: Arc<dyn ExecutionPlan>,
    pub(crate) places: PlaceExprs,
    pub(crate) radius_deg: f64,
    pub(crate) role: Role,
    properties: Arc<PlanProperties>,
}

impl CellsExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, places: PlaceExprs, radius_deg: f64, role: Role) -> CellsExec {
        let schema = input.schema();
        let cell = Arc::new(Field::new(CELL_COLUMN, DataType::Int64, false));
        let fields = schema.fields().iter().cloned().chain([cell]);
        let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        CellsExec { input, places, radius_deg, role, properties: Arc::new(properties) }
    }
}

/// The rows of a batch in their cells.
fn with_cells(
    batch: &RecordBatch,
    exprs: &PlaceExprs,
    cells: Cells,
    role: Role,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let places = places(exprs, batch)?;
    let (mut rows, mut found) = (Vec::new(), Vec::with_capacity(batch.num_rows()));
    for row in 0..batch.num_rows() {
        match (role, places.get(row)) {
            (Role::Owner, place) => found.push(place.map_or(NOWHERE, |place| cells.of(&place))),
            (Role::Beside, Some(place)) => {
                cells.around(&place, &mut found);
                rows.resize(found.len(), row as u32);
            }
            (Role::Beside, None) => {}
        }
    }
    let taken = match role {
        Role::Owner => batch.clone(),
        Role::Beside => take_record_batch(batch, &UInt32Array::from(rows))?,
    };
    let cells: ArrayRef = Arc::new(Int64Array::from(found));
    let columns = taken.columns().iter().cloned().chain([cells]).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

impl DisplayAs for CellsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let whose = match self.role {
            Role::Owner => "its own",
            Role::Beside => "all around",
        };
        write!(f, "CellsExec: {whose} within {} deg, at {}, {}", self.radius_deg, self.places.ra, self.places.dec)
    }
}

impl ExecutionPlan for CellsExec {
    fn name(&self) -> &'static str {
        "CellsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in [&self.places.ra, &self.places.dec] {
            if visit(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(CellsExec::new(input, self.places.clone(), self.radius_deg, self.role))),
            _ => internal_err!("CellsExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (schema, exprs, role) = (self.schema(), self.places.clone(), self.role);
        let cells = Cells::new(self.radius_deg);
        let rows = input.and_then(move |batch| std::future::ready(with_cells(&batch, &exprs, cells, role, &schema)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skyflight_sky::{Degrees, Position, separation};

    use super::*;

    fn position() -> impl Strategy<Value = (f64, f64)> {
        prop_oneof![
            (0.0..360.0, -90.0..=90.0),
            (0.0..360.0, 89.0..=90.0),
            (0.0..360.0, -90.0..=-89.0),
            (prop_oneof![0.0..0.2, 359.8..360.0], -1.0..1.0),
        ]
    }

    fn apart(a: (f64, f64), b: (f64, f64)) -> Option<f64> {
        let at = |p: (f64, f64)| Position::new(Degrees(p.0), Degrees(p.1)).ok();
        Some(separation(at(a)?, at(b)?).0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever is within the radius of a place has its cell among those around it, each of them once.
        #[test]
        fn near_places_meet_in_a_cell(
            place in position(),
            other in position(),
            step in (-1.0..1.0_f64, -1.0..1.0_f64),
            radius in prop_oneof![Just(0.0), 0.0..0.02, 0.0..3.0, 0.0..180.0],
        ) {
            let cells = Cells::new(radius);
            let at = |(ra, dec): (f64, f64)| Place { ra, dec, radius: 0.0 };
            let mut around = Vec::new();
            cells.around(&at(place), &mut around);
            let mut once = around.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), around.len());
            prop_assert!(around.contains(&cells.of(&at(place))));
            // Another anywhere, and one that is likely near.
            let near_ra = (place.0 + step.0 * radius / place.1.to_radians().cos().max(1e-3)).rem_euclid(360.0);
            let near = (if near_ra >= 360.0 { 0.0 } else { near_ra }, (place.1 + step.1 * radius).clamp(-90.0, 90.0));
            for other in [other, near] {
                if apart(place, other).is_some_and(|apart| apart <= radius) {
                    prop_assert!(around.contains(&cells.of(&at(other))), "{place:?} misses {other:?} of {radius}");
                }
            }
        }
    }

    #[test]
    fn few_rows_are_copied() {
        let cells = Cells::new(100.0 / 3600.0);
        let mut around = Vec::new();
        for step in 0..1_000 {
            let (ra, dec) = (f64::from(step) * 137.508 % 360.0, f64::from(step) * 61.803 % 170.0 - 85.0);
            cells.around(&Place { ra, dec, radius: 0.0 }, &mut around);
        }
        assert!((1_000..1_400).contains(&around.len()), "{} copies", around.len());
    }
}
