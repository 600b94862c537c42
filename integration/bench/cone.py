"""Cones of about a hundred rows: latency over Flight beside reading the same files in process."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import healpix

from .peers import SEPARATION, peers, percentile, timed
from .report import Report, milliseconds
from .survey import Survey, chunk_files

COLUMNS = "objectId, ra, dec, gMag, rMag"


def centers(cluster: Cluster, times: int) -> list[tuple[float, float, float]]:
    """Positions of rows, with the radius about each that holds some hundred of them at the local density."""
    rng = random.Random(5)
    with cluster.flight() as client:
        total = client.value("SELECT count(*) FROM dr1.Object")
        assert isinstance(total, int)
        step = max(1, total // (times * 3))
        sample = client.query(f"SELECT ra, dec FROM dr1.Object WHERE objectId % {step} = 0 AND abs(dec) < 85")
        picks = rng.sample(list(zip(*(column.to_pylist() for column in sample.columns))), times)
        found = []
        for ra, dec in picks:
            probe = 0.2
            near = client.value(f"SELECT count(*) FROM dr1.Object WHERE separation(ra, dec, {ra}, {dec}) < {probe}")
            assert isinstance(near, int)
            found.append((ra, dec, probe * math.sqrt(100 / max(near, 1))))
    return found


def bounded(ra: float, dec: float, radius: float) -> str:
    """The cone as a peer's user writes it: a box the statistics can prune by, and the angle."""
    width = radius / math.cos(math.radians(min(abs(dec) + radius, 89.9)))
    box = f"ra BETWEEN {ra - width} AND {ra + width} AND dec BETWEEN {dec - radius} AND {dec + radius}"
    return f"{box} AND {SEPARATION.format(ra=ra, dec=dec)} <= {radius}"


def run(folder: Path, objects: int, smoke: bool) -> Report:
    report = Report("Cones of about 100 rows")
    times = 20 if smoke else 300
    survey = Survey(folder, objects)
    with Cluster(folder / "cone") as cluster:
        survey.ingest(cluster, "dr1", healpix(row_limit=250_000 if not smoke else 1_000))
        files = chunk_files(cluster, "dr1")
        cones = centers(cluster, times)
        ours_sql = [f"SELECT {COLUMNS} FROM dr1.Object WHERE separation(ra, dec, {ra}, {dec}) <= {r}" for ra, dec, r in cones]
        theirs_sql = [f"SELECT {COLUMNS} FROM t WHERE {bounded(*cone)}" for cone in cones]
        with cluster.flight() as client:
            rows = [client.query(sql).num_rows for sql in ours_sql[: min(20, times)]]
            ours = _each(lambda sql: client.query(sql), ours_sql)
        report.note(f"{len(files)} chunk files; rows of a cone: median {np.median(rows):.0f}")
        for name, peer in peers(files).items():
            checked = [peer(sql).num_rows for sql in theirs_sql[: len(rows)]]
            # A cone across RA 0 is more than a box to a peer; those are not compared.
            agreed = sum(a == b for a, b in zip(rows, checked))
            report.note(f"{name} gives as many rows in {agreed} of {len(rows)} cones")
            theirs = _each(peer, theirs_sql[: max(20, times // 3)])
            for share, label in ((0.5, "p50"), (0.99, "p99")):
                a, b = percentile(ours, share), percentile(theirs, share)
                report.add(label, milliseconds(a), f"{name}, all chunk files", milliseconds(b), b / a)
        count = cluster.counters(ours_sql[0])
        report.note("one cone: " + ", ".join(f"{k} {count[k]:,}" for k in ("chunks_planned", "chunks_total", "rows_read", "bytes_read", "rows_received", "streams")))
    return report


def _each(query, statements: list[str]) -> list[float]:
    query(statements[0])
    remaining = iter(statements)
    return timed(lambda: query(next(remaining)), len(statements))
