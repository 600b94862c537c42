//! Angles against published values, and the exact cases at poles, at right ascension 0 and at antipodes.
#![expect(clippy::unwrap_used, reason = "tests")]

use skyflight_sky::{Arcsec, Degrees, Position, SkyError, healpix_center, healpix_index, position_angle, separation};

fn at(ra: f64, dec: f64) -> Position {
    Position::new(Degrees(ra), Degrees(dec)).unwrap()
}

fn at_radians(ra: f64, dec: f64) -> Position {
    at(ra.to_degrees(), dec.to_degrees())
}

#[track_caller]
fn close(actual: Degrees, expected: f64, tolerance: f64) {
    assert!((actual.0 - expected).abs() <= tolerance, "{} is not {expected} within {tolerance}", actual.0);
}

/// Meeus, Astronomical Algorithms, 2nd ed., example 17.a: Arcturus and Spica, 32.7930 deg (32° 47' 35").
#[test]
fn separation_of_arcturus_and_spica() {
    close(separation(at(213.9154, 19.1825), at(201.2983, -11.1614)), 32.7930, 5e-5);
}

/// IAU SOFA, test program t_sofa_c: `iauPas(1.0, 0.1, 0.2, -1.0)` = -2.724544922932270424 rad.
#[test]
fn position_angle_of_sofa() {
    let expected = (-2.724_544_922_932_270_4_f64).to_degrees() + 360.0;
    close(position_angle(at_radians(1.0, 0.1), at_radians(0.2, -1.0)), expected, 1e-12);
}

/// The Large and the Small Magellanic Cloud, an example of astropy's documentation ("Separations, Offsets, Catalog
/// Matching, and Related Functionality"): 20.74611448 deg. There one of the two is in FK5, up to 23 mas from ICRS.
#[test]
fn separation_of_magellanic_clouds() {
    let large = at(15.0 * (5.0 + 23.0 / 60.0 + 34.5 / 3600.0), -(69.0 + 45.0 / 60.0 + 22.0 / 3600.0));
    let small = at(15.0 * (0.0 + 52.0 / 60.0 + 44.8 / 3600.0), -(72.0 + 49.0 / 60.0 + 43.0 / 3600.0));
    close(separation(large, small), 20.746_114_48, 0.023 / 3600.0);
}

#[test]
fn separation_is_exact_where_it_must_be() {
    for p in [at(0.0, 90.0), at(123.4, -90.0), at(359.999, 0.1), at(0.0, 0.0), at(77.7, 88.8)] {
        assert_eq!(separation(p, p), Degrees(0.0));
        let antipode = at(p.ra().0 + 180.0, -p.dec().0);
        close(separation(p, antipode), 180.0, 1e-13);
    }
    // At a pole right ascension means nothing.
    assert!(separation(at(0.0, 90.0), at(200.0, 90.0)).0 < 1e-14);
    close(separation(at(10.0, 90.0), at(200.0, 89.0)), 1.0, 1e-13);
    close(separation(at(359.5, 0.0), at(0.5, 0.0)), 1.0, 1e-13);
    close(separation(at(0.0, 0.0), at(180.0, 0.0)), 180.0, 0.0);
    // Small separations keep their digits: one microarcsecond in declination and in right ascension.
    let tiny = 1e-6 / 3600.0;
    let (near, north) = (at(40.0, 60.0), at(40.0, 60.0 + tiny));
    let step = north.dec().0 - near.dec().0;
    assert!((separation(near, north).0 / step - 1.0).abs() < 1e-9);
    let east = at(40.0 + tiny, 60.0);
    let step = (east.ra().0 - near.ra().0) * 60_f64.to_radians().cos();
    assert!((separation(near, east).0 / step - 1.0).abs() < 1e-9);
    // Close to the antipode as well.
    close(separation(at(0.0, 0.0), at(180.0, tiny)), 180.0 - tiny, 1e-13);
}

#[test]
fn position_angles_of_the_compass() {
    let p = at(0.0, 0.0);
    close(position_angle(p, at(0.0, 1.0)), 0.0, 0.0);
    close(position_angle(p, at(1.0, 0.0)), 90.0, 1e-12);
    close(position_angle(p, at(0.0, -1.0)), 180.0, 1e-12);
    close(position_angle(p, at(359.0, 0.0)), 270.0, 1e-12);
    close(position_angle(p, p), 0.0, 0.0);
    close(position_angle(at(200.0, 30.0), at(17.0, 90.0)), 0.0, 1e-12);
    close(position_angle(at(200.0, 30.0), at(17.0, -90.0)), 180.0, 1e-12);
}

#[test]
fn positions_are_reduced_and_checked() {
    assert_eq!(at(360.0, 0.0), at(0.0, 0.0));
    assert_eq!(at(-10.0, 0.0), at(350.0, 0.0));
    assert_eq!(at(-1e-300, 0.0), at(0.0, 0.0));
    assert!(at(-1e-13, 0.0).ra().0 < 360.0);
    assert!(at(725.0, 1.0) == at(5.0, 1.0));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(matches!(Position::new(Degrees(bad), Degrees(0.0)), Err(SkyError::NotFinite { .. })));
        assert!(matches!(Position::new(Degrees(0.0), Degrees(bad)), Err(SkyError::NotFinite { .. })));
    }
    assert_eq!(Position::new(Degrees(0.0), Degrees(90.000001)), Err(SkyError::DecOutOfRange(90.000001)));
}

#[test]
fn angles_convert() {
    assert_eq!(Degrees::from(Arcsec(36.0)), Degrees(0.01));
    assert_eq!(Arcsec::from(Degrees(0.5)), Arcsec(1800.0));
}

/// Known cells: base cells of Górski et al. 2005 (ApJ 622, 759), figure 4: 0–3 north, 4–7 on the equator with
/// cell 4 at right ascension 0, 8–11 south.
#[test]
fn healpix_base_cells() {
    for quarter in 0..4 {
        let ra = 45.0 + 90.0 * f64::from(quarter);
        assert_eq!(healpix_index(0, at(ra, 60.0)).unwrap(), u64::from(quarter as u8));
        assert_eq!(healpix_index(0, at(ra - 45.0, 0.0)).unwrap(), 4 + u64::from(quarter as u8));
        assert_eq!(healpix_index(0, at(ra, -60.0)).unwrap(), 8 + u64::from(quarter as u8));
    }
    let center = healpix_center(0, 4).unwrap();
    assert_eq!((center.ra(), center.dec()), (Degrees(0.0), Degrees(0.0)));
    assert_eq!(healpix_index(30, at(0.0, 0.0)), Err(SkyError::Order(30)));
}
