"""Qserv's own integration data: names with case, a director across right ascension 0, orphans, stripes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.duck import Duck
from skyflight_testing.tables import child, director, healpix, match, replicated, stripes


def test_case01_counts(sky: Cluster, suffix: str) -> None:
    """The numbers are those of the data's README."""
    counts = {"Object": 88, "Source": 3_339, "RefSrcMatch": 3_344, "Science_Ccd_Exposure": 3_275, "Filter": 9, "LeapSeconds": 38}
    with sky.flight() as flight:
        assert {t: flight.value(f"SELECT count(*) FROM case01_{suffix}.{t}") for t in counts} == counts


def test_case01_orphans(sky: Cluster, suffix: str) -> None:
    """36 sources have no object. They must neither vanish from scans nor find a partner in joins."""
    database = f"case01_{suffix}"
    with sky.flight() as flight:
        left = f"{database}.Source s LEFT JOIN {database}.Object o ON s.objectId = o.objectId"
        assert flight.value(f"SELECT count(*) FROM {left} WHERE o.objectId IS NULL") == 36
        inner = f"{database}.Source s JOIN {database}.Object o ON s.objectId = o.objectId"
        assert flight.value(f"SELECT count(*) FROM {inner}") == 3_339 - 36
        anti = f"NOT EXISTS (SELECT 1 FROM {database}.Object o WHERE o.objectId = s.objectId)"
        assert flight.value(f"SELECT count(*) FROM {database}.Source s WHERE {anti}") == 36


def test_case01_across_ra_zero(sky: Cluster, data: Path, suffix: str) -> None:
    rows = pq.read_table(data / "qserv/case01/Object.parquet", columns=["objectId", "ra_PS", "decl_PS"]).to_pylist()
    west = {row["objectId"] for row in rows if row["ra_PS"] >= 359.0}
    east = {row["objectId"] for row in rows if row["ra_PS"] <= 1.2}
    assert west and east, "the data is on both sides"
    with sky.flight() as flight:
        found = flight.query(f"SELECT objectId FROM case01_{suffix}.Object WHERE qserv_areaspec_box(359, -90, 1.2, 90)")
        assert sorted(found.column(0).to_pylist()) == sorted(west | east)
        joined = flight.query(
            f"SELECT DISTINCT o.objectId FROM case01_{suffix}.Object o JOIN case01_{suffix}.Source s "
            "ON s.objectId = o.objectId WHERE scisql_s2PtInBox(o.ra_PS, o.decl_PS, 359, -90, 1.2, 90) = 1"
        )
        sources = pq.read_table(data / "qserv/case01/Source.parquet", columns=["objectId"]).column(0).to_pylist()
        assert sorted(joined.column(0).to_pylist()) == sorted((west | east) & set(sources))


