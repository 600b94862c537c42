//! Covers: they never miss a position of their region, and they do not overshoot.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sampling;

use proptest::prelude::*;
use sampling::{SCHEMES, at, offset, position};
use skyflight_sky::{
    ChunkId, Circle, Degrees, MocRegion, Position, Region, SchemeSpec, healpix_center, healpix_nested_range29,
    nuniq_cell, separation,
};

fn check(region: &Region, positions: &[Position]) -> Result<usize, TestCaseError> {
    let mut inside = 0;
    for scheme in SCHEMES.iter() {
        let cover = scheme.cover(region);
        prop_assert!(cover.is_sorted_by(|a, b| a < b), "not ascending: {cover:?}");
        for p in positions.iter().filter(|p| region.contains(**p)) {
            inside += 1;
            let chunk = scheme.locate(*p).chunk;
            prop_assert!(cover.binary_search(&chunk).is_ok(), "{p:?} of {region:?} is in {chunk}, not in {cover:?}");
        }
    }
    let cells = MocRegion::covering(region, 64);
    let coarse = cells.coarsened(8);
    prop_assert!(coarse.ranges29().len() <= 8);
    for p in positions {
        prop_assert!(!region.contains(*p) || cells.contains(*p), "{p:?} of {region:?} is not in its cells");
        prop_assert!(!cells.contains(*p) || coarse.contains(*p), "{p:?} is lost by filling gaps");
    }
    Ok(inside)
}

macro_rules! never_misses {
    ($($name:ident: $strategy:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $name((region, positions) in $strategy) {
                    let inside = check(&region, &positions)?;
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
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // A range with open sides may well hold none of the positions tried.
    #[test]
    fn ranges((region, positions) in sampling::range()) {
        check(&region, &positions)?;
    }

    #[test]
    fn any_region_and_any_position((region, _) in sampling::region(), positions in proptest::collection::vec(position(), 50)) {
        check(&region, &positions)?;
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    // Brute force: a chunk in the cover of a circle has a position not much beyond the circle.
    #[test]
    fn covers_of_circles_are_tight(center in position(), radius in 0.01..30.0_f64) {
        let region = Region::Circle(Circle::new(center, Degrees(radius)).unwrap());
        let scheme = &SCHEMES[1];
        let (order, _) = nuniq_cell(scheme.chunks()[0].0).unwrap();
        for chunk in scheme.cover(&region) {
            let (_, index) = nuniq_cell(chunk.0).unwrap();
            let nearest = (index << 12..(index + 1) << 12)
                .map(|part| separation(center, healpix_center(order + 6, part).unwrap()).0)
                .fold(360.0, f64::min);
            // Half a part (0.11 deg) for the sampling, and the tolerance of the cover.
            prop_assert!(nearest <= 1.021 * radius + 0.15, "chunk {chunk} is {nearest} deg away, the radius {radius}");
        }
    }
}

#[test]
fn whole_sky_is_every_chunk() {
    for scheme in SCHEMES.iter() {
        let mut chunks = scheme.chunks();
        assert_eq!(scheme.cover(&Region::AllSky), chunks);
        let everything = Circle::new(at(12.0, 34.0), Degrees(180.0)).unwrap();
        assert_eq!(scheme.cover(&Region::Circle(everything)), chunks);
        chunks.dedup();
        assert_eq!(chunks.len(), scheme.chunks().len());
    }
}

#[test]
fn small_circle_inside_a_chunk_is_one_chunk() {
    for scheme in SCHEMES.iter() {
        for chunk in scheme.chunks().iter().step_by(7) {
            let bounds = scheme.bounds(*chunk).unwrap();
            let width = if bounds.wraps() {
                bounds.ra_max.0 - bounds.ra_min.0 + 360.0
            } else {
                bounds.ra_max.0 - bounds.ra_min.0
            };
            let dec = 0.5 * (bounds.dec_min.0 + bounds.dec_max.0);
            let middle = at(bounds.ra_min.0 + 0.5 * width, dec);
            if scheme.locate(middle).chunk != *chunk {
                continue;
            }
            let circle = Circle::new(middle, Degrees(1e-3)).unwrap();
            assert_eq!(scheme.cover(&Region::Circle(circle)), [*chunk]);
        }
    }
}

#[test]
fn small_cones_have_few_chunks() {
    let order = 6;
    let cells = (0..12 << (2 * order)).map(|i: u64| (4 << (2 * order)) + i).collect();
    let scheme = SchemeSpec::Healpix { cells, overlap_arcsec: 1.0 }.build().unwrap();
    let mut found = 0;
    for i in 0..500 {
        let center = offset(at(0.0, 0.0), 0.36 * f64::from(i), 17.0 * f64::from(i));
        let circle = Circle::new(center, Degrees(0.01)).unwrap();
        let cover = scheme.cover(&Region::Circle(circle));
        assert!((1..=4).contains(&cover.len()), "{} chunks around {center:?}", cover.len());
        found += cover.len();
    }
    // Chunks are 0.9 degrees wide: about one cone in twenty lies across a border.
    assert!(found < 550, "{found} chunks for 500 cones");
}

#[test]
fn empty_regions_have_no_chunks() {
    use skyflight_sky::{MocRegion, RaDecRange, SkyBox};
    let empty = [
        Region::Box(SkyBox::new(Degrees(1.0), Degrees(5.0), Degrees(2.0), Degrees(4.0)).unwrap()),
        Region::RaDec(RaDecRange::new(Some(Degrees(5.0)), Some(Degrees(4.0)), None, None).unwrap()),
        Region::Moc(MocRegion::from_cells(3, &[]).unwrap()),
    ];
    for scheme in SCHEMES.iter() {
        for region in &empty {
            assert_eq!(scheme.cover(region), Vec::<ChunkId>::new());
        }
    }
}

#[test]
fn moc_cells_are_their_chunks() {
    use skyflight_sky::MocRegion;
    let scheme = &SCHEMES[2];
    for chunk in scheme.chunks() {
        let (order, index) = nuniq_cell(chunk.0).unwrap();
        let (start, end) = healpix_nested_range29(order, index).unwrap();
        assert!(start < end);
        let moc = MocRegion::from_cells(order, &[index]).unwrap();
        assert_eq!(scheme.cover(&Region::Moc(moc)), [chunk]);
    }
}
