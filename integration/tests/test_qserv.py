"""Qserv's own integration data: names with case, a director across right ascension 0, orphans, stripes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import child, director, stripes


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
