"""Ids are found by the director's index: only the chunks that hold them are read, and no row is lost."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.tables import child, director, healpix, replicated, stripes

OBJECTS = 60_000
# The first of three ingests, of a third of the objects, decides on the cells: 192 of them.
SCHEMES = {"h": healpix(row_limit=150), "s": stripes(count=40)}


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
    # Some have an object that lies in two places, one that is nowhere, or none.
    of = rng.choice(ids, 90_000)
    of[:40] = [17, 18] * 20
    of[40:1_000] = rng.integers(1, 120, 960) * 7 + 20
    unknown = np.arange(90_000) % 90 == 89
    sources = pa.table({
        "source": np.arange(90_000), "object": pa.array(of, pa.int64(), mask=unknown), "flux": rng.normal(size=90_000),
        **dict(zip(("ra", "dec"), scattered(rng, 90_000))),
    })
    few = [17, 18, 19, None, *ids[500:526].tolist()]
    small = pa.table({"object_id": pa.array(few + few[:3], pa.int64()), "label": [f"n{n:02}" for n in range(len(few) + 3)]})
    return {"object": objects, "named": names, "source": sources, "small": small}


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
                child("source", files["source"], of="object", key="object", id="source", ra="ra", dec="dec"),
                director("named", files["named"], id="name"),
                replicated("small", files["small"]),
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


def test_rows_of_a_child_whose_object_is_in_two_places_or_nowhere(
    index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str
) -> None:
    """They lie with one of the objects, or where they are themselves, and only there they are looked for."""
    assert check(index_sky, duck, suffix, "SELECT source, flux FROM source WHERE object = 17", 2) >= 20
    assert check(index_sky, duck, suffix, "SELECT source, flux FROM source WHERE object IN (17, 18, 19)", 4) >= 40
    # 27 has sources but is no object, and 22 is nothing.
    assert check(index_sky, duck, suffix, "SELECT object, source FROM source WHERE object = 27", 20) > 1
    assert check(index_sky, duck, suffix, "SELECT object FROM source WHERE object = 22", 0) == 0
    assert check(index_sky, duck, suffix, "SELECT object, source FROM source WHERE object BETWEEN 28 AND 40", 40) > 2
    with index_sky.flight() as flight:
        found = flight.query(f"SELECT count(*) AS n FROM ids_{suffix}.source WHERE object IS NULL")
    assert found.column("n").to_pylist() == [1_000]


CROWD = 120_000


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, duckdb.DuckDBPyConnection]]:
    """So many objects in one chunk that a file has many pages, and a light curve of each; twins, orphans and NULLs."""
    rng = np.random.default_rng(21)
    folder = tmp_path_factory.mktemp("crowd")
    ids = rng.permutation(CROWD) * 7 - 100_000
    ids[:4] = [17, 17, 18, 18]
    objects = pa.table({
        "id": pa.array(ids, pa.int64()), "ra": rng.uniform(10, 12, CROWD), "dec": rng.uniform(40, 42, CROWD),
        "mag": rng.normal(18, 2, CROWD),
    })
    of = rng.choice(ids, 3 * CROWD)
    of[:60] = [17, 18, 19, 20, 21, 22] * 10
    epochs = pa.table({
        "object": pa.array(of, pa.int64(), mask=np.arange(3 * CROWD) % 100 == 99), "time": rng.uniform(0, 1e4, 3 * CROWD),
        "flux": rng.normal(size=3 * CROWD),
    })
    duck = duckdb.connect()
    with Cluster(folder / "cluster") as cluster:
        for name, table in (("object", objects), ("epoch", epochs)):
            duck.register(name, table)
            # In two parts, the second placed beside what the first and the second hold.
            half = table.num_rows // 2
            for part in range(2):
                pq.write_table(table.slice(part * half, half), folder / f"{name}{part}.parquet")
        for part in range(2):
            tables = [
                director("object", folder / f"object{part}.parquet", id="id"),
                child("epoch", folder / f"epoch{part}.parquet", of="object", key="object"),
            ]
            cluster.ingest("crowd", tables, healpix(row_limit=1_000_000), mode="append" if part else None)
        yield cluster, duck


def test_few_pages_are_read_for_few_ids(crowd: tuple[Cluster, duckdb.DuckDBPyConnection]) -> None:
    """The index tells the cells of the rows too, by which the files are sorted."""
    cluster, duck = crowd
    some = [id for (id,) in duck.sql("SELECT id FROM object WHERE id % 2_003 = 0 ORDER BY id LIMIT 20").fetchall()]
    assert len(some) == 20
    for ids in ([some[0]], [some[1]], [17], [18], some[2:5], some, [17, 18, 19, 20, 21, 22, 23], [19]):
        for sql in (
            f"SELECT id, ra, dec, mag FROM {{}}object WHERE id IN ({listed(ids)})",
            f"SELECT object, time, flux FROM {{}}epoch WHERE object IN ({listed(ids)})",
            f"SELECT o.id, e.time FROM {{}}object o JOIN {{}}epoch e ON o.id = e.object WHERE o.id IN ({listed(ids)})",
            f"SELECT o.id, e.time FROM {{}}object o LEFT JOIN {{}}epoch e ON o.id = e.object AND e.flux > 0 "
            f"WHERE o.id IN ({listed(ids)})",
        ):
            with cluster.flight() as flight:
                assert_same_rows(flight.query(sql.format(*["crowd."] * 2)), duck.sql(sql.format("", "")).to_arrow_table())
    whole = cluster.counters("SELECT id, ra, dec, mag FROM crowd.object")["bytes_read"]
    one = cluster.counters(f"SELECT id, ra, dec, mag FROM crowd.object WHERE id = {some[0]}")
    assert one["bytes_read"] < whole / 5, (one, whole)
    whole = cluster.counters("SELECT object, time, flux FROM crowd.epoch")["bytes_read"]
    one = cluster.counters(f"SELECT object, time, flux FROM crowd.epoch WHERE object = {some[0]}")
    assert one["bytes_read"] < whole / 16, (one, whole)


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


RANGES = [
    # About a tenth of a percent of the ids, which lie in 60 chunks at most of hundreds.
    "SELECT id, ra FROM object WHERE id BETWEEN 1000003000 AND 1060003180",
    "SELECT id, ra FROM object WHERE id > 1000003000 AND id <= 1040003120",
    "SELECT id, mag FROM object WHERE 50932150000 < id AND id < 50990000000",
    "SELECT id FROM object WHERE id < -8960000000",
    "SELECT name, ra FROM named WHERE name >= 'star 03-000100' AND name < 'star 03-000350'",
    "SELECT source, object FROM source WHERE object BETWEEN 1000003000 AND 1020003060",
]


@pytest.mark.parametrize("sql", RANGES)
def test_ranges(index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, sql: str) -> None:
    """Each chunk has small and large ids, so their statistics leave all of them: the index does not."""
    assert check(index_sky, duck, suffix, sql, 70) > 0


def test_ranges_that_hold_nothing(index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str) -> None:
    assert check(index_sky, duck, suffix, "SELECT id FROM object WHERE id BETWEEN 19 AND 25", 0) == 0
    assert check(index_sky, duck, suffix, "SELECT id FROM object WHERE id > 30 AND id < 20", 0) == 0
    # 17 and 18 lie in two places each.
    assert check(index_sky, duck, suffix, "SELECT id, ra FROM object WHERE id >= 17 AND id < 19", 4) == 4


def leaf_with(cluster: Cluster, sql: str, table: str) -> tuple[int, int]:
    """Chunks chosen of chunks in all, of the leaf that reads a table."""
    plan = cluster.explain(sql)
    for kind, text in plan.items():
        if kind.startswith("fragment") and f".{table}" in text:
            found = re.search(r"(\d+) of (\d+) chunks", plan[kind.replace("fragment", "chunks")])
            assert found, plan
            return int(found[1]), int(found[2])
    raise AssertionError(plan)


def small_joins(ids: list[int]) -> list[tuple[str, str, int]]:
    values = ", ".join(f"({id})" for id in ids)
    return [
        (f"SELECT id, mag FROM object JOIN (VALUES {values}) AS v(wanted) ON id = wanted", "object", len(ids)),
        (f"SELECT id, mag FROM object WHERE id IN (SELECT wanted FROM (VALUES {values}, (19)) AS v(wanted))", "object", len(ids)),
        (f"SELECT wanted, mag FROM (VALUES {values}, (19)) AS v(wanted) LEFT JOIN object ON id = wanted", "object", len(ids)),
        ("SELECT id, label, mag FROM object JOIN small ON id = object_id", "object", 30),
        ("SELECT count(*) AS n, count(mag) AS m FROM small LEFT JOIN object ON id = object_id", "object", 30),
        ("SELECT source, flux FROM source WHERE object IN (SELECT object_id FROM small WHERE label < 'n10')", "source", 30),
        ("SELECT o.id, s.flux FROM object o JOIN source s ON s.object = o.id JOIN small t ON t.object_id = o.id WHERE t.label > 'n20'", "object", 30),
        ("SELECT id FROM object WHERE id IN (SELECT object_id FROM small WHERE label = 'nowhere')", "object", 0),
        ("SELECT id, mag FROM object WHERE id IN (SELECT max(object_id) FROM small)", "object", 1),
    ]


@pytest.mark.parametrize("number", range(9))
def test_joins_with_a_small_side(
    index_sky: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, tables: dict[str, pa.Table], number: int
) -> None:
    """The small side's ids choose the chunks of the large one, and no row is lost; duplicate and absent ids are among them."""
    sql, table, most = small_joins([17, 18, *tables["object"].column("id").to_pylist()[2000:2010]])[number]
    ours = re.sub(r"(FROM|JOIN) (object|source|small)\b", rf"\1 ids_{suffix}.\2", sql)
    with index_sky.flight() as flight:
        answer = flight.query(ours)
    assert_same_rows(answer, duck.sql(sql).to_arrow_table())
    assert (answer.num_rows == 0) == (most == 0)
    chosen, total = leaf_with(index_sky, ours, table) if most else (0, 1)
    # 17 and 18 lie in two chunks each.
    assert chosen <= most + 2 and (most == 0 or chosen < total), (sql, chosen, total)


