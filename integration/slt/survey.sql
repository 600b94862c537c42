-- The rows that the statements of the .slt files are asked of, made by DuckDB: few, in many chunks, skewed.
--
-- Positions are multiples of 1/1024 degree and other floats of 1/64, so that sums are exact in whatever order they
-- are made. `r(i, k)` is a number from 0 to 1008 which looks random and is the same for ever.
CREATE SCHEMA survey;
CREATE SCHEMA other;
CREATE MACRO r(i, k) AS CAST((i * i * 31 + i * (17 + k * 101) + k * k * 7) % 1009 AS BIGINT);

-- The first rows lie where spherical geometry usually goes wrong: poles, right ascension 0, corners of HEALPix base
-- cells (dec 0 and 41.81), one position held twice. The next ones crowd at the north pole, across right
-- ascension 0, and within one spot where many are neighbours, across declination -30, which parts stripes; the last
-- are everywhere.
CREATE TABLE survey.Object AS
WITH place(objectId, ra, dec) AS (
    VALUES
        (1, 0.0, 90.0), (2, 123.0, -90.0), (3, 90.0, 89.9990234375), (4, 270.0, 89.9990234375),
        (5, 0.0, 0.0), (6, 359.9990234375, 0.0), (7, 0.0009765625, 0.0), (8, 45.0, 0.0),
        (9, 45.0, 0.0), (10, 180.0, -41.8125), (11, 45.0, 41.8125), (12, 315.0, 41.8095703125),
        (-13, 300.0, 60.0), (9007199254740993, 12.5, -7.25)
    UNION ALL
    SELECT 1000 + i, r(i, 1) * 360 // 1009 + r(i, 2) / 1024.0, 90 - (i * i) / 1024.0 FROM range(1, 31) t(i)
    UNION ALL
    SELECT 2000 + i, (360 + (r(i, 3) - 504) / 1024.0) % 360, 4 + 2 * r(i, 4) / 1024.0 FROM range(1, 41) t(i)
    UNION ALL
    SELECT 3000 + i, 200 + (r(i, 5) % 40) / 1024.0, -30.01953125 + (r(i, 6) % 40) / 1024.0 FROM range(1, 61) t(i)
    UNION ALL
    SELECT 4000000000 + i * 17, r(i, 7) * 356.0 // 1009 + r(i, 8) / 1024.0, -80 + r(i, 9) * 165.0 // 1009 + r(i, 2) / 1024.0
    FROM range(1, 91) t(i)
),
numbered AS (SELECT *, row_number() OVER (ORDER BY objectId) AS i FROM place)
SELECT
    CAST(objectId AS BIGINT) AS objectId,
    CAST(ra AS DOUBLE) AS ra,
    CAST(dec AS DOUBLE) AS dec,
    CASE WHEN r(i, 10) % 9 > 0 THEN CAST(12 + r(i, 11) % 832 / 64.0 AS DOUBLE) END AS mag,
    CASE WHEN r(i, 12) % 4 > 0 THEN CAST(CASE WHEN r(i, 13) % 3 = 0 THEN 0.5 ELSE r(i, 14) % 64 / 16.0 - 1 END AS FLOAT) END AS colour,
    CASE WHEN r(i, 15) % 10 > 0 THEN CAST(CASE WHEN r(i, 16) % 3 > 0 THEN 1 ELSE r(i, 17) % 40 - 5 END AS INTEGER) END AS flags,
    ['star', 'star', 'star', 'galaxy', 'QSO', '', 'Céphéide', 'a''b_c%', 'Star', NULL][1 + r(i, 18) % 10] AS kind,
    CASE WHEN r(i, 19) % 5 > 0 THEN CAST(r(i, 20) % 31 AS SMALLINT) END AS epochs,
    [true, false, NULL][1 + r(i, 21) % 3] AS variable,
    CASE WHEN r(i, 22) % 5 > 0 THEN DATE '2019-12-20' + CAST(r(i, 23) % 500 AS INTEGER) END AS discovered,
    CASE WHEN r(i, 24) % 2 > 0 THEN TIMESTAMP '2020-02-28 23:00:00' + to_minutes(30 * (r(i, 25) % 200)) + to_microseconds(r(i, 26) % 3 * 250000) END AS updated,
    CASE WHEN r(i, 27) % 3 = 0 THEN CAST(3001 + r(i, 28) % 20 AS BIGINT) END AS hostId,
    CASE WHEN r(i, 29) % 6 > 0 THEN CAST(r(i, 30) % 700 / 100.0 AS DECIMAL(7, 4)) END AS redshift
FROM numbered;

