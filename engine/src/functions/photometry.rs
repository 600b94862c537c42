//! scisql's conversions between AB magnitudes, calibrated fluxes and raw fluxes.
//!
//! Constants and formulas are those of scisql 0.3 (`photometry.h`), rules for NULL those of its documentation: NULL
//! where an argument is NULL or not finite, where a flux whose magnitude is asked for or a zero point is not above 0,
//! where a standard deviation is below 0, and where the result is not finite.

use super::formula::{Formula, Row, finite, unchecked};

/// The flux of AB magnitude 0 in erg/s/cm²/Hz: 10^(-48.6 / 2.5) (Oke & Gunn 1983, ApJ 266, 713).
const AB_FLUX: f64 = 3.630_780_547_701_013e-20;

/// Magnitude of a flux of 1 erg/s/cm²/Hz.
const AB_ZERO: f64 = -48.6;
/// Magnitude of a flux of 1 nJy.
const NANOJANSKY_ZERO: f64 = 31.4;

/// 2.5 / ln 10: a magnitude's change by a relative change of the flux.
const MAGNITUDES_PER_E: f64 = 1.085_736_204_758_129_6;

pub(super) const CONVERSIONS: &[Formula] = &[
    conversion("scisql_abmagtodn", "mag, flux_mag0", |row| {
        let [mag, zero] = finite(row)?;
        result(positive(zero)? * flux(mag, AB_ZERO) / AB_FLUX)
    }),
    conversion("scisql_abmagtodnsigma", "mag, mag_sigma, flux_mag0, flux_mag0_sigma", |row| {
        let [mag, mag_sigma, zero, zero_sigma] = finite(row)?;
        let flux = flux(mag, AB_ZERO);
        let flux_sigma = sigma(mag_sigma)? * flux / MAGNITUDES_PER_E;
        result((flux * sigma(zero_sigma)?).hypot(positive(zero)? * flux_sigma) / AB_FLUX)
    }),
    conversion("scisql_abmagtoflux", "mag", |row| {
        let [mag] = finite(row)?;
        result(flux(mag, AB_ZERO))
    }),
    conversion("scisql_abmagtofluxsigma", "mag, mag_sigma", |row| {
        let [mag, mag_sigma] = finite(row)?;
        result(sigma(mag_sigma)? * flux(mag, AB_ZERO) / MAGNITUDES_PER_E)
    }),
    conversion("scisql_abmagtonanojansky", "mag", |row| {
        let [mag] = finite(row)?;
        result(flux(mag, NANOJANSKY_ZERO))
    }),
    conversion("scisql_abmagtonanojanskysigma", "mag, mag_sigma", |row| {
        let [mag, mag_sigma] = finite(row)?;
        result(sigma(mag_sigma)? * flux(mag, NANOJANSKY_ZERO) / MAGNITUDES_PER_E)
    }),
    conversion("scisql_dntoabmag", "dn, flux_mag0", |row| {
        let [dn, zero] = finite(row)?;
        result(magnitude(AB_FLUX * positive(dn)? / positive(zero)?, AB_ZERO))
    }),
    conversion("scisql_dntoabmagsigma", "dn, dn_sigma, flux_mag0, flux_mag0_sigma", |row| {
        let [dn, dn_sigma, zero, zero_sigma] = finite(row)?;
        let calibrated = AB_FLUX * positive(dn)? / positive(zero)?;
        result(MAGNITUDES_PER_E * dn_flux_sigma(dn, sigma(dn_sigma)?, zero, sigma(zero_sigma)?) / calibrated)
    }),
    conversion("scisql_dntoflux", "dn, flux_mag0", |row| {
        let [dn, zero] = finite(row)?;
        result(AB_FLUX * dn / positive(zero)?)
    }),
    conversion("scisql_dntofluxsigma", "dn, dn_sigma, flux_mag0, flux_mag0_sigma", |row| {
        let [dn, dn_sigma, zero, zero_sigma] = finite(row)?;
        result(dn_flux_sigma(dn, sigma(dn_sigma)?, positive(zero)?, sigma(zero_sigma)?))
    }),
    conversion("scisql_fluxtoabmag", "flux", |row| {
        let [flux] = finite(row)?;
        result(magnitude(positive(flux)?, AB_ZERO))
    }),
    conversion("scisql_fluxtoabmagsigma", "flux, flux_sigma", |row| {
        let [flux, flux_sigma] = finite(row)?;
        result(MAGNITUDES_PER_E * sigma(flux_sigma)? / positive(flux)?)
    }),
    conversion("scisql_fluxtodn", "flux, flux_mag0", |row| {
        let [flux, zero] = finite(row)?;
        result(flux * positive(zero)? / AB_FLUX)
    }),
    conversion("scisql_fluxtodnsigma", "flux, flux_sigma, flux_mag0, flux_mag0_sigma", |row| {
        let [flux, flux_sigma, zero, zero_sigma] = finite(row)?;
        result((flux * sigma(zero_sigma)?).hypot(positive(zero)? * sigma(flux_sigma)?) / AB_FLUX)
    }),
    conversion("scisql_nanojanskytoabmag", "flux", |row| {
        let [flux] = finite(row)?;
        result(magnitude(positive(flux)?, NANOJANSKY_ZERO))
    }),
    conversion("scisql_nanojanskytoabmagsigma", "flux, flux_sigma", |row| {
        let [flux, flux_sigma] = finite(row)?;
        result(MAGNITUDES_PER_E * sigma(flux_sigma)? / positive(flux)?)
    }),
];

const fn conversion(name: &'static str, parameters: &'static str, value: fn(Row) -> Option<f64>) -> Formula {
    Formula { name, parameters, check: unchecked, value }
}

fn magnitude(flux: f64, zero: f64) -> f64 {
    -2.5 * flux.log10() + zero
}

fn flux(magnitude: f64, zero: f64) -> f64 {
    10_f64.powf(-0.4 * (magnitude - zero))
}

/// The standard deviation of the calibrated flux of a raw one.
fn dn_flux_sigma(dn: f64, dn_sigma: f64, zero: f64, zero_sigma: f64) -> f64 {
    AB_FLUX * (dn * zero_sigma).hypot(dn_sigma * zero) / (zero * zero)
}

fn positive(number: f64) -> Option<f64> {
    (number > 0.0).then_some(number)
}

fn sigma(number: f64) -> Option<f64> {
    (number >= 0.0).then_some(number)
}

fn result(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}
