//! How many rows lie where, and the cells that follow from it.

use crate::error::SkyError;
use crate::healpix::cell::{Cell, MAX_ORDER};
use crate::position::Position;

/// Above this order a map would take more than 1.6 GB.
const FINEST_MAP: u8 = 12;

/// Counts of rows per HEALPix cell of one order, nested.
///
/// Eight bytes per cell of the whole sky, which the system hands out only where rows fall.
#[derive(Clone, Debug)]
pub struct DensityMap {
    order: u8,
    counts: Vec<u64>,
}

impl DensityMap {
    /// An empty map of cells of an order from 0 to 12.
    ///
    /// # Errors
    /// Where the order is above 12.
    pub fn new(order: u8) -> Result<DensityMap, SkyError> {
        if order > FINEST_MAP {
            return Err(SkyError::Scheme(format!(
                "a density map of order {order} is too fine; take at most {FINEST_MAP}"
            )));
        }
        Ok(DensityMap { order, counts: vec![0; 12 << (2 * order)] })
    }

    /// The order of the cells.
    pub fn order(&self) -> u8 {
        self.order
    }

    /// Counts one row.
    pub fn add(&mut self, p: Position) {
        self.add_index29(p.healpix29());
    }

    /// Counts one row by its nested index at order 29. An index no cell has is counted nowhere.
    pub fn add_index29(&mut self, index: u64) {
        if let Some(count) = self.counts.get_mut((index >> (2 * (MAX_ORDER - self.order))) as usize) {
            *count += 1;
        }
    }

    /// Adds the counts of another map.
    ///
    /// # Errors
    /// Where the other map is of another order.
    pub fn merge(&mut self, other: &DensityMap) -> Result<(), SkyError> {
        if self.order != other.order {
            return Err(SkyError::Scheme(format!(
                "density maps of orders {} and {} cannot be added; count both at one order",
                self.order, other.order
            )));
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            // Writing only where there is something keeps untouched memory untouched.
            if *more > 0 {
                *count += more;
            }
        }
        Ok(())
    }

    /// The count of every cell, by nested index.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The number of rows counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The rows in a cell no finer than the map.
    fn rows(&self, cell: Cell) -> u64 {
        let shift = 2 * (self.order - cell.order());
        let first = (cell.index() << shift) as usize;
        let last = ((cell.index() + 1) << shift) as usize;
        self.counts[first..last].iter().sum()
    }
}

/// Cells that together are the whole sky, as ascending ranges of the nested index, by NUNIQ number.
///
/// A cell is split while it holds more than `row_limit` rows and its order is below `max_order`; none is coarser
/// than `min_order`. Orders beyond that of the map are taken as the map's: finer than it counted, nothing is known.
pub fn adaptive_cells(density: &DensityMap, min_order: u8, max_order: u8, row_limit: u64) -> Vec<u64> {
    let max_order = max_order.min(density.order);
    let min_order = min_order.min(max_order);
    let mut cells = Vec::new();
    for base in Cell::base() {
        split(density, base, min_order..=max_order, row_limit, &mut cells);
    }
    cells
}

fn split(density: &DensityMap, cell: Cell, orders: std::ops::RangeInclusive<u8>, row_limit: u64, cells: &mut Vec<u64>) {
    let coarse = cell.order() < *orders.start();
    let full = cell.order() < *orders.end() && density.rows(cell) > row_limit;
    match cell.children() {
        Some(children) if coarse || full => {
            for child in children {
                split(density, child, orders.clone(), row_limit, cells);
            }
        }
        _ => cells.push(cell.nuniq()),
    }
}
