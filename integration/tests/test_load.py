"""Many chunks, many forgotten plans, many clients: cancelled work stops, what nobody fetches goes, limits are stated."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from skyflight_testing.clients import FlightSql
from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import FULL, SEED, SLOWNESS
from skyflight_testing.tables import director, healpix
from skyflight_testing.watched import Watched

#: Every cell of this order is a chunk: 12,288 of order 5, 3,072 of order 4.
ORDER = 5 if FULL else 4
CHUNKS = 12 * 4**ORDER

#: Rows of the table, spread evenly, so that each cell has some.
ROWS = 60_000

CLIENTS = 200
CLIENTS_FOR_S = 60 if FULL else 10


@pytest.fixture(scope="module")
def sphere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Points of a Fibonacci lattice: the n-th of N has sin(dec) = (2n + 1) / N - 1, and golden angles between them."""
    file = tmp_path_factory.mktemp("load") / "points.parquet"
    duckdb.connect().execute(
        f"""COPY (SELECT n AS id, (n * 137.50776405003785) % 360.0 AS ra,
            degrees(asin((2.0 * n + 1.0) / {ROWS} - 1.0)) AS dec, (n % 1000) / 100.0 AS mag
            FROM range({ROWS}) t(n)) TO '{file}' (FORMAT parquet)"""
    )
    return file


