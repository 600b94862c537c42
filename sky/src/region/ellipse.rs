//! An ellipse on the sky, as scisql's `s2PtInEllipse` defines it.

use std::f64::consts::TAU;

use crate::angle::{Arcsec, Degrees};
use crate::cap::{Cap, Relation, SLACK_RAD};
use crate::error::{SkyError, finite};
use crate::position::{Position, UnitVector, normalised};

const LARGEST_AXIS_ARCSEC: f64 = 36_000.0;

/// An ellipse drawn on the tangent plane of its centre (orthographic projection), the border included.
///
/// With an axis of length 0 it is empty, as in scisql. Unlike scisql it does not hold its own mirror image around
/// the opposite point of the sky.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ellipse {
    center: Position,
    /// Semi-axes in radians, the major one first.
    major_rad: f64,
    minor_rad: f64,
    /// Directions of the centre and, at right angles to it, of the two axes.
    frame: [UnitVector; 3],
}

impl Ellipse {
    /// An ellipse from its semi-axes and the position angle of the major one (degrees from north through east).
    ///
    /// # Errors
    /// Where a number is not finite, or the axes are not 0 ≤ minor ≤ major ≤ 36,000 arcsec (10 degrees).
    pub fn new(
        center: Position,
        semi_major: Arcsec,
        semi_minor: Arcsec,
        position_angle: Degrees,
    ) -> Result<Ellipse, SkyError> {
        let major = finite("semi-major axis", semi_major.0)?;
        let minor = finite("semi-minor axis", semi_minor.0)?;
        finite("position angle", position_angle.0)?;
        if !(0.0 <= minor && minor <= major && major <= LARGEST_AXIS_ARCSEC) {
            return Err(SkyError::EllipseAxes { semi_major: major, semi_minor: minor });
        }
        Ok(Ellipse {
            center,
            major_rad: Degrees::from(semi_major).radians(),
            minor_rad: Degrees::from(semi_minor).radians(),
            frame: frame(center, position_angle),
        })
    }

    /// The centre.
    pub fn center(&self) -> Position {
        self.center
    }

    /// Whether the position is in the ellipse.
    pub fn contains(&self, p: Position) -> bool {
        let (x, y, towards) = self.coordinates(p.unit_vector());
        let (x, y) = (x / self.major_rad, y / self.minor_rad);
        // With an axis of length 0 this compares with NaN or infinity: false.
        towards > 0.0 && x * x + y * y <= 1.0
    }

    /// The solid angle in steradians.
    ///
    /// On the tangent plane an element of the sphere is foreshortened by the cosine of its distance from the
    /// centre. In coordinates of the ellipse (x = aρ cos t, y = bρ sin t) the integral over ρ is elementary, and
    /// leaves ab ∫ dt / (1 + √(1 - q)) over the full turn, with q = a² cos² t + b² sin² t.
    pub(crate) fn area_sr(&self) -> f64 {
        // Equal steps over a period converge faster than any power: with axes up to 10 degrees 16 steps leave
        // nothing but rounding.
        const STEPS: u32 = 16;
        let (a2, b2) = (self.major_rad * self.major_rad, self.minor_rad * self.minor_rad);
        let mut sum = 0.0;
        for step in 0..STEPS {
            let (sine, cosine) = (TAU * f64::from(step) / f64::from(STEPS)).sin_cos();
            let q = a2 * cosine * cosine + b2 * sine * sine;
            sum += 1.0 / (1.0 + (1.0 - q).sqrt());
        }
        self.major_rad * self.minor_rad * sum * TAU / f64::from(STEPS)
    }

    /// Whether an axis is of length 0, so that no position is in the ellipse.
    pub(super) fn is_empty(&self) -> bool {
        self.minor_rad == 0.0
    }

    /// Whether its axes are more alike than those of the other.
    pub(super) fn is_rounder_than(&self, other: &Ellipse) -> bool {
        self.minor_rad * other.major_rad > other.minor_rad * self.major_rad
    }

