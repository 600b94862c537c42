//! One side of a spherical join, arranged so that the rows near a position are found without
//! looking at the others.
//!
//! The rows lie in zones of declination, by right ascension in each (Gray, Nieto-Santisteban & Szalay 2006,
//! "The Zones Algorithm"). A zone is cut into cells of a few rows, so that a search begins where its rows do;
//! rows of a cell that has many are sorted. Where rows are sparse beside the radius cells are about as high as
//! wide, and neighbours in the sky are neighbours in memory; where they crowd, zones are thin, down to the
//! radius, for a search looks at all that lies between its first and last right ascension. What is left is a
//! comparison of two coordinates, and no trigonometry: how much a degree of right ascension shrinks is all but
//! a straight line within a zone, known well enough to tell most pairs within the radius, and most beyond it,
//! from the few at its border.

use std::ops::Range;

use datafusion::arrow::array::{Array, Float64Array};
use datafusion::arrow::buffer::ScalarBuffer;
use skyflight_sky::{Degrees, Position};

use super::pairs::Pairs;
use crate::interrupt::Turn;

/// Rows of a cell that are aimed at, and rows of a zone that a search looks at in vain.
const CELL_ROWS: usize = 4;

/// Rows that tell how crowded they are, and the squares of the sky in degrees that they are counted in.
const SAMPLED_ROWS: usize = 1024;
const SQUARES_DEG: [f64; 4] = [10.0, 1.0, 0.1, 0.01];

/// Eighths of a degree of right ascension: of 8, not of 10, no product is rounded.
const EIGHTHS: usize = 8 * 360;

/// Fewer pairs of sampled rows in one square tell nothing.
const TELLING_PAIRS: usize = 16;

/// Up to so many rows of a cell are all looked at; more are sorted, and bisected.
const UNSORTED_ROWS: usize = 16;

/// Angles are widened by this many degrees (four microarcseconds), which is more than the rounding
/// of any separation, and nothing beside the pairs that it adds.
pub(super) const SLACK_DEG: f64 = 1e-9;

/// From this radius in degrees on, everything is near.
const EVERYWHERE_DEG: f64 = 170.0;

/// Up to this angle in degrees a sine is near enough to its argument to tell what is far.
const FLAT_DEG: f64 = 5.0;

/// Rows arranged between two looks at the clock.
const PIECE_ROWS: usize = 1 << 14;

/// Where the rows of one batch lie, in degrees, and the radius that each adds.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// In [0, 360).
    ra: ScalarBuffer<f64>,
    /// No number for a row that is near nothing.
    dec: ScalarBuffer<f64>,
    radius: Option<ScalarBuffer<f64>>,
}

/// A row that has a position, and a radius if rows have one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// In [0, 360).
    pub(super) ra: f64,
    pub(super) dec: f64,
    /// What the row adds to the radius.
    pub(super) radius: f64,
}

impl Places {
    /// A row is near nothing if its position is NULL or none, or its radius is NULL.
    pub(super) fn new(ra: &Float64Array, dec: &Float64Array, radius: Option<&Float64Array>) -> Places {
        // Once for all rows, most of which are as they should be.
        if all(ra, |ra| (0.0..360.0).contains(&ra))
            && all(dec, |dec| (-90.0..=90.0).contains(&dec))
            && radius.is_none_or(|radius| all(radius, |radius| !radius.is_nan()))
        {
            let values = |array: &Float64Array| array.values().clone();
            return Places { ra: values(ra), dec: values(dec), radius: radius.map(values) };
        }
        let place = |row: usize| {
            let has = |array: &Float64Array| array.is_valid(row);
            if !has(ra) || !has(dec) || !radius.is_none_or(has) {
                return None;
            }
            let dec = dec.value(row);
            let ra = Position::new(Degrees(ra.value(row)), Degrees(dec)).ok()?.ra().0;
            let radius = radius.map_or(0.0, |radius| radius.value(row));
            // A radius that is no number is above all others, as Arrow compares.
            Some(Place { ra, dec, radius: if radius.is_nan() { EVERYWHERE_DEG } else { radius } })
        };
        let nowhere = Place { ra: 0.0, dec: f64::NAN, radius: 0.0 };
        let places: Vec<Place> = (0..ra.len()).map(|row| place(row).unwrap_or(nowhere)).collect();
        let each = |value: fn(&Place) -> f64| places.iter().map(value).collect();
        let radius = radius.map(|_| each(|place| place.radius));
        Places { ra: each(|place| place.ra), dec: each(|place| place.dec), radius }
    }

