//! Frames and epochs, against erfa and astropy.

use super::*;

/// pyerfa 2.0.1.5, `erfa.icrs2g` and `erfa.g2icrs` (SOFA's rotation of ESA 1997).
#[tokio::test]
async fn galactic_coordinates_are_those_of_erfa() {
    for (ra, dec, l, b) in [
        (0.0, 0.0, 96.337_272_343_417_65, -60.188_553_267_593_726),
        (266.404_988_286_544_7, -28.936_177_761_791_473, 359.999_993_784_635_36, 2.885_443_349_942_127_6e-6),
        (123.4, 90.0, 122.931_919_999_999_99, 27.128_25),
        (12.3, -90.0, 302.931_92, -27.128_250_000_000_005),
        (359.9999, -0.0001, 96.337_007_707_872_27, -60.188_605_144_790_64),
        (-0.0001, -0.0001, 96.337_007_707_872_27, -60.188_605_144_790_64),
        (83.633_083, 22.0145, 184.557_451_622_065_9, -5.784_359_760_386_859),
    ] {
        let position = [Some(ra), Some(dec)];
        check_numbers("galactic_l($1, $2)", &[(&position, Some(l)), (&[None, Some(dec)], None)], 1e-12).await;
        check_numbers("GALACTIC_B($1, $2)", &[(&position, Some(b)), (&[Some(ra), None], None)], 1e-9).await;
        check_numbers("icrs_to_galactic($1, $2)['l']", &[(&position, Some(l)), (&[None, None], None)], 1e-12).await;
        check_numbers("icrs_to_galactic($1, $2)['b']", &[(&position, Some(b))], 1e-9).await;
    }
    for (l, b, ra, dec) in [
        (0.0, 0.0, 266.404_994_801_046_1, -28.936_173_960_138_692),
        (90.0, 0.0, 318.004_386_815_028_1, 48.329_642_421_596_69),
        (33.3, 90.0, 192.859_48, 27.128_25),
        (180.0, -90.0, 12.859_480_000_000_003, -27.128_25),
        (359.9999, 1e-5, 266.404_925_512_645_15, -28.936_254_103_692_875),
        (184.5574, -5.7843, 83.633_107_790_486_02, 22.014_575_371_454_33),
    ] {
        let position = [Some(l), Some(b)];
        check_numbers("icrs_ra($1, $2)", &[(&position, Some(ra)), (&[None, Some(b)], None)], 1e-12).await;
        check_numbers("icrs_dec($1, $2)", &[(&position, Some(dec))], 1e-12).await;
        check_numbers("galactic_to_icrs($1, $2)['ra']", &[(&position, Some(ra))], 1e-12).await;
        check_numbers("galactic_to_icrs($1, $2)['dec']", &[(&position, Some(dec))], 1e-12).await;
    }
}

#[tokio::test]
async fn no_position_gives_null() {
    let bad = "FROM (VALUES (CAST('NaN' AS DOUBLE)), (CAST('inf' AS DOUBLE)), (CAST('-inf' AS DOUBLE))) AS t(x)";
    for function in ["galactic_l", "galactic_b", "icrs_ra", "icrs_dec", "icrs_to_galactic", "galactic_to_icrs"] {
        let rows = query(&context(), &format!("SELECT {function}(x, 0), {function}(0, x) {bad}")).await.unwrap();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().flatten().all(ScalarValue::is_null), "{function}: {rows:?}");
    }
    let context = context();
    register(&context, "sky", "director", &[(1, 10.0, 20.0)]);
    let sql = "SELECT galactic_l(ra, dec), icrs_to_galactic(ra, dec) FROM sky WHERE id < 0";
    let rows = query(&context, sql).await.unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().flatten().all(ScalarValue::is_null), "{rows:?}");
}

const EPOCH: &str = "$1, $2, $3, $4, $5, $6, $7, $8";

