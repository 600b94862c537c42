//! A convex polygon with great-circle sides, as scisql's `s2PtInCPoly` defines it.

use crate::cap::{Cap, Relation, SLACK_RAD};
use crate::error::SkyError;
use crate::position::{Position, UnitVector, cross};

/// Vertices may lie on the wrong side of an edge by this much (0.2 microarcsec): rounding, not concavity.
const FLAT_RAD: f64 = 1e-12;

/// More vertices than this are refused: every contained position is compared with every edge.
const MOST_VERTICES: usize = 10_000;

/// A convex polygon smaller than a hemisphere, its border included.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvexPolygon {
    /// Counter-clockwise, seen from outside.
    corners: Vec<UnitVector>,
    /// For each edge the direction at right angles to its great circle, towards the inside.
    inward: Vec<UnitVector>,
    cap: Cap,
    area_sr: f64,
}

impl ConvexPolygon {
    /// A polygon from its vertices in order, clockwise or not; the last joins the first. A last vertex that
    /// repeats the first is dropped.
    ///
    /// # Errors
    /// Where there are fewer than three different vertices, two neighbours coincide or are opposite, the polygon
    /// is not convex, has no area, or does not fit in a hemisphere.
    pub fn new(vertices: &[Position]) -> Result<ConvexPolygon, SkyError> {
        let vertices = open_ring(vertices);
        if vertices.len() < 3 || vertices.len() > MOST_VERTICES {
            return Err(SkyError::Polygon(format!(
                "it takes 3 to {MOST_VERTICES} different vertices, not {}",
                vertices.len()
            )));
        }
        let mut corners: Vec<UnitVector> = vertices.iter().map(|p| p.unit_vector()).collect();
        let mut inward = Vec::with_capacity(corners.len());
        for (i, corner) in corners.iter().enumerate() {
            let next = corners[(i + 1) % corners.len()];
            inward.push(corner.great_circle_normal(next).ok_or_else(|| {
                SkyError::Polygon(format!("vertex {} coincides with the next or is opposite to it", i + 1))
            })?);
        }
        if is_clockwise(&inward, &corners)? {
            corners.reverse();
            inward.iter_mut().for_each(|normal| *normal = normal.opposite());
        }
        ConvexPolygon::assembled(corners, inward)
    }

    /// A polygon from its corners, counter-clockwise, and the inward normals of its edges.
    ///
    /// # Errors
    /// Where it does not fit in a hemisphere.
    pub(super) fn assembled(corners: Vec<UnitVector>, inward: Vec<UnitVector>) -> Result<ConvexPolygon, SkyError> {
        let cap = bounding_cap(&inward, &corners)?;
        let area_sr = fan_sr(&corners);
        Ok(ConvexPolygon { corners, inward, cap, area_sr })
    }

    /// Whether the position is in the polygon: on the inner side of every edge.
    pub fn contains(&self, p: Position) -> bool {
        self.holds(p.unit_vector())
    }

    /// Whether a direction is in the polygon.
    pub(super) fn holds(&self, v: UnitVector) -> bool {
        self.inward.iter().all(|normal| normal.dot(v) >= 0.0)
    }

    /// Counter-clockwise, seen from outside.
    pub(super) fn corners(&self) -> &[UnitVector] {
        &self.corners
    }

    /// For each edge the direction at right angles to its great circle, towards the inside.
    pub(super) fn inward(&self) -> &[UnitVector] {
        &self.inward
    }

    /// The centre of mass of the area. The integral of the direction over a polygon is half the sum of its inward
    /// normals times the lengths of its sides (Brock 1975, J. Math. Geol. 7, 89), which loses the digits of a small
    /// one; there the integral over triangles is taken by a rule of fifth degree, exact to rounding.
    pub(super) fn centroid(&self) -> Position {
        /// Where the two are equally good: both to some 1e-12 rad.
        const SMALL_RAD: f64 = 0.01;
        let mut sum = UnitVector { x: 0.0, y: 0.0, z: 0.0 };
        let mut add = |weight: f64, v: UnitVector| {
            sum = UnitVector { x: sum.x + weight * v.x, y: sum.y + weight * v.y, z: sum.z + weight * v.z };
        };
        match self.corners.split_first() {
            Some((first, others)) if self.cap.radius_rad < SMALL_RAD => {
                for side in others.windows(2) {
                    for (weight, v) in triangle_integral([*first, side[0], side[1]]) {
                        add(weight, v);
                    }
                }
            }
            _ => {
                for (i, corner) in self.corners.iter().enumerate() {
                    let next = self.corners[(i + 1) % self.corners.len()];
                    if let Some(normal) = corner.great_circle_normal(next) {
                        add(corner.angle_rad(next), normal);
                    }
                }
            }
        }
        let (ra, dec) = sum.longitude_latitude();
        Position::from_radians(ra, dec)
    }

    /// The solid angle in steradians.
    pub(crate) fn area_sr(&self) -> f64 {
        self.area_sr
    }

