//! Positions at another epoch: catalogs of different years agree only after their stars have been moved.
//!
//! A star moves through space in a straight line at constant speed, seen from the barycentre of the solar system.
//! The formulas are the rigorous ones of ESA 1997 (The Hipparcos and Tycho Catalogues, SP-1200, vol. 1, section
//! 1.5.5), in the vector form of Butkevich & Lindegren 2014 (A&A 570, A62, section 3.1); `EPOCH_PROP` of the Gaia
//! archive uses them too. The time light takes to arrive is left out, here and there: catalogs do not account for
//! it, and it moves even Barnard's star by only about 1 mas in a century.

use crate::angle::{Mas, MasPerYear};
use crate::error::{SkyError, finite};
use crate::position::{Position, UnitVector};

/// The astronomical unit (IAU 2012 resolution B2) per Julian year, km/s: 4.7404704636.
const AU_PER_JYEAR_KM_S: f64 = 149_597_870.7 / (365.25 * 86_400.0);

/// Where a star is and how it moves, ICRS, seen from the barycentre of the solar system at some epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Astrometry {
    /// The position at the epoch.
    pub position: Position,
    /// The parallax; none where it is not known.
    pub parallax: Option<Mas>,
    /// Proper motion in right ascension times the cosine of the declination (μα*), as catalogs give it.
    pub pm_ra: MasPerYear,
    /// Proper motion in declination.
    pub pm_dec: MasPerYear,
    /// Radial velocity in km/s, positive away from the Sun; none where it is not known.
    pub radial_velocity_km_s: Option<f64>,
}

impl Astrometry {
    /// The same star at another epoch. Both epochs are Julian years (TCB or TDB, which are alike here): Gaia DR3
    /// is given for 2016.0, Hipparcos for 1991.25.
    ///
    /// Where parallax or radial velocity is missing or 0, or the parallax is negative, proper motion alone moves
    /// the star: along a great circle, as one that has no radial motion at the first epoch. A missing number
    /// stays missing, and without a parallax above 0 both parallax and radial velocity stay as they are, for
    /// their change cannot be known. Proper motions that are not known are the caller's to replace, by 0 say.
    ///
    /// # Errors
    /// Where a number is not finite, or the star would run through the Sun at the new epoch.
    pub fn propagated(&self, from_jyear: f64, to_jyear: f64) -> Result<Astrometry, SkyError> {
        let years = finite("epoch", to_jyear)? - finite("epoch", from_jyear)?;
        let pm_ra = finite("proper motion in right ascension", self.pm_ra.0)?;
        let pm_dec = finite("proper motion in declination", self.pm_dec.0)?;
        let parallax = self.parallax.map(|parallax| finite("parallax", parallax.0)).transpose()?;
        let velocity = self.radial_velocity_km_s.map(|v| finite("radial velocity", v)).transpose()?;
        if years == 0.0 {
            return Ok(*self);
        }
        let distant = parallax.is_none_or(|parallax| parallax <= 0.0);

        // Motion per year in units of the distance: across the line of sight, and along it.
        let [east, north, towards] = triad(self.position);
        let (pm_ra, pm_dec) = (MasPerYear(pm_ra).radians_per_year(), MasPerYear(pm_dec).radians_per_year());
        let across = combined([(pm_ra, east), (pm_dec, north)]);
        let along = match (parallax, velocity) {
            (Some(parallax), Some(velocity)) if !distant => velocity * Mas(parallax).radians() / AU_PER_JYEAR_KM_S,
            _ => 0.0,
        };

        // The first distance over the new one.
        let across2 = pm_ra * pm_ra + pm_dec * pm_dec;
        let receding = 1.0 + along * years;
        let ratio = 1.0 / receding.hypot(across2.sqrt() * years);
        let moved = combined([(ratio * receding, towards), (ratio * years, across)]);
        let ratio3 = ratio * ratio * ratio;
        let motion = combined([(ratio3 * receding, across), (-ratio3 * across2 * years, towards)]);
        let along = (along + (across2 + along * along) * years) * ratio * ratio;
        if ![ratio3, motion.dot(motion), along].iter().all(|number| number.is_finite()) {
            return Err(SkyError::Motion { from_jyear, to_jyear });
        }

        let (ra, dec) = moved.longitude_latitude();
        let position = Position::from_radians(ra, dec);
        let [east, north, _] = triad(position);
        let propagated = Astrometry {
            position,
            pm_ra: MasPerYear::from_radians_per_year(motion.dot(east)),
            pm_dec: MasPerYear::from_radians_per_year(motion.dot(north)),
            ..*self
        };
        if distant {
            return Ok(propagated);
        }
        let parallax = parallax.map(|parallax| Mas(parallax * ratio));
        let speed = parallax.map(|parallax| along * AU_PER_JYEAR_KM_S / parallax.radians());
        Ok(Astrometry { parallax, radial_velocity_km_s: velocity.and(speed), ..propagated })
    }
}

/// Directions at a position: east, north, and to the position itself. At a pole east is taken along the
/// position's own right ascension.
fn triad(position: Position) -> [UnitVector; 3] {
    let (sin_ra, cos_ra) = position.ra().radians().sin_cos();
    let (sin_dec, cos_dec) = position.dec().radians().sin_cos();
    [
        UnitVector { x: -sin_ra, y: cos_ra, z: 0.0 },
        UnitVector { x: -sin_dec * cos_ra, y: -sin_dec * sin_ra, z: cos_dec },
        position.unit_vector(),
    ]
}

fn combined([(s, a), (t, b)]: [(f64, UnitVector); 2]) -> UnitVector {
    UnitVector { x: s * a.x + t * b.x, y: s * a.y + t * b.y, z: s * a.z + t * b.z }
}
