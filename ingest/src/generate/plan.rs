//! How many objects are where: a thin disc with a bulge over a faint halo, and clusters.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use skyflight_sky::{Degrees, Position, healpix_center, healpix_index, separation};

use crate::error::Result;

/// Order of the generator's cells: 12,288 of 1.8 degrees.
const ORDER: u8 = 5;
const CELLS: u64 = 12 << (2 * ORDER);

/// Density in the plane beyond that of the poles, which is 1.
const DISC: f64 = 600.0;
/// Galactic latitude in which the disc falls to 1/e, degrees.
const DISC_HEIGHT_DEG: f64 = 7.0;
/// Extent of the bulge around the Galactic centre, degrees.
const BULGE_DEG: f64 = 25.0;

/// North Galactic pole and Galactic centre, ICRS degrees (Gaia DR3 documentation, section 4.1.7).
const GALACTIC_POLE: (f64, f64) = (192.859_48, 27.128_25);
const GALACTIC_CENTRE: (f64, f64) = (266.405_1, -28.936_175);

/// One object in so many belongs to a cluster.
const CLUSTERED: u64 = 12;
const MOST_CLUSTERS: u64 = 240;

/// Objects of one file of the director.
const PART_OBJECTS: u64 = 100_000;

/// Cells one thread writes to one set of files.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) number: usize,
    pub(super) cells: Range<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    centre: Position,
    /// Standard deviation in each direction, degrees.
    extent_deg: f64,
    members: u64,
}

/// The objects of each cell.
#[derive(Debug)]
pub(super) struct SkyPlan {
    objects: u64,
    /// Of each cell: objects spread over it, drawn first.
    field: Vec<u64>,
    /// Of each cell: the clusters whose centres lie in it.
    clusters: Vec<Vec<Cluster>>,
    /// Objects in the cells before each cell, and of all at the end.
    before: Vec<u64>,
}

impl SkyPlan {
    pub(super) fn new(objects: u64, seed: u64) -> Result<SkyPlan> {
        let mut rng = ChaCha8Rng::seed_from_u64(mix(seed, CELLS));
        let clustered = objects / CLUSTERED;
        let mut clusters: Vec<Vec<Cluster>> = vec![Vec::new(); CELLS as usize];
        for cluster in draw_clusters(clustered, &mut rng)? {
            let cell = healpix_index(ORDER, cluster.centre)?;
            if let Some(list) = clusters.get_mut(cell as usize) {
                list.push(cluster);
            }
        }
        let field = spread(objects - clustered)?;
        let mut before = vec![0];
        let mut total = 0;
        for (field, clusters) in field.iter().zip(&clusters) {
            total += field + clusters.iter().map(|cluster| cluster.members).sum::<u64>();
            before.push(total);
        }
        Ok(SkyPlan { objects, field, clusters, before })
    }

    pub(super) fn objects_in(&self, cell: u64) -> u64 {
        self.before_cell(cell + 1) - self.before_cell(cell)
    }

    /// The number of an object in the whole survey, from 0.
    pub(super) fn number(&self, cell: u64, index: u64) -> u64 {
        self.before_cell(cell) + index
    }

    fn before_cell(&self, cell: u64) -> u64 {
        self.before.get(cell as usize).copied().unwrap_or(self.objects)
    }

    /// Whole cells with about [`PART_OBJECTS`] objects; the cut depends on nothing else.
    pub(super) fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut start = 0;
        for cell in 0..CELLS {
            let last = cell + 1 == CELLS;
            if last || self.before_cell(cell + 1) - self.before_cell(start) >= PART_OBJECTS {
                parts.push(Part { number: parts.len(), cells: start..cell + 1 });
                start = cell + 1;
            }
        }
        parts
    }

    /// Where an object of a cell is.
    pub(super) fn position(&self, cell: u64, index: u64, rng: &mut ChaCha8Rng) -> Result<Position> {
        let field = self.field.get(cell as usize).copied().unwrap_or(0);
        if index < field {
            if index == 0
                && let Some(north) = pole_of(cell)?
            {
                return near_pole(cell, north, rng);
            }
            // Cells of order 29 have equal areas, so this is uniform in the cell.
            let inside = rng.random_range(0..1_u64 << (2 * (29 - ORDER)));
            return Ok(healpix_center(29, (cell << (2 * (29 - ORDER))) | inside)?);
        }
        let mut member = index - field;
        for cluster in self.clusters.get(cell as usize).into_iter().flatten() {
            if member < cluster.members {
                return scatter(cluster.centre, cluster.extent_deg, rng);
            }
            member -= cluster.members;
        }
        Ok(healpix_center(ORDER, cell)?)
    }
}

