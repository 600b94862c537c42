//! Whether regions have a position in common, against sphgeom and against borders walked step by step; polygons as
//! bytes, and centres.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sampling;

use proptest::prelude::*;
use sampling::{at, offset, position};
use skyflight_sky::{Circle, ConvexPolygon, Degrees, Ellipse, Position, Region, separation};

/// Right ascension and declination, degrees.
type Vertex = (f64, f64);

fn circle(ra: f64, dec: f64, radius: f64) -> Region {
    Circle::new(at(ra, dec), Degrees(radius)).unwrap().into()
}

fn polygon(vertices: &[(f64, f64)]) -> Region {
    ConvexPolygon::new(&positions(vertices)).unwrap().into()
}

fn positions(vertices: &[(f64, f64)]) -> Vec<Position> {
    vertices.iter().map(|&(ra, dec)| at(ra, dec)).collect()
}

fn ellipse(center: Position, major_deg: f64, minor_deg: f64, angle: f64) -> Region {
    let (major, minor) = (Degrees(major_deg).into(), Degrees(minor_deg).into());
    Ellipse::new(center, major, minor, Degrees(angle)).unwrap().into()
}

#[track_caller]
fn check(a: &Region, b: &Region, expected: bool) {
    assert_eq!((a.intersects(b), b.intersects(a)), (Some(expected), Some(expected)), "{a:?} {b:?}");
}

