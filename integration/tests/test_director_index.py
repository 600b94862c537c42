"""Ids are found by the director's index: only the chunks that hold them are read, and no row is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.tables import child, director, healpix, stripes

OBJECTS = 60_000
SCHEMES = {"h": healpix(row_limit=500), "s": stripes(count=40)}


def scattered(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    """Ids say nothing of the place: each chunk has small and large ones. 17 and 18 lie in two places each."""
    rng = np.random.default_rng(20)
    ids = rng.permutation(OBJECTS) * 1_000_003 - 9_000_000_000
    ids[:4] = [17, 17, 18, 18]
    ra, dec = scattered(rng, OBJECTS)
    objects = pa.table({"id": pa.array(ids, pa.int64()), "ra": ra, "dec": dec, "mag": rng.normal(18, 2, OBJECTS)})
    names = pa.table({"name": [f"star {n % 7:02}-{n:06}" for n in rng.permutation(5_000)], **dict(zip(("ra", "dec"), scattered(rng, 5_000)))})
    of = rng.choice(ids[4:], 90_000)
    sources = pa.table({"source": np.arange(90_000), "object": pa.array(of, pa.int64()), "flux": rng.normal(size=90_000)})
    return {"object": objects, "named": names, "source": sources}


@pytest.fixture(scope="module")
def index_sky(tables: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("director_index")
    files = {}
    for name, table in tables.items():
        files[name] = folder / f"{name}.parquet"
        pq.write_table(table, files[name])
    # The objects come in three ingests, so that the index has three files.
    thirds = []
    for part in range(3):
        thirds.append(folder / f"object{part}.parquet")
        pq.write_table(tables["object"].slice(part * OBJECTS // 3, OBJECTS // 3), thirds[part])
    with Cluster(folder / "cluster") as cluster:
        for suffix, scheme in SCHEMES.items():
            for part, file in enumerate(thirds):
                cluster.ingest(f"ids_{suffix}", [director("object", file, id="id")], scheme, mode="append" if part else None)
            others = [
                child("source", files["source"], of="object", key="object", id="source"),
                director("named", files["named"], id="name"),
            ]
            cluster.ingest(f"ids_{suffix}", others, mode="append")
        yield cluster


@pytest.fixture(scope="module")
def duck(tables: dict[str, pa.Table]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for name, table in tables.items():
        connection.register(name, table)
    return connection


@pytest.fixture(scope="module", params=SCHEMES)
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


def check(cluster: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, sql: str, most_chunks: int) -> int:
    """The answer is DuckDB's, and at most so many chunks are chosen. The number of rows."""
    ours = sql.replace("FROM ", f"FROM ids_{suffix}.")
    with cluster.flight() as flight:
        answer = flight.query(ours)
    expected = duck.sql(sql).to_arrow_table()
    assert_same_rows(answer, expected)
    chosen, total = cluster.chunks_of(ours)
    assert chosen <= most_chunks < total, (sql[:200], chosen, total)
    return answer.num_rows


def listed(values: object) -> str:
    return ", ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in values)


def test_one_id(index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, tables: dict[str, pa.Table]) -> None:
    for id in tables["object"].column("id").slice(100, 5).to_pylist():
        assert check(index_sky, duck, suffix, f"SELECT id, ra, mag FROM object WHERE id = {id}", 1) == 1
    for name in tables["named"].column("name").slice(0, 3).to_pylist():
        check(index_sky, duck, suffix, f"SELECT name, ra FROM named WHERE name = '{name}'", 1)


def test_ids_that_are_nowhere_and_ids_in_two_places(
    index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str
) -> None:
    assert check(index_sky, duck, suffix, "SELECT id FROM object WHERE id = 19", 0) == 0
    assert check(index_sky, duck, suffix, "SELECT id FROM object WHERE id IN (1, 2, -5, NULL)", 0) == 0
    assert check(index_sky, duck, suffix, "SELECT name FROM named WHERE name = 'star'", 0) == 0
    assert check(index_sky, duck, suffix, "SELECT id, ra FROM object WHERE id IN (17, 18, 19)", 4) == 4
    assert check(index_sky, duck, suffix, "SELECT id, ra FROM object WHERE id = 17 OR id = 18", 4) == 4


@pytest.mark.parametrize("count", [2, 30])
def test_lists(index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, tables: dict[str, pa.Table], count: int) -> None:
    ids = tables["object"].column("id").to_pylist()[1000 : 1000 + count]
    assert check(index_sky, duck, suffix, f"SELECT id, ra FROM object WHERE id IN ({listed(ids)})", count) == count
    rows = check(index_sky, duck, suffix, f"SELECT source, object FROM source WHERE object IN ({listed(ids)})", count)
    assert count == 2 or rows > 0
    names = tables["named"].column("name").to_pylist()[:count]
    assert check(index_sky, duck, suffix, f"SELECT name FROM named WHERE name IN ({listed(names)})", count) >= count


def test_a_list_as_long_as_may_be(index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, tables: dict[str, pa.Table]) -> None:
    """All of its ids are in one chunk, which alone is read."""
    near = duck.sql("SELECT id FROM object WHERE dec > 89").to_arrow_table().column("id").to_pylist()
    absent = [3 + 1_000_003 * n for n in range(99_000)]
    sql = f"SELECT id, mag FROM object WHERE id IN ({listed(near + absent)})"
    assert check(index_sky, duck, suffix, sql, 30) == len(near) > 0


def test_what_the_index_does_not_know(index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str) -> None:
    """A condition that any id may pass leaves every chunk."""
    for sql in [
        "SELECT count(*) AS n FROM object WHERE id NOT IN (17, 18)",
        "SELECT count(*) AS n FROM object WHERE id = 17 OR mag > 20",
        "SELECT count(*) AS n FROM object WHERE id % 7 = 3",
    ]:
        with index_sky.flight() as flight:
            answer = flight.query(sql.replace("FROM ", f"FROM ids_{suffix}."))
        assert_same_rows(answer, duck.sql(sql).to_arrow_table())
        assert answer.column("n")[0].as_py() > 0
