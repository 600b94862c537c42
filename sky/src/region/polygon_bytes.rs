//! Convex polygons as bytes, in the form that scisql's `s2CPolyToBin` gave to columns of its tables.
//!
//! Little-endian numbers, three to a vector: the sum of the vertices, then for each edge twice the vector product of
//! its ends (which is towards the inside, whichever way round the vertices go). 24 · (n + 1) bytes for n vertices.

use crate::error::SkyError;
use crate::position::{Position, UnitVector, cross, normalised};
use crate::region::ConvexPolygon;
use crate::region::polygon::open_ring;

/// More vertices have no such form, as in scisql.
const MOST_VERTICES: usize = 20;

/// Bytes of a vector.
const VECTOR: usize = 24;

/// A corner where the direction changes by less than this is left out, for its place would be rounding error. What
/// the corners enclose grows by that, and is only used as a bound: the test of positions keeps all edges.
const FLAT_CORNER_RAD: f64 = 1e-4;

impl ConvexPolygon {
    /// The bytes of the polygon of these vertices, from 3 to 20 of them.
    ///
    /// # Errors
    /// As for [`ConvexPolygon::new`], and where there are more than 20 vertices.
    pub fn bytes_of(vertices: &[Position]) -> Result<Vec<u8>, SkyError> {
        let vertices = open_ring(vertices);
        if vertices.len() > MOST_VERTICES {
            return Err(SkyError::Polygon(format!(
                "only polygons of up to {MOST_VERTICES} vertices can be written as bytes, not of {}",
                vertices.len()
            )));
        }
        ConvexPolygon::new(vertices)?;
        let corners: Vec<UnitVector> = vertices.iter().map(|p| p.unit_vector()).collect();
        let last = corners.len() - 1;
        let total = corners[..last].iter().fold(corners[last], |sum, v| sum_of(sum, *v));
        let mut edges: Vec<UnitVector> =
            (0..=last).map(|i| doubled_product(corners[i], corners[(i + 1) % corners.len()])).collect();
        if edges.iter().any(|edge| edge.dot(total) < 0.0) {
            edges.iter_mut().for_each(|edge| *edge = edge.opposite());
        }
        let mut bytes = Vec::with_capacity(VECTOR * (corners.len() + 1));
        for v in std::iter::once(total).chain(edges) {
            bytes.extend([v.x, v.y, v.z].iter().flat_map(|component| component.to_le_bytes()));
        }
        Ok(bytes)
    }

    /// The polygon of bytes that [`ConvexPolygon::bytes_of`] or scisql wrote.
    ///
    /// # Errors
    /// Where the bytes are no convex polygon smaller than a hemisphere.
    pub fn from_bytes(bytes: &[u8]) -> Result<ConvexPolygon, SkyError> {
        let (vectors, rest) = bytes.as_chunks::<VECTOR>();
        if !rest.is_empty() || !(4..=MOST_VERTICES + 1).contains(&vectors.len()) {
            return Err(SkyError::Polygon(format!("{} bytes are none; it takes 24 · (vertices + 1)", bytes.len())));
        }
        // The sum of the vertices, which comes first, follows from the edges.
        let edges: Option<Vec<UnitVector>> = vectors[1..].iter().map(|bytes| normalised(vector_of(bytes))).collect();
        let edges = edges.ok_or_else(|| SkyError::Polygon("an edge in its bytes has no direction".to_owned()))?;
        let corners = corners_of(&edges)
            .ok_or_else(|| SkyError::Polygon("the edges in its bytes do not enclose a convex shape".to_owned()))?;
        ConvexPolygon::assembled(corners, edges)
    }
}

/// The corners where edges meet, counter-clockwise; none where the edges enclose no convex shape.
fn corners_of(edges: &[UnitVector]) -> Option<Vec<UnitVector>> {
    let mut turning: Vec<UnitVector> = Vec::with_capacity(edges.len());
    for edge in edges {
        if turning.last().is_none_or(|last| last.angle_rad(*edge) > FLAT_CORNER_RAD) {
            turning.push(*edge);
        }
    }
    while turning.len() > 3 && turning[turning.len() - 1].angle_rad(turning[0]) <= FLAT_CORNER_RAD {
        turning.pop();
    }
    if turning.len() < 3 {
        return None;
    }
    // Two edges after each other meet in a corner; where they go clockwise, in the opposite of this.
    let before = turning.iter().cycle().skip(turning.len() - 1);
    let corners: Option<Vec<UnitVector>> = before.zip(&turning).map(|(a, b)| normalised(cross(*a, *b))).collect();
    let mut corners = corners?;
    let (mut inside, mut outside) = (0.0_f64, 0.0_f64);
    for height in turning.iter().flat_map(|edge| corners.iter().map(|corner| edge.dot(*corner))) {
        inside = inside.max(height);
        outside = outside.max(-height);
    }
    if outside > inside {
        corners.iter_mut().for_each(|corner| *corner = corner.opposite());
        corners.reverse();
        (inside, outside) = (outside, inside);
    }
    (outside < 1e-3 * inside).then_some(corners)
}

fn sum_of(a: UnitVector, b: UnitVector) -> UnitVector {
    UnitVector { x: a.x + b.x, y: a.y + b.y, z: a.z + b.z }
}

/// (a + b) × (b - a), as scisql writes it and as the normals of edges are made from it.
fn doubled_product(a: UnitVector, b: UnitVector) -> UnitVector {
    cross(sum_of(a, b), sum_of(b, a.opposite()))
}

/// A vector of any length; NaN components are kept, and have no direction.
fn vector_of(bytes: &[u8; VECTOR]) -> UnitVector {
    let (components, _) = bytes.as_chunks::<8>();
    let [x, y, z] = [0, 1, 2].map(|i| components.get(i).map_or(f64::NAN, |c| f64::from_le_bytes(*c)));
    UnitVector { x, y, z }
}