@pytest.fixture(scope="module")
def test101(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """case02 cut as Qserv cut it in its own test: 85 stripes, 12 sub-stripes."""
    case = data / "qserv/case02"
    tables = [
        director("Object", case / "Object.parquet", "objectId", "ra_PS", "decl_PS"),
        child("Source", case / "Source.parquet", "Object", "objectId", "sourceId", "ra", "decl"),
    ]
    with Cluster(tmp_path_factory.mktemp("test101") / "cluster", workers=2) as cluster:
        cluster.ingest("test101", tables, stripes(85, 12, 0.01667), replicas=1)
        yield cluster


def rows_on_disk(cluster: Cluster, table: str, kind: str) -> dict[str, list[int]]:
    """Object ids by chunk, read from the workers' files."""
    found: dict[str, list[int]] = {}
    for name, files in cluster.stored_files().items():
        for file in files:
            _, of_table, chunk, leaf = Path(file).parts
            if of_table == table and leaf.endswith(".overlap.parquet") == (kind == "overlap"):
                path = cluster.worker_folder(name) / "chunks" / file
                ids = pq.ParquetFile(path).read(columns=["objectId"]).column(0).to_pylist()
                found.setdefault(chunk, []).extend(ids)
    return found


def golden(data: Path, file: str) -> list[int]:
    lines = (data / "qserv/test101/data" / file).read_text().splitlines()
    return [int(line.split(",", 1)[0]) for line in lines]


def test_stripes_as_qserv_cut_them(test101: Cluster, data: Path) -> None:
    """Chunk ids and the overlap that crosses a chunk, against files that Qserv's partitioner wrote."""
    rows = rows_on_disk(test101, "Object", "rows")
    assert {chunk: sorted(ids) for chunk, ids in rows.items()} == {"7480": sorted(golden(data, "Object/chunk_7480.txt"))}
    assert {chunk: len(ids) for chunk, ids in rows_on_disk(test101, "Source", "rows").items()} == {"7480": 4_583}
    overlap = rows_on_disk(test101, "Object", "overlap")
    # Qserv's file lists a row once for each sub-chunk whose overlap it is in; ours holds it once.
    assert {chunk: sorted(ids) for chunk, ids in overlap.items() if ids} == {
        "7310": sorted(set(golden(data, "Object/chunk_7310_overlap.txt")))
    }


def test_rows_of_test101(test101: Cluster) -> None:
    with test101.flight() as flight:
        assert flight.value("SELECT count(*) FROM test101.Object") == 1_000
        joined = "SELECT count(*) FROM test101.Source s JOIN test101.Object o ON o.objectId = s.objectId"
        assert flight.value(joined) == 4_583


PAIRED = {"h": healpix(row_limit=40, max_order=10), "s": stripes(85, 12, 0.01667)}


@pytest.fixture(scope="module")
def pairs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Duck]]:
    """case01's match of the simulated catalog with the sources, both of them directors, and case04's two lists of deep
    sources; each in both schemes."""
    case, deep = data / "qserv/case01", data / "qserv/case04"
    tables = [
        director("SimRefObject", case / "SimRefObject.parquet", "refObjectId", "ra", "decl"),
        director("Source", case / "Source.parquet", "sourceId", "ra", "decl"),
        match("RefSrcMatch", case / "RefSrcMatch.parquet", ("SimRefObject", "refObjectId"), ("Source", "sourceId")),
        director("DeepSource", deep / "DeepSource.parquet", "deepSourceId", "ra", "decl"),
        director("DeepSourceDupKeys", deep / "DeepSourceDupKeys.parquet", "deepSourceId", "ra", "decl"),
        match("DeepMatch", tmp_path_factory.mktemp("deep") / "match.parquet", ("DeepSource", "deepSourceId"), ("DeepSourceDupKeys", "dupId")),
        replicated("DeepCoadd", deep / "DeepCoadd.parquet"),
    ]
    # Every deep source with itself in the list that has most ids twice, and with the next.
    duck = Duck()
    duck.connection.execute(
        f"COPY (SELECT deepSourceId, deepSourceId AS dupId FROM '{deep / 'DeepSource.parquet'}' UNION ALL SELECT deepSourceId, "
        f"lead(deepSourceId) OVER (ORDER BY deepSourceId) FROM '{deep / 'DeepSource.parquet'}') TO '{tables[5].files[0]}' (FORMAT parquet)"
    )
    with Cluster(tmp_path_factory.mktemp("pairs") / "cluster") as cluster:
        for suffix, scheme in PAIRED.items():
            cluster.ingest(f"pairs_{suffix}", tables, scheme)
            for table in tables:
                duck.add(f"pairs_{suffix}", table.name, table.files)
        yield cluster, duck
        assert cluster.panics() == [], "a thread of a server panicked"


