//! Positions on the sphere, and the two angles between a pair of them.

use serde::{Deserialize, Serialize};

use crate::angle::Degrees;
use crate::error::{SkyError, declination, finite};

/// A position on the sky: ICRS right ascension in [0, 360) and declination in [-90, 90], always finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    ra_deg: f64,
    dec_deg: f64,
}

/// A direction as a vector of length one: x towards (0, 0), y towards (90, 0), z towards the north pole.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitVector {
    /// Towards right ascension 0, declination 0.
    pub x: f64,
    /// Towards right ascension 90, declination 0.
    pub y: f64,
    /// Towards the north celestial pole.
    pub z: f64,
}

impl Position {
    /// A position from right ascension (any finite value, reduced to [0, 360)) and declination.
    ///
    /// # Errors
    /// Where a coordinate is not finite, or the declination is outside [-90, 90].
    pub fn new(ra: Degrees, dec: Degrees) -> Result<Position, SkyError> {
        let ra_deg = reduce_ra(finite("right ascension", ra.0)?);
        Ok(Position { ra_deg, dec_deg: declination(dec.0)? })
    }

    /// A position from longitude and latitude in radians that are known to be finite.
    pub(crate) fn from_radians(ra: f64, dec: f64) -> Position {
        Position { ra_deg: reduce_ra(ra.to_degrees()), dec_deg: dec.to_degrees().clamp(-90.0, 90.0) }
    }

    /// Right ascension in [0, 360).
    pub fn ra(self) -> Degrees {
        Degrees(self.ra_deg)
    }

    /// Declination in [-90, 90].
    pub fn dec(self) -> Degrees {
        Degrees(self.dec_deg)
    }

    /// The direction of the position.
    pub fn unit_vector(self) -> UnitVector {
        UnitVector::from_radians(self.ra_deg.to_radians(), self.dec_deg.to_radians())
    }

    /// The nested HEALPix index of the position at order 29 (cells of 0.4 mas): what `_healpix_29` holds.
    pub fn healpix29(self) -> u64 {
        self.healpix(29)
    }

    /// The nested HEALPix index at an order the caller knows to be at most 29.
    pub(crate) fn healpix(self, order: u8) -> u64 {
        cdshealpix::nested::hash(order, self.ra_deg.to_radians(), self.dec_deg.to_radians())
    }
}

/// Right ascension reduced to [0, 360). A tiny negative angle rounds to 360, which is 0.
pub(crate) fn reduce_ra(ra_deg: f64) -> f64 {
    let reduced = ra_deg.rem_euclid(360.0);
    if reduced >= 360.0 || reduced == 0.0 { 0.0 } else { reduced }
}

impl UnitVector {
    /// The direction of a longitude and latitude in radians.
    pub(crate) fn from_radians(ra: f64, dec: f64) -> UnitVector {
        let (sin_ra, cos_ra) = ra.sin_cos();
        let (sin_dec, cos_dec) = dec.sin_cos();
        UnitVector { x: cos_ra * cos_dec, y: sin_ra * cos_dec, z: sin_dec }
    }

    /// Scalar product.
    pub(crate) fn dot(self, other: UnitVector) -> f64 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    /// The angle to another direction in radians, accurate from 0 to π.
    pub(crate) fn angle_rad(self, other: UnitVector) -> f64 {
        let cross = cross(self, other);
        norm(cross).atan2(self.dot(other))
    }

    /// The solid angle of the triangle of three directions in steradians, never negative (Van Oosterom &
    /// Strackee 1983, IEEE Trans. Biomed. Eng. 30, 125).
    pub(crate) fn triangle_sr(self, b: UnitVector, c: UnitVector) -> f64 {
        // a · (b × c) from the sides, which keeps its accuracy where the triangle is small.
        let side = |to: UnitVector| UnitVector { x: to.x - self.x, y: to.y - self.y, z: to.z - self.z };
        let volume = self.dot(cross(side(b), side(c))).abs();
        2.0 * volume.atan2(1.0 + self.dot(b) + b.dot(c) + c.dot(self))
    }

