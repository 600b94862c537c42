//! Rows find their chunks: directors by position, children by their director, pairs by both of theirs, replicated
//! tables everywhere.

mod pairs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, UInt64Type};
use parking_lot::Mutex;
use skyflight_catalog::{PairFacts, TableKind};
use skyflight_sky::{ChunkId, Degrees, DensityMap, Position, Scheme};

pub(crate) use pairs::route_match;

use crate::accept::{Acceptance, degrees, usable_positions};
use crate::director_index::{
    DirectorIndex, Id, IdColumn, IndexBuffer, Lookup, Place, bytes_per_id, index_schema, index_type,
};
use crate::error::{IngestError, Result};
use crate::input::Unit;
use crate::load::{Loading, Routed, TableInput};
use crate::progress::Stage;
use crate::router::{Route, Router};
use crate::schema::{HEALPIX_COLUMN, TableSchema};
use crate::spill::{Destination, Run, SpillArea, remove_files};
use crate::threads::{Stop, share_out};
use crate::types::convert;

/// Counts the positions of a director's input in cells of the given order.
pub(crate) fn count_positions(
    table: &TableInput,
    order: u8,
    threads: usize,
    stop: &Stop,
    progress: &dyn crate::progress::ProgressSink,
) -> Result<DensityMap> {
    let (units, rows) = table.input.units()?;
    progress.stage(table.name(), Stage::Density, rows);
    let Some((ra, dec)) = table.input.schema.ra.zip(table.input.schema.dec) else {
        return Err(table.input.description.error("a director needs `[position]`"));
    };
    let wrap_ra = table.input.description.position.as_ref().is_some_and(|position| position.wrap_ra);
    // One map for all threads: adding a batch takes less time than reading it.
    let density = Mutex::new(DensityMap::new(order)?);
    share_out(
        "count positions",
        threads,
        stop,
        units,
        |_| Ok(()),
        |(), unit| {
            table.input.read(&unit, Some(&[ra, dec]), stop, &mut |read| {
                let cells: Vec<u64> = usable_positions(&read, wrap_ra)?.into_iter().map(Position::healpix29).collect();
                let mut density = density.lock();
                cells.into_iter().for_each(|cell| density.add_index29(cell));
                progress.rows(read.numbers.len() as u64);
                Ok(())
            })
        },
        Ok,
    )?;
    Ok(density.into_inner())
}

/// Routes a director's rows, and copies of those in the overlap of other chunks. Gives the runs of its index too.
pub(crate) fn route_director(loading: &Loading, table: &TableInput) -> Result<(Routed, SpillArea)> {
    let scheme = loading.scheme()?;
    let schema = &table.input.schema;
    let Some(id) = schema.id else { return Err(table.input.description.error("a director needs `id`")) };
    let id_type = schema.columns.get(id).map_or(DataType::Int64, |column| index_type(&column.data_type));
    let area = chunk_area(loading, schema)?;
    let ids = SpillArea::create(loading.staging.join(format!("{}.ids", schema.table)), index_schema(&id_type))?;
    let bad = table.bad_rows();
    let acceptance = Acceptance::new(&table.input, &bad);
    let units = begin(loading, table)?;
    share_out(
        "read a director",
        loading.threads,
        &loading.stop,
        units,
        |thread| {
            let router = Router::new(&area, thread, loading.budget.router());
            Ok((router, IndexBuffer::new(&ids, thread, loading.budget.index())))
        },
        |(router, index), unit| {
            table.input.read(&unit, None, &loading.stop, &mut |read| {
                let batch = acceptance.accept(read)?;
                loading.progress.rows(batch.rows.num_rows() as u64);
                let placed = Placed::directors(scheme.as_ref(), &batch.positions)?;
                index.add(batch.rows.column(id), &placed.places)?;
                router.add(placed.spill(&area, &batch.rows, batch.numbers.into())?, placed.routes)
            })
        },
        |(mut router, mut index)| {
            router.flush()?;
            index.flush()
        },
    )?;
    let rejected = bad.count.load(Ordering::Relaxed);
    Ok((Routed::whole(area, rejected), ids))
}

