//! Regions: what they hold, by formulas of their own, and what they refuse.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sampling;

use std::path::PathBuf;

use proptest::prelude::*;
use sampling::{at, offset, position, radius};
use skyflight_sky::{
    Arcsec, Circle, ConvexPolygon, Degrees, Ellipse, MocRegion, Position, RaDecRange, SkyBox, SkyError, healpix_center,
    healpix_index, position_angle, separation,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn circles_hold_what_is_near(center in position(), radius in radius(), p in position()) {
        let circle = Circle::new(center, Degrees(radius)).unwrap();
        let (a, b) = (center.unit_vector(), p.unit_vector());
        let cosine = a.x * b.x + a.y * b.y + a.z * b.z;
        let edge = radius.to_radians().cos();
        if (cosine - edge).abs() > 1e-14 {
            prop_assert_eq!(circle.contains(p), cosine > edge);
        }
        prop_assert!(circle.contains(center));
        prop_assert!(circle.contains(offset(center, radius * (1.0 - 1e-6), 33.0)) || radius < 1e-5);
    }

    #[test]
    fn offsets_come_back(from in position(), distance in 1e-6..179.9_f64, angle in 0.0..360.0_f64) {
        // At a pole the direction of north is lost in rounding.
        prop_assume!(from.dec().0.abs() < 89.9);
        let to = offset(from, distance, angle);
        prop_assert!((separation(from, to).0 - distance).abs() < 1e-11);
        prop_assert_eq!(separation(from, to), separation(to, from));
        let difference = (position_angle(from, to).0 - angle + 540.0).rem_euclid(360.0) - 180.0;
        prop_assert!((difference.to_radians() * distance.to_radians().sin()).abs() < 1e-12);
    }

    #[test]
    fn boxes_hold_what_scisql_says(a in position(), width in 0.0..400.0_f64, height in 0.0..90.0_f64, p in position()) {
        let (west, south) = (a.ra().0, a.dec().0);
        let north = (south + height).min(90.0);
        let sky_box = SkyBox::new(Degrees(west), Degrees(south), Degrees(west + width), Degrees(north)).unwrap();
        let east = (west + width).rem_euclid(360.0);
        let ra = p.ra().0;
        let in_ra = if width >= 360.0 { true } else if west <= east { ra >= west && ra <= east } else { ra >= west || ra <= east };
        prop_assume!((west + width - west) == width || width < 359.0);
        prop_assert_eq!(sky_box.contains(p), in_ra && p.dec().0 >= south && p.dec().0 <= north);
    }

    /// Against the direct formula on the tangent plane: distance and position angle from the centre.
    #[test]
    fn ellipses_hold_what_scisql_says(
        center in position(), major in 1.0..36_000.0_f64, ratio in 0.01..1.0_f64, angle in 0.0..360.0_f64,
        share in 0.0..2.0_f64, turn in 0.0..360.0_f64,
    ) {
        let minor = major * ratio;
        let ellipse = Ellipse::new(center, Arcsec(major), Arcsec(minor), Degrees(angle)).unwrap();
        let distance = share * major / 3600.0;
        let p = offset(center, distance, angle + turn);
        let projected = distance.to_radians().sin().to_degrees() * 3600.0;
        let (x, y) = (projected * turn.to_radians().cos() / major, projected * turn.to_radians().sin() / minor);
        let norm = x.hypot(y);
        if (norm - 1.0).abs() > 1e-7 {
            prop_assert_eq!(ellipse.contains(p), norm < 1.0);
        }
        prop_assert!(!ellipse.contains(at(center.ra().0 + 180.0, -center.dec().0)), "the mirror image is not in it");
    }

    /// A position is in a convex polygon exactly where its corners are seen going round once.
    #[test]
    fn polygons_hold_what_winds_around(center in position(), size in 0.01..60.0_f64, shares in proptest::collection::vec(0.0..0.8_f64, 3..8), share in 0.0..1.5_f64, turn in 0.0..360.0_f64) {
        let count = shares.len() as f64;
        let corners: Vec<Position> =
            shares.iter().enumerate().map(|(i, share)| offset(center, size, (i as f64 + share) * 360.0 / count)).collect();
        let Ok(polygon) = ConvexPolygon::new(&corners) else { return Ok(()) };
        let mut clockwise = corners.clone();
        clockwise.reverse();
        let p = offset(center, share * size, turn);
        prop_assert_eq!(polygon.contains(p), ConvexPolygon::new(&clockwise).unwrap().contains(p));
        let mut winding = 0.0;
        for (i, corner) in corners.iter().enumerate() {
            let next = corners[(i + 1) % corners.len()];
            let step = position_angle(p, next).0 - position_angle(p, *corner).0;
            let step = (step + 540.0).rem_euclid(360.0) - 180.0;
            if (step.abs() - 180.0).abs() < 1e-6 {
                return Ok(());
            }
            winding += step;
        }
        prop_assert_eq!(polygon.contains(p), (winding.abs() - 360.0).abs() < 1.0, "winding {}", winding);
    }

    #[test]
    fn mocs_hold_their_cells(centers in proptest::collection::vec(position(), 0..6), order in 0_u8..=29, p in position()) {
        let cells: Vec<u64> = centers.iter().map(|c| healpix_index(order, *c).unwrap()).collect();
        let moc = MocRegion::from_cells(order, &cells).unwrap();
        prop_assert_eq!(moc.contains(p), cells.contains(&healpix_index(order, p).unwrap()));
        prop_assert!(centers.iter().all(|c| moc.contains(*c)));
    }

    #[test]
    fn mocs_meet_and_join(a in proptest::collection::vec(0_u64..3072, 0..40), b in proptest::collection::vec(0_u64..3072, 0..40), cell in 0_u64..3072) {
        let moc = |cells: &[u64]| MocRegion::from_cells(4, cells).unwrap();
        let p = healpix_center(4, cell).unwrap();
        let (in_a, in_b) = (a.contains(&cell), b.contains(&cell));
        prop_assert_eq!(moc(&a).intersection(&moc(&b)).contains(p), in_a && in_b);
        prop_assert_eq!(moc(&a).union(&moc(&b)).contains(p), in_a || in_b);
        prop_assert_eq!(moc(&a).intersection(&moc(&a)), moc(&a));
    }

    #[test]
    fn broken_moc_files_are_errors_not_panics(place in 0_usize..6000, value in any::<u8>(), cut in 0_usize..6000) {
        let mut file = moc_file(&[4 + 3, 16 + 5, 64 + 9]);
        let _ = MocRegion::from_fits(&file[..cut.min(file.len())]);
        let place = place % file.len();
        file[place] = value;
        let _ = MocRegion::from_fits(&file);
    }
}

