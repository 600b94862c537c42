//! scisql's photometry, statistics and bytes.
//!
//! Left out: `scisql_getVersion` (there is no scisql here), `scisql_raiseError` and the stored procedures.

/// Name, syntax, description.
pub(super) const FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "scisql_abmagtodn",
        "scisql_abMagToDn(mag, flux_mag0)",
        "Raw flux in DN of an AB magnitude; flux_mag0 is the raw flux in DN of magnitude 0. NULL where an argument is NULL \
         or not finite, or flux_mag0 is not above 0.",
    ),
    (
        "scisql_abmagtodnsigma",
        "scisql_abMagToDnSigma(mag, mag_sigma, flux_mag0, flux_mag0_sigma)",
        "Standard deviation in DN of scisql_abMagToDn. NULL where an argument is NULL or not finite, flux_mag0 is not \
         above 0, or a sigma is below 0.",
    ),
    (
        "scisql_abmagtoflux",
        "scisql_abMagToFlux(mag)",
        "Flux in erg/s/cm²/Hz of an AB magnitude: 10^(-0.4 (mag + 48.6)). NULL where mag is NULL or not finite.",
    ),
    (
        "scisql_abmagtofluxsigma",
        "scisql_abMagToFluxSigma(mag, mag_sigma)",
        "Standard deviation in erg/s/cm²/Hz of scisql_abMagToFlux. NULL where an argument is NULL or not finite, or \
         mag_sigma is below 0.",
    ),
    (
        "scisql_abmagtonanojansky",
        "scisql_abMagToNanojansky(mag)",
        "Flux in nanojansky of an AB magnitude: 10^(-0.4 (mag - 31.4)). NULL where mag is NULL or not finite.",
    ),
    (
        "scisql_abmagtonanojanskysigma",
        "scisql_abMagToNanojanskySigma(mag, mag_sigma)",
        "Standard deviation in nanojansky of scisql_abMagToNanojansky. NULL where an argument is NULL or not finite, or \
         mag_sigma is below 0.",
    ),
    (
        "scisql_dntoabmag",
        "scisql_dnToAbMag(dn, flux_mag0)",
        "AB magnitude of a raw flux in DN; flux_mag0 is the raw flux in DN of magnitude 0. NULL where an argument is NULL, \
         not finite or not above 0.",
    ),
    (
        "scisql_dntoabmagsigma",
        "scisql_dnToAbMagSigma(dn, dn_sigma, flux_mag0, flux_mag0_sigma)",
        "Standard deviation in magnitudes of scisql_dnToAbMag. NULL where an argument is NULL or not finite, dn or \
         flux_mag0 is not above 0, or a sigma is below 0.",
    ),
    (
        "scisql_dntoflux",
        "scisql_dnToFlux(dn, flux_mag0)",
        "Flux in erg/s/cm²/Hz of a raw flux in DN. NULL where an argument is NULL or not finite, or flux_mag0 is not above \
         0.",
    ),
    (
        "scisql_dntofluxsigma",
        "scisql_dnToFluxSigma(dn, dn_sigma, flux_mag0, flux_mag0_sigma)",
        "Standard deviation in erg/s/cm²/Hz of scisql_dnToFlux. NULL where an argument is NULL or not finite, flux_mag0 \
         is not above 0, or a sigma is below 0.",
    ),
    (
        "scisql_fluxtoabmag",
        "scisql_fluxToAbMag(flux)",
        "AB magnitude of a flux in erg/s/cm²/Hz: -2.5 log10(flux) - 48.6. NULL where flux is NULL, not finite or not \
         above 0.",
    ),
    (
        "scisql_fluxtoabmagsigma",
        "scisql_fluxToAbMagSigma(flux, flux_sigma)",
        "Standard deviation in magnitudes of scisql_fluxToAbMag. NULL where an argument is NULL or not finite, flux is \
         not above 0, or flux_sigma is below 0.",
    ),
    (
        "scisql_fluxtodn",
        "scisql_fluxToDn(flux, flux_mag0)",
        "Raw flux in DN of a flux in erg/s/cm²/Hz. NULL where an argument is NULL or not finite, or flux_mag0 is not above \
         0.",
    ),
    (
        "scisql_fluxtodnsigma",
        "scisql_fluxToDnSigma(flux, flux_sigma, flux_mag0, flux_mag0_sigma)",
        "Standard deviation in DN of scisql_fluxToDn. NULL where an argument is NULL or not finite, flux_mag0 is not \
         above 0, or a sigma is below 0.",
    ),
    (
        "scisql_nanojanskytoabmag",
        "scisql_nanojanskyToAbMag(flux)",
        "AB magnitude of a flux in nanojansky: -2.5 log10(flux) + 31.4. NULL where flux is NULL, not finite or not above \
         0.",
    ),
    (
        "scisql_nanojanskytoabmagsigma",
        "scisql_nanojanskyToAbMagSigma(flux, flux_sigma)",
        "Standard deviation in magnitudes of scisql_nanojanskyToAbMag. NULL where an argument is NULL or not finite, flux \
         is not above 0, or flux_sigma is below 0.",
    ),
    (
        "scisql_median",
        "scisql_median(value)",
        "Aggregate: the median as a double, of an even number of values the mean of the two in the middle. NULL and NaN \
         do not count; NULL where nothing does. Keeps all values of a group in memory.",
    ),
    (
        "scisql_percentile",
        "scisql_percentile(value, percent)",
        "Aggregate: the value at percent (0 to 100) of the way through the ordered values, as a double, interpolated \
         linearly between neighbours. NULL and NaN values do not count; NULL where nothing does, and where a group's \
         percent is NULL or out of range. Within a group percent must not vary. Keeps all values of a group in memory.",
    ),
    (
        "scisql_s2cpolytobin",
        "scisql_s2CPolyToBin(ra1, dec1, ra2, dec2, ra3, dec3, …)",
        "A convex polygon of 3 to 20 vertices (degrees, in either order) as bytes, 24 for each vertex and 24 more, in \
         scisql's form: for scisql_s2PtInCPoly and scisql_s2CPolyHtmRanges. NULL where an argument is NULL or a row's \
         numbers make no convex polygon.",
    ),
    ("scisql_getversion", "scisql_getVersion()", "The name and version of what these functions are part of."),
    (
        "scisql_extractint64",
        "scisql_extractInt64(bytes, index)",
        "The whole number in 8 bytes, the least first, at a place counted from 0. NULL where an argument is NULL or there \
         is no such place.",
    ),
];
