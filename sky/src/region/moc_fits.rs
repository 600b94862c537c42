//! Reads MOC FITS files through the `moc` crate, after checking what that crate takes on trust: it allocates by
//! the row count of the header, and ends a file that is cut short without an error.

use std::ops::Range;

use moc::deser::fits::{MocIdxType, MocQtyType, MocType, from_fits_ivoa};
use moc::idx::Idx;
use moc::moc::{CellMOCIntoIterator, CellMOCIterator};
use moc::qty::{Hpx, MocQty};

use crate::error::SkyError;
use crate::healpix::MAX_ORDER;

const BLOCK: usize = 2880;
const CARD: usize = 80;

/// The ranges of a space MOC at order 29, as the file has them.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Range<u64>>, SkyError> {
    check(bytes)?;
    match from_fits_ivoa(bytes).map_err(|error| SkyError::Moc(error.to_string()))? {
        MocIdxType::U16(MocQtyType::Hpx(moc)) => ranges(moc),
        MocIdxType::U32(MocQtyType::Hpx(moc)) => ranges(moc),
        MocIdxType::U64(MocQtyType::Hpx(moc)) => ranges(moc),
        _ => Err(SkyError::Moc("it covers time or frequency; a space MOC is wanted".to_owned())),
    }
}

fn ranges<T: Idx + Into<u64>>(moc: MocType<T, Hpx<T>, &[u8]>) -> Result<Vec<Range<u64>>, SkyError> {
    let shift = 2 * (MAX_ORDER - Hpx::<T>::MAX_DEPTH);
    let widen = |value: T| -> Result<u64, SkyError> {
        let value: u64 = value.into();
        value.checked_mul(1 << shift).ok_or_else(|| SkyError::Moc(format!("no cell has the number {value}")))
    };
    let mut ranges = Vec::new();
    let mut push = |range: Range<T>| -> Result<(), SkyError> {
        ranges.push(widen(range.start)?..widen(range.end)?);
        Ok(())
    };
    match moc {
        MocType::Ranges(mut iter) => iter.try_for_each(&mut push)?,
        MocType::Cells(cells) => cells.into_cell_moc_iter().ranges().try_for_each(&mut push)?,
    }
    Ok(ranges)
}

/// Checks that the file holds the rows its header promises and that its cell numbers exist.
fn check(bytes: &[u8]) -> Result<(), SkyError> {
    let (_, table) = header(bytes, 0)?;
    let (cards, rows_start) = header(bytes, table)?;
    let number = |name: &str| -> Result<usize, SkyError> {
        value(cards, name)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| SkyError::Moc(format!("its table has no usable {name}")))
    };
    let (width, rows) = (number("NAXIS1")?, number("NAXIS2")?);
    if ![2, 4, 8].contains(&width) {
        return Err(SkyError::Moc(format!("its rows are {width} bytes wide; 2, 4 or 8 are possible")));
    }
    let data = width
        .checked_mul(rows)
        .and_then(|length| rows_start.checked_add(length))
        .and_then(|end| bytes.get(rows_start..end))
        .ok_or_else(|| SkyError::Moc(format!("it is cut short: its header promises {rows} rows of {width} bytes")))?;
    let ordering = value(cards, "ORDERING").unwrap_or_default();
    if ordering.contains("RANGE") && rows % 2 != 0 {
        return Err(SkyError::Moc(format!("it has {rows} ends of ranges, an odd number")));
    }
    if !ordering.contains("NUNIQ") {
        return Ok(());
    }
    // Orders above these have no room in rows of this width.
    let largest_order = match width {
        2 => 5,
        4 => 13,
        _ => MAX_ORDER,
    };
    for row in data.chunks_exact(width) {
        let uniq = row.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
        // Some writers pad with zeros, which the reader skips.
        if uniq != 0 && !(4..1 << (2 * largest_order + 4)).contains(&uniq) {
            return Err(SkyError::Moc(format!("no cell has the NUNIQ number {uniq}")));
        }
    }
    Ok(())
}

/// The cards of the header that starts at `start`, and where its data begin.
fn header(bytes: &[u8], start: usize) -> Result<(&[u8], usize), SkyError> {
    let unended = || SkyError::Moc("it is no FITS file with a table: a header does not end".to_owned());
    let rest = bytes.get(start..).ok_or_else(unended)?;
    let end = rest.chunks_exact(CARD).position(|card| card.starts_with(b"END     ")).ok_or_else(unended)?;
    let length = ((end + 1) * CARD).div_ceil(BLOCK) * BLOCK;
    if rest.len() < length {
        return Err(unended());
    }
    Ok((&rest[..end * CARD], start + length))
}

/// The value of the first card of that name, without quotes and comment.
fn value(cards: &[u8], name: &str) -> Option<String> {
    let card = cards.chunks_exact(CARD).find(|card| card[..8].trim_ascii_end() == name.as_bytes())?;
    let text = String::from_utf8_lossy(card.get(10..)?).into_owned();
    let text = text.split('/').next()?;
    Some(text.trim().trim_matches('\'').trim().to_owned())
}