/// Routes the rows of a table that is whole on every worker.
pub(crate) fn route_replicated(loading: &Loading, table: &TableInput) -> Result<Routed> {
    let area = chunk_area(loading, &table.input.schema)?;
    let bad = table.bad_rows();
    let acceptance = Acceptance::new(&table.input, &bad);
    let everywhere = Place { chunk: ChunkId::EVERYWHERE, sub_chunk: 0, healpix29: 0 };
    share_out(
        "read a replicated table",
        loading.threads,
        &loading.stop,
        begin(loading, table)?,
        |thread| Ok(Router::new(&area, thread, loading.budget.router())),
        |router, unit| {
            table.input.read(&unit, None, &loading.stop, &mut |read| {
                let batch = acceptance.accept(read)?;
                loading.progress.rows(batch.rows.num_rows() as u64);
                let placed = Placed::children(vec![everywhere; batch.numbers.len()], false);
                router.add(placed.spill(&area, &batch.rows, batch.numbers.into())?, placed.routes)
            })
        },
        |mut router| router.flush(),
    )?;
    Ok(Routed::whole(area, bad.count.load(Ordering::Relaxed)))
}

/// Routes the rows of a child or companion to the chunks of their directors. Gives the runs of an index too, of the
/// ids that no director row has.
pub(crate) fn route_child(loading: &Loading, table: &TableInput, index: &DirectorIndex) -> Result<(Routed, SpillArea)> {
    let (starts, lowest) = index.parts(part_rows(loading, index), &loading.stop)?;
    let folder = loading.staging.join(format!("{}.orphans", table.name()));
    let unknown = SpillArea::create(folder, index_schema(&index.id_type))?;
    let child = ChildRoutes::new(loading, table, index, lowest, &unknown)?;
    let area = chunk_area(loading, &table.input.schema)?;
    let rejected = route_by_index(loading, table, index, &starts, &child, &area)?;
    let orphans = child.orphans.load(Ordering::Relaxed);
    child.unknown.into_inner().flush()?;
    Ok((Routed { area, orphans, incomplete: orphans, pairs: PairFacts::default(), rejected }, unknown))
}

/// What becomes of rows once the part of an index that may know their ids is in memory.
trait ByIndex: Sync {
    /// The rows' ids as the index has them; null where no id of that type is the same.
    fn ids(&self, rows: &RecordBatch) -> Result<ArrayRef>;

    /// Sends the rows on.
    fn route(
        &self,
        lookup: &Lookup,
        router: &mut Router<'_>,
        area: &SpillArea,
        rows: &RecordBatch,
        numbers: UInt64Array,
    ) -> Result<()>;
}

/// Entries of an index that are held in memory at once.
fn part_rows(loading: &Loading, index: &DirectorIndex) -> usize {
    (loading.budget.lookup() / bytes_per_id(&index.id_type)).max(1_000)
}

