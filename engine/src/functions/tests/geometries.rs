//! INTERSECTS of regions, AREA and CENTROID.

use super::*;

/// Regions and whether they meet; the geometry itself is tested beside it.
const PAIRS: &[(&str, &str, bool)] = &[
    ("circle(359.5, 0, 0.6)", "circle(0.5, 0, 0.41)", true),
    ("circle(359.5, 0, 0.6)", "circle(0.5, 0, 0.39)", false),
    ("circle(10, 89.5, 0.5)", "circle(190, 89.5, 0.51)", true),
    ("circle(10, 89.5, 0.5)", "circle(190, 89.5, 0.49)", false),
    // Bars that cross: no corner of one is in the other.
    ("box(0, 0, 10, 2)", "box(0, 0, 2, 10)", true),
    ("box(0, 0, 10, 2)", "box(0, 4, 2, 2)", false),
    ("polygon(355, -1, 5, -1, 5, 1, 355, 1)", "polygon(359, 5, 1, 5, 1, -5, 359, -5)", true),
    ("polygon(355, -1, 5, -1, 5, 1, 355, 1)", "polygon(6, 1, 7, 1, 7, -1)", false),
    // About the pole, where a border runs through all right ascensions.
    ("polygon(0, 80, 120, 80, 240, 80)", "circle(77, 89, 0.1)", true),
    ("polygon(0, 80, 120, 80, 240, 80)", "circle(60, 84.9, 0.01)", false),
    ("polygon(0, 80, 120, 80, 240, 80)", "circle(60, 84.9, 0.2)", true),
    ("box(12, -88, 3, 3)", "circle(192, -89.9, 0.65)", true),
    ("box(12, -88, 3, 3)", "circle(192, -89.9, 0.55)", false),
    ("ellipse(0, 0, 5, 0.1, 90)", "circle(4, 0.5, 0.5)", true),
    ("ellipse(0, 0, 5, 0.1, 90)", "circle(4, 0.5, 0.4)", false),
    ("ellipse(0, 0, 5, 0.1, 90)", "box(2, 0, 1, 10)", true),
    ("ellipse(0, 0, 5, 0.1, 90)", "ellipse(3, 5.2, 5, 0.1, 0)", false),
    ("point(1, 1)", "point(1, 1)", true),
    ("point(1, 1)", "point(361, 1)", true),
    ("point(1, 1)", "point(1, 1.0001)", false),
    ("point(1, 1)", "circle(0, 0, 1.5)", true),
    ("point(1, 1)", "box(0, 0, 1, 1)", false),
];

