//! Whether two regions have a position in common.
//!
//! A circle meets a shape that its centre is in, or whose border is no farther from the centre than the radius.
//! Convex polygons meet where a corner of one is in the other or two sides cross. An ellipse is a quadratic cone, and
//! a linear map makes it a circle of 45 degrees about an axis; what it is compared with goes through the same map.

use std::cmp::Ordering;
use std::f64::consts::{FRAC_PI_4, TAU};

use crate::orientation::orientation;
use crate::position::{UnitVector, cross, separation};
use crate::region::{Circle, ConvexPolygon, Ellipse, Region};

impl Region {
    /// Whether the regions have a position in common, borders included; the same whichever comes first. None unless
    /// both are circles, polygons or ellipses.
    ///
    /// Exact up to the rounding of angles: regions that touch in one point may be told either way.
    pub fn intersects(&self, other: &Region) -> Option<bool> {
        Some(match (self, other) {
            (Region::Circle(a), Region::Circle(b)) => {
                separation(a.center(), b.center()).0 <= a.radius().0 + b.radius().0
            }
            (Region::Circle(circle), Region::Polygon(polygon)) | (Region::Polygon(polygon), Region::Circle(circle)) => {
                circle_meets_polygon(circle, polygon)
            }
            (Region::Circle(circle), Region::Ellipse(ellipse)) | (Region::Ellipse(ellipse), Region::Circle(circle)) => {
                circle_meets_ellipse(circle, ellipse)
            }
            (Region::Polygon(a), Region::Polygon(b)) => polygons_meet(a, b),
            (Region::Polygon(polygon), Region::Ellipse(ellipse))
            | (Region::Ellipse(ellipse), Region::Polygon(polygon)) => ellipse_meets_polygon(ellipse, polygon),
            (Region::Ellipse(a), Region::Ellipse(b)) => ellipses_meet(a, b),
            _ => return None,
        })
    }
}

fn circle_meets_polygon(circle: &Circle, polygon: &ConvexPolygon) -> bool {
    let center = circle.center().unit_vector();
    polygon.holds(center) || distance_to_sides_rad(center, polygon.corners()) <= circle.radius().radians()
}

fn circle_meets_ellipse(circle: &Circle, ellipse: &Ellipse) -> bool {
    if ellipse.is_empty() {
        return false;
    }
    let center = circle.center().unit_vector();
    ellipse.contains(circle.center())
        || least_around(|turn| center.angle_rad(ellipse.border(turn))) <= circle.radius().radians()
}

fn polygons_meet(a: &ConvexPolygon, b: &ConvexPolygon) -> bool {
    if !a.cap().meets(&b.cap()) {
        return false;
    }
    a.corners().iter().any(|corner| b.holds(*corner))
        || b.corners().iter().any(|corner| a.holds(*corner))
        || sides(a.corners()).any(|side| sides(b.corners()).any(|other| cross_each_other(side, other)))
}

fn ellipse_meets_polygon(ellipse: &Ellipse, polygon: &ConvexPolygon) -> bool {
    if ellipse.is_empty() || !ellipse.cap().meets(&polygon.cap()) {
        return false;
    }
    if polygon.contains(ellipse.center()) {
        return true;
    }
    let corners: Vec<UnitVector> = polygon.corners().iter().filter_map(|corner| ellipse.rounded(*corner)).collect();
    distance_to_sides_rad(AXIS, &corners) <= FRAC_PI_4
}

fn ellipses_meet(a: &Ellipse, b: &Ellipse) -> bool {
    if a.is_empty() || b.is_empty() || !a.cap().meets(&b.cap()) {
        return false;
    }
    // The map of a round ellipse stretches the other the least, so that steps around that one stay even.
    let (a, b) = if a.is_rounder_than(b) { (a, b) } else { (b, a) };
    a.contains(b.center())
        || b.contains(a.center())
        || least_around(|turn| match a.rounded(b.border(turn)) {
            Some(v) => AXIS.angle_rad(v),
            None => 0.0,
        }) <= FRAC_PI_4
}

/// Where [`Ellipse::rounded`] puts the centre of the ellipse.
pub(super) const AXIS: UnitVector = UnitVector { x: 0.0, y: 0.0, z: 1.0 };

/// The sides of a polygon, each from a corner to the next.
fn sides(corners: &[UnitVector]) -> impl Iterator<Item = [UnitVector; 2]> {
    let next = corners.iter().cycle().skip(1);
    corners.iter().zip(next).map(|(from, to)| [*from, *to])
}

/// The angle from a direction to the nearest point on the sides of a polygon.
pub(super) fn distance_to_sides_rad(v: UnitVector, corners: &[UnitVector]) -> f64 {
    sides(corners).map(|side| distance_to_arc_rad(v, side)).fold(f64::INFINITY, f64::min)
}

fn distance_to_arc_rad(v: UnitVector, [from, to]: [UnitVector; 2]) -> f64 {
    if let Some(normal) = from.great_circle_normal(to) {
        // The nearest point of the great circle is on the arc where the direction lies between the planes through
        // the ends that stand on the arc at right angles.
        let between = cross(normal, from).dot(v) >= 0.0 && cross(to, normal).dot(v) >= 0.0;
        if between {
            return normal.dot(v).abs().min(1.0).asin();
        }
    }
    v.angle_rad(from).min(v.angle_rad(to))
}

/// Whether two arcs cross in a point that is an end of neither. Arcs that only touch are left to the test of corners.
fn cross_each_other([a, b]: [UnitVector; 2], [c, d]: [UnitVector; 2]) -> bool {
    let first = orientation(a, c, b);
    first != Ordering::Equal
        && orientation(c, b, d) == first
        && orientation(b, d, a) == first
        && orientation(d, a, c) == first
}

/// The least value of a smooth function on the full circle.
///
/// The angle from a point to a curve such as an ellipse has at most two minima on the circle. The steps find their
/// neighbourhoods, and golden sections (Kiefer 1953, Proc. Am. Math. Soc. 4, 502) the least value of each.
pub(super) fn least_around(value: impl Fn(f64) -> f64) -> f64 {
    const STEPS: usize = 256;
    const SECTIONS: usize = 60;
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let step = TAU / STEPS as f64;
    let values: Vec<f64> = (0..STEPS).map(|i| value(step * i as f64)).collect();
    let mut least = f64::INFINITY;
    for (i, here) in values.iter().enumerate() {
        if *here > values[(i + STEPS - 1) % STEPS] || *here > values[(i + 1) % STEPS] {
            continue;
        }
        let (mut low, mut high) = (step * (i as f64 - 1.0), step * (i as f64 + 1.0));
        let (mut left, mut right) = (high - golden * (high - low), low + golden * (high - low));
        let (mut at_left, mut at_right) = (value(left), value(right));
        for _ in 0..SECTIONS {
            if at_left < at_right {
                (high, right, at_right) = (right, left, at_left);
                left = high - golden * (high - low);
                at_left = value(left);
            } else {
                (low, left, at_left) = (left, right, at_right);
                right = low + golden * (high - low);
                at_right = value(right);
            }
        }
        least = least.min(*here).min(at_left).min(at_right);
    }
    least
}
