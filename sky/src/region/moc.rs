//! A coverage map (IVOA MOC): any region, as a set of HEALPix cells of several orders.

use std::f64::consts::PI;
use std::ops::Range;

use crate::cap::{Cap, Relation};
use crate::error::SkyError;
use crate::healpix::{Cell, MAX_ORDER, SKY29};
use crate::id_ranges::{self, merged};
use crate::position::Position;
use crate::region::{Region, moc_fits};

/// A set of HEALPix cells (IVOA MOC 2.0, space MOC in ICRS), possibly empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MocRegion {
    /// Nested indices at order 29: sorted, apart from each other, not empty.
    ranges: Vec<Range<u64>>,
}

impl MocRegion {
    /// Reads a space MOC from the bytes of a FITS file (NUNIQ or RANGE ordering).
    ///
    /// # Errors
    /// Where the bytes are no space MOC in ICRS, are cut short, or name cells that do not exist.
    pub fn from_fits(bytes: &[u8]) -> Result<MocRegion, SkyError> {
        let ranges = moc_fits::read(bytes)?;
        for range in &ranges {
            if range.start >= range.end || range.end > SKY29 {
                return Err(SkyError::Moc(format!(
                    "it has the range {}..{}, which holds no cells of order 29",
                    range.start, range.end
                )));
            }
        }
        Ok(MocRegion { ranges: merged(ranges) })
    }

    /// The cells of the given nested indices at one order, in any order, repeated or not.
    ///
    /// # Errors
    /// Where the order is above 29 or an index too large for it.
    pub fn from_cells(order: u8, cells: &[u64]) -> Result<MocRegion, SkyError> {
        let mut ranges = Vec::with_capacity(cells.len());
        for &index in cells {
            ranges.push(Cell::new(order, index)?.range29());
        }
        Ok(MocRegion { ranges: merged(ranges) })
    }

    /// The cells that a region may touch, about `cells` of them: every position of the region is in the
    /// result, and so are positions near its border.
    pub fn covering(region: &Region, cells: usize) -> MocRegion {
        if let Region::Moc(moc) = region {
            return moc.clone();
        }
        let mut inside: Vec<Cell> = Vec::new();
        let mut border: Vec<Cell> = Cell::base().collect();
        loop {
            border.retain(|cell| match region.relation(&cell.bounding_cap()) {
                Relation::Outside => false,
                Relation::Inside => {
                    inside.push(*cell);
                    false
                }
                Relation::Partial => true,
            });
            let finest = border.first().is_none_or(|cell| cell.order() == MAX_ORDER);
            if finest || inside.len() + border.len() > cells {
                break;
            }
            border = border.into_iter().filter_map(Cell::children).flatten().collect();
        }
        MocRegion { ranges: merged(inside.into_iter().chain(border).map(Cell::range29).collect()) }
    }

    /// The positions in both.
    #[must_use]
    pub fn intersection(&self, other: &MocRegion) -> MocRegion {
        let mut ranges = Vec::new();
        for range in &self.ranges {
            for shared in other.overlapping(range) {
                ranges.push(range.start.max(shared.start)..range.end.min(shared.end));
            }
        }
        MocRegion { ranges }
    }

    /// The positions in either.
    #[must_use]
    pub fn union(&self, other: &MocRegion) -> MocRegion {
        MocRegion { ranges: merged([self.ranges.as_slice(), other.ranges.as_slice()].concat()) }
    }

    /// The same with the narrowest gaps filled, until no more than `most` ranges (at least one) are left.
    #[must_use]
    pub fn coarsened(&self, most: usize) -> MocRegion {
        MocRegion { ranges: id_ranges::coarsened(&self.ranges, most) }
    }

    /// Whether the position is in one of the cells.
    pub fn contains(&self, p: Position) -> bool {
        self.holds29(p.healpix29())
    }

    /// The cells as ranges of nested indices at order 29, ascending and apart from each other.
    pub fn ranges29(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The solid angle of the cells in steradians: they are of equal area, so this is exact.
    pub(crate) fn area_sr(&self) -> f64 {
        let cells: u64 = self.ranges.iter().map(|range| range.end - range.start).sum();
        cells as f64 / SKY29 as f64 * 4.0 * PI
    }

    fn holds29(&self, index: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.end <= index);
        self.ranges.get(after).is_some_and(|range| range.start <= index)
    }

    /// The ranges that have a cell in common with `span`.
    pub(crate) fn overlapping(&self, span: &Range<u64>) -> &[Range<u64>] {
        let first = self.ranges.partition_point(|range| range.end <= span.start);
        let last = self.ranges.partition_point(|range| range.start < span.end);
        &self.ranges[first..last.max(first)]
    }

    /// Never `Inside`: covers find that out position by position, and by ranges where the chunks are cells.
    pub(crate) fn relation(&self, cap: &Cap) -> Relation {
        if Cell::base().any(|cell| self.meets(cell, cap)) { Relation::Partial } else { Relation::Outside }
    }

    fn meets(&self, cell: Cell, cap: &Cap) -> bool {
        let span = cell.range29();
        let ranges = self.overlapping(&span);
        if ranges.is_empty() {
            return false;
        }
        let own = cell.bounding_cap();
        if !own.meets(cap) {
            return false;
        }
        let whole = ranges.len() == 1 && ranges[0].start <= span.start && ranges[0].end >= span.end;
        let small = own.radius_rad <= cap.radius_rad / 16.0 || cell.order() == MAX_ORDER;
        if small || (whole && own.center.angle_rad(cap.center) <= cap.radius_rad) {
            return true;
        }
        cell.children().is_none_or(|children| children.into_iter().any(|child| self.meets(child, cap)))
    }
}