def test_explain_says_what_was_asked(index_sky: Cluster, suffix: str, tables: dict[str, pa.Table]) -> None:
    plan = index_sky.explain(f"SELECT id FROM ids_{suffix}.object JOIN ids_{suffix}.small ON id = object_id")
    distinct = len(set(tables["small"].column("object_id").to_pylist()) - {None})
    assert plan["ids first"].startswith(f"{distinct} ids for "), plan
    assert "ids first" not in index_sky.explain(f"SELECT id FROM ids_{suffix}.object WHERE mag < 10")
    # A child lies beside its director; where ids lie in two chunks it need not, and then it is asked.
    sql = f"SELECT flux, mag FROM ids_{suffix}.source JOIN ids_{suffix}.object ON object = id WHERE object IN (17, 18)"
    assert leaf_with(index_sky, sql, "object")[0] <= 4


def test_keys_of_other_types(index_sky: Cluster, suffix: str, tables: dict[str, pa.Table]) -> None:
    """A narrower key on the small side is widened; one that no id can have finds nothing."""
    for values, rows in [("(CAST(17 AS INT)), (CAST(18 AS INT))", 4), ("(CAST(NULL AS BIGINT)), (17)", 2)]:
        sql = f"SELECT id, ra FROM ids_{suffix}.object JOIN (VALUES {values}) AS v(wanted) ON id = wanted"
        with index_sky.flight() as flight:
            assert flight.query(sql).num_rows == rows
        assert leaf_with(index_sky, sql, "object")[0] <= 4
    first = tables["named"].column("name")[0].as_py()
    sql = f"SELECT name FROM ids_{suffix}.named JOIN (VALUES ('{first}'), ('nobody')) AS v(wanted) ON name = wanted"
    with index_sky.flight() as flight:
        found = flight.query(sql).num_rows
    assert found == tables["named"].column("name").to_pylist().count(first)
    assert leaf_with(index_sky, sql, "named")[0] <= found


