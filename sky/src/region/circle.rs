//! A circle on the sky: the cone search of every catalog.

use crate::angle::Degrees;
use crate::cap::{Cap, Relation, SLACK_RAD};
use crate::error::{SkyError, finite};
use crate::position::{Position, separation};

/// All positions within a radius of a centre, the border included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circle {
    center: Position,
    radius: Degrees,
    /// The same, as the tests of covers want it.
    cap: Cap,
}

impl Circle {
    /// A circle of radius 0 (its centre alone) to 180 degrees (the whole sky).
    ///
    /// # Errors
    /// Where the radius is not finite or outside [0, 180].
    pub fn new(center: Position, radius: Degrees) -> Result<Circle, SkyError> {
        finite("radius", radius.0)?;
        if !(0.0..=180.0).contains(&radius.0) {
            return Err(SkyError::RadiusOutOfRange(radius.0));
        }
        let cap = Cap { center: center.unit_vector(), radius_rad: radius.radians() };
        Ok(Circle { center, radius, cap })
    }

    /// The centre.
    pub fn center(&self) -> Position {
        self.center
    }

    /// The radius.
    pub fn radius(&self) -> Degrees {
        self.radius
    }

    /// Whether the position is no farther from the centre than the radius.
    pub fn contains(&self, p: Position) -> bool {
        separation(self.center, p).0 <= self.radius.0
    }

    /// The solid angle in steradians: 2π(1 - cos r), written so that small circles keep their digits.
    pub(crate) fn area_sr(&self) -> f64 {
        let sine = (0.5 * self.radius.radians()).sin();
        4.0 * std::f64::consts::PI * sine * sine
    }

    pub(crate) fn cap(&self) -> Cap {
        Cap { center: self.center.unit_vector(), radius_rad: self.radius.radians() }
    }

    pub(crate) fn relation(&self, cap: &Cap) -> Relation {
        let own = self.cap;
        let distance = own.center.angle_rad(cap.center);
        if distance > own.radius_rad + cap.radius_rad + SLACK_RAD {
            Relation::Outside
        } else if distance + cap.radius_rad + SLACK_RAD <= own.radius_rad {
            Relation::Inside
        } else {
            Relation::Partial
        }
    }
}
