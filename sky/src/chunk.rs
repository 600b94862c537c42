//! Names of chunks and sub-chunks, and the box of sky a chunk lies in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::angle::Degrees;
use crate::error::SkyError;
use crate::position::Position;

/// A chunk of a scheme: the NUNIQ number of its cell (healpix) or Qserv's chunk id (stripes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId(pub u64);

impl ChunkId {
    /// The chunk of tables that are whole on every worker. No scheme has a chunk of this number.
    pub const EVERYWHERE: ChunkId = ChunkId(u64::MAX);
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == ChunkId::EVERYWHERE { f.pad("everywhere") } else { fmt::Display::fmt(&self.0, f) }
    }
}

impl FromStr for ChunkId {
    type Err = SkyError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, SkyError> {
        if text == "everywhere" {
            return Ok(ChunkId::EVERYWHERE);
        }
        text.parse().map(ChunkId).map_err(|_| SkyError::ChunkIdText(text.to_owned()))
    }
}

/// A sub-chunk, numbered within its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubChunkId(pub u32);

impl fmt::Display for SubChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Where a position lies: its chunk, and the sub-chunk of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The chunk.
    pub chunk: ChunkId,
    /// The sub-chunk within the chunk.
    pub sub_chunk: SubChunkId,
}

/// A box of right ascension and declination (ICRS degrees) that holds a whole chunk.
///
/// `ra_min > ra_max` means that it runs east from `ra_min` across 0 to `ra_max`. Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaDecBounds {
    /// Western edge, [0, 360).
    pub ra_min: Degrees,
    /// Eastern edge, [0, 360].
    pub ra_max: Degrees,
    /// Southern edge.
    pub dec_min: Degrees,
    /// Northern edge.
    pub dec_max: Degrees,
}

impl RaDecBounds {
    /// Whether the box crosses right ascension 0.
    pub fn wraps(&self) -> bool {
        self.ra_min.0 > self.ra_max.0
    }

    /// Whether the position is in the box, edges included.
    pub fn contains(&self, position: Position) -> bool {
        let (ra, dec) = (position.ra(), position.dec());
        let in_ra =
            if self.wraps() { ra >= self.ra_min || ra <= self.ra_max } else { ra >= self.ra_min && ra <= self.ra_max };
        in_ra && dec >= self.dec_min && dec <= self.dec_max
    }
}