/// A FITS file of the NUNIQ numbers of a space MOC, after the IVOA MOC 2.0 standard.
fn moc_file(nuniq: &[u64]) -> Vec<u8> {
    let cards = |cards: &[String]| -> Vec<u8> {
        let mut block: Vec<u8> = cards.iter().flat_map(|card| format!("{card:<80}").into_bytes()).collect();
        block.resize(block.len().div_ceil(2880) * 2880, b' ');
        block
    };
    let number = |name: &str, value: usize| format!("{name:<8}= {value:>20}");
    let text = |name: &str, value: &str| format!("{name:<8}= '{value:<8}'");
    let mut file = cards(&[
        format!("{:<8}= {:>20}", "SIMPLE", "T"),
        number("BITPIX", 8),
        number("NAXIS", 0),
        format!("{:<8}= {:>20}", "EXTEND", "T"),
        "END".to_owned(),
    ]);
    file.extend(cards(&[
        text("XTENSION", "BINTABLE"),
        number("BITPIX", 8),
        number("NAXIS", 2),
        number("NAXIS1", 8),
        number("NAXIS2", nuniq.len()),
        number("PCOUNT", 0),
        number("GCOUNT", 1),
        number("TFIELDS", 1),
        text("TFORM1", "1K"),
        text("MOCVERS", "2.0"),
        text("MOCDIM", "SPACE"),
        text("ORDERING", "NUNIQ"),
        text("COORDSYS", "C"),
        number("MOCORD_S", 2),
        "END".to_owned(),
    ]));
    let mut rows: Vec<u8> = nuniq.iter().flat_map(|value| value.to_be_bytes()).collect();
    rows.resize(rows.len().div_ceil(2880) * 2880, 0);
    file.extend(rows);
    file
}

