//! Areas of regions against closed forms, quadrature in 40 digits, and counts of random positions.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sampling;

use std::f64::consts::PI;

use proptest::prelude::*;
use sampling::at;
use skyflight_sky::{Arcsec, Circle, ConvexPolygon, Degrees, Ellipse, MocRegion, Position, RaDecRange, Region, SkyBox};

const SKY_DEG2: f64 = 129_600.0 / PI;

#[track_caller]
fn close(region: &Region, expected: f64, share: f64) {
    let area = region.area_deg2().unwrap();
    assert!((area / expected - 1.0).abs() <= share, "{area} is not {expected}: {region:?}");
}

fn circle(radius: f64) -> Region {
    Region::Circle(Circle::new(at(12.0, 88.0), Degrees(radius)).unwrap())
}

fn sky_box(west: f64, south: f64, east: f64, north: f64) -> Region {
    Region::Box(SkyBox::new(Degrees(west), Degrees(south), Degrees(east), Degrees(north)).unwrap())
}

fn polygon(corners: &[(f64, f64)]) -> Region {
    let corners: Vec<Position> = corners.iter().map(|(ra, dec)| at(*ra, *dec)).collect();
    Region::Polygon(ConvexPolygon::new(&corners).unwrap())
}

fn ellipse(major: f64, minor: f64) -> Region {
    Region::Ellipse(Ellipse::new(at(359.0, -89.5), Arcsec(major), Arcsec(minor), Degrees(20.0)).unwrap())
}

#[test]
fn whole_and_half_skies() {
    close(&Region::AllSky, SKY_DEG2, 1e-15);
    close(&circle(180.0), SKY_DEG2, 1e-15);
    close(&circle(90.0), SKY_DEG2 / 2.0, 1e-15);
    close(&sky_box(0.0, -90.0, 360.0, 90.0), SKY_DEG2, 1e-15);
    close(&sky_box(270.0, 0.0, 90.0, 90.0), SKY_DEG2 / 4.0, 1e-15);
    close(&sky_box(0.0, 30.0, 360.0, 90.0), SKY_DEG2 / 4.0, 1e-14);
    let cells: Vec<u64> = (0..48).collect();
    close(&Region::Moc(MocRegion::from_cells(1, &cells).unwrap()), SKY_DEG2, 1e-15);
    close(&Region::Moc(MocRegion::from_cells(29, &[17, 18, 19]).unwrap()), SKY_DEG2 / (1_u64 << 60) as f64, 1e-15);
}

#[test]
fn small_regions_are_flat() {
    let arcsec = 1.0 / 3600.0;
    close(&circle(1e-6 * arcsec), PI * 1e-12 * arcsec * arcsec, 1e-9);
    close(&sky_box(10.0, -arcsec / 2.0, 10.0 + arcsec, arcsec / 2.0), arcsec * arcsec, 1e-9);
    close(&ellipse(0.01, 0.005), PI * 0.01 * 0.005 * arcsec * arcsec, 1e-12);
    let half = arcsec / 2.0;
    close(&polygon(&[(-half, -half), (half, -half), (half, half), (-half, half)]), arcsec * arcsec, 1e-9);
}

#[test]
fn regions_of_no_width_have_no_area() {
    for region in [
        circle(0.0),
        sky_box(1.0, 5.0, 2.0, 4.0),
        sky_box(1.0, 4.0, 1.0, 5.0),
        ellipse(10.0, 0.0),
        Region::Moc(MocRegion::from_cells(3, &[]).unwrap()),
    ] {
        assert_eq!(region.area_deg2(), Some(0.0), "{region:?}");
    }
    let plain = RaDecRange::new(Some(Degrees(1.0)), Some(Degrees(2.0)), None, None).unwrap();
    assert_eq!(Region::RaDec(plain).area_deg2(), None);
}

/// Girard's theorem (sum of the angles) in arithmetic of 40 digits (mpmath 1).
#[test]
fn polygons_have_the_excess_of_their_angles() {
    close(&polygon(&[(0.0, 0.0), (90.0, 0.0), (0.0, 90.0)]), 5_156.620_156_177_409, 1e-15);
    close(&polygon(&[(10.0, 10.0), (14.0, 10.0), (12.0, 13.0)]), 5.898_970_043_083_517, 1e-13);
    let small = [(359.9999, -0.0001), (0.0001, -0.0001), (0.0001, 0.0001), (359.9999, 0.0001)];
    close(&polygon(&small), 4.000_000_000_002_031e-8, 1e-9);
    close(&polygon(&[(0.0, 80.0), (120.0, 80.0), (240.0, 80.0)]), 131.065_863_487_307_53, 1e-14);
}

/// The outline cut into strips on the tangent plane, integrated in arithmetic of 40 digits (mpmath 1); for a circle
/// of radius arcsin(axis) the closed form.
#[test]
fn ellipses_have_the_area_of_their_outline() {
    close(&ellipse(36_000.0, 36_000.0), 316.588_873_114_256_9, 1e-14);
    close(&ellipse(36_000.0, 18_000.0), 157.835_807_287_554_13, 1e-14);
    close(&ellipse(36_000.0, 360.0), 3.153_695_013_603_905, 1e-14);
    close(&ellipse(10.0, 5.0), 1.212_034_203_218_967_7e-5, 1e-14);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Evenly spread positions (a spiral), counted.
    #[test]
    fn areas_are_shares_of_the_sky((region, _) in prop_oneof![sampling::circle().boxed(), sampling::sky_box().boxed(), sampling::polygon().boxed()]) {
        const COUNT: u32 = 20_000;
        let mut inside = 0.0;
        for i in 0..COUNT {
            let z = (2.0 * f64::from(i) + 1.0) / f64::from(COUNT) - 1.0;
            inside += f64::from(u8::from(region.contains(at(f64::from(i) * 137.507_764_050_037_85, z.asin().to_degrees()))));
        }
        let share = region.area_deg2().unwrap() / SKY_DEG2;
        prop_assert!((inside / f64::from(COUNT) - share).abs() < 0.005, "{} of {COUNT}, not {share}: {region:?}", inside);
    }

    /// A cut along any diagonal leaves two polygons with the area of the whole.
    #[test]
    fn areas_of_parts_add_up(shares in proptest::collection::vec(0.0..0.8_f64, 4..9), center in sampling::position(), power in -5.0..1.9_f64, cut in 2_usize..7) {
        let count = shares.len();
        let corners: Vec<Position> = shares.iter().enumerate()
            .map(|(i, share)| sampling::offset(center, 10_f64.powf(power), (i as f64 + share) * 360.0 / count as f64)).collect();
        let cut = cut.min(count - 2);
        let area = |corners: &[Position]| ConvexPolygon::new(corners).ok().and_then(|polygon| Region::Polygon(polygon).area_deg2());
        let rest: Vec<Position> = corners[cut..].iter().chain(&corners[..1]).copied().collect();
        let reversed: Vec<Position> = corners.iter().rev().copied().collect();
        let (Some(whole), Some(one), Some(other), Some(turned)) = (area(&corners), area(&corners[..=cut]), area(&rest), area(&reversed)) else {
            return Ok(());
        };
        // Corners are rounded to about 1e-16 of a radian.
        let share = 1e-13 + 1e-13 / 10_f64.powf(power);
        prop_assert!(((one + other) / whole - 1.0).abs() < share && (turned / whole - 1.0).abs() < share, "{whole} {one} {other} {turned}");
    }
}