/// Reads a table and routes its rows by their ids into `area`; gives how many were rejected. Where the index is
/// larger than its share of memory, the rows are first parted by id like the index, and the parts joined one
/// after the other.
fn route_by_index(
    loading: &Loading,
    table: &TableInput,
    index: &DirectorIndex,
    starts: &[Id<'static>],
    routes: &dyn ByIndex,
    area: &SpillArea,
) -> Result<u64> {
    let bad = table.bad_rows();
    let acceptance = Acceptance::new(&table.input, &bad);
    let units = begin(loading, table)?;
    if starts.len() <= 1 {
        index.each_part(starts, &loading.stop, &mut |_, lookup| {
            share_out(
                "read rows of a director",
                loading.threads,
                &loading.stop,
                units.clone(),
                |thread| Ok(Router::new(area, thread, loading.budget.router())),
                |router, unit| {
                    table.input.read(&unit, None, &loading.stop, &mut |read| {
                        let batch = acceptance.accept(read)?;
                        loading.progress.rows(batch.rows.num_rows() as u64);
                        routes.route(&lookup, router, area, &batch.rows, batch.numbers.into())
                    })
                },
                |mut router| router.flush(),
            )
            .map(|_| ())
        })?;
    } else {
        let parts = part_by_id(loading, table, routes, starts, units, &acceptance)?;
        join_parts(loading, index, routes, starts, &parts, area)?;
        parts.remove();
    }
    Ok(bad.count.load(Ordering::Relaxed))
}

/// The number of the part that an id is in, or would be in; nulls are in the first.
fn part_of(starts: &[Id<'static>], id: Option<Id<'_>>) -> ChunkId {
    let before = id.map_or(0, |id| starts.partition_point(|start| *start <= id));
    ChunkId(before.saturating_sub(1) as u64)
}

/// Spills rows by the part of the index their director is in.
fn part_by_id(
    loading: &Loading,
    table: &TableInput,
    routes: &dyn ByIndex,
    starts: &[Id<'static>],
    units: Vec<Unit>,
    acceptance: &Acceptance<'_>,
) -> Result<SpillArea> {
    let folder = loading.staging.join(format!("{}.parts", table.name()));
    let parts = SpillArea::create(folder, with_columns(&table.input.schema.arrow(), vec![number_field()]))?;
    share_out(
        "part rows by id",
        loading.threads,
        &loading.stop,
        units,
        |thread| Ok(Router::new(&parts, thread, loading.budget.router())),
        |router, unit| {
            table.input.read(&unit, None, &loading.stop, &mut |read| {
                let batch = acceptance.accept(read)?;
                loading.progress.rows(batch.rows.num_rows() as u64);
                let ids = routes.ids(&batch.rows)?;
                let ids = IdColumn::new(&ids)?;
                let to_part = |row: usize| Route::to(Destination::rows(part_of(starts, ids.get(row))));
                let to_parts: Vec<(Route, usize)> = (0..batch.rows.num_rows()).map(|row| (to_part(row), row)).collect();
                let mut columns = batch.rows.columns().to_vec();
                columns.push(Arc::new(UInt64Array::from(batch.numbers)));
                router.add(RecordBatch::try_new(Arc::clone(parts.schema()), columns)?, to_parts)
            })
        },
        |mut router| router.flush(),
    )?;
    Ok(parts)
}

/// Joins parted rows with the parts of the index.
fn join_parts(
    loading: &Loading,
    index: &DirectorIndex,
    routes: &dyn ByIndex,
    starts: &[Id<'static>],
    parts: &SpillArea,
    area: &SpillArea,
) -> Result<()> {
    let mut runs = parts.take_runs();
    index.each_part(starts, &loading.stop, &mut |part, lookup| {
        let runs: Vec<Run> = runs.remove(&Destination::rows(ChunkId(part as u64))).unwrap_or_default();
        share_out(
            "join rows with their director",
            loading.threads,
            &loading.stop,
            runs.clone(),
            |thread| Ok(Router::new(area, thread, loading.budget.router())),
            |router, run| {
                for batch in parts.read(&run)? {
                    loading.stop.check()?;
                    let batch = batch?;
                    let width = batch.num_columns() - 1;
                    let rows = batch.project(&(0..width).collect::<Vec<_>>())?;
                    let numbers = batch.column(width).as_primitive::<UInt64Type>().clone();
                    routes.route(&lookup, router, area, &rows, numbers)?;
                }
                Ok(())
            },
            |mut router| router.flush(),
        )?;
        remove_files(&runs);
        Ok(())
    })
}

/// How a child's rows find their chunks.
struct ChildRoutes<'a> {
    table: &'a TableInput,
    scheme: &'a dyn Scheme,
    key: KeyColumn<'a>,
    /// Where orphans without a position go.
    refuge: Place,
    orphans: AtomicU64,
    /// Orphans that have an id, for an index of their own. They are few, so one thread at a time is enough.
    unknown: Mutex<IndexBuffer<'a>>,
}

impl<'a> ChildRoutes<'a> {
    fn new(
        loading: &'a Loading,
        table: &'a TableInput,
        index: &'a DirectorIndex,
        lowest: Option<Place>,
        unknown: &'a SpillArea,
    ) -> Result<ChildRoutes<'a>> {
        let scheme = loading.scheme()?.as_ref();
        let key = KeyColumn::new(table, table.input.schema.director_key, index)?;
        let unknown = Mutex::new(IndexBuffer::new(unknown, 0, loading.budget.index()));
        Ok(ChildRoutes { table, scheme, key, refuge: refuge(scheme, lowest), orphans: AtomicU64::new(0), unknown })
    }
}

impl ByIndex for ChildRoutes<'_> {
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
        let id_array = self.ids(rows)?;
        let ids = IdColumn::new(&id_array)?;
        let positions = own_positions(&self.table.input.schema, rows)?;
        let once_each = self.table.input.schema.kind == TableKind::Companion;
        let mut places = Vec::with_capacity(rows.num_rows());
        let mut hint = 0;
        let mut orphans = 0;
        let mut unknown: Vec<u32> = Vec::new();
        for row in 0..rows.num_rows() {
            let own = positions.get(row).copied().flatten();
            let id = ids.get(row);
            let director = id.as_ref().and_then(|id| lookup.find(id, &mut hint));
            if once_each && director.is_some() && !lookup.is_new(hint) {
                return Err(self.key.repeated(id));
            }
            places.push(match (director, own) {
                (Some(place), None) => place,
                (Some(place), Some(own)) => Place { healpix29: own.healpix29(), ..place },
                (None, own) => {
                    orphans += 1;
                    unknown.extend(id_array.is_valid(row).then_some(row as u32));
                    own.map_or(self.refuge, |own| locate(self.scheme, own))
                }
            });
        }
        self.orphans.fetch_add(orphans, Ordering::Relaxed);
        if !unknown.is_empty() {
            let lying: Vec<Place> = unknown.iter().filter_map(|row| places.get(*row as usize).copied()).collect();
            self.unknown.lock().add(&take(&id_array, &UInt32Array::from(unknown), None)?, &lying)?;
        }
        let placed = Placed::children(places, self.scheme.sub_chunk_first());
        router.add(placed.spill(area, rows, numbers)?, placed.routes)
    }
}

