//! Random positions, regions and schemes for the property tests, with the awkward places of the sphere favoured.
#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use skyflight_sky::{
    Arcsec, Circle, ConvexPolygon, Degrees, DensityMap, Ellipse, MocRegion, Position, RaDecRange, Region, Scheme,
    SchemeSpec, SkyBox, adaptive_cells, healpix_index,
};

pub(crate) fn at(ra: f64, dec: f64) -> Position {
    Position::new(Degrees(ra), Degrees(dec)).unwrap()
}

/// Anywhere; near or at a pole; near or at right ascension 0; at the corners of the HEALPix belt.
pub(crate) fn position() -> impl Strategy<Value = Position> {
    let ra = || prop_oneof![0.0..360.0, Just(0.0), Just(180.0), Just(45.0), Just(90.0), Just(359.999_999_999_9)];
    let small = || (-9.0..1.0_f64).prop_map(|power| 10_f64.powf(power));
    prop_oneof![
        3 => (0.0..360.0, -1.0..1.0_f64).prop_map(|(ra, z)| at(ra, z.asin().to_degrees())),
        1 => (ra(), small(), any::<bool>())
            .prop_map(|(ra, off, north)| at(ra, if north { 90.0 - off } else { off - 90.0 })),
        1 => (ra(), any::<bool>()).prop_map(|(ra, north)| at(ra, if north { 90.0 } else { -90.0 })),
        1 => (small(), any::<bool>(), -90.0..90.0).prop_map(|(off, east, dec)| at(if east { off } else { -off }, dec)),
        1 => (ra(), prop_oneof![Just(0.0), Just((2.0_f64 / 3.0).asin().to_degrees()), -90.0..90.0])
            .prop_map(|(ra, dec)| at(ra, dec)),
    ]
}

/// The position at a distance (degrees) and position angle from another, by vector algebra of its own.
pub(crate) fn offset(from: Position, distance: f64, angle: f64) -> Position {
    let (ra, dec) = (from.ra().0.to_radians(), from.dec().0.to_radians());
    let (distance, angle) = (distance.to_radians(), angle.to_radians());
    let center = [dec.cos() * ra.cos(), dec.cos() * ra.sin(), dec.sin()];
    let north = [-dec.sin() * ra.cos(), -dec.sin() * ra.sin(), dec.cos()];
    let east = [-ra.sin(), ra.cos(), 0.0];
    let v: [f64; 3] = std::array::from_fn(|i| {
        distance.cos() * center[i] + distance.sin() * (angle.cos() * north[i] + angle.sin() * east[i])
    });
    let dec = v[2].atan2(v[0].hypot(v[1])).to_degrees();
    at(v[1].atan2(v[0]).to_degrees(), dec.clamp(-90.0, 90.0))
}

/// The direction of the sum of several: inside any convex polygon of theirs.
pub(crate) fn middle(positions: &[Position]) -> Position {
    let mut sum = [0.0; 3];
    for v in positions.iter().map(|p| p.unit_vector()) {
        sum = [sum[0] + v.x, sum[1] + v.y, sum[2] + v.z];
    }
    at(sum[1].atan2(sum[0]).to_degrees(), sum[2].atan2(sum[0].hypot(sum[1])).to_degrees())
}

/// From a tenth of a milliarcsecond to the whole sky, and exactly 0, 90 and 180.
pub(crate) fn radius() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-7.5..2.2_f64).prop_map(|power| 10_f64.powf(power).min(180.0)),
        1 => Just(0.0), 1 => Just(90.0), 1 => Just(180.0)
    ]
}

/// A region, and positions that are in it or near its border.
pub(crate) fn region() -> impl Strategy<Value = (Region, Vec<Position>)> {
    prop_oneof![
        circle().boxed(),
        sky_box().boxed(),
        ellipse().boxed(),
        polygon().boxed(),
        moc().boxed(),
        range().boxed()
    ]
}

fn around(center: Position, radius: f64, seeds: Vec<(f64, f64)>) -> Vec<Position> {
    let mut positions = vec![center];
    for (share, angle) in seeds {
        // Most of them inside, many hard at the border.
        let share = if share > 0.6 { 1.0 - (share - 0.6) * 1e-9 } else { share / 0.6 };
        positions.push(offset(center, share * radius, angle));
    }
    positions
}

fn seeds() -> impl Strategy<Value = Vec<(f64, f64)>> {
    proptest::collection::vec((0.0..1.0, 0.0..360.0), 20)
}

pub(crate) fn circle() -> impl Strategy<Value = (Region, Vec<Position>)> {
    (position(), radius(), seeds()).prop_map(|(center, radius, seeds)| {
        let circle = Circle::new(center, Degrees(radius)).unwrap();
        let mut positions = around(center, radius, seeds);
        positions.push(at(center.ra().0 + 180.0, -center.dec().0));
        (Region::Circle(circle), positions)
    })
}

pub(crate) fn sky_box() -> impl Strategy<Value = (Region, Vec<Position>)> {
    let seeds = proptest::collection::vec((0.0..1.0, 0.0..1.0), 20);
    (position(), radius(), radius(), seeds).prop_map(|(corner, width, height, seeds)| {
        let (ra, dec) = (corner.ra().0, corner.dec().0);
        let (width, north) = (2.0 * width, (dec + height).min(90.0));
        let sky_box = SkyBox::new(Degrees(ra), Degrees(dec), Degrees(ra + width), Degrees(north)).unwrap();
        let edge = |share: f64| if share > 0.8 { 1.0 } else { share };
        let inside = seeds.iter().map(|(x, y)| {
            let dec = (dec + edge(*y) * (north - dec)).clamp(-90.0, 90.0);
            at(ra + edge(*x) * width, dec)
        });
        (Region::Box(sky_box), inside.chain([corner]).collect())
    })
}

