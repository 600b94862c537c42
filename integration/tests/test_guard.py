"""Statements that abort, exhaust or hang a plain DataFusion process end here with a clear error, or stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import SLOWNESS

#: A statement is refused, or has stopped after it was cancelled, within so many seconds.
SOON_S = 2.0 * SLOWNESS

TOO_MUCH: dict[str, str] = {
    "sum of 2,000 terms": "SELECT " + " + ".join(["1"] * 2_000),
    "sum of 2,000 columns": "SELECT " + " + ".join(["hip"] * 2_000) + " FROM hip_h.hipparcos2",
    "OR of 10,000 terms": "SELECT count(*) FROM hip_h.hipparcos2 WHERE " + " OR ".join(f"hip = {n}" for n in range(10_000)),
    "AND of 10,000 terms": "SELECT count(*) FROM hip_h.hipparcos2 WHERE " + " AND ".join(f"hip <> {n}" for n in range(10_000)),
    "3,000 parentheses": "SELECT " + "(" * 3_000 + "1" + ")" * 3_000,
    "2,000 NOT": "SELECT " + "NOT " * 2_000 + "true",
    "1,000 UNION ALL": " UNION ALL ".join(["SELECT 1"] * 1_000),
    "text of 3.5 MiB": "SELECT 1 --" + "x" * (7 << 19),
    "IN of 110,000": "SELECT count(*) FROM hip_h.hipparcos2 WHERE hip IN (" + ", ".join(map(str, range(110_000))) + ")",
    "repeat": "SELECT length(repeat('x', 1000000000))",
    "repeat of a column": "SELECT max(length(repeat('x', hip * 100000))) FROM hip_h.hipparcos2",
    "lpad": "SELECT length(lpad('x', 1000000000, 'y'))",
    "rpad of a column": "SELECT max(length(rpad('x', 1000000000 + hip, 'y'))) FROM hip_h.hipparcos2",
    "range as a list": "SELECT cardinality(range(0, 1000000000))",
    "generate_series as a list": "SELECT cardinality(generate_series(0, 1000000000))",
    "lists of a column": "SELECT sum(cardinality(range(0, hip * 100000))) FROM hip_h.hipparcos2",
}

REFUSED: dict[str, str] = {
    "COPY": "COPY (SELECT 1) TO '/tmp/skyflight-must-not-exist.csv'",
    "COPY of a table": "COPY hip_h.hipparcos2 TO '/tmp/skyflight-must-not-exist.parquet'",
    "CREATE EXTERNAL TABLE": "CREATE EXTERNAL TABLE passwd STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE TABLE": "CREATE TABLE hip_h.t AS SELECT 1",
    "CREATE VIEW": "CREATE VIEW v AS SELECT 1",
    "DROP": "DROP TABLE hip_h.hipparcos2",
    "INSERT": "INSERT INTO hip_h.hipparcos2 SELECT * FROM hip_h.hipparcos2",
    "DELETE": "DELETE FROM hip_h.hipparcos2",
    "SET": "SET datafusion.runtime.memory_limit = '100G'",
    "SET of a harmless option": "SET datafusion.execution.batch_size = 1",
    "RESET": "RESET datafusion.execution.batch_size",
    "SHOW ALL": "SHOW ALL",
    "SHOW of an option": "SHOW datafusion.execution.batch_size",
    "settings": "SELECT * FROM information_schema.df_settings",
    "EXPLAIN of COPY": "EXPLAIN COPY (SELECT 1) TO '/tmp/skyflight-must-not-exist.csv'",
    "a file as a table": "SELECT * FROM '/etc/passwd'",
    "a file by a function": "SELECT * FROM read_csv('/etc/passwd')",
}


def still_serves(sky: Cluster) -> None:
    with sky.flight() as client:
        assert client.value("SELECT count(*) FROM hip_h.hipparcos2") == 117_955
    assert all(process.alive() for process in sky.processes())


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much(sky: Cluster, name: str) -> None:
    """An error that is the user's, soon, and the process lives. A small answer would be as good."""
    before = sky.processes()[0].memory_bytes()
    started = time.monotonic()
    with sky.flight() as client, pytest.raises(pa.ArrowException) as raised:
        client.query(TOO_MUCH[name], timeout_s=60)
    took = time.monotonic() - started
    assert not isinstance(raised.value, (flight.FlightInternalError, flight.FlightUnavailableError, flight.FlightTimedOutError)), raised.value
    assert took < SOON_S, f"refused after {took:.1f} s"
    assert len(str(raised.value)) < 4_000, "the message must fit in a trailer and on a screen"
    assert sky.processes()[0].memory_bytes() < before + (1 << 30)
    still_serves(sky)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(sky: Cluster, name: str) -> None:
    with sky.flight() as client, pytest.raises(pa.ArrowException) as raised:
        client.query(REFUSED[name])
    assert not isinstance(raised.value, flight.FlightInternalError), raised.value
    with sky.adbc() as connection, connection.cursor() as cursor, pytest.raises(adbc_driver_manager.Error):
        cursor.execute(REFUSED[name])
        cursor.fetchall()
    still_serves(sky)