/// astropy 8.0.2: `SkyCoord.cartesian + SkyCoord.velocity * dt`, a straight line in space. Barnard's star (Gaia DR3),
/// Polaris (Hipparcos), a star near the south pole, and one that crosses right ascension 0.
#[tokio::test]
async fn epochs_are_those_of_astropy() {
    #[rustfmt::skip]
    let stars = [
        ([269.44850252, 4.73942005, 546.9759, -801.551, 10362.394, -110.47, 2016.0, 2000.0],
         [269.4520734227865, 4.693410458297969, 546.4354352323159, -799.9147661593373, 10341.930133751743, -110.54251288801596]),
        ([37.95456067, 89.26410897, 7.54, 44.48, -11.85, -16.42, 2000.0, 2100.0],
         [38.05072061866371, 89.26377876241644, 7.540095469846429, 44.461176964788244, -11.92493022182305, -16.419354134301486]),
        ([317.19515, -88.9565, 12.0, 26.0, 5.1, 11.9, 1991.25, 2016.0],
         [317.2049648592025, -88.95646492231926, 11.99995662523688, 25.998938174693254, 5.104416127663888, 11.900033276007457]),
        ([0.0001, -10.0, 200.0, -900.0, 300.0, 55.0, 2016.0, 2030.0],
         [359.99654657927664, -9.998833498210422, 199.96850501121654, -899.713337730997, 299.91521136467753, 55.00144755231829]),
    ];
    let names = ["ra", "dec", "parallax", "pmra", "pmdec", "radial_velocity"];
    for (star, expected) in stars {
        let star = star.map(Some);
        for (name, expected) in names.into_iter().zip(expected) {
            let rows: &[(&[Option<f64>], Option<f64>)] = &[(&star, Some(expected))];
            // Positions to a microarcsecond, the rest to what astropy's parsecs keep.
            let share = if name == "ra" || name == "dec" { 1e-12 } else { 1e-8 };
            check_numbers(&format!("epoch_prop_{name}({EPOCH})"), rows, share).await;
            check_numbers(&format!("epoch_prop({EPOCH})['{name}']"), rows, share).await;
        }
        let point = |axis: u8| format!("coord{axis}(EPOCH_PROP_POS({EPOCH}))");
        check_numbers(&point(1), &[(&star, Some(expected[0]))], 1e-12).await;
        check_numbers(&point(2), &[(&star, Some(expected[1]))], 1e-12).await;
    }
}

#[tokio::test]
async fn what_a_star_may_lack() {
    let star = [10.0, 20.0, 100.0, 1000.0, -500.0, 30.0, 2000.0, 2100.0].map(Some);
    let without = |missing: &[usize]| {
        let mut row = star;
        missing.iter().for_each(|i| row[*i] = None);
        row
    };
    // Without a parallax the star moves along a great circle: 1118.03 mas/yr for 100 years, a little less than that
    // for the tangent.
    let along = format!("separation(10, 20, epoch_prop_ra({EPOCH}), epoch_prop_dec({EPOCH})) * 3600");
    let arc = (1.118_033_988_749_895_f64 * 100.0 / 3600.0).to_radians().atan().to_degrees() * 3600.0;
    for missing in [&[2_usize][..], &[5], &[2, 5]] {
        check_numbers(&along, &[(&without(missing), Some(arc))], 1e-9).await;
    }
    check_numbers(
        &format!("epoch_prop_parallax({EPOCH})"),
        &[(&without(&[2]), None), (&without(&[5]), Some(99.999_985_311)), (&without(&[0]), None)],
        1e-9,
    )
    .await;
    check_numbers(&format!("epoch_prop({EPOCH})['radial_velocity']"), &[(&without(&[5]), None)], 0.0).await;
    check_numbers(&format!("epoch_prop({EPOCH})['radial_velocity']"), &[(&without(&[2]), Some(30.0))], 0.0).await;
    for missing in [0, 1, 3, 4, 6, 7] {
        check_numbers(&format!("epoch_prop_ra({EPOCH})"), &[(&without(&[missing]), None)], 0.0).await;
        check_numbers(&format!("epoch_prop({EPOCH})['pmdec']"), &[(&without(&[missing]), None)], 0.0).await;
    }
    let mut unknown = star;
    unknown[3] = Some(f64::NAN);
    check_numbers(&format!("epoch_prop_dec({EPOCH})"), &[(&unknown, None)], 0.0).await;
}

#[tokio::test]
async fn a_moved_position_is_a_geometry() {
    let moved = "epoch_prop_pos(0.0001, -10, 200, -900, 300, 55, 2016, 2030)";
    close(number(&format!("contains({moved}, circle(359.99654657927664, -9.998833498210422, 1e-9))")).await, 1.0, 0.0);
    close(number(&format!("distance({moved}, point(359.99654657927664, -9.998833498210422))")).await, 0.0, 1e-11);
    let context = context();
    register(&context, "sky", "director", &[(1, 0.0001, -10.0), (2, 50.0, -10.0)]);
    let moved = "epoch_prop_pos(ra, dec, 200, -900, 300, 55, 2016, 2030)";
    let near = format!("intersects({moved}, circle(359.99654657927664, -9.998833498210422, 1e-9)) = 1");
    assert_eq!(ids(&context, &near).await, [1]);
}
