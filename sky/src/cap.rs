//! Bounding caps, and the one recursive test by which every cover is made.
//!
//! A patch of sky (a HEALPix cell, a box of a stripe) knows a cap that holds all of it and how to split itself.
//! A region says of a cap whether it lies outside. Splitting until the answer is clear gives covers that never
//! miss and overshoot by no more than a chosen tolerance.

use crate::position::{Position, UnitVector};
use crate::ra_interval::RaInterval;
use crate::region::Region;

/// Rounding of angles in this crate stays far below this (2 microarcsec); every test of caps gives way by it.
pub(crate) const SLACK_RAD: f64 = 1e-11;

/// The finest distance (1 mas) that splitting tries to tell apart.
const FINEST_RAD: f64 = 5e-9;

/// All directions within `radius_rad` of the centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cap {
    pub(crate) center: UnitVector,
    pub(crate) radius_rad: f64,
}

/// How a cap lies to a region. `Outside` and `Inside` are certain; `Partial` is everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Outside,
    Partial,
    Inside,
}

/// A piece of sky that can be split into smaller ones.
pub(crate) trait Patch: Sized {
    /// A cap that holds the whole patch.
    fn cap(&self) -> Cap;
    /// A position inside the patch.
    fn center(&self) -> Position;
    /// Pieces that together hold the whole patch; none where it cannot be split further.
    fn split(&self) -> Option<[Self; 4]>;
}

/// Whether the region may have a point in the patch: false only where it certainly has none, true beyond doubt
/// where it has one, and true in error only where the region passes within about `tolerance_rad` of the patch.
pub(crate) fn touches<P: Patch>(region: &Region, patch: &P, tolerance_rad: f64) -> bool {
    let cap = patch.cap();
    match region.relation(&cap) {
        Relation::Outside => return false,
        Relation::Inside => return true,
        Relation::Partial => {}
    }
    if cap.radius_rad <= tolerance_rad || region.contains(patch.center()) {
        return true;
    }
    match patch.split() {
        Some(parts) => parts.iter().any(|part| touches(region, part, tolerance_rad)),
        None => true,
    }
}

/// The tolerance for a patch and a region of these bounding radii: small beside both.
pub(crate) fn tolerance_rad(region_radius_rad: f64, patch_radius_rad: f64) -> f64 {
    (0.02 * region_radius_rad).min(patch_radius_rad / 16.0).max(FINEST_RAD)
}

/// The box of declinations (degrees) and right ascensions a cap lies in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CapBox {
    pub(crate) dec_min: f64,
    pub(crate) dec_max: f64,
    pub(crate) ra: RaInterval,
}

impl Cap {
    /// A box that holds the cap, generous by 0.4 mas.
    pub(crate) fn bounding_box(&self) -> CapBox {
        // Within this of a pole the width in right ascension is not worth its rounding errors.
        const POLAR_DEG: f64 = 1e-3;
        const MARGIN_DEG: f64 = 1e-7;
        let c = self.center;
        let radius = self.radius_rad.to_degrees();
        let dec = c.z.atan2(c.x.hypot(c.y)).to_degrees();
        let ra = if dec.abs() + radius >= 90.0 - POLAR_DEG {
            RaInterval::FULL
        } else {
            let sine = self.radius_rad.sin() / c.x.hypot(c.y);
            let half_width = sine.clamp(0.0, 1.0).asin().to_degrees();
            RaInterval::around(c.y.atan2(c.x).to_degrees(), half_width + MARGIN_DEG)
        };
        CapBox { dec_min: dec - radius - MARGIN_DEG, dec_max: dec + radius + MARGIN_DEG, ra }
    }

    /// Whether the two caps may have a direction in common.
    pub(crate) fn meets(&self, other: &Cap) -> bool {
        self.center.angle_rad(other.center) <= self.radius_rad + other.radius_rad + SLACK_RAD
    }
}
