//! What is read from a predicate is true of every row the predicate is true of.

use skyflight_sky::{Degrees, Position, Region};

use super::*;
use crate::functions::{RegionPredicate, region_predicate};

/// The regions found in the condition as parsed, as analyzed and as optimized.
async fn stages(context: &SessionContext, condition: &str) -> [Vec<RegionPredicate>; 3] {
    let state = context.state();
    let parsed = plan(context, &format!("SELECT id FROM sky WHERE {condition}")).await.unwrap();
    let analyzed = state.analyzer().execute_and_check(parsed.clone(), state.config_options(), |_, _| {}).unwrap();
    let optimized = state.optimize(&parsed).unwrap();
    [parsed, analyzed, optimized].map(|plan| filters(&plan).iter().filter_map(region_predicate).collect())
}

/// Conditions that must be read at every stage, for a region about (ra, dec) of about `size` degrees.
fn spellings(ra: f64, dec: f64, size: f64) -> Vec<String> {
    let circle = format!("circle('ICRS', {ra}, {dec}, {size})");
    let contains = format!("contains(point('ICRS', ra, dec), {circle})");
    let separation = format!("separation(ra, dec, {ra}, {dec})");
    let distance = format!("distance(point({ra}, {dec}), point(ra, dec))");
    let (south, north) = ((dec - size).max(-90.0), (dec + size).min(90.0));
    let (west, east) = ((ra - size).rem_euclid(360.0), (ra + size).rem_euclid(360.0));
    let box_ = format!("s2PtInBox(ra, dec, {west}, {south}, {east}, {north})");
    let ellipse = format!("scisql_s2PtInEllipse(ra, dec, {ra}, {dec}, {0} * 3600, {0} * 1800, 30)", size.min(10.0));
    vec![
        format!("{contains} = 1"),
        format!("1 = {contains}"),
        contains.clone(),
        format!("{contains} <> 0"),
        format!("0 < {contains}"),
        format!("{contains} >= 1"),
        format!("{contains} = 1.0"),
        format!("{contains} IN (1)"),
        format!("{contains} BETWEEN 1 AND 1"),
        format!("NOT ({contains} = 0)"),
        format!("CAST({contains} AS BIGINT) = 1"),
        format!("CAST({contains} AS BOOLEAN)"),
        format!("({contains} = 1) IS TRUE"),
        format!("contains(point(CAST(ra AS DOUBLE), dec), circle(point({ra}, {dec}), {size} * 60 / 60.0)) = 1"),
        format!("intersects({circle}, point(ra, dec)) = 1"),
        format!("contains(point(ra, dec), box({ra}, {dec}, {size}, {size} / 2)) = 1"),
        format!("contains(point(ra, dec), ellipse({ra}, {dec}, {0}, {0} / 2, 30)) = 1", size.min(10.0)),
        format!("scisql_s2PtInCircle(ra, dec, {ra}, {dec}, {size}) = 1"),
        box_.clone(),
        format!("{box_} <> 0"),
        format!("{ellipse} = 1"),
        format!("{separation} < {size}"),
        format!("{separation} <= {size}"),
        format!("{size} > {separation}"),
        format!("{size} >= scisql_angSep({ra}, {dec}, ra, dec)"),
        format!("{separation} BETWEEN 0 AND {size}"),
        format!("NOT ({separation} > {size})"),
        format!("{separation} * 3600 < {size} * 3600"),
        format!("3600.0 * {separation} <= 3600 * {size}"),
        format!("{separation} / 60 < {size} / 60"),
        format!("{distance} < {size}"),
        format!("contains(circle(ra, dec, 0.01), {circle}) = 1"),
        format!("intersects(circle(ra, dec, 0.01), {circle}) = 1"),
        format!("intersects(box({ra}, {dec}, {size}, {size} / 2), circle(point(ra, dec), {size} / 100)) = 1"),
        format!("intersects(ellipse({ra}, {dec}, {0}, {0} / 2, 30), circle(ra, dec, 0.1)) = 1", size.min(10.0)),
    ]
}

