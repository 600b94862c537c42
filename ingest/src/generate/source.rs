//! What the survey saw of an object: its own row, its detections, and its forced photometry.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::object::{BANDS, MISSING, Object, depth, flux_njy, magnitude_error};
use super::plan::scatter;
use super::rows::{ForcedRow, PartFiles, SourceRow};
use super::{GenerateReport, GenerateRequest};
use crate::error::Result;

/// First night, MJD, and the survey's length in days.
const FIRST_MJD: f64 = 60_676.0;
const SURVEY_DAYS: f64 = 3_652.5;

/// One row in so many has no object: half of them null, half an id that no object has.
const ORPHAN: f64 = 0.02;

/// One row in so many is written twice.
const DUPLICATE: f64 = 0.01;

/// Of a single detection, degrees.
const ASTROMETRIC_ERROR_DEG: f64 = 0.05 / 3_600.0;

/// Writes an object and all that was seen of it.
pub(super) fn observe(
    request: &GenerateRequest,
    object: &Object,
    rng: &mut ChaCha8Rng,
    files: &mut PartFiles,
    report: &mut GenerateReport,
) -> Result<()> {
    let observations = i32::try_from(request.sources_per_object).unwrap_or(i32::MAX);
    files.object(object, observations)?;
    report.object_rows += 1;
    if rng.random_bool(DUPLICATE) {
        files.object(object, observations)?;
        report.object_rows += 1;
        report.duplicate_objects += 1;
    }
    for n in 0..request.sources_per_object {
        let row = draw_source(request, object, n, rng)?;
        let copies = if rng.random_bool(DUPLICATE) { 2 } else { 1 };
        for _ in 0..copies {
            files.source(&row)?;
        }
        report.source_rows += copies;
        report.duplicate_sources += copies - 1;
        report.orphan_sources += if row.object == Some(object.id) { 0 } else { copies };
    }
    for n in 0..request.forced_per_object {
        let row = draw_forced(request, object, n, rng);
        files.forced(&row)?;
        report.forced_rows += 1;
        report.orphan_forced += u64::from(row.object != Some(object.id));
    }
    Ok(())
}

fn draw_source(request: &GenerateRequest, object: &Object, n: u32, rng: &mut ChaCha8Rng) -> Result<SourceRow> {
    let per_object = i64::from(request.sources_per_object);
    let band = rng.random_range(0..BANDS.len());
    let mjd = visit(n, request.sources_per_object, rng);
    let mag = object.magnitude_at(band, mjd);
    let error = magnitude_error(band, mag);
    let noise: f64 = StandardNormal.sample(rng);
    let measured = mag + error * noise;
    let flux = flux_njy(measured);
    Ok(SourceRow {
        id: (object.id - 1) * per_object + i64::from(n) + 1,
        object: owner(object, rng),
        position: scatter(object.position, ASTROMETRIC_ERROR_DEG, rng)?,
        mjd,
        band: BANDS.get(band).copied().unwrap_or("r"),
        mag: (!rng.random_bool(MISSING)).then_some((measured, error)),
        flux: (!rng.random_bool(MISSING)).then_some((flux, flux * error * std::f64::consts::LN_10 / 2.5)),
        // Edge, saturated, cosmic ray, blended: most rows have none.
        flags: if rng.random_bool(0.1) { 1 << rng.random_range(0..4) } else { 0 },
    })
}

fn draw_forced(request: &GenerateRequest, object: &Object, n: u32, rng: &mut ChaCha8Rng) -> ForcedRow {
    let band = rng.random_range(0..BANDS.len());
    let mjd = visit(n, request.forced_per_object, rng);
    let mag = object.magnitude_at(band, mjd);
    let flux = flux_njy(mag);
    // Forced photometry has no threshold: the noise may be more than the flux, and the flux negative.
    let error = (flux_njy(depth(band)) / 5.0).hypot(0.005 * flux);
    let noise: f64 = StandardNormal.sample(rng);
    ForcedRow {
        object: owner(object, rng),
        visit: ((mjd - FIRST_MJD) * 86_400.0 / 38.0) as i64 * 189 + rng.random_range(0..189),
        band: BANDS.get(band).copied().unwrap_or("r"),
        mjd,
        flux: (!rng.random_bool(MISSING)).then_some((flux + error * noise, error)),
    }
}

/// The times of an object's visits follow each other.
fn visit(n: u32, of: u32, rng: &mut ChaCha8Rng) -> f64 {
    FIRST_MJD + SURVEY_DAYS * (f64::from(n) + rng.random::<f64>()) / f64::from(of.max(1))
}

fn owner(object: &Object, rng: &mut ChaCha8Rng) -> Option<i64> {
    if !rng.random_bool(ORPHAN) {
        return Some(object.id);
    }
    rng.random_bool(0.5).then_some(-object.id)
}