/// sphgeom 30.2026.4000: not `ConvexPolygon.relate(Circle) & DISJOINT`, the same for radii a ten-thousandth smaller and
/// larger.
#[test]
fn circles_meet_polygons_as_in_sphgeom() {
    #[rustfmt::skip]
    const CASES: &[(Vertex, f64, &[Vertex], bool)] = &[
        ((356.565, 73.896), 2.802, &[(359.266, 69.411), (340.926, 61.166), (355.101, 50.999), (359.598, 50.587), (5.068, 51.021), (18.212, 58.414)], false),
        ((121.44, 45.055), 0.625, &[(121.761, 47.52), (121.152, 44.046), (123.129, 43.382), (123.46, 43.374), (126.582, 45.591), (123.645, 47.82)], true),
        ((64.072, -89.406), 0.643, &[(323.682, -89.35), (225.346, -89.35), (149.547, -89.35), (140.055, -89.35), (31.331, -89.35)], true),
        ((315.001, 70.796), 15.18, &[(45.954, 75.769), (54.59, 75.769), (174.901, 75.769), (310.713, 75.769), (327.634, 75.769)], true),
        ((0.927, 60.456), 2.083, &[(356.438, 59.966), (359.015, 58.284), (2.504, 58.731), (3.165, 59.177), (0.617, 61.768)], true),
        ((15.138, -84.824), 2.163, &[(346.031, -87.201), (301.79, -87.201), (281.072, -87.201), (160.805, -87.201), (59.235, -87.201), (11.864, -87.201)], false),
        ((359.139, -23.688), 3.571, &[(358.178, -24.683), (358.035, -24.723), (356.98, -34.941), (5.572, -32.861), (6.387, -30.594)], true),
        ((20.165, 61.425), 1.016, &[(355.344, 69.174), (341.025, 61.952), (343.031, 56.898), (345.317, 54.895), (348.659, 52.986), (14.122, 54.485)], false),
        ((76.2, -74.436), 1.251, &[(356.086, -79.672), (247.339, -79.672), (236.116, -79.672), (224.087, -79.672), (177.702, -79.672), (120.397, -79.672)], false),
        ((203.823, -88.325), 0.791, &[(254.035, -89.196), (121.805, -89.196), (69.764, -89.196), (17.587, -89.196)], false),
        ((359.544, 88.443), 2.985, &[(315.092, 87.493), (340.107, 87.301), (340.229, 87.3), (37.876, 86.827), (135.336, 86.967), (208.784, 87.555)], true),
        ((242.989, 89.866), 0.055, &[(39.87, 89.728), (143.392, 89.728), (177.064, 89.728), (215.656, 89.728), (243.445, 89.728), (289.001, 89.728)], true),
        ((10.612, -32.463), 0.935, &[(352.255, -29.658), (2.193, -36.461), (3.591, -24.096)], false),
        ((110.601, 83.703), 5.162, &[(107.314, 85.225), (193.241, 85.225), (246.536, 85.225), (284.155, 85.225), (311.298, 85.225), (356.884, 85.225)], true),
        ((65.504, 89.464), 0.189, &[(75.458, 89.689), (55.85, 89.477), (87.805, 89.345), (97.882, 89.596)], true),
        ((15.589, 55.356), 9.303, &[(345.146, 68.472), (338.885, 59.572), (2.721, 49.514), (21.443, 60.467), (12.365, 69.235), (6.375, 70.271)], true),
        ((359.832, -30.795), 0.376, &[(359.106, -29.356), (358.971, -30.48), (0.106, -30.997), (1.044, -29.59), (1.021, -29.548), (0.793, -29.281)], true),
        ((50.749, -89.236), 1.608, &[(324.437, -88.634), (294.693, -88.634), (203.035, -88.634), (152.417, -88.634), (74.574, -88.634)], true),
        ((344.245, 67.923), 10.185, &[(301.574, 78.572), (345.45, 78.234), (42.37, 77.802), (89.076, 77.722), (169.448, 78.242), (232.087, 78.666)], false),
        ((347.041, 80.545), 8.588, &[(42.808, 82.598), (48.996, 82.598), (165.209, 82.598), (261.404, 82.598), (324.153, 82.598)], true),
        ((230.568, 83.413), 4.959, &[(37.797, 84.138), (91.353, 84.138), (126.977, 84.138), (148.275, 84.138), (278.508, 84.138)], true),
        ((220.095, -89.511), 0.164, &[(319.72, -89.692), (249.306, -89.692), (218.634, -89.692), (210.817, -89.692), (150.327, -89.692), (22.38, -89.692)], false),
        ((129.92, 89.774), 0.265, &[(48.559, 89.647), (77.746, 89.247), (91.536, 89.296), (102.553, 89.416)], false),
        ((0.456, 59.17), 0.234, &[(359.153, 60.227), (359.152, 60.226), (0.178, 59.518), (0.483, 59.571), (0.949, 60.153)], false),
        ((304.275, -87.312), 0.893, &[(287.385, -88.412), (264.35, -88.412), (123.962, -88.412), (30.415, -88.412)], false),
        ((359.719, -30.156), 0.105, &[(359.833, -29.984), (359.837, -30.034), (0.002, -30.137), (0.133, -30.059), (0.139, -29.954), (0.11, -29.91)], false),
        ((127.75, 50.728), 1.266, &[(115.704, 49.084), (114.451, 45.468), (114.75, 44.254), (115.328, 43.145), (127.29, 40.018), (124.584, 51.818)], false),
        ((98.371, -89.163), 0.1, &[(317.257, -89.534), (254.966, -89.534), (155.171, -89.534), (11.18, -89.534)], false),
    ];
    for ((ra, dec), radius, vertices, expected) in CASES {
        check(&circle(*ra, *dec, *radius), &polygon(vertices), *expected);
    }
}

