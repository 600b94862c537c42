//! One side of a spherical join, arranged so that the rows near a position are found without
//! looking at the others.
//!
//! The rows lie in zones of declination, sorted by right ascension in each (Gray, Nieto-Santisteban
//! & Szalay 2006, "The Zones Algorithm"). A zone is at least about as high as the radius and holds
//! some tens of rows, so a search is a short bisection in one or two zones, and what is left is a
//! comparison of two coordinates: no trigonometry for a row that is looked at, and none for a row
//! that is looked for unless it brings a radius of its own.

use datafusion::arrow::array::{Array, Float64Array};
use skyflight_sky::{Degrees, Position};

/// Rows of a zone that are aimed at.
const ZONE_ROWS: usize = 48;

/// Angles are widened by this many degrees (four microarcseconds), which is more than the rounding
/// of any separation, and nothing beside the pairs that it adds.
const SLACK_DEG: f64 = 1e-9;

/// From this radius in degrees on, everything is near.
const EVERYWHERE_DEG: f64 = 170.0;

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
        let position = Position::new(Degrees(self.ra.value(row)), Degrees(self.dec.value(row))).ok()?;
        let radius = match &self.radius {
            None => 0.0,
            Some(radius) if radius.is_null(row) => return None,
            // A radius that is no number is above all others, as Arrow compares.
            Some(radius) if radius.value(row).is_nan() => EVERYWHERE_DEG,
            Some(radius) => radius.value(row),
        };
        Some(Place { ra: position.ra().0, dec: position.dec().0, radius })
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
    lowest_dec: f64,
    zones_per_degree: f64,
    zones: Vec<Zone>,
    /// Of each row, zone by zone, ascending in right ascension.
    ra: Vec<f64>,
    dec: Vec<f64>,
    /// What each row adds to the radius; empty where none does.
    radius: Vec<f64>,
    /// The largest of them.
    widest: f64,
    row: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Zone {
    /// First row; the next zone's is the end.
    start: u32,
    /// How far in declination a row of the zone may be from what is near it, the other's radius not
    /// counted.
    dec_reach: f64,
    /// The same in right ascension.
    ra_reach: f64,
}

impl Zones {
    /// Arranges rows that are near what is at most `constant` degrees, and their own radius, away.
    pub(super) fn new(places: &Places, constant: f64) -> Zones {
        let constant = constant + SLACK_DEG;
        let mut found: Vec<(u32, Place)> = Vec::with_capacity(places.len());
        found.extend((0..places.len()).filter_map(|row| Some((row as u32, places.get(row)?))));
        let own = places.radius.is_some();
        let (mut low, mut high, mut sum, mut widest) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY);
        for (_, place) in &found {
            (low, high) = (low.min(place.dec), high.max(place.dec));
            sum += place.radius.max(0.0);
            widest = f64::max(widest, place.radius);
        }
        if found.is_empty() {
            return Zones { constant, ..Zones::default() };
        }
        // Lower zones than the usual radius would only be more zones to visit.
        let usual = constant.max(0.0) + sum / found.len() as f64;
        let height = ((high - low) / found.len().div_ceil(ZONE_ROWS) as f64).max(usual).max(SLACK_DEG);
        let mut zones = Zones {
            constant,
            lowest_dec: low,
            zones_per_degree: 1.0 / height,
            widest: if own { widest } else { 0.0 },
            ..Zones::default()
        };
        let count = zones.index_of(high) + 1;
        zones.fill(&found, count, own);
        zones
    }

    fn fill(&mut self, found: &[(u32, Place)], count: usize, own: bool) {
        let mut ends = vec![0_u32; count + 1];
        for (_, place) in found {
            ends[self.index_of(place.dec) + 1] += 1;
        }
        for zone in 0..count {
            ends[zone + 1] += ends[zone];
        }
        let starts = ends.clone();
        let mut sorted = vec![(0.0_f64, 0_u32); found.len()];
        for (at, (_, place)) in found.iter().enumerate() {
            let end = &mut ends[self.index_of(place.dec)];
            sorted[*end as usize] = (place.ra, at as u32);
            *end += 1;
        }
        self.zones.reserve_exact(count + 1);
        for zone in 0..count {
            let rows = &mut sorted[starts[zone] as usize..starts[zone + 1] as usize];
            rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            let mut widest: f64 = 0.0;
            let mut farthest: f64 = 0.0;
            for (_, at) in rows.iter() {
                let place = &found[*at as usize].1;
                widest = widest.max(place.radius);
                farthest = farthest.max(place.dec.abs());
            }
            let dec_reach = self.constant + widest;
            let ra_reach = ra_reach(farthest, dec_reach);
            self.zones.push(Zone { start: starts[zone], dec_reach, ra_reach });
        }
        self.zones.push(Zone { start: found.len() as u32, ..Zone::default() });
        self.ra = sorted.iter().map(|(ra, _)| *ra).collect();
        let places = || sorted.iter().map(|(_, at)| &found[*at as usize]);
        self.dec = places().map(|(_, place)| place.dec).collect();
        self.row = places().map(|(row, _)| *row).collect();
        if own {
            self.radius = places().map(|(_, place)| place.radius).collect();
        }
    }

    fn index_of(&self, dec: f64) -> usize {
        // A cast of a negative number gives 0.
        ((dec - self.lowest_dec) * self.zones_per_degree) as usize
    }

    /// Starts a search for the rows near a place.
    pub(super) fn search(&self, place: Place) -> Search {
        let reach = self.constant + self.widest + place.radius;
        let count = self.zones.len().saturating_sub(1);
        // A reach below nothing finds nothing; the comparison is false for NaN too.
        let (zone, end) = if reach >= 0.0 && count > 0 && place.dec + reach >= self.lowest_dec {
            (self.index_of(place.dec - reach), (self.index_of(place.dec + reach) + 1).min(count))
        } else {
            (0, 0)
        };
        let (zone, end) = if reach >= EVERYWHERE_DEG { (0, count) } else { (zone, end) };
        Search { place, zone, end, at: 0, until: 0, wrapped: None }
    }

    /// Bytes that `rows` rows take.
    pub(super) fn bytes(rows: usize) -> usize {
        // Arranged rows, and while they are sorted their places.
        rows * (3 * size_of::<f64>() + size_of::<u32>() + 40 + 16)
    }
}