/// Which pole a cell touches: north, south or none.
fn pole_of(cell: u64) -> Result<Option<bool>> {
    for north in [true, false] {
        let dec = if north { 90.0 } else { -90.0 };
        for quarter in 0..4 {
            let beside = Position::new(Degrees(45.0 + 90.0 * f64::from(quarter)), Degrees(dec * 0.999_999))?;
            if healpix_index(ORDER, beside)? == cell {
                return Ok(Some(north));
            }
        }
    }
    Ok(None)
}

/// A position within half an arcminute of a pole, in the quarter of the cell that touches it.
fn near_pole(cell: u64, north: bool, rng: &mut ChaCha8Rng) -> Result<Position> {
    let base = cell >> (2 * ORDER);
    let ra = 90.0 * ((base % 4) as f64 + rng.random::<f64>());
    let dec = 90.0 - rng.random::<f64>() / 120.0;
    Ok(Position::new(Degrees(ra), Degrees(if north { dec } else { -dec }))?)
}

/// A position off another by a normal distribution in each direction, degrees.
pub(super) fn scatter(from: Position, sigma_deg: f64, rng: &mut ChaCha8Rng) -> Result<Position> {
    let (east, north): (f64, f64) = (StandardNormal.sample(rng), StandardNormal.sample(rng));
    let dec = (from.dec().0 + sigma_deg * north).clamp(-90.0, 90.0);
    // Close to a pole one step east is many degrees of right ascension; a whole turn is enough.
    let turn = (sigma_deg * east / dec.to_radians().cos().max(1e-9)).clamp(-180.0, 180.0);
    Ok(Position::new(Degrees(from.ra().0 + turn), Degrees(dec))?)
}

/// Density relative to the Galactic poles.
fn density(position: Position) -> Result<f64> {
    let pole = Position::new(Degrees(GALACTIC_POLE.0), Degrees(GALACTIC_POLE.1))?;
    let centre = Position::new(Degrees(GALACTIC_CENTRE.0), Degrees(GALACTIC_CENTRE.1))?;
    let latitude = 90.0 - separation(pole, position).0;
    let bulge = 1.0 + 2.0 * (-separation(centre, position).0 / BULGE_DEG).exp();
    Ok(1.0 + DISC * bulge * (-latitude.abs() / DISC_HEIGHT_DEG).exp())
}

/// Parts a number of objects over the cells by density. Cells at the poles and on right ascension 0 get at
/// least one each, where there are enough.
fn spread(objects: u64) -> Result<Vec<u64>> {
    let mut weights = Vec::with_capacity(CELLS as usize);
    let mut reserved = Vec::new();
    for cell in 0..CELLS {
        let centre = healpix_center(ORDER, cell)?;
        weights.push(density(centre)?);
        let from_zero = (centre.ra().0 + 180.0).rem_euclid(360.0) - 180.0;
        if pole_of_latitude(centre, cell)? || (from_zero * centre.dec().radians().cos()).abs() < 1.5 {
            reserved.push(cell as usize);
        }
    }
    let mut counts = vec![0; CELLS as usize];
    let mut left = objects;
    if objects >= 2 * reserved.len() as u64 {
        for cell in reserved {
            if let Some(count) = counts.get_mut(cell) {
                *count = 1;
                left -= 1;
            }
        }
    }
    let total: f64 = weights.iter().sum();
    let (mut sum, mut given) = (0.0, 0);
    for (count, weight) in counts.iter_mut().zip(&weights) {
        sum += weight;
        let until = ((sum / total * left as f64).round() as u64).clamp(given, left);
        *count += until - given;
        given = until;
    }
    if let Some(last) = counts.last_mut() {
        *last += left - given;
    }
    Ok(counts)
}

