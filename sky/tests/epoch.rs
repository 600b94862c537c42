//! Propagation to other epochs against astropy, SOFA and pgSphere, and there and back.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sampling;

use proptest::prelude::*;
use sampling::{at, position};
use skyflight_sky::{Astrometry, Mas, MasPerYear, SkyError, separation};

fn star(ra: f64, dec: f64, parallax: f64, pm_ra: f64, pm_dec: f64, velocity: f64) -> Astrometry {
    Astrometry {
        position: at(ra, dec),
        parallax: Some(Mas(parallax)),
        pm_ra: MasPerYear(pm_ra),
        pm_dec: MasPerYear(pm_dec),
        radial_velocity_km_s: Some(velocity),
    }
}

fn mas_apart(a: Astrometry, b: Astrometry) -> f64 {
    separation(a.position, b.position).0 * 3.6e6
}

/// Position within `mas`, the other numbers within `share` of their size.
#[track_caller]
fn close(actual: Astrometry, expected: Astrometry, mas: f64, share: f64) {
    let apart = mas_apart(actual, expected);
    assert!(apart <= mas, "{apart} mas apart: {actual:?} {expected:?}");
    let motion = expected.pm_ra.0.hypot(expected.pm_dec.0);
    let differences = [
        (actual.pm_ra.0 - expected.pm_ra.0) / motion,
        (actual.pm_dec.0 - expected.pm_dec.0) / motion,
        actual.parallax.unwrap().0 / expected.parallax.unwrap().0 - 1.0,
        actual.radial_velocity_km_s.unwrap() / expected.radial_velocity_km_s.unwrap() - 1.0,
    ];
    assert!(differences.iter().all(|d| d.abs() <= share), "{differences:?}: {actual:?} {expected:?}");
}

/// Barnard's star (Gaia DR3), Polaris (Hipparcos, at J2000), a star near the south pole, and one that crosses right
/// ascension 0: epoch, then the six numbers.
fn stars() -> [(f64, Astrometry); 4] {
    [
        (2016.0, star(269.44850252, 4.73942005, 546.9759, -801.551, 10362.394, -110.47)),
        (2000.0, star(37.95456067, 89.26410897, 7.54, 44.48, -11.85, -16.42)),
        (1991.25, star(317.19515, -88.9565, 12.0, 26.0, 5.1, 11.9)),
        (2016.0, star(0.0001, -10.0, 200.0, -900.0, 300.0, 55.0)),
    ]
}

/// astropy 8.0.2: `c.cartesian + c.velocity * dt` of a `SkyCoord` with all six numbers, back in spherical coordinates:
/// the same straight line, by way of vectors in parsecs and km/s.
#[test]
fn motion_is_a_straight_line() {
    let [barnard, polaris, south, wrap] = stars();
    for ((epoch, star), years, expected) in [
        (
            barnard,
            -16.0,
            star(
                269.4520734227865,
                4.693410458297969,
                546.4354352323159,
                -799.9147661593373,
                10341.930133751743,
                -110.54251288801596,
            ),
        ),
        (
            barnard,
            84.0,
            star(
                269.42963093160785,
                4.982469176758725,
                549.8250531329516,
                -810.2154143022763,
                10470.606292940329,
                -110.0857566869026,
            ),
        ),
        (
            barnard,
            1000.0,
            star(
                269.2093091945731,
                7.804463245186385,
                582.1646435984406,
                -913.3567360670652,
                11738.159266854123,
                -105.48024565410692,
            ),
        ),
        (
            polaris,
            -16.0,
            star(
                37.93916730685635,
                89.26416161000618,
                7.5399847247004415,
                44.48300157412973,
                -11.838002379303928,
                -16.420103336235087,
            ),
        ),
        (
            polaris,
            1000.0,
            star(
                38.91232676504197,
                89.26071361081803,
                7.540954638221195,
                44.28693783689922,
                -12.59497247471455,
                -16.413540238977742,
            ),
        ),
        (
            south,
            84.0,
            star(
                317.22845806680795,
                -88.95638082515282,
                11.999852789463839,
                25.996393453729457,
                5.114985853021253,
                11.900112935286723,
            ),
        ),
        (
            wrap,
            -16.0,
            star(
                0.004162454341246614,
                -10.001333548740645,
                200.0360054073501,
                -900.3277730042159,
                300.09694020955993,
                54.99834481677137,
            ),
        ),
        (
            wrap,
            84.0,
            star(
                359.97879663244373,
                -9.993005931870364,
                199.81116633899157,
                -898.2819712966942,
                299.49174440422615,
                55.00867506654868,
            ),
        ),
    ] {
        close(star.propagated(epoch, epoch + years).unwrap(), expected, 1e-6, 1e-11);
    }
}

