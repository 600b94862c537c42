-- What the statements of the .slt files call and DuckDB does not have. Written from the definitions (great circles,
-- scisql's documentation, ADQL 2.1), not from Skyflight: it must not share a mistake with what it checks.
--
-- A geometry is its shape and its numbers. Areas have their border; none of the statements puts a row on one.
CREATE MACRO separation(ra1, dec1, ra2, dec2) AS CASE WHEN ra1 + dec1 + ra2 + dec2 IS NOT NULL THEN
    degrees(2 * asin(least(1.0, sqrt(power(sin(radians(dec2 - dec1) / 2), 2)
    + cos(radians(dec1)) * cos(radians(dec2)) * power(sin(radians(ra2 - ra1) / 2), 2))))) END;
CREATE MACRO scisql_angSep
    (ra1, dec1, ra2, dec2) AS separation(ra1, dec1, ra2, dec2),
    (x1, y1, z1, x2, y2, z2) AS degrees(atan2(
        sqrt(power(y1 * z2 - z1 * y2, 2) + power(z1 * x2 - x1 * z2, 2) + power(x1 * y2 - y1 * x2, 2)),
        x1 * x2 + y1 * y2 + z1 * z2));
CREATE MACRO position_angle(ra1, dec1, ra2, dec2) AS (degrees(atan2(
    sin(radians(ra2 - ra1)) * cos(radians(dec2)),
    cos(radians(dec1)) * sin(radians(dec2)) - sin(radians(dec1)) * cos(radians(dec2)) * cos(radians(ra2 - ra1)))) + 360) % 360;

-- Components of a position towards a centre, and east and north of it.
CREATE MACRO towards(ra, dec, ra0, dec0) AS
    sin(radians(dec)) * sin(radians(dec0)) + cos(radians(dec)) * cos(radians(dec0)) * cos(radians(ra - ra0));
CREATE MACRO east(ra, dec, ra0) AS cos(radians(dec)) * sin(radians(ra - ra0));
CREATE MACRO north(ra, dec, ra0, dec0) AS
    sin(radians(dec)) * cos(radians(dec0)) - cos(radians(dec)) * sin(radians(dec0)) * cos(radians(ra - ra0));

CREATE MACRO in_range(ra, dec, west, south, east, north) AS
    dec BETWEEN south AND north AND CASE WHEN west <= east THEN ra BETWEEN west AND east ELSE ra >= west OR ra <= east END;
CREATE MACRO in_box(ra, dec, ra0, dec0, width, height) AS
    abs(degrees(atan2(east(ra, dec, ra0), towards(ra, dec, ra0, dec0)))) <= width / 2
    AND abs(degrees(atan2(north(ra, dec, ra0, dec0), towards(ra, dec, ra0, dec0)))) <= height / 2;
CREATE MACRO in_ellipse(ra, dec, ra0, dec0, major, minor, angle) AS
    towards(ra, dec, ra0, dec0) > 0
    AND power((north(ra, dec, ra0, dec0) * cos(radians(angle)) + east(ra, dec, ra0) * sin(radians(angle))) / radians(major), 2)
    + power((north(ra, dec, ra0, dec0) * sin(radians(angle)) - east(ra, dec, ra0) * cos(radians(angle))) / radians(minor), 2) <= 1;
-- On which side of the great circle from one corner to the next: the triple product of the three.
CREATE MACRO side(ra, dec, ra1, dec1, ra2, dec2) AS
    cos(radians(dec)) * cos(radians(ra)) * (sin(radians(ra1)) * cos(radians(dec1)) * sin(radians(dec2)) - sin(radians(dec1)) * sin(radians(ra2)) * cos(radians(dec2)))
    + cos(radians(dec)) * sin(radians(ra)) * (sin(radians(dec1)) * cos(radians(ra2)) * cos(radians(dec2)) - cos(radians(ra1)) * cos(radians(dec1)) * sin(radians(dec2)))
    + sin(radians(dec)) * cos(radians(dec1)) * cos(radians(dec2)) * sin(radians(ra2 - ra1));
CREATE MACRO sides(ra, dec, n) AS list_transform(range(1, len(n), 2), lambda i:
    side(ra, dec, n[i], n[i + 1], n[i + 1 - (i + 1) // len(n) * len(n) + 1], n[i + 2 - (i + 1) // len(n) * len(n) + 1]));
-- On one side of all, corners being in either order; and towards the corners, for so is the opposite point.
CREATE MACRO in_polygon(ra, dec, n) AS (list_min(sides(ra, dec, n)) >= 0 OR list_max(sides(ra, dec, n)) <= 0)
    AND list_sum(list_transform(range(1, len(n), 2), lambda i: towards(ra, dec, n[i], n[i + 1]))) > 0;

-- scisql's predicates: 1 or 0, 0 for nulls.
CREATE MACRO scisql_s2PtInCircle(ra, dec, ra0, dec0, radius) AS coalesce(CAST(separation(ra, dec, ra0, dec0) <= radius AS INTEGER), 0);
CREATE MACRO scisql_s2PtInBox(ra, dec, west, south, east, north) AS
    CASE WHEN in_range(ra, dec, west, south, east, north) AND west + east IS NOT NULL THEN 1 ELSE 0 END;
CREATE MACRO scisql_s2PtInEllipse(ra, dec, ra0, dec0, major, minor, angle) AS
    coalesce(CAST(in_ellipse(ra, dec, ra0, dec0, major / 3600.0, minor / 3600.0, angle) AS INTEGER), 0);
CREATE MACRO s2PtInCPoly(ra, dec, n) AS CASE WHEN in_polygon(ra, dec, n) AND list_count(n) = len(n) THEN 1 ELSE 0 END;
CREATE MACRO scisql_s2PtInCPoly
    (ra, dec, a, b, c, d, e, f) AS s2PtInCPoly(ra, dec, [a, b, c, d, e, f]),
    (ra, dec, a, b, c, d, e, f, g, h) AS s2PtInCPoly(ra, dec, [a, b, c, d, e, f, g, h]),
    (ra, dec, a, b, c, d, e, f, g, h, i, j) AS s2PtInCPoly(ra, dec, [a, b, c, d, e, f, g, h, i, j]);

-- ADQL's geometries.
CREATE MACRO geometry(shape, n) AS {'shape': shape, 'n': CAST(n AS DOUBLE[])};
CREATE MACRO point
    (ra, dec) AS geometry('point', [ra, dec]),
    (frame, ra, dec) AS geometry('point', [ra, dec]);
CREATE MACRO coord(p, i) AS p.n[i];
CREATE MACRO circle
    (p, radius) AS geometry('circle', [coord(p, 1), coord(p, 2), radius]),
    (ra, dec, radius) AS geometry('circle', [ra, dec, radius]),
    (frame, ra, dec, radius) AS geometry('circle', [ra, dec, radius]);
CREATE MACRO box
    (p, width, height) AS geometry('box', [coord(p, 1), coord(p, 2), width, height]),
    (ra, dec, width, height) AS geometry('box', [ra, dec, width, height]),
    (frame, ra, dec, width, height) AS geometry('box', [ra, dec, width, height]);
CREATE MACRO ellipse
    (ra, dec, major, minor, angle) AS geometry('ellipse', [ra, dec, major, minor, angle]),
    (frame, ra, dec, major, minor, angle) AS geometry('ellipse', [ra, dec, major, minor, angle]);
CREATE MACRO polygon
    (p, q, r) AS geometry('polygon', [coord(p, 1), coord(p, 2), coord(q, 1), coord(q, 2), coord(r, 1), coord(r, 2)]),
    (a, b, c, d, e, f) AS geometry('polygon', [a, b, c, d, e, f]),
    (frame, a, b, c, d, e, f) AS geometry('polygon', [a, b, c, d, e, f]),
    (a, b, c, d, e, f, g, h) AS geometry('polygon', [a, b, c, d, e, f, g, h]),
    (frame, a, b, c, d, e, f, g, h) AS geometry('polygon', [a, b, c, d, e, f, g, h]);
CREATE MACRO in_region(ra, dec, region) AS CASE region.shape
    WHEN 'circle' THEN separation(ra, dec, region.n[1], region.n[2]) <= region.n[3]
    WHEN 'box' THEN in_box(ra, dec, region.n[1], region.n[2], region.n[3], region.n[4])
    WHEN 'ellipse' THEN in_ellipse(ra, dec, region.n[1], region.n[2], region.n[3], region.n[4], region.n[5])
    WHEN 'polygon' THEN in_polygon(ra, dec, region.n) END;
-- Null where a number is. The list of one gives the two names: a macro's argument is written out wherever it is used.
CREATE MACRO contains(p, region) AS list_transform([{'p': p, 'g': region}], lambda x:
    CASE WHEN list_count(x.p.n) = 2 AND list_count(x.g.n) = len(x.g.n) THEN CAST(in_region(x.p.n[1], x.p.n[2], x.g) AS INTEGER) END)[1];
CREATE MACRO intersects(a, b) AS CASE WHEN a.shape = 'point' THEN contains(a, b) ELSE contains(b, a) END;
CREATE MACRO distance
    (p, q) AS separation(coord(p, 1), coord(p, 2), coord(q, 1), coord(q, 2)),
    (ra1, dec1, ra2, dec2) AS separation(ra1, dec1, ra2, dec2);
