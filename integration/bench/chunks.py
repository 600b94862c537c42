"""What a chunk costs the coordinator, on some 12,000 of them."""

from __future__ import annotations

from pathlib import Path

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import healpix

from .report import Report, milliseconds
from .peers import timed
from .survey import Survey

SCAN = "SELECT count(*) AS n, max(rMag) AS r FROM dr1.Object WHERE gMag > 0"
FEW = "SELECT count(*) AS n, max(rMag) AS r FROM dr1.Object WHERE gMag > 0 AND separation(ra, dec, 100.0, 10.0) < 0.01"


def run(folder: Path, objects: int, smoke: bool) -> Report:
    report = Report("Coordinator CPU for each chunk of a query")
    # Few rows in each chunk: it is the number of chunks that is measured, not their size.
    survey = Survey(folder, 20_000 if smoke else min(objects, 400_000))
    order, times = (2, 3) if smoke else (5, 20)
    with Cluster(folder / "chunks") as cluster:
        survey.ingest(cluster, "dr1", healpix(row_limit=10**9, min_order=order))
        assert cluster.coordinator is not None
        with cluster.flight() as client:
            cost = {}
            for name, sql in (("few", FEW), ("scan", SCAN)):
                client.query(sql)
                before = cluster.coordinator.cpu_seconds()
                seconds = timed(lambda: client.query(sql), times)
                cost[name] = (cluster.coordinator.cpu_seconds() - before) / times
                report.add(f"{name}: one query, coordinator CPU", f"{milliseconds(seconds[0])}, {cost[name] * 1e3:.2f} ms CPU")
        count = cluster.counters(SCAN)
        chunks = count["chunks_planned"]
        each = max(cost["scan"] - cost["few"], 0.0) / chunks * 1e6
        report.add(f"CPU for each of {chunks:,} chunks", f"{each:.1f} µs", "aim", "15 µs", 15 / max(each, 1e-3), "1.0")
        report.note("counted: " + ", ".join(f"{name} {value:,}" for name, value in count.items()))
        report.note(f"{count['streams']} streams for {chunks:,} chunks: no call for each chunk")
    return report