/// sphgeom 30.2026.4000: not `ConvexPolygon.relate(ConvexPolygon) & DISJOINT`.
#[test]
fn polygons_meet_as_in_sphgeom() {
    #[rustfmt::skip]
    const CASES: &[(&[Vertex], &[Vertex], bool)] = &[
        (&[(349.633, 62.9), (348.521, 60.031), (356.965, 54.502), (10.976, 58.66), (6.843, 64.799), (3.062, 65.57)], &[(351.595, 61.149), (345.803, 55.276), (358.89, 52.93), (2.266, 57.643), (355.446, 61.22)], true),
        (&[(359.471, 60.306), (359.664, 59.631), (359.986, 59.59), (0.605, 60.289), (0.397, 60.365)], &[(0.025, 60.491), (0.765, 60.334), (0.878, 60.458), (0.643, 60.667)], false),
        (&[(299.0, -83.865), (280.808, -83.865), (222.143, -83.865), (215.604, -83.865), (208.169, -83.865), (81.332, -83.865)], &[(42.653, -80.766), (31.827, -82.554), (36.458, -87.67), (115.153, -86.312), (89.972, -79.998)], true),
        (&[(26.655, 89.759), (73.194, 89.11), (79.054, 89.108), (81.823, 89.111), (124.788, 89.533), (126.171, 89.778)], &[(62.625, 89.62), (150.267, 89.064), (211.677, 89.533), (295.75, 89.905)], true),
        (&[(293.218, 89.127), (12.243, 88.557), (50.063, 88.264), (93.238, 88.217), (145.138, 88.589), (185.565, 88.938)], &[(83.052, 88.545), (76.016, 88.399), (75.906, 88.297), (76.884, 88.224), (80.603, 88.127), (89.842, 88.438)], true),
        (&[(151.025, 84.712), (171.935, 84.712), (234.445, 84.712), (7.732, 84.712)], &[(144.858, 87.922), (141.068, 86.324), (167.227, 85.668), (184.215, 86.962), (162.865, 88.127)], true),
        (&[(359.793, 0.277), (359.739, -0.227), (0.315, -0.143), (0.191, 0.288)], &[(0.001, 0.174), (359.995, 0.117), (0.056, 0.123), (0.055, 0.164), (0.05, 0.169), (0.045, 0.173)], true),
        (&[(352.803, -89.845), (220.111, -89.845), (103.71, -89.845)], &[(188.147, -89.45), (168.999, -89.517), (137.906, -89.786), (258.077, -89.837), (222.197, -89.505), (217.755, -89.485)], true),
        (&[(352.318, 61.451), (352.687, 58.506), (1.323, 56.026), (8.038, 60.764), (7.892, 61.155), (0.829, 64.015)], &[(348.95, 61.121), (19.306, 58.103), (39.594, 65.952), (32.018, 79.241), (17.93, 80.574)], true),
        (&[(122.848, 46.174), (122.583, 45.215), (123.377, 44.91), (124.343, 45.4), (124.279, 45.918)], &[(122.638, 45.787), (121.356, 44.736), (122.311, 42.562), (123.195, 42.255), (125.646, 42.7), (124.778, 45.883)], true),
        (&[(359.859, 60.117), (359.844, 60.112), (359.741, 59.972), (0.085, 59.862), (0.284, 59.948), (0.304, 60.003)], &[(359.75, 60.106), (359.748, 60.104), (359.811, 60.034), (359.954, 60.062), (359.923, 60.128)], true),
        (&[(359.996, 0.153), (359.849, -0.022), (359.944, -0.142), (0.102, -0.114), (0.116, 0.1)], &[(0.183, 0.03), (0.171, 0.021), (0.148, -0.094), (0.176, -0.126), (0.315, -0.014), (0.235, 0.043)], false),
        (&[(359.885, -29.78), (359.716, -30.02), (359.72, -30.046), (359.91, -30.228), (0.216, -30.137)], &[(359.914, -29.792), (359.958, -29.827), (359.981, -29.783), (359.953, -29.766)], false),
        (&[(359.826, -29.447), (359.612, -29.533), (359.454, -30.334), (359.767, -30.537), (0.22, -30.535), (0.502, -30.361)], &[(359.248, -30.362), (359.34, -30.416), (359.447, -30.296), (359.385, -30.239)], false),
        (&[(353.642, -30.007), (355.378, -33.861), (358.217, -35.29), (1.494, -35.349), (4.956, -33.521), (3.172, -25.281)], &[(357.771, -3.46), (356.226, -23.303), (17.367, -21.687), (15.58, -4.47), (15.304, -4.21), (14.196, -3.295)], false),
        (&[(123.27, 46.005), (123.121, 45.235), (123.878, 45.356), (123.895, 45.374)], &[(122.19, 46.895), (121.977, 46.852), (122.221, 44.77), (123.642, 46.593), (122.891, 46.889)], false),
        (&[(359.585, 60.87), (358.382, 59.645), (359.811, 59.11), (0.034, 59.104), (1.813, 60.014), (0.972, 60.763)], &[(355.494, 59.456), (357.62, 57.497), (359.74, 58.396), (357.996, 59.941)], false),
        (&[(116.47, 50.103), (114.228, 45.052), (116.959, 41.132), (128.982, 40.574), (132.603, 45.222)], &[(119.497, 39.115), (114.561, 31.47), (120.381, 22.884), (135.601, 27.486), (135.621, 35.458), (134.127, 37.385)], false),
        (&[(119.061, 48.468), (118.326, 47.805), (117.542, 46.185), (124.09, 41.512), (127.291, 48.758), (124.302, 49.673)], &[(118.082, 44.467), (118.123, 43.864), (118.619, 43.7), (119.095, 44.532), (118.901, 44.625)], false),
        (&[(359.771, -29.767), (359.666, -29.893), (359.644, -29.982), (359.929, -30.296), (0.228, -30.219), (0.297, -29.86)], &[(359.655, -30.051), (359.626, -30.086), (359.693, -30.148), (359.745, -30.102), (359.699, -30.045), (359.697, -30.045)], false),
    ];
    for (a, b, expected) in CASES {
        check(&polygon(a), &polygon(b), *expected);
    }
}

