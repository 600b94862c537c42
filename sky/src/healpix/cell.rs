//! One HEALPix cell: its numbers, its place on the sky, and a cap that is sure to hold it.

use std::f64::consts::PI;
use std::ops::Range;
use std::sync::LazyLock;

use cdshealpix::compass_point::Cardinal;
use cdshealpix::nested;

use crate::angle::Degrees;
use crate::cap::{Cap, Patch};
use crate::chunk::RaDecBounds;
use crate::error::SkyError;
use crate::position::{Position, UnitVector};

/// The finest order: 12 · 4^29 cells of 0.4 mas.
pub(crate) const MAX_ORDER: u8 = 29;

/// The number of cells at order 29.
pub(crate) const SKY29: u64 = 12 << (2 * MAX_ORDER);

/// A cell that exists: order at most 29, nested index below 12 · 4^order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    order: u8,
    index: u64,
}

impl Cell {
    pub(crate) fn new(order: u8, index: u64) -> Result<Cell, SkyError> {
        if order > MAX_ORDER {
            return Err(SkyError::Order(order));
        }
        if index >= 12 << (2 * order) {
            return Err(SkyError::Cell { order, index });
        }
        Ok(Cell { order, index })
    }

    pub(crate) fn from_nuniq(nuniq: u64) -> Result<Cell, SkyError> {
        if !(4..1 << (2 * MAX_ORDER + 4)).contains(&nuniq) {
            return Err(SkyError::Scheme(format!("no healpix cell has the NUNIQ number {nuniq}")));
        }
        let order = (nuniq.ilog2() / 2 - 1) as u8;
        Ok(Cell { order, index: nuniq - (4 << (2 * order)) })
    }

    /// The twelve cells of order 0.
    pub(crate) fn base() -> impl Iterator<Item = Cell> {
        (0..12).map(|index| Cell { order: 0, index })
    }

    pub(crate) fn order(self) -> u8 {
        self.order
    }

    pub(crate) fn index(self) -> u64 {
        self.index
    }

    pub(crate) fn nuniq(self) -> u64 {
        (4 << (2 * self.order)) + self.index
    }

    /// The four cells of the next order; none at order 29.
    pub(crate) fn children(self) -> Option<[Cell; 4]> {
        if self.order == MAX_ORDER {
            return None;
        }
        let child = |k| Cell { order: self.order + 1, index: 4 * self.index + k };
        Some([child(0), child(1), child(2), child(3)])
    }

    /// The nested indices of the cell's descendants at order 29.
    pub(crate) fn range29(self) -> Range<u64> {
        let shift = 2 * (MAX_ORDER - self.order);
        (self.index << shift)..((self.index + 1) << shift)
    }

    pub(crate) fn center(self) -> Position {
        let (ra, dec) = nested::center(self.order, self.index);
        Position::from_radians(ra, dec)
    }

    /// A cap around the centre that holds the whole cell.
    pub(crate) fn bounding_cap(self) -> Cap {
        let (ra, dec) = nested::center(self.order, self.index);
        Cap { center: UnitVector::from_radians(ra, dec), radius_rad: bounding_radius_rad(self.order) }
    }

    /// The cells of the same order that share an edge or a corner, by index.
    pub(crate) fn neighbours(self) -> Vec<Cell> {
        let mut indices = Vec::with_capacity(8);
        nested::append_bulk_neighbours(self.order, self.index, &mut indices);
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().map(|index| Cell { order: self.order, index }).collect()
    }

    /// The area of every cell of the order, square degrees.
    pub(crate) fn area_square_deg(self) -> f64 {
        let sky = 4.0 * PI * (180.0 / PI) * (180.0 / PI);
        sky / (12_u64 << (2 * self.order)) as f64
    }

    /// The corners: south, east, north, west.
    pub(crate) fn corners(self) -> [Position; 4] {
        let layer = nested::get(self.order);
        [Cardinal::S, Cardinal::E, Cardinal::N, Cardinal::W].map(|direction| {
            let (ra, dec) = layer.vertex(self.index, direction);
            Position::from_radians(ra, dec)
        })
    }

    /// A box that holds the cell. Its northern and southern corners have the extreme declinations, its eastern
    /// and western ones the extreme right ascensions, also in the polar caps.
    pub(crate) fn bounds(self) -> RaDecBounds {
        const MARGIN_DEG: f64 = 1e-9;
        let layer = nested::get(self.order);
        let corner = |direction| {
            let (ra, dec) = layer.vertex(self.index, direction);
            (ra.to_degrees(), dec.to_degrees())
        };
        let ((west, _), (east, _)) = (corner(Cardinal::W), corner(Cardinal::E));
        let ((_, south), (_, north)) = (corner(Cardinal::S), corner(Cardinal::N));
        RaDecBounds {
            ra_min: Degrees((west - MARGIN_DEG).rem_euclid(360.0)),
            ra_max: Degrees((east + MARGIN_DEG).rem_euclid(360.0)),
            dec_min: Degrees((south - MARGIN_DEG).max(-90.0)),
            dec_max: Degrees((north + MARGIN_DEG).min(90.0)),
        }
    }
}

impl Patch for Cell {
    fn cap(&self) -> Cap {
        self.bounding_cap()
    }

    fn center(&self) -> Position {
        Cell::center(*self)
    }

    fn split(&self) -> Option<[Cell; 4]> {
        self.children()
    }
}

/// The largest distance from a centre to a border among all cells of an order, radians, with a margin.
///
/// It is found in the cell whose corner is the one between polar cap and equatorial belt nearest a meridian of
/// base cells: the formula of the HEALPix library's `max_pixrad` (Górski et al. 2005, ApJ 622, 759).
pub(crate) fn bounding_radius_rad(order: u8) -> f64 {
    static RADII: LazyLock<[f64; 30]> = LazyLock::new(|| {
        std::array::from_fn(|order| {
            let nside = f64::from(1_u32 << order);
            let vector = |z: f64, phi: f64| {
                let s = (1.0 - z * z).max(0.0).sqrt();
                UnitVector { x: s * phi.cos(), y: s * phi.sin(), z }
            };
            let ring = (1.0 - 1.0 / nside) * (1.0 - 1.0 / nside);
            let radius = vector(2.0 / 3.0, PI / (4.0 * nside)).angle_rad(vector(1.0 - ring / 3.0, 0.0));
            radius * 1.001 + 1e-12
        })
    });
    RADII[usize::from(order.min(MAX_ORDER))]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cell of the coarse orders, and cells from pole to pole of the fine ones, against points along their
    /// borders.
    #[test]
    fn bounding_caps_hold_their_cells() {
        for order in 0..=MAX_ORDER {
            let cells = 12_u64 << (2 * order);
            let mut worst = 0.0_f64;
            for index in (0..cells).step_by((cells / 4000).max(1) as usize | 1) {
                let cell = Cell { order, index };
                let cap = cell.bounding_cap();
                for (ra, dec) in nested::path_along_cell_edge(order, index, &Cardinal::S, false, 16) {
                    worst = worst.max(cap.center.angle_rad(UnitVector::from_radians(ra, dec)) / cap.radius_rad);
                }
            }
            // Not much larger than needed either.
            assert!((0.9..=1.0).contains(&worst) || order > 26, "order {order}: {worst}");
            assert!(worst <= 1.0, "order {order}: {worst}");
        }
    }
}
