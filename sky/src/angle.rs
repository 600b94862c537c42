//! Angles as types, so that degrees, arcseconds and radians are never mistaken for each other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An angle in degrees.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Degrees(pub f64);

/// An angle in seconds of arc (3,600 to the degree).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Arcsec(pub f64);

impl Degrees {
    /// The same angle in radians.
    pub fn radians(self) -> f64 {
        self.0.to_radians()
    }
}

impl From<Arcsec> for Degrees {
    fn from(angle: Arcsec) -> Self {
        Degrees(angle.0 / 3600.0)
    }
}

impl From<Degrees> for Arcsec {
    fn from(angle: Degrees) -> Self {
        Arcsec(angle.0 * 3600.0)
    }
}

impl fmt::Display for Degrees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} deg", self.0)
    }
}

impl fmt::Display for Arcsec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} arcsec", self.0)
    }
}
