//! One object: where it is, how it moves, and how bright it is.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use skyflight_sky::Position;

use super::plan::SkyPlan;
use crate::error::Result;

/// The bands of the survey.
pub(super) const BANDS: [&str; 6] = ["u", "g", "r", "i", "z", "y"];

/// Five-sigma depth of one visit in each band (Ivezić et al. 2019, table 2).
const DEPTH: [f64; 6] = [23.9, 25.0, 24.7, 24.0, 23.3, 22.1];

/// One object in so many varies.
const VARIABLE: f64 = 0.08;

/// One measured value in so many is missing.
pub(super) const MISSING: f64 = 0.03;

/// How an object's brightness goes up and down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variation {
    amplitude_mag: f64,
    period_days: f64,
    phase: f64,
}

/// An object as it is; what a survey sees of it is drawn from this.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) id: i64,
    pub(super) position: Position,
    /// mas a year, with cos dec; mas. None where no solution was found.
    pub(super) motion: Option<Motion>,
    pub(super) mag: [f64; 6],
    /// Bands in which the object has no mean magnitude.
    pub(super) missing: [bool; 6],
    pub(super) extended: bool,
    variation: Option<Variation>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Motion {
    pub(super) pmra: f64,
    pub(super) pmdec: f64,
    pub(super) parallax: f64,
}

impl Object {
    pub(super) fn draw(plan: &SkyPlan, cell: u64, index: u64, rng: &mut ChaCha8Rng) -> Result<Object> {
        let position = plan.position(cell, index, rng)?;
        let number = plan.number(cell, index);
        let extended = rng.random_bool(0.3);
        Ok(Object {
            id: i64::try_from(number + 1).unwrap_or(i64::MAX),
            position,
            motion: (!rng.random_bool(MISSING)).then(|| draw_motion(extended, rng)),
            mag: draw_magnitudes(extended, rng),
            missing: std::array::from_fn(|_| rng.random_bool(MISSING)),
            extended,
            variation: rng.random_bool(VARIABLE).then(|| Variation {
                amplitude_mag: rng.random_range(0.05..0.8),
                // From hours to years, as many in each decade.
                period_days: 10_f64.powf(rng.random_range(-0.7..2.8)),
                phase: rng.random_range(0.0..std::f64::consts::TAU),
            }),
        })
    }

    /// The magnitude in a band at a time (MJD).
    pub(super) fn magnitude_at(&self, band: usize, mjd: f64) -> f64 {
        let mean = self.mag.get(band).copied().unwrap_or(25.0);
        let varies = |variation: Variation| {
            let angle = std::f64::consts::TAU * mjd / variation.period_days + variation.phase;
            variation.amplitude_mag * angle.sin()
        };
        mean + self.variation.map_or(0.0, varies)
    }
}

fn draw_motion(extended: bool, rng: &mut ChaCha8Rng) -> Motion {
    let mut normal = |sigma: f64| -> f64 { sigma * Distribution::<f64>::sample(&StandardNormal, rng) };
    if extended {
        // Galaxies stand still; what is measured is noise.
        return Motion { pmra: normal(0.3), pmdec: normal(0.3), parallax: normal(0.2) };
    }
    // Distances around a kiloparsec; nearer stars move faster.
    let parallax = normal(0.8).exp();
    Motion { pmra: normal(6.0 * parallax), pmdec: normal(6.0 * parallax) - 2.0, parallax: parallax + normal(0.1) }
}

fn draw_magnitudes(extended: bool, rng: &mut ChaCha8Rng) -> [f64; 6] {
    // Numbers that grow as 10^(0.3 m) between 14 and 25.5 in r.
    let (bright, faint) = (10_f64.powf(0.3 * 14.0), 10_f64.powf(0.3 * 25.5));
    let r = rng.random_range(bright..faint).log10() / 0.3;
    let mut normal =
        |mean: f64, sigma: f64| -> f64 { mean + sigma * Distribution::<f64>::sample(&StandardNormal, rng) };
    let g_r = if extended { normal(0.9, 0.35) } else { normal(0.6, 0.4) };
    let u_g = normal(0.5, 0.25) + 1.2 * g_r.max(0.0);
    let (r_i, i_z, z_y) =
        (normal(0.1, 0.08) + 0.4 * g_r, normal(0.05, 0.05) + 0.2 * g_r, normal(0.03, 0.05) + 0.1 * g_r);
    let g = r + g_r;
    let i = r - r_i;
    let z = i - i_z;
    [g + u_g, g, r, i, z, z - z_y]
}

/// The magnitude whose flux is five times the noise of the sky in one visit.
pub(super) fn depth(band: usize) -> f64 {
    DEPTH.get(band).copied().unwrap_or(24.0)
}

/// The error of a magnitude measured once in a band.
pub(super) fn magnitude_error(band: usize, mag: f64) -> f64 {
    (0.005_f64.powi(2) + (0.2 * 10_f64.powf(0.4 * (mag - depth(band)))).powi(2)).sqrt().min(10.0)
}

/// The flux of an AB magnitude, nanojansky.
pub(super) fn flux_njy(mag: f64) -> f64 {
    10_f64.powf(0.4 * (31.4 - mag))
}
