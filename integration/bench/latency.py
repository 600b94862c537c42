"""How long a trivial statement takes by each client: what a client adds to every question, and the server to each call."""

from __future__ import annotations

from pathlib import Path

from clients import small_sky
from clients.build import Missing
from clients.client import Place
from clients.registry import CLIENTS
from skyflight_testing.cluster import Cluster

from .peers import percentile
from .report import Report, milliseconds

STATEMENTS = {
    "SELECT 1": "SELECT 1 AS one",
    "one object by its id": 'SELECT "objectId", ra, dec FROM dr1.object WHERE "objectId" = 1234',
}


def run(folder: Path, objects: int, smoke: bool) -> Report:
    del objects
    report = Report("Latency of small statements by client, one after the other")
    warm, times = (2, 10) if smoke else (50, 1_000)
    with Cluster(folder / "latency", workers=2) as cluster:
        small_sky.load(cluster, folder)
        assert cluster.coordinator is not None
        place = Place("127.0.0.1", cluster.coordinator.port)
        for what, sql in STATEMENTS.items():
            for client in CLIENTS.values():
                try:
                    session = client.open(place)
                except Missing as missing:
                    report.add(f"{what}, {client.title}", str(missing))
                    continue
                session.time(sql, warm)
                seconds = sorted(session.time(sql, times))
                session.close()
                median, p99 = (milliseconds(percentile(seconds, share)) for share in (0.5, 0.99))
                report.add(f"{what}, {client.title}", f"median {median}", "99th percentile", p99)
    report.note(f"{times:,} runs each after {warm} to warm up; connections are kept, results are read")
    return report
