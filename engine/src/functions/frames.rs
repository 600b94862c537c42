//! ICRS to galactic coordinates and back.

use skyflight_sky::{Degrees, GalacticPosition, Position, galactic_to_icrs, icrs_to_galactic};

use super::formula::{Formula, MOST_FIELDS, Record, Row};

/// One coordinate each, for columns and conditions.
pub(super) const COORDINATES: &[Formula] = &[
    Formula { name: "galactic_l", parameters: "ra, dec", check: is_icrs, value: |row| Some(galactic(row)?.l().0) },
    Formula { name: "galactic_b", parameters: "ra, dec", check: is_icrs, value: |row| Some(galactic(row)?.b().0) },
    Formula { name: "icrs_ra", parameters: "l, b", check: is_galactic, value: |row| Some(icrs(row)?.ra().0) },
    Formula { name: "icrs_dec", parameters: "l, b", check: is_galactic, value: |row| Some(icrs(row)?.dec().0) },
];

/// Both coordinates at once.
pub(super) const POSITIONS: &[Record] = &[
    Record {
        name: "icrs_to_galactic",
        parameters: "ra, dec",
        fields: &["l", "b"],
        check: is_icrs,
        value: |row| galactic(row).map(|p| pair(p.l(), p.b())),
    },
    Record {
        name: "galactic_to_icrs",
        parameters: "l, b",
        fields: &["ra", "dec"],
        check: is_galactic,
        value: |row| icrs(row).map(|p| pair(p.ra(), p.dec())),
    },
];

fn galactic(row: Row) -> Option<GalacticPosition> {
    let &[Some(ra), Some(dec)] = row else { return None };
    Position::new(Degrees(ra), Degrees(dec)).ok().map(icrs_to_galactic)
}

fn icrs(row: Row) -> Option<Position> {
    let &[Some(l), Some(b)] = row else { return None };
    GalacticPosition::new(Degrees(l), Degrees(b)).ok().map(galactic_to_icrs)
}

fn pair(first: Degrees, second: Degrees) -> [Option<f64>; MOST_FIELDS] {
    let mut fields = [None; MOST_FIELDS];
    fields[0] = Some(first.0);
    fields[1] = Some(second.0);
    fields
}

fn is_icrs(known: Row) -> Result<(), String> {
    match known {
        &[ra, Some(dec)] => {
            Position::new(Degrees(ra.unwrap_or(0.0)), Degrees(dec)).map(|_| ()).map_err(|e| e.to_string())
        }
        _ => Ok(()),
    }
}

fn is_galactic(known: Row) -> Result<(), String> {
    match known {
        &[l, Some(b)] => {
            GalacticPosition::new(Degrees(l.unwrap_or(0.0)), Degrees(b)).map(|_| ()).map_err(|e| e.to_string())
        }
        _ => Ok(()),
    }
}