@pytest.fixture(scope="module")
def finely_cut(sphere: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A table of thousands of chunks in one process with two workers."""
    with Watched(tmp_path_factory.mktemp("chunks") / "cluster") as cluster:
        cluster.ingest("fine", [director("points", sphere, "id")], healpix(row_limit=10**9, min_order=ORDER), replicas=1)
        yield cluster
        assert cluster.panics() == []


def processor_s(cluster: Cluster, seconds: float) -> float:
    """Processor time that all processes of a cluster take within so many seconds."""
    before = sum(process.cpu_seconds() for process in cluster.processes())
    time.sleep(seconds)
    return sum(process.cpu_seconds() for process in cluster.processes()) - before


def test_a_cancelled_scan_of_many_chunks_leaves_workers_idle(finely_cut: Watched) -> None:
    scan = "SELECT max(mag) AS m, count(*) AS n FROM fine.points WHERE id >= 0 AND sin(ra) * cos(dec) < 2"
    chosen, total = finely_cut.chunks_of(scan)
    assert chosen == total == CHUNKS
    with finely_cut.flight() as client, finely_cut.flight() as other:
        begun = time.monotonic()
        assert client.query(scan).to_pylist() == [{"m": 9.99, "n": ROWS}]
        whole_s = time.monotonic() - begun

        ended: list[BaseException | None] = []

        def read() -> None:
            try:
                # Not `read_all`, which takes a cancelled stream for an interrupted program.
                for _ in client.open(scan):
                    pass
                ended.append(None)
            except BaseException as error:
                ended.append(error)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        running = "SELECT id, chunks_done, chunks_planned FROM system.queries WHERE state = 'running' AND sql LIKE '%max(mag)%'"
        deadline = time.monotonic() + whole_s
        found: list[dict] = []
        while time.monotonic() < deadline:
            rows = [row for row in other.query(running).to_pylist() if row["chunks_planned"] == CHUNKS]
            if rows and rows[0]["chunks_done"] > 0:
                found = rows
                break
        assert found, f"the scan took {whole_s:.1f} s, and was not seen to run"
        told = other.query(f"CANCEL '{found[0]['id']}'").to_pylist()
        cancelled = time.monotonic()
        assert [row["state"] for row in told] == ["cancelled"]
        reader.join(10)
        assert not reader.is_alive() and isinstance(ended[0], flight.FlightCancelledError), ended
        time.sleep(max(0.0, cancelled + 1.0 - time.monotonic()))
        assert finely_cut.figure("skyflight_worker_tasks_running", worker="local-1") == 0
        assert finely_cut.figure("skyflight_worker_tasks_running", worker="local-2") == 0
        spent = processor_s(finely_cut, 1.0)
        done = other.query(f"SELECT chunks_done FROM system.queries WHERE id = '{found[0]['id']}'").to_pylist()[0]["chunks_done"]
    print(f"the whole scan: {whole_s:.1f} s; cancelled after {done} of {CHUNKS} chunks; {spent:.2f} s in the second after")
    assert 0 < done < CHUNKS, "it was cancelled on its way"
    assert spent < 0.3, f"{spent:.2f} s of processor time in the second after workers should be idle"


def test_plans_that_nobody_fetches_leave_no_trace(tmp_path: Path) -> None:
    """1,000 announced queries: after their time the plans are gone, the records have never heard of them, and their
    tickets are refused."""
    with Watched(tmp_path / "cluster", coordinator="ticket_ttl_s = 20") as cluster, cluster.flight() as client:
        client.query("SELECT 1")
        announced = [client.info(f"SELECT value + {n} AS v FROM generate_series(1, 1000)") for n in range(1_000)]
        last = time.monotonic()
        assert cluster.figure("skyflight_plans_waiting") > 0
        while cluster.figure("skyflight_plans_waiting") > 0 and time.monotonic() < last + 60:
            time.sleep(0.5)
        assert cluster.figure("skyflight_plans_waiting") == 0
        time.sleep(max(0.0, last + 21 - time.monotonic()))
        assert cluster.figure("skyflight_queries_running") == 0
        assert cluster.figure("skyflight_merge_memory_bytes") == 0
        assert client.value("SELECT count(*) FROM system.queries WHERE sql LIKE 'SELECT value +%'") == 0
        for info in (announced[0], announced[-1]):
            with pytest.raises(flight.FlightUnauthenticatedError, match="expired"):
                client.redeem(info.endpoints[0].ticket.ticket).read_all()
        time.sleep(1.0)
        recorded = [sql for (sql,) in cluster.records("SELECT sql_text FROM queries ORDER BY started_unix_ms")]
        assert recorded[0] == "SELECT 1", "what was fetched is recorded"
        assert not [sql for sql in recorded if sql.startswith("SELECT value +")]


#: Statements of the crowd, with the value each gives.
ASKED = [
    ("SELECT 7", 7),
    ("SELECT count(*) FROM crowd.points", ROWS),
    ("SELECT count(*) FROM crowd.points WHERE mag < 0.005", ROWS // 1000),
    ("SELECT sum(value) FROM generate_series(1, 20000)", 200_010_000),
    ("SELECT id FROM crowd.points WHERE id = 4711", 4711),
    ("SELECT max(id) FROM crowd.points WHERE ra >= 0", ROWS - 1),
    ("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'crowd'", 1),
]


def crowd(cluster: Cluster, seconds: float) -> tuple[Counter[str], Counter[str], list[float]]:
    """Clients that ask without a pause: answers by statement, errors by text, and how long each answer took."""
    start, stop = threading.Barrier(CLIENTS + 1), threading.Event()
    answers, errors, took = Counter[str](), Counter[str](), list[float]()

    def ask(number: int) -> None:
        rng = random.Random(f"{SEED} client {number}")
        with FlightSql(cluster.url, own_connection=True) as client:
            start.wait(60)
            while not stop.is_set():
                sql, expected = rng.choice(ASKED)
                begun = time.monotonic()
                try:
                    found = client.value(sql)
                except pa.ArrowException as error:
                    errors[str(error).splitlines()[0]] += 1
                    time.sleep(0.1)
                    continue
                assert found == expected, f"{sql} gave {found}"
                took.append(time.monotonic() - begun)
                answers[sql] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask, number) for number in range(CLIENTS)]
        start.wait(60)
        time.sleep(seconds)
        stop.set()
        for client in clients:
            client.result(60 * SLOWNESS)
    return answers, errors, took


@pytest.fixture(scope="module")
def crowded(sphere: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(tmp_path_factory.mktemp("crowd") / "cluster") as cluster:
        cluster.ingest("crowd", [director("points", sphere, "id")], healpix(row_limit=6_000), replicas=2)
        yield cluster
        assert cluster.panics() == []


def test_two_hundred_clients_at_once(crowded: Watched) -> None:
    answers, errors, took = crowd(crowded, CLIENTS_FOR_S)
    took.sort()
    print(f"{CLIENTS} clients, {CLIENTS_FOR_S} s: {len(took)} answers, median {took[len(took) // 2] * 1e3:.0f} ms, "
          f"p99 {took[len(took) * 99 // 100] * 1e3:.0f} ms; errors: {dict(errors)}")
    assert not errors, "fewer than coordinator.max_queries clients are all served"
    assert set(answers) == {sql for sql, _ in ASKED} and len(took) >= CLIENTS
    time.sleep(1.0)
    assert crowded.figure("skyflight_queries_running") == 0 and crowded.figure("skyflight_plans_waiting") == 0
    assert crowded.figure("skyflight_queries_total", outcome="finished") >= len(took)
    assert crowded.figure("skyflight_queries_total", outcome="failed") == 0


def test_more_clients_than_may_be_are_told_the_limit(sphere: Path, tmp_path: Path) -> None:
    with Watched(tmp_path / "cluster", coordinator="max_queries = 8") as cluster:
        cluster.ingest("crowd", [director("points", sphere, "id")], healpix(row_limit=6_000), replicas=1)
        answers, errors, took = crowd(cluster, CLIENTS_FOR_S / 2)
        print(f"{len(took)} answers; {sum(errors.values())} refusals: {dict(errors)}")
        assert errors and all("max_queries" in error for error in errors), errors
        assert took and set(answers) <= {sql for sql, _ in ASKED}
        with cluster.flight() as client:
            assert client.value("SELECT 7") == 7, "and afterwards all is well"
        assert cluster.panics() == []