MATCHED = [
    "SELECT count(*) AS n, count(refObjectId) AS r, count(sourceId) AS s, count(DISTINCT sourceId) AS d FROM RefSrcMatch",
    "SELECT m.refObjectId, m.sourceId, r.isStar FROM RefSrcMatch m JOIN SimRefObject r ON r.refObjectId = m.refObjectId",
    "SELECT m.refObjectId, m.sourceId, s.filterId FROM Source s JOIN RefSrcMatch m ON s.sourceId = m.sourceId",
    "SELECT m.sourceId, r.isStar, s.ra FROM SimRefObject r JOIN RefSrcMatch m ON r.refObjectId = m.refObjectId JOIN Source s ON s.sourceId = m.sourceId",
    "SELECT m.sourceId, r.isStar, s.ra FROM Source s JOIN RefSrcMatch m ON s.sourceId = m.sourceId JOIN SimRefObject r ON r.refObjectId = m.refObjectId",
    "SELECT m.sourceId, r.isStar FROM Source s JOIN RefSrcMatch m ON s.sourceId = m.sourceId LEFT JOIN SimRefObject r ON r.refObjectId = m.refObjectId",
    "SELECT count(*) AS n, count(m.sourceId) AS m FROM SimRefObject r LEFT JOIN RefSrcMatch m ON r.refObjectId = m.refObjectId",
    "SELECT m.sourceId FROM RefSrcMatch m WHERE NOT EXISTS (SELECT 1 FROM SimRefObject r WHERE r.refObjectId = m.refObjectId)",
    "SELECT count(*) AS n FROM SimRefObject r WHERE NOT EXISTS (SELECT 1 FROM RefSrcMatch m WHERE r.refObjectId = m.refObjectId)",
    "SELECT count(*) AS n, count(r.ra) AS r, count(s.ra) AS s FROM SimRefObject r FULL JOIN RefSrcMatch m ON r.refObjectId = m.refObjectId FULL JOIN Source s ON s.sourceId = m.sourceId",
    "SELECT s.filterId, count(*) AS n FROM RefSrcMatch m JOIN Source s USING (sourceId) JOIN SimRefObject r USING (refObjectId) WHERE r.isStar = 1 GROUP BY s.filterId",
    # Most ids of the second list are there twice.
    "SELECT count(*) AS n, count(DISTINCT deepSourceId) AS d FROM DeepSourceDupKeys",
    "SELECT count(*) AS n FROM DeepSource d JOIN DeepSourceDupKeys k ON d.deepSourceId = k.deepSourceId",
    "SELECT m.deepSourceId, m.dupId, k.ra FROM DeepMatch m JOIN DeepSourceDupKeys k ON k.deepSourceId = m.dupId",
    "SELECT m.deepSourceId, d.ra, k.ra AS kra FROM DeepSource d JOIN DeepMatch m ON d.deepSourceId = m.deepSourceId JOIN DeepSourceDupKeys k ON k.deepSourceId = m.dupId",
    "SELECT count(*) AS n, count(k.ra) AS k FROM DeepMatch m LEFT JOIN DeepSourceDupKeys k ON k.deepSourceId = m.dupId",
    "SELECT k.deepSourceId, count(*) AS n FROM DeepSourceDupKeys k JOIN DeepMatch m ON k.deepSourceId = m.dupId GROUP BY k.deepSourceId HAVING count(*) > 2",
]


@pytest.mark.parametrize("sql", MATCHED)
@pytest.mark.parametrize("suffix", PAIRED)
def test_matches(pairs: tuple[Cluster, Duck], suffix: str, sql: str) -> None:
    cluster, duck = pairs
    named = re.sub(r"\b(FROM|JOIN) (?=[A-Z])", rf"\1 pairs_{suffix}.", sql)
    with cluster.flight() as flight:
        answer = flight.query(named)
    assert answer.num_rows > 0
    assert_same_rows(answer, duck.query(named))


@pytest.mark.parametrize("suffix", PAIRED)
def test_matches_are_joined_in_chunks(pairs: tuple[Cluster, Duck], suffix: str) -> None:
    """Pairs of case01 are arcseconds wide, so all three tables meet inside the chunks; and each pair counts once."""
    cluster, duck = pairs
    sql = (
        f"SELECT count(*) FROM pairs_{suffix}.SimRefObject r JOIN pairs_{suffix}.RefSrcMatch m ON r.refObjectId = m.refObjectId "
        f"JOIN pairs_{suffix}.Source s ON s.sourceId = m.sourceId"
    )
    assert sum(kind.startswith("chunks ") for kind in cluster.explain(sql)) == 1
    with cluster.flight() as flight:
        # Of its 87 references most are there many times.
        assert flight.value(sql) == duck.value(sql) > 3_344
        assert flight.value(f"SELECT count(*) FROM pairs_{suffix}.RefSrcMatch") == 3_344
