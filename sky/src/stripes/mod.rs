//! Qserv's scheme: stripes of declination cut into chunks of right ascension, and each of these again into
//! sub-stripes and sub-chunks. Ids and overlap are those of Qserv's partitioner, row for row.

mod cover;
mod layout;
mod overlap;

use layout::{Layout, Place};

use crate::angle::Degrees;
use crate::chunk::{ChunkId, Location, RaDecBounds, SubChunkId};
use crate::error::{SkyError, finite};
use crate::position::Position;
use crate::ra_interval::RaInterval;
use crate::region::Region;
use crate::scheme::Scheme;

/// Qserv's partitioning of the sky. Chunk ids are `stripe · 2 · stripes + chunk`.
#[derive(Debug)]
pub struct Stripes {
    layout: Layout,
}

/// A box of the sky with half-open edges, degrees: a chunk or a part of one.
#[derive(Clone, Copy, Debug)]
struct ChunkBox {
    ra_min: f64,
    ra_max: f64,
    dec_min: f64,
    dec_max: f64,
}

impl Stripes {
    /// A scheme of `stripes` declination stripes with `sub_stripes` sub-stripes each.
    ///
    /// # Errors
    /// Where a number is 0, sub-stripes come out lower than an arcsecond, there are more than 2,000 stripes, or
    /// the overlap is negative, above 10 degrees, or larger than a sub-chunk.
    pub fn new(stripes: u32, sub_stripes: u32, overlap: Degrees) -> Result<Stripes, SkyError> {
        finite("overlap", overlap.0)?;
        Ok(Stripes { layout: Layout::new(stripes, sub_stripes, overlap.0)? })
    }

    /// The sub-chunks whose overlap holds the position, in the order Qserv's partitioner finds them, each once.
    ///
    /// Among them are sub-chunks of the position's own chunk; its own sub-chunk is not.
    pub fn sub_chunk_overlaps(&self, p: Position) -> Vec<Location> {
        let mut found: Vec<Location> = Vec::new();
        self.layout.visit_overlaps(p.ra().0, p.dec().0, &mut |place| {
            let location = self.location(place);
            // Where a sub-stripe has two sub-chunks, one is both to the left and to the right.
            if !found.contains(&location) {
                found.push(location);
            }
        });
        found
    }

    fn location(&self, place: Place) -> Location {
        Location {
            chunk: ChunkId(self.layout.chunk_id(place.stripe, place.chunk)),
            sub_chunk: SubChunkId(self.layout.sub_chunk_id(place)),
        }
    }

    /// The stripe and the place in it of a chunk that exists.
    fn place(&self, chunk: ChunkId) -> Result<(usize, u32), SkyError> {
        self.layout.chunk_place(chunk.0).ok_or(SkyError::UnknownChunk(chunk))
    }
}

impl Scheme for Stripes {
    fn locate(&self, p: Position) -> Location {
        self.location(self.layout.locate(p.ra().0, p.dec().0))
    }

    fn cover(&self, region: &Region) -> Vec<ChunkId> {
        cover::cover(&self.layout, region)
    }

    fn overlaps(&self, p: Position, out: &mut Vec<ChunkId>) {
        out.clear();
        let own = self.layout.locate(p.ra().0, p.dec().0);
        self.layout.visit_overlaps(p.ra().0, p.dec().0, &mut |place| {
            if (place.stripe, place.chunk) != (own.stripe, own.chunk) {
                out.push(ChunkId(self.layout.chunk_id(place.stripe, place.chunk)));
            }
        });
        out.sort_unstable();
        out.dedup();
    }

    fn in_overlap(&self, chunk: ChunkId, p: Position) -> bool {
        let Ok(wanted) = self.place(chunk) else {
            return false;
        };
        let own = self.layout.locate(p.ra().0, p.dec().0);
        let mut found = false;
        self.layout.visit_overlaps(p.ra().0, p.dec().0, &mut |place| {
            found |= (place.stripe, place.chunk) == wanted;
        });
        found && (own.stripe, own.chunk) != wanted
    }

    fn neighbours(&self, chunk: ChunkId) -> Result<Vec<ChunkId>, SkyError> {
        // Borders that meet in a point are the same number but for rounding.
        const MARGIN_DEG: f64 = 1e-9;
        let (stripe, own) = self.place(chunk)?;
        let bounds = self.layout.chunk_box(stripe, own);
        let ra = RaInterval::of_width(bounds.ra_min, bounds.ra_max - bounds.ra_min).widened(MARGIN_DEG);
        let mut found = Vec::new();
        for beside in stripe.saturating_sub(1)..=(stripe + 1).min(self.layout.stripes() - 1) {
            self.layout.visit_chunks(beside, ra, &mut |place| found.push(ChunkId(self.layout.chunk_id(beside, place))));
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|other| *other != chunk);
        Ok(found)
    }

    fn bounds(&self, chunk: ChunkId) -> Result<RaDecBounds, SkyError> {
        let (stripe, place) = self.place(chunk)?;
        let bounds = self.layout.chunk_box(stripe, place);
        Ok(RaDecBounds {
            ra_min: Degrees(bounds.ra_min),
            ra_max: Degrees(bounds.ra_max),
            dec_min: Degrees(bounds.dec_min),
            dec_max: Degrees(bounds.dec_max),
        })
    }

    fn area(&self, chunk: ChunkId) -> Result<f64, SkyError> {
        let (stripe, place) = self.place(chunk)?;
        let bounds = self.layout.chunk_box(stripe, place);
        let height = (bounds.dec_max.to_radians().sin() - bounds.dec_min.to_radians().sin()).to_degrees();
        Ok((bounds.ra_max - bounds.ra_min) * height)
    }

    fn chunks(&self) -> Vec<ChunkId> {
        let mut chunks = Vec::new();
        for stripe in 0..self.layout.stripes() {
            chunks.extend((0..self.layout.chunks_in(stripe)).map(|chunk| ChunkId(self.layout.chunk_id(stripe, chunk))));
        }
        chunks
    }

    fn overlap_radius(&self) -> Degrees {
        Degrees(self.layout.overlap_deg())
    }

    fn sub_chunk_first(&self) -> bool {
        true
    }
}
