//! The adaptive HEALPix scheme: chunks are cells whose order follows the density of the sky.

use std::ops::Range;

use crate::angle::{Arcsec, Degrees};
use crate::cap::{Relation, tolerance_rad, touches};
use crate::chunk::{ChunkId, Location, RaDecBounds, SubChunkId};
use crate::error::{SkyError, finite};
use crate::healpix::cell::{Cell, MAX_ORDER, SKY29, bounding_radius_rad};
use crate::position::Position;
use crate::region::{Circle, MocRegion, Region};
use crate::scheme::Scheme;

/// Sub-chunks are this many orders finer than their chunk: 256 of them.
const SUB_CHUNK_ORDERS: u8 = 4;

/// Chunks that are HEALPix cells; together they are the whole sky. A chunk's id is its cell's NUNIQ number.
#[derive(Debug)]
pub struct Healpix {
    /// By nested index.
    cells: Vec<Cell>,
    /// The first order-29 index of each cell: what `locate` searches.
    starts: Vec<u64>,
    overlap: Degrees,
}

impl Healpix {
    /// A scheme from the NUNIQ numbers of its cells, in any order.
    ///
    /// # Errors
    /// Where a number names no cell, the cells overlap or leave a gap, or the overlap is not in [0, 10] degrees.
    pub fn new(cells: &[u64], overlap: Arcsec) -> Result<Healpix, SkyError> {
        let overlap = Degrees::from(Arcsec(finite("overlap", overlap.0)?));
        if !(0.0..=10.0).contains(&overlap.0) {
            return Err(SkyError::Scheme(format!("the overlap radius of {overlap} is outside [0, 10] deg")));
        }
        let mut cells = cells.iter().map(|nuniq| Cell::from_nuniq(*nuniq)).collect::<Result<Vec<_>, _>>()?;
        cells.sort_unstable_by_key(|cell| cell.range29().start);
        let mut covered = 0;
        for cell in &cells {
            let range = cell.range29();
            if range.start != covered {
                let fault = if range.start < covered { "overlaps another" } else { "has a gap before it" };
                return Err(SkyError::Scheme(format!(
                    "the healpix cells must make up the sky once; the cell of order {} and index {} {fault}",
                    cell.order(),
                    cell.index()
                )));
            }
            covered = range.end;
        }
        if covered != SKY29 {
            return Err(SkyError::Scheme(
                "the healpix cells must make up the sky once; the last are missing".to_owned(),
            ));
        }
        let starts = cells.iter().map(|cell| cell.range29().start).collect();
        Ok(Healpix { cells, starts, overlap })
    }

    fn cell(&self, chunk: ChunkId) -> Result<Cell, SkyError> {
        let cell = Cell::from_nuniq(chunk.0).map_err(|_| SkyError::UnknownChunk(chunk))?;
        let found = self.starts.binary_search(&cell.range29().start).map(|i| self.cells[i]);
        if found == Ok(cell) { Ok(cell) } else { Err(SkyError::UnknownChunk(chunk)) }
    }

    /// The chunk that holds an order-29 index.
    fn holding(&self, index29: u64) -> Cell {
        let after = self.starts.partition_point(|start| *start <= index29);
        self.cells[after.saturating_sub(1).min(self.cells.len() - 1)]
    }

    /// The places in `cells` of the chunks that have something in common with a span of order-29 indices.
    fn spanned(&self, span: &Range<u64>) -> Range<usize> {
        let first = self.starts.partition_point(|start| *start <= span.start).saturating_sub(1);
        let last = self.starts.partition_point(|start| *start < span.end);
        first..last
    }

    /// Adds the chunks among `chunks` (all those of `cell`) that the region may touch.
    fn descend(&self, region: &Region, cell: Cell, chunks: Range<usize>, found: &mut Vec<ChunkId>) {
        if chunks.len() == 1 && self.cells[chunks.start].order() <= cell.order() {
            let tolerance = tolerance_rad(region.scale_rad(), bounding_radius_rad(cell.order()));
            if touches(region, &cell, tolerance) {
                found.push(ChunkId(self.cells[chunks.start].nuniq()));
            }
            return;
        }
        match region.relation(&cell.bounding_cap()) {
            Relation::Outside => {}
            Relation::Inside => found.extend(self.cells[chunks].iter().map(|cell| ChunkId(cell.nuniq()))),
            Relation::Partial => {
                let mut first = chunks.start;
                for child in cell.children().into_iter().flatten() {
                    let end = child.range29().end;
                    let count = self.starts[first..chunks.end].partition_point(|start| *start < end);
                    self.descend(region, child, first..first + count, found);
                    first += count;
                }
            }
        }
    }

    fn cover_moc(&self, moc: &MocRegion, found: &mut Vec<ChunkId>) {
        let mut next = 0;
        for range in moc.ranges29() {
            let spanned = self.spanned(range);
            // Two ranges may lie in one chunk.
            for i in spanned.start.max(next)..spanned.end {
                found.push(ChunkId(self.cells[i].nuniq()));
            }
            next = next.max(spanned.end);
        }
    }

