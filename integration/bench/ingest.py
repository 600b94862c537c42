"""Ingest: rows a second, and memory that does not grow with the input."""

from __future__ import annotations

from pathlib import Path

import duckdb

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import healpix

from .peers import timed
from .report import Report, mebibytes
from .survey import Survey, measured


def run(folder: Path, objects: int, smoke: bool) -> Report:
    report = Report("Ingest (healpix, one copy of each chunk, three workers)")
    for share in (4, 1):
        survey = Survey(folder, objects // share)
        with Cluster(folder / f"ingest-{share}") as cluster:
            used = survey.ingest(cluster, "dr1", healpix(row_limit=250_000 if not smoke else 1_000))
            with cluster.flight() as client:
                rows = client.value("SELECT count(*) FROM dr1.Object")
            assert isinstance(rows, int)
            workers = max(worker.memory_bytes("VmHWM") for worker in cluster.workers.values())
        target = folder / "sorted.parquet"
        listed = ", ".join(f"'{file}'" for file in survey.input_files())
        connection = duckdb.connect()
        # What cutting a catalog comes to in a database that knows no sky: sort by zone, write compressed.
        sql = f"COPY (SELECT * FROM read_parquet([{listed}]) ORDER BY floor(dec * 10), ra) TO '{target}' (COMPRESSION lz4)"
        theirs = timed(lambda: connection.execute(sql), 1)[0]
        ours = rows / used.seconds
        report.add(
            f"{rows:,} rows, {mebibytes(survey.bytes())}", f"{ours:,.0f} rows/s", "DuckDB sort and write",
            f"{rows / theirs:,.0f} rows/s", ours * theirs / rows,
        )  # fmt: skip
        report.add("  peak memory: ingest, largest worker", f"{mebibytes(used.peak_bytes)}, {mebibytes(workers)}")
        report.add("  CPU seconds per million rows (ingest process)", f"{used.cpu_seconds / rows * 1e6:.2f}")
        target.unlink()
    # The disk's own limit, fsync included.
    source = survey.input_files()[0]
    copied = measured(["dd", f"if={source}", f"of={folder / 'copied'}", "bs=1M", "conv=fsync"], folder / "dd.log")
    report.note(f"the disk takes {source.stat().st_size / copied.seconds / 2**20:,.0f} MiB/s (dd with fsync of one input file)")
    (folder / "copied").unlink()
    return report
