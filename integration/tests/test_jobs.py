"""Jobs end in a right result or a stated error though their coordinator is killed, and cancelled work stops."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from skyflight_testing import catalogs
from skyflight_testing.clients import FlightSql
from skyflight_testing.cluster import Cluster
from skyflight_testing.duck import Duck
from skyflight_testing.faults import assert_exact, sorted_rows
from skyflight_testing.settings import FULL, SEED, SLOWNESS
from skyflight_testing.tables import healpix

JOBS = 100 if FULL else 24
KILLS = 10 if FULL else 4

# Exact values alone: no sums of floats.
QUERIES = {
    "pass through": "SELECT source_id, ra, dec, phot_g_mean_mag FROM sky_j.gaia",
    "filter": "SELECT source_id, ra FROM sky_j.gaia WHERE phot_g_mean_mag < 9.25 AND dec > -60",
    "aggregate": """SELECT CAST(floor(ra / 5) AS BIGINT) AS zone, count(*) AS n, min(source_id) AS a, max(phot_g_mean_mag) AS m
        FROM sky_j.gaia GROUP BY CAST(floor(ra / 5) AS BIGINT)""",
    "distinct": "SELECT count(DISTINCT CAST(floor(dec * 10) AS BIGINT)) AS zones, count(*) AS n FROM sky_j.gaia",
    "top": "SELECT source_id, phot_g_mean_mag FROM sky_j.gaia ORDER BY phot_g_mean_mag, source_id LIMIT 300",
    "union": """SELECT source_id FROM sky_j.gaia WHERE ra < 20 AND dec < 50
        UNION ALL SELECT source_id FROM sky_j.gaia WHERE ra < 50 AND dec < 20""",
}

#: Reads every chunk and gives every row, several times over.
LONG = "SELECT a.source_id, b.n FROM sky_j.gaia a CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8)) AS b(n)"


@pytest.fixture(scope="module")
def cluster(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers and small chunks, so that jobs have many; and few jobs at a time, so that many wait."""
    config = "[coordinator]\nsilence_timeout_s = 4\n[jobs]\nrunning = 3\n"
    with Cluster(tmp_path_factory.mktemp("jobs") / "cluster", config=config) as cluster:
        for database in catalogs.databases(data, "j"):
            tables = [table for table in database.tables if table.name == "gaia"]
            if tables:
                cluster.ingest(database.name, tables, healpix(row_limit=1_500), replicas=2)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"


@pytest.fixture(scope="module")
def expected(data: Path) -> dict[str, pa.Table]:
    duck = Duck()
    for database in catalogs.databases(data, "j"):
        catalogs.add_to_duck(duck, database.name, database.tables, database.as_stored)
    return {name: sorted_rows(duck.query(sql)) for name, sql in QUERIES.items()}


def submit(client: FlightSql, sql: str) -> str:
    return client.query(f"SUBMIT {sql}").column("id")[0].as_py()


def states(client: FlightSql) -> dict[str, dict]:
    rows = client.query("SELECT * FROM system.queries WHERE kind = 'job'").to_pylist()
    return {row["id"]: row for row in rows}


def await_end(client: FlightSql, ids: list[str], within_s: float) -> dict[str, dict]:
    deadline = time.monotonic() + within_s * SLOWNESS
    while time.monotonic() < deadline:
        found = states(client)
        if all(found[id]["state"] not in ("queued", "running") for id in ids):
            return {id: found[id] for id in ids}
        time.sleep(0.2)
    raise TimeoutError(f"after {within_s} s: { {id: found[id]['state'] for id in ids} }")


def restart(cluster: Cluster) -> None:
    """kill -9, and the next coordinator on the same folder and port; workers go on."""
    assert cluster.coordinator is not None
    port = cluster.coordinator.port
    cluster.coordinator.kill()
    cluster.start_coordinator(port)


def test_jobs_over_a_coordinator_that_is_killed(cluster: Cluster, expected: dict[str, pa.Table]) -> None:
    rng = random.Random(f"{SEED} jobs")
    names = [list(QUERIES)[number % len(QUERIES)] for number in range(JOBS)]
    submitted: dict[str, str] = {}
    with cluster.flight() as client:
        for name in names:
            submitted[submit(client, QUERIES[name])] = name
    begun = time.monotonic()
    struck = 0
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.2, 1.5))
        with cluster.flight() as client:
            struck += any(row["state"] == "running" for row in states(client).values())
        restart(cluster)
    with cluster.flight() as client:
        ended = await_end(client, list(submitted), 300)
        assert len(ended) == JOBS, "a job was lost"
        for id, row in ended.items():
            name = submitted[id]
            assert row["state"] == "finished", f"{name}: {row['error']}"
            found = client.query(f"SELECT * FROM job('{id}')")
            assert_exact(sorted_rows(found), expected[name], f"{name}, job {id}, {row['starts']} starts")
            # Counted by the ledger over all lives of the job.
            assert row["chunks_done"] == row["chunks_planned"], f"{name}: a finished chunk was run twice, or not at all"
    assert struck > 0, "no kill met a running job"
    again = sum(row["starts"] > 1 for row in ended.values())
    print(f"{JOBS} jobs, {KILLS} kills, {struck} of them on running jobs; {again} jobs were taken up again; "
          f"{time.monotonic() - begun:.1f} s, seed {SEED}")
    assert again > 0, "no job was taken up by another coordinator"