    /// Whether a chunk is so far from the position's nearest border that no overlap can hold the position.
    ///
    /// On HEALPix's projection the position is some number of order-29 cells from each side of its chunk. No
    /// step on the projection is shorter than 0.464 of its length on the sky (the least singular value of the
    /// inverse projection, met at the transition latitude), which makes 0.656 of an order-29 side per cell.
    fn is_interior(&self, own: Cell, index29: u64) -> bool {
        const RADIANS_PER_CELL: f64 = 0.65 / (1_u64 << MAX_ORDER) as f64;
        let within = index29 - own.range29().start;
        let side = 1_u64 << (MAX_ORDER - own.order());
        let (i, j) = (even_bits(within), even_bits(within >> 1));
        let steps = i.min(j).min(side - 1 - i).min(side - 1 - j);
        steps as f64 * RADIANS_PER_CELL > self.overlap.radians()
    }

    fn overlap_circle(&self, p: Position) -> Option<Region> {
        Circle::new(p, self.overlap).ok().map(Region::Circle)
    }
}

impl Scheme for Healpix {
    fn locate(&self, p: Position) -> Location {
        let index29 = p.healpix29();
        let cell = self.holding(index29);
        let sub_order = (cell.order() + SUB_CHUNK_ORDERS).min(MAX_ORDER);
        let sub_chunk = (index29 - cell.range29().start) >> (2 * (MAX_ORDER - sub_order));
        Location { chunk: ChunkId(cell.nuniq()), sub_chunk: SubChunkId(sub_chunk as u32) }
    }

    fn cover(&self, region: &Region) -> Vec<ChunkId> {
        let mut found = Vec::new();
        match region {
            Region::Moc(moc) => self.cover_moc(moc, &mut found),
            _ => {
                for base in Cell::base() {
                    let chunks = self.spanned(&base.range29());
                    self.descend(region, base, chunks, &mut found);
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn overlaps(&self, p: Position, out: &mut Vec<ChunkId>) {
        out.clear();
        let index29 = p.healpix29();
        let own = self.holding(index29);
        if self.overlap.0 == 0.0 || self.is_interior(own, index29) {
            return;
        }
        if let Some(circle) = self.overlap_circle(p) {
            out.extend(self.cover(&circle));
            out.retain(|chunk| chunk.0 != own.nuniq());
        }
    }

    fn in_overlap(&self, chunk: ChunkId, p: Position) -> bool {
        let own = self.holding(p.healpix29());
        match (self.cell(chunk), self.overlap_circle(p)) {
            (Ok(cell), Some(circle)) if cell != own && self.overlap.0 > 0.0 => {
                touches(&circle, &cell, tolerance_rad(circle.scale_rad(), bounding_radius_rad(cell.order())))
            }
            _ => false,
        }
    }

    fn neighbours(&self, chunk: ChunkId) -> Result<Vec<ChunkId>, SkyError> {
        let own = self.cell(chunk)?;
        let own_range = own.range29();
        let mut found = Vec::new();
        for beside in own.neighbours() {
            for cell in &self.cells[self.spanned(&beside.range29())] {
                let touching = cell.order() <= own.order()
                    || cell.neighbours().iter().any(|next| own_range.contains(&next.range29().start));
                if touching {
                    found.push(ChunkId(cell.nuniq()));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn bounds(&self, chunk: ChunkId) -> Result<RaDecBounds, SkyError> {
        Ok(self.cell(chunk)?.bounds())
    }

    fn area(&self, chunk: ChunkId) -> Result<f64, SkyError> {
        Ok(self.cell(chunk)?.area_square_deg())
    }

    fn chunks(&self) -> Vec<ChunkId> {
        let mut chunks: Vec<ChunkId> = self.cells.iter().map(|cell| ChunkId(cell.nuniq())).collect();
        chunks.sort_unstable();
        chunks
    }

    fn overlap_radius(&self) -> Degrees {
        self.overlap
    }

    fn sub_chunk_first(&self) -> bool {
        false
    }
}

/// The bits at even places, packed: one coordinate of a Z-order index.
fn even_bits(index: u64) -> u64 {
    let mut x = index & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        x = (x | (x >> shift)) & mask;
    }
    x
}

#[cfg(test)]
mod tests {
    use cdshealpix::unproj;

    /// The shortest image on the sky of a short step on HEALPix's projection, over both regions of it: what
    /// `is_interior` rests on.
    #[test]
    fn steps_on_the_projection_shrink_by_no_more_than_0_464() {
        const STEP: f64 = 1e-6;
        let mut shortest = f64::MAX;
        for i in 1..200 {
            for j in 1..200 {
                // The quarter of the plane right of the meridian of base cell 0, from the equator to the pole.
                let (x, y) = (1.0 + f64::from(i) / 200.0, f64::from(j) / 100.0);
                if y > 1.0 && (x - 1.0) > 2.0 - y - 2.0 * STEP {
                    continue;
                }
                for k in 0..180 {
                    let (sine, cosine) = f64::from(k).to_radians().sin_cos();
                    let (ra, dec) = unproj(x, y);
                    let (ra2, dec2) = unproj(x + STEP * cosine, y + STEP * sine);
                    let length = (dec2 - dec).hypot((ra2 - ra) * dec.cos());
                    shortest = shortest.min(length / STEP);
                }
            }
        }
        assert!(shortest >= 0.463, "{shortest}");
        assert!(0.65 <= shortest * std::f64::consts::SQRT_2, "{shortest}");
    }
}