/// A column that holds a director's ids.
struct KeyColumn<'a> {
    table: &'a TableInput,
    at: usize,
    id_type: &'a DataType,
}

impl<'a> KeyColumn<'a> {
    fn new(table: &'a TableInput, at: Option<usize>, index: &'a DirectorIndex) -> Result<KeyColumn<'a>> {
        let description = &table.input.description;
        let at = at.ok_or_else(|| description.error("the column with the director's id is not named"))?;
        let is_text = |data_type: &DataType| *data_type == DataType::Utf8;
        let column = table.input.schema.columns.get(at);
        if let Some(column) = column.filter(|column| is_text(&column.data_type) != is_text(&index.id_type)) {
            return Err(description.error(format!(
                "column {} is {}, but the director's id is {}; set the `type` of one of them",
                column.name, column.data_type, index.id_type
            )));
        }
        Ok(KeyColumn { table, at, id_type: &index.id_type })
    }

    fn ids(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        convert(rows.column(self.at), self.id_type)
    }

    fn repeated(&self, id: Option<Id<'_>>) -> IngestError {
        let name = self.table.input.schema.columns.get(self.at).map_or("id", |column| column.name.as_str());
        let id = id.map_or_else(|| "null".to_owned(), |id| id.to_string());
        self.table.input.description.error(format!(
            "two rows have {name} {id}; a companion has at most one row of each director row, a child any number"
        ))
    }
}

/// Where rows go that have neither a director nor a position: the chunk of the director's lowest id.
fn refuge(scheme: &dyn Scheme, lowest: Option<Place>) -> Place {
    let first = scheme.chunks().first().copied().unwrap_or(ChunkId(0));
    // An orphan has no cell: 0, as documented for `_healpix_29`.
    Place { healpix29: 0, ..lowest.unwrap_or(Place { chunk: first, sub_chunk: 0, healpix29: 0 }) }
}

