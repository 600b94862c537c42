//! Limits on right ascension and declination as plain numbers: what `ra BETWEEN a AND b` means.

use crate::angle::Degrees;
use crate::error::SkyError;
use crate::position::Position;
use crate::ra_interval::RaInterval;
use crate::region::RaDecBox;

/// Positions whose stored right ascension and declination lie between limits, the limits included.
///
/// Unlike a box it never crosses right ascension 0 and it knows no poles: numbers are compared as they are
/// stored, where right ascension is in [0, 360]. A low limit above its high limit makes it empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RaDecRange {
    ra_min: Option<f64>,
    ra_max: Option<f64>,
    dec_min: Option<f64>,
    dec_max: Option<f64>,
}

impl RaDecRange {
    /// A range; a limit that is `None` is open. Limits may lie outside the values an angle can have.
    ///
    /// An open limit on right ascension is read as 0 or 360, so it must only be used on columns whose values lie
    /// in [0, 360]. Two limits on a side also cover values that are stored as other turns of the circle.
    ///
    /// # Errors
    /// Where a limit is NaN. An infinite limit is an open one.
    pub fn new(
        ra_min: Option<Degrees>,
        ra_max: Option<Degrees>,
        dec_min: Option<Degrees>,
        dec_max: Option<Degrees>,
    ) -> Result<RaDecRange, SkyError> {
        Ok(RaDecRange {
            ra_min: limit("right ascension", ra_min, f64::NEG_INFINITY)?,
            ra_max: limit("right ascension", ra_max, f64::INFINITY)?,
            dec_min: limit("declination", dec_min, f64::NEG_INFINITY)?,
            dec_max: limit("declination", dec_max, f64::INFINITY)?,
        })
    }

    /// Whether the position's numbers lie within the limits. Right ascension 0 counts as 360 as well, because a
    /// stored 360 is the same position.
    pub fn contains(&self, p: Position) -> bool {
        let (ra, dec) = (p.ra().0, p.dec().0);
        let in_ra = between(ra, self.ra_min, self.ra_max) || (ra == 0.0 && between(360.0, self.ra_min, self.ra_max));
        in_ra && between(dec, self.dec_min, self.dec_max)
    }

    /// A box that holds every position within the limits, or none where there is none.
    pub(crate) fn bounds(&self) -> Option<RaDecBox> {
        let dec_min = self.dec_min.unwrap_or(-90.0).max(-90.0);
        let dec_max = self.dec_max.unwrap_or(90.0).min(90.0);
        let ra_min = self.ra_min.unwrap_or(0.0);
        let ra_max = self.ra_max.unwrap_or(360.0);
        (dec_min <= dec_max && ra_min <= ra_max).then(|| RaDecBox {
            ra: RaInterval::of_width(ra_min, ra_max - ra_min),
            dec_min,
            dec_max,
        })
    }
}

/// The limit as a finite number; the infinity on its open side is no limit.
fn limit(what: &'static str, limit: Option<Degrees>, open: f64) -> Result<Option<f64>, SkyError> {
    match limit {
        None => Ok(None),
        Some(Degrees(value)) if value == open => Ok(None),
        Some(Degrees(value)) if value.is_nan() => Err(SkyError::NotFinite { what, value }),
        // Nothing is beyond the infinity on the other side: a number that no angle reaches says the same.
        Some(Degrees(value)) => Ok(Some(value.clamp(-1e9, 1e9))),
    }
}

fn between(value: f64, min: Option<f64>, max: Option<f64>) -> bool {
    min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
}
