//! Galactic coordinates: what ties positions of a catalog to the plane and the centre of the Galaxy.
//!
//! The system is that of the IAU 1958 (Blaauw et al. 1960, MNRAS 121, 123) as the Hipparcos Catalogue tied it to
//! ICRS (ESA 1997, SP-1200, vol. 1, section 1.5.3, eq. 1.5.11): the north galactic pole at right ascension
//! 192.85948 and declination 27.12825 deg, the ascending node of the galactic plane at longitude 32.93192 deg, by
//! definition without error. Gaia's `l` and `b` and SOFA's `iauIcrs2g` use the same. astropy goes by way of FK5
//! and differs by up to 25 mas.

use crate::angle::Degrees;
use crate::error::{SkyError, finite};
use crate::position::{Position, UnitVector, reduce_ra};

/// Rows: the galactic axes (towards the centre, towards longitude 90, towards the north pole) in ICRS. The ten
/// digits that ESA 1997 prints, carried on to sixteen from the same three angles as the documentation of Gaia's
/// data releases does, so that the matrix is orthogonal.
const GALACTIC_AXES: [UnitVector; 3] = [
    UnitVector { x: -0.054_875_560_416_215_4, y: -0.873_437_090_234_885, z: -0.483_835_015_548_713_2 },
    UnitVector { x: 0.494_109_427_875_583_7, y: -0.444_829_629_960_011_2, z: 0.746_982_244_497_219 },
    UnitVector { x: -0.867_666_149_019_004_7, y: -0.198_076_373_431_201_5, z: 0.455_983_776_175_066_9 },
];

/// A position in galactic coordinates (IAU 1958): longitude in [0, 360) and latitude in [-90, 90], always finite.
///
/// Longitude 0 points to the centre of the Galaxy (within 0.1 deg of Sagittarius A*), 90 along its rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GalacticPosition {
    l_deg: f64,
    b_deg: f64,
}

impl GalacticPosition {
    /// A position from galactic longitude (any finite value, reduced to [0, 360)) and latitude.
    ///
    /// # Errors
    /// Where a coordinate is not finite, or the latitude is outside [-90, 90].
    pub fn new(l: Degrees, b: Degrees) -> Result<GalacticPosition, SkyError> {
        let l_deg = reduce_ra(finite("galactic longitude", l.0)?);
        let b_deg = finite("galactic latitude", b.0)?;
        if !(-90.0..=90.0).contains(&b_deg) {
            return Err(SkyError::GalacticLatitude(b_deg));
        }
        Ok(GalacticPosition { l_deg, b_deg })
    }

    /// Galactic longitude in [0, 360).
    pub fn l(self) -> Degrees {
        Degrees(self.l_deg)
    }

    /// Galactic latitude in [-90, 90].
    pub fn b(self) -> Degrees {
        Degrees(self.b_deg)
    }
}

/// The galactic coordinates of an ICRS position. A rotation: epoch and distances stay as they are.
pub fn icrs_to_galactic(position: Position) -> GalacticPosition {
    let v = position.unit_vector();
    let [x, y, z] = GALACTIC_AXES.map(|axis| axis.dot(v));
    let (longitude, latitude) = UnitVector { x, y, z }.longitude_latitude();
    GalacticPosition { l_deg: reduce_ra(longitude.to_degrees()), b_deg: latitude.to_degrees().clamp(-90.0, 90.0) }
}

/// The ICRS position of galactic coordinates: the way back of [`icrs_to_galactic`].
pub fn galactic_to_icrs(galactic: GalacticPosition) -> Position {
    let v = UnitVector::from_radians(galactic.l_deg.to_radians(), galactic.b_deg.to_radians());
    let [centre, rotation, pole] = GALACTIC_AXES;
    let along = |c: f64, r: f64, p: f64| v.x * c + v.y * r + v.z * p;
    let (ra, dec) = UnitVector {
        x: along(centre.x, rotation.x, pole.x),
        y: along(centre.y, rotation.y, pole.y),
        z: along(centre.z, rotation.z, pole.z),
    }
    .longitude_latitude();
    Position::from_radians(ra, dec)
}
