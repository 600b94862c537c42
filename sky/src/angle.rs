//! Angles as types, so that degrees, arcseconds and radians are never mistaken for each other.

use std::fmt;

use serde::{Deserialize, Serialize};

const MAS_PER_DEGREE: f64 = 3_600_000.0;

/// An angle in degrees.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Degrees(pub f64);

/// An angle in seconds of arc (3,600 to the degree).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Arcsec(pub f64);

/// An angle in thousandths of a second of arc (3,600,000 to the degree), the unit of parallaxes.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Mas(pub f64);

/// An angle per Julian year (365.25 days), in thousandths of a second of arc: the unit of proper motions.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct MasPerYear(pub f64);

impl Mas {
    /// The same angle in radians.
    pub fn radians(self) -> f64 {
        (self.0 / MAS_PER_DEGREE).to_radians()
    }
}

impl MasPerYear {
    /// The same motion in radians per Julian year.
    pub fn radians_per_year(self) -> f64 {
        (self.0 / MAS_PER_DEGREE).to_radians()
    }

    pub(crate) fn from_radians_per_year(motion: f64) -> MasPerYear {
        MasPerYear(motion.to_degrees() * MAS_PER_DEGREE)
    }
}

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

impl fmt::Display for Mas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mas", self.0)
    }
}

impl fmt::Display for MasPerYear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mas/yr", self.0)
    }
}