pub(crate) fn ellipse() -> impl Strategy<Value = (Region, Vec<Position>)> {
    (position(), -4.0..4.556_f64, 0.0..1.0_f64, 0.0..360.0, seeds()).prop_map(|(center, power, ratio, angle, seeds)| {
        let major = 10_f64.powf(power).min(36_000.0);
        let minor = (major * ratio).max(1e-4 * major);
        let ellipse = Ellipse::new(center, Arcsec(major), Arcsec(minor), Degrees(angle)).unwrap();
        // On the tangent plane, then back to the sky.
        let inside = seeds.iter().map(|(share, turn)| {
            let share = if *share > 0.6 { 1.0 - (share - 0.6) * 1e-9 } else { share / 0.6 };
            let (x, y) = (share * major * turn.to_radians().cos(), share * minor * turn.to_radians().sin());
            let distance = (x.hypot(y) / 3600.0).to_radians().asin().to_degrees();
            offset(center, distance, angle + y.atan2(x).to_degrees())
        });
        (Region::Ellipse(ellipse), inside.chain([center]).collect())
    })
}

/// Corners on a circle make a convex polygon.
pub(crate) fn polygon() -> impl Strategy<Value = (Region, Vec<Position>)> {
    let corners = proptest::collection::vec(0.0..1.0_f64, 3..9);
    (position(), -5.0..1.9_f64, corners, any::<bool>(), seeds()).prop_filter_map(
        "corners too close",
        |(center, power, shares, clockwise, seeds)| {
            let radius = 10_f64.powf(power);
            let count = shares.len() as f64;
            let mut corners: Vec<Position> = (shares.iter().enumerate())
                .map(|(i, share)| offset(center, radius, (i as f64 + 0.8 * share) * 360.0 / count))
                .collect();
            if clockwise {
                corners.reverse();
            }
            let polygon = ConvexPolygon::new(&corners).ok()?;
            let mut positions = around(center, radius, seeds);
            positions.push(middle(&corners));
            positions.extend(corners);
            Some((Region::Polygon(polygon), positions))
        },
    )
}

pub(crate) fn moc() -> impl Strategy<Value = (Region, Vec<Position>)> {
    (0_u8..=12, proptest::collection::vec(position(), 1..8), seeds()).prop_map(|(order, centers, seeds)| {
        let cells: Vec<u64> = centers.iter().map(|p| healpix_index(order, *p).unwrap()).collect();
        let size = 60.0 / f64::from(1 << order);
        let near = centers.iter().flat_map(|p| around(*p, size, seeds.clone())).collect();
        (Region::Moc(MocRegion::from_cells(order, &cells).unwrap()), near)
    })
}

pub(crate) fn range() -> impl Strategy<Value = (Region, Vec<Position>)> {
    (sky_box(), any::<[bool; 4]>(), position()).prop_map(|((_, positions), open, other)| {
        let last = positions[positions.len() - 1];
        let ra = (last.ra().0.min(other.ra().0), last.ra().0.max(other.ra().0));
        let dec = (last.dec().0.min(other.dec().0), last.dec().0.max(other.dec().0));
        let limit = |open: bool, value: f64| (!open).then_some(Degrees(value));
        let range =
            RaDecRange::new(limit(open[0], ra.0), limit(open[1], ra.1), limit(open[2], dec.0), limit(open[3], dec.1));
        (Region::RaDec(range.unwrap()), positions.into_iter().chain([other]).collect())
    })
}

/// A sky with clusters at both poles, at right ascension 0 and on a corner of the HEALPix belt.
pub(crate) fn clustered() -> DensityMap {
    let mut density = DensityMap::new(8).unwrap();
    for center in [at(0.0, 90.0), at(10.0, -90.0), at(0.0, 0.0), at(0.0, 41.8103), at(83.0, -5.0)] {
        for i in 0..2_000_u32 {
            let i = f64::from(i);
            density.add(offset(center, 1e-6 * i * i, 137.508 * i));
        }
    }
    density
}

pub(crate) static SCHEMES: LazyLock<Vec<Arc<dyn Scheme>>> = LazyLock::new(|| {
    let flat = |order: u8| (0..12 << (2 * order)).map(|i: u64| (4 << (2 * order)) + i).collect::<Vec<u64>>();
    let healpix = |cells, overlap_arcsec| SchemeSpec::Healpix { cells, overlap_arcsec };
    let stripes = |stripes, sub_stripes, overlap_deg| SchemeSpec::Stripes { stripes, sub_stripes, overlap_deg };
    [
        healpix(flat(0), 3600.0),
        healpix(flat(3), 60.0),
        healpix(adaptive_cells(&clustered(), 1, 8, 20), 5.0),
        stripes(85, 12, 0.01667),
        stripes(18, 10, 0.5),
        stripes(3, 1, 0.0),
        stripes(1, 1, 0.0),
        stripes(2, 7, 1.0),
    ]
    .iter()
    .map(|spec| spec.build().unwrap())
    .collect()
});
