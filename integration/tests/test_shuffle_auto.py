"""By their estimates some queries are shuffled and some are not; stages that do not fit into memory spill."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.duck import Duck
from skyflight_testing.settings import SEED
from skyflight_testing.tables import director, healpix
from test_shuffle import explained

ROWS = 160_000
#: What a coordinator takes upon itself here, far less than by default.
ROWS_MERGED = 100_000
#: Of each worker, in MiB; what its third of the table takes in a sort is more.
MEMORY = 64

CONFIG = f"""
[coordinator]
shuffle_rows = {ROWS_MERGED}
shuffle_mib = 4096
sort_merge_mib = 1
[worker]
memory_mib = {MEMORY}
batch_rows = 2048
"""

#: All rows meet: by name the query, and the node that does it in a stage.
MANY = {
    "groups": ("SELECT note, count(*) AS n, max(id) AS m FROM d.T GROUP BY note", "AggregateExec"),
    "different": ("SELECT count(DISTINCT note) AS n, count(DISTINCT k) AS k, count(*) AS r FROM d.T", "AggregateExec"),
    "not in": ("SELECT id FROM d.T WHERE k NOT IN (SELECT id FROM d.T WHERE id % 3 = 0)", "Join"),
    "join": ("SELECT a.id, b.note FROM d.T a JOIN d.T b ON a.k = b.id", "SortMergeJoin"),
    "order": ("SELECT note, id FROM d.T ORDER BY note, id", "SortExec"),
    "window": ("SELECT id, row_number() OVER (PARTITION BY k ORDER BY note, id) AS r FROM d.T", "WindowAgg"),
}

#: Few rows meet, for one reason or another.
FEW = {
    "few rows": "SELECT note, count(*) AS n FROM d.T WHERE id < 5000 GROUP BY note",
    "top": "SELECT id, note FROM d.T ORDER BY id LIMIT 5",
}


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Duck]]:
    folder = tmp_path_factory.mktemp("tight")
    rng = np.random.default_rng(SEED)
    ids = np.arange(ROWS, dtype=np.int64)
    rows = pa.table({
        "id": ids,
        "ra": rng.uniform(0, 360, ROWS),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, ROWS))),
        "k": rng.integers(0, ROWS, ROWS),
        "note": pa.array([f"{value:012d}" * 45 for value in rng.permutation(ROWS)]),
    })  # fmt: skip
    file = folder / "t.parquet"
    pq.write_table(rows, file)
    with Cluster(folder / "cluster", config=CONFIG) as cluster:
        cluster.ingest("d", [director("T", file, "id")], healpix(row_limit=8_000), replicas=1)
        duck = Duck()
        duck.add("d", "T", [file])
        yield cluster, duck
        assert cluster.panics() == [], "a thread of a server panicked"
        assert all(process.alive() for process in cluster.processes()), "a server died"


class Spilled:
    """Watches how many bytes workers have spilled at once."""

    def __init__(self, cluster: Cluster) -> None:
        self.folders = [cluster.worker_folder(name) for name in cluster.workers]
        self.most = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, sum(size_of(file) for folder in self.folders for file in folder.glob("spill*/**/*")))

    def __enter__(self) -> "Spilled":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def size_of(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("name", MANY)
def test_many_rows_meet_on_the_workers(tight: tuple[Cluster, Duck], name: str) -> None:
    cluster, duck = tight
    sql, node = MANY[name]
    with cluster.flight() as client:
        plan = explained(client, sql)
        assert re.match("shuffled over 3 workers, because .* too many for the coordinator", plan["shuffle"]), plan["shuffle"]
        assert node in plan["stages"], plan["stages"]
        with Spilled(cluster) as spilled:
            ours = client.query(sql, timeout_s=240)
    assert_same_rows(ours, duck.query(sql), ordered=name == "order")
    print(f"{name}: at most {spilled.most >> 20} MiB spilled at once by workers of {MEMORY} MiB")
    if name in ("join", "order"):
        assert spilled.most > 1 << 20, "the stage was to be larger than a worker's memory"


@pytest.mark.parametrize("name", FEW)
def test_few_rows_meet_on_the_coordinator(tight: tuple[Cluster, Duck], name: str) -> None:
    cluster, duck = tight
    with cluster.flight() as client:
        assert explained(client, FEW[name])["shuffle"].startswith("merged on the coordinator, because")
        assert_same_rows(client.query(FEW[name], timeout_s=120), duck.query(FEW[name]), ordered=name == "top")


def test_a_session_says_otherwise(tight: tuple[Cluster, Duck]) -> None:
    cluster, _ = tight
    with cluster.flight(x_skyflight_shuffle="never") as client:
        assert "set to never" in explained(client, MANY["groups"][0])["shuffle"]
