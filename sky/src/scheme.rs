//! What every way of cutting the sky must answer, and how a way is written down.

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::angle::{Arcsec, Degrees};
use crate::chunk::{ChunkId, Location, RaDecBounds};
use crate::error::SkyError;
use crate::healpix::Healpix;
use crate::position::Position;
use crate::region::Region;
use crate::stripes::Stripes;

/// A partition of the sky into chunks, and of chunks into sub-chunks.
pub trait Scheme: Send + Sync + Debug {
    /// The one chunk and sub-chunk that hold the position.
    fn locate(&self, p: Position) -> Location;

    /// The chunks that may have a position of the region, ascending, each once. Some may have none; every chunk
    /// that has one is there, for a missed chunk is a silently wrong answer.
    fn cover(&self, region: &Region) -> Vec<ChunkId>;

    /// Fills `out` with the chunks, other than the position's own, whose overlap holds the position: ascending,
    /// each once. What `out` held before is dropped.
    fn overlaps(&self, p: Position, out: &mut Vec<ChunkId>);

    /// Whether the position lies outside the chunk and in its overlap. Every position within the overlap radius
    /// of the chunk does. False for a chunk the scheme does not have.
    fn in_overlap(&self, chunk: ChunkId, p: Position) -> bool;

    /// The chunks that share an edge or a corner with a chunk, ascending.
    ///
    /// # Errors
    /// Where the scheme has no such chunk.
    fn neighbours(&self, chunk: ChunkId) -> Result<Vec<ChunkId>, SkyError>;

    /// A box of right ascension and declination that holds the chunk.
    ///
    /// # Errors
    /// Where the scheme has no such chunk.
    fn bounds(&self, chunk: ChunkId) -> Result<RaDecBounds, SkyError>;

    /// The area of the chunk in square degrees.
    ///
    /// # Errors
    /// Where the scheme has no such chunk.
    fn area(&self, chunk: ChunkId) -> Result<f64, SkyError>;

    /// All chunks of the sky, ascending.
    fn chunks(&self) -> Vec<ChunkId>;

    /// How far the overlap of a chunk reaches beyond its border.
    fn overlap_radius(&self) -> Degrees;

    /// Whether rows are sorted by sub-chunk before `_healpix_29` (stripes), or by `_healpix_29` alone (healpix).
    fn sub_chunk_first(&self) -> bool;
}

/// A scheme as it is written down: all that is needed to build it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "scheme")]
pub enum SchemeSpec {
    /// HEALPix cells whose order follows the density.
    #[serde(rename = "healpix")]
    Healpix {
        /// NUNIQ numbers (4 · 4^order + nested index) of cells that together are the whole sky.
        cells: Vec<u64>,
        /// How far overlap reaches beyond a chunk's border, arcseconds.
        overlap_arcsec: f64,
    },
    /// Qserv's declination stripes and right-ascension chunks.
    #[serde(rename = "stripes")]
    Stripes {
        /// The number of declination stripes.
        stripes: u32,
        /// The number of sub-stripes of each stripe.
        sub_stripes: u32,
        /// How far overlap reaches beyond a sub-chunk's border, degrees.
        overlap_deg: f64,
    },
}

impl SchemeSpec {
    /// The scheme, ready for use.
    ///
    /// # Errors
    /// Where its parameters do not make a scheme.
    pub fn build(&self) -> Result<Arc<dyn Scheme>, SkyError> {
        Ok(match self {
            SchemeSpec::Healpix { cells, overlap_arcsec } => Arc::new(Healpix::new(cells, Arcsec(*overlap_arcsec))?),
            SchemeSpec::Stripes { stripes, sub_stripes, overlap_deg } => {
                Arc::new(Stripes::new(*stripes, *sub_stripes, Degrees(*overlap_deg))?)
            }
        })
    }
}
