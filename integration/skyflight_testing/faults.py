"""Killing workers in the middle of queries, and telling whether the answers are still exact."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.flight as flight

from .clients import grpc
from .cluster import Cluster


@dataclass(frozen=True)
class Probe:
    """A query whose whole answer is known from elsewhere. Its values are exact: no sums of floats."""

    name: str
    sql: str
    expected: pa.Table


@dataclass(frozen=True)
class Kill:
    """What happened in one run."""

    probe: str
    worker: str
    after_s: float
    #: Whether the query was still under way when the worker died.
    struck: bool
    query_s: float


def sorted_rows(table: pa.Table) -> pa.Table:
    """The rows in an order that depends on them alone."""
    ordered = table.combine_chunks().sort_by([(name, "ascending") for name in table.column_names])
    return ordered.combine_chunks()


def assert_exact(found: pa.Table, expected: pa.Table, about: str) -> None:
    """Every row of the answer, compared; both tables must be `sorted_rows`."""
    assert found.column_names == expected.column_names, about
    assert found.num_rows == expected.num_rows, f"{about}: {found.num_rows} rows instead of {expected.num_rows}"
    for name in expected.column_names:
        column = expected.column(name)
        assert found.column(name).cast(column.type).equals(column), f"{about}: column {name} differs"


def running_tasks(cluster: Cluster, worker: str) -> int:
    """Tasks that run on a worker now: field 2 of what it answers to a ping."""
    with flight.connect(grpc(cluster.workers[worker].url)) as client:
        [status] = client.do_action(flight.Action("skyflight.ping", b""))
    body = status.body.to_pybytes()
    rest = body[2 + body[1] :]
    return rest[1] if rest[:1] == b"\x10" else 0


class Running:
    """A query that is read in a thread, as slowly as said."""

    def __init__(self, cluster: Cluster, sql: str, pause_s: float = 0.0) -> None:
        self.table: pa.Table | None = None
        self.error: BaseException | None = None
        self.started = time.monotonic()
        self.took_s = 0.0
        self._thread = threading.Thread(target=self._read, args=(cluster, sql, pause_s), daemon=True)
        self._thread.start()

    def _read(self, cluster: Cluster, sql: str, pause_s: float) -> None:
        try:
            with cluster.flight() as client:
                reader, batches = client.open(sql), []
                for chunk in reader:
                    batches.append(chunk.data)
                    time.sleep(pause_s)
                self.table = pa.Table.from_batches(batches, reader.schema)
        except BaseException as error:
            self.error = error
        self.took_s = time.monotonic() - self.started

    def under_way(self) -> bool:
        return self._thread.is_alive()

    def result(self, within_s: float) -> pa.Table:
        self._thread.join(within_s)
        if self.under_way():
            raise TimeoutError(f"no answer after {within_s} s")
        if self.error is not None:
            raise self.error
        assert self.table is not None
        return self.table


def kill_during(cluster: Cluster, probe: Probe, rng: random.Random, typical_s: float, within_s: float = 120) -> Kill:
    """Kills a random worker at a random moment of the query, checks the answer, and starts the worker again."""
    victim = rng.choice(sorted(cluster.workers))
    after_s = rng.uniform(0.0, 1.0) * typical_s
    # A client that is slow to read keeps the streams open and the buffers full.
    pause_s = rng.choice([0.0, 0.0, typical_s / 400])
    port = cluster.workers[victim].port if rng.random() < 0.5 else 0
    running = Running(cluster, probe.sql, pause_s)
    time.sleep(max(0.0, after_s - (time.monotonic() - running.started)))
    struck = running.under_way()
    cluster.workers[victim].kill()
    try:
        found = running.result(within_s)
        assert_exact(sorted_rows(found), probe.expected, f"{probe.name}, {victim} killed after {after_s:.3f} s")
    finally:
        cluster.start_worker(victim, port)
        cluster.await_workers({victim})
    return Kill(probe.name, victim, after_s, struck, running.took_s)
