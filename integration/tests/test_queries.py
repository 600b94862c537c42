"""Queries of the usual shapes give what DuckDB gives on the files that were loaded."""

from __future__ import annotations

import pytest

from skyflight_testing import clients
from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.duck import Duck

# The same text goes to both systems; `{s}` is the scheme's suffix. Where the order is said, it is compared.
QUERIES: dict[str, str] = {
    "scan": "SELECT source_id, ra, dec, phot_g_mean_mag FROM sky_{s}.gaia WHERE phot_g_mean_mag < 5",
    "scan of expressions": """
        SELECT source_id, phot_bp_mean_mag - phot_rp_mean_mag AS colour, abs(dec) AS a FROM sky_{s}.gaia
        WHERE phot_bp_mean_mag - phot_rp_mean_mag > 3.5""",
    "filter": """
        SELECT hip, plx, b_v FROM hip_{s}.hipparcos2
        WHERE (plx > 50 OR pmra < -800) AND NOT b_v BETWEEN 0.5 AND 1.0 AND hip NOT IN (71683, 87937)""",
    "filter of text": """
        SELECT object_id, type FROM ztf_{s}.object WHERE type LIKE 'SN I%' AND redshift <> '' AND object_id > 'ZTF20'""",
    "group by": """
        SELECT CAST(floor(phot_g_mean_mag) AS BIGINT) AS mag, count(*) AS n, min(dec) AS lo, max(dec) AS hi,
               avg(ra) AS mean_ra, sum(phot_g_mean_mag) AS total
        FROM sky_{s}.gaia GROUP BY CAST(floor(phot_g_mean_mag) AS BIGINT)""",
    "group by two": """
        SELECT CAST(floor(ra_j1991 / 30) AS BIGINT) AS zone, plx > 10 AS near, count(*) AS n, avg(hpmag) AS mean,
               stddev_samp(b_v) AS spread
        FROM hip_{s}.hipparcos2 GROUP BY CAST(floor(ra_j1991 / 30) AS BIGINT), plx > 10""",
    "aggregate": """
        SELECT count(*) AS n, count(b_v) AS colours, sum(plx) AS s, min(hip) AS first, max(pmdec) AS fastest,
               count(*) FILTER (WHERE hpmag < 6) AS naked_eye
        FROM hip_{s}.hipparcos2""",
    "aggregate of nothing": "SELECT count(*) AS n, max(hip) AS m FROM hip_{s}.hipparcos2 WHERE hpmag < -100",
    "order by limit": "SELECT hip, hpmag FROM hip_{s}.hipparcos2 ORDER BY hpmag, hip LIMIT 25",
    "order by limit offset": """
        SELECT source_id, phot_g_mean_mag FROM sky_{s}.gaia ORDER BY phot_g_mean_mag DESC, source_id LIMIT 10 OFFSET 50""",
    "order by all": "SELECT object_id, ra FROM ztf_{s}.object WHERE dec > 60 ORDER BY ra DESC, object_id",
    "distinct": "SELECT DISTINCT band FROM rrlyr_{s}.source",
    "distinct of two": "SELECT DISTINCT band, object_id FROM ztf_{s}.source WHERE mag < 17",
    "count distinct": "SELECT count(DISTINCT object_id) AS o, count(DISTINCT band) AS b FROM ztf_{s}.source",
    "having": """
        SELECT object_id, count(*) AS n, avg(mag) AS mean FROM rrlyr_{s}.source
        WHERE band = 'r' AND mag < 50 GROUP BY object_id HAVING count(*) > 60""",
    "director child": """
        SELECT o.object_id, o.ra, s.mjd, s.band, s.mag FROM rrlyr_{s}.object o JOIN rrlyr_{s}.source s
        ON o.object_id = s.object_id WHERE o.ra BETWEEN 310 AND 320 AND s.band = 'g'""",
    "director child left": """
        SELECT o.object_id, o.type, count(s.mjd) AS n, min(s.mag) AS peak FROM ztf_{s}.object o
        LEFT JOIN ztf_{s}.source s ON s.object_id = o.object_id GROUP BY o.object_id, o.type""",
    "director child left filtered": """
        SELECT o.object_id, s.mag FROM ztf_{s}.object o LEFT JOIN ztf_{s}.source s
        ON s.object_id = o.object_id AND s.mag < 15 WHERE o.dec > 50""",
    "director child right": """
        SELECT s.object_id AS child, o.object_id, s.mjd FROM ztf_{s}.object o RIGHT JOIN ztf_{s}.source s
        ON s.object_id = o.object_id AND o.type = 'SN II' WHERE s.mag < 16""",
    "director child full": """
        SELECT count(*) AS n, count(o.object_id) AS objects, count(s.object_id) AS sources
        FROM ztf_{s}.object o FULL JOIN ztf_{s}.source s ON s.object_id = o.object_id AND s.mag > 19""",
    "semi": """
        SELECT o.object_id, o.dec FROM ztf_{s}.object o
        WHERE EXISTS (SELECT 1 FROM ztf_{s}.source s WHERE s.object_id = o.object_id AND s.mag < 14.5)""",
    "anti": """
        SELECT o.object_id FROM ztf_{s}.object o
        WHERE NOT EXISTS (SELECT 1 FROM ztf_{s}.source s WHERE s.object_id = o.object_id)""",
    "in": """
        SELECT count(*) AS n FROM ztf_{s}.source
        WHERE object_id IN (SELECT object_id FROM ztf_{s}.object WHERE type = 'SN II')""",
    "not in": """
        SELECT object_id FROM ztf_{s}.object
        WHERE object_id NOT IN (SELECT object_id FROM ztf_{s}.source WHERE band = 'g')""",
    "aggregate over join": """
        SELECT o.type, s.band, count(*) AS n, avg(s.mag) AS mean, min(s.mjd) AS first FROM ztf_{s}.object o
        JOIN ztf_{s}.source s ON o.object_id = s.object_id GROUP BY o.type, s.band""",
    "having over join": """
        SELECT o.object_id, max(s.mag) - min(s.mag) AS amplitude FROM rrlyr_{s}.object o
        JOIN rrlyr_{s}.source s USING (object_id) WHERE s.band = 'g' AND s.mag_err < 0.05
        GROUP BY o.object_id HAVING max(s.mag) - min(s.mag) > 1.2""",
    "top of join": """
        SELECT o.object_id, s.mag, s.mjd FROM ztf_{s}.object o JOIN ztf_{s}.source s ON o.object_id = s.object_id
        WHERE o.type = 'SN Ia' ORDER BY s.mag, s.mjd, o.object_id LIMIT 15""",
    "child child": """
        SELECT g.object_id, count(*) AS n, avg(g.mag - r.mag) AS colour FROM rrlyr_{s}.source g
        JOIN rrlyr_{s}.source r ON g.object_id = r.object_id AND abs(g.mjd - r.mjd) < 0.01
        WHERE g.band = 'g' AND r.band = 'r' AND g.mag < 50 AND r.mag < 50 AND g.object_id < 500000
        GROUP BY g.object_id""",
    "match by id": """
        SELECT h.hip, g.phot_g_mean_mag, h.hpmag FROM sky_{s}.gaia g JOIN hip_{s}.hipparcos2 h ON g.source_id = -h.hip""",
    "match by position": """
        SELECT g.source_id, h.hip FROM sky_{s}.gaia g JOIN hip_{s}.hipparcos2 h
        ON separation(g.ra, g.dec, h.ra_j1991, h.dec_j1991) < 0.002
        WHERE g.phot_g_mean_mag < 4 AND h.hpmag < 4.5""",
    "match of schemes": """
        SELECT count(*) AS n, sum(abs(a.ra - b.ra)) AS moved FROM sky_h.gaia a JOIN sky_s.gaia b
        ON a.source_id = b.source_id WHERE a.phot_g_mean_mag < 6""",
    "scalar sub-query": """
        SELECT hip, hpmag FROM hip_{s}.hipparcos2
        WHERE plx > 100 AND hpmag < (SELECT avg(hpmag) FROM hip_{s}.hipparcos2 WHERE plx > 20)""",
    "correlated sub-query": """
        SELECT o.object_id, (SELECT max(s.mag) FROM ztf_{s}.source s WHERE s.object_id = o.object_id) AS faintest
        FROM ztf_{s}.object o WHERE o.dec < -20""",
    "union all": """
        SELECT 'h' AS what, count(*) AS n FROM hip_{s}.hipparcos2 UNION ALL SELECT 'g', count(*) FROM sky_{s}.gaia""",
    "union": """
        SELECT object_id FROM ztf_{s}.source WHERE mag < 14 UNION SELECT object_id FROM ztf_{s}.object WHERE dec > 80""",
    "except": """
        SELECT object_id FROM ztf_{s}.object WHERE dec > 40 EXCEPT SELECT object_id FROM ztf_{s}.source WHERE band = 'R'""",
    "window": """
        SELECT object_id, mjd, mag, row_number() OVER (PARTITION BY object_id ORDER BY mjd, mag) AS k,
               mag - lag(mag) OVER (PARTITION BY object_id ORDER BY mjd, mag) AS step
        FROM ztf_{s}.source WHERE band = 'g' AND object_id < 'ZTF19'""",
    "with": """
        WITH bright AS (SELECT object_id, min(mag) AS peak FROM ztf_{s}.source GROUP BY object_id)
        SELECT o.type, count(*) AS n, avg(b.peak) AS mean FROM bright b JOIN ztf_{s}.object o USING (object_id)
        WHERE b.peak < 18 GROUP BY o.type""",
    "case": """
        SELECT CASE WHEN b_v < 0 THEN 'blue' WHEN b_v < 1 THEN 'white' ELSE 'red' END AS colour, count(*) AS n
        FROM hip_{s}.hipparcos2 GROUP BY 1""",
    "three tables": """
        SELECT f.filterName, count(*) AS n, count(o.objectId) AS with_object FROM case01_{s}.Source s
        JOIN case01_{s}.Filter f ON s.filterId = f.filterId
        LEFT JOIN case01_{s}.Object o ON s.objectId = o.objectId GROUP BY f.filterName""",
    "replicated with director child": """
        SELECT s.sourceId, m.refObjectId, o.ra_PS FROM case01_{s}.RefSrcMatch m
        JOIN case01_{s}.Source s ON m.sourceId = s.sourceId JOIN case01_{s}.Object o ON o.objectId = s.objectId""",
    "replicated alone": "SELECT * FROM case01_{s}.LeapSeconds ORDER BY whenJd",
    "limit of none": "SELECT hip FROM hip_{s}.hipparcos2 LIMIT 0",
    "values": "SELECT 1 + 1 AS two, 'sky' AS word, NULL AS nothing",
}

