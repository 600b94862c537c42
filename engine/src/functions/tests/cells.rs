//! HEALPix cells and trixels, and scisql's bytes, against hpgeom and sphgeom.

use datafusion::arrow::array::{Array, AsArray, StructArray};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};

use super::*;

/// The items of a list, or `None` for NULL.
fn items(value: &ScalarValue) -> Option<Arc<dyn Array>> {
    match value {
        ScalarValue::List(list) if list.is_valid(0) => Some(list.value(0)),
        ScalarValue::List(_) | ScalarValue::Null => None,
        other => panic!("{other:?}"),
    }
}

fn numbers(columns: &StructArray, name: &str) -> Vec<f64> {
    columns.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

/// hpgeom 1.6.1, `neighbors` and `boundaries(step=1)`, nested; there corners go north, west, south, east.
#[tokio::test]
async fn cells_are_those_of_hpgeom() {
    type Corners = [(f64, f64); 4];
    #[rustfmt::skip]
    let cells: [(u8, u64, Corners, &[i64]); 5] = [
        (0, 4, [(0.0, 41.81031489577859), (315.0, 0.0), (0.0, -41.81031489577861), (45.0, 0.0)], &[0, 3, 5, 7, 8, 11]),
        (1, 3, [(0.0, 90.0), (0.0, 66.44353569089876), (45.0, 41.81031489577859), (90.0, 66.44353569089876)],
         &[0, 1, 2, 6, 7, 11, 13, 15]),
        (3, 200, [(303.75, 19.471220634490685), (298.125, 14.477512185929921), (303.75, 9.59406822686046), (309.375, 14.477512185929921)],
         &[194, 195, 201, 202, 203, 471, 477, 479]),
        (10, 123456, [(53.0859375, 23.074461410578742), (53.0419921875, 23.03392176646406), (53.0859375, 22.993394314297802), (53.1298828125, 23.03392176646406)],
         &[123071, 123114, 123115, 123413, 123415, 123457, 123458, 123459]),
        (29, 3458764513820540927, [(315.0, 0.0), (314.99999991618097, -7.114781233577865e-08), (315.0, -1.4229561194933855e-07), (315.00000008381903, -7.114781233577865e-08)],
         &[864691128455135232, 1345075088707988136, 1345075088707988138, 2113689425112552788, 2113689425112552789, 3458764513820540924, 3458764513820540925, 3458764513820540926]),
    ];
    let context = context();
    for (order, index, [north, west, south, east], neighbours) in cells {
        // As constants, and as columns.
        for from in ["", "FROM (VALUES (1)) AS t(one)"] {
            let one = if from.is_empty() { "1" } else { "one" };
            let cell = format!("{order} * {one}, {index} * {one}");
            let sql = format!(
                "SELECT healpix_neighbours({cell}), HEALPIX_NEIGHBORS({cell}), healpix_corners({cell}), healpix_bounds({cell}) {from}"
            );
            let row = query(&context, &sql).await.unwrap().remove(0);
            for around in &row[..2] {
                assert_eq!(items(around).unwrap().as_primitive::<Int64Type>().values(), neighbours, "{order} {index}");
            }
            let corners = items(&row[2]).unwrap();
            let (ra, dec) = (numbers(corners.as_struct(), "ra"), numbers(corners.as_struct(), "dec"));
            for (i, corner) in [south, east, north, west].into_iter().enumerate() {
                assert!(haversine(ra[i], dec[i], corner.0, corner.1) < 1e-12, "{ra:?} {dec:?}");
            }
            let ScalarValue::Struct(bounds) = &row[3] else { panic!("{:?}", row[3]) };
            let limits = ["ra_min", "dec_min", "ra_max", "dec_max"].map(|name| numbers(bounds, name)[0]);
            // At the pole a corner has any right ascension.
            let (west, east) = if north.1 == 90.0 { (0.0, 90.0) } else { (west.0, east.0) };
            let expected = [(west - 1e-9).rem_euclid(360.0), south.1 - 1e-9, east + 1e-9, (north.1 + 1e-9).min(90.0)];
            assert!(limits.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-12), "{limits:?} {expected:?}");
        }
    }
    for cell in ["0, 12", "0, -1", "NULL, 0", "3, NULL", "30 + value, 0", "0, 12 + value"] {
        let calls =
            ["healpix_neighbours", "healpix_corners", "healpix_bounds"].map(|f| format!("{f}({cell})")).join(", ");
        let rows = query(&context, &format!("SELECT {calls} FROM range(0, 2)")).await.unwrap();
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().flatten().all(ScalarValue::is_null), "{cell}: {rows:?}");
    }
}

