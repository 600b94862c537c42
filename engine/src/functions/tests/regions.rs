//! Membership against formulas that share nothing with the functions.

use super::*;

/// Compares what SQL finds under each spelling with what `inside` says of the rows, those within
/// rounding of the border (`None`) left out.
async fn check(focus: (f64, f64), spellings: &[String], inside: impl Fn(f64, f64) -> Option<bool>) {
    let context = context();
    let rows = sky_rows(7, &[focus]);
    register(&context, "sky", "director", &rows);
    let unsure: Vec<i64> = rows.iter().filter(|r| inside(r.1, r.2).is_none()).map(|r| r.0).collect();
    let want: Vec<i64> = rows.iter().filter(|r| inside(r.1, r.2) == Some(true)).map(|r| r.0).collect();
    assert!(want.len() > 20, "the region at {focus:?} tests nothing");
    for spelling in spellings {
        let mut got = ids(&context, spelling).await;
        got.retain(|id| !unsure.contains(id));
        assert_eq!(got, want, "{spelling}");
    }
}

const CENTERS: [(f64, f64); 7] =
    [(0.0, 0.0), (359.99, -30.0), (0.05, 60.0), (200.0, 90.0), (10.0, -90.0), (77.0, 89.5), (123.4, 45.6)];

#[tokio::test]
async fn circles() {
    for (ra, dec) in CENTERS {
        for radius in [0.01, 1.0, 12.0] {
            let numbers = format!("{ra}, {dec}, {radius}");
            let spellings = [
                format!("scisql_s2PtInCircle(ra, dec, {numbers}) = 1"),
                format!("s2PtInCircle(ra, dec, {numbers})"),
                format!("contains(point('ICRS', ra, dec), circle('ICRS', {numbers})) = 1"),
                format!("1 = contains(point(ra, dec), circle(point({ra}, {dec}), {radius}))"),
                format!("intersects(circle({numbers}), point(ra, dec)) = 1"),
                format!("separation(ra, dec, {ra}, {dec}) <= {radius}"),
                format!("distance(point({ra}, {dec}), point(ra, dec)) * 3600 <= 3600.0 * {radius}"),
                format!("qserv_areaspec_circle({numbers})"),
                // The same circle made anew for each row.
                format!("contains(point(ra, dec), circle({ra} + 0 * id, {dec}, {radius})) = 1"),
                format!("s2PtInCircle(ra, dec, {ra}, {dec}, {radius} + 0 * id) = 1"),
                // Geometries as values.
                format!(
                    "id IN (SELECT id FROM (SELECT id, point(ra, dec) AS p FROM sky) WHERE contains(p, circle({numbers})) = 1)"
                ),
            ];
            check((ra, dec), &spellings, |row_ra, row_dec| {
                let away = haversine(row_ra, row_dec, ra, dec);
                ((away - radius).abs() > 1e-9).then_some(away < radius)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn the_border_belongs_to_a_circle() {
    let context = context();
    register(&context, "sky", "director", &[(1, 0.0, 1.0), (2, 0.0, 0.0), (3, 0.0, 1.000_000_000_1)]);
    assert_eq!(ids(&context, "contains(point(ra, dec), circle(0, 0, 1)) = 1").await, [1, 2]);
    assert_eq!(ids(&context, "contains(point(ra, dec), circle(0, 0, 0)) = 1").await, [2]);
    assert_eq!(ids(&context, "contains(point(ra, dec), circle(0, 0, 180)) = 1").await, [1, 2, 3]);
}

#[tokio::test]
async fn range_boxes() {
    for (ra_min, dec_min, ra_max, dec_max, focus) in [
        (355.0, -5.0, 5.0, 5.0, (0.0, 0.0)),
        (-5.0, -5.0, 5.0, 5.0, (0.0, 0.0)),
        (355.0, -5.0, 365.0, 5.0, (0.0, 0.0)),
        (100.0, 80.0, 200.0, 90.0, (150.0, 88.0)),
        (0.0, -90.0, 360.0, -80.0, (0.0, -85.0)),
        (10.0, 10.0, 12.0, 13.0, (11.0, 11.0)),
    ] {
        let numbers = format!("{ra_min}, {dec_min}, {ra_max}, {dec_max}");
        let spellings = [
            format!("scisql_s2PtInBox(ra, dec, {numbers}) = 1"),
            format!("0 <> s2ptinbox(ra, dec, {numbers})"),
            format!("qserv_areaspec_box({numbers})"),
        ];
        check(focus, &spellings, |ra, dec| {
            let in_ra = (-1..=1).any(|turn| {
                let ra = ra + 360.0 * f64::from(turn);
                let east = if ra_max < ra_min { ra_max + 360.0 } else { ra_max };
                ra >= ra_min && ra <= east
            });
            Some(in_ra && dec >= dec_min && dec <= dec_max)
        })
        .await;
    }
}

#[tokio::test]
async fn center_boxes_are_bounded_by_great_circles() {
    for (ra, dec) in CENTERS {
        let (width, height) = (6.0, 3.0);
        let spellings = [
            format!("contains(point(ra, dec), box({ra}, {dec}, {width}, {height})) = 1"),
            format!("contains(point('ICRS', ra, dec), box('ICRS', point({ra}, {dec}), {width}, {height}))"),
        ];
        // Each side's plane holds the end of an arm and the direction at right angles to the arm.
        let center = vector(ra, dec);
        let north = vector(ra, dec + 90.0);
        let east = cross(north, center);
        let beyond = |v: [f64; 3], arm: [f64; 3], half: f64| {
            let (sin, cos) = half.to_radians().sin_cos();
            dot(v, arm).abs() * cos - dot(v, center) * sin
        };
        check((ra, dec), &spellings, |row_ra, row_dec| {
            let v = vector(row_ra, row_dec);
            let outside = beyond(v, east, width / 2.0).max(beyond(v, north, height / 2.0));
            (outside.abs() > 1e-12).then_some(outside < 0.0)
        })
        .await;
    }
}

#[tokio::test]
async fn ellipses() {
    for (ra, dec) in CENTERS {
        let (major, minor, angle) = (5.0, 2.0, 30.0);
        let arcsec = format!("{ra}, {dec}, {}, {}, {angle}", major * 3600.0, minor * 3600.0);
        let degrees = format!("{ra}, {dec}, {major}, {minor}, {angle}");
        let spellings = [
            format!("scisql_s2PtInEllipse(ra, dec, {arcsec}) = 1"),
            format!("qserv_areaspec_ellipse({arcsec})"),
            format!("contains(point(ra, dec), ellipse({degrees})) = 1"),
        ];
        let center = vector(ra, dec);
        let north = vector(ra, dec + 90.0);
        let east = cross(north, center);
        let (sin, cos) = f64::to_radians(angle).sin_cos();
        check((ra, dec), &spellings, |row_ra, row_dec| {
            let v = vector(row_ra, row_dec);
            let (n, e) = (dot(v, north), dot(v, east));
            let along = (cos * n + sin * e) / f64::to_radians(major);
            let across = (cos * e - sin * n) / f64::to_radians(minor);
            let norm = along * along + across * across;
            ((norm - 1.0).abs() > 1e-9).then_some(norm < 1.0 && dot(v, center) > 0.0)
        })
        .await;
    }
}

#[tokio::test]
async fn polygons() {
    let around_pole: Vec<(f64, f64)> = vec![(0.0, 80.0), (90.0, 82.0), (180.0, 79.0), (270.0, 81.0)];
    let across_zero = vec![(357.0, -2.0), (3.0, -2.0), (4.0, 3.0), (359.0, 5.0), (356.0, 1.0)];
    let clockwise: Vec<(f64, f64)> = across_zero.iter().rev().copied().collect();
    for (vertices, focus, turn) in
        [(around_pole, (0.0, 90.0), 1.0), (across_zero, (0.0, 0.0), 1.0), (clockwise, (0.0, 0.0), -1.0)]
    {
        let numbers: Vec<String> = vertices.iter().map(|(ra, dec)| format!("{ra}, {dec}")).collect();
        let points: Vec<String> = vertices.iter().map(|(ra, dec)| format!("point({ra}, {dec})")).collect();
        let (numbers, points) = (numbers.join(", "), points.join(", "));
        let spellings = [
            format!("scisql_s2PtInCPoly(ra, dec, {numbers}) = 1"),
            format!("s2PtInCPoly(ra, dec, {numbers}) > 0"),
            format!("qserv_areaspec_poly({numbers})"),
            format!("contains(point(ra, dec), polygon('ICRS', {numbers})) = 1"),
            format!("contains(point(ra, dec), polygon({points})) = 1"),
        ];
        check(focus, &spellings, |ra, dec| {
            let v = vector(ra, dec);
            let corners: Vec<[f64; 3]> = vertices.iter().map(|&(ra, dec)| vector(ra, dec)).collect();
            let lowest = (0..corners.len())
                .map(|i| turn * dot(cross(corners[i], corners[(i + 1) % corners.len()]), v))
                .fold(f64::INFINITY, f64::min);
            (lowest.abs() > 1e-13).then_some(lowest > 0.0)
        })
        .await;
    }
}

#[tokio::test]
async fn rows_without_position_are_nowhere() {
    let context = context();
    register(&context, "sky", "director", &[(1, 0.0, 0.0)]);
    let rows = query(
        &context,
        "SELECT id, s2PtInCircle(ra, dec, 0, 0, 180), contains(point(ra, dec), circle(0, 0, 180)) FROM sky ORDER BY id",
    )
    .await
    .unwrap();
    let got: Vec<_> = rows.iter().map(|r| (r[1].clone(), r[2].clone())).collect();
    let int = ScalarValue::Int32;
    // NaN, declination 91, no declination, no right ascension, a position.
    let want = [
        (int(None), int(None)),
        (int(None), int(None)),
        (int(Some(0)), int(None)),
        (int(Some(0)), int(None)),
        (int(Some(1)), int(Some(1))),
    ];
    assert_eq!(got, want);
}
