//! Angles, points and HEALPix indices.

use super::*;

#[tokio::test]
async fn separation_of_arcturus_and_spica() {
    // Meeus, Astronomical Algorithms, example 17.a: 32.7930 degrees.
    for spelling in [
        "separation(213.9154, 19.1825, 201.2983, -11.1614)",
        "SCISQL_ANGSEP(213.9154, 19.1825, 201.2983, -11.1614)",
        "DISTANCE(213.9154, 19.1825, 201.2983, -11.1614)",
        "DISTANCE(POINT('ICRS', 213.9154, 19.1825), POINT(201.2983, -11.1614))",
    ] {
        close(number(spelling).await, 32.7930, 5e-5);
    }
}

#[tokio::test]
async fn separation_at_its_ends() {
    close(number("separation(10, 20, 10, 20)").await, 0.0, 0.0);
    close(number("separation(10, 20, 190, -20)").await, 180.0, 1e-13);
    close(number("separation(359.9999, 0, 0.0001, 0)").await, 0.0002, 1e-12);
    close(number("separation(0, 90, 213, 89)").await, 1.0, 1e-12);
    // A tenth of a microarcsecond, which the cosine rule gives as 0.
    close(number("separation(0, 0, 0, 2.777777777777778e-11)").await, 2.777777777777778e-11, 1e-17);
}

#[tokio::test]
async fn separation_agrees_with_haversine() {
    let context = context();
    let rows = sky_rows(1, &[(0.0, 89.0)]);
    register(&context, "sky", "director", &rows);
    let got = query(
        &context,
        "SELECT id, separation(ra, dec, 37.5, -12.25), scisql_angsep(37.5, -12.25, ra, dec) FROM sky WHERE id >= 0",
    )
    .await
    .unwrap();
    assert_eq!(got.len(), rows.len());
    for row in got {
        let [ScalarValue::Int64(Some(id)), ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))] =
            row.as_slice()
        else {
            panic!("{row:?}")
        };
        let (_, ra, dec) = rows[*id as usize];
        assert!((a - haversine(ra, dec, 37.5, -12.25)).abs() < 1e-6, "{ra} {dec} {a}");
        assert_eq!(a, b);
    }
}

#[tokio::test]
async fn angle_of_vectors() {
    // The examples of scisql's documentation.
    close(number("scisql_angSep(0, 0, 0, 90)").await, 90.0, 1e-13);
    close(number("scisql_angSep(1, 0, 0, 0, 0, 1)").await, 90.0, 1e-13);
    close(number("scisql_angSep(1e200, 0, 0, 1e-200, 1e-200, 0)").await, 45.0, 1e-12);
    close(number("scisql_angSep(1, 0, 0, -2, 0, 0)").await, 180.0, 1e-13);
    assert_eq!(number("scisql_angSep(0, 0, 0, 0, 0, 1)").await, None);
}

#[tokio::test]
async fn position_angle_is_east_of_north() {
    close(number("position_angle(10, 0, 10, 1)").await, 0.0, 1e-12);
    close(number("position_angle(359.5, 0, 0.5, 0)").await, 90.0, 1e-12);
    close(number("position_angle(10, 5, 10, -5)").await, 180.0, 1e-12);
    close(number("position_angle(0.5, 0, 359.5, 0)").await, 270.0, 1e-12);
    // tan θ = sin Δα / (cos δ1 tan δ2 − sin δ1 cos Δα)
    let (d1, d2, da) = (30f64.to_radians(), 41f64.to_radians(), 17f64.to_radians());
    let want = da.sin().atan2(d1.cos() * d2.tan() - d1.sin() * da.cos()).to_degrees();
    close(number("position_angle(100, 30, 117, 41)").await, want, 1e-12);
}

