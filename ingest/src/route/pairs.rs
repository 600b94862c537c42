//! Pairs find the chunks of both their rows.
//!
//! A pair whose rows lie in one chunk is a row of that chunk. A pair of two chunks lies in both: in the first row's
//! chunk as a row that counts, in the second's as a copy, each in a file of its own, so that either chunk can be read
//! as if its director were the only one. A pair that lacks a row lies with the other; one that lacks both lies
//! where its own position is, or in a chunk that is known to exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, UInt32Type, UInt64Type};
use skyflight_catalog::{FileKind, PairFacts};
use skyflight_sky::{ChunkId, Degrees, Scheme, healpix_center, separation};

use super::{
    ByIndex, KeyColumn, Placed, chunk_area, join_parts, locate, number_field, own_positions, part_of, part_rows,
    refuge, route_by_index, with_columns,
};
use crate::director_index::{DirectorIndex, Id, IdColumn, Lookup, Place};
use crate::error::Result;
use crate::load::{Loading, Routed, TableInput};
use crate::router::{Route, Router};
use crate::spill::{Destination, SpillArea};

/// Twice the farthest a position is from the centre of its order-29 cell, with room: 2 mas.
const CELLS_DEG: f64 = 2e-3 / 3600.0;

/// Routes a match's rows to the chunks of their directors, whose indexes are given in their order.
pub(crate) fn route_match(loading: &Loading, table: &TableInput, indexes: [&DirectorIndex; 2]) -> Result<Routed> {
    let [first, second] = indexes;
    let schema = &table.input.schema;
    let (first_starts, first_lowest) = first.parts(part_rows(loading, first), &loading.stop)?;
    let (second_starts, second_lowest) = second.parts(part_rows(loading, second), &loading.stop)?;
    let scheme = loading.scheme()?.as_ref();
    let second_key = || KeyColumn::new(table, schema.second_director_key, second);
    // Between the two indexes the pairs lie by the part of the second that may know them.
    let folder = loading.staging.join(format!("{}.halves", table.name()));
    let halves = SpillArea::create(folder, with_columns(&schema.arrow(), first_place_fields()))?;
    let firsts = FirstRows {
        key: KeyColumn::new(table, schema.director_key, first)?,
        second_key: second_key()?,
        second_starts: &second_starts,
    };
    let rejected = route_by_index(loading, table, first, &first_starts, &firsts, &halves)?;
    let area = chunk_area(loading, schema)?;
    let seconds = SecondRows {
        table,
        scheme,
        key: second_key()?,
        refuge: refuge(scheme, first_lowest.or(second_lowest)),
        counts: Counts::default(),
    };
    join_parts(loading, second, &seconds, &second_starts, &halves, &area)?;
    halves.remove();
    let Counts { orphans, second_orphans, incomplete, out_of_reach } = seconds.counts;
    let pairs = PairFacts {
        second_orphans: second_orphans.into_inner(),
        second_ids_span_chunks: false,
        out_of_reach: out_of_reach.into_inner(),
    };
    Ok(Routed { area, orphans: orphans.into_inner(), incomplete: incomplete.into_inner(), pairs, rejected })
}

/// Columns of a pair whose first row was looked up: where that lies, null where it is nowhere, and whether it is the
/// only row of its id.
fn first_place_fields() -> Vec<Field> {
    vec![
        Field::new("first_chunk", DataType::UInt64, true),
        Field::new("first_sub_chunk", DataType::UInt32, false),
        Field::new("first_cell", DataType::UInt64, false),
        Field::new("first_alone", DataType::Boolean, false),
        number_field(),
    ]
}

/// Looks up the first rows of pairs, and sends the pairs on to where their second rows can be looked up.
struct FirstRows<'a> {
    key: KeyColumn<'a>,
    second_key: KeyColumn<'a>,
    second_starts: &'a [Id<'static>],
}

impl ByIndex for FirstRows<'_> {
    fn ids(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        self.key.ids(rows)
    }

    fn route(
        &self,
        lookup: &Lookup,
        router: &mut Router<'_>,
        area: &SpillArea,
        rows: &RecordBatch,
        numbers: UInt64Array,
    ) -> Result<()> {
        let (ids, second_ids) = (self.ids(rows)?, self.second_key.ids(rows)?);
        let (ids, second_ids) = (IdColumn::new(&ids)?, IdColumn::new(&second_ids)?);
        let mut hint = 0;
        let found: Vec<Option<(Place, bool)>> = (0..rows.num_rows())
            .map(|row| {
                let place = lookup.find(&ids.get(row)?, &mut hint)?;
                Some((place, lookup.is_alone(hint)))
            })
            .collect();
        let place = |row: &Option<(Place, bool)>| row.map(|(place, _)| place);
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(found.iter().map(|row| place(row).map(|at| at.chunk.0)).collect::<UInt64Array>()));
        let sub_chunks = found.iter().map(|row| place(row).map_or(0, |at| at.sub_chunk));
        columns.push(Arc::new(UInt32Array::from_iter_values(sub_chunks)));
        let cells = found.iter().map(|row| place(row).map_or(0, |at| at.healpix29));
        columns.push(Arc::new(UInt64Array::from_iter_values(cells)));
        let alone: Vec<bool> = found.iter().map(|row| row.is_some_and(|(_, alone)| alone)).collect();
        columns.push(Arc::new(BooleanArray::from(alone)));
        columns.push(Arc::new(numbers));
        let to_part = |row| Route::to(Destination::rows(part_of(self.second_starts, second_ids.get(row))));
        let routes: Vec<(Route, usize)> = (0..rows.num_rows()).map(|row| (to_part(row), row)).collect();
        router.add(RecordBatch::try_new(Arc::clone(area.schema()), columns)?, routes)
    }
}