/// astropy 8.0.2, `SkyCoord.apply_space_motion` (ERFA's `pmsafe`). It accounts for the time light takes, which
/// makes up the difference: quadratic in time, 0.03 mas for Barnard's star over 16 years and 0.84 mas over 84,
/// far less for stars that are slower or farther away.
#[test]
fn motion_is_near_that_of_astropy() {
    let [barnard, polaris, south, wrap] = stars();
    for ((epoch, star), years, expected, mas) in [
        (
            barnard,
            -16.0,
            star(
                269.45207342213627,
                4.693410466676808,
                546.4352696029093,
                -799.914474727372,
                10341.926365764088,
                -110.5425396015107,
            ),
            0.031,
        ),
        (
            barnard,
            84.0,
            star(
                269.42963091352146,
                4.982469409610572,
                549.8259313272681,
                -810.2169643289471,
                10470.626320571357,
                -110.085614914389,
            ),
            0.85,
        ),
        (
            polaris,
            84.0,
            star(
                38.035340664118806,
                89.26383173547943,
                7.540080203779557,
                44.46419598802357,
                -11.912947765421675,
                -16.4194574447476,
            ),
            1e-5,
        ),
        (
            south,
            -16.0,
            star(
                317.1888046517288,
                -88.95652266032195,
                12.000028039366175,
                26.00068606632495,
                5.097144838956967,
                11.899978488899471,
            ),
            1e-5,
        ),
        (
            wrap,
            84.0,
            star(
                359.97879663059865,
                -9.99300593126451,
                199.81118653806237,
                -898.2821269176083,
                299.491796294602,
                55.00867347595724,
            ),
            0.01,
        ),
    ] {
        close(star.propagated(epoch, epoch + years).unwrap(), expected, mas, 3e-6);
    }
}

/// IAU SOFA, test program t_sofa_c, `iauStarpm`, over 3653 days, with light time as above. There proper motion in
/// right ascension is without the cosine of the declination.
#[test]
#[expect(clippy::excessive_precision, reason = "as published")]
fn motion_of_sofa() {
    const MAS: f64 = 180.0 / std::f64::consts::PI * 3.6e6;
    let from_radians = |ra: f64, dec: f64, pm_ra: f64, pm_dec: f64, parallax: f64, velocity: f64| {
        star(ra.to_degrees(), dec.to_degrees(), 1000.0 * parallax, pm_ra * dec.cos() * MAS, pm_dec * MAS, velocity)
    };
    let before = from_radians(0.016_867_56, -1.093_989_828, -1.783_235_16e-5, 2.336_024_047e-6, 0.747_23, -21.6);
    let after = from_radians(
        0.016_689_190_694_142_423_68,
        -1.093_966_454_217_127_879,
        -0.178_366_268_215_593_270_2e-4,
        0.233_809_291_598_760_366_4e-5,
        0.747_353_383_532_349_364_4,
        -21.599_051_704_768_607_86,
    );
    close(before.propagated(2000.0, 2000.0 + 3653.0 / 365.25).unwrap(), after, 0.001, 1e-6);
}

/// pgSphere, expected/epochprop.out: `epoch_prop` over -100 years, with a parallax and without one. Printed to
/// 1e-10 deg and 1e-3 of the other units. Where the parallax is missing pgSphere takes a very small one, and with
/// it a trace of the radial velocity (1 microarcsec here).
#[test]
fn motion_of_pgsphere() {
    let before = star(269.45207695, 4.693364966, 546.9759, -801.551, 10362.0, -110.0);
    let after = before.propagated(2000.0, 1900.0).unwrap();
    assert!(separation(after.position, at(269.4742714391, 4.4072939987)).0 < 2e-10);
    assert!((after.parallax.unwrap().0 - 543.624).abs() < 5.1e-4);
    assert!((after.pm_ra.0 + 791.442).abs() < 5.1e-4 && (after.pm_dec.0 - 10235.412).abs() < 5.1e-4);
    assert!((after.radial_velocity_km_s.unwrap() + 110.450).abs() < 5.1e-4);

    for parallax in [None, Some(Mas(0.0)), Some(Mas(-3.0))] {
        let after = Astrometry { parallax, ..before }.propagated(2000.0, 1900.0).unwrap();
        assert!(separation(after.position, at(269.4744079540, 4.4055337210)).0 < 4e-10, "{after:?}");
        assert!((after.pm_ra.0 + 801.210).abs() < 5.1e-4 && (after.pm_dec.0 - 10361.762).abs() < 5.1e-4, "{after:?}");
        assert_eq!((after.parallax, after.radial_velocity_km_s), (parallax, Some(-110.0)));
    }
}

