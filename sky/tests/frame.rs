//! Galactic coordinates against SOFA, astropy and the definition.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sampling;

use proptest::prelude::*;
use sampling::{at, position};
use skyflight_sky::{Degrees, GalacticPosition, Position, SkyError, galactic_to_icrs, icrs_to_galactic, separation};

fn galactic(l: f64, b: f64) -> GalacticPosition {
    GalacticPosition::new(Degrees(l), Degrees(b)).unwrap()
}

/// The distance of two galactic positions, by the formula of equatorial ones.
fn apart(a: GalacticPosition, b: GalacticPosition) -> f64 {
    separation(at(a.l().0, a.b().0), at(b.l().0, b.b().0)).0
}

/// The routine `icrs2g` of ERFA 2.0.1 (SOFA's `iauIcrs2g`), which is made of the same three angles.
const ERFA: [(f64, f64, f64, f64); 6] = [
    (266.4050892, -28.9361747, 4.241_286_282_952_89e-5, -7.089_984_869_448_47e-5),
    (0.0, 0.0, 96.337_272_343_417_65, -60.188_553_267_593_726),
    (359.9999, -89.9, 302.956_949_190_313, -27.225_739_625_516_333),
    (10.0, 90.0, 122.931_92, 27.128_25),
    (83.633083, 22.0145, 184.557_451_622_065_9, -5.784_359_760_386_859),
    (123.456, -65.4321, 278.979_619_931_455_83, -16.530_859_868_042_242),
];

#[test]
fn galactic_coordinates_are_those_of_erfa() {
    for (ra, dec, l, b) in ERFA {
        assert!(apart(icrs_to_galactic(at(ra, dec)), galactic(l, b)) < 1e-13, "({ra}, {dec})");
        assert!(separation(galactic_to_icrs(galactic(l, b)), at(ra, dec)).0 < 1e-13, "({l}, {b})");
    }
    // ERFA's `g2icrs`.
    for (l, b, ra, dec) in [
        (0.0, 0.0, 266.404_994_801_046_1, -28.936_173_960_138_692),
        (300.5, -45.25, 18.340_446_447_112_02, -71.774_584_154_463_98),
    ] {
        assert!(separation(galactic_to_icrs(galactic(l, b)), at(ra, dec)).0 < 1e-13, "({l}, {b})");
    }
}

/// astropy 8.0.2, `SkyCoord(ra, dec).galactic`. It goes by way of FK5 J2000 and a pole of its own, which differs
/// from the definition in use since Hipparcos by up to 25 mas over the sky.
#[test]
fn galactic_coordinates_are_near_those_of_astropy() {
    const APART: f64 = 0.025 / 3600.0;
    for (ra, dec, l, b) in [
        (192.85948, 27.12825, 340.737_598_811_653_75, 89.999_996_943_444_35),
        (266.4050892, -28.9361747, 4.862_822_872_565_841e-5, -7.378_529_116_659_605e-5),
        (0.0, 0.0, 96.337_283_369_690_06, -60.188_551_946_914_465),
        (359.9999, -89.9, 302.956_954_442_244_2, -27.225_742_041_302_59),
        (10.0, 90.0, 122.931_925_255_416_62, 27.128_252_414_968),
        (83.633083, 22.0145, 184.557_457_712_382_33, -5.784_356_964_188_546),
        (123.456, -65.4321, 278.979_625_347_630_4, -16.530_861_314_395_92),
    ] {
        let apart = apart(icrs_to_galactic(at(ra, dec)), galactic(l, b));
        assert!(apart < APART, "({ra}, {dec}): {apart} deg");
    }
}

/// ESA 1997, SP-1200, vol. 1, section 1.5.3: the angles the system is made of.
#[test]
fn definition_holds() {
    let pole = at(192.85948, 27.12825);
    assert!(icrs_to_galactic(pole).b().0 > 90.0 - 1e-6);
    assert!(separation(galactic_to_icrs(galactic(77.0, 90.0)), pole).0 < 1e-13);
    // The ascending node of the galactic plane on the equator lies 90 deg east of the pole.
    assert!(apart(icrs_to_galactic(at(282.85948, 0.0)), galactic(32.93192, 0.0)) < 1e-13);
}

#[test]
fn galactic_positions_are_reduced_and_checked() {
    assert_eq!(galactic(-10.0, 1.0), galactic(350.0, 1.0));
    assert_eq!(galactic(360.0, 1.0).l(), Degrees(0.0));
    assert_eq!(GalacticPosition::new(Degrees(0.0), Degrees(90.5)), Err(SkyError::GalacticLatitude(90.5)));
    for bad in [f64::NAN, f64::INFINITY] {
        assert!(matches!(GalacticPosition::new(Degrees(bad), Degrees(0.0)), Err(SkyError::NotFinite { .. })));
        assert!(matches!(GalacticPosition::new(Degrees(0.0), Degrees(bad)), Err(SkyError::NotFinite { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back(p in position()) {
        let galactic = icrs_to_galactic(p);
        prop_assert!((0.0..360.0).contains(&galactic.l().0) && (-90.0..=90.0).contains(&galactic.b().0));
        prop_assert!(separation(galactic_to_icrs(galactic), p).0 < 1e-12);
        let position = |g: GalacticPosition| at(g.l().0, g.b().0);
        let as_galactic = GalacticPosition::new(p.ra(), p.dec()).unwrap();
        prop_assert!(separation(position(icrs_to_galactic(galactic_to_icrs(as_galactic))), p).0 < 1e-12);
    }

    #[test]
    fn distances_stay(a in position(), b in position()) {
        let apart = apart(icrs_to_galactic(a), icrs_to_galactic(b));
        prop_assert!((apart - separation(a, b).0).abs() < 1e-12);
        let position: Position = galactic_to_icrs(icrs_to_galactic(b));
        prop_assert!((separation(a, position).0 - separation(a, b).0).abs() < 1e-12);
    }
}