#[test]
fn moc_files_are_read() {
    // Base cell 3, cell 5 of order 1, cell 9 of order 2.
    let moc = MocRegion::from_fits(&moc_file(&[4 + 3, 16 + 5, 64 + 9])).unwrap();
    let shift = |order: u32, index: u64| index << (2 * (29 - order));
    let expected = [(2, 9), (1, 5), (0, 3)].map(|(order, index)| shift(order, index)..shift(order, index + 1));
    assert_eq!(moc.ranges29(), expected);
}

#[test]
fn moc_files_that_lie_are_refused() {
    let whole = moc_file(&[4, 5, 6]);
    let refused = |file: &[u8]| matches!(MocRegion::from_fits(file), Err(SkyError::Moc(_)));
    assert!(!refused(&whole));
    assert!(refused(&[]));
    assert!(refused(&whole[..whole.len() - 2870]));
    assert!(refused(&moc_file(&[1])));
    assert!(refused(&moc_file(&[u64::MAX])));
    let rows = whole.windows(8).position(|w| w == b"NAXIS2  ").unwrap();
    let mut huge = whole.clone();
    huge[rows + 10..rows + 30].copy_from_slice(b"18446744073709551615");
    assert!(refused(&huge));
}

/// SDSS DR12 imaged 14,555 square degrees (Alam et al. 2015, ApJS 219, 12, table 1); CDS made this map of it.
#[test]
fn moc_of_sdss_has_its_area() {
    let root =
        std::env::var_os("SKYFLIGHT_TEST_DATA").map_or_else(|| PathBuf::from("../../shared/data"), PathBuf::from);
    let path = root.join("hats/V_147_sdss12.moc.fits");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: no test data at {}", path.display());
        return;
    };
    let moc = MocRegion::from_fits(&bytes).unwrap();
    let cells: u64 = moc.ranges29().iter().map(|range| range.end - range.start).sum();
    let area = cells as f64 / (12_u64 << 58) as f64 * 41_252.961;
    assert!((area / 14_555.0 - 1.0).abs() < 0.02, "{area} square degrees");
    // Stripe 82 was imaged, the Large Magellanic Cloud was not.
    assert!(moc.contains(at(0.0, 0.5)));
    assert!(!moc.contains(at(80.9, -69.8)));
}

#[test]
fn numbers_that_are_none_are_errors() {
    let center = at(1.0, 2.0);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(Circle::new(center, Degrees(bad)).is_err());
        for i in 0..4 {
            let mut n = [1.0, 2.0, 3.0, 4.0].map(Degrees);
            n[i] = Degrees(bad);
            assert!(SkyBox::new(n[0], n[1], n[2], n[3]).is_err());
        }
        assert!(Ellipse::new(center, Arcsec(bad), Arcsec(1.0), Degrees(0.0)).is_err());
        assert!(Ellipse::new(center, Arcsec(2.0), Arcsec(bad), Degrees(0.0)).is_err());
        assert!(Ellipse::new(center, Arcsec(2.0), Arcsec(1.0), Degrees(bad)).is_err());
    }
    let nan = Some(Degrees(f64::NAN));
    assert!(RaDecRange::new(nan, None, None, None).is_err());
    assert!(RaDecRange::new(None, None, None, nan).is_err());
    let infinite = RaDecRange::new(Some(Degrees(f64::NEG_INFINITY)), None, None, Some(Degrees(f64::INFINITY))).unwrap();
    assert_eq!(infinite, RaDecRange::new(None, None, None, None).unwrap());
    let beyond = RaDecRange::new(Some(Degrees(f64::INFINITY)), None, None, None).unwrap();
    assert!(!beyond.contains(center));
}