#[tokio::test]
async fn a_true_predicate_lies_in_its_region() {
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let mut rows_checked = 0;
    for round in 0..24_u64 {
        let (ra, dec): (f64, f64) = match round % 4 {
            0 => (rng.random_range(0.0..360.0), 90.0 - 10f64.powf(rng.random_range(-3.0..1.0))),
            1 => ([0.0, 359.9999][(round as usize / 4) % 2], rng.random_range(-90.0..90.0)),
            2 => (rng.random_range(0.0..360.0), -90.0),
            _ => (rng.random_range(0.0..360.0), rng.random_range(-90.0..90.0)),
        };
        let size = 10f64.powf(rng.random_range(-2.0..1.5));
        let context = context();
        let rows = sky_rows(round, &[(ra, dec)]);
        register(&context, "sky", "director", &rows);
        for condition in spellings(ra, dec, size) {
            let found = ids(&context, &condition).await;
            for (stage, regions) in stages(&context, &condition).await.iter().enumerate() {
                assert!(!regions.is_empty(), "{condition} is not read at stage {stage}");
                for RegionPredicate { ra, dec, region } in regions {
                    assert_eq!(
                        (ra.to_string().as_str(), dec.to_string().as_str()),
                        ("sky.ra", "sky.dec"),
                        "{condition}"
                    );
                    for id in &found {
                        let (_, ra, dec) = rows[usize::try_from(*id).unwrap()];
                        let position = Position::new(Degrees(ra), Degrees(dec)).unwrap();
                        assert!(
                            region.contains(position),
                            "{condition} at stage {stage}: ({ra}, {dec}) is outside {region:?}"
                        );
                        rows_checked += 1;
                    }
                }
            }
        }
    }
    assert!(rows_checked > 100_000, "only {rows_checked} rows");
}

#[tokio::test]
async fn regions_are_the_ones_asked_for() {
    let context = context();
    register(&context, "sky", "director", &[]);
    for (condition, inside, outside) in [
        ("contains(point(ra, dec), circle(10, 20, 1)) = 1", (10.5, 20.5), (12.0, 20.0)),
        ("separation(ra, dec, 10, 20) * 3600 < 3600", (10.0, 20.999), (10.0, 21.001)),
        ("qserv_areaspec_box(350, 0, 10, 5)", (0.0, 1.0), (20.0, 1.0)),
        ("qserv_areaspec_poly(0, 0, 10, 0, 10, 10, 0, 10) AND id > 3", (5.0, 5.0), (11.0, 5.0)),
        ("contains(point(ra, dec), polygon(0, 0, 10, 0, 10, 10, 0, 10)) = 1", (5.0, 5.0), (11.0, 5.0)),
    ] {
        let [_, analyzed, optimized] = stages(&context, condition).await;
        for regions in [analyzed, optimized] {
            let holds = |(ra, dec): (f64, f64)| {
                let position = Position::new(Degrees(ra), Degrees(dec)).unwrap();
                regions.iter().map(|r| &r.region).all(|region: &Region| region.contains(position))
            };
            assert!(!regions.is_empty() && holds(inside) && !holds(outside), "{condition}: {regions:?}");
        }
    }
}

#[tokio::test]
async fn what_says_nothing_is_not_read() {
    let context = context();
    register(&context, "sky", "director", &[]);
    for condition in [
        "contains(point(ra, dec), circle(10, 20, 1)) = 0",
        "contains(point(ra, dec), circle(10, 20, 1)) <> 1",
        "contains(point(ra, dec), circle(10, 20, 1)) >= 0",
        "contains(point(ra, dec), circle(10, 20, 1)) IN (0, 1)",
        "contains(point(ra, dec), circle(10, 20, 1)) IS DISTINCT FROM 0",
        "contains(point(ra, dec), circle(10, 20, 1)) IS NOT NULL",
        "contains(point(ra, dec), circle(10, 20, 1)) = id",
        "contains(point(ra, dec), circle(10, 20, 1)) = NULL",
        "NOT contains(point(ra, dec), circle(10, 20, 1))",
        "NOT (s2PtInCircle(ra, dec, 10, 20, 1) > 0)",
        "contains(point(ra, dec), circle(10, 20, id)) = 1",
        "contains(point(ra, dec), circle(ra, 20, 1)) = 1",
        "(contains(point(ra, dec), circle(10, 20, 1)) = 1) IS NOT FALSE",
        "separation(ra, dec, 10, 20) > 1",
        "separation(ra, dec, 10, 20) <> 1",
        "separation(ra, dec, 10, 20) NOT BETWEEN 0 AND 1",
        "separation(ra, dec, 10, 20) < -1",
        "separation(ra, dec, 10, 20) < CAST('NaN' AS DOUBLE)",
        "separation(ra, dec, 10, 20) < CAST('inf' AS DOUBLE)",
        "separation(ra, dec, 10, 20) < NULL",
        "separation(ra, dec, 10, 20) < id",
        "-1 * separation(ra, dec, 10, 20) < 1",
        "separation(ra, dec, 10, 20) / 0 < 1",
        "separation(ra, dec, dec, ra) < 1",
        "separation(1, 2, 3, 4) < 1 AND id > 0",
        "separation(ra, dec, 10, 20) - 50 < 1",
        "position_angle(ra, dec, 10, 20) < 1",
        "scisql_angsep(ra, dec, 1, 10, 20, 1) < 1",
        "contains('abc', 'b')",
        "random() * separation(ra, dec, 10, 20) < 1",
    ] {
        for (stage, regions) in stages(&context, condition).await.iter().enumerate() {
            assert!(regions.is_empty(), "{condition} at stage {stage}: {regions:?}");
        }
    }
}