#[tokio::test]
async fn healpix_base_cells() {
    // Gorski et al. 2005: base cells 0-3 at z = 2/3, 4-7 on the equator from longitude 0, 8-11 at z = -2/3.
    close(number("healpix_dec(0, 0)").await, (2.0f64 / 3.0).asin().to_degrees(), 1e-12);
    close(number("healpix_ra(0, 0)").await, 45.0, 1e-12);
    close(number("healpix_ra(0, 5)").await, 90.0, 1e-12);
    close(number("healpix_dec(0, 5)").await, 0.0, 1e-12);
    close(number("healpix_ra(0, 11)").await, 315.0, 1e-12);
    close(number("healpix_index(0, 0, 0)").await, 4.0, 0.0);
    close(number("healpix_index(0, 315, -41.8)").await, 11.0, 0.0);
    close(number("hpx_nest(1, 45, 90)").await, 3.0, 0.0);
    assert_eq!(number("healpix_ra(0, 12)").await, None);
    assert_eq!(number("healpix_ra(0, -1)").await, None);
    assert!(error("SELECT healpix_index(30, 0, 0)").await.contains("0 to 29"));
}

#[tokio::test]
async fn healpix_cells_hold_their_centers() {
    let context = context();
    let rows = query(
        &context,
        "SELECT count(*), sum(CASE WHEN healpix_index(6, healpix_ra(6, value), healpix_dec(6, value)) = value THEN 1 ELSE 0 END) \
         FROM range(0, 49152)",
    )
    .await
    .unwrap();
    assert_eq!(rows[0][0], ScalarValue::Int64(Some(49152)));
    assert_eq!(rows[0][1], ScalarValue::Int64(Some(49152)));
}

#[tokio::test]
async fn null_in_gives_null_out() {
    for expression in [
        "separation(NULL, 0, 0, 0)",
        "scisql_angsep(0, 0, CAST(NULL AS DOUBLE), 0)",
        "position_angle(0, NULL, 0, 0)",
        "distance(POINT(0, NULL), POINT(1, 1))",
        "distance(NULL, POINT(1, 1))",
        "contains(POINT(NULL, 1), CIRCLE(0, 0, 1))",
        "contains(POINT(1, 1), CIRCLE(0, 0, NULL))",
        "contains(NULL, CIRCLE(0, 0, 1))",
        "coord1(POINT(NULL, 1))",
        "coord2(NULL)",
        "healpix_index(NULL, 1, 1)",
        "healpix_index(3, 1, NULL)",
        "healpix_ra(3, NULL)",
    ] {
        assert_eq!(number(expression).await, None, "{expression}");
    }
    // scisql's functions say 0.
    assert_eq!(number("scisql_s2PtInCircle(NULL, 0, 0, 0, 1)").await, Some(0.0));
    assert_eq!(number("s2PtInBox(0, 0, 0, 0, NULL, 1)").await, Some(0.0));
}

#[tokio::test]
async fn all_kinds_of_numbers_are_taken() {
    close(number("separation(CAST(1 AS SMALLINT), CAST(0 AS REAL), CAST(2 AS DECIMAL(10, 3)), 0.0)").await, 1.0, 1e-13);
    assert!(error("SELECT separation('a', 0, 0, 0)").await.contains("takes numbers"));
    assert!(error("SELECT separation(1, 2, 3)").await.contains("use separation(ra1, dec1, ra2, dec2)"));
}

#[tokio::test]
async fn points_are_values() {
    close(number("coord1(POINT('ICRS', 12.5, -3))").await, 12.5, 0.0);
    close(number("coord2(POINT(12.5, -3))").await, -3.0, 0.0);
    let context = context();
    register(&context, "sky", "director", &[(1, 10.0, 20.0), (2, 30.0, -40.0)]);
    let rows = query(
        &context,
        "SELECT coord1(p), coord2(p), contains(p, c), intersects(c, p), distance(p, POINT(10, 20)) \
         FROM (SELECT id, point(ra, dec) AS p, circle(ra, 20, 1) AS c FROM sky) ORDER BY id",
    )
    .await
    .unwrap();
    // -4 … -1 are no positions.
    assert_eq!(rows.len(), 6);
    assert!(rows[..4].iter().flatten().all(ScalarValue::is_null), "{rows:?}");
    let one = ScalarValue::Int32(Some(1));
    assert_eq!(
        rows[4],
        [
            ScalarValue::Float64(Some(10.0)),
            ScalarValue::Float64(Some(20.0)),
            one.clone(),
            one,
            ScalarValue::Float64(Some(0.0))
        ]
    );
    assert_eq!(
        rows[5][..4],
        [
            ScalarValue::Float64(Some(30.0)),
            ScalarValue::Float64(Some(-40.0)),
            ScalarValue::Int32(Some(0)),
            ScalarValue::Int32(Some(0))
        ]
    );
}