/// sphgeom 30.2026.4000, `HtmPixelization(level).index`.
#[tokio::test]
async fn trixels_are_those_of_sphgeom() {
    for (ra, dec, level, id) in [
        (0.0, 0.0, 24, 4_362_862_139_015_168_i64),
        (180.0, 0.0, 3, 896),
        (270.0, -1e-9, 5, 10_752),
        (123.0, 90.0, 24, 4_011_018_418_126_848),
        (200.0, -90.0, 2, 164),
        (266.405_089_2, -28.936_174_7, 20, 11_710_822_190_729),
        (83.633_083, 22.0145, 20, 16_734_347_831_856),
    ] {
        let sql = format!("SCISQL_S2HTMID({ra}, {dec}, {level})");
        assert_eq!(value(&sql).await, ScalarValue::Int64(Some(id)));
        assert_eq!(value(&format!("s2HtmId({} , {dec}, {level})", ra - 360.0)).await, ScalarValue::Int64(Some(id)));
        assert_eq!(value(&format!("scisql_s2HtmLevel({sql})")).await, ScalarValue::Int32(Some(level)));
    }
    let context = context();
    register(&context, "sky", "director", &[(1, 180.0, 0.0), (2, 200.0, -90.0)]);
    let sql = "SELECT scisql_s2HtmId(ra, dec, 3), s2HtmLevel(scisql_s2HtmId(ra, dec, 3)), scisql_s2HtmId(ra, dec, 24 + id) \
               FROM sky ORDER BY id";
    let rows = query(&context, sql).await.unwrap();
    assert_eq!(rows.len(), 6);
    assert!(rows[..4].iter().all(|row| row[0].is_null() && row[1].is_null()), "{rows:?}");
    assert_eq!(rows[4][..2], [ScalarValue::Int64(Some(896)), ScalarValue::Int32(Some(3))]);
    assert!(rows.iter().all(|row| row[2].is_null()), "{rows:?}");
    // scisql's documentation: no id below 8, none of an odd number of bits.
    for (id, level) in [("32", Some(1)), ("8", Some(0)), ("7", None), ("16", None), ("-8", None), ("NULL", None)] {
        assert_eq!(value(&format!("scisql_s2HtmLevel({id})")).await, ScalarValue::Int32(level), "{id}");
    }
}

