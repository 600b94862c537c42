"""`skyflight generate` makes the same sky each time, and what it makes can be loaded and queried."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pyarrow.parquet as pq

from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.duck import Duck
from skyflight_testing.settings import FULL, binary

OBJECTS = 1_000_000 if FULL else 20_000


def generate(folder: Path, objects: int, seed: int) -> dict[str, str]:
    """Makes a small survey; a digest of each file."""
    numbers = ["--objects", str(objects), "--sources", "5", "--forced", "2", "--seed", str(seed)]
    command = [str(binary()), "generate", *numbers, "--output", str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    files = sorted(folder.rglob("*.parquet"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    first = generate(tmp_path / "a", 2_000, 7)
    assert {name.split("/")[0] for name in first} == {"Object", "Source", "ForcedSource"}
    assert generate(tmp_path / "b", 2_000, 7) == first
    assert generate(tmp_path / "c", 2_000, 8) != first


def test_a_folder_is_loaded_and_queried(tmp_path: Path) -> None:
    """The folder form of SOURCE: descriptions beside their files. Answers as DuckDB gives on the same files."""
    survey = tmp_path / "survey"
    generate(survey, OBJECTS, 11)
    duck = Duck()
    for table in ("Object", "Source", "ForcedSource"):
        duck.add("dr1", table, sorted((survey / table).glob("*.parquet")))
    with Cluster(tmp_path / "cluster", workers=2) as cluster:
        command = [*cluster.ingest_command("dr1", []), str(survey)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800, check=False)
        assert done.returncode == 0, done.stderr
        queries = [
            "SELECT count(*) AS n, count(pmra) AS moving, min(objectId) AS a, max(objectId) AS b FROM dr1.Object",
            "SELECT band, count(*) AS n, max(psfFlux) AS f, count(objectId) AS known FROM dr1.Source GROUP BY band",
            "SELECT count(*) AS n FROM dr1.Source s WHERE NOT EXISTS (SELECT 1 FROM dr1.Object o WHERE o.objectId = s.objectId)",
            """SELECT o.objectId, count(*) AS n FROM dr1.Object o JOIN dr1.Source s ON o.objectId = s.objectId
               WHERE o.dec > 30 GROUP BY o.objectId ORDER BY n DESC, o.objectId LIMIT 20""",
            """SELECT o.objectId, o.rMag, s.midPointTai, s.band FROM dr1.Object o JOIN dr1.Source s
               ON o.objectId = s.objectId WHERE o.rMag < 17""",
            """SELECT s.band, count(*) AS n FROM dr1.Source s JOIN dr1.ForcedSource f
               ON s.objectId = f.objectId AND s.band = f.band GROUP BY s.band""",
            "SELECT DISTINCT extendedness FROM dr1.Object",
        ]
        with cluster.flight() as flight:
            for sql in queries:
                theirs = duck.query(sql)
                assert theirs.num_rows > 0, sql
                assert_same_rows(flight.query(sql), theirs, ordered="ORDER BY" in sql)
        assert pq.read_metadata(next((survey / "Object").glob("*.parquet"))).num_rows > 0
        assert cluster.panics() == []
