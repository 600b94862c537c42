//! Partitions: every position in exactly one chunk, bounds and neighbours right, overlap as brute force has it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sampling;

use cdshealpix::compass_point::Cardinal;
use proptest::prelude::*;
use sampling::{SCHEMES, at, clustered, offset, position};
use skyflight_sky::{
    ChunkId, Position, SchemeSpec, adaptive_cells, healpix_index, healpix_neighbours, nuniq_cell, separation,
};

/// The schemes of `SCHEMES` that are healpix; the others are stripes.
const HEALPIX: std::ops::Range<usize> = 0..3;

/// Points along the border of a chunk, dense.
fn border(scheme: usize, chunk: ChunkId, per_side: u32) -> Vec<Position> {
    if HEALPIX.contains(&scheme) {
        let (order, index) = nuniq_cell(chunk.0).unwrap();
        let path = cdshealpix::nested::path_along_cell_edge(order, index, &Cardinal::S, false, per_side);
        return path.iter().map(|(ra, dec)| at(ra.to_degrees(), dec.to_degrees().clamp(-90.0, 90.0))).collect();
    }
    let bounds = SCHEMES[scheme].bounds(chunk).unwrap();
    let mut points = Vec::new();
    for i in 0..=per_side {
        let share = f64::from(i) / f64::from(per_side);
        let ra = bounds.ra_min.0 + share * (bounds.ra_max.0 - bounds.ra_min.0);
        let dec = bounds.dec_min.0 + share * (bounds.dec_max.0 - bounds.dec_min.0);
        points.extend([at(ra, bounds.dec_min.0), at(ra, bounds.dec_max.0)]);
        points.extend([at(bounds.ra_min.0, dec), at(bounds.ra_max.0, dec)]);
    }
    points
}

fn holds(scheme: usize, chunk: ChunkId, p: Position) -> bool {
    if HEALPIX.contains(&scheme) {
        let (order, index) = nuniq_cell(chunk.0).unwrap();
        return healpix_index(order, p).unwrap() == index;
    }
    // Edges belong to the chunk that begins there; the north pole to the northernmost.
    let bounds = SCHEMES[scheme].bounds(chunk).unwrap();
    let (ra, dec) = (p.ra(), p.dec());
    let top = bounds.dec_max.0 == 90.0 && dec.0 == 90.0;
    ra >= bounds.ra_min && ra < bounds.ra_max && dec >= bounds.dec_min && (dec < bounds.dec_max || top)
}