/// Looks up the second rows of pairs whose first rows were, and sends the pairs to their chunks.
struct SecondRows<'a> {
    table: &'a TableInput,
    scheme: &'a dyn Scheme,
    key: KeyColumn<'a>,
    /// Where pairs go that lack both rows and a position.
    refuge: Place,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    orphans: AtomicU64,
    second_orphans: AtomicU64,
    incomplete: AtomicU64,
    out_of_reach: AtomicU64,
}

impl ByIndex for SecondRows<'_> {
    fn ids(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        self.key.ids(rows)
    }

    fn route(
        &self,
        lookup: &Lookup,
        router: &mut Router<'_>,
        area: &SpillArea,
        rows: &RecordBatch,
        numbers: UInt64Array,
    ) -> Result<()> {
        let width = self.table.input.schema.columns.len();
        let firsts = FirstPlaces::new(rows, width);
        let rows = rows.project(&(0..width).collect::<Vec<_>>())?;
        let ids = self.ids(&rows)?;
        let ids = IdColumn::new(&ids)?;
        let own = own_positions(&self.table.input.schema, &rows)?;
        let mut places = Vec::with_capacity(rows.num_rows());
        let mut copies = Vec::new();
        let mut hint = 0;
        for row in 0..rows.num_rows() {
            let first = firsts.get(row);
            let second = ids.get(row).and_then(|id| lookup.find(&id, &mut hint));
            let position = own.get(row).copied().flatten();
            self.count(first.map(|(place, _)| place), second);
            let home = first.map(|(place, _)| place).or(second);
            let home = home.unwrap_or_else(|| position.map_or(self.refuge, |position| locate(self.scheme, position)));
            let home = Place { healpix29: position.map_or(home.healpix29, |own| own.healpix29()), ..home };
            places.push(home);
            if let (Some((first, alone)), Some(second)) = (first, second)
                && first.chunk != second.chunk
            {
                // Which of several rows the index names first says nothing of where the others are.
                if !alone || !lookup.is_alone(hint) || !self.reach_each_other(first, second) {
                    self.counts.out_of_reach.fetch_add(1, Ordering::Relaxed);
                }
                copies
                    .push((row, Route { healpix29: home.healpix29, ..pair_route(second.chunk, FileKind::SecondOnly) }));
            }
        }
        let mut placed = Placed::children(places, self.scheme.sub_chunk_first());
        for (row, copy) in copies {
            if let Some((route, _)) = placed.routes.get_mut(row) {
                route.kind = FileKind::FirstOnly;
            }
            placed.routes.push((copy, row));
        }
        router.add(placed.spill(area, &rows, numbers)?, placed.routes)
    }
}

impl SecondRows<'_> {
    fn count(&self, first: Option<Place>, second: Option<Place>) {
        let add = |counter: &AtomicU64, is: bool| counter.fetch_add(u64::from(is), Ordering::Relaxed);
        add(&self.counts.orphans, first.is_none());
        add(&self.counts.second_orphans, second.is_none());
        add(&self.counts.incomplete, first.is_none() || second.is_none());
    }

    /// True only where each row is sure to lie in the overlap of the other's chunk: every position within the
    /// overlap radius of a chunk does, and the other row is a position of it.
    fn reach_each_other(&self, first: Place, second: Place) -> bool {
        let centre = |place: Place| healpix_center(29, place.healpix29);
        let (Ok(first), Ok(second)) = (centre(first), centre(second)) else { return false };
        let Degrees(apart) = separation(first, second);
        apart + CELLS_DEG <= self.scheme.overlap_radius().0
    }
}

fn pair_route(chunk: ChunkId, kind: FileKind) -> Route {
    Route::to(Destination { chunk, kind })
}

/// What [`FirstRows`] found.
struct FirstPlaces<'a> {
    chunks: &'a UInt64Array,
    sub_chunks: &'a UInt32Array,
    cells: &'a UInt64Array,
    alone: &'a BooleanArray,
}

impl<'a> FirstPlaces<'a> {
    fn new(rows: &'a RecordBatch, width: usize) -> FirstPlaces<'a> {
        FirstPlaces {
            chunks: rows.column(width).as_primitive::<UInt64Type>(),
            sub_chunks: rows.column(width + 1).as_primitive::<UInt32Type>(),
            cells: rows.column(width + 2).as_primitive::<UInt64Type>(),
            alone: rows.column(width + 3).as_boolean(),
        }
    }

    fn get(&self, row: usize) -> Option<(Place, bool)> {
        self.chunks.is_valid(row).then(|| {
            let place = Place {
                chunk: ChunkId(self.chunks.value(row)),
                sub_chunk: self.sub_chunks.value(row),
                healpix29: self.cells.value(row),
            };
            (place, self.alone.value(row))
        })
    }
}