def test_a_prepared_join_is_asked_with_its_values(index_sky: Cluster, suffix: str, tables: dict[str, pa.Table]) -> None:
    sql = f"""SELECT id, label FROM ids_{suffix}.object JOIN ids_{suffix}.small ON id = object_id
              WHERE label = ? ORDER BY id"""
    with index_sky.adbc() as connection, connection.cursor() as cursor:
        for label in ("n00", "n07", "nowhere"):
            cursor.execute(sql, (label,))
            found = cursor.fetch_arrow_table().column("id").to_pylist()
            wanted = [i for i, l in zip(*(tables["small"].column(c).to_pylist() for c in ("object_id", "label"))) if l == label]
            ids = tables["object"].column("id").to_pylist()
            assert found == sorted(id for id in ids if id in wanted)


def test_a_small_side_that_may_differ_is_not_asked_first(
    index_sky: Cluster, suffix: str
) -> None:
    """Asked twice it could give other rows, and the join would lose what only one of them has."""
    sql = f"SELECT id FROM ids_{suffix}.object WHERE id IN (SELECT object_id FROM ids_{suffix}.small LIMIT 5)"
    with index_sky.flight() as flight:
        assert 0 < flight.query(sql).num_rows <= 10
    chosen, total = leaf_with(index_sky, sql, "object")
    assert chosen == total