    /// The vector at right angles to the great circle from `self` to `other`, of length one;
    /// none where the two coincide or are opposite.
    pub(crate) fn great_circle_normal(self, other: UnitVector) -> Option<UnitVector> {
        // (a + b) × (b - a) = 2 a × b, but keeps its accuracy where a and b are close.
        let sum = UnitVector { x: self.x + other.x, y: self.y + other.y, z: self.z + other.z };
        let difference = UnitVector { x: other.x - self.x, y: other.y - self.y, z: other.z - self.z };
        normalised(cross(sum, difference))
    }

    /// The direction of a sum of vectors; none where it vanishes.
    pub(crate) fn mean(vectors: &[UnitVector]) -> Option<UnitVector> {
        let mut sum = UnitVector { x: 0.0, y: 0.0, z: 0.0 };
        for v in vectors {
            sum = UnitVector { x: sum.x + v.x, y: sum.y + v.y, z: sum.z + v.z };
        }
        normalised(sum)
    }

    /// Longitude in [-π, π] and latitude of the direction of a vector of any length, radians.
    pub(crate) fn longitude_latitude(self) -> (f64, f64) {
        (self.y.atan2(self.x), self.z.atan2(self.x.hypot(self.y)))
    }

    /// The opposite direction.
    pub(crate) fn opposite(self) -> UnitVector {
        UnitVector { x: -self.x, y: -self.y, z: -self.z }
    }
}

/// The vector product, at right angles to both; its length is the sine of the angle between them.
pub(crate) fn cross(a: UnitVector, b: UnitVector) -> UnitVector {
    UnitVector { x: a.y * b.z - a.z * b.y, y: a.z * b.x - a.x * b.z, z: a.x * b.y - a.y * b.x }
}

fn norm(v: UnitVector) -> f64 {
    v.dot(v).sqrt()
}

/// Below this length (about 0.2 nanoarcsec) a difference of unit vectors is rounding error.
const VANISHING: f64 = 1e-15;

/// The direction of a vector; none where it vanishes.
pub(crate) fn normalised(v: UnitVector) -> Option<UnitVector> {
    let length = norm(v);
    (length > VANISHING).then(|| UnitVector { x: v.x / length, y: v.y / length, z: v.z / length })
}

/// The angle between two positions along the great circle, in [0, 180] degrees.
///
/// Accurate for coincident, close, and opposite positions, and the same whichever comes first. From the
/// half-angle forms of the cosine rule: sin²(d/2) and cos²(d/2) are both sums of terms that are never negative.
pub fn separation(a: Position, b: Position) -> Degrees {
    let (sin_dra, cos_dra) = (0.5 * (a.ra_deg - b.ra_deg).to_radians()).sin_cos();
    let (dec_a, dec_b) = (a.dec_deg.to_radians(), b.dec_deg.to_radians());
    let sin_ddec = (0.5 * (a.dec_deg - b.dec_deg).to_radians()).sin();
    let sin_sum = (0.5 * (dec_a + dec_b)).sin();
    let cosines = dec_a.cos() * dec_b.cos();
    let sin2 = sin_ddec * sin_ddec + cosines * sin_dra * sin_dra;
    let cos2 = sin_sum * sin_sum + cosines * cos_dra * cos_dra;
    Degrees((2.0 * sin2.max(0.0).sqrt().atan2(cos2.max(0.0).sqrt())).to_degrees())
}

/// The direction from one position to another, in [0, 360) degrees from north through east.
///
/// 0 where the two coincide. At a pole north is taken along the position's own right ascension.
pub fn position_angle(from: Position, to: Position) -> Degrees {
    let dra = (to.ra_deg - from.ra_deg).to_radians();
    let (sin_from, _) = from.dec_deg.to_radians().sin_cos();
    let cos_to = to.dec_deg.to_radians().cos();
    let half = (0.5 * dra).sin();
    let east = dra.sin() * cos_to;
    // cos φ₁ sin φ₂ - sin φ₁ cos φ₂ cos Δ, written so that close positions do not cancel.
    let north = (to.dec_deg - from.dec_deg).to_radians().sin() + 2.0 * sin_from * cos_to * half * half;
    Degrees(reduce_ra(east.atan2(north).to_degrees()))
}