#[test]
fn circles_meet_where_their_radii_reach() {
    check(&circle(359.5, 0.0, 0.6), &circle(0.5, 0.0, 0.41), true);
    check(&circle(359.5, 0.0, 0.6), &circle(0.5, 0.0, 0.39), false);
    check(&circle(10.0, 89.5, 0.5), &circle(190.0, 89.5, 0.51), true);
    check(&circle(10.0, 89.5, 0.5), &circle(190.0, 89.5, 0.49), false);
    check(&circle(0.0, 0.0, 100.0), &circle(180.0, 0.0, 80.01), true);
    check(&circle(0.0, 0.0, 100.0), &circle(180.0, 0.0, 79.99), false);
    // One within the other, and points.
    check(&circle(50.0, 40.0, 5.0), &circle(50.5, 40.0, 0.1), true);
    check(&circle(50.0, 40.0, 0.0), &circle(50.0, 40.0, 0.0), true);
    check(&circle(50.0, 40.0, 0.0), &circle(50.0, 40.000_001, 0.0), false);
}

/// Two bars that cross without a corner of one in the other; a shape wholly within another; sides of one great circle.
#[test]
fn polygons_meet_without_corners_in_each_other() {
    let across = polygon(&[(355.0, -1.0), (5.0, -1.0), (5.0, 1.0), (355.0, 1.0)]);
    let along = polygon(&[(359.0, -5.0), (1.0, -5.0), (1.0, 5.0), (359.0, 5.0)]);
    check(&across, &along, true);
    let inside = polygon(&[(359.9, -0.1), (0.1, -0.1), (0.0, 0.1)]);
    check(&across, &inside, true);
    let [east, west] = [10.0, 20.0].map(|ra| polygon(&[(ra, 0.0), (ra + 5.0, 0.0), (ra + 5.0, 5.0)]));
    check(&east, &west, false);
    // Within a circle that holds no corner of the other's border.
    check(&circle(0.0, 0.0, 60.0), &across, true);
    check(&circle(180.0, 0.0, 176.0), &inside, false);
    check(&circle(180.0, 0.0, 176.0), &across, true);
}

#[test]
fn ellipses_meet() {
    let bar = ellipse(at(0.0, 0.0), 5.0, 0.1, 90.0);
    check(&bar, &circle(4.0, 0.5, 0.5), true);
    check(&bar, &circle(4.0, 0.5, 0.4), false);
    check(&bar, &circle(5.5, 0.0, 0.51), true);
    check(&bar, &circle(5.5, 0.0, 0.49), false);
    check(&bar, &ellipse(at(3.0, 0.0), 5.0, 0.1, 0.0), true);
    check(&bar, &ellipse(at(3.0, 5.2), 5.0, 0.1, 0.0), false);
    check(&bar, &ellipse(at(3.0, 5.05), 5.0, 0.1, 0.0), true);
    check(&bar, &polygon(&[(2.0, -1.0), (2.5, -1.0), (2.5, 1.0), (2.0, 1.0)]), true);
    check(&bar, &polygon(&[(5.01, -1.0), (5.5, -1.0), (5.5, 1.0), (5.01, 1.0)]), false);
    check(&bar, &polygon(&[(340.0, -20.0), (20.0, -20.0), (20.0, 20.0), (340.0, 20.0)]), true);
    // Without area there is nothing to meet, as nothing is contained.
    let empty = ellipse(at(0.0, 0.0), 5.0, 0.0, 90.0);
    check(&empty, &circle(0.0, 0.0, 1.0), false);
    check(&empty, &bar, false);
}

