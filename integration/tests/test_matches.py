"""Matches of real catalogs: the reference counts of the test data, which come from a kd-tree on unit vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import Scheme, director, healpix, stripes

# The overlap reaches 60 arcseconds: wider matches run above the workers, and must count the same.
SCHEMES: dict[str, Scheme] = {"healpix": healpix(row_limit=60_000), "stripes": stripes(36, 6)}


@pytest.fixture(scope="module", params=SCHEMES)
def matched(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("matches") / "cluster") as cluster:
        tables = [
            director("gaia", data / "sky/gaia_dr3_g10.parquet", "source_id"),
            director("tycho2", data / "sky/tycho2_idx07.parquet", "row"),
            director("hipparcos", data / "sky/hipparcos2.parquet", "hip", "ra_j1991", "dec_j1991"),
        ]
        cluster.ingest("sky", tables, SCHEMES[request.param], within_s=300)
        # The same stars cut another way: no chunk of one holds those of the other.
        cluster.ingest("other", [tables[2]], healpix(row_limit=5_000, min_order=2))
        yield cluster


NEAR = "separation(g.ra, g.dec, t.ra, t.dec) < {arcsec} / 3600e0"
HIPPARCOS = "separation(h.ra, h.dec, g.ra, g.dec) < {arcsec} / 3600e0"
AS_THEY_ARE = "(SELECT hip, ra_j1991 AS ra, dec_j1991 AS dec FROM {database}.hipparcos)"
# Linear motion from J1991.25 to J2016.0, the reference's own.
MOVED = (
    "(SELECT hip, ra_j1991 + coalesce(pmra, 0) * 24.75 / 3.6e6 / cos(radians(dec_j1991)) AS ra, "
    "dec_j1991 + coalesce(pmdec, 0) * 24.75 / 3.6e6 AS dec FROM {database}.hipparcos)"
)


def count(cluster: Cluster, sql: str) -> int:
    with cluster.flight() as flight:
        found = flight.value(sql)
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize(("arcsec", "expected"), [(0.5, 359_158), (1, 423_223), (2, 452_680), (5, 464_356)])
def test_gaia_stars_with_a_tycho_star_near(matched: Cluster, arcsec: float, expected: int) -> None:
    near = NEAR.format(arcsec=arcsec)
    sql = f"SELECT count(*) FROM sky.gaia g WHERE EXISTS (SELECT 1 FROM sky.tycho2 t WHERE {near})"
    assert count(matched, sql) == expected


def test_all_pairs_of_gaia_and_tycho(matched: Cluster) -> None:
    near = NEAR.format(arcsec=5)
    assert count(matched, f"SELECT count(*) FROM sky.gaia g JOIN sky.tycho2 t ON {near}") == 466_717
    several = f"SELECT g.source_id FROM sky.gaia g, sky.tycho2 t WHERE {near} GROUP BY g.source_id HAVING count(*) > 1"
    assert count(matched, f"SELECT count(*) FROM ({several}) x") == 2_359


@pytest.mark.parametrize(("arcsec", "expected"), [(10, 4_797), (30, 15_309), (60, 47_080), (120, 169_846)])
def test_tycho_neighbours(matched: Cluster, arcsec: float, expected: int) -> None:
    sql = (
        "SELECT count(*) FROM sky.tycho2 a JOIN sky.tycho2 b "
        f"ON scisql_angSep(a.ra, a.dec, b.ra, b.dec) < {arcsec} / 3600e0 AND a.row < b.row"
    )
    assert count(matched, sql) == expected
    plan = matched.explain(sql)
    assert ("SphericalJoinExec" in plan["merge_plan"]) == (arcsec > 60), "beside the chunks up to the overlap"


@pytest.mark.parametrize("database", ["sky", "other"])
@pytest.mark.parametrize(("stars", "arcsec", "expected"), [
    (AS_THEY_ARE, 1, 76_448), (MOVED, 1, 109_794), (AS_THEY_ARE, 0.1, 7_136), (MOVED, 0.1, 101_864),
])  # fmt: skip
def test_hipparcos_stars_with_a_gaia_star_near(matched: Cluster, database: str, stars: str, arcsec: float, expected: int) -> None:
    near = HIPPARCOS.format(arcsec=arcsec)
    stars = stars.format(database=database)
    sql = f"SELECT count(*) FROM {stars} h WHERE EXISTS (SELECT 1 FROM sky.gaia g WHERE {near})"
    assert count(matched, sql) == expected


def test_the_nearest_of_each(matched: Cluster) -> None:
    """One row for each Gaia star that has a neighbour, as a window over the pairs says."""
    near = NEAR.format(arcsec=5)
    pairs = (
        "SELECT g.source_id, t.row, row_number() OVER (PARTITION BY g.source_id ORDER BY separation(g.ra, g.dec, t.ra, t.dec), t.row) AS rank "
        f"FROM sky.gaia g JOIN sky.tycho2 t ON {near}"
    )
    assert count(matched, f"SELECT count(*) FROM ({pairs}) x WHERE rank = 1") == 464_356


# Qserv's own test: 870 of the ordered pairs cross a chunk of its 85 stripes.
DEEP_SOURCE = "SELECT count(*) FROM deep.DeepSource a, deep.DeepSource b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 0.016 AND a.deepSourceId <> b.deepSourceId"


@pytest.mark.parametrize("overlap_deg", [0.01667, 0.01])
def test_deep_source_neighbours(data: Path, tmp_path: Path, overlap_deg: float) -> None:
    """With an overlap above and below the radius."""
    with Cluster(tmp_path / "cluster") as cluster:
        table = director("DeepSource", data / "qserv/case04/DeepSource.parquet", "deepSourceId", "ra", "decl")
        cluster.ingest("deep", [table], stripes(85, 12, overlap_deg))
        assert count(cluster, DEEP_SOURCE) == 9_750
        assert ("SphericalJoinExec" in cluster.explain(DEEP_SOURCE)["merge_plan"]) == (overlap_deg < 0.016)
