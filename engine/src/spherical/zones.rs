//! One side of a spherical join, arranged so that the rows near a position are found without
//! looking at the others.
//!
//! The rows lie in zones of declination, sorted by right ascension in each (Gray, Nieto-Santisteban
//! & Szalay 2006, "The Zones Algorithm"). A zone is at least about as high as the radius and holds
//! some tens of rows; it is cut into cells of a few, so that a search begins where its rows do. What
//! is left is a comparison of two coordinates, and no trigonometry: how much a degree of right
//! ascension shrinks is known of a whole zone well enough to tell most pairs within the radius, and
//! most beyond it, from the few at its border.

use datafusion::arrow::array::{Array, Float64Array};
use skyflight_sky::{Degrees, Position};

use super::pairs::Pairs;
use crate::interrupt::Turn;

/// Rows of a zone that are aimed at.
const ZONE_ROWS: usize = 64;

/// Rows of a cell that are aimed at.
const CELL_ROWS: usize = 4;

/// Up to so many rows are stepped through; more are bisected.
const STEPPED_ROWS: usize = 16;

/// Angles are widened by this many degrees (four microarcseconds), which is more than the rounding
/// of any separation, and nothing beside the pairs that it adds.
pub(super) const SLACK_DEG: f64 = 1e-9;

/// From this radius in degrees on, everything is near.
const EVERYWHERE_DEG: f64 = 170.0;

/// Up to this angle in degrees a sine is near enough to its argument to tell what is far.
const FLAT_DEG: f64 = 5.0;

/// Rows arranged between two looks at the clock.
const PIECE_ROWS: usize = 1 << 14;