#[test]
fn other_kinds_are_not_compared() {
    assert_eq!(Region::AllSky.intersects(&circle(0.0, 0.0, 1.0)), None);
    assert_eq!(Region::AllSky.centroid(), None);
}

/// A region and positions all along its border.
fn bordered() -> impl Strategy<Value = (Region, Vec<Position>)> {
    const STEPS: usize = 1500;
    let size = || (-3.0..1.3_f64).prop_map(|power| 10_f64.powf(power));
    let center = || prop_oneof![Just((0.0, 0.0)), Just((200.0, 90.0)), Just((359.9, -60.0)), Just((77.0, 89.9))];
    let turns = (0..STEPS).map(|i| 360.0 * i as f64 / STEPS as f64);
    let [circle_turns, ellipse_turns] = [turns.clone(), turns];
    let circles = (position(), size()).prop_map(move |(center, radius)| {
        let border = circle_turns.clone().map(|turn| offset(center, radius * (1.0 - 1e-9), turn)).collect();
        (Circle::new(center, Degrees(radius)).unwrap().into(), border)
    });
    let ellipses =
        (position(), size(), 0.02..1.0_f64, 0.0..180.0_f64).prop_map(move |(center, major, ratio, angle)| {
            let major = major.min(10.0);
            let (a, b) = (major.to_radians(), (major * ratio).to_radians());
            let point = |turn: f64| {
                let (sine, cosine) = turn.to_radians().sin_cos();
                let (x, y) = (a * cosine, b * sine);
                let distance = x.hypot(y).asin().to_degrees() * (1.0 - 1e-9);
                offset(center, distance, angle + y.atan2(x).to_degrees())
            };
            (ellipse(center, major, major * ratio, angle), ellipse_turns.clone().map(point).collect())
        });
    let polygons =
        (center(), size(), prop::collection::vec(0.0..0.9_f64, 3..8)).prop_map(|((ra, dec), size, turns)| {
            let count = turns.len() as f64;
            let corner = |(i, turn): (usize, &f64)| offset(at(ra, dec), size, 360.0 * (i as f64 + turn) / count);
            let corners: Vec<Position> = turns.iter().enumerate().map(corner).collect();
            let mut border = Vec::new();
            for (i, from) in corners.iter().enumerate() {
                let to = corners[(i + 1) % corners.len()];
                let (length, angle) = (separation(*from, to).0, skyflight_sky::position_angle(*from, to).0);
                border
                    .extend((0..STEPS / 8).map(|step| offset(*from, length * step as f64 / (STEPS / 8) as f64, angle)));
            }
            (ConvexPolygon::new(&corners), border)
        });
    let polygons = polygons.prop_filter_map("convex", |(polygon, border)| Some((polygon.ok()?.into(), border)));
    prop_oneof![circles, ellipses, polygons]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// A border that is walked through the other region must be found to meet it. Where no step of either border, nor
    /// a centre, is in the other, the regions are apart, or meet between two steps: they are then not compared.
    #[test]
    fn borders_in_the_other_region_are_met(
        (a, border_a) in bordered(), (b, border_b) in bordered(), reach in 0.0..1.4_f64, turn in 0.0..360.0_f64,
    ) {
        // The second is brought near the first: its border is what decides.
        let met = a.intersects(&b).unwrap();
        prop_assert_eq!(b.intersects(&a), Some(met));
        let inside = |region: &Region, border: &[Position]| border.iter().any(|p| region.contains(*p));
        let (in_a, in_b) = (inside(&a, &border_b), inside(&b, &border_a));
        prop_assert!(met || !(in_a || in_b), "{a:?} {b:?}");
        // A circle about some place near the first: exactly as far as the nearest step of the border, or the place is
        // inside.
        let far = a.area_deg2().unwrap().sqrt() * reach;
        let center = offset(a.centroid().unwrap(), far.min(179.0), turn);
        let nearest = border_a.iter().map(|p| separation(center, *p).0).fold(f64::INFINITY, f64::min);
        // A step is no longer than this share of the distance around.
        let gap = border_a.windows(2).map(|p| separation(p[0], p[1]).0).fold(0.0, f64::max);
        let meets = |radius: f64| a.intersects(&Circle::new(center, Degrees(radius)).unwrap().into()).unwrap();
        if a.contains(center) {
            prop_assert!(meets(0.0));
        } else {
            prop_assert!(meets((nearest * (1.0 + 1e-9) + 1e-12).min(180.0)), "{a:?} {center:?} {nearest}");
            prop_assert!(nearest < 2.0 * gap || !meets(nearest - gap), "{a:?} {center:?} {nearest}");
        }
    }

    /// A circle about a place inside lies in a region as far as the nearest step of its border; a circle about any
    /// place holds the region from the farthest step on.
    #[test]
    fn regions_hold_what_their_borders_enclose(
        (a, border_a) in bordered(), (b, border_b) in bordered(), reach in 0.0..1.4_f64, turn in 0.0..360.0_f64,
    ) {
        let center = offset(a.centroid().unwrap(), (a.area_deg2().unwrap().sqrt() * reach).min(179.0), turn);
        let far = |p: &Position| separation(center, *p).0;
        let nearest = border_a.iter().map(far).fold(f64::INFINITY, f64::min);
        let farthest = border_a.iter().map(far).fold(0.0, f64::max);
        let gap = |border: &[Position]| border.windows(2).map(|p| separation(p[0], p[1]).0).fold(0.0, f64::max);
        let step = gap(&border_a);
        let circle = |radius: f64| -> Region { Circle::new(center, Degrees(radius.clamp(0.0, 180.0))).unwrap().into() };
        if a.contains(center) {
            // The border lies beyond its steps by a share of the way from the region's own centre.
            prop_assert!(!a.holds_region(&circle(nearest * (1.0 + 1e-9) + 3e-8)).unwrap(), "{a:?} {center:?} {nearest}");
            let within = nearest - step;
            prop_assert!(within <= 0.0 || a.holds_region(&circle(within)).unwrap(), "{a:?} {center:?} {within}");
        }
        if !a.contains(offset(center, 180.0, 0.0)) && farthest + step < 179.9 {
            prop_assert!(circle(farthest + step).holds_region(&a).unwrap(), "{a:?} {center:?} {farthest}");
            prop_assert!(!circle(farthest * (1.0 - 1e-9) - 1e-9).holds_region(&a).unwrap(), "{a:?} {center:?} {farthest}");
        }
        // Two of any shape.
        let around = |p: &Position, radius: f64| -> Region { Circle::new(*p, Degrees(radius)).unwrap().into() };
        if a.holds_region(&b).unwrap() {
            prop_assert!(border_b.iter().all(|p| a.intersects(&around(p, 1e-7)).unwrap()), "{a:?} {b:?}");
        } else {
            let step = gap(&border_b).min(180.0);
            let well_inside = border_b.iter().all(|p| a.holds_region(&around(p, step)).unwrap());
            prop_assert!(!well_inside || b.area_deg2().unwrap() > 20_000.0, "{a:?} {b:?}");
        }
    }

    /// The bytes hold the same positions.
    #[test]
    fn polygons_survive_as_bytes(
        center in position(), power in -4.0..1.9_f64, shares in prop::collection::vec(0.0..1.0_f64, 3..9),
        backwards in any::<bool>(), seeds in prop::collection::vec((0.0..1.3_f64, 0.0..360.0_f64), 20),
    ) {
        let (size, count) = (10_f64.powf(power), shares.len() as f64);
        let corner = |(i, share): (usize, &f64)| offset(center, size, (i as f64 + 0.8 * share) * 360.0 / count);
        let mut corners: Vec<Position> = shares.iter().enumerate().map(corner).collect();
        if backwards {
            corners.reverse();
        }
        let Ok(polygon) = ConvexPolygon::new(&corners) else { return Ok(()) };
        let bytes = ConvexPolygon::bytes_of(&corners).unwrap();
        prop_assert_eq!(bytes.len(), 24 * (corners.len() + 1));
        let read = ConvexPolygon::from_bytes(&bytes).unwrap();
        for (share, angle) in seeds {
            let p = offset(center, (share * size).min(180.0), angle);
            prop_assert_eq!(read.contains(p), polygon.contains(p), "{:?}", p);
        }
        for p in &corners {
            prop_assert_eq!(read.contains(*p), polygon.contains(*p), "{:?}", p);
        }
    }
}

