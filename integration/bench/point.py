"""One row by its id: latency over Flight, at two sizes of the table, beside the same files in process."""

from __future__ import annotations

import random
from pathlib import Path

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import healpix

from .peers import peers, percentile, timed
from .report import Report, milliseconds
from .survey import Survey, chunk_files

COLUMNS = "objectId, ra, dec, gMag, rMag"


def run(folder: Path, objects: int, smoke: bool) -> Report:
    report = Report("One object by its id")
    times = 20 if smoke else 2_000
    medians = {}
    for size in (max(1_000, objects // 100), objects):
        survey = Survey(folder, size)
        with Cluster(folder / f"point-{size}") as cluster, cluster.flight() as client:
            survey.ingest(cluster, "dr1", healpix(row_limit=250_000 if not smoke else 1_000))
            step = max(1, size // (2 * times))
            ids = client.query(f"SELECT objectId FROM dr1.Object WHERE objectId % {step} = 0").column(0).to_pylist()
            ids = random.Random(7).choices(ids, k=times)
            statements = [f"SELECT {COLUMNS} FROM dr1.Object WHERE objectId = {id}" for id in ids]
            found = [client.query(sql).num_rows for sql in statements[:20]]
            if min(found) == 0:
                raise AssertionError(f"each id has a row, here {found}")
            ours = _each(client.query, statements)
            trivial = timed(lambda: client.query("SELECT 1"), times)
            medians[size] = percentile(ours, 0.5)
            for share, label in ((0.5, "p50"), (0.99, "p99")):
                a, b = percentile(ours, share), percentile(trivial, share)
                report.add(f"{label} of {size:,}", milliseconds(a), "SELECT 1 by the same client", milliseconds(b), b / a, "3 ms")
            if size == objects:
                _peers(report, cluster, statements, ours)
            count = cluster.counters(statements[0])
            shown = ("chunks_planned", "chunks_total", "rows_read", "bytes_read")
            report.note(f"one of {size:,}: " + ", ".join(f"{k} {count[k]:,}" for k in shown))
    small, large = medians.values()
    report.note(f"the larger table takes {large / small:.2f} of the time of the one a hundredth of its size")
    return report


def _peers(report: Report, cluster: Cluster, statements: list[str], ours: list[float]) -> None:
    for name, peer in peers(chunk_files(cluster, "dr1")).items():
        theirs = _each(peer, [sql.replace("dr1.Object", "t") for sql in statements[: max(20, len(statements) // 8)]])
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            a, b = percentile(ours, share), percentile(theirs, share)
            report.add(label, milliseconds(a), f"{name}, all chunk files", milliseconds(b), b / a)


def _each(query, statements: list[str]) -> list[float]:
    query(statements[0])
    remaining = iter(statements)
    return timed(lambda: query(next(remaining)), len(statements))