#: These are right when they give no rows.
MAY_BE_EMPTY = {"limit of none"}


@pytest.mark.parametrize("name", QUERIES)
def test_as_duckdb(sky: Cluster, duck: Duck, suffix: str, name: str) -> None:
    sql = QUERIES[name].format(s=suffix)
    theirs = duck.query(sql)
    assert theirs.num_rows > 0 or name in MAY_BE_EMPTY, "a query without rows tests nothing"
    # One scheme by pyarrow and one by ADBC: the same rows whoever fetches them.
    if suffix == "h":
        with sky.flight() as flight:
            ours = flight.query(sql)
    else:
        ours = clients.adbc_query(sky.url, sql)
    assert_same_rows(ours, theirs, ordered="ORDER BY" in sql and "OVER" not in sql)


def test_limit_without_order(sky: Cluster, duck: Duck, suffix: str) -> None:
    """Which rows is free, how many is not, and they must be rows of the table."""
    with sky.flight() as flight:
        ours = flight.query(f"SELECT hip, hpmag FROM hip_{suffix}.hipparcos2 WHERE hpmag < 7 LIMIT 1000")
    assert ours.num_rows == 1000
    rows = set(zip(*(column.to_pylist() for column in ours.columns)))
    assert len(rows) == 1000
    theirs = duck.query(f"SELECT hip, hpmag FROM hip_{suffix}.hipparcos2 WHERE hpmag < 7")
    assert rows <= set(zip(*(column.to_pylist() for column in theirs.columns)))