def index_files(cluster: Cluster, table: str) -> list[tuple[int, int]]:
    """Ids and rows of the index files that a table has now."""
    return cluster.records(
        "SELECT f.id, f.row_count FROM files f JOIN tables t ON t.id = f.table_id "
        "WHERE t.name_key = ? AND f.kind = 'director_index' AND f.until_snapshot IS NULL", table
    )


def test_many_small_ingests_and_one_that_is_killed(tmp_path: Path) -> None:
    """Look-ups between ingests find every row; runs are merged, and a kill at any moment loses nothing."""
    rng = np.random.default_rng(5)
    ids = rng.permutation(6_000)
    duck = duckdb.connect()
    duck.sql("CREATE TABLE object (id BIGINT, ra DOUBLE, dec DOUBLE)")
    kills = 0
    with Cluster(tmp_path / "cluster") as cluster, cluster.flight() as flight:
        for n in range(14):
            # Each takes up some ids of the one before again, elsewhere.
            part = ids[n * 200 : n * 200 + 230]
            ra, dec = scattered(rng, len(part))
            rows = pa.table({"id": pa.array(part, pa.int64()), "ra": ra, "dec": dec})
            file = tmp_path / f"{n}.parquet"
            pq.write_table(rows, file)
            tables, scheme = [director("object", file, id="id")], healpix(row_limit=100)
            mode = "append" if n else None
            if n >= 7:
                command = cluster.ingest_command("grown", tables, scheme, mode=mode)
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(rng.uniform(0.02, 0.4))
                process.kill()
                killed = process.wait() != 0
                kills += killed
                before = flight.query("SELECT count(*) AS n FROM grown.object").column("n")[0].as_py()
                # One that was killed too late had committed.
                done = before != _count(duck)
                assert done or killed
                _same(flight, duck if not done else _with(duck, rows), rng)
                if done:
                    continue
            cluster.ingest("grown", tables, scheme, mode=mode)
            _with(duck, rows)
            files = index_files(cluster, "object")
            assert len(files) <= 8 and sum(rows for _, rows in files) == _count(duck)
            _same(flight, duck, rng)
        assert kills >= 3
        chosen, total = cluster.chunks_of(f"SELECT ra FROM grown.object WHERE id = {ids[1_000]}")
        assert chosen <= 2 < total


def _count(duck: duckdb.DuckDBPyConnection) -> int:
    return duck.execute("SELECT count(*) FROM object").fetchall()[0][0]


def _with(duck: duckdb.DuckDBPyConnection, rows: pa.Table) -> duckdb.DuckDBPyConnection:
    duck.register("more", rows)
    duck.sql("INSERT INTO object SELECT id, ra, dec FROM more")
    return duck


def _same(flight, duck: duckdb.DuckDBPyConnection, rng: np.random.Generator) -> None:
    """The rows of ids that are there once, twice and not at all."""
    wanted = ", ".join(str(id) for id in rng.integers(0, 6_000, 40))
    for condition in (f"id IN ({wanted})", f"id = {rng.integers(0, 6_000)}", "id BETWEEN 100 AND 160", "id >= 5990"):
        sql = f"SELECT id, ra, dec FROM {{}}object WHERE {condition}"
        assert_same_rows(flight.query(sql.format("grown.")), duck.sql(sql.format("")).to_arrow_table())
