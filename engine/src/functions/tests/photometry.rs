//! scisql's photometry, against the values of its own test suite and the definition of AB magnitudes.

use std::f64::consts::LN_10;

use super::*;

const ZERO_POINT: f64 = 3_630.780_547_701;

/// scisql, `test/testPhotometry.py`.
#[tokio::test]
async fn values_of_scisqls_own_tests() {
    let some = |n: f64| Some(n);
    check_numbers(
        "scisql_nanojanskyToAbMag($1)",
        &[
            (&[some(0.0)], None),
            (&[some(-1.0)], None),
            (&[None], None),
            (&[some(1.0)], some(31.4)),
            (&[some(100.0)], some(26.4)),
            (&[some(1e4)], some(21.4)),
            (&[some(f64::NAN)], None),
            (&[some(f64::INFINITY)], None),
        ],
        1e-13,
    )
    .await;
    check_numbers(
        "scisql_nanojanskyToAbMagSigma($1, $2)",
        &[
            (&[None, some(1.0)], None),
            (&[some(1.0 / LN_10), None], None),
            (&[some(1.0 / LN_10), some(2.0)], some(5.0)),
            (&[some(1.0), some(-1.0)], None),
            (&[some(0.0), some(1.0)], None),
        ],
        1e-13,
    )
    .await;
    check_numbers(
        "SCISQL_ABMAGTONANOJANSKY($1)",
        &[
            (&[None], None),
            (&[some(31.4)], some(1.0)),
            (&[some(26.4)], some(100.0)),
            (&[some(21.4)], some(1e4)),
            (&[some(0.0)], some(ZERO_POINT * 1e9)),
        ],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_abMagToNanojanskySigma($1, $2)",
        &[
            (&[None, some(5.0 / LN_10)], None),
            (&[some(31.4), None], None),
            (&[some(31.4), some(5.0 / LN_10)], some(2.0)),
            (&[some(31.4), some(-0.1)], None),
        ],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_fluxToAbMag($1)",
        &[
            (&[some(0.0)], None),
            (&[some(-1.0)], None),
            (&[None], None),
            (&[some(1.0)], some(-48.6)),
            (&[some(100.0)], some(-53.6)),
            (&[some(1e4)], some(-58.6)),
        ],
        1e-13,
    )
    .await;
    check_numbers(
        "scisql_fluxToAbMagSigma($1, $2)",
        &[(&[None, some(1.0)], None), (&[some(1.0 / LN_10), None], None), (&[some(1.0 / LN_10), some(2.0)], some(5.0))],
        1e-13,
    )
    .await;
    check_numbers(
        "scisql_abMagToFlux($1)",
        &[
            (&[None], None),
            (&[some(0.0)], some(ZERO_POINT * 1e-23)),
            (&[some(-48.6)], some(1.0)),
            (&[some(-53.6)], some(100.0)),
            (&[some(-58.6)], some(1e4)),
            // Beyond all numbers.
            (&[some(-1e4)], None),
        ],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_abMagToFluxSigma($1, $2)",
        &[
            (&[None, some(5.0 / LN_10)], None),
            (&[some(-48.6), None], None),
            (&[some(-48.6), some(5.0 / LN_10)], some(2.0)),
        ],
        1e-12,
    )
    .await;
}

/// Raw fluxes: with a zero point of 3e12 DN a source of 3e4 DN has magnitude -2.5 log10(1e-8) = 20. Standard
/// deviations by Gauss's law, for relative errors of 3 and 4 per cent: 5.
#[tokio::test]
async fn raw_fluxes() {
    let (dn, zero) = (Some(3e4), Some(3e12));
    let (dn_sigma, zero_sigma) = (Some(3e4 * 0.03), Some(3e12 * 0.04));
    let flux = ZERO_POINT * 1e-31;
    let mag_sigma = 2.5 / LN_10 * 0.03;
    check_numbers(
        "scisql_dnToAbMag($1, $2)",
        &[
            (&[dn, zero], Some(20.0)),
            (&[Some(0.0), zero], None),
            (&[dn, Some(0.0)], None),
            (&[dn, Some(-1.0)], None),
            (&[None, zero], None),
            (&[dn, Some(f64::NAN)], None),
        ],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_dnToAbMagSigma($1, $2, $3, $4)",
        &[
            (&[dn, dn_sigma, zero, zero_sigma], Some(2.5 / LN_10 * 0.05)),
            (&[dn, dn_sigma, zero, Some(0.0)], Some(2.5 / LN_10 * 0.03)),
            (&[dn, Some(-1.0), zero, zero_sigma], None),
            (&[dn, dn_sigma, zero, Some(-1.0)], None),
            (&[Some(-3.0), dn_sigma, zero, zero_sigma], None),
            (&[dn, dn_sigma, zero, None], None),
        ],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_dnToFlux($1, $2)",
        &[
            (&[dn, zero], Some(flux)),
            // A raw flux below 0 is what noise makes of an empty place.
            (&[Some(-3e4), zero], Some(-flux)),
            (&[Some(0.0), zero], Some(0.0)),
            (&[dn, Some(0.0)], None),
            (&[dn, None], None),
        ],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_dnToFluxSigma($1, $2, $3, $4)",
        &[
            (&[dn, dn_sigma, zero, zero_sigma], Some(0.05 * flux)),
            (&[dn, dn_sigma, Some(0.0), zero_sigma], None),
            (&[None, dn_sigma, zero, zero_sigma], None),
        ],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_fluxToDn($1, $2)",
        &[(&[Some(flux), zero], dn), (&[Some(-flux), zero], Some(-3e4)), (&[Some(flux), Some(-1.0)], None)],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_fluxToDnSigma($1, $2, $3, $4)",
        &[
            (&[Some(flux), Some(0.03 * flux), zero, zero_sigma], Some(0.05 * 3e4)),
            (&[Some(flux), Some(-flux), zero, zero_sigma], None),
        ],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_abMagToDn($1, $2)",
        &[(&[Some(20.0), zero], dn), (&[Some(20.0), Some(0.0)], None), (&[None, zero], None)],
        1e-12,
    )
    .await;
    check_numbers(
        "scisql_abMagToDnSigma($1, $2, $3, $4)",
        &[
            (&[Some(20.0), Some(mag_sigma), zero, zero_sigma], Some(0.05 * 3e4)),
            (&[Some(20.0), Some(-mag_sigma), zero, zero_sigma], None),
            (&[Some(20.0), Some(mag_sigma), Some(0.0), zero_sigma], None),
        ],
        1e-12,
    )
    .await;
}

#[tokio::test]
async fn whole_numbers_and_decimals_are_taken() {
    close(number("scisql_nanojanskyToAbMag(100)").await, 26.4, 1e-12);
    close(number("scisql_abMagToNanojansky(CAST(26.4 AS DECIMAL(5, 2)))").await, 100.0, 1e-9);
    assert!(error("SELECT scisql_dnToAbMag(1)").await.contains("use scisql_dntoabmag(dn, flux_mag0)"));
    assert!(error("SELECT scisql_fluxToAbMag('a')").await.contains("takes numbers"));
}
