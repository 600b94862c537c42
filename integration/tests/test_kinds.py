"""Companions and matches: rows lie where their directors do, pairs in the chunks of both, and every join has the answer of
one big database, inside the chunks where that can be proved and above them where not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyflight_testing.cluster import Cluster, IngestFailed
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.tables import child, companion, director, healpix, match, replicated, stripes

OBJECTS = 6_000
SCHEMES = {"h": healpix(row_limit=60), "s": stripes(count=40)}
#: Pairs are at most this far apart; the overlap is an arcminute.
NEAR_DEG = 50 / 3600


def beside(rng: np.random.Generator, ra: np.ndarray, dec: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """A position within `reach` degrees of each."""
    north = rng.uniform(-0.7, 0.7, len(ra)) * reach
    east = rng.uniform(-0.7, 0.7, len(ra)) * reach
    to = np.clip(dec + north, -90, 90)
    return (ra + east / np.maximum(np.cos(np.radians(np.maximum(abs(dec), abs(to)))), 1e-3) + 360) % 360, to


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    """Objects crowd along borders: of HEALPix base cells, of stripes, at right ascension 0 and the poles."""
    rng = np.random.default_rng(31)
    ra, dec = rng.uniform(0, 360, OBJECTS), np.degrees(np.arcsin(rng.uniform(-1, 1, OBJECTS)))
    crowd = np.arange(OBJECTS) % 2 == 0
    ra[crowd] = (rng.integers(0, 8, crowd.sum()) * 45 + rng.uniform(-0.02, 0.02, crowd.sum()) + 360) % 360
    dec[crowd] = rng.choice([-85.5, -45, -4.5, 0, 4.5, 31.5, 89.99], crowd.sum()) + rng.uniform(-0.01, 0.01, crowd.sum())
    ids = rng.permutation(OBJECTS) * 1_009 - 500_000
    objects = pa.table({"id": pa.array(ids, pa.int64()), "ra": ra, "dec": dec, "mag": rng.normal(18, 2, OBJECTS)})
    star_ra, star_dec = beside(rng, ra, dec, NEAR_DEG)
    star_ids = rng.permutation(OBJECTS) + 10_000_000
    stars = pa.table({"star": pa.array(star_ids, pa.int64()), "ra": star_ra, "dec": star_dec, "gmag": rng.normal(15, 2, OBJECTS)})

    of = rng.choice(OBJECTS, OBJECTS, replace=True)
    object_key, star_key = list(map(int, ids[of])), list(map(int, star_ids[of]))
    for row in range(0, OBJECTS, 50):
        object_key[row] = -7 * row - 1 - 10**9
        star_key[row + 1] = 5 + row
        object_key[row + 2] = None
        star_key[row + 3] = None
        object_key[row + 4], star_key[row + 4] = 10**12 + row, None
    serial = np.arange(OBJECTS)
    near = pa.table({"id": pa.array(object_key, pa.int64()), "star": pa.array(star_key, pa.int64()), "weight": rng.normal(size=OBJECTS), "n": serial})
    # Any object with any: nearly all pairs lie in two chunks far apart.
    wide = pa.table({"a": pa.array(ids[rng.integers(0, OBJECTS, 4_000)], pa.int64()), "b": pa.array(ids[rng.integers(0, OBJECTS, 4_000)], pa.int64()), "m": np.arange(4_000)})
    extra_of = rng.permutation(OBJECTS)[: OBJECTS * 3 // 4]
    extra_ids = np.concatenate([ids[extra_of], 10**13 + np.arange(20)])
    extra = pa.table({"id": pa.array(extra_ids, pa.int64()), "colour": rng.normal(size=len(extra_ids)), "class": [f"c{n % 5}" for n in range(len(extra_ids))]})
    source_of = rng.choice(ids, 15_000)
    sources = pa.table({"source": np.arange(15_000), "id": pa.array(source_of, pa.int64()), "flux": rng.normal(size=15_000)})
    classes = pa.table({"class": [f"c{n}" for n in range(7)], "name": [f"class {n}" for n in range(7)]})
    return {"object": objects, "star": stars, "near": near, "wide": wide, "extra": extra, "source": sources, "class": classes}


@pytest.fixture(scope="module")
def kinds(tables: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("kinds")
    files = {}
    for name, table in tables.items():
        files[name] = folder / f"{name}.parquet"
        pq.write_table(table, files[name])
    with Cluster(folder / "cluster") as cluster:
        for suffix, scheme in SCHEMES.items():
            described = [
                director("object", files["object"], "id"),
                director("star", files["star"], "star"),
                companion("extra", files["extra"], "object", "id"),
                child("source", files["source"], "object", "id", id="source"),
                match("near", files["near"], ("object", "id"), ("star", "star")),
                match("wide", files["wide"], ("object", "a"), ("object", "b")),
                replicated("class", files["class"]),
            ]
            told = cluster.ingest(f"kinds_{suffix}", described, scheme)
            assert "extra: 4520 rows" in told and ", 20 orphans" in told, told
            assert re.search(r"near: 6000 rows in \d+ chunks, \d+ overlap rows, 600 orphans", told), told
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"


@pytest.fixture(scope="module")
def duck(tables: dict[str, pa.Table]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for name, table in tables.items():
        connection.register(name, table)
    return connection


@pytest.fixture(scope="module", params=SCHEMES)
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


def check(cluster: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, sql: str, leaves: int | None) -> None:
    """The answer is DuckDB's and has rows; so many leaves there are, of which one holds all joins."""
    ours = re.sub(r"\b(FROM|JOIN) (object|star|extra|source|near|wide|class)\b", rf"\1 kinds_{suffix}.\2", sql)
    with cluster.flight() as flight:
        answer = flight.query(ours)
    assert_same_rows(answer, duck.sql(sql).to_arrow_table())
    assert answer.num_rows > 0, sql
    plan = cluster.explain(ours)
    found = sum(kind.startswith("chunks ") for kind in plan)
    assert leaves is None or found == leaves, (sql, plan)


