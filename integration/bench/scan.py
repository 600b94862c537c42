"""Full scans: aggregates over every row through the cluster, beside the same files read in process."""

from __future__ import annotations

from pathlib import Path

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import healpix

from .peers import peers, timed
from .report import Report, milliseconds
from .survey import Survey, chunk_files

QUERIES = {
    "count and means": "SELECT count(*) AS n, avg(gMag) AS g, min(rMag) AS r, max(pmra) AS p FROM {t}",
    "filter and count": "SELECT count(*) AS n FROM {t} WHERE gMag - rMag > 0.8 AND iMag < 21",
    "group by zone": "SELECT CAST(floor(dec) AS BIGINT) AS z, count(*) AS n, avg(rMag) AS r FROM {t} GROUP BY CAST(floor(dec) AS BIGINT)",
    "brightest 100": "SELECT objectId, rMag FROM {t} WHERE rMag IS NOT NULL ORDER BY rMag, objectId LIMIT 100",
}


def run(folder: Path, objects: int, smoke: bool) -> Report:
    report = Report("Full scans, best of several runs (aim beside DataFusion: 0.9)")
    survey = Survey(folder, objects)
    times = 2 if smoke else 5
    with Cluster(folder / "scan") as cluster:
        survey.ingest(cluster, "dr1", healpix(row_limit=250_000 if not smoke else 1_000))
        files = chunk_files(cluster, "dr1")
        others = peers(files)
        for name, sql in QUERIES.items():
            with cluster.flight() as client:
                statement = sql.format(t="dr1.Object")
                expected = client.query(statement).num_rows
                before = sum(process.cpu_seconds() for process in cluster.processes())
                ours = timed(lambda: client.query(statement), times)[0]
                cpu = (sum(process.cpu_seconds() for process in cluster.processes()) - before) / times
            for peer_name, peer in others.items():
                statement = sql.format(t="t")
                assert peer(statement).num_rows == expected
                theirs = timed(lambda: peer(statement), times)[0]
                aim = "0.9" if peer_name == "DataFusion" else ""
                report.add(name, milliseconds(ours), peer_name, milliseconds(theirs), theirs / ours, aim)
            report.add("  CPU of all servers", f"{cpu * 1e3:.0f} ms")
        count = cluster.counters(QUERIES["group by zone"].format(t="dr1.Object"))
        report.note(f"{len(files)} chunk files; group by zone: " + ", ".join(f"{name} {value:,}" for name, value in count.items()))
    return report