/// The rows' own positions, none where the table has no such columns; they were checked when the rows were accepted.
fn own_positions(schema: &TableSchema, rows: &RecordBatch) -> Result<Vec<Option<Position>>> {
    let Some((ra, dec)) = schema.ra.zip(schema.dec) else { return Ok(Vec::new()) };
    let (ra, dec) = (degrees(rows.column(ra))?, degrees(rows.column(dec))?);
    let (ra, dec) = (ra.as_primitive::<Float64Type>(), dec.as_primitive::<Float64Type>());
    let position = |(ra, dec): (Option<f64>, Option<f64>)| Position::new(Degrees(ra?), Degrees(dec?)).ok();
    Ok(ra.iter().zip(dec.iter()).map(position).collect())
}

fn locate(scheme: &dyn Scheme, position: Position) -> Place {
    let location = scheme.locate(position);
    Place { chunk: location.chunk, sub_chunk: location.sub_chunk.0, healpix29: position.healpix29() }
}

/// The places of a batch's rows.
struct Placed {
    places: Vec<Place>,
    /// Where the rows go, and copies of them.
    routes: Vec<(Route, usize)>,
    sub_chunk_first: bool,
}

impl Placed {
    fn directors(scheme: &dyn Scheme, positions: &[Option<Position>]) -> Result<Placed> {
        let mut places = Vec::with_capacity(positions.len());
        let mut copies = Vec::new();
        let mut beside = Vec::new();
        for (row, position) in positions.iter().enumerate() {
            let position = position.ok_or(IngestError::Thread("locate a row without a position"))?;
            let place = locate(scheme, position);
            places.push(place);
            scheme.overlaps(position, &mut beside);
            for chunk in &beside {
                // Overlap rows lie outside the chunk, so its sub-chunks mean nothing to them.
                let route = Route { healpix29: place.healpix29, ..Route::to(Destination::overlap(*chunk)) };
                copies.push((route, row));
            }
        }
        let mut placed = Placed::children(places, scheme.sub_chunk_first());
        placed.routes.append(&mut copies);
        Ok(placed)
    }

    fn children(places: Vec<Place>, sub_chunk_first: bool) -> Placed {
        let route = |place: &Place| Route {
            sub_chunk: if sub_chunk_first { place.sub_chunk } else { 0 },
            healpix29: place.healpix29,
            ..Route::to(Destination::rows(place.chunk))
        };
        let routes = places.iter().map(route).enumerate().map(|(row, route)| (route, row)).collect();
        Placed { places, routes, sub_chunk_first }
    }

    /// The rows with the columns they are sorted by.
    fn spill(&self, area: &SpillArea, rows: &RecordBatch, numbers: UInt64Array) -> Result<RecordBatch> {
        let sub_chunk = |place: &Place| if self.sub_chunk_first { place.sub_chunk } else { 0 };
        let mut columns = rows.columns().to_vec();
        // Order 29 takes 60 bits, so the sign is never touched.
        columns.push(Arc::new(Int64Array::from_iter_values(self.places.iter().map(|place| place.healpix29 as i64))));
        columns.push(Arc::new(UInt32Array::from_iter_values(self.places.iter().map(sub_chunk))));
        columns.push(Arc::new(numbers));
        Ok(RecordBatch::try_new(Arc::clone(area.schema()), columns)?)
    }
}

/// Units to read, announced.
fn begin(loading: &Loading, table: &TableInput) -> Result<Vec<Unit>> {
    let (units, rows) = table.input.units()?;
    loading.progress.stage(table.name(), Stage::Route, rows);
    Ok(units)
}

fn chunk_area(loading: &Loading, schema: &TableSchema) -> Result<SpillArea> {
    let order = vec![
        Field::new(HEALPIX_COLUMN, DataType::Int64, false),
        Field::new("sub_chunk", DataType::UInt32, false),
        number_field(),
    ];
    SpillArea::create(loading.staging.join(format!("{}.rows", schema.table)), with_columns(&schema.arrow(), order))
}

fn number_field() -> Field {
    Field::new("number", DataType::UInt64, false)
}

fn with_columns(schema: &Schema, more: Vec<Field>) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone()).chain(more);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
