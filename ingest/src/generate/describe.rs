//! The descriptions that go with the synthetic tables.

use skyflight_catalog::TableKind;

use super::GenerateRequest;
use super::object::BANDS;
use crate::description::{AngleUnit, ColumnDescription, PositionColumns, TableDescription};

/// The tables a request makes.
pub(super) fn tables(request: &GenerateRequest) -> Vec<TableDescription> {
    let mut tables = vec![object()];
    if request.sources_per_object > 0 {
        tables.push(source());
    }
    if request.forced_per_object > 0 {
        tables.push(forced_source());
    }
    tables
}

fn object() -> TableDescription {
    let mut table = TableDescription::new("Object", TableKind::Director);
    table.id = Some("objectId".into());
    table.description = Some("synthetic objects, mean properties".into());
    position(&mut table);
    say(&mut table, "objectId", "", "meta.id;meta.main", "identifies the object");
    say(&mut table, "pmra", "mas/yr", "pos.pm;pos.eq.ra", "proper motion in right ascension, with cos dec");
    say(&mut table, "pmdec", "mas/yr", "pos.pm;pos.eq.dec", "proper motion in declination");
    say(&mut table, "parallax", "mas", "pos.parallax", "parallax");
    for band in BANDS {
        say(&mut table, &format!("{band}Mag"), "mag", "phot.mag", &format!("mean AB magnitude in {band}"));
        say(&mut table, &format!("{band}MagErr"), "mag", "stat.error;phot.mag", "its standard error");
    }
    say(&mut table, "extendedness", "", "src.class.starGalaxy", "0 for a star, 1 for a galaxy");
    say(&mut table, "nObs", "", "meta.number", "number of detections");
    table
}

fn source() -> TableDescription {
    let mut table = child("Source", "detections of objects");
    table.id = Some("sourceId".into());
    position(&mut table);
    say(&mut table, "sourceId", "", "meta.id;meta.main", "identifies the detection");
    say(&mut table, "mag", "mag", "phot.mag", "AB magnitude");
    say(&mut table, "magErr", "mag", "stat.error;phot.mag", "its standard error");
    say(&mut table, "flags", "", "meta.code", "1 edge, 2 saturated, 4 cosmic ray, 8 blended");
    table
}

fn forced_source() -> TableDescription {
    let mut table = child("ForcedSource", "fluxes measured where objects are");
    say(&mut table, "ccdVisitId", "", "meta.id;obs.image", "identifies the image");
    table
}

/// What the children have in common.
fn child(name: &str, description: &str) -> TableDescription {
    let mut table = TableDescription::new(name, TableKind::Child);
    table.director = Some("Object".into());
    table.director_key = Some("objectId".into());
    table.description = Some(format!("synthetic {description}"));
    say(&mut table, "objectId", "", "meta.id;meta.id.parent", "the object; null where none was found");
    say(&mut table, "midPointTai", "d", "time.epoch", "middle of the exposure, MJD in TAI");
    say(&mut table, "band", "", "meta.id;instr.filter", "filter: u, g, r, i, z or y");
    say(&mut table, "psfFlux", "nJy", "phot.flux", "flux of a point source");
    say(&mut table, "psfFluxErr", "nJy", "stat.error;phot.flux", "its standard error");
    table
}

fn position(table: &mut TableDescription) {
    table.position =
        Some(PositionColumns { ra: "ra".into(), dec: "dec".into(), unit: AngleUnit::Degrees, wrap_ra: false });
    say(table, "ra", "deg", "pos.eq.ra;meta.main", "right ascension, ICRS");
    say(table, "dec", "deg", "pos.eq.dec;meta.main", "declination, ICRS");
}

fn say(table: &mut TableDescription, column: &str, unit: &str, ucd: &str, description: &str) {
    let known = ColumnDescription {
        data_type: None,
        unit: (!unit.is_empty()).then(|| unit.to_owned()),
        ucd: Some(ucd.to_owned()),
        description: Some(description.to_owned()),
    };
    table.columns.insert(column.to_owned(), known);
}
