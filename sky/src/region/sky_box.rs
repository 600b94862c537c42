//! A box of right ascension and declination, as Qserv's and scisql's box functions define it.

use crate::angle::Degrees;
use crate::error::{SkyError, declination, finite};
use crate::position::{Position, reduce_ra};
use crate::ra_interval::RaInterval;
use crate::region::RaDecBox;

/// A box between two right ascensions and two declinations, edges included (scisql's `s2PtInBox`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkyBox {
    /// Western and eastern edge in [0, 360); none where the box is the full circle.
    ra: Option<(f64, f64)>,
    dec_min: f64,
    dec_max: f64,
}

impl SkyBox {
    /// A box that runs east from `ra_min` to `ra_max` and north from `dec_min` to `dec_max`.
    ///
    /// Right ascensions are reduced to [0, 360); where the first is then the larger, the box crosses 0.
    /// A span of 360 degrees or more is the full circle. `dec_min > dec_max` makes an empty box.
    ///
    /// # Errors
    /// Where a number is not finite, a declination is outside [-90, 90], or `ra_min > ra_max` while one of
    /// them is outside [0, 360] (which would leave open which way round is meant).
    pub fn new(ra_min: Degrees, dec_min: Degrees, ra_max: Degrees, dec_max: Degrees) -> Result<SkyBox, SkyError> {
        let (west, east) = (finite("right ascension", ra_min.0)?, finite("right ascension", ra_max.0)?);
        let (dec_min, dec_max) = (declination(dec_min.0)?, declination(dec_max.0)?);
        if east < west && (east < 0.0 || west > 360.0) {
            return Err(SkyError::BoxOutOfOrder { ra_min: west, ra_max: east });
        }
        let ra = (east - west < 360.0).then(|| (reduce_ra(west), reduce_ra(east)));
        Ok(SkyBox { ra, dec_min, dec_max })
    }

    /// Whether the position is in the box.
    pub fn contains(&self, p: Position) -> bool {
        let (ra, dec) = (p.ra().0, p.dec().0);
        let in_ra = match self.ra {
            None => true,
            Some((west, east)) if west <= east => ra >= west && ra <= east,
            Some((west, east)) => ra >= west || ra <= east,
        };
        in_ra && dec >= self.dec_min && dec <= self.dec_max
    }

    /// The solid angle in steradians, 0 where the box is empty.
    pub(crate) fn area_sr(&self) -> f64 {
        self.bounds().map_or(0.0, |bounds| {
            let (south, north) = (bounds.dec_min.to_radians(), bounds.dec_max.to_radians());
            // sin(north) - sin(south), written so that low boxes keep their digits.
            let height = 2.0 * (0.5 * (north + south)).cos() * (0.5 * (north - south)).sin();
            bounds.ra.width().to_radians() * height.max(0.0)
        })
    }

    /// The box, or none where it is empty.
    pub(crate) fn bounds(&self) -> Option<RaDecBox> {
        let ra = self.ra.map_or(RaInterval::FULL, |(west, east)| RaInterval::eastward(west, east));
        (self.dec_min <= self.dec_max).then_some(RaDecBox { ra, dec_min: self.dec_min, dec_max: self.dec_max })
    }
}
