"""A worker dies under a client: in single mode nothing is lost, in direct mode the client hears of it. Never is a part
of the rows taken for all, and never does a row come twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.faults import running_tasks

from . import small_sky
from .client import Client, ClientFailed, Place, Session, failure_of
from .small_sky import DATABASE, OBJECTS

#: So many copies of each source that no buffer on the way holds them, and no client has read them at once.
COPIES = small_sky.COPIES
SOURCES = OBJECTS * small_sky.SOURCES_OF_EACH
SQL = f'SELECT s."sourceId", s."objectId", s.flux, c.copy FROM source s CROSS JOIN copies c WHERE c.copy <= {COPIES}'
EXACT = (SOURCES * COPIES, COPIES * SOURCES * (SOURCES + 1) // 2)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers and two copies of each chunk, so that every row outlives any one of them."""
    folder = tmp_path_factory.mktemp("mortal")
    with Cluster(folder / "cluster") as cluster:
        small_sky.load(cluster, folder)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"


def counted(session: Session) -> tuple[int, int] | ClientFailed:
    try:
        return session.count(SQL)
    except Exception as error:
        return failure_of(error)


@pytest.mark.capability("large", "workers")
@pytest.mark.parametrize("mode", ["single", "direct"])
def test_a_worker_dies(mortal: Cluster, client: Client, mode: str) -> None:
    assert mortal.coordinator is not None
    place = Place("127.0.0.1", mortal.coordinator.port, database=DATABASE, endpoints=mode)
    session = client.open(place)
    found: list[tuple[int, int] | ClientFailed] = []
    reading = threading.Thread(target=lambda: found.append(counted(session)), daemon=True)
    reading.start()
    deadline = time.monotonic() + 30
    while not (busy := [name for name in mortal.workers if running_tasks(mortal, name)]):
        assert time.monotonic() < deadline and not found, f"no worker has anything to do: {found}"
        time.sleep(0.02)
    # Until then all have their schemas, and rows flow.
    time.sleep(0.7)
    assert not found, "the rows were read before the worker was killed"
    victim = busy[-1]
    assert running_tasks(mortal, victim) > 0, "the worker was done before it was killed"
    mortal.workers[victim].kill()
    try:
        reading.join(240)
        assert found, "the client waits for a dead worker"
        print(f"{client.name}, {mode}, killed in mid-stream: {found[0]}")
        if mode == "single":
            assert found[0] == EXACT
        else:
            # None of these clients goes on elsewhere once it has a message; what it must not do is to stop quietly.
            assert isinstance(found[0], ClientFailed), f"{found[0]} instead of an error"
            assert found[0].message
        # Dead before the first message: it is not named any more, and its chunks are read on the others.
        again = client.open(place)
        assert counted(again) == EXACT
        again.close()
    finally:
        mortal.start_worker(victim)
        mortal.await_workers({victim})
    fresh = client.open(replace(place, endpoints=None))
    assert fresh.query("SELECT count(*) AS n FROM source").rows == [(SOURCES,)]
    fresh.close()