/// numpy, from scisql's `s2cpoly_init` and `s2cpoly_tobin`: the sum of the vertices, then (a + b) × (b - a) of each
/// side towards the inside, for the octant of x, y and z in both orders.
#[test]
fn bytes_are_those_of_scisql() {
    let octant = [(0.0, 0.0), (90.0, 0.0), (0.0, 90.0)];
    let numbers = |vertices: &[(f64, f64)]| -> Vec<f64> {
        let bytes = ConvexPolygon::bytes_of(&positions(vertices)).unwrap();
        bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let close = |got: Vec<f64>, want: [f64; 12]| {
        assert_eq!(got.len(), 12);
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15), "{got:?}");
    };
    close(numbers(&octant), [1.0, 1.0, 1.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 2.0, 0.0]);
    let [x, y, z] = octant;
    close(numbers(&[z, y, x]), [1.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0, 0.0]);
}

#[test]
fn bytes_that_are_no_polygon_are_refused() {
    let good = ConvexPolygon::bytes_of(&positions(&[(0.0, 0.0), (90.0, 0.0), (0.0, 90.0)])).unwrap();
    for bad in [&good[..0], &good[..95], &good[..72], &[0; 96], &[0xff; 96], &[7; 96]] {
        assert!(ConvexPolygon::from_bytes(bad).is_err(), "{bad:?}");
    }
    let many: Vec<Position> = (0..21).map(|i| offset(at(10.0, 20.0), 1.0, f64::from(i) * 17.0)).collect();
    assert!(ConvexPolygon::new(&many).is_ok() && ConvexPolygon::bytes_of(&many).is_err());
}

