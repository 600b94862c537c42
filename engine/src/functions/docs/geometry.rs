//! Angles, ADQL's geometry, and the tests of scisql and Qserv.

/// Name, syntax, description.
pub(super) const FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "separation",
        "separation(ra1, dec1, ra2, dec2)",
        "Angle between two positions in degrees, 0 to 180, accurate at both ends. NULL where a position is NULL or none. \
         `separation(ra, dec, 10, 20) < 0.1` reads only the chunks near (10, 20).",
    ),
    (
        "scisql_angsep",
        "scisql_angSep(ra1, dec1, ra2, dec2) or scisql_angSep(x1, y1, z1, x2, y2, z2)",
        "Angle between two positions, or between two vectors of any length, in degrees, 0 to 180.",
    ),
    (
        "position_angle",
        "position_angle(ra1, dec1, ra2, dec2)",
        "Direction from the first position to the second in degrees, 0 to 360, from north through east.",
    ),
    (
        "distance",
        "DISTANCE(point1, point2) or DISTANCE(ra1, dec1, ra2, dec2)",
        "Angle between two points in degrees (ADQL), the same as separation.",
    ),
    ("point", "POINT(['ICRS',] ra, dec)", "A position (ADQL). NULL where ra or dec is NULL or no position."),
    (
        "circle",
        "CIRCLE(['ICRS',] ra, dec, radius) or CIRCLE(point, radius)",
        "The positions within radius degrees (0 to 180) of a centre, border included (ADQL).",
    ),
    (
        "box",
        "BOX(['ICRS',] ra, dec, width, height) or BOX(point, width, height)",
        "A box about a centre, sides in degrees, above 0 and below 180, border included (ADQL). Its arms run from the \
         centre along great circles to the north and at right angles to it; its sides are the great circles that cross \
         the arms' ends at right angles. For limits in ra and dec use scisql_s2PtInBox.",
    ),
    (
        "polygon",
        "POLYGON(['ICRS',] ra1, dec1, ra2, dec2, ra3, dec3, …) or POLYGON(point1, point2, point3, …)",
        "A convex polygon with great-circle sides, vertices in either order, border included (ADQL).",
    ),
    (
        "ellipse",
        "ELLIPSE(['ICRS',] ra, dec, semi_major, semi_minor, position_angle)",
        "An ellipse about a centre; semi-axes in degrees, at most 10; position angle of the major axis in degrees from \
         north through east.",
    ),
    (
        "contains",
        "CONTAINS(geometry, region)",
        "1 where the point, or every position of the first region, lies in the region or on its border, else 0; NULL \
         where either is NULL (ADQL). `CONTAINS(POINT(ra, dec), CIRCLE(10, 20, 0.1)) = 1` reads only the chunks the \
         circle meets. A region that touches the border from within may be told either way by rounding. Of two \
         strings: whether the first contains the second, as a boolean.",
    ),
    (
        "intersects",
        "INTERSECTS(geometry1, geometry2)",
        "1 where two geometries (points and regions) have a position in common, borders included, else 0; NULL where \
         either is NULL (ADQL). With a point it is CONTAINS, and reads only the chunks a constant region meets. Regions \
         that touch in one point may be told either way by rounding.",
    ),
    (
        "coordsys",
        "COORDSYS(geometry)",
        "The frame of a geometry: always ICRS, to which positions of other frames are brought with \
         galactic_to_icrs (ADQL). NULL where the geometry is NULL.",
    ),
    (
        "area",
        "AREA(geometry)",
        "Area of a region on the sphere in square degrees, exact up to rounding; 0 for a point (ADQL). NULL where the \
         geometry is NULL.",
    ),
    (
        "centroid",
        "CENTROID(geometry)",
        "The centre of a region as a point (ADQL): of a circle, box or ellipse the position it is drawn about, of a \
         polygon the centre of mass of its area. NULL where the geometry is NULL.",
    ),
    ("coord1", "COORD1(point)", "Right ascension of a point in degrees (ADQL)."),
    ("coord2", "COORD2(point)", "Declination of a point in degrees (ADQL)."),
    (
        "scisql_s2ptincircle",
        "scisql_s2PtInCircle(ra, dec, center_ra, center_dec, radius)",
        "1 where (ra, dec) is within radius degrees of the centre, else 0. 0 where an argument is NULL; NULL where the \
         numbers are no position.",
    ),
    (
        "scisql_s2ptinbox",
        "scisql_s2PtInBox(ra, dec, ra_min, dec_min, ra_max, dec_max)",
        "1 where (ra, dec) is within the limits, included, else 0. The box crosses right ascension 0 where ra_min > \
         ra_max. 0 where an argument is NULL; NULL where the numbers are no position.",
    ),
    (
        "scisql_s2ptinellipse",
        "scisql_s2PtInEllipse(ra, dec, center_ra, center_dec, semi_major, semi_minor, position_angle)",
        "1 where (ra, dec) is in the ellipse, else 0; semi-axes in arcseconds, at most 36000; position angle in degrees \
         from north through east. 0 where an argument is NULL; NULL where the numbers are no position.",
    ),
    (
        "scisql_s2ptincpoly",
        "scisql_s2PtInCPoly(ra, dec, ra1, dec1, ra2, dec2, ra3, dec3, …) or scisql_s2PtInCPoly(ra, dec, polygon)",
        "1 where (ra, dec) is in the convex polygon, vertices in either order, else 0; degrees. The polygon may also be \
         one value, the bytes that scisql_s2CPolyToBin makes. 0 where an argument is NULL; NULL where the numbers are no \
         position or the bytes no polygon.",
    ),
    (
        "qserv_areaspec_circle",
        "qserv_areaspec_circle(ra, dec, radius)",
        "In WHERE: keeps the rows whose position is in the circle. The position is that of the first director table in \
         FROM. Degrees.",
    ),
    (
        "qserv_areaspec_box",
        "qserv_areaspec_box(ra_min, dec_min, ra_max, dec_max)",
        "In WHERE: keeps the rows whose position is in the box, which crosses right ascension 0 where ra_min > ra_max. \
         The position is that of the first director table in FROM. Degrees.",
    ),
    (
        "qserv_areaspec_ellipse",
        "qserv_areaspec_ellipse(ra, dec, semi_major, semi_minor, position_angle)",
        "In WHERE: keeps the rows whose position is in the ellipse. The position is that of the first director table in \
         FROM. Degrees, semi-axes in arcseconds.",
    ),
    (
        "qserv_areaspec_poly",
        "qserv_areaspec_poly(ra1, dec1, ra2, dec2, ra3, dec3, …)",
        "In WHERE: keeps the rows whose position is in the convex polygon. The position is that of the first director \
         table in FROM. Degrees.",
    ),
];
