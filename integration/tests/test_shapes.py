"""Circles, boxes and polygons anywhere on the sky give exactly the rows that brute force gives."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from skyflight_testing import catalogs
from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import FULL, SEED
from skyflight_testing.shapes import KINDS, places, random_shape
from skyflight_testing.sky import Positions, members

#: Shapes of each kind, for each scheme: three kinds make a thousand.
COUNT = 2_000 if FULL else 334


@pytest.fixture(scope="module")
def stars(data: Path) -> dict[str, Positions]:
    """The catalogs to look in, by the table's place."""
    tables = {table.name: table for database in catalogs.databases(data, "") for table in database.tables}
    return {name: catalogs.positions(tables[name]) for name in ("hipparcos2", "gaia")}


@pytest.mark.parametrize("kind", KINDS)
def test_random_shapes(sky: Cluster, stars: dict[str, Positions], suffix: str, kind: str) -> None:
    tables = {
        "hipparcos2": (f"hip_{suffix}.hipparcos2", "hip", "ra_j1991", "dec_j1991"),
        "gaia": (f"sky_{suffix}.gaia", "source_id", "ra", "dec"),
    }
    rng = random.Random(f"{SEED} {kind}")
    rows = empty = awkward = 0
    with sky.flight() as flight:
        for number in range(COUNT):
            name = rng.choice(sorted(tables))
            table, id, ra, dec = tables[name]
            place = places(rng)
            shape = random_shape(rng, stars[name], kind, place)
            spelling = rng.choice(shape.spellings(ra, dec))
            sql = f"SELECT {id} FROM {table} WHERE {spelling}"
            found = np.sort(flight.query(sql).column(0).to_numpy())
            certain, border = members(shape, stars[name])
            wrong = np.setdiff1d(np.setxor1d(found, certain), border)
            doubled = len(found) - len(np.unique(found))
            assert len(wrong) == 0 and doubled == 0, (
                f"{kind} {number} (seed {SEED}): {shape}\n{sql}\n{len(found)} rows, {doubled} twice, "
                f"{len(certain)} by brute force; differ: {wrong[:10]}"
            )
            rows += len(found)
            empty += len(found) == 0
            awkward += place != "anywhere"
    print(f"{COUNT} {kind} shapes, {awkward} at a pole or across RA 0, {rows} rows, {empty} empty")
    assert empty < COUNT / 2 and awkward >= COUNT / 5, "the shapes test too little"


def test_shapes_read_few_chunks(sky: Cluster, suffix: str) -> None:
    """A small circle must not be answered by reading the sky, in whichever words it is asked."""
    spellings = [
        "separation(ra, dec, 10.0, 20.0) < 0.1",
        "CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', 10, 20, 0.1)) = 1",
        "qserv_areaspec_circle(10, 20, 0.1)",
        "scisql_s2PtInCircle(ra, dec, 10, 20, 0.1) = 1",
        "ra BETWEEN 9.9 AND 10.1 AND dec BETWEEN 19.9 AND 20.1",
        "phot_g_mean_mag < 8 AND (separation(ra, dec, 10.0, 20.0) < 0.1 OR separation(ra, dec, 11.0, 20.0) < 0.1)",
    ]
    for spelling in spellings:
        chosen, total = sky.chunks_of(f"SELECT count(*) FROM sky_{suffix}.gaia WHERE {spelling}")
        assert 1 <= chosen <= 4 and total > 100, f"{chosen} of {total} chunks for {spelling}"


def test_a_scan_reads_all_chunks(sky: Cluster, suffix: str) -> None:
    chosen, total = sky.chunks_of(f"SELECT count(*) FROM sky_{suffix}.gaia WHERE phot_g_mean_mag < 8")
    assert chosen == total > 100