COMPANION = [
    ("SELECT count(*) AS n, count(colour) AS c FROM extra", None),
    ("SELECT o.id, e.colour FROM object o JOIN extra e ON o.id = e.id WHERE mag < 16", 1),
    ("SELECT id, mag, colour FROM object JOIN extra USING (id) WHERE colour > 1", 1),
    ("SELECT count(*) AS n, count(e.id) AS e FROM object o LEFT JOIN extra e ON o.id = e.id", 1),
    ("SELECT count(*) AS n, count(o.id) AS o FROM object o RIGHT JOIN extra e ON o.id = e.id", 1),
    ("SELECT count(*) AS n, count(o.id) AS o, count(e.id) AS e FROM object o FULL JOIN extra e ON o.id = e.id", 1),
    ("SELECT count(*) AS n FROM object o WHERE EXISTS (SELECT 1 FROM extra e WHERE e.id = o.id AND colour > 0)", 1),
    ("SELECT count(*) AS n FROM object o WHERE NOT EXISTS (SELECT 1 FROM extra e WHERE e.id = o.id)", 1),
    ("SELECT e.id FROM extra e WHERE NOT EXISTS (SELECT 1 FROM object o WHERE e.id = o.id)", 1),
    ("SELECT class, count(*) AS n, sum(flux) AS f FROM object JOIN extra USING (id) JOIN source USING (id) GROUP BY class", 1),
    ("SELECT c.name, count(*) AS n FROM extra e JOIN source s ON s.id = e.id JOIN class c ON c.class = e.class GROUP BY c.name", 1),
]


@pytest.mark.parametrize(("sql", "leaves"), COMPANION)
def test_companion(kinds: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, sql: str, leaves: int | None) -> None:
    check(kinds, duck, suffix, sql, leaves)


