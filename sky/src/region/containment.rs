//! Whether one region lies in another.
//!
//! Circles of up to 90 degrees, polygons and ellipses are convex, so a polygon lies in one where its corners do. A
//! curve lies in one where its farthest point does: from the centre of a circle, or in the direction of a side of a
//! polygon away from its inside. What a circle of more than 90 degrees holds is what the circle around the opposite
//! point leaves free. An ellipse is made round first, as in [`super::intersection`].

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI, TAU};

use crate::position::{UnitVector, separation};
use crate::region::intersection::{AXIS, least_around};
use crate::region::{Circle, ConvexPolygon, Ellipse, Region};

/// Rounding of an angle: two ways to the same one differ by a few times this.
const ROUNDING_RAD: f64 = 4.0 * f64::EPSILON;

impl Region {
    /// Whether every position of the other region is in this one, borders included. None unless both are circles,
    /// polygons or ellipses.
    ///
    /// Exact up to the rounding of angles: a region that touches the border of this one may be told either way. A
    /// region without a position lies nowhere.
    pub fn holds_region(&self, other: &Region) -> Option<bool> {
        Some(match (self, other) {
            (Region::Circle(outer), Region::Circle(inner)) => {
                separation(outer.center(), inner.center()).0 + inner.radius().0 <= outer.radius().0
            }
            (Region::Circle(outer), Region::Polygon(inner)) => circle_holds_polygon(outer, inner),
            (Region::Circle(outer), Region::Ellipse(inner)) => {
                let farthest = farthest_rad(outer.center().unit_vector(), |turn| inner.border(turn));
                !inner.is_empty() && farthest <= outer.radius().radians()
            }
            (Region::Polygon(outer), Region::Polygon(inner)) => inner.corners().iter().all(|c| outer.holds(*c)),
            (Region::Polygon(outer), Region::Circle(inner)) => {
                let center = inner.center().unit_vector();
                // The distance from a side, positive inside.
                let room = |side: &UnitVector| FRAC_PI_2 - side.angle_rad(center);
                outer.inward().iter().all(|side| room(side) + ROUNDING_RAD >= inner.radius().radians())
            }
            (Region::Polygon(outer), Region::Ellipse(inner)) => {
                let within =
                    |side: &UnitVector| farthest_rad(*side, |turn| inner.border(turn)) <= FRAC_PI_2 + ROUNDING_RAD;
                !inner.is_empty() && outer.inward().iter().all(within)
            }
            (Region::Ellipse(outer), Region::Circle(inner)) => ellipse_holds(outer, |turn| rim(inner, turn)),
            (Region::Ellipse(outer), Region::Ellipse(inner)) => {
                !inner.is_empty() && ellipse_holds(outer, |turn| inner.border(turn))
            }
            (Region::Ellipse(outer), Region::Polygon(inner)) => {
                let angle = |corner: &UnitVector| outer.rounded(*corner).map_or(PI, |v| AXIS.angle_rad(v));
                !outer.is_empty() && inner.corners().iter().all(|corner| angle(corner) <= FRAC_PI_4 + ROUNDING_RAD)
            }
            _ => return None,
        })
    }
}

fn circle_holds_polygon(outer: &Circle, inner: &ConvexPolygon) -> bool {
    let center = outer.center().unit_vector();
    let radius = outer.radius().radians();
    if inner.corners().iter().any(|corner| center.angle_rad(*corner) > radius + ROUNDING_RAD) {
        return false;
    }
    // Between corners that are inside, a side may leave a circle of more than a hemisphere on the other side.
    let opposite = center.opposite();
    radius <= FRAC_PI_2
        || !(inner.holds(opposite)
            || super::intersection::distance_to_sides_rad(opposite, inner.corners()) < PI - radius)
}

/// Whether a closed curve about a convex region is in the ellipse.
fn ellipse_holds(outer: &Ellipse, curve: impl Fn(f64) -> UnitVector) -> bool {
    let angle = |turn| outer.rounded(curve(turn)).map_or(PI, |v| AXIS.angle_rad(v));
    !outer.is_empty() && -least_around(|turn| -angle(turn)) <= FRAC_PI_4 + ROUNDING_RAD
}

/// The angle from a direction to the farthest point of a closed curve.
fn farthest_rad(v: UnitVector, curve: impl Fn(f64) -> UnitVector) -> f64 {
    -least_around(|turn| -v.angle_rad(curve(turn)))
}

/// A direction on the border of a circle, for an angle from 0 to 2π around it.
fn rim(circle: &Circle, turn: f64) -> UnitVector {
    let center = circle.center();
    let (ra, dec) = (center.ra().radians(), center.dec().radians());
    let (sine, cosine) = circle.radius().radians().sin_cos();
    let (east, north) = (turn.rem_euclid(TAU)).sin_cos();
    let towards = center.unit_vector();
    UnitVector {
        x: cosine * towards.x + sine * (-east * ra.sin() - north * dec.sin() * ra.cos()),
        y: cosine * towards.y + sine * (east * ra.cos() - north * dec.sin() * ra.sin()),
        z: cosine * towards.z + sine * north * dec.cos(),
    }
}