#[tokio::test]
async fn strings_are_still_searched() {
    assert_eq!(value("contains('skyflight', 'fly')").await, ScalarValue::Boolean(Some(false)));
    assert_eq!(value("contains('skyflight', 'kyf')").await, ScalarValue::Boolean(Some(true)));
    let context = context();
    let rows = query(&context, "SELECT 1 WHERE contains('skyflight', 'light')").await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn bad_constants_are_named() {
    for (sql, says) in [
        ("SELECT separation(0, 91, 0, 0)", "declination 91"),
        ("SELECT point(0, -90.5)", "declination -90.5"),
        ("SELECT circle(0, 0, -1)", "radius -1"),
        ("SELECT scisql_s2PtInCircle(0, 0, 0, 0, 181)", "radius 181"),
        ("SELECT scisql_s2PtInBox(0, 0, 370, 0, 10, 1)", "out of order"),
        ("SELECT scisql_s2PtInCPoly(0, 0, 1, 2, 3, 4, 5)", "ra3, dec3"),
        ("SELECT polygon(0, 0, 10, 10, 10, 0, 0, 10)", "not a convex polygon"),
        ("SELECT polygon(0, 0, 10, 10, 20, 20, 30)", "use polygon"),
        ("SELECT scisql_s2PtInEllipse(0, 0, 0, 0, 1, 2, 0)", "semi-minor <= semi-major"),
        ("SELECT box(0, 0, 180, 1)", "below 180"),
        ("SELECT circle('GALACTIC', 0, 0, 1)", "not GALACTIC"),
        ("SELECT coordsys(1)", "takes one geometry"),
        ("SELECT intersects(circle(0, 0, 1))", "takes two geometries"),
        ("SELECT area(1)", "takes one geometry"),
        ("SELECT scisql_s2HtmId(0, 0, 25)", "from 0 to 24"),
        ("SELECT scisql_s2HtmId(ra, dec, -1) FROM sky", "from 0 to 24"),
        ("SELECT htm_ranges(circle(0, 0, 1), 30)", "from 0 to 24"),
        ("SELECT scisql_s2CircleHtmRanges(0, 0, -1, 5, 5)", "radius -1"),
        ("SELECT scisql_s2CPolyHtmRanges('text', 5, 5)", "takes bytes"),
        ("SELECT scisql_s2CPolyToBin(0, 0, 1, 1)", "3 to 20 vertices"),
        ("SELECT scisql_s2CPolyToBin(0, 0, 10, 10, 10, 0, 0, 10)", "not a convex polygon"),
        ("SELECT scisql_s2PtInCPoly(0, 0, X'0102')", "make the bytes with scisql_s2CPolyToBin"),
        ("SELECT scisql_percentile(ra, 101) FROM sky", "from 0 to 100"),
        ("SELECT healpix_neighbours(30, 0)", "0 to 29"),
        ("SELECT galactic_l(0, 91)", "declination 91"),
        ("SELECT icrs_ra(0, -91)", "galactic latitude -91"),
        ("SELECT galactic_l(1)", "use galactic_l(ra, dec)"),
        ("SELECT epoch_prop(0, 0, 1, 1, 1, 1, 2016, 2457389.0)", "give Julian years"),
        ("SELECT epoch_prop_ra(ra, 95, 1, 1, 1, 1, 2016, 2017) FROM sky", "declination 95"),
        ("SELECT contains(1, 2)", "not a geometry"),
        ("SELECT distance(point(1, 2), circle(0, 0, 1))", "distance takes two points"),
        ("SELECT id FROM sky WHERE contains(point(ra, dec), circle(0, 0, -1)) = 1", "radius -1"),
        ("SELECT id FROM sky WHERE separation(ra, dec, 0, 91) < 1", "declination 91"),
    ] {
        let context = context();
        register(&context, "sky", "director", &[(1, 0.0, 0.0)]);
        let message = match query(&context, sql).await {
            Ok(rows) => panic!("{sql} gave {rows:?}"),
            Err(e) => e.to_string(),
        };
        assert!(message.contains(says), "{sql}: {message}");
    }
}
