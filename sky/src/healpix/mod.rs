//! HEALPix: cells by order and nested index, the density of a table over them, and the adaptive scheme.

mod cell;
mod density;
mod scheme;

pub(crate) use cell::{Cell, MAX_ORDER, SKY29};
pub use density::{DensityMap, adaptive_cells};
pub use scheme::Healpix;

use crate::chunk::RaDecBounds;
use crate::error::SkyError;
use crate::position::Position;

/// The nested index of the cell of an order (0..=29) that holds the position.
///
/// # Errors
/// Where the order is above 29.
pub fn healpix_index(order: u8, p: Position) -> Result<u64, SkyError> {
    if order > MAX_ORDER {
        return Err(SkyError::Order(order));
    }
    Ok(p.healpix(order))
}

/// The nested indices of the 6 to 8 cells that share an edge or a corner with a cell, ascending.
///
/// # Errors
/// Where the cell does not exist.
pub fn healpix_neighbours(order: u8, index: u64) -> Result<Vec<u64>, SkyError> {
    Ok(Cell::new(order, index)?.neighbours().into_iter().map(Cell::index).collect())
}

/// The centre of a cell.
///
/// # Errors
/// Where the cell does not exist.
pub fn healpix_center(order: u8, index: u64) -> Result<Position, SkyError> {
    Ok(Cell::new(order, index)?.center())
}

/// The corners of a cell: south, east, north, west. Its sides are no great circles.
///
/// # Errors
/// Where the cell does not exist.
pub fn healpix_corners(order: u8, index: u64) -> Result<[Position; 4], SkyError> {
    Ok(Cell::new(order, index)?.corners())
}

/// The smallest box of right ascensions and declinations that holds a cell, wider by 1e-9 degrees on each side.
///
/// # Errors
/// Where the cell does not exist.
pub fn healpix_bounds(order: u8, index: u64) -> Result<RaDecBounds, SkyError> {
    Ok(Cell::new(order, index)?.bounds())
}

/// The nested indices at order 29 of a cell's positions: the first, and the one after the last.
///
/// # Errors
/// Where the cell does not exist.
pub fn healpix_nested_range29(order: u8, index: u64) -> Result<(u64, u64), SkyError> {
    let range = Cell::new(order, index)?.range29();
    Ok((range.start, range.end))
}

/// The NUNIQ number (4 · 4^order + index) of a cell, which names order and index at once (IVOA MOC 2.0).
///
/// # Errors
/// Where the cell does not exist.
pub fn cell_nuniq(order: u8, index: u64) -> Result<u64, SkyError> {
    Ok(Cell::new(order, index)?.nuniq())
}

/// The order and nested index of the cell with a NUNIQ number.
///
/// # Errors
/// Where no cell has the number.
pub fn nuniq_cell(nuniq: u64) -> Result<(u8, u64), SkyError> {
    let cell = Cell::from_nuniq(nuniq)?;
    Ok((cell.order(), cell.index()))
}