/// What is known of the rows of one batch: positions in degrees, and the radius that each adds.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) ra: Float64Array,
    pub(super) dec: Float64Array,
    pub(super) radius: Option<Float64Array>,
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
    /// `None` for a row that is near nothing: its position is NULL or none, or its radius is NULL.
    pub(super) fn get(&self, row: usize) -> Option<Place> {
        if !self.ra.is_valid(row) || !self.dec.is_valid(row) {
            return None;
        }
        let (mut ra, dec) = (self.ra.value(row), self.dec.value(row));
        if !((0.0..360.0).contains(&ra) && (-90.0..=90.0).contains(&dec)) {
            ra = Position::new(Degrees(ra), Degrees(dec)).ok()?.ra().0;
        }
        let radius = match &self.radius {
            None => 0.0,
            Some(radius) if radius.is_null(row) => return None,
            // A radius that is no number is above all others, as Arrow compares.
            Some(radius) if radius.value(row).is_nan() => EVERYWHERE_DEG,
            Some(radius) => radius.value(row),
        };
        Some(Place { ra, dec, radius })
    }

    pub(super) fn len(&self) -> usize {
        self.ra.len()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Zones {
    /// The radius that all pairs have, slack included.
    constant: f64,
    /// Where pairs have no other radius: a square of degrees up to which they are within it for certain.
    sure: f64,
    lowest_dec: f64,
    zones_per_degree: f64,
    /// The right ascension from which it is counted eastward, and where the rows begin and end.
    origin_ra: f64,
    first_east: f64,
    last_east: f64,
    cells_per_degree: f64,
    /// Cells of each zone.
    columns: usize,
    zones: Vec<Zone>,
    /// The first row of each cell, zone by zone, and the end of the last.
    starts: Vec<u32>,
    /// Zone by zone, ascending eastward.
    rows: Vec<Row>,
    /// What each row adds to the radius; empty where none does.
    radius: Vec<f64>,
    /// The largest of them.
    widest: f64,
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
    /// The product of the cosines of the declinations of a row of the zone and one near it: at most, and
    /// at least.
    most_cosines: f64,
    least_cosines: f64,
    /// Where pairs have one radius: a square of degrees above which they are beyond it for certain.
    far: f64,
}

impl Zones {
    /// Arranges rows that are near what is at most `constant` degrees, and their own radius, away.
    pub(super) async fn arrange(places: &Places, constant: f64, turn: &mut Turn) -> Zones {
        let mut zones = Zones { constant: constant + SLACK_DEG, sure: sure(constant), ..Zones::default() };
        let own = places.radius.is_some();
        let mut found: Vec<(Row, f64)> = Vec::with_capacity(places.len());
        let mut seen = Extent::default();
        for first in (0..places.len()).step_by(PIECE_ROWS) {
            for number in first..places.len().min(first + PIECE_ROWS) {
                let Some(Place { ra, dec, radius }) = places.get(number) else { continue };
                seen.add(ra, dec, radius);
                found.push((Row { east: ra, dec, number: number as u32 }, radius));
            }
            turn.give().await;
        }
        if found.is_empty() {
            return zones;
        }
        zones.widest = if own { seen.widest } else { 0.0 };
        zones.origin_ra = seen.after_the_widest_gap();
        (zones.first_east, zones.last_east) = (f64::INFINITY, 0.0);
        for piece in found.chunks_mut(PIECE_ROWS) {
            for (row, _) in piece {
                row.east = zones.east_of(row.east);
                zones.first_east = zones.first_east.min(row.east);
                zones.last_east = zones.last_east.max(row.east);
            }
            turn.give().await;
        }
        // Lower zones than the usual radius would only be more zones to visit.
        let usual = zones.constant.max(0.0) + seen.radii / found.len() as f64;
        let height = ((seen.high - seen.low) / found.len().div_ceil(ZONE_ROWS) as f64).max(usual).max(SLACK_DEG);
        zones.lowest_dec = seen.low;
        zones.zones_per_degree = 1.0 / height;
        let count = zones.zone_of(seen.high) + 1;
        zones.columns = (found.len() / (count * CELL_ROWS)).max(1);
        zones.cells_per_degree = zones.columns as f64 / (zones.last_east - zones.first_east).max(SLACK_DEG);
        zones.fill(&found, count, own, turn).await;
        zones.measure(count, height, turn).await;
        zones
    }

    /// Puts the rows into their cells, and sorts each.
    async fn fill(&mut self, found: &[(Row, f64)], count: usize, own: bool, turn: &mut Turn) {
        let mut ends = vec![0_u32; count * self.columns + 1];
        for piece in found.chunks(PIECE_ROWS) {
            for (row, _) in piece {
                ends[self.cell_of(row) + 1] += 1;
            }
            turn.give().await;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        self.starts.clone_from(&ends);
        // With a radius of its own a row must not be parted from it.
        let mut sorted = vec![(Row::default(), 0.0_f64); if own { found.len() } else { 0 }];
        self.rows = vec![Row::default(); if own { 0 } else { found.len() }];
        for piece in found.chunks(PIECE_ROWS) {
            for (row, radius) in piece {
                let end = &mut ends[self.cell_of(row)];
                match own {
                    true => sorted[*end as usize] = (*row, *radius),
                    false => self.rows[*end as usize] = *row,
                }
                *end += 1;
            }
            turn.give().await;
        }
        for cells in (0..self.starts.len() - 1).step_by(PIECE_ROWS) {
            for cell in cells..(self.starts.len() - 1).min(cells + PIECE_ROWS) {
                let rows = self.starts[cell] as usize..self.starts[cell + 1] as usize;
                match own {
                    _ if rows.len() < 2 => {}
                    true => sorted[rows].sort_unstable_by(|a, b| a.0.east.total_cmp(&b.0.east)),
                    false => self.rows[rows].sort_unstable_by(|a, b| a.east.total_cmp(&b.east)),
                }
            }
            turn.give().await;
        }
        if own {
            (self.rows, self.radius) = sorted.into_iter().unzip();
        }
    }

    /// Finds what is true of each zone.
    async fn measure(&mut self, count: usize, height: f64, turn: &mut Turn) {
        self.zones.reserve_exact(count);
        for number in 0..count {
            let rows = self.rows_of(number);
            let mut farthest: f64 = 0.0;
            for row in &self.rows[rows.clone()] {
                farthest = farthest.max(row.dec.abs());
            }
            let widest = self.radius.get(rows.clone()).unwrap_or_default().iter().fold(0.0, |a: f64, b| a.max(*b));
            let dec_reach = self.constant + widest;
            let ra_reach = ra_reach(farthest, dec_reach);
            let low = self.lowest_dec + number as f64 * height - dec_reach - SLACK_DEG;
            let high = self.lowest_dec + (number + 1) as f64 * height + dec_reach + SLACK_DEG;
            let cosine = |dec: f64| dec.clamp(-90.0, 90.0).to_radians().cos();
            let most = if low <= 0.0 && high >= 0.0 { 1.0 } else { cosine(low).max(cosine(high)) };
            let least = cosine(low).min(cosine(high)).max(0.0);
            let far = far(self.constant, ra_reach.max(dec_reach));
            self.zones.push(Zone {
                dec_reach,
                ra_reach,
                most_cosines: most * most * (1.0 + 1e-12),
                least_cosines: least * least * (1.0 - 1e-12),
                far,
            });
            if number % 64 == 0 {
                turn.give().await;
            }
        }
    }

    fn zone_of(&self, dec: f64) -> usize {
        // A cast of a negative number gives 0.
        ((dec - self.lowest_dec) * self.zones_per_degree) as usize
    }

    fn column_of(&self, east: f64) -> usize {
        (((east - self.first_east) * self.cells_per_degree) as usize).min(self.columns - 1)
    }

    fn cell_of(&self, row: &Row) -> usize {
        self.zone_of(row.dec) * self.columns + self.column_of(row.east)
    }

    fn east_of(&self, ra: f64) -> f64 {
        let east = ra - self.origin_ra;
        if east < 0.0 { east + 360.0 } else { east }
    }

    fn rows_of(&self, zone: usize) -> std::ops::Range<usize> {
        self.starts[zone * self.columns] as usize..self.starts[(zone + 1) * self.columns] as usize
    }

    /// Starts a search for the rows near a place.
    pub(super) fn search(&self, place: Place) -> Search {
        let reach = self.constant + self.widest + place.radius;
        let count = self.zones.len();
        // A reach below nothing finds nothing; the comparison is false for NaN too.
        let (zone, end) = if reach >= 0.0 && count > 0 && place.dec + reach >= self.lowest_dec {
            (self.zone_of(place.dec - reach), (self.zone_of(place.dec + reach) + 1).min(count))
        } else {
            (0, 0)
        };
        let (zone, end) = if reach >= EVERYWHERE_DEG { (0, count) } else { (zone, end) };
        let place = Place { ra: self.east_of(place.ra), ..place };
        Search { place, zone, end, at: 0, until: 0, last: 0.0, wrapped: None }
    }

    /// Bytes that `rows` rows take.
    pub(super) fn bytes(rows: usize) -> usize {
        // Arranged rows and their cells, and while they are sorted the same again.
        rows * (2 * (size_of::<Row>() + size_of::<f64>()) + 2 * size_of::<u32>())
    }
}

/// What is seen of the rows before they are arranged.
#[derive(Debug)]
struct Extent {
    low: f64,
    high: f64,
    /// The sum of what rows add to the radius, and the most.
    radii: f64,
    widest: f64,
    /// Which degrees of right ascension have rows.
    degrees: [bool; 360],
}

impl Default for Extent {
    fn default() -> Self {
        Extent {
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            radii: 0.0,
            widest: f64::NEG_INFINITY,
            degrees: [false; 360],
        }
    }
}

impl Extent {
    fn add(&mut self, ra: f64, dec: f64, radius: f64) {
        (self.low, self.high) = (self.low.min(dec), self.high.max(dec));
        self.radii += radius.max(0.0);
        self.widest = self.widest.max(radius);
        self.degrees[(ra as usize).min(359)] = true;
    }

    /// A right ascension such that the rows lie close together eastward of it, also those on both sides
    /// of the meridian of 0.
    fn after_the_widest_gap(&self) -> f64 {
        let (mut widest, mut after, mut empty) = (0, 0, 0);
        // Twice around, for the gap across the meridian.
        for degree in 0..720 {
            if self.degrees[degree % 360] {
                if empty > widest {
                    (widest, after) = (empty, degree % 360);
                }
                empty = 0;
            } else {
                empty += 1;
            }
        }
        after as f64
    }
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

/// A search in progress: what is found may be more than is wanted at once.
#[derive(Debug, Clone)]
pub(super) struct Search {
    /// Where what is looked for lies; its right ascension counts from the origin.
    place: Place,
    /// The zone to look at next, and the one before which to stop.
    zone: usize,
    end: usize,
    /// Rows of the present zone that are yet to be looked at, and how far east.
    at: usize,
    until: usize,
    last: f64,
    /// The first and last right ascension of what lies across the origin, in the present zone.
    wrapped: Option<(f64, f64)>,
}

/// How much a search may still look at and find.
#[derive(Debug)]
pub(super) struct Allowance {
    pub(super) pairs: usize,
    pub(super) rows: usize,
}

impl Search {
    /// Adds pairs of the row `number` with rows near it until the allowance is used up; true when no
    /// more are left.
    pub(super) fn next(&mut self, zones: &Zones, number: u32, pairs: &mut Pairs, allowance: &mut Allowance) -> bool {
        loop {
            if self.at < self.until && !self.look(zones, number, pairs, allowance) {
                return false;
            }
            if let Some((low, high)) = self.wrapped.take() {
                // The zone is the one before: the number was counted on.
                self.range(zones, self.zone - 1, low, high);
            } else if self.zone < self.end {
                self.zone += 1;
                self.enter(zones, self.zone - 1);
            } else {
                return true;
            }
        }
    }

    fn enter(&mut self, zones: &Zones, zone: usize) {
        let Zone { ra_reach: own, dec_reach, .. } = zones.zones[zone];
        let Place { ra: east, dec, radius } = self.place;
        let reach = if radius == 0.0 { own } else { ra_reach(dec, dec_reach + radius) };
        if reach >= 180.0 {
            let rows = zones.rows_of(zone);
            (self.at, self.until, self.last) = (rows.start, rows.end, f64::INFINITY);
            return;
        }
        let (low, high) = (east - reach, east + reach);
        self.range(zones, zone, low, high);
        if low < 0.0 {
            self.wrapped = Some((low + 360.0, f64::INFINITY));
        } else if high >= 360.0 {
            self.wrapped = Some((f64::NEG_INFINITY, high - 360.0));
        }
    }

    fn range(&mut self, zones: &Zones, zone: usize, low: f64, high: f64) {
        if high < zones.first_east || low > zones.last_east {
            (self.at, self.until) = (0, 0);
            return;
        }
        let cells = zone * zones.columns;
        let start = zones.starts[cells + zones.column_of(low)] as usize;
        let end = zones.starts[cells + zones.column_of(high) + 1] as usize;
        let rows = &zones.rows[start..end];
        let before = match rows.len() {
            0..=STEPPED_ROWS => rows.iter().position(|row| row.east >= low).unwrap_or(rows.len()),
            _ => rows.partition_point(|row| row.east < low),
        };
        (self.at, self.until, self.last) = (start + before, end, high);
    }

    /// Looks at the rest of the rows of the range; false when the allowance is used up.
    fn look(&mut self, zones: &Zones, number: u32, pairs: &mut Pairs, allowance: &mut Allowance) -> bool {
        let of_zone = &zones.zones[self.zone - 1];
        let one_radius = zones.radius.is_empty() && self.place.radius == 0.0;
        let begun = self.at;
        let most = self.until.min(begun.saturating_add(allowance.rows));
        while self.at < most && allowance.pairs > 0 {
            let row = &zones.rows[self.at];
            if row.east > self.last {
                self.until = self.at;
                break;
            }
            let north = row.dec - self.place.dec;
            let nearness = if one_radius {
                let east = (row.east - self.place.ra).abs();
                let east = east.min(360.0 - east);
                let (north2, east2) = (north * north, east * east);
                if north2 + east2 * of_zone.most_cosines <= zones.sure {
                    Nearness::Sure
                } else if north.abs() > zones.constant || north2 + east2 * of_zone.least_cosines > of_zone.far {
                    Nearness::Beyond
                } else {
                    Nearness::Unsure
                }
            } else {
                let own = zones.radius.get(self.at).copied().unwrap_or(0.0);
                let reach = zones.constant + own + self.place.radius;
                if reach >= EVERYWHERE_DEG || north.abs() <= reach { Nearness::Unsure } else { Nearness::Beyond }
            };
            self.at += 1;
            if nearness != Nearness::Beyond {
                pairs.push(row.number, number, nearness == Nearness::Sure);
                allowance.pairs -= 1;
            }
        }
        allowance.rows -= self.at - begun;
        self.at >= self.until
    }
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
        Places {
            ra: rows.iter().map(|row| row.0).collect::<Vec<_>>().into(),
            dec: rows.iter().map(|row| row.1).collect::<Vec<_>>().into(),
            radius: radius.map(|radius| radius.to_vec().into()),
        }
    }

    fn arranged(places: &Places, constant: f64) -> Zones {
        futures::executor::block_on(Zones::arrange(places, constant, &mut Turn::new()))
    }

    /// What is found near a place, and what of it is near for certain.
    fn found(zones: &Zones, place: Place, at_once: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut all, mut sure, mut search) = (Vec::new(), Vec::new(), zones.search(place));
        loop {
            let (mut some, mut allowance) = (Pairs::default(), Allowance { pairs: at_once, rows: 7 });
            let done = search.next(zones, 5, &mut some, &mut allowance);
            assert!(some.len() <= at_once);
            assert!(some.probing.iter().all(|row| *row == 5));
            sure.extend(some.sure());
            all.extend(some.arranged);
            if done {
                all.sort_unstable();
                return (all, sure);
            }
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
        let rows = Places {
            ra: Float64Array::from(vec![Some(10.0), None, Some(f64::NAN), Some(10.0), Some(10.0), Some(-350.0)]),
            dec: Float64Array::from(vec![Some(0.0), Some(0.0), Some(0.0), Some(90.5), None, Some(0.0)]),
            radius: None,
        };
        let zones = arranged(&rows, 180.0);
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.0, radius: 0.0 }, 10), [0, 5]);
        let zones = arranged(&rows, -1.0);
        assert!(near(&zones, Place { ra: 10.0, dec: 0.0, radius: 0.0 }, 10).is_empty());
        let zones = arranged(&places(&[], None), 1.0);
        assert!(near(&zones, Place { ra: 10.0, dec: 0.0, radius: 0.0 }, 10).is_empty());
    }

    #[test]
    fn a_radius_below_nothing_is_near_nothing_and_one_that_is_no_number_to_everything() {
        let rows = Places {
            radius: Some(Float64Array::from(vec![Some(f64::NAN), None, Some(-5.0), Some(0.5)])),
            ..places(&[(10.0, 0.0), (10.0, 0.0), (10.0, 0.0), (10.0, 0.0)], None)
        };
        let zones = arranged(&rows, 0.0);
        // The last is looked at because the first is in its zone; the condition will tell them apart.
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.0, radius: 0.0 }, 10), [0, 3]);
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.6, radius: 0.0 }, 10), [0]);
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
