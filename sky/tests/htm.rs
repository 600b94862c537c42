//! The triangular mesh: ids against sphgeom's, covers against random positions and against sphgeom's.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sampling;

use proptest::prelude::*;
use sampling::{at, position};
use skyflight_sky::{
    Circle, ConvexPolygon, Degrees, MocRegion, Position, Region, SkyBox, SkyError, htm_id, htm_level, htm_ranges,
};

/// sphgeom 30.2026.4000, `HtmPixelization(level).index(UnitVector3d(LonLat.fromDegrees(ra, dec)))`: octant borders,
/// poles, corners of the mesh, and places of no account.
#[test]
fn ids_are_those_of_sphgeom() {
    for (ra, dec, level, id) in [
        (0.0, 0.0, 0, 15),
        (0.0, 0.0, 24, 4_362_862_139_015_168),
        (90.0, 0.0, 1, 60),
        (180.0, 0.0, 3, 896),
        (270.0, -1e-9, 5, 10_752),
        (359.999_999_999_999_94, 0.0, 24, 3_377_699_720_527_872),
        (0.0, 90.0, 24, 4_292_493_394_837_504),
        (123.0, 90.0, 24, 4_011_018_418_126_848),
        (0.0, -90.0, 24, 2_322_168_557_862_912),
        (200.0, -90.0, 2, 164),
        (45.0, 0.0, 4, 3984),
        (45.0, 35.264_389_682_754_654, 20, 17_592_186_044_415),
        (0.0, -28.125, 24, 2_279_837_360_193_536),
        (10.0, 20.0, 20, 17_278_962_273_766),
        (83.633083, 22.0145, 20, 16_734_347_831_856),
        (266.4050892, -28.9361747, 20, 11_710_822_190_729),
        (269.44850252, 4.73942005, 24, 3_659_511_052_967_283),
        (180.0, -45.0, 10, 10_092_544),
        (22.5, 0.0, 7, 255_488),
        (1e-13, -1e-13, 24, 2_251_799_813_685_248),
        (315.0, 45.0, 2, 207),
        (225.0, -60.0, 13, 701_447_219),
    ] {
        assert_eq!(htm_id(at(ra, dec), level), Ok(id), "({ra}, {dec}) at level {level}");
    }
}

/// The octants of Kunszt, Szalay & Thakar 2001, numbered as scisql's and sphgeom's documentation says: eastward
/// from right ascension 0 in the south, westward in the north.
#[test]
fn roots_are_the_octants() {
    for (quarter, (south, north)) in [(8, 15), (9, 14), (10, 13), (11, 12)].into_iter().enumerate() {
        let ra = 45.0 + 90.0 * quarter as f64;
        assert_eq!(htm_id(at(ra, -40.0), 0), Ok(south));
        assert_eq!(htm_id(at(ra, 40.0), 0), Ok(north));
    }
}

#[test]
fn levels_are_told_from_ids() {
    for (id, level) in [(8, 0), (15, 0), (32, 1), (63, 1), (128, 2), (8 << 48, 24), ((16 << 48) - 1, 24)] {
        assert_eq!(htm_level(id), Some(level), "{id}");
    }
    for id in [0, 1, 7, 16, 31, 64, 127, 16 << 48, 32 << 48, u64::MAX] {
        assert_eq!(htm_level(id), None, "{id}");
    }
    assert_eq!(htm_id(at(1.0, 2.0), 25), Err(SkyError::HtmLevel(25)));
    assert_eq!(htm_ranges(&Region::AllSky, 25, 10), Err(SkyError::HtmLevel(25)));
}

fn check(region: &Region, positions: &[Position], level: u8, max_ranges: usize) -> Result<usize, TestCaseError> {
    let ranges = htm_ranges(region, level, max_ranges).unwrap();
    prop_assert!(ranges.len() <= max_ranges.max(1), "{} ranges, {max_ranges} allowed", ranges.len());
    prop_assert!(ranges.iter().all(|range| range.start() <= range.end()));
    prop_assert!(ranges.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()), "not apart: {ranges:?}");
    for range in &ranges {
        prop_assert_eq!((htm_level(*range.start()), htm_level(*range.end())), (Some(level), Some(level)));
    }
    let mut inside = 0;
    for p in positions.iter().filter(|p| region.contains(**p)) {
        inside += 1;
        let id = htm_id(*p, level).unwrap();
        prop_assert!(ranges.iter().any(|range| range.contains(&id)), "{p:?} of {region:?}: {id} not in {ranges:?}");
    }
    Ok(inside)
}

fn most() -> impl Strategy<Value = usize> {
    prop_oneof![0_usize..8, Just(64), Just(500)]
}

macro_rules! never_misses {
    ($($name:ident: $strategy:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $name((region, positions) in $strategy, level in 0_u8..=24, most in most()) {
                    let inside = check(&region, &positions, level, most)?;
                    prop_assert!(inside > 0, "no position of {region:?} was tried");
                }
            )*
        }
    };
}