/// Edges on one great circle, as of a polygon with a vertex in the middle of a side: it holds what it holds without.
#[test]
fn a_vertex_within_a_side_changes_nothing() {
    let plain = polygon(&[(0.0, 0.0), (10.0, 0.0), (5.0, 8.0)]);
    let bytes = ConvexPolygon::bytes_of(&positions(&[(0.0, 0.0), (4.0, 0.0), (10.0, 0.0), (5.0, 8.0)])).unwrap();
    let read = ConvexPolygon::from_bytes(&bytes).unwrap();
    let mut held = 0;
    for i in 0..400 {
        let p = at(-2.0 + f64::from(i % 20) * 0.7 + 0.01, -1.0 + f64::from(i / 20) * 0.5 + 0.013);
        assert_eq!(read.contains(p), plain.contains(p), "{p:?}");
        held += i32::from(plain.contains(p));
    }
    assert!(held > 50, "{held}");
}

#[test]
fn centres() {
    let near = |region: Region, ra: f64, dec: f64| {
        let apart = separation(region.centroid().unwrap(), at(ra, dec)).0;
        assert!(apart < 3e-11, "{apart} {region:?}");
    };
    // mpmath 1.4.1, half the sum of the normals times the sides, to 60 digits.
    near(polygon(&[(0.0, 0.0), (90.0, 0.0), (0.0, 90.0)]), 45.0, 35.264_389_682_754_654);
    near(polygon(&[(350.0, -10.0), (10.0, -10.0), (10.0, 10.0), (350.0, 10.0)]), 0.0, 0.0);
    near(polygon(&[(10.0, 20.0), (10.001, 20.0), (10.0, 20.001)]), 10.000_333_334_039_182, 20.000_333_333_956_607);
    near(polygon(&[(10.0, 0.0), (10.000_000_3, 0.0), (10.0, 0.000_000_3)]), 10.000_000_1, 0.000_000_1);
    let large = polygon(&[(350.0, -60.0), (10.5, -61.0), (12.0, -50.0), (355.0, -49.0)]);
    near(large, 1.952_173_656_298_336, -55.275_018_899_179_166);
    near(polygon(&[(10.0, 80.0), (10.9, 80.1), (11.0, 80.5)]), 10.626_262_883_835, 80.200_298_430_954_36);
    let backwards = polygon(&[(100.05, -29.9), (100.2, -29.8), (100.3, -30.1), (100.0, -30.0)]);
    near(backwards, 100.157_360_197_678_46, -29.959_293_719_673_88);
    near(circle(5.0, 6.0, 7.0), 5.0, 6.0);
    near(ellipse(at(5.0, 6.0), 2.0, 1.0, 3.0), 5.0, 6.0);
}