#[tokio::test]
async fn regions_meet() {
    let context = context();
    for (a, b, meet) in PAIRS {
        for (a, b) in [(a, b), (b, a)] {
            // Constants; one of the two from a column; both.
            for sql in [
                format!("SELECT INTERSECTS({a}, {b})"),
                format!("SELECT intersects(a, {b}) FROM (SELECT {a} AS a FROM (VALUES (1), (2)))"),
                format!("SELECT intersects({a}, b) FROM (SELECT {b} AS b FROM (VALUES (1), (2)))"),
                format!("SELECT intersects(a, b) FROM (SELECT {a} AS a, {b} AS b FROM (VALUES (1), (2)))"),
                format!("SELECT 1 FROM (VALUES (1)) WHERE intersects({a}, {b})"),
            ] {
                let rows = query(&context, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
                if sql.contains("WHERE") {
                    assert_eq!(rows.len(), usize::from(*meet), "{sql}");
                    continue;
                }
                assert!(!rows.is_empty());
                assert!(rows.iter().all(|row| row[0] == ScalarValue::Int32(Some(i32::from(*meet)))), "{sql}: {rows:?}");
            }
        }
    }
}

/// Regions and whether the first lies in the second.
const HELD: &[(&str, &str, bool)] = &[
    ("circle(359.9, 0, 0.5)", "circle(0.1, 0, 0.71)", true),
    ("circle(359.9, 0, 0.5)", "circle(0.1, 0, 0.69)", false),
    ("circle(0.1, 0, 0.71)", "circle(359.9, 0, 0.5)", false),
    ("circle(77, 89, 0.1)", "polygon(0, 80, 120, 80, 240, 80)", true),
    ("circle(77, 89, 6.5)", "polygon(0, 80, 120, 80, 240, 80)", false),
    ("polygon(355, -1, 5, -1, 5, 1, 355, 1)", "circle(0, 0, 5.2)", true),
    ("polygon(355, -1, 5, -1, 5, 1, 355, 1)", "circle(0, 0, 5.05)", false),
    ("polygon(359, -1, 1, -1, 1, 1, 359, 1)", "box(0, 0, 5, 5)", true),
    ("box(0, 0, 10, 2)", "box(0, 0, 2, 10)", false),
    ("ellipse(0, 0, 5, 0.1, 90)", "box(0, 0, 10.1, 0.3)", true),
    ("ellipse(0, 0, 5, 0.1, 90)", "box(0, 0, 9.9, 0.3)", false),
    ("circle(4, 0, 0.04)", "ellipse(0, 0, 5, 0.1, 90)", true),
    ("circle(4, 0, 0.09)", "ellipse(0, 0, 5, 0.1, 90)", false),
    ("circle(180, 0, 10)", "circle(0, 0, 171)", false),
    ("box(0, 0, 20, 20)", "circle(180, 0, 175)", false),
    ("box(0, 0, 20, 20)", "circle(90, 0, 101)", true),
];

#[tokio::test]
async fn regions_lie_in_regions() {
    let context = context();
    for (inner, outer, held) in HELD {
        for sql in [
            format!("SELECT CONTAINS({inner}, {outer})"),
            format!("SELECT contains(a, b) FROM (SELECT {inner} AS a, {outer} AS b FROM (VALUES (1), (2)))"),
        ] {
            let rows = query(&context, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert!(rows.iter().all(|row| row[0] == ScalarValue::Int32(Some(i32::from(*held)))), "{sql}: {rows:?}");
            assert!(!rows.is_empty());
        }
    }
    assert_eq!(value("contains(circle(0, 0, 1), point(0, 0))").await, ScalarValue::Int32(Some(0)));
    assert_eq!(value("COORDSYS(circle(0, 0, 1))").await, ScalarValue::from("ICRS"));
    assert_eq!(value("scisql_getVersion()").await, ScalarValue::from("skyflight 0.1.0"));
    assert_eq!(value("SIGN(-2.5)").await, ScalarValue::from(-1.0));
}

/// Circles about the rows of a table meet a constant region as far as distances say, in conditions too.
#[tokio::test]
async fn circles_of_rows_meet_a_region() {
    let context = context();
    let rows = sky_rows(21, &[(0.0, 89.0), (359.9, 10.0)]);
    register(&context, "sky", "director", &rows);
    for (ra, dec, radius) in [(0.0, 89.0, 0.75), (359.9, 10.0, 1.2), (180.0, -90.0, 20.0)] {
        let got = ids(&context, &format!("intersects(circle(ra, dec, 0.3), circle({ra}, {dec}, {radius})) = 1")).await;
        let near = |row: &&(i64, f64, f64)| haversine(row.1, row.2, ra, dec) <= radius + 0.3;
        let want: Vec<i64> = rows.iter().filter(near).map(|row| row.0).collect();
        assert!(want.len() > 20);
        assert_eq!(got, want);
    }
    // Rows without a position have no region.
    let got =
        query(&context, "SELECT intersects(circle(ra, dec, 1), circle(0, 0, 1)) FROM sky WHERE id < 0").await.unwrap();
    assert_eq!(got, vec![vec![ScalarValue::Int32(None)]; 4]);
    assert_eq!(value("intersects(NULL, circle(0, 0, 1))").await, ScalarValue::Int32(None));
    assert_eq!(value("intersects(circle(0, 0, 1), NULL)").await, ScalarValue::Int32(None));
}

#[tokio::test]
async fn areas() {
    let sphere = 360.0 * 360.0 / std::f64::consts::PI;
    // A cap has 2π(1 - cos r), an octant an eighth of the sphere, and a BOX by ADQL is a gnomonic rectangle with the
    // solid angle 4 asin(sin(w/2) sin(h/2)) of a pyramid.
    let cap = |r: f64| sphere * (0.5 * r.to_radians()).sin().powi(2);
    let pyramid = |w: f64, h: f64| {
        let sines = (0.5_f64 * w).to_radians().sin() * (0.5_f64 * h).to_radians().sin();
        4.0 * sines.asin().to_degrees().to_degrees()
    };
    for (geometry, want) in [
        ("circle(0, 0, 180)", sphere),
        ("circle(12, 90, 90)", sphere / 2.0),
        ("circle(12, -34, 1)", cap(1.0)),
        ("circle(12, -34, 0.0001)", std::f64::consts::PI * 1e-8),
        ("polygon(0, 0, 90, 0, 0, 90)", sphere / 8.0),
        ("polygon(0, 90, 90, 0, 0, 0)", sphere / 8.0),
        ("box(359, 80, 20, 10)", pyramid(20.0, 10.0)),
        ("ellipse(10, 20, 0.002, 0.001, 33)", std::f64::consts::PI * 2e-6),
    ] {
        let got = number(&format!("AREA({geometry})")).await.unwrap();
        assert!((got / want - 1.0).abs() < 1e-9, "{geometry}: {got} {want}");
    }
    close(number("area(point(1, 2))").await, 0.0, 0.0);
    assert_eq!(number("area(circle(NULL, 0, 1))").await, None);
    assert_eq!(number("area(NULL)").await, None);
    let context = context();
    register(&context, "sky", "director", &[(1, 5.0, 6.0)]);
    let rows = query(
        &context,
        "SELECT area(circle(ra, dec, id)), coord1(centroid(circle(ra, dec, 1))) FROM sky ORDER BY id DESC",
    );
    let rows = rows.await.unwrap();
    assert_eq!(rows.len(), 5);
    assert_number(&rows[0][0], Some(cap(1.0)), 1e-12, "area");
    assert_number(&rows[0][1], Some(5.0), 1e-15, "centroid");
    assert!(rows[1..].iter().flatten().all(ScalarValue::is_null), "{rows:?}");
}

#[tokio::test]
async fn centroids() {
    for (geometry, ra, dec) in [
        ("circle(5, 6, 7)", 5.0, 6.0),
        ("box(359.5, 60, 3, 2)", 359.5, 60.0),
        ("ellipse(359.5, -60, 3, 2, 11)", 359.5, -60.0),
        // mpmath 1.4.1, half the sum of the normals times the sides, to 60 digits.
        ("polygon(0, 0, 90, 0, 0, 90)", 45.0, 35.264_389_682_754_654),
        ("polygon(10, 20, 10, 20.001, 10.001, 20)", 10.000_333_334_039_182, 20.000_333_333_956_607),
        ("point(3, 4)", 3.0, 4.0),
    ] {
        close(number(&format!("distance(CENTROID({geometry}), point({ra}, {dec}))")).await, 0.0, 3e-11);
    }
    assert_eq!(number("coord1(centroid(NULL))").await, None);
}

/// Every function says what it does, under each of its names.
#[test]
fn functions_are_documented() {
    let functions = scalar_functions();
    assert!(functions.len() > 60, "{}", functions.len());
    for function in functions {
        // What CONTAINS is planned as is nobody's to call.
        if function.name().starts_with("adql_in_") {
            continue;
        }
        let documentation = function.documentation().unwrap_or_else(|| panic!("{}", function.name()));
        assert!(documentation.description.len() > 20, "{}", function.name());
        let syntax = documentation.syntax_example.to_lowercase();
        let known_as = |name: &str| syntax.contains(&format!("{name}("));
        let plain = |name: &str| known_as(&format!("scisql_{name}")) || name == "hpx_nest";
        assert!(known_as(function.name()) || plain(function.name()), "{}: {syntax}", function.name());
        assert_eq!(function.name(), function.name().to_lowercase());
    }
    for function in aggregate_functions() {
        assert!(function.documentation().is_some(), "{}", function.name());
    }
}