NEAR = [
    # Each pair once, though many lie in two chunks; orphans too.
    ("SELECT count(*) AS n, count(id) AS i, count(star) AS s, count(DISTINCT n) AS d, sum(weight) AS w FROM near", None),
    ("SELECT id, star, weight, n FROM near", 1),
    ("SELECT min(id) AS a, max(id) AS b, min(star) AS c, max(star) AS d, count(*) AS n FROM near", None),
    ("SELECT n FROM near WHERE id IS NULL OR star IS NULL", 1),
    # With the first director, the second, and both.
    ("SELECT m.n, o.mag FROM near m JOIN object o ON m.id = o.id", 1),
    ("SELECT m.n, s.gmag FROM near m JOIN star s ON m.star = s.star", 1),
    ("SELECT m.n, o.mag, s.gmag FROM near m JOIN object o ON m.id = o.id JOIN star s ON m.star = s.star", 1),
    ("SELECT m.n, o.mag, s.gmag FROM object o JOIN near m ON m.id = o.id JOIN star s ON s.star = m.star WHERE o.dec > 30", 1),
    ("SELECT m.n, o.mag, s.gmag FROM star s JOIN near m ON m.star = s.star JOIN object o ON o.id = m.id WHERE s.gmag < 16", 1),
    ("SELECT n, mag, gmag FROM object JOIN near USING (id) JOIN star USING (star) WHERE mag < gmag + 2", 1),
    # Outer, in all directions.
    ("SELECT count(*) AS n, count(o.id) AS o FROM near m LEFT JOIN object o ON m.id = o.id", 1),
    ("SELECT count(*) AS n, count(s.star) AS s FROM near m LEFT JOIN star s ON m.star = s.star", 1),
    ("SELECT count(*) AS n, count(m.n) AS m, count(o.id) AS o FROM near m RIGHT JOIN object o ON m.id = o.id", 1),
    ("SELECT count(*) AS n, count(m.n) AS m, count(s.star) AS s FROM near m RIGHT JOIN star s ON m.star = s.star", 1),
    ("SELECT count(*) AS n, count(m.n) AS m, count(s.star) AS s FROM near m FULL JOIN star s ON m.star = s.star", 1),
    ("SELECT count(*) AS n, count(o.id) AS o, count(s.star) AS s FROM near m LEFT JOIN object o ON m.id = o.id LEFT JOIN star s ON m.star = s.star", 1),
    ("SELECT count(*) AS n, count(m.n) AS m, count(s.star) AS s FROM object o LEFT JOIN near m ON m.id = o.id LEFT JOIN star s ON m.star = s.star", 1),
    ("SELECT count(*) AS n, count(m.n) AS m, count(o.id) AS o FROM near m JOIN object o ON m.id = o.id RIGHT JOIN star s ON m.star = s.star", 1),
    # Here unmatched rows of beside a chunk would come out more than once.
    ("SELECT count(*) AS n, count(m.n) AS m, count(o.id) AS o, count(s.star) AS s FROM object o FULL JOIN near m ON m.id = o.id FULL JOIN star s ON m.star = s.star", 2),
    # Semi and anti.
    ("SELECT count(*) AS n FROM object o WHERE EXISTS (SELECT 1 FROM near m WHERE m.id = o.id)", 1),
    ("SELECT count(*) AS n FROM star s WHERE NOT EXISTS (SELECT 1 FROM near m WHERE m.star = s.star)", 1),
    ("SELECT m.n FROM near m WHERE NOT EXISTS (SELECT 1 FROM star s WHERE m.star = s.star)", 1),
    ("SELECT m.n FROM near m WHERE NOT EXISTS (SELECT 1 FROM object o WHERE m.id = o.id)", 1),
    ("SELECT m.n FROM near m JOIN object o ON m.id = o.id WHERE NOT EXISTS (SELECT 1 FROM star s WHERE m.star = s.star)", 1),
    ("SELECT count(*) AS n FROM object o WHERE EXISTS (SELECT 1 FROM near m JOIN star s ON m.star = s.star WHERE m.id = o.id AND gmag < 15)", 1),
    # With what lies with a director, and groups by a key.
    ("SELECT count(*) AS n, sum(e.colour) AS c FROM object o JOIN extra e ON e.id = o.id JOIN near m ON m.id = o.id", 1),
    ("SELECT s.star, count(*) AS n, sum(weight) AS w FROM near m JOIN star s ON m.star = s.star GROUP BY s.star HAVING count(*) > 2", 1),
    ("SELECT s.star, m.n, rank() OVER (PARTITION BY s.star ORDER BY weight) AS r FROM near m JOIN star s ON m.star = s.star", 1),
    ("SELECT id, count(*) AS n FROM near GROUP BY id HAVING count(*) > 3", 1),
    ("SELECT a.n, b.n AS other FROM near a JOIN near b ON a.star = b.star AND a.n < b.n", 2),
]


@pytest.mark.parametrize(("sql", "leaves"), NEAR)
def test_pairs_that_the_overlap_reaches(
    kinds: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, sql: str, leaves: int | None
) -> None:
    check(kinds, duck, suffix, sql, leaves)


