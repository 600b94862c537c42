"""Workers die, hang and lose files in the middle of queries, and every answer is still exact."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from skyflight_testing import catalogs
from skyflight_testing.cluster import Cluster
from skyflight_testing.duck import Duck
from skyflight_testing.faults import Probe, Running, assert_exact, kill_during, sorted_rows
from skyflight_testing.settings import FULL, SEED
from skyflight_testing.tables import healpix

RUNS = 200 if FULL else 21

#: How long a worker may say nothing. Short, so that the test of a hung worker does not take long.
SILENCE_S = 4

# Limits on single-precision columns are binary fractions: DuckDB compares 9.2 as a float, we as a double.
PROBES = {
    "stream": "SELECT source_id, ra, dec, phot_g_mean_mag FROM sky_f.gaia",
    "stream filtered": "SELECT source_id, ra FROM sky_f.gaia WHERE phot_g_mean_mag < 9.25 AND dec > -60",
    "aggregate": """SELECT CAST(floor(ra / 5) AS BIGINT) AS zone, count(*) AS n, min(source_id) AS a, max(phot_g_mean_mag) AS m
        FROM sky_f.gaia GROUP BY CAST(floor(ra / 5) AS BIGINT)""",
    "distinct": "SELECT count(DISTINCT CAST(floor(dec * 10) AS BIGINT)) AS zones, count(*) AS n FROM sky_f.gaia",
    "top": "SELECT source_id, phot_g_mean_mag FROM sky_f.gaia ORDER BY phot_g_mean_mag, source_id LIMIT 300",
    "join": """SELECT o.object_id, o.ra, s.mjd, s.mag FROM rrlyr_f.object o JOIN rrlyr_f.source s
        ON o.object_id = s.object_id WHERE s.band <> 'u'""",
    "join aggregate": """SELECT o.type, s.band, count(*) AS n, max(s.mag) AS faintest FROM ztf_f.object o
        LEFT JOIN ztf_f.source s ON o.object_id = s.object_id GROUP BY o.type, s.band""",
}


@pytest.fixture(scope="module")
def cluster(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers, two copies of each chunk, and enough chunks that a query takes a while."""
    config = f"[coordinator]\nsilence_timeout_s = {SILENCE_S}\n"
    with Cluster(tmp_path_factory.mktemp("faults") / "cluster", config=config) as cluster:
        for database in catalogs.databases(data, "f"):
            tables = [table for table in database.tables if table.name not in ("tycho2", "hipparcos2")]
            if tables:
                cluster.ingest(database.name, tables, healpix(row_limit=2_500), replicas=2)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"


@pytest.fixture(scope="module")
def probes(data: Path) -> list[Probe]:
    duck = Duck()
    for database in catalogs.databases(data, "f"):
        catalogs.add_to_duck(duck, database.name, database.tables, database.as_stored)
    return [Probe(name, sql, sorted_rows(duck.query(sql))) for name, sql in PROBES.items()]


def test_killed_workers(cluster: Cluster, probes: list[Probe]) -> None:
    typical: dict[str, float] = {}
    for probe in probes:
        running = Running(cluster, probe.sql)
        assert_exact(sorted_rows(running.result(120)), probe.expected, probe.name)
        typical[probe.name] = running.took_s
    print(f"seed {SEED}; undisturbed, in seconds: { {name: round(s, 2) for name, s in typical.items()} }")
    struck, slowest = Counter[str](), 0.0
    for run in range(RUNS):
        rng = random.Random(f"{SEED} kill {run}")
        probe = probes[run % len(probes)]
        try:
            kill = kill_during(cluster, probe, rng, typical[probe.name])
        except Exception as error:
            error.add_note(f"run {run} of {RUNS}, seed {SEED}, {probe.name}: {' '.join(probe.sql.split())}")
            raise
        struck[probe.name] += kill.struck
        slowest = max(slowest, kill.query_s)
    print(f"{RUNS} kills, {struck.total()} while the query ran ({dict(struck)}); the slowest answer took {slowest:.1f} s")
    assert struck.total() >= RUNS / 2, "too few kills met a query that ran"