-- One object has a tenth of the sources and half the objects have none. Some sources belong to no object, some are
-- there twice; some lie a little off their object, which is in whose chunk they are. chi2 may be no number.
CREATE TABLE survey.Source AS
WITH host AS (SELECT objectId, ra, dec, row_number() OVER (ORDER BY r(objectId % 1000003, 40), objectId) AS h FROM survey.Object),
owned AS (
    SELECT objectId, ra, dec, h * 200 + j AS i
    FROM host, range(0, 60) t(j)
    WHERE j < CASE WHEN h = 1 THEN 60 WHEN h % 2 = 0 THEN 0 ELSE 1 + r(h, 41) % 9 END
),
orphan AS (
    SELECT CASE WHEN i % 3 > 0 THEN 9000000000 + i % 5 END AS objectId, r(i, 42) * 356.0 // 1009 AS ra, -60 + r(i, 43) * 120.0 // 1009 AS dec, 100000 + i AS i
    FROM range(0, 15) t(i)
),
every AS (
    SELECT * FROM owned
    UNION ALL SELECT * FROM orphan
    UNION ALL SELECT * FROM owned WHERE r(i, 44) % 40 = 0
)
SELECT
    CAST(5000000000 + i * 7 AS BIGINT) AS sourceId,
    CAST(objectId AS BIGINT) AS objectId,
    CAST((ra + CASE WHEN abs(dec) < 80 THEN r(i, 45) % 3 / 1024.0 ELSE 0 END) % 360 AS DOUBLE) AS ra,
    CAST(dec AS DOUBLE) AS dec,
    CASE WHEN r(i, 46) % 12 > 0 THEN CAST(r(i, 47) / 32.0 - 2 AS DOUBLE) END AS flux,
    CASE WHEN r(i, 48) % 10 > 0 THEN CAST(CASE WHEN r(i, 49) % 2 = 0 THEN 5 ELSE r(i, 50) % 480 / 8.0 END AS FLOAT) END AS snr,
    CAST(['NaN', 'Infinity', '-Infinity', NULL, '0', '1', '1', '2.5', '-3.25', '100'][1 + r(i, 51) % 10] AS DOUBLE) AS chi2,
    ['r', 'r', 'r', 'r', 'g', 'g', 'i', 'z', 'y2', NULL][1 + r(i, 52) % 10] AS band,
    CASE WHEN r(i, 53) % 10 > 0 THEN CAST(r(i, 54) % 10 AS INTEGER) END AS filterId,
    CASE WHEN r(i, 55) % 30 > 0 THEN CAST(1 + r(i, 56) % 60 AS INTEGER) END AS visit,
    CASE WHEN r(i, 57) % 20 > 0 THEN CAST(CASE WHEN r(i, 58) % 5 > 0 THEN 0 ELSE r(i, 59) % 300 - 3 END AS INTEGER) END AS flags,
    [true, true, true, true, false, NULL][1 + r(i, 60) % 6] AS good,
    CASE WHEN r(i, 61) % 10 > 0 THEN DATE '2020-01-01' + CAST(r(i, 62) % 400 AS INTEGER) END AS night,
    CASE WHEN r(i, 63) % 10 > 0 THEN TIMESTAMP '2020-01-01 18:00:00' + to_minutes(45 * (r(i, 64) % 900)) END AS taken
FROM every;

-- A child without orphans, on few objects: with such a child another one may be joined inside the chunks.
CREATE TABLE survey.Forced AS
SELECT
    objectId, CAST(1 + (visit * 7) % 60 AS INTEGER) AS visit,
    ['g', 'g', 'r', 'u', NULL][1 + r(visit + objectId % 1009, 70) % 5] AS band,
    CASE WHEN r(visit + objectId % 1009, 71) % 5 > 0 THEN CAST(r(visit + objectId % 1009, 72) % 640 / 16.0 - 4 AS DOUBLE) END AS flux,
    CASE WHEN r(visit + objectId % 1009, 73) % 3 > 0 THEN DATE '2020-06-01' + CAST(visit AS INTEGER) END AS night
FROM (SELECT objectId FROM survey.Object WHERE r(objectId % 1000003, 74) % 6 = 0), range(0, 8) t(visit)
WHERE visit < 1 + r(objectId % 1000003, 75) % 8;

-- A child of which there is no row yet.
CREATE TABLE survey.Alert (alertId BIGINT NOT NULL, objectId BIGINT, score DOUBLE, label VARCHAR, flags INTEGER);

-- A director without rows, of which no chunk is known.
CREATE TABLE survey.Void (voidId BIGINT NOT NULL, ra DOUBLE NOT NULL, dec DOUBLE NOT NULL, mag DOUBLE, note VARCHAR);

-- Small, whole on every worker. Some bands no source has, one is there twice, one is null.
CREATE TABLE survey.Filter (filterId INTEGER, band VARCHAR, wavelength DOUBLE, wide BOOLEAN);
INSERT INTO survey.Filter VALUES
    (0, 'g', 481.5, true), (1, 'r', 622, true), (2, 'i', 754.5, false), (3, 'z', 869, NULL), (4, 'u', 355.5, false),
    (5, 'r', 640, false), (6, NULL, 900.5, true), (7, 'y2', 1004, NULL);