WIDE = [
    ("SELECT count(*) AS n, count(DISTINCT m) AS d FROM wide", None),
    ("SELECT m, o.mag FROM wide w JOIN object o ON w.a = o.id", 1),
    ("SELECT m, o.mag FROM wide w JOIN object o ON w.b = o.id", 1),
    ("SELECT count(*) AS n, count(w.m) AS m FROM object o LEFT JOIN wide w ON w.b = o.id", 1),
    # Both rows of a pair are together in neither chunk.
    ("SELECT m, x.mag, y.mag AS other FROM wide w JOIN object x ON w.a = x.id JOIN object y ON w.b = y.id", 2),
    ("SELECT count(*) AS n FROM object o WHERE EXISTS (SELECT 1 FROM wide w JOIN object y ON w.b = y.id WHERE w.a = o.id AND y.mag > o.mag)", 2),
    # Chains of pairs meet in the chunk of the object between them, read by the second of one and the first of the other.
    ("SELECT count(*) AS n, sum(x.m * y.m) AS s FROM wide x JOIN wide y ON x.b = y.a", 1),
    ("SELECT x.m, y.m AS other FROM wide x JOIN object o ON x.b = o.id JOIN wide y ON y.b = o.id AND x.m < y.m", 1),
]


@pytest.mark.parametrize(("sql", "leaves"), WIDE)
def test_pairs_of_any_two_objects(
    kinds: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, sql: str, leaves: int | None
) -> None:
    check(kinds, duck, suffix, sql, leaves)


def test_a_pair_is_found_by_either_id(kinds: Cluster, duck: duckdb.DuckDBPyConnection, suffix: str, tables: dict[str, pa.Table]) -> None:
    """`wide` has no orphans: the index of objects tells the chunk of either id, and one chunk is read."""
    for column in ("a", "b"):
        for value in tables["wide"].column(column).to_pylist()[:6]:
            sql = f"SELECT m, a, b FROM wide WHERE {column} = {value}"
            check(kinds, duck, suffix, sql, 1)
            chosen, total = kinds.chunks_of(sql.replace("FROM ", f"FROM kinds_{suffix}."))
            assert chosen == 1 < total


def test_what_runs_where_is_told(kinds: Cluster, suffix: str) -> None:
    sql = f"SELECT count(*) FROM kinds_{suffix}.near m JOIN kinds_{suffix}.object o ON m.id = o.id JOIN kinds_{suffix}.star s ON m.star = s.star"
    plan = "\n".join(kinds.explain(sql).values())
    assert "whose rows all lie where the overlap reaches" in plan and "overlap" in plan
    sql = f"SELECT count(m.n) FROM kinds_{suffix}.star s LEFT JOIN kinds_{suffix}.near m ON m.star = s.star"
    assert "by its second director" in "\n".join(kinds.explain(sql).values())


def test_keys_of_clients(kinds: Cluster) -> None:
    """Drivers see a match's two foreign keys, and that of a companion."""
    with kinds.adbc() as connection:
        found = connection.adbc_get_objects(depth="all", db_schema_filter="kinds_h").read_all().to_pylist()
    names = {table["table_name"] for schema in found[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]}
    assert {"near", "wide", "extra"} <= names


def test_rows_that_come_later(tables: dict[str, pa.Table], duck: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """A director's row that comes after its pair ends the proof, not the answer; a companion's second row ends the ingest."""
    half = OBJECTS // 2
    files = {name: tmp_path / f"{name}.parquet" for name in ("object", "late", "star", "near", "more", "extra")}
    pq.write_table(tables["object"].slice(0, half), files["object"])
    pq.write_table(tables["object"].slice(half), files["late"])
    pq.write_table(tables["star"], files["star"])
    pq.write_table(tables["near"].slice(0, half), files["near"])
    pq.write_table(tables["near"].slice(half), files["more"])
    twice = tables["extra"].slice(0, 1)
    pq.write_table(pa.concat_tables([tables["extra"], twice]), files["extra"])
    pairs = lambda file: match("near", file, ("object", "id"), ("star", "star"))  # noqa: E731
    with Cluster(tmp_path / "cluster") as cluster:
        first = [director("object", files["object"], "id"), director("star", files["star"], "star"), pairs(files["near"])]
        cluster.ingest("kinds_h", first, SCHEMES["h"])
        cluster.ingest("kinds_h", [director("object", files["late"], "id")], mode="append")
        cluster.ingest("kinds_h", [pairs(files["more"])], mode="append")
        with pytest.raises(IngestFailed, match="a companion has at most one row of each director row"):
            cluster.ingest("kinds_h", [companion("extra", files["extra"], "object", "id")])
        for sql, _ in NEAR:
            if "extra" not in sql:
                check(cluster, duck, "h", sql, leaves=None)