    /// `None` for a row that is near nothing.
    pub(super) fn get(&self, row: usize) -> Option<Place> {
        let dec = self.dec[row];
        let radius = self.radius.as_ref().map_or(0.0, |radius| radius[row]);
        (!dec.is_nan()).then(|| Place { ra: self.ra[row], dec, radius })
    }

    pub(super) fn len(&self) -> usize {
        self.ra.len()
    }
}

/// True if no value is NULL and something is true of each.
fn all(array: &Float64Array, is_true: impl Fn(f64) -> bool) -> bool {
    // Without a stop at the first, so that several are looked at at once.
    array.null_count() == 0 && array.values().iter().fold(true, |all, value| all & is_true(*value))
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Zones {
    /// The radius that all pairs have, slack included.
    constant: f64,
    /// Where pairs have no other radius: a square of degrees up to which they are within it for certain.
    sure: f64,
    grid: Grid,
    zones: Vec<Zone>,
    /// The first row of each cell, zone by zone, and the end of the last.
    starts: Vec<u32>,
    /// Cell by cell; those of a cell that has many ascend eastward.
    rows: Vec<Row>,
    /// What each row adds to the radius; empty where none does.
    radius: Vec<f64>,
    /// The largest of them.
    widest: f64,
}

/// Which cell is where.
#[derive(Debug, Clone, Copy, Default)]
struct Grid {
    lowest_dec: f64,
    zones_per_degree: f64,
    /// The right ascension from which it is counted eastward, and how far rows go.
    origin_ra: f64,
    last_east: f64,
    cells_per_degree: f64,
    /// Cells of each zone.
    columns: usize,
}

impl Grid {
    fn zone_of(&self, dec: f64) -> usize {
        // A cast of a negative number gives 0, and one to 32 bits is quick.
        ((dec - self.lowest_dec) * self.zones_per_degree) as u32 as usize
    }

    fn column_of(&self, east: f64) -> usize {
        ((east * self.cells_per_degree) as u32 as usize).min(self.columns - 1)
    }

    fn cell_of(&self, place: Place) -> usize {
        self.zone_of(place.dec) * self.columns + self.column_of(self.east_of(place.ra))
    }

    fn east_of(&self, ra: f64) -> f64 {
        let east = ra - self.origin_ra;
        if east < 0.0 { east + 360.0 } else { east }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// Degrees eastward of the origin.
    east: f64,
    dec: f64,
    number: u32,
}

#[derive(Debug, Clone, Copy)]
struct Zone {
    /// How far in declination a row of the zone may be from what is near it, the other's radius not
    /// counted.
    dec_reach: f64,
    /// The same in right ascension.
    ra_reach: f64,
    /// The declination in its middle.
    middle: f64,
    /// The product of the cosines of two declinations with their mean in the middle, what a degree that the mean
    /// is farther north adds, and how far from that line it is at most.
    cosines: f64,
    slope: f64,
    bend: f64,
    /// Where pairs have one radius: a square of degrees above which they are beyond it for certain.
    far: f64,
}

impl Zones {
    /// Arranges rows that are near what is at most `constant` degrees, and their own radius, away.
    pub(super) async fn arrange(places: &Places, constant: f64, turn: &mut Turn) -> Zones {
        let mut zones = Zones { constant: constant + SLACK_DEG, sure: sure(constant), ..Zones::default() };
        let (mut seen, mut eighths) = (Extent::default(), [false; EIGHTHS]);
        for piece in pieces(places.len()) {
            // A copy that stays in registers.
            let mut extent = seen;
            for place in piece.filter_map(|row| places.get(row)) {
                extent.add(place);
                eighths[((place.ra * 8.0) as usize).min(EIGHTHS - 1)] = true;
            }
            seen = extent;
            turn.give().await;
        }
        if seen.rows == 0 {
            return zones;
        }
        let own = places.radius.is_some();
        zones.widest = if own { seen.widest } else { 0.0 };
        let usual = (zones.constant.max(0.0) + seen.radii / seen.rows as f64).min(EVERYWHERE_DEG);
        let height = height(density(places), usual, &seen);
        let (origin_ra, last_east) = span(&eighths);
        let mut grid =
            Grid { lowest_dec: seen.low, zones_per_degree: 1.0 / height, origin_ra, last_east, ..zones.grid };
        let count = grid.zone_of(seen.high) + 1;
        grid.columns = (seen.rows / (count * CELL_ROWS)).max(1);
        grid.cells_per_degree = grid.columns as f64 / last_east;
        zones.grid = grid;
        let cells = Cells::count(places, grid, count * grid.columns, turn).await;
        if own {
            // A row must not be parted from its radius.
            let rows = cells.fill(places, grid, |row, radius| (row, radius), |(row, _)| row.east, turn).await;
            (zones.rows, zones.radius) = rows.into_iter().unzip();
        } else {
            zones.rows = cells.fill(places, grid, |row, _| row, |row| row.east, turn).await;
        }
        zones.starts = cells.starts;
        zones.measure(count, height, &seen, turn).await;
        zones
    }

    /// Finds what is true of each zone.
    async fn measure(&mut self, count: usize, height: f64, seen: &Extent, turn: &mut Turn) {
        self.zones.reserve_exact(count);
        for number in 0..count {
            let own = self.radius.get(self.rows_of(number)).unwrap_or_default();
            let dec_reach = self.constant + own.iter().fold(0.0, |a: f64, b| a.max(*b));
            let low = self.grid.lowest_dec + number as f64 * height - SLACK_DEG;
            let high = (low + height + 2.0 * SLACK_DEG).min(seen.high);
            let ra_reach = ra_reach(low.abs().max(high.abs()), dec_reach);
            let middle = 0.5 * (low + high);
            // The product is cos² of the mean less sin² of half the difference. The first is within the square of
            // `off` of its tangent in the middle, the second at most the square of `apart`.
            let off = (0.5 * (high - low + dec_reach)).to_radians();
            let apart = (0.5 * dec_reach).to_radians();
            self.zones.push(Zone {
                dec_reach,
                ra_reach,
                middle,
                cosines: middle.to_radians().cos().powi(2),
                slope: -(2.0 * middle.to_radians()).sin() * 1.0_f64.to_radians(),
                bend: off * off + apart * apart + 1e-12,
                far: far(self.constant, ra_reach.max(dec_reach)),
            });
            if number % 64 == 0 {
                turn.give().await;
            }
        }
    }

    fn rows_of(&self, zone: usize) -> Range<usize> {
        let columns = self.grid.columns;
        self.starts[zone * columns] as usize..self.starts[(zone + 1) * columns] as usize
    }

    /// The rows of the cells of a zone in which there are rows between two right ascensions, and no more
    /// of those that have many.
    fn rows_between(&self, zone: usize, low: f64, high: f64) -> Range<usize> {
        if high < 0.0 || low > self.grid.last_east {
            return 0..0;
        }
        let cells = zone * self.grid.columns;
        let rows_of = |column| {
            let cell = cells + column;
            self.starts[cell] as usize..self.starts[cell + 1] as usize
        };
        let (first, last) = (rows_of(self.grid.column_of(low)), rows_of(self.grid.column_of(high)));
        let (mut start, mut end) = (first.start, last.end);
        if first.len() > UNSORTED_ROWS {
            start += self.rows[first].partition_point(|row| row.east < low);
        }
        if last.len() > UNSORTED_ROWS {
            end = last.start + self.rows[last].partition_point(|row| row.east <= high);
        }
        start..end
    }

    /// Adds pairs of the row `number`, which is at `place`, with rows near it, until the allowance is used up;
    /// then gives where to go on, and `None` when no more are left.
    pub(super) fn search(
        &self,
        place: Place,
        number: u32,
        from: Searched,
        pairs: &mut Pairs,
        allowance: &mut Allowance,
    ) -> Option<Searched> {
        let place = Place { ra: self.grid.east_of(place.ra), ..place };
        if self.radius.is_empty() && place.radius == 0.0 {
            let nearness = |zone: &Zone, _: f64, _: usize, row: &Row| self.nearness(place, zone, row);
            self.search_by(nearness, place, number, from, pairs, allowance)
        } else {
            let nearness = |_: &Zone, ra_reach, at, row: &Row| self.nearness_of_own(place, ra_reach, at, row);
            self.search_by(nearness, place, number, from, pairs, allowance)
        }
    }

    fn search_by(
        &self,
        nearness: impl Fn(&Zone, f64, usize, &Row) -> Nearness,
        place: Place,
        number: u32,
        mut from: Searched,
        pairs: &mut Pairs,
        allowance: &mut Allowance,
    ) -> Option<Searched> {
        let near = self.zones_near(place);
        for index in near.start + from.zones as usize..near.end {
            // To look at no row takes its time too.
            let Some(left) = allowance.rows.checked_sub(1) else { return Some(from) };
            allowance.rows = left;
            let zone = &self.zones[index];
            let reach = match place.radius == 0.0 {
                true => zone.ra_reach,
                false => ra_reach(place.dec, zone.dec_reach + place.radius),
            };
            let (rows, across) = self.rows_near(index, place.ra, reach);
            for at in rows.chain(across).skip(from.rows as usize) {
                if allowance.pairs == 0 || allowance.rows == 0 {
                    return Some(from);
                }
                allowance.rows -= 1;
                from.rows += 1;
                let row = &self.rows[at];
                let nearness = nearness(zone, reach, at, row);
                if nearness != Nearness::Beyond {
                    pairs.push(row.number, number, nearness == Nearness::Sure);
                    allowance.pairs -= 1;
                }
            }
            from = Searched { zones: from.zones + 1, rows: 0 };
        }
        None
    }

    /// The zones in which there may be rows near a place.
    fn zones_near(&self, place: Place) -> Range<usize> {
        let reach = self.constant + self.widest + place.radius;
        let count = self.zones.len();
        if reach >= EVERYWHERE_DEG {
            0..count
        } else if reach >= 0.0 && count > 0 && place.dec + reach >= self.grid.lowest_dec {
            self.grid.zone_of(place.dec - reach)..(self.grid.zone_of(place.dec + reach) + 1).min(count)
        } else {
            // A reach below nothing finds nothing; the comparison is false for NaN too.
            0..0
        }
    }

    /// The rows of a zone near a right ascension that counts from the origin, and those across the origin from
    /// there.
    fn rows_near(&self, zone: usize, east: f64, reach: f64) -> (Range<usize>, Range<usize>) {
        if reach >= 180.0 {
            return (self.rows_of(zone), 0..0);
        }
        let (low, high) = (east - reach, east + reach);
        let rows = self.rows_between(zone, low, high);
        let mut across = 0..0;
        if low < 0.0 {
            across = self.rows_between(zone, low + 360.0, f64::INFINITY);
            // A cell may reach from one to the other.
            across.start = if rows.is_empty() { across.start } else { across.start.max(rows.end) };
        } else if high >= 360.0 {
            across = self.rows_between(zone, f64::NEG_INFINITY, high - 360.0);
            across.end = if rows.is_empty() { across.end } else { across.end.min(rows.start) };
        }
        (rows, across)
    }

    /// How near a row is, where all pairs have one radius. Of a row that is farther than the reach in right
    /// ascension it can only be wrong that it might be within.
    fn nearness(&self, place: Place, zone: &Zone, row: &Row) -> Nearness {
        let (north, east) = offset(place, row);
        let (north2, east2) = (north * north, east * east);
        let mean = place.dec - zone.middle + 0.5 * north;
        let square = north2 + east2 * (zone.cosines + zone.slope * mean);
        let bend = east2 * zone.bend;
        if north.abs() > self.constant || square - bend > zone.far {
            Nearness::Beyond
        } else if square + bend <= self.sure {
            Nearness::Sure
        } else {
            Nearness::Unsure
        }
    }

    /// The same where rows have radii: what is not farther in either coordinate may be near.
    fn nearness_of_own(&self, place: Place, ra_reach: f64, at: usize, row: &Row) -> Nearness {
        let own = self.radius.get(at).copied().unwrap_or(0.0);
        let reach = self.constant + own + place.radius;
        let (north, east) = offset(place, row);
        let is_within = north.abs() <= reach && east <= ra_reach;
        if reach >= EVERYWHERE_DEG || is_within { Nearness::Unsure } else { Nearness::Beyond }
    }

    /// Bytes that `rows` rows take.
    pub(super) fn bytes(rows: usize) -> usize {
        // Arranged rows with their radius, the same again while they are parted from it, and cells.
        rows * (2 * (size_of::<Row>() + size_of::<f64>()) + 2 * size_of::<u32>())
    }
}

/// The cells while rows are put into them.
#[derive(Debug)]
struct Cells {
    /// The first row of each, and the end of the last.
    starts: Vec<u32>,
    /// The cell of each row; anything for one without a place.
    of_rows: Vec<u32>,
}

impl Cells {
    async fn count(places: &Places, grid: Grid, cells: usize, turn: &mut Turn) -> Cells {
        let mut starts = vec![0_u32; cells + 1];
        let mut of_rows = Vec::with_capacity(places.len());
        for piece in pieces(places.len()) {
            of_rows.extend(piece.map(|row| {
                places.get(row).map_or(0, |place| {
                    let cell = grid.cell_of(place);
                    starts[cell + 1] += 1;
                    cell as u32
                })
            }));
            turn.give().await;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Cells { starts, of_rows }
    }

    /// The rows, or what is made of them, cell by cell; those of cells that have many are sorted.
    async fn fill<T: Clone + Default>(
        &self,
        places: &Places,
        grid: Grid,
        make: impl Fn(Row, f64) -> T,
        east: impl Fn(&T) -> f64,
        turn: &mut Turn,
    ) -> Vec<T> {
        let mut next = self.starts.clone();
        let mut filled = vec![T::default(); self.starts.last().map_or(0, |end| *end as usize)];
        for piece in pieces(places.len()) {
            for number in piece {
                let Some(Place { ra, dec, radius }) = places.get(number) else { continue };
                let at = &mut next[self.of_rows[number] as usize];
                filled[*at as usize] = make(Row { east: grid.east_of(ra), dec, number: number as u32 }, radius);
                *at += 1;
            }
            turn.give().await;
        }
        for piece in pieces(self.starts.len() - 1) {
            for cell in piece {
                let rows = self.starts[cell] as usize..self.starts[cell + 1] as usize;
                if rows.len() > UNSORTED_ROWS {
                    filled[rows].sort_unstable_by(|a, b| east(a).total_cmp(&east(b)));
                    turn.give().await;
                }
            }
            turn.give().await;
        }
        filled
    }
}

/// What is seen of the rows before they are arranged.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rows: usize,
    low: f64,
    high: f64,
    /// The sum of what rows add to the radius, and the most.
    radii: f64,
    widest: f64,
}

impl Default for Extent {
    fn default() -> Self {
        Extent { rows: 0, low: f64::INFINITY, high: f64::NEG_INFINITY, radii: 0.0, widest: f64::NEG_INFINITY }
    }
}

impl Extent {
    fn add(&mut self, Place { dec, radius, .. }: Place) {
        self.rows += 1;
        (self.low, self.high) = (self.low.min(dec), self.high.max(dec));
        self.radii += radius.max(0.0);
        self.widest = self.widest.max(radius);
    }
}

/// A right ascension such that the rows lie close together eastward of it, also those on both sides of the
/// meridian of 0, and how far they go; by the eighths of a degree that have rows.
fn span(eighths: &[bool; EIGHTHS]) -> (f64, f64) {
    let (mut widest, mut after, mut empty) = (0, 0, 0);
    // Twice around, for the gap across the meridian.
    for eighth in 0..2 * EIGHTHS {
        if eighths[eighth % EIGHTHS] {
            if empty > widest {
                (widest, after) = (empty, eighth % EIGHTHS);
            }
            empty = 0;
        } else {
            empty += 1;
        }
    }
    (after as f64 / 8.0, (EIGHTHS - widest) as f64 / 8.0)
}

/// Where to stop for others to have their turn.
fn pieces(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(PIECE_ROWS).map(move |first| first..rows.min(first + PIECE_ROWS))
}

/// Rows of a square degree, as most of the rows see it around them.
fn density(places: &Places) -> f64 {
    let step = places.len().div_ceil(SAMPLED_ROWS).max(1);
    let sample: Vec<Place> = (0..places.len()).step_by(step).filter_map(|row| places.get(row)).collect();
    let in_squares = |side: f64| {
        let square = |place: &Place| {
            let row = (place.dec / side).floor();
            let shrunk = (row * side).clamp(-90.0, 90.0).to_radians().cos();
            (row as i32, (place.ra * shrunk / side) as i32)
        };
        let mut squares: Vec<(i32, i32)> = sample.iter().map(square).collect();
        squares.sort_unstable();
        let pairs: usize = squares.chunk_by(|a, b| a == b).map(|same| same.len() * (same.len() - 1)).sum();
        if pairs < TELLING_PAIRS { 0.0 } else { (pairs * step) as f64 / (sample.len() as f64 * side * side) }
    };
    SQUARES_DEG.map(in_squares).into_iter().fold(0.0, f64::max)
}

/// How high zones are in degrees, for rows of such a density and a usual radius.
fn height(density: f64, usual: f64, seen: &Extent) -> f64 {
    let extent = seen.high - seen.low;
    // Of a zone a search looks at as many rows as are wanted of a cell.
    let thin = CELL_ROWS as f64 / (density * 2.0 * usual);
    let square = (CELL_ROWS as f64 / density).sqrt();
    // Lower zones than the radius would only be more zones to visit, and so would more zones than cells.
    let least = usual.max(extent * CELL_ROWS as f64 / seen.rows as f64);
    square.min(thin).min(extent).max(least).max(SLACK_DEG)
}

/// The square of degrees up to which a pair is within the radius: sin²(d/2) is the sum of sin²(Δdec/2) and
/// cos·cos sin²(Δra/2), no sine is above its argument, and that of the radius is hardly below.
fn sure(radius: f64) -> f64 {
    let radius = radius - SLACK_DEG;
    let bend = radius.to_radians() * radius.to_radians() / 12.0;
    // The comparison is false for NaN too.
    if radius > 0.0 && bend < 0.1 { radius * radius * (1.0 - bend) } else { -1.0 }
}

/// The square of degrees above which a pair is beyond the radius, where neither coordinate differs by more
/// than `reach`: as above, with both sines hardly below their arguments.
fn far(radius: f64, reach: f64) -> f64 {
    let bend = reach.to_radians() * reach.to_radians() / 12.0;
    let radius = radius + SLACK_DEG;
    if reach <= FLAT_DEG { radius * radius / (1.0 - bend) } else { f64::INFINITY }
}

/// How far in right ascension a circle of `reach` degrees about a position at `dec` goes; 360 where
/// it holds a pole.
pub(super) fn ra_reach(dec: f64, reach: f64) -> f64 {
    if reach < 0.0 {
        return 0.0;
    }
    if dec.abs() + reach >= 90.0 - 1e-6 {
        return 360.0;
    }
    let sine = (reach.to_radians().sin() / dec.to_radians().cos()).min(1.0);
    sine.asin().to_degrees() * (1.0 + 1e-9) + SLACK_DEG
}

/// How far a search has gone: what is found may be more than is wanted at once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Searched {
    /// Zones that are done, and rows of the next.
    zones: u32,
    rows: u32,
}

/// How much a search may still look at and find.
#[derive(Debug)]
pub(super) struct Allowance {
    pub(super) pairs: usize,
    pub(super) rows: usize,
}

/// How far north of a place a row is, and how far from it in right ascension, either way.
fn offset(place: Place, row: &Row) -> (f64, f64) {
    let east = (row.east - place.ra).abs();
    (row.dec - place.dec, east.min(360.0 - east))
}

/// What is known of a pair without asking its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nearness {
    /// Within the radius.
    Sure,
    Unsure,
    Beyond,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use skyflight_sky::separation;

    use super::*;

    fn places(rows: &[(f64, f64)], radius: Option<&[f64]>) -> Places {
        let radius = radius.map(|radius| Float64Array::from(radius.to_vec()));
        let of = |value: fn(&(f64, f64)) -> f64| Float64Array::from_iter_values(rows.iter().map(value));
        Places::new(&of(|row| row.0), &of(|row| row.1), radius.as_ref())
    }

    fn arranged(places: &Places, constant: f64) -> Zones {
        futures::executor::block_on(Zones::arrange(places, constant, &mut Turn::new()))
    }

    /// What is found near a place, and what of it is near for certain.
    fn found(zones: &Zones, place: Place, at_once: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut all, mut sure, mut from) = (Vec::new(), Vec::new(), Searched::default());
        loop {
            let (mut some, mut allowance) = (Pairs::default(), Allowance { pairs: at_once, rows: 7 });
            let go_on = zones.search(place, 5, from, &mut some, &mut allowance);
            assert!(some.len() <= at_once);
            assert!(some.probing.iter().all(|row| *row == 5));
            sure.extend(some.sure());
            all.extend(some.arranged);
            let Some(next) = go_on else {
                all.sort_unstable();
                return (all, sure);
            };
            from = next;
        }
    }

    fn near(zones: &Zones, place: Place, at_once: usize) -> Vec<u32> {
        found(zones, place, at_once).0
    }

    fn apart(a: (f64, f64), b: (f64, f64)) -> f64 {
        let at = |p: (f64, f64)| Position::new(Degrees(p.0), Degrees(p.1)).unwrap();
        separation(at(a), at(b)).0
    }

    /// Positions everywhere, and crowded where coordinates are awkward.
    fn position() -> impl Strategy<Value = (f64, f64)> {
        prop_oneof![
            (0.0..360.0, -90.0..=90.0),
            (-0.02..0.02, -0.02..0.02),
            (359.98..=360.0, -0.02..0.02),
            (0.0..360.0, 89.98..=90.0),
            (0.0..360.0, -90.0..=-89.98),
            (179.99..180.01, 45.0..45.01),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// Whatever is within the radius is found, once, and most of what is found is near.
        #[test]
        fn nothing_near_is_missed(
            rows in prop::collection::vec(position(), 0..120),
            probes in prop::collection::vec(position(), 1..20),
            constant in prop_oneof![Just(0.0), 0.0..0.01, 0.0..2.0, 0.0..180.0, Just(180.0)],
            own in prop::option::of(prop::collection::vec(0.0..0.5_f64, 120)),
            probe_radius in prop_oneof![Just(0.0), 0.0..1.0],
            at_once in 1_usize..9,
        ) {
            let own = own.map(|own| own[..rows.len()].to_vec());
            let arranged = places(&rows, own.as_deref());
            let zones = self::arranged(&arranged, constant);
            let asked = places(&probes, None);
            for (at, probe) in probes.iter().enumerate() {
                let place = Place { radius: probe_radius, ..asked.get(at).unwrap() };
                let (found, sure) = found(&zones, place, at_once);
                prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "found twice: {found:?}");
                for (row, position) in rows.iter().enumerate() {
                    let radius = constant + probe_radius + own.as_ref().map_or(0.0, |own| own[row]);
                    let is_near = apart(*probe, *position) <= radius;
                    prop_assert!(!is_near || found.contains(&(row as u32)), "{probe:?} misses {position:?}");
                    prop_assert!(is_near || !sure.contains(&(row as u32)), "{probe:?} is not near {position:?}");
                }
                let far = found.iter().filter(|row| {
                    let reach = constant + probe_radius + own.as_ref().map_or(0.0, |own| own[**row as usize]);
                    (rows[**row as usize].1 - probe.1).abs() > reach + 2e-9 && reach < 169.0
                });
                prop_assert_eq!(far.count(), 0, "another declination");
            }
        }
    }

    #[test]
    fn rows_without_a_position_are_near_nothing() {
        let rows = Places::new(
            &Float64Array::from(vec![Some(10.0), None, Some(f64::NAN), Some(10.0), Some(10.0), Some(-350.0)]),
            &Float64Array::from(vec![Some(0.0), Some(0.0), Some(0.0), Some(90.5), None, Some(0.0)]),
            None,
        );
        let zones = arranged(&rows, 180.0);
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.0, radius: 0.0 }, 10), [0, 5]);
        let zones = arranged(&rows, -1.0);
        assert!(near(&zones, Place { ra: 10.0, dec: 0.0, radius: 0.0 }, 10).is_empty());
        let zones = arranged(&places(&[], None), 1.0);
        assert!(near(&zones, Place { ra: 10.0, dec: 0.0, radius: 0.0 }, 10).is_empty());
    }

    #[test]
    fn a_radius_below_nothing_is_near_nothing_and_one_that_is_no_number_to_everything() {
        let (ra, dec) = (Float64Array::from(vec![10.0; 4]), Float64Array::from(vec![0.0; 4]));
        let radius = Float64Array::from(vec![Some(f64::NAN), None, Some(-5.0), Some(0.5)]);
        let rows = Places::new(&ra, &dec, Some(&radius));
        let zones = arranged(&rows, 0.0);
        // The last is looked at because the first is in its zone; the condition will tell them apart.
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.0, radius: 0.0 }, 10), [0, 3]);
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.6, radius: 0.0 }, 10), [0]);
    }

    /// Evenly spread numbers from 0 to 1.
    fn spread(step: f64) -> impl Iterator<Item = f64> {
        (1..).map(move |i| (f64::from(i) * step).fract())
    }

    /// Rows and zones that a search for each row looks at, and the rows near it, on average. Hardly any is in doubt.
    fn looked_at(rows: &[(f64, f64)], constant: f64) -> (f64, f64) {
        let places = places(rows, None);
        let zones = arranged(&places, constant);
        let mut pairs = Pairs::default();
        let mut left = Allowance { pairs: usize::MAX, rows: usize::MAX };
        for row in 0..places.len() {
            let place = places.get(row).unwrap();
            assert!(zones.search(place, row as u32, Searched::default(), &mut pairs, &mut left).is_none());
        }
        let sure = pairs.len() - pairs.unsure();
        assert!(pairs.unsure() * 100 <= sure || constant == 0.0, "{} of {} in doubt", pairs.unsure(), pairs.len());
        let of_each = |count: usize| count as f64 / rows.len() as f64;
        (of_each(usize::MAX - left.rows), of_each(sure))
    }

    #[test]
    fn a_search_looks_at_few_rows_wherever_they_crowd() {
        let unit = || spread(0.618_033_988_749_895).zip(spread(0.754_877_666_246_693));
        let sky: Vec<(f64, f64)> =
            unit().take(40_000).map(|(a, b)| (a * 360.0, (2.0 * b - 1.0).asin().to_degrees())).collect();
        let strip: Vec<(f64, f64)> = sky.iter().map(|(ra, dec)| (*ra, dec / 90.0)).collect();
        let chunk: Vec<(f64, f64)> = unit().take(40_000).map(|(a, b)| (359.0 + a * 3.0, 40.0 + b * 2.0)).collect();
        let chunk: Vec<(f64, f64)> = chunk.iter().map(|(ra, dec)| (ra % 360.0, *dec)).collect();
        // Half of the rows in a field of a twentieth of a degree.
        let field = unit().map(|(a, b)| (120.0 + a / 20.0, 10.0 + b / 20.0));
        let deep: Vec<(f64, f64)> = sky.iter().step_by(2).copied().chain(field.take(20_000)).collect();
        for (name, rows) in [("sky", sky), ("strip", strip), ("chunk", chunk), ("deep", deep)] {
            for constant in [0.0, 1.0 / 3600.0, 20.0 / 3600.0] {
                let (looked, near) = looked_at(&rows, constant);
                assert!(looked < 40.0 + 4.0 * near, "{name} at {constant}: {looked} rows for {near} near ones");
            }
        }
    }

    /// Arranging many rows returns to the runtime again and again, so that it can be stopped.
    #[test]
    fn arranging_gives_others_their_turn() {
        let rows: Vec<(f64, f64)> =
            (0..600_000).map(|i| (f64::from(i % 3_600) / 10.0, f64::from(i / 3_600) - 80.0)).collect();
        let many = places(&rows, None);
        let mut turn = Turn::new();
        let mut arranging = std::pin::pin!(Zones::arrange(&many, 0.1, &mut turn));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let (mut returned, mut longest) = (0, std::time::Duration::ZERO);
        loop {
            let begun = std::time::Instant::now();
            let polled = arranging.as_mut().poll(&mut context);
            longest = longest.max(begun.elapsed());
            match polled {
                std::task::Poll::Ready(zones) => break assert_eq!(zones.rows.len(), rows.len()),
                std::task::Poll::Pending => returned += 1,
            }
        }
        assert!(returned >= 3, "returned {returned} times, the longest piece took {longest:?}");
    }
}