#[test]
fn missing_numbers_stay_missing() {
    let (_, barnard) = stars()[0];
    let silent = Astrometry { radial_velocity_km_s: None, ..barnard }.propagated(2016.0, 2100.0).unwrap();
    let still = Astrometry { radial_velocity_km_s: Some(0.0), ..barnard }.propagated(2016.0, 2100.0).unwrap();
    assert_eq!((silent.position, silent.parallax), (still.position, still.parallax));
    assert_eq!(silent.radial_velocity_km_s, None);
    // It recedes by and by: with μ = 5.039e-5 and ϖ = 2.652e-6 rad, μ² t / ϖ au per year are 0.381 km/s.
    assert!((still.radial_velocity_km_s.unwrap() - 0.381).abs() < 1e-3);
    let far = Astrometry { parallax: None, radial_velocity_km_s: None, ..barnard };
    assert_eq!(far.propagated(2016.0, 2100.0).unwrap().parallax, None);
    assert!(mas_apart(far.propagated(2016.0, 2100.0).unwrap(), silent) < 1e-6);
}

#[test]
fn a_star_over_the_pole_comes_down_on_the_other_side() {
    let before = Astrometry {
        position: at(30.0, 89.999_999),
        parallax: None,
        pm_ra: MasPerYear(0.0),
        pm_dec: MasPerYear(0.1),
        radial_velocity_km_s: None,
    };
    let after = before.propagated(2000.0, 2072.0).unwrap();
    assert!(separation(after.position, at(210.0, 89.999_999)).0 < 1e-12, "{after:?}");
    assert!((after.pm_dec.0 + 0.1).abs() < 1e-9 && after.pm_ra.0.abs() < 1e-9, "{after:?}");
}

#[test]
fn numbers_that_are_none_are_errors() {
    let (_, good) = stars()[0];
    for bad in [f64::NAN, f64::INFINITY] {
        for star in [
            Astrometry { parallax: Some(Mas(bad)), ..good },
            Astrometry { pm_ra: MasPerYear(bad), ..good },
            Astrometry { pm_dec: MasPerYear(bad), ..good },
            Astrometry { radial_velocity_km_s: Some(bad), ..good },
        ] {
            assert!(matches!(star.propagated(2000.0, 2010.0), Err(SkyError::NotFinite { .. })), "{star:?}");
        }
        assert!(matches!(good.propagated(bad, 2010.0), Err(SkyError::NotFinite { .. })));
        assert!(matches!(good.propagated(2010.0, bad), Err(SkyError::NotFinite { .. })));
    }
    let wild = Astrometry { pm_dec: MasPerYear(1e300), ..good };
    assert!(matches!(wild.propagated(2000.0, 2010.0), Err(SkyError::Motion { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back(p in position(), parallax in 0.01..800.0_f64, pm_ra in -1e4..1e4_f64, pm_dec in -1e4..1e4_f64, velocity in -500.0..500.0_f64, years in -300.0..300.0_f64) {
        let before = Astrometry { position: p, ..star(0.0, 0.0, parallax, pm_ra, pm_dec, velocity) };
        let back = before.propagated(2016.0, 2016.0 + years).unwrap().propagated(2016.0 + years, 2016.0).unwrap();
        prop_assert!(mas_apart(before, back) < 1e-6, "{} mas", mas_apart(before, back));
        let (parallax_back, velocity_back) = (back.parallax.unwrap().0, back.radial_velocity_km_s.unwrap());
        prop_assert!((parallax_back / parallax - 1.0).abs() < 1e-12);
        // A velocity is the small difference of large ones where the star is far away.
        let transverse = 4.74 * pm_ra.hypot(pm_dec) / parallax;
        prop_assert!((velocity_back - velocity).abs() < 1e-10 * (1.0 + velocity.abs() + transverse));
        let motion = pm_ra.hypot(pm_dec);
        // At a pole the direction of east is lost in rounding.
        if p.dec().0.abs() < 89.9 {
            prop_assert!((back.pm_ra.0 - pm_ra).abs() < 1e-10 * motion && (back.pm_dec.0 - pm_dec).abs() < 1e-10 * motion);
        }
        prop_assert!((back.pm_ra.0.hypot(back.pm_dec.0) / motion - 1.0).abs() < 1e-11);
    }

    /// Without radial motion the star moves on a great circle, by the arctangent of motion times years.
    #[test]
    fn proper_motion_alone_is_a_great_circle(p in position(), pm_ra in -1e4..1e4_f64, pm_dec in -1e4..1e4_f64, years in -300.0..300.0_f64) {
        let before = Astrometry { position: p, parallax: None, radial_velocity_km_s: None, ..star(0.0, 0.0, 0.0, pm_ra, pm_dec, 0.0) };
        let after = before.propagated(2000.0, 2000.0 + years).unwrap();
        let expected = MasPerYear(pm_ra.hypot(pm_dec) * years.abs()).radians_per_year().atan().to_degrees();
        prop_assert!((separation(p, after.position).0 - expected).abs() < 1e-12);
        prop_assert_eq!(before.propagated(1991.25, 1991.25).unwrap(), before);
    }
}