ENDLESS: dict[str, str] = {
    "cross join of series": "SELECT count(*) FROM range(1000000) a CROSS JOIN range(1000000) b WHERE a.value + b.value < 0",
    "cross join of tables": "SELECT count(*) FROM sky_h.gaia a, sky_h.gaia b WHERE a.ra + b.ra < a.dec + b.dec - 500",
    "cross join that streams": "SELECT a.source_id, b.hip FROM sky_h.gaia a CROSS JOIN hip_h.hipparcos2 b",
    "series": "SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 3",
    "sort of a series": "SELECT * FROM generate_series(1, 100000000000) t(v) ORDER BY v % 1000003, v DESC LIMIT 5",
    "join of one key": """SELECT count(*) FROM (SELECT 1 AS k, ra FROM sky_s.gaia) a
        JOIN (SELECT 1 AS k, dec FROM sky_s.gaia) b ON a.k = b.k WHERE a.ra < b.dec - 500""",
}


def cancelled_by_adbc(sky: Cluster, sql: str) -> None:
    """ADBC's cancel, from another thread, while a fetch waits."""
    with sky.adbc() as connection, connection.cursor() as cursor:
        canceller = threading.Timer(1.0, cursor.adbc_cancel)
        canceller.start()
        try:
            cursor.execute(sql)
            while cursor.fetchmany(10_000):
                pass
        except adbc_driver_manager.Error:
            pass
        finally:
            canceller.join()


def cancelled_by_pyarrow(sky: Cluster, sql: str) -> None:
    """A reader that is cancelled, as a notebook's interrupt does."""
    with sky.flight() as client:
        try:
            reader = client.open(sql)
            canceller = threading.Timer(1.0, reader.cancel)
            canceller.start()
            for _ in reader:
                pass
        except (pa.ArrowException, flight.FlightCancelledError):
            pass


def dropped_connection(sky: Cluster, sql: str) -> None:
    """A client that goes away in the middle: its deadline passes and the connection closes."""
    with sky.flight() as client:
        try:
            for _ in client.open(sql, timeout_s=1.0):
                pass
        except (pa.ArrowException, flight.FlightTimedOutError):
            pass


WAYS: dict[str, Callable[[Cluster, str], None]] = {
    "adbc": cancelled_by_adbc,
    "pyarrow": cancelled_by_pyarrow,
    "gone": dropped_connection,
}


def cpu(sky: Cluster) -> float:
    return sum(process.cpu_seconds() for process in sky.processes())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ENDLESS)
def test_cancelled_after_a_second(sky: Cluster, name: str, way: str) -> None:
    """The client is free at once, and the servers stop working on it: told by the CPU time they use."""
    started = time.monotonic()
    WAYS[way](sky, ENDLESS[name])
    took = time.monotonic() - started
    assert took < 1.0 + SOON_S, f"the client waited {took:.1f} s"
    deadline = started + 1.0 + SOON_S
    while True:
        used, at = cpu(sky), time.monotonic()
        time.sleep(0.5)
        busy = (cpu(sky) - used) / (time.monotonic() - at)
        if busy < 0.25:
            break
        assert time.monotonic() < deadline, f"the servers still use {busy:.1f} cores {time.monotonic() - started:.1f} s after the start"
    still_serves(sky)
