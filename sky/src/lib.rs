//! Geometry of the celestial sphere and the two ways Skyflight cuts it into chunks.
//!
//! No Arrow, no async, no I/O: everything here is a pure function of positions.
//! Positions are ICRS degrees at the door and unit vectors inside.

mod angle;
mod cap;
mod chunk;
mod error;
mod healpix;
mod position;
mod ra_interval;
mod region;
mod scheme;
mod stripes;

pub use angle::{Arcsec, Degrees};
pub use chunk::{ChunkId, Location, RaDecBounds, SubChunkId};
pub use error::SkyError;
pub use healpix::{
    DensityMap, Healpix, adaptive_cells, cell_nuniq, healpix_center, healpix_index, healpix_neighbours,
    healpix_nested_range29, nuniq_cell,
};
pub use position::{Position, UnitVector, position_angle, separation};
pub use region::{Circle, ConvexPolygon, Ellipse, MocRegion, RaDecRange, Region, SkyBox};
pub use scheme::{Scheme, SchemeSpec};
pub use stripes::Stripes;