    /// A direction on the border, for an angle from 0 to 2π around it.
    pub(super) fn border(&self, turn: f64) -> UnitVector {
        let (sine, cosine) = turn.sin_cos();
        let (x, y) = (self.major_rad * cosine, self.minor_rad * sine);
        let towards = (1.0 - x * x - y * y).sqrt();
        let [center, major, minor] = self.frame;
        let component = |c: f64, a: f64, b: f64| towards * c + x * a + y * b;
        UnitVector {
            x: component(center.x, major.x, minor.x),
            y: component(center.y, major.y, minor.y),
            z: component(center.z, major.z, minor.z),
        }
    }

    /// A direction after the linear map that takes the cone of this ellipse to the round one of 45 degrees about
    /// the third axis. Great circles stay great circles.
    ///
    /// Of a direction (x, y, z) along the axes and the centre, x²/a² + y²/b² ≤ x² + y² + z² with z > 0 says that
    /// it is in the ellipse: a quadratic cone.
    pub(super) fn rounded(&self, v: UnitVector) -> Option<UnitVector> {
        let (x, y, towards) = self.coordinates(v);
        let stretched = |c: f64, axis: f64| c * (1.0 - axis * axis).sqrt() / axis;
        normalised(UnitVector { x: stretched(x, self.major_rad), y: stretched(y, self.minor_rad), z: towards })
    }

    /// A cap that holds the ellipse: the projection stretches angles by arcsin.
    pub(crate) fn cap(&self) -> Cap {
        Cap { center: self.frame[0], radius_rad: self.major_rad.asin() + SLACK_RAD }
    }

    pub(crate) fn relation(&self, cap: &Cap) -> Relation {
        if self.minor_rad == 0.0 || !self.cap().meets(cap) {
            return Relation::Outside;
        }
        // On the tangent plane the cap lies within a disc of its own radius: projecting never lengthens.
        let (x, y, towards) = self.coordinates(cap.center);
        let radius = cap.radius_rad + SLACK_RAD;
        if x.abs() > self.major_rad + radius || y.abs() > self.minor_rad + radius {
            return Relation::Outside;
        }
        // The ellipse grown by the disc lies within one whose squared axes are (1+k)a² + (1+1/k)r², for any k.
        let k = radius / (self.major_rad * self.minor_rad).sqrt();
        let grown = |axis: f64| (1.0 + k) * axis * axis + (1.0 + 1.0 / k) * radius * radius;
        if x * x / grown(self.major_rad) + y * y / grown(self.minor_rad) > 1.0 {
            return Relation::Outside;
        }
        // Over a disc of radius r the ellipse's norm changes by at most r / minor axis.
        let norm = (x / self.major_rad).hypot(y / self.minor_rad);
        if towards > radius && norm + radius / self.minor_rad <= 1.0 { Relation::Inside } else { Relation::Partial }
    }

    /// Coordinates along the major axis, along the minor axis, and towards the centre.
    fn coordinates(&self, v: UnitVector) -> (f64, f64, f64) {
        let [center, major, minor] = self.frame;
        (v.dot(major), v.dot(minor), v.dot(center))
    }
}

fn frame(center: Position, position_angle: Degrees) -> [UnitVector; 3] {
    let (sin_ra, cos_ra) = center.ra().radians().sin_cos();
    let (sin_dec, cos_dec) = center.dec().radians().sin_cos();
    let (sin_pa, cos_pa) = position_angle.radians().sin_cos();
    let north = UnitVector { x: -sin_dec * cos_ra, y: -sin_dec * sin_ra, z: cos_dec };
    let east = UnitVector { x: -sin_ra, y: cos_ra, z: 0.0 };
    let turned = |n: f64, e: f64| UnitVector {
        x: n * north.x + e * east.x,
        y: n * north.y + e * east.y,
        z: n * north.z + e * east.z,
    };
    [center.unit_vector(), turned(cos_pa, sin_pa), turned(-sin_pa, cos_pa)]
}