/// How far in right ascension a circle of `reach` degrees about a position at `dec` goes; 360 where
/// it holds a pole.
fn ra_reach(dec: f64, reach: f64) -> f64 {
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
    place: Place,
    /// The zone to look at next, and the one before which to stop.
    zone: usize,
    end: usize,
    /// Rows of the present zone that are yet to be looked at.
    at: usize,
    until: usize,
    /// The first and last right ascension of what lies across the meridian of 0, in the present zone.
    wrapped: Option<(f64, f64)>,
}

impl Search {
    /// Adds rows that are near to `found` until there are `most`; true when no more are left.
    pub(super) fn next(&mut self, zones: &Zones, found: &mut Vec<u32>, most: usize) -> bool {
        loop {
            while self.at < self.until {
                if found.len() >= most {
                    return false;
                }
                if self.is_near(zones, self.at) {
                    found.push(zones.row[self.at]);
                }
                self.at += 1;
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
        let Place { ra, dec, radius } = self.place;
        let reach = if radius == 0.0 { own } else { ra_reach(dec, dec_reach + radius) };
        if reach >= 180.0 {
            (self.at, self.until) = (zones.zones[zone].start as usize, zones.zones[zone + 1].start as usize);
            return;
        }
        let (low, high) = (ra - reach, ra + reach);
        self.range(zones, zone, low, high);
        if low < 0.0 {
            self.wrapped = Some((low + 360.0, f64::INFINITY));
        } else if high >= 360.0 {
            self.wrapped = Some((f64::NEG_INFINITY, high - 360.0));
        }
    }

    fn range(&mut self, zones: &Zones, zone: usize, low: f64, high: f64) {
        let (start, end) = (zones.zones[zone].start as usize, zones.zones[zone + 1].start as usize);
        let rows = &zones.ra[start..end];
        let first = rows.partition_point(|ra| *ra < low);
        // A window has few rows: stepping through them beats a second bisection.
        let count = rows[first..].iter().position(|ra| *ra > high).unwrap_or(rows.len() - first);
        (self.at, self.until) = (start + first, start + first + count);
    }

    fn is_near(&self, zones: &Zones, at: usize) -> bool {
        let own = zones.radius.get(at).copied().unwrap_or(0.0);
        let reach = zones.constant + own + self.place.radius;
        reach >= EVERYWHERE_DEG || (zones.dec[at] - self.place.dec).abs() <= reach
    }
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

    fn near(zones: &Zones, place: Place, at_once: usize) -> Vec<u32> {
        let (mut all, mut search) = (Vec::new(), zones.search(place));
        loop {
            let mut some = Vec::new();
            let done = search.next(zones, &mut some, at_once);
            assert!(some.len() <= at_once);
            all.extend(some);
            if done {
                all.sort_unstable();
                return all;
            }
        }
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
            let zones = Zones::new(&arranged, constant);
            let asked = places(&probes, None);
            for (at, probe) in probes.iter().enumerate() {
                let place = Place { radius: probe_radius, ..asked.get(at).unwrap() };
                let found = near(&zones, place, at_once);
                prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "found twice: {found:?}");
                for (row, position) in rows.iter().enumerate() {
                    let radius = constant + probe_radius + own.as_ref().map_or(0.0, |own| own[row]);
                    let is_near = apart(*probe, *position) <= radius;
                    prop_assert!(!is_near || found.contains(&(row as u32)), "{probe:?} misses {position:?}");
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
        let zones = Zones::new(&rows, 180.0);
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.0, radius: 0.0 }, 10), [0, 5]);
        let zones = Zones::new(&rows, -1.0);
        assert!(near(&zones, Place { ra: 10.0, dec: 0.0, radius: 0.0 }, 10).is_empty());
        let zones = Zones::new(&places(&[], None), 1.0);
        assert!(near(&zones, Place { ra: 10.0, dec: 0.0, radius: 0.0 }, 10).is_empty());
    }

    #[test]
    fn a_radius_below_nothing_is_near_nothing_and_one_that_is_no_number_to_everything() {
        let rows = Places {
            radius: Some(Float64Array::from(vec![Some(f64::NAN), None, Some(-5.0), Some(0.5)])),
            ..places(&[(10.0, 0.0), (10.0, 0.0), (10.0, 0.0), (10.0, 0.0)], None)
        };
        let zones = Zones::new(&rows, 0.0);
        // The last is looked at because the first is in its zone; the condition will tell them apart.
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.0, radius: 0.0 }, 10), [0, 3]);
        assert_eq!(near(&zones, Place { ra: 190.0, dec: 0.6, radius: 0.0 }, 10), [0]);
    }
}