#[test]
fn shapes_out_of_range_are_errors() {
    let center = at(1.0, 2.0);
    assert_eq!(Circle::new(center, Degrees(-1e-9)), Err(SkyError::RadiusOutOfRange(-1e-9)));
    assert!(Circle::new(center, Degrees(180.1)).is_err());
    assert!(SkyBox::new(Degrees(0.0), Degrees(-91.0), Degrees(1.0), Degrees(1.0)).is_err());
    assert!(SkyBox::new(Degrees(10.0), Degrees(0.0), Degrees(-1.0), Degrees(1.0)).is_err());
    assert!(SkyBox::new(Degrees(361.0), Degrees(0.0), Degrees(5.0), Degrees(1.0)).is_err());
    assert!(Ellipse::new(center, Arcsec(1.0), Arcsec(2.0), Degrees(0.0)).is_err());
    assert!(Ellipse::new(center, Arcsec(36_001.0), Arcsec(2.0), Degrees(0.0)).is_err());
    assert!(Ellipse::new(center, Arcsec(2.0), Arcsec(-1.0), Degrees(0.0)).is_err());
    assert!(MocRegion::from_cells(30, &[0]).is_err());
    assert!(MocRegion::from_cells(0, &[12]).is_err());
}

#[test]
fn polygons_that_are_none_are_errors() {
    let refused = |corners: &[(f64, f64)]| {
        let corners: Vec<Position> = corners.iter().map(|(ra, dec)| at(*ra, *dec)).collect();
        matches!(ConvexPolygon::new(&corners), Err(SkyError::Polygon(_)))
    };
    assert!(refused(&[]));
    assert!(refused(&[(0.0, 0.0), (1.0, 0.0)]));
    assert!(refused(&[(0.0, 0.0), (1.0, 0.0), (0.0, 0.0)]), "a closed line");
    assert!(refused(&[(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)]), "all on one great circle");
    assert!(refused(&[(0.0, 0.0), (0.0, 0.0), (1.0, 1.0)]), "coincident neighbours");
    assert!(refused(&[(0.0, 0.0), (180.0, 0.0), (90.0, 50.0)]), "opposite neighbours");
    assert!(refused(&[(0.0, 0.0), (2.0, 0.0), (1.0, 0.2), (1.0, 2.0)]), "a dent");
    assert!(refused(&[(0.0, 0.0), (2.0, 2.0), (2.0, 0.0), (0.0, 2.0)]), "a bow tie");
    let star: Vec<(f64, f64)> =
        (0..5).map(|i| offset(at(50.0, 20.0), 5.0, f64::from(i) * 144.0)).map(|p| (p.ra().0, p.dec().0)).collect();
    assert!(refused(&star), "a star");
    assert!(refused(&[(0.0, 0.0), (90.0, 0.0), (180.0, 0.0), (270.0, 0.0)]), "a hemisphere");
    // Closed rings, collinear corners and an octant are fine.
    assert!(!refused(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)]));
    assert!(!refused(&[(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 1.0)]));
    assert!(!refused(&[(0.0, 0.0), (90.0, 0.0), (0.0, 90.0)]));
}

#[test]
fn boxes_cross_zero_and_ranges_do_not() {
    let sky_box = SkyBox::new(Degrees(350.0), Degrees(-5.0), Degrees(10.0), Degrees(5.0)).unwrap();
    let same = SkyBox::new(Degrees(-10.0), Degrees(-5.0), Degrees(10.0), Degrees(5.0)).unwrap();
    assert_eq!(sky_box, same);
    for (ra, inside) in [(350.0, true), (349.9, false), (0.0, true), (10.0, true), (10.1, false), (180.0, false)] {
        assert_eq!(sky_box.contains(at(ra, 5.0)), inside);
    }
    let range = RaDecRange::new(Some(Degrees(350.0)), Some(Degrees(10.0)), None, None).unwrap();
    assert!(!range.contains(at(355.0, 0.0)));
    let range = RaDecRange::new(Some(Degrees(350.0)), Some(Degrees(360.0)), None, None).unwrap();
    assert!(range.contains(at(355.0, 0.0)));
    assert!(range.contains(at(360.0, 0.0)), "a stored 360 is in the range, wherever its position is filed");
}
