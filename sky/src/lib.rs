//! Geometry of the celestial sphere and the two ways Skyflight cuts it into chunks.
//!
//! No Arrow, no async, no I/O: everything here is a pure function of positions.
//! Positions are ICRS degrees at the door and unit vectors inside.

mod angle;
mod cap;
mod chunk;
mod epoch;
mod error;
mod frame;
mod healpix;
mod htm;
mod id_ranges;
mod orientation;
mod position;
mod ra_interval;
mod region;
mod scheme;
mod stripes;

pub use angle::{Arcsec, Degrees, Mas, MasPerYear};
pub use chunk::{ChunkId, Location, RaDecBounds, SubChunkId};
pub use epoch::Astrometry;
pub use error::SkyError;
pub use frame::{GalacticPosition, galactic_to_icrs, icrs_to_galactic};
pub use healpix::{
    DensityMap, Healpix, adaptive_cells, cell_nuniq, healpix_bounds, healpix_center, healpix_corners, healpix_index,
    healpix_neighbours, healpix_nested_range29, nuniq_cell,
};
pub use htm::{htm_id, htm_level, htm_ranges};
pub use position::{Position, UnitVector, position_angle, separation};
pub use region::{Circle, ConvexPolygon, Ellipse, MocRegion, RaDecRange, Region, SkyBox};
pub use scheme::{Scheme, SchemeSpec};
pub use stripes::Stripes;