/// Every position of the region has an id in the ranges, however few they are; as lists and as bytes they are the same.
#[tokio::test]
async fn ranges_hold_every_trixel_of_a_region() {
    let context = context();
    register(&context, "sky", "director", &sky_rows(3, &[(0.02, 0.3)]));
    for (region, bytes) in [
        ("circle(0.02, 0.3, 1.5)", "scisql_s2CircleHtmRanges(0.02, 0.3, 1.5, 12, $n)"),
        (
            "polygon(359, -1, 1, -1, 1, 2, 359, 2)",
            "scisql_s2CPolyHtmRanges(scisql_s2CPolyToBin(359, -1, 1, -1, 1, 2, 359, 2), 12, $n)",
        ),
    ] {
        for most in [4, 64, 1000, -1] {
            let ranges = format!(
                "SELECT r['htm_min'] AS lo, r['htm_max'] AS hi FROM (SELECT unnest(htm_ranges({region}, 12, {most})) AS r)"
            );
            let inside = ids(&context, &format!("contains(point(ra, dec), {region}) = 1")).await;
            assert!(inside.len() > 500, "{}", inside.len());
            let covered =
                "id >= 0 AND EXISTS (SELECT 1 FROM ranges WHERE scisql_s2HtmId(ra, dec, 12) BETWEEN lo AND hi)";
            let sql = format!(
                "WITH ranges AS ({ranges}) SELECT count(*), sum(contains(point(ra, dec), {region})) FROM sky WHERE {covered}"
            );
            let rows = query(&context, &sql).await.unwrap();
            let (ScalarValue::Int64(Some(all)), ScalarValue::Int64(Some(hits))) = (&rows[0][0], &rows[0][1]) else {
                panic!("{rows:?}")
            };
            assert_eq!(*hits, inside.len() as i64, "{region} in {most} ranges");
            assert!(most == 4 || *all < 2 * hits, "{all} {hits}");
            // The same as bytes, read by scisql's own function.
            let bytes = bytes.replace("$n", &most.to_string());
            let sql = format!(
                "WITH ranges AS ({ranges}), b AS (SELECT {bytes} AS b), \
                 n AS (SELECT CAST(row_number() OVER (ORDER BY lo) - 1 AS BIGINT) AS i, lo, hi FROM ranges) \
                 SELECT count(*), sum(CASE WHEN scisql_extractInt64(b, 2 * i + 2) IS NULL THEN 1 ELSE 0 END), sum(CASE WHEN scisql_extractInt64(b, 2 * i) = lo \
                 AND scisql_extractInt64(b, 2 * i + 1) = hi THEN 1 ELSE 0 END) FROM n, b"
            );
            let rows = query(&context, &sql).await.unwrap();
            let ScalarValue::Int64(Some(count)) = rows[0][0] else { panic!("{rows:?}") };
            assert!(most < 0 || count <= most, "{count}");
            // Only after the last there is nothing.
            assert_eq!(rows[0][1], ScalarValue::Int64(Some(1)));
            assert_eq!(rows[0][2], ScalarValue::Int64(Some(count)));
        }
    }
    let points = "htm_ranges(point(180, 0), 3)";
    let sql = format!(
        "SELECT count(*), sum(CASE WHEN 896 BETWEEN r['htm_min'] AND r['htm_max'] THEN 1 ELSE 0 END) FROM (SELECT unnest({points}) AS r)"
    );
    assert_eq!(query(&context, &sql).await.unwrap()[0][1], ScalarValue::Int64(Some(1)));
}

