//! Frames and epochs.

/// Name, syntax, description.
pub(super) const FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "icrs_to_galactic",
        "icrs_to_galactic(ra, dec)",
        "Galactic longitude and latitude of an ICRS position as {l, b} in degrees. By the rotation of ESA 1997 (Hipparcos, \
         SP-1200, vol. 1, eq. 1.5.11), as Gaia and SOFA; astropy, which goes by way of FK5, differs by up to 25 mas. NULL \
         where a number is NULL or they are no position.",
    ),
    (
        "galactic_to_icrs",
        "galactic_to_icrs(l, b)",
        "ICRS right ascension and declination of galactic coordinates as {ra, dec} in degrees: the way back of \
         icrs_to_galactic.",
    ),
    ("galactic_l", "galactic_l(ra, dec)", "Galactic longitude of an ICRS position in degrees, 0 to 360."),
    ("galactic_b", "galactic_b(ra, dec)", "Galactic latitude of an ICRS position in degrees."),
    ("icrs_ra", "icrs_ra(l, b)", "ICRS right ascension of galactic coordinates in degrees, 0 to 360."),
    ("icrs_dec", "icrs_dec(l, b)", "ICRS declination of galactic coordinates in degrees."),
    (
        "epoch_prop",
        "epoch_prop(ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch)",
        "A star at another epoch as {ra, dec, parallax, pmra, pmdec, radial_velocity}: degrees ICRS, mas, mas/yr (pmra \
         with cos dec), km/s; epochs in Julian years, such as 1991.25 and 2016.0. Arguments as in the Gaia archive. The \
         star moves in a straight line at constant speed, light travel time left out (ESA 1997, SP-1200, vol. 1, section \
         1.5.5; Butkevich & Lindegren 2014, A&A 570, A62). A parallax or radial velocity that is NULL stays NULL and \
         counts as 0, as a parallax below 0 does; NULL where anything else is NULL (write coalesce(pmra, 0) for a star \
         whose motion is not known), a number is not finite, or the motion leads through the Sun.",
    ),
    (
        "epoch_prop_pos",
        "epoch_prop_pos(ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch)",
        "The position of epoch_prop as a point, for DISTANCE, CONTAINS and INTERSECTS.",
    ),
    (
        "epoch_prop_ra",
        "epoch_prop_ra(ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch)",
        "The right ascension of epoch_prop in degrees.",
    ),
    (
        "epoch_prop_dec",
        "epoch_prop_dec(ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch)",
        "The declination of epoch_prop in degrees.",
    ),
    (
        "epoch_prop_parallax",
        "epoch_prop_parallax(ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch)",
        "The parallax of epoch_prop in mas.",
    ),
    (
        "epoch_prop_pmra",
        "epoch_prop_pmra(ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch)",
        "The proper motion in right ascension (with cos dec) of epoch_prop in mas/yr.",
    ),
    (
        "epoch_prop_pmdec",
        "epoch_prop_pmdec(ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch)",
        "The proper motion in declination of epoch_prop in mas/yr.",
    ),
    (
        "epoch_prop_radial_velocity",
        "epoch_prop_radial_velocity(ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch)",
        "The radial velocity of epoch_prop in km/s.",
    ),
];
