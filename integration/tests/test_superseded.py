"""Files of replaced and dropped tables leave the disks: when nobody can read them any more, and not before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.flight as flight
import pytest

from skyflight_testing.clients import FlightSql
from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import SLOWNESS

TICKET_S, GRACE_S = 12, 14

CONFIG = f"[coordinator]\nticket_ttl_s = {TICKET_S}\nsuperseded_grace_s = {GRACE_S}\n"

DIRECTOR = """CREATE OR REPLACE TABLE mydb.stars WITH (ra = ra, dec = dec, id = id) AS
    SELECT * FROM (VALUES ({0}, 10.0, 5.0), ({0} + 1, 200.0, -5.0), ({0} + 2, 350.0, 80.0)) AS t(id, ra, dec)"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster", workers=2, config=CONFIG) as cluster:
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"


def stored(cluster: Cluster, worker: str, table: str) -> set[str]:
    return {file.name for file in (cluster.worker_folder(worker) / "chunks").glob(f"user_*/{table}/*/*.parquet")}


def indexes(cluster: Cluster) -> set[str]:
    return {file.name for file in (cluster.data / "index").glob("user_*/stars/*.parquet")}


def current(cluster: Cluster, table: str) -> set[str]:
    rows = cluster.records(
        """SELECT f.id, f.kind FROM files f JOIN table_definitions d ON d.table_id = f.table_id
           WHERE f.until_snapshot IS NULL AND d.until_snapshot IS NULL AND d.name = ?""", table)
    suffix = {"rows": ".parquet", "overlap": ".overlap.parquet", "director_index": ".parquet"}
    return {f"{id}{suffix[kind]}" for id, kind in rows}


def await_gone(what: str, gone, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s * SLOWNESS
    while not gone():
        assert time.monotonic() < deadline, f"{what} remain"
        time.sleep(0.2)


def ids(client: FlightSql, ticket: bytes) -> list[int]:
    return sorted(client.redeem(ticket).read_all().column("id").to_pylist())


def test_replaced_tables_leave_and_tickets_outlive_them(cluster: Cluster) -> None:
    def kept(worker: str) -> set[str]:
        return stored(cluster, worker, "stars") - current(cluster, "stars") | stored(cluster, worker, "gone")

    with cluster.flight() as client:
        client.query(DIRECTOR.format(100))
        old = client.info("SELECT id FROM mydb.stars").endpoints[0].ticket.ticket
        first = {worker: stored(cluster, worker, "stars") for worker in ("w1", "w2")}
        assert all(first.values()) and len(indexes(cluster)) == 1
        begun = time.monotonic()
        for times in range(2, 7):
            client.query(DIRECTOR.format(100 * times))
        client.query("CREATE TABLE mydb.gone AS SELECT 1 AS one")
        client.query("DROP TABLE mydb.gone")
        assert time.monotonic() - begun < TICKET_S, "too slow a machine for so short a ticket"
        assert ids(client, old) == [100, 101, 102], "the ticket is good for its time"
        # One worker is away, and the coordinator dies while files leave.
        port = cluster.workers["w2"].port
        cluster.workers["w2"].kill()
        while time.monotonic() - begun < TICKET_S + GRACE_S:
            assert first["w1"] <= stored(cluster, "w1", "stars"), "files left before their time"
            time.sleep(0.2)
    before = len(kept("w1"))
    await_gone("all superseded files of w1", lambda: len(kept("w1")) < before)
    assert cluster.coordinator is not None
    listened = cluster.coordinator.port
    cluster.coordinator.kill()
    cluster.start_coordinator(listened)
    await_gone("superseded files of w1", lambda: not kept("w1"))
    await_gone("superseded indexes", lambda: indexes(cluster) <= current(cluster, "stars"))
    assert kept("w2"), "the worker that is away has them still"
    cluster.start_worker("w2", port)
    cluster.await_workers({"w1", "w2"})
    await_gone("superseded files of w2", lambda: not kept("w2"))
    with cluster.flight() as client:
        assert client.query("SELECT id FROM mydb.stars ORDER BY id").column("id").to_pylist() == [600, 601, 602]
        assert client.value("SELECT id FROM mydb.stars WHERE id = 601") == 601
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.redeem(old).read_all()
    left = "SELECT count(*) FROM replicas r JOIN files f ON f.id = r.file_id WHERE f.until_snapshot IS NOT NULL"
    assert cluster.records(left) == [(0,)]


def test_an_open_job_holds_its_files(cluster: Cluster) -> None:
    with cluster.flight() as client:
        client.query(DIRECTOR.format(100))
        # Runs for longer than files are kept.
        slow = client.query("""SUBMIT SELECT count(*) AS n FROM mydb.stars s
            CROSS JOIN range(1000000) a CROSS JOIN range(1000000) b WHERE s.id + a.value + b.value < 0""").column("id")[0].as_py()
        held = {worker: stored(cluster, worker, "stars") for worker in ("w1", "w2")}
        client.query(DIRECTOR.format(200))
        until = time.monotonic() + TICKET_S + GRACE_S + 6
        while time.monotonic() < until:
            state = client.value(f"SELECT state FROM system.queries WHERE id = '{slow}'")
            assert state in ("queued", "running"), f"the job is {state}, and holds nothing"
            assert all(files <= stored(cluster, worker, "stars") for worker, files in held.items())
            time.sleep(0.5)
        client.query(f"CANCEL '{slow}'")
        for worker, files in held.items():
            await_gone(f"files of {worker}", lambda: not files & stored(cluster, worker, "stars"))