/// Whether a cell touches a pole; the cheap question first.
fn pole_of_latitude(centre: Position, cell: u64) -> Result<bool> {
    Ok(centre.dec().0.abs() > 85.0 && pole_of(cell)?.is_some())
}

fn draw_clusters(objects: u64, rng: &mut ChaCha8Rng) -> Result<Vec<Cluster>> {
    let number = (objects / 50).min(MOST_CLUSTERS);
    let mut drawn = Vec::new();
    for n in 0..number {
        let z: f64 = rng.random_range(-1.0..1.0);
        let mut centre = Position::new(Degrees(rng.random_range(0.0..360.0)), Degrees(z.asin().to_degrees()))?;
        // Every other one is an open cluster of the disc; none is near the Galactic poles, so that the contrast
        // of plane and poles is that of the field.
        let least = if n % 2 == 0 { DISC / 3.0 } else { 1.5 };
        while density(centre)? < least {
            let z: f64 = rng.random_range(-1.0..1.0);
            centre = Position::new(Degrees(rng.random_range(0.0..360.0)), Degrees(z.asin().to_degrees()))?;
        }
        let weight = rng.random::<f64>().powi(4) + 0.01;
        drawn.push((centre, rng.random_range(0.02..0.3), weight));
    }
    let total: f64 = drawn.iter().map(|(_, _, weight)| weight).sum();
    let (mut sum, mut given) = (0.0, 0);
    let mut clusters = Vec::with_capacity(drawn.len());
    for (centre, extent_deg, weight) in drawn {
        sum += weight;
        let until = ((sum / total * objects as f64).round() as u64).clamp(given, objects);
        clusters.push(Cluster { centre, extent_deg, members: until - given });
        given = until;
    }
    // Too few for any cluster: one holds them.
    if given < objects {
        let centre = Position::new(Degrees(GALACTIC_CENTRE.0), Degrees(GALACTIC_CENTRE.1))?;
        clusters.push(Cluster { centre, extent_deg: 0.2, members: objects - given });
    }
    Ok(clusters)
}

/// A seed of its own for each cell (the finaliser of SplitMix64).
pub(super) fn mix(seed: u64, cell: u64) -> u64 {
    let mut z = seed.wrapping_add((cell + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_object_has_a_cell_and_parts_cover_all_cells() {
        for objects in [1, 2, 57, 1_000, 54_321, 3_000_000] {
            let plan = SkyPlan::new(objects, 7).unwrap();
            assert_eq!((0..CELLS).map(|cell| plan.objects_in(cell)).sum::<u64>(), objects);
            let parts = plan.parts();
            assert_eq!(parts.iter().map(|part| part.cells.end - part.cells.start).sum::<u64>(), CELLS);
            assert!(parts.windows(2).all(|pair| pair[0].cells.end == pair[1].cells.start));
        }
    }

    #[test]
    fn plane_is_more_than_300_times_as_dense_as_the_galactic_poles() {
        let counts = spread(20_000_000).unwrap();
        let pole = Position::new(Degrees(GALACTIC_POLE.0), Degrees(GALACTIC_POLE.1)).unwrap();
        let mean = |latitudes: Range<f64>| {
            let inside: Vec<u64> = (0..CELLS)
                .filter(|cell| {
                    let latitude = 90.0 - separation(pole, healpix_center(ORDER, *cell).unwrap()).0;
                    latitudes.contains(&latitude.abs())
                })
                .map(|cell| counts[cell as usize])
                .collect();
            assert!(inside.len() > 20);
            inside.iter().sum::<u64>() as f64 / inside.len() as f64
        };
        let ratio = mean(0.0..1.0) / mean(80.0..90.0);
        assert!((300.0..3_000.0).contains(&ratio), "{ratio}");
    }
}
