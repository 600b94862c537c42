//! HEALPix and the Hierarchical Triangular Mesh.

/// Name, syntax, description.
pub(super) const FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "healpix_index",
        "healpix_index(order, ra, dec)",
        "Nested index of the HEALPix cell of the given order (0 to 29) that holds the position.",
    ),
    ("healpix_ra", "healpix_ra(order, index)", "Right ascension in degrees of the centre of a nested HEALPix cell."),
    ("healpix_dec", "healpix_dec(order, index)", "Declination in degrees of the centre of a nested HEALPix cell."),
    (
        "healpix_neighbours",
        "healpix_neighbours(order, index)",
        "Nested indices of the 6 to 8 HEALPix cells that share a side or a corner with a cell, as an ascending list. \
         NULL where there is no such cell. `unnest(…)` makes rows of them.",
    ),
    (
        "healpix_corners",
        "healpix_corners(order, index)",
        "The corners of a nested HEALPix cell in the order south, east, north, west, as a list of {ra, dec} in degrees. \
         The sides between them are no great circles. NULL where there is no such cell.",
    ),
    (
        "healpix_bounds",
        "healpix_bounds(order, index)",
        "The smallest box in right ascension and declination that holds a nested HEALPix cell, as {ra_min, dec_min, \
         ra_max, dec_max} in degrees, wider by 1e-9 on each side: numbers for scisql_s2PtInBox, which cross right \
         ascension 0 where ra_min > ra_max. NULL where there is no such cell.",
    ),
    (
        "scisql_s2htmid",
        "scisql_s2HtmId(ra, dec, level)",
        "Id of the trixel of the Hierarchical Triangular Mesh that holds the position, at a level from 0 to 24; the same \
         as scisql's and sphgeom's. NULL where an argument is NULL, the numbers are no position, or a row's level is out \
         of range.",
    ),
    (
        "scisql_s2htmlevel",
        "scisql_s2HtmLevel(id)",
        "Level of the trixel with an id, 0 to 24. NULL where id is NULL or no trixel's.",
    ),
    (
        "scisql_s2circlehtmranges",
        "scisql_s2CircleHtmRanges(ra, dec, radius, level, max_ranges)",
        "Ranges of HTM ids that cover a circle (degrees) as bytes: the first and the last id of each range, 8 bytes each, \
         the least first, ascending; scisql_extractInt64 reads them. At most max_ranges, where below 0 means 1048576; \
         with fewer ranges the cover is coarser, never too small. NULL where an argument is NULL or of no use.",
    ),
    (
        "scisql_s2cpolyhtmranges",
        "scisql_s2CPolyHtmRanges(polygon, level, max_ranges)",
        "As scisql_s2CircleHtmRanges for a convex polygon, given as the bytes that scisql_s2CPolyToBin makes.",
    ),
    (
        "htm_ranges",
        "htm_ranges(geometry, level [, max_ranges])",
        "Ranges of HTM ids at a level (0 to 24) that cover a geometry, as a list of {htm_min, htm_max}, both included, \
         ascending; 256 at most where max_ranges is left out. `SELECT unnest(htm_ranges(circle(0, 0, 0.5), 20))` is what \
         scisql's procedure scisql_s2CircleRegion writes into a table. NULL where an argument is NULL.",
    ),
];
