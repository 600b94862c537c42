"""A director joined with its child, chunk by chunk, beside one hash join over all files in process."""

from __future__ import annotations

from pathlib import Path

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import healpix

from .peers import peers_of, percentile, timed
from .report import Report, milliseconds
from .survey import Survey, chunk_files

SOURCES = 4

QUERIES = {
    "count and means": (
        "SELECT count(*) AS n, avg(o.rMag) AS m, avg(s.psfFlux) AS f FROM {o} o JOIN {s} s ON o.objectId = s.objectId"
    ),
    "means of each object": (
        "SELECT count(*) AS n, max(m) AS m FROM (SELECT o.objectId, avg(s.psfFlux) AS m FROM {o} o "
        "JOIN {s} s ON o.objectId = s.objectId GROUP BY o.objectId) t"
    ),
    "objects without": (
        "SELECT count(*) AS n FROM {o} o LEFT JOIN {s} s ON o.objectId = s.objectId AND s.psfFlux > 1e-27 "
        "WHERE s.objectId IS NULL"
    ),
}


def run(folder: Path, objects: int, smoke: bool) -> Report:
    objects = max(2_000, objects // 10)
    report = Report(f"{objects:,} objects joined with {objects * SOURCES:,} sources")
    times = 1 if smoke else 5
    survey = Survey(folder, objects, SOURCES)
    with Cluster(folder / "children") as cluster, cluster.flight() as client:
        survey.ingest(cluster, "dr1", healpix(row_limit=250_000 if not smoke else 1_000))
        files = {name: chunk_files(cluster, "dr1", table) for name, table in (("object", "Object"), ("source", "Source"))}
        for what, sql in QUERIES.items():
            ours_sql = sql.format(o="dr1.Object", s="dr1.Source")
            ours = timed(lambda: client.query(ours_sql), times)
            expected = None
            for name, peer in peers_of(files).items():
                theirs_sql = sql.format(o="object", s="source")
                answer = peer(theirs_sql)
                expected = expected or answer.column("n")[0].as_py()
                if client.query(ours_sql).column("n")[0].as_py() != expected:
                    raise AssertionError(f"{what}: another count than {name}'s {expected}")
                theirs = timed(lambda: peer(theirs_sql), times)
                a, b = percentile(ours, 0.5), percentile(theirs, 0.5)
                report.add(what, milliseconds(a), f"{name}, hash join", milliseconds(b), b / a, "2")
            count = cluster.counters(ours_sql)
            shown = ("chunks_planned", "rows_read", "rows_received", "bytes_received")
            report.note(f"{what}: " + ", ".join(f"{k} {count[k]:,}" for k in shown))
    return report
