//! What can be wrong with a position, a region or a scheme, and what to do about it.

use crate::chunk::ChunkId;

/// A mistake in what was given to this crate. All of them are the caller's to mend; none is internal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SkyError {
    /// A coordinate, radius or other number is NaN or infinite.
    #[error("{what} is {value}; give a finite number")]
    NotFinite {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A declination outside [-90, 90] degrees.
    #[error("declination {0} deg is outside [-90, 90]; are right ascension and declination in the right order?")]
    DecOutOfRange(f64),
    /// A circle's radius outside [0, 180] degrees.
    #[error("radius {0} deg is outside [0, 180]")]
    RadiusOutOfRange(f64),
    /// A box whose right ascensions are out of order.
    #[error(
        "box from right ascension {ra_min} to {ra_max} deg is out of order; ra_min may exceed ra_max only where both \
         lie in [0, 360]"
    )]
    BoxOutOfOrder {
        /// The western edge, degrees.
        ra_min: f64,
        /// The eastern edge, degrees.
        ra_max: f64,
    },
    /// Axes of an ellipse that are not 0 ≤ minor ≤ major ≤ 36,000 arcsec.
    #[error(
        "ellipse with semi-major axis {semi_major} and semi-minor axis {semi_minor} arcsec; it takes \
         0 <= semi-minor <= semi-major <= 36000"
    )]
    EllipseAxes {
        /// Semi-major axis, arcseconds.
        semi_major: f64,
        /// Semi-minor axis, arcseconds.
        semi_minor: f64,
    },
    /// Vertices that do not make a convex polygon.
    #[error("not a convex polygon: {0}")]
    Polygon(String),
    /// A coverage map that cannot be read.
    #[error("not a usable coverage map (MOC): {0}")]
    Moc(String),
    /// A HEALPix order above 29.
    #[error("healpix order {0} is outside 0..=29")]
    Order(u8),
    /// A HEALPix cell number too large for its order.
    #[error("healpix cell {index} does not exist at order {order}, which has 12 * 4^order cells")]
    Cell {
        /// The order.
        order: u8,
        /// The nested index.
        index: u64,
    },
    /// A level of the triangular mesh above 24.
    #[error("htm level {0} is outside 0..=24")]
    HtmLevel(u8),
    /// A galactic latitude outside [-90, 90] degrees.
    #[error("galactic latitude {0} deg is outside [-90, 90]; are longitude and latitude in the right order?")]
    GalacticLatitude(f64),
    /// A motion that leads through the Sun, or so far that numbers end.
    #[error(
        "the motion from epoch {from_jyear} to {to_jyear} leads through the sun or beyond all numbers; it takes \
         mas/yr, mas, km/s and julian years"
    )]
    Motion {
        /// The first epoch, Julian years.
        from_jyear: f64,
        /// The epoch asked for, Julian years.
        to_jyear: f64,
    },
    /// A scheme whose parameters do not work.
    #[error("unusable partitioning: {0}")]
    Scheme(String),
    /// A chunk the scheme does not have.
    #[error("the partitioning has no chunk {0}")]
    UnknownChunk(ChunkId),
    /// Text that is no chunk id.
    #[error("{0:?} is not a chunk id; it takes a number or \"everywhere\"")]
    ChunkIdText(String),
}

/// Passes a finite number on, and names the one that is not.
pub(crate) fn finite(what: &'static str, value: f64) -> Result<f64, SkyError> {
    if value.is_finite() { Ok(value) } else { Err(SkyError::NotFinite { what, value }) }
}

/// A finite declination within [-90, 90] degrees.
pub(crate) fn declination(value: f64) -> Result<f64, SkyError> {
    finite("declination", value)?;
    if (-90.0..=90.0).contains(&value) { Ok(value) } else { Err(SkyError::DecOutOfRange(value)) }
}