def test_a_worker_that_hangs(cluster: Cluster, probes: list[Probe]) -> None:
    """Stopped, not dead: connections stay open and nothing comes."""
    probe = probes[0]
    worker = cluster.workers["w2"]
    running = Running(cluster, probe.sql)
    time.sleep(0.3)
    worker.child.send_signal(signal.SIGSTOP)
    try:
        assert_exact(sorted_rows(running.result(240)), probe.expected, "w2 stopped")
    finally:
        worker.child.send_signal(signal.SIGCONT)
    print(f"answer after {running.took_s:.1f} s with a stopped worker")


def test_lost_files(cluster: Cluster, probes: list[Probe]) -> None:
    """Files that vanish from one worker are read on the other."""
    chunks = cluster.worker_folder("w1") / "chunks"
    files = sorted(chunks.rglob("*.parquet"))
    hidden = [file for number, file in enumerate(files) if number % 3 == 0]
    assert len(hidden) > 10
    for file in hidden:
        file.rename(file.with_suffix(".hidden"))
    try:
        for probe in probes:
            assert_exact(sorted_rows(Running(cluster, probe.sql).result(120)), probe.expected, probe.name)
    finally:
        for file in hidden:
            file.with_suffix(".hidden").rename(file)


def test_truncated_files(cluster: Cluster, probes: list[Probe]) -> None:
    """Files that are cut short on one worker give no wrong rows: the other's are read."""
    chunks = cluster.worker_folder("w3") / "chunks/sky_f/gaia"
    kept: dict[Path, bytes] = {}
    for file in sorted(chunks.rglob("*.parquet"))[::4]:
        kept[file] = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(kept[file][: len(kept[file]) // 2])
    assert len(kept) > 10
    try:
        for probe in probes[:5]:
            assert_exact(sorted_rows(Running(cluster, probe.sql).result(120)), probe.expected, probe.name)
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


def test_too_few_workers_left(cluster: Cluster, probes: list[Probe]) -> None:
    """With two of three gone some chunks are nowhere: an error that says so, never a part of the rows."""
    for name in ("w1", "w2"):
        cluster.workers[name].kill()
    try:
        for probe in (probes[0], probes[2]):
            with pytest.raises((flight.FlightUnavailableError, pa.ArrowException)) as raised:
                Running(cluster, probe.sql).result(120)
            assert isinstance(raised.value, flight.FlightUnavailableError), raised.value
    finally:
        for name in ("w1", "w2"):
            cluster.start_worker(name)
        cluster.await_workers({"w1", "w2"})
    assert_exact(sorted_rows(Running(cluster, probes[0].sql).result(120)), probes[0].expected, "all are back")


def test_a_coordinator_that_is_killed(cluster: Cluster, probes: list[Probe]) -> None:
    """Its clients get an error, not an end of the rows; started again, it knows all it knew."""
    assert cluster.coordinator is not None
    port = cluster.coordinator.port
    running = Running(cluster, probes[0].sql, pause_s=0.02)
    time.sleep(0.5)
    struck = running.under_way()
    cluster.coordinator.kill()
    if struck:
        with pytest.raises(pa.ArrowException):
            running.result(60)
    cluster.start_coordinator(port)
    # A worker's next sign of life comes within two seconds; its address has not changed.
    for probe in probes:
        assert_exact(sorted_rows(Running(cluster, probe.sql).result(120)), probe.expected, probe.name)


def test_stop(cluster: Cluster, probes: list[Probe]) -> None:
    """SIGTERM ends each process with code 0. Last, because nothing runs after it."""
    assert cluster.coordinator is not None
    assert [worker.stop() for worker in cluster.workers.values()] == [0, 0, 0]
    assert cluster.coordinator.stop() == 0