/// A scheme, one of its chunks, and a position near that chunk's border, mostly within twice the overlap radius and
/// often as good as at its end, straight across an edge.
fn near_border() -> impl Strategy<Value = (usize, ChunkId, Position)> {
    let share = prop_oneof![3 => 0.0..2.0_f64, 1 => Just(1.0 - 1e-6), 1 => Just(0.999)];
    let angle = prop_oneof![0.0..360.0, Just(0.0), Just(90.0), Just(180.0), Just(270.0)];
    let index = any::<proptest::sample::Index>;
    (0..SCHEMES.len(), index(), index(), share, angle).prop_map(|(scheme, chunk, point, share, angle)| {
        let chunks = SCHEMES[scheme].chunks();
        let chunk = chunks[chunk.index(chunks.len())];
        let points = border(scheme, chunk, 37);
        let radius = SCHEMES[scheme].overlap_radius().0;
        (scheme, chunk, offset(points[point.index(points.len())], share * radius, angle))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_position_is_in_one_chunk(p in position()) {
        for (i, scheme) in SCHEMES.iter().enumerate() {
            let holding: Vec<ChunkId> = scheme.chunks().into_iter().filter(|chunk| holds(i, *chunk, p)).collect();
            prop_assert_eq!(&holding, &[scheme.locate(p).chunk], "scheme {}, {:?}", i, p);
        }
    }

    #[test]
    fn bounds_hold_their_chunk(p in position()) {
        for scheme in SCHEMES.iter() {
            let chunk = scheme.locate(p).chunk;
            let bounds = scheme.bounds(chunk).unwrap();
            prop_assert!(bounds.contains(p), "{p:?} is in chunk {chunk} but not in {bounds:?}");
        }
    }

    /// Brute force: the distance to a chunk is that to the nearest of many points of its border.
    #[test]
    fn overlap_agrees_with_brute_force((i, chunk, p) in near_border()) {
        // A multiple of the points of `near_border`, so that its point is among these.
        const PER_SIDE: u32 = 370;
        let scheme = &SCHEMES[i];
        let radius = scheme.overlap_radius().0;
        let own = scheme.locate(p).chunk;
        let mut overlaps = vec![ChunkId(1)];
        scheme.overlaps(p, &mut overlaps);
        prop_assert!(overlaps.is_sorted_by(|a, b| a < b));
        let mut candidates = scheme.neighbours(own).unwrap();
        candidates.push(chunk);
        for other in candidates {
            let inside = scheme.in_overlap(other, p);
            prop_assert_eq!(inside, overlaps.contains(&other));
            if other == own {
                prop_assert!(!inside, "a position is not in the overlap of its own chunk");
                continue;
            }
            if radius == 0.0 {
                prop_assert!(!inside);
                continue;
            }
            let points = border(i, other, PER_SIDE);
            let distance = points.iter().map(|point| separation(p, *point).0).fold(360.0, f64::min);
            if distance <= radius {
                prop_assert!(inside, "{p:?} is {distance} deg from chunk {other}, overlap {radius}");
            }
            if HEALPIX.contains(&i) {
                let (order, _) = nuniq_cell(other.0).unwrap();
                let spacing = 64.0 / f64::from(1 << order) / f64::from(PER_SIDE);
                prop_assert!(!inside || distance <= 1.021 * radius + spacing, "{p:?} is {distance} deg from {other}");
            }
        }
    }

    /// Away from borders the quick way out must agree with the exact test for every chunk.
    #[test]
    fn overlaps_lists_every_chunk_whose_overlap_holds(p in position()) {
        let mut overlaps = Vec::new();
        for scheme in SCHEMES.iter() {
            scheme.overlaps(p, &mut overlaps);
            let chunks = scheme.chunks();
            let some = chunks.iter().filter(|chunk| chunks.len() < 1000 || chunk.0 % 17 == p.healpix29() % 17);
            for chunk in some {
                prop_assert_eq!(scheme.in_overlap(*chunk, p), overlaps.contains(chunk));
            }
        }
    }

    #[test]
    fn neighbours_are_across_every_border((i, chunk, _) in near_border(), angle in 0.0..360.0_f64) {
        let scheme = &SCHEMES[i];
        let neighbours = scheme.neighbours(chunk).unwrap();
        prop_assert!(neighbours.is_sorted_by(|a, b| a < b) && !neighbours.contains(&chunk));
        for point in border(i, chunk, 50) {
            let across = scheme.locate(offset(point, 1e-7, angle)).chunk;
            prop_assert!(across == chunk || neighbours.contains(&across), "{across} is beside {chunk}: {neighbours:?}");
        }
        for other in neighbours {
            prop_assert!(scheme.neighbours(other).unwrap().contains(&chunk), "{chunk} is not beside {other}");
        }
    }

    #[test]
    fn same_order_neighbours_touch(p in position(), order in 0_u8..=29) {
        let index = healpix_index(order, p).unwrap();
        for other in healpix_neighbours(order, index).unwrap() {
            prop_assert!(other != index);
            prop_assert!(healpix_neighbours(order, other).unwrap().contains(&index));
        }
    }
}

#[test]
fn areas_add_up_to_the_sky() {
    for scheme in SCHEMES.iter() {
        let sum: f64 = scheme.chunks().iter().map(|chunk| scheme.area(*chunk).unwrap()).sum();
        assert!((sum / 41_252.961_249_419_27 - 1.0).abs() < 1e-9, "{sum}");
    }
}

#[test]
fn adaptive_cells_follow_the_density() {
    let density = clustered();
    let rows = |order: u8, index: u64| -> u64 {
        let shift = 2 * (density.order() - order);
        density.counts()[(index << shift) as usize..((index + 1) << shift) as usize].iter().sum()
    };
    for (min, max, limit) in [(0, 8, 20), (1, 8, 20), (3, 5, 100), (0, 0, 1), (2, 2, 0), (4, 12, 1_000_000), (5, 3, 7)]
    {
        let cells = adaptive_cells(&density, min, max, limit);
        SchemeSpec::Healpix { cells: cells.clone(), overlap_arcsec: 0.0 }.build().unwrap();
        let (max, min) = (max.min(8), min.min(max).min(8));
        let mut counted = 0;
        for cell in &cells {
            let (order, index) = nuniq_cell(*cell).unwrap();
            assert!((min..=max).contains(&order));
            assert!(order == max || rows(order, index) <= limit, "cell {order}/{index} is too full");
            assert!(order == min || rows(order - 1, index >> 2) > limit, "cell {order}/{index} was split for nothing");
            counted += rows(order, index);
        }
        assert_eq!(counted, density.total());
    }
    assert_eq!(density.total(), 10_000);
}

#[test]
fn bad_schemes_are_errors() {
    let healpix = |cells: &[u64], overlap_arcsec| SchemeSpec::Healpix { cells: cells.to_vec(), overlap_arcsec }.build();
    let whole: Vec<u64> = (4..16).collect();
    assert!(healpix(&whole, 0.0).is_ok());
    assert!(healpix(&[], 0.0).is_err());
    assert!(healpix(&whole[1..], 0.0).is_err());
    assert!(healpix(&whole[..11], 0.0).is_err());
    assert!(healpix(&[&whole[..], &[4]].concat(), 0.0).is_err());
    assert!(healpix(&[&whole[..], &[16]].concat(), 0.0).is_err());
    assert!(healpix(&[&whole[..], &[0]].concat(), 0.0).is_err());
    assert!(healpix(&[&whole[..], &[u64::MAX]].concat(), 0.0).is_err());
    for bad in [f64::NAN, f64::INFINITY, -1.0, 1e9] {
        assert!(healpix(&whole, bad).is_err());
        assert!(SchemeSpec::Stripes { stripes: 18, sub_stripes: 10, overlap_deg: bad }.build().is_err());
    }
    for (stripes, sub_stripes, overlap_deg) in
        [(0, 1, 0.0), (1, 0, 0.0), (85, 12, 0.2), (u32::MAX, 2, 0.0), (2, u32::MAX, 0.0)]
    {
        assert!(SchemeSpec::Stripes { stripes, sub_stripes, overlap_deg }.build().is_err());
    }
}

#[test]
fn unknown_chunks_are_errors() {
    for scheme in SCHEMES.iter() {
        let chunks = scheme.chunks();
        for chunk in [ChunkId(u64::MAX), ChunkId(0x7fff_ffff_ffff_fff0), ChunkId(1_000_003)] {
            assert!(!chunks.contains(&chunk));
            assert!(scheme.bounds(chunk).is_err());
            assert!(scheme.area(chunk).is_err());
            assert!(scheme.neighbours(chunk).is_err());
            assert!(!scheme.in_overlap(chunk, at(1.0, 2.0)));
        }
    }
}

#[test]
fn specs_survive_json() {
    let specs = [
        SchemeSpec::Healpix { cells: (4..16).collect(), overlap_arcsec: 10.0 },
        SchemeSpec::Stripes { stripes: 85, sub_stripes: 12, overlap_deg: 0.01667 },
    ];
    for spec in specs {
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<SchemeSpec>(&text).unwrap(), spec);
    }
    let text = r#"{"scheme":"stripes","stripes":18,"sub_stripes":10,"overlap_deg":0.1}"#;
    assert!(serde_json::from_str::<SchemeSpec>(text).unwrap().build().is_ok());
}

#[test]
fn chunk_ids_survive_text() {
    for id in [ChunkId(0), ChunkId(7480), ChunkId::EVERYWHERE] {
        assert_eq!(id.to_string().parse::<ChunkId>().unwrap(), id);
    }
    assert_eq!(ChunkId::EVERYWHERE.to_string(), "everywhere");
    assert!("-1".parse::<ChunkId>().is_err());
}