#[tokio::test]
async fn ranges_are_null_where_there_is_no_region() {
    let context = context();
    register(&context, "sky", "director", &[]);
    for call in [
        "htm_ranges(circle(ra, dec, 1), 5)",
        "htm_ranges(circle(ra, 0, 1), CAST(25 + 0 * id AS BIGINT))",
        "htm_ranges(NULL, 5)",
        "htm_ranges(circle(0, 0, 1), NULL)",
        "scisql_s2CircleHtmRanges(ra, dec, 1, 5, 5)",
        "scisql_s2CircleHtmRanges(0, 0, NULL, 5, 5)",
        "scisql_s2CPolyHtmRanges(NULL, 5, 5)",
        "scisql_s2CPolyHtmRanges(X'00', 5, 5)",
        "scisql_s2CPolyToBin(ra, dec, 1, 1, 0, 1)",
        "scisql_s2CPolyToBin(0, 0, 10 + 0 * id, 10, 10, 0, 0, 10)",
        "scisql_s2CPolyToBin(0, 0, NULL, 1, 0, 1)",
        "scisql_extractInt64(X'0102', 0)",
        "scisql_extractInt64(X'0102030405060708', 1)",
        "scisql_extractInt64(X'0102030405060708', -1)",
        "scisql_extractInt64(NULL, 0)",
        "scisql_extractInt64(X'0102030405060708', NULL)",
    ] {
        let sql = format!("SELECT {call} FROM sky");
        let rows = query(&context, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(rows.len(), 4, "{call}");
        assert!(rows.iter().flatten().all(ScalarValue::is_null), "{call}: {rows:?}");
    }
    assert_eq!(
        value("scisql_extractInt64(X'00FE0102030405060708', 0)").await,
        ScalarValue::Int64(Some(0x0605_0403_0201_fe00))
    );
}

/// What is asked for in one batch is bounded, and so are result and work.
#[tokio::test]
async fn too_many_ranges_are_refused() {
    let sql = "SELECT htm_ranges(circle(value, 0, 1), 20, -1) FROM range(0, 50)";
    assert!(error(sql).await.contains("give a smaller max_ranges"));
    let ranges = "htm_ranges(circle(value, 0, 1), 20, 256)";
    let sql = format!("SELECT min(cardinality({ranges})), max(cardinality({ranges})) FROM range(0, 50)");
    let rows = query(&context(), &sql).await.unwrap();
    let counts: Vec<ScalarValue> = rows[0].iter().map(|n| n.cast_to(&DataType::Int64).unwrap()).collect();
    let [ScalarValue::Int64(Some(least)), ScalarValue::Int64(Some(most))] = counts[..] else { panic!("{rows:?}") };
    assert!(1 <= least && 100 < most && most <= 256, "{rows:?}");
}

/// scisql, `test/testS2CPoly.py`: octants, in both orders, as numbers and as bytes.
#[tokio::test]
async fn polygons_as_bytes_hold_what_polygons_hold() {
    let context = context();
    let rows = sky_rows(5, &[(45.0, 45.0)]);
    register(&context, "sky", "director", &rows);
    let (x, y, z) = ("0, 0", "90, 0", "0, 90");
    let (west, back, south) = ("180, 0", "270, 0", "0, -90");
    let octants =
        [(x, y, z), (y, west, z), (west, back, z), (back, "360, 0", z), ("360, 0", back, south), (y, x, south)];
    for (a, b, c) in octants.into_iter().flat_map(|(a, b, c)| [(a, b, c), (c, b, a)]) {
        let numbers = format!("{a}, {b}, {c}");
        let want = ids(&context, &format!("scisql_s2PtInCPoly(ra, dec, {numbers}) = 1")).await;
        assert!(want.len() > 150, "{numbers}: {}", want.len());
        for test in [
            format!("scisql_s2PtInCPoly(ra, dec, scisql_s2CPolyToBin({numbers})) = 1"),
            format!("s2PtInCPoly(ra, dec, s2CPolyToBin({numbers}))"),
            // The same polygon made anew for each row.
            format!("scisql_s2PtInCPoly(ra, dec, scisql_s2CPolyToBin({numbers} + 0 * id)) = 1"),
            format!("s2PtInCPoly(ra, dec, (SELECT s2CPolyToBin({numbers}))) <> 0"),
        ] {
            assert_eq!(ids(&context, &test).await, want, "{test}");
        }
    }
    // Polygons that differ from row to row; those of rows that lack a number are NULL, and hold nothing.
    let bytes = "scisql_s2CPolyToBin(ra, dec, ra + 1, dec, ra, dec + 1)";
    let sql = format!(
        "SELECT sum(s2PtInCPoly(ra + 0.2, dec + 0.2, {bytes})), sum(s2PtInCPoly(ra - 0.2, dec, {bytes})) FROM sky WHERE abs(dec) < 80 AND id >= 0"
    );
    let got = query(&context, &sql).await.unwrap();
    let inner = rows.iter().filter(|row| row.2.abs() < 80.0).count() as i64;
    assert_eq!(got[0], [ScalarValue::Int64(Some(inner)), ScalarValue::Int64(Some(0))]);
    let got =
        query(&context, &format!("SELECT s2PtInCPoly(ra, dec, {bytes}) FROM sky WHERE id IN (-1, -2)")).await.unwrap();
    assert_eq!(got, vec![vec![ScalarValue::Int32(Some(0))]; 2]);
    assert_eq!(value("s2PtInCPoly(0, 0, NULL)").await, ScalarValue::Int32(Some(0)));
    assert_eq!(value("s2PtInCPoly(0, 91, s2CPolyToBin(0, 0, 90, 0, 0, 90))").await, ScalarValue::Int32(None));
}

/// Chunks are pruned by bytes as by numbers.
#[tokio::test]
async fn polygons_as_bytes_are_read_from_conditions() {
    use crate::functions::region_predicate;
    use skyflight_sky::{Degrees, Position, Region};
    let context = context();
    register(&context, "sky", "director", &[(1, 0.0, 0.0)]);
    let sql =
        "SELECT id FROM sky WHERE scisql_s2PtInCPoly(ra, dec, scisql_s2CPolyToBin(359, -1, 1, -1, 1, 2, 359, 2)) = 1";
    let parsed = plan(&context, sql).await.unwrap();
    let optimized = context.state().optimize(&parsed).unwrap();
    for plan in [parsed, optimized] {
        let found: Vec<Region> = filters(&plan).iter().filter_map(region_predicate).map(|p| p.region).collect();
        assert!(!found.is_empty(), "{plan}");
        for region in found {
            assert!(region.contains(Position::new(Degrees(0.9), Degrees(1.9)).unwrap()), "{region:?}");
            assert!(!region.contains(Position::new(Degrees(1.1), Degrees(1.9)).unwrap()), "{region:?}");
        }
    }
}