-- A second director in the same database: most of its rows lie a few arcseconds from an object, some on it, some
-- half a degree away; at the poles on the other side of it.
CREATE TABLE survey.Star AS
WITH near AS (SELECT objectId, ra, dec, row_number() OVER (ORDER BY objectId) AS i FROM survey.Object)
SELECT
    CAST(70000 + i AS BIGINT) AS starId,
    CAST((ra + CASE WHEN abs(dec) > 89 THEN 180 ELSE [0, 1, -1, 3, 16][1 + r(i, 80) % 5] / 1024.0 END + 360) % 360 AS DOUBLE) AS ra,
    CAST(CASE WHEN abs(dec) > 89 THEN dec WHEN i % 11 = 0 THEN dec + 0.5 ELSE dec + [0, 0, 1, -1, -2][1 + r(i, 84) % 5] / 1024.0 END AS DOUBLE) AS dec,
    CASE WHEN r(i, 81) % 8 > 0 THEN CAST(10 + r(i, 82) % 700 / 64.0 AS DOUBLE) END AS gmag,
    CASE WHEN r(i, 83) % 2 = 0 THEN CAST(objectId AS BIGINT) END AS objectId
FROM near WHERE i % 3 > 0;

-- At most one row of each object, beside it; two rows belong to no object.
CREATE TABLE survey.Motion AS
SELECT
    objectId,
    CASE WHEN r(i, 100) % 7 > 0 THEN CAST(r(i, 101) / 16.0 - 30 AS DOUBLE) END AS pmra,
    CAST(r(i, 102) / 16.0 - 30 AS DOUBLE) AS pmdec,
    ['thin', 'thin', 'thick', 'halo', NULL][1 + r(i, 103) % 5] AS population
FROM (SELECT objectId, row_number() OVER (ORDER BY objectId) AS i FROM survey.Object)
WHERE i % 4 > 0
UNION ALL VALUES (77, 1.5, -2.5, 'halo'), (78, NULL, 0, NULL);

-- Which star is which object: some pairs twice, some objects with several stars; some ids that no object or no star has,
-- and some that are null.
CREATE TABLE survey.Pair AS
WITH near AS (
    SELECT o.objectId, s.starId, row_number() OVER (ORDER BY s.starId, o.objectId) AS i
    FROM survey.Star s JOIN survey.Object o ON abs(o.dec - s.dec) < 0.003 AND least(abs(o.ra - s.ra), 360 - abs(o.ra - s.ra)) < 0.004
),
every AS (
    SELECT * FROM near
    UNION ALL SELECT * FROM near WHERE i % 20 = 0
    UNION ALL SELECT objectId, 60000 + i, 2000 + i FROM near WHERE i % 17 = 0
    UNION ALL SELECT -100000 - i, starId, 3000 + i FROM near WHERE i % 19 = 0
    UNION ALL SELECT NULL, starId, 4000 + i FROM near WHERE i % 23 = 0
    UNION ALL SELECT objectId, NULL, 5000 + i FROM near WHERE i % 29 = 0
)
SELECT
    CAST(objectId AS BIGINT) AS objectId,
    CAST(starId AS BIGINT) AS starId,
    CASE WHEN r(i, 105) % 6 > 0 THEN CAST(r(i, 106) % 64 / 64.0 AS DOUBLE) END AS probability,
    ['position', 'position', 'colour', NULL][1 + r(i, 107) % 4] AS method
FROM every;

-- A second database, cut another way. Two of its targets have one id.
CREATE TABLE other.Target AS
WITH near AS (SELECT objectId, ra, dec, row_number() OVER (ORDER BY objectId) AS i FROM survey.Object)
SELECT
    CAST(CASE WHEN i IN (50, 100) THEN 500 ELSE i * 10 END AS BIGINT) AS targetId,
    CAST((ra + [0, 2, -2, 5][1 + r(i, 90) % 4] / 1024.0 + 360) % 360 AS DOUBLE) AS ra,
    CAST(CASE WHEN abs(dec) < 89 THEN dec + [0, 1, -1][1 + r(i, 91) % 3] / 1024.0 ELSE dec END AS DOUBLE) AS dec,
    CASE WHEN r(i, 92) % 8 > 0 THEN CAST(11 + r(i, 93) % 700 / 64.0 AS DOUBLE) END AS vmag,
    CAST(1 + r(i, 94) % 20 AS DOUBLE) AS errorArcsec,
    'T' || lpad(CAST(i AS VARCHAR), 3, '0') AS name
FROM near WHERE i % 2 = 0;

CREATE TABLE other.Spectrum AS
SELECT
    CAST(row_number() OVER (ORDER BY targetId, n) AS BIGINT) AS specId, targetId,
    CASE WHEN r(targetId + n, 95) % 4 > 0 THEN CAST(r(targetId + n, 96) % 512 / 128.0 AS DOUBLE) END AS z,
    ['STAR', 'GALAXY', 'QSO', NULL][1 + r(targetId + n, 97) % 4] AS class
FROM (SELECT DISTINCT targetId FROM other.Target WHERE targetId % 30 > 0), range(0, 3) t(n)
WHERE targetId <> 500 AND n < 1 + r(targetId, 98) % 3;
