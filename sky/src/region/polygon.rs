//! A convex polygon with great-circle sides, as scisql's `s2PtInCPoly` defines it.

use crate::cap::{Cap, Relation, SLACK_RAD};
use crate::error::SkyError;
use crate::position::{Position, UnitVector};

/// Vertices may lie on the wrong side of an edge by this much (0.2 microarcsec): rounding, not concavity.
const FLAT_RAD: f64 = 1e-12;

/// More vertices than this are refused: every contained position is compared with every edge.
const MOST_VERTICES: usize = 10_000;

/// A convex polygon smaller than a hemisphere, its border included.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvexPolygon {
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
        let vertices = match vertices {
            [first, middle @ .., last] if !middle.is_empty() && first == last => &vertices[..vertices.len() - 1],
            _ => vertices,
        };
        if vertices.len() < 3 || vertices.len() > MOST_VERTICES {
            return Err(SkyError::Polygon(format!(
                "it takes 3 to {MOST_VERTICES} different vertices, not {}",
                vertices.len()
            )));
        }
        let corners: Vec<UnitVector> = vertices.iter().map(|p| p.unit_vector()).collect();
        let mut normals = Vec::with_capacity(corners.len());
        for (i, corner) in corners.iter().enumerate() {
            let next = corners[(i + 1) % corners.len()];
            normals.push(corner.great_circle_normal(next).ok_or_else(|| {
                SkyError::Polygon(format!("vertex {} coincides with the next or is opposite to it", i + 1))
            })?);
        }
        let inward = oriented(normals, &corners)?;
        let cap = bounding_cap(&inward, &corners)?;
        Ok(ConvexPolygon { inward, cap, area_sr: fan_sr(&corners) })
    }

    /// Whether the position is in the polygon: on the inner side of every edge.
    pub fn contains(&self, p: Position) -> bool {
        let v = p.unit_vector();
        self.inward.iter().all(|normal| normal.dot(v) >= 0.0)
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

/// The normals turned so that every vertex is on the inner side of every edge.
fn oriented(normals: Vec<UnitVector>, corners: &[UnitVector]) -> Result<Vec<UnitVector>, SkyError> {
    let (mut lowest, mut highest) = (0.0_f64, 0.0_f64);
    let mut flat = false;
    for normal in &normals {
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
        Ok(normals)
    } else if highest <= FLAT_RAD {
        Ok(normals.into_iter().map(UnitVector::opposite).collect())
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