def test_jobs_outlast_a_catalog_that_cannot_be_written(cluster: Cluster, expected: dict[str, pa.Table]) -> None:
    """Whoever holds SQLite's lock for longer than a write waits (10 s) must not strand a job between two states."""
    with cluster.flight() as client:
        running = submit(client, LONG)
        waiting = [submit(client, QUERIES["filter"]) for _ in range(3)]
        while not any(row["state"] == "running" for row in states(client).values()):
            time.sleep(0.05)
        with sqlite3.connect(cluster.data / "catalog.sqlite", isolation_level=None) as lock:
            lock.execute("BEGIN IMMEDIATE")
            time.sleep(14)
            held = states(client)
            assert any(held[id]["state"] in ("queued", "running") for id in waiting), "the lock held nobody up"
            lock.execute("ROLLBACK")
        ended = await_end(client, [running, *waiting], 120)
        assert {row["state"] for row in ended.values()} == {"finished"}
        for id in waiting:
            assert_exact(sorted_rows(client.query(f"SELECT * FROM job('{id}')")), expected["filter"], f"job {id}")


def test_results_are_fetched_twice_and_from_the_middle(cluster: Cluster, expected: dict[str, pa.Table]) -> None:
    with cluster.flight() as client:
        id = submit(client, QUERIES["pass through"])
        await_end(client, [id], 60)
        info = client.info(f"SELECT * FROM job('{id}')")
        assert info.total_records == expected["pass through"].num_rows
        ticket = info.endpoints[0].ticket.ticket

        def fetch(first: int) -> list[tuple[int, pa.RecordBatch]]:
            headers = [*client.headers, (b"x-skyflight-first-batch", str(first).encode())]
            reader = client.client.do_get(flight.Ticket(ticket), flight.FlightCallOptions(timeout=60, headers=headers))
            return [(int(chunk.app_metadata.to_pybytes()), chunk.data) for chunk in reader]

        whole = fetch(0)
        assert [number for number, _ in whole] == list(range(len(whole))) and len(whole) > 2
        middle = len(whole) // 2
        assert fetch(middle) == whole[middle:]
        restart(cluster)
    with cluster.flight() as client:
        again = client.redeem(ticket).read_all()
        assert again.equals(pa.Table.from_batches([batch for _, batch in whole]))
        assert_exact(sorted_rows(again), expected["pass through"], "fetched again after a restart")


def result_file(cluster: Cluster, id: str) -> Path:
    return cluster.data / "jobs" / id / "result.arrow"


def test_the_result_is_an_arrow_file(cluster: Cluster, expected: dict[str, pa.Table]) -> None:
    with cluster.flight() as client:
        id = submit(client, QUERIES["filter"])
        await_end(client, [id], 60)
    with pa.ipc.open_file(result_file(cluster, id)) as reader:
        assert_exact(sorted_rows(reader.read_all()), expected["filter"], "read by pyarrow from the disk")


def test_polls_of_adbc(cluster: Cluster, expected: dict[str, pa.Table]) -> None:
    """ADBC's incremental execution is PollFlightInfo."""
    with cluster.adbc() as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        partitions: list[bytes] = []
        for _ in range(600):
            found, _ = cursor.adbc_execute_partitions(QUERIES["aggregate"])
            if not found:
                break
            partitions += found
        assert len(partitions) == 1
        cursor.adbc_read_partition(partitions[0])
        assert_exact(sorted_rows(cursor.fetch_arrow_table()), expected["aggregate"], "ADBC, incremental")


def busy_s(cluster: Cluster) -> float:
    """Processor time of all workers so far."""
    return sum(worker.cpu_seconds() for worker in cluster.workers.values())


def assert_idle_within_a_second(cluster: Cluster, cancelled: float) -> None:
    time.sleep(max(0.0, cancelled + 1.0 - time.monotonic()))
    before = busy_s(cluster)
    time.sleep(1.0)
    spent = busy_s(cluster) - before
    assert spent < 0.3, f"workers spent {spent:.2f} s of processor time in the second after they should be idle"


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="reads /proc")
def test_a_cancelled_job_leaves_workers_idle(cluster: Cluster) -> None:
    with cluster.flight() as client:
        id = submit(client, LONG)
        deadline = time.monotonic() + 60
        while states(client)[id]["chunks_done"] == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        told = client.query(f"CANCEL '{id}'").to_pylist()
        cancelled = time.monotonic()
        assert [row["state"] for row in told] == ["cancelled"]
        assert states(client)[id]["state"] == "cancelled"
    assert_idle_within_a_second(cluster, cancelled)
    assert not result_file(cluster, id).parent.exists(), "a cancelled job leaves nothing on disk"


def test_a_cancelled_query_ends_for_its_reader_too(cluster: Cluster) -> None:
    with cluster.flight() as client, cluster.flight() as other:
        reader = client.open(LONG)
        reader.read_chunk()
        id = other.query("SELECT id FROM system.queries WHERE state = 'running' AND sql LIKE '%CROSS JOIN (VALUES%'")
        rest: list[BaseException] = []

        def read() -> None:
            try:
                for _ in reader:
                    time.sleep(0.01)
            except BaseException as error:
                rest.append(error)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        other.query(f"CANCEL '{id.column('id')[0].as_py()}'")
        cancelled = time.monotonic()
        thread.join(10)
        assert not thread.is_alive() and isinstance(rest[0], flight.FlightCancelledError), rest
    assert_idle_within_a_second(cluster, cancelled)


def test_workers_are_listed(cluster: Cluster) -> None:
    with cluster.flight() as client:
        rows = client.query("SELECT id, live, file_bytes FROM system.workers ORDER BY id").to_pylist()
    assert [row["id"] for row in rows] == sorted(cluster.workers)
    assert all(row["live"] and row["file_bytes"] > 0 for row in rows)