    pub(crate) fn cap(&self) -> Cap {
        self.cap
    }

    pub(crate) fn relation(&self, cap: &Cap) -> Relation {
        if !self.cap.meets(cap) {
            return Relation::Outside;
        }
        let reach = if cap.radius_rad < std::f64::consts::FRAC_PI_2 { cap.radius_rad.sin() } else { 1.0 };
        let mut relation = Relation::Inside;
        for normal in &self.inward {
            let height = normal.dot(cap.center);
            if height < -reach - SLACK_RAD {
                return Relation::Outside;
            }
            if height < reach + SLACK_RAD {
                relation = Relation::Partial;
            }
        }
        relation
    }
}

/// The vertices without a last one that repeats the first.
pub(super) fn open_ring(vertices: &[Position]) -> &[Position] {
    match vertices {
        [first, middle @ .., last] if !middle.is_empty() && first == last => &vertices[..vertices.len() - 1],
        _ => vertices,
    }
}

/// Whether the normals point away from the inside, every vertex being on the outer side of every edge.
fn is_clockwise(normals: &[UnitVector], corners: &[UnitVector]) -> Result<bool, SkyError> {
    let (mut lowest, mut highest) = (0.0_f64, 0.0_f64);
    let mut flat = false;
    for normal in normals {
        let mut away = 0.0_f64;
        for corner in corners {
            let height = normal.dot(*corner);
            lowest = lowest.min(height);
            highest = highest.max(height);
            away = away.max(height.abs());
        }
        flat |= away <= FLAT_RAD;
    }
    if flat {
        return Err(SkyError::Polygon("its vertices lie on one great circle, so it has no area".to_owned()));
    }
    if lowest >= -FLAT_RAD {
        Ok(false)
    } else if highest <= FLAT_RAD {
        Ok(true)
    } else {
        Err(SkyError::Polygon(
            "an edge has vertices on both sides; give the corners of a convex shape in order".to_owned(),
        ))
    }
}

/// The solid angle of a convex polygon, cut into triangles that share its first corner.
fn fan_sr(corners: &[UnitVector]) -> f64 {
    let Some((first, others)) = corners.split_first() else { return 0.0 };
    others.windows(2).map(|side| first.triangle_sr(side[0], side[1])).sum()
}

/// Vectors and weights whose sum is about six times the integral of the direction over a small triangle: seven points
/// of the flat triangle between its corners (Radon 1948, Monatsh. Math. 52, 286), each for the part of the sphere
/// that is seen through its part of the triangle.
fn triangle_integral([a, b, c]: [UnitVector; 3]) -> [(f64, UnitVector); 7] {
    let root = 15.0_f64.sqrt();
    let (near, far) = ((6.0 - root) / 21.0, (6.0 + root) / 21.0);
    let (near_weight, far_weight) = ((155.0 - root) / 1200.0, (155.0 + root) / 1200.0);
    let corner = |share: f64, weight: f64, i: usize| {
        let mut shares = [share; 3];
        shares[i] = 1.0 - 2.0 * share;
        (weight, shares)
    };
    let side = |to: UnitVector| UnitVector { x: to.x - a.x, y: to.y - a.y, z: to.z - a.z };
    let volume = a.dot(cross(side(b), side(c))).abs();
    [
        (9.0 / 40.0, [1.0 / 3.0; 3]),
        corner(near, near_weight, 0),
        corner(near, near_weight, 1),
        corner(near, near_weight, 2),
        corner(far, far_weight, 0),
        corner(far, far_weight, 1),
        corner(far, far_weight, 2),
    ]
    .map(|(weight, [p, q, r])| {
        let sum = |a: f64, b: f64, c: f64| p * a + q * b + r * c;
        let v = UnitVector { x: sum(a.x, b.x, c.x), y: sum(a.y, b.y, c.y), z: sum(a.z, b.z, c.z) };
        let length2 = v.dot(v);
        (weight * volume / (length2 * length2), v)
    })
}

/// A cap that holds the polygon. A cap smaller than a hemisphere is convex, so holding the corners is enough.
fn bounding_cap(inward: &[UnitVector], corners: &[UnitVector]) -> Result<Cap, SkyError> {
    let too_large = || SkyError::Polygon("it does not fit in a hemisphere; cut it into smaller polygons".to_owned());
    let mut best: Option<Cap> = None;
    // The mean of the corners is the tighter centre; the mean of the normals sees every corner of any convex
    // polygon within 90 degrees.
    for center in [UnitVector::mean(corners), UnitVector::mean(inward)].into_iter().flatten() {
        let radius_rad = corners.iter().map(|corner| center.angle_rad(*corner)).fold(0.0, f64::max) + SLACK_RAD;
        if best.is_none_or(|cap| radius_rad < cap.radius_rad) {
            best = Some(Cap { center, radius_rad });
        }
    }
    best.filter(|cap| cap.radius_rad < std::f64::consts::FRAC_PI_2).ok_or_else(too_large)
}