never_misses! {
    circles: sampling::circle();
    boxes: sampling::sky_box();
    ellipses: sampling::ellipse();
    polygons: sampling::polygon();
    mocs: sampling::moc();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ids_hold_the_finer_ones(p in position()) {
        let mut parent = htm_id(p, 0).unwrap();
        prop_assert!((8..16).contains(&parent));
        for level in 1..=24 {
            let id = htm_id(p, level).unwrap();
            prop_assert_eq!(id >> 2, parent);
            prop_assert_eq!(htm_level(id), Some(level));
            parent = id;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    // A range with open sides may well hold none of the positions tried.
    #[test]
    fn any_region((region, positions) in sampling::region(), others in proptest::collection::vec(position(), 30), level in 0_u8..=24) {
        check(&region, &positions, level, 40)?;
        check(&region, &others, level, 40)?;
    }

    /// Poles and right ascension 0, with circles of about the size of a trixel.
    #[test]
    fn circles_in_awkward_places(level in 0_u8..=24, share in 0.01..4.0_f64, place in 0_usize..6, shift in -1.0..1.0_f64, seeds in proptest::collection::vec((0.0..1.0_f64, 0.0..360.0_f64), 40)) {
        let size = 90.0 / f64::from(1_u32 << level);
        let (ra, dec) = [(0.0, 90.0), (0.0, -90.0), (0.0, 0.0), (90.0, 0.0), (180.0, 45.0), (270.0, -45.0)][place];
        let dec = if dec == 90.0 { dec - size.min(1.0) * shift.abs() } else if dec == -90.0 { dec + size.min(1.0) * shift.abs() } else { dec };
        let (center, radius) = (at(ra + size * shift, dec), (share * size).min(180.0));
        let region = Region::Circle(Circle::new(center, Degrees(radius)).unwrap());
        let positions: Vec<Position> = seeds.iter().map(|(share, turn)| sampling::offset(center, share * radius, *turn)).collect();
        prop_assert!(check(&region, &positions, level, 100)? > 0);
    }
}

fn circle(ra: f64, dec: f64, radius: f64) -> Region {
    Region::Circle(Circle::new(at(ra, dec), Degrees(radius)).unwrap())
}

fn polygon(corners: &[(f64, f64)]) -> Region {
    let corners: Vec<Position> = corners.iter().map(|(ra, dec)| at(*ra, *dec)).collect();
    Region::Polygon(ConvexPolygon::new(&corners).unwrap())
}

/// sphgeom 30.2026.4000, `HtmPixelization(level).envelope(region)`: the number of ids. Both covers may hold trixels
/// that miss the region, so a few more or fewer are no mistake.
#[test]
fn covers_are_about_as_tight_as_those_of_sphgeom() {
    for (region, level, expected) in [
        (circle(10.0, 20.0, 2.3), 7, 78),
        (circle(0.0, 90.0, 1.0), 6, 8),
        (circle(0.0, -90.0, 3.0), 5, 16),
        (circle(0.0, 0.0, 5.0), 4, 8),
        (circle(359.99, -0.01, 0.02), 14, 105),
        (circle(45.0, 35.0, 60.0), 2, 40),
        (polygon(&[(10.0, 10.0), (14.0, 10.0), (12.0, 13.0)]), 7, 44),
        (polygon(&[(358.0, -2.0), (2.0, -2.0), (2.0, 2.0), (358.0, 2.0)]), 6, 28),
        (polygon(&[(0.0, 88.0), (120.0, 88.0), (240.0, 88.0)]), 6, 12),
    ] {
        let ranges = htm_ranges(&region, level, 10_000).unwrap();
        let ids: u64 = ranges.iter().map(|range| range.end() - range.start() + 1).sum();
        assert!(ids.abs_diff(expected) <= expected / 20, "{ids} ids, not {expected}, for {region:?}");
    }
}

/// sphgeom 30.2026.4000, the same, for ranges.
#[test]
fn ranges_are_those_of_sphgeom() {
    let pole = htm_ranges(&circle(0.0, -90.0, 3.0), 5, 100).unwrap();
    assert_eq!(pole, [8448..=8451, 9472..=9475, 10_496..=10_499, 11_520..=11_523]);
    let square = polygon(&[(358.0, -2.0), (2.0, -2.0), (2.0, 2.0), (358.0, 2.0)]);
    let expected = [
        32_768..=32_771,
        32_781..=32_783,
        47_104..=47_107,
        47_117..=47_119,
        49_152..=49_155,
        49_165..=49_167,
        63_488..=63_491,
        63_501..=63_503,
    ];
    assert_eq!(htm_ranges(&square, 6, 100).unwrap(), expected);
}

#[test]
fn whole_sky_is_one_range_and_nothing_is_none() {
    for level in [0, 1, 13, 24] {
        let whole = (8_u64 << (2 * level))..=(16_u64 << (2 * level)) - 1;
        assert_eq!(htm_ranges(&Region::AllSky, level, 0).unwrap(), std::slice::from_ref(&whole));
        assert_eq!(htm_ranges(&circle(12.0, 34.0, 180.0), level, 9).unwrap(), [whole]);
        let empty = SkyBox::new(Degrees(1.0), Degrees(5.0), Degrees(2.0), Degrees(4.0)).unwrap();
        assert!(htm_ranges(&Region::Box(empty), level, 9).unwrap().is_empty());
        let empty = MocRegion::from_cells(3, &[]).unwrap();
        assert!(htm_ranges(&Region::Moc(empty), level, 9).unwrap().is_empty());
    }
}

#[test]
fn a_position_is_one_trixel() {
    // In the middle of a trixel of level 20, 0.3 arcsec wide, so that no neighbour is near.
    let ranges = htm_ranges(&circle(45.0, 35.264_389_682_754_654, 0.0), 20, 100).unwrap();
    assert_eq!(ranges, [17_592_186_044_415..=17_592_186_044_415]);
}
