"""Streaming every row to one client: bytes per CPU second of the coordinator beside a raw loopback relay, and
through the coordinator beside straight from the workers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from skyflight_testing.cluster import Cluster
from skyflight_testing.memory import MemorySamples
from skyflight_testing.tables import healpix

from .report import Report, mebibytes
from .survey import Survey

SQL = "SELECT objectId, ra, dec, gMag, rMag, iMag FROM dr1.Object"


def relay_limit(total: int) -> float:
    """`relay` in a process of its own: a process with Flight's threads must not fork."""
    command = [sys.executable, "-m", "bench.relay", str(total)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def run(folder: Path, objects: int, smoke: bool) -> Report:
    report = Report("Streaming all rows through the coordinator")
    survey = Survey(folder, objects)
    with Cluster(folder / "stream") as cluster:
        survey.ingest(cluster, "dr1", healpix(row_limit=250_000 if not smoke else 1_000))
        assert cluster.coordinator is not None
        with cluster.flight() as client:
            for attempt in ("first", "second"):
                coordinator = cluster.coordinator.cpu_seconds()
                workers = sum(worker.cpu_seconds() for worker in cluster.workers.values())
                started, rows, size = time.perf_counter(), 0, 0
                with MemorySamples(cluster) as memory:
                    for chunk in client.open(SQL, timeout_s=None):
                        rows += chunk.data.num_rows
                        size += chunk.data.nbytes
                seconds = time.perf_counter() - started
                cpu = max(cluster.coordinator.cpu_seconds() - coordinator, 0.01)
                spent = sum(worker.cpu_seconds() for worker in cluster.workers.values()) - workers
                limit = relay_limit(max(size, 64 << 20))
                report.add(
                    f"{attempt}: bytes per CPU second, coordinator", f"{size / cpu / 2**20:,.0f} MiB", "raw loopback relay",
                    f"{limit / 2**20:,.0f} MiB", size / cpu / limit, "0.6",
                )  # fmt: skip
                report.add(f"  {rows:,} rows, {mebibytes(size)}", f"{rows / seconds:,.0f} rows/s, {size / seconds / 2**20:,.0f} MiB/s")
                report.add("  CPU seconds: coordinator, workers", f"{cpu:.2f}, {spent:.2f}")
            add_memory(report, memory)
        by_coordinator = read_by_adbc(cluster, "single", report)
        by_workers = read_by_adbc(cluster, "direct", report)
        report.add("ADBC: straight from the workers, through the coordinator", f"{by_workers:.1f} s, {by_coordinator:.1f} s", ratio=by_coordinator / by_workers)
    return report


def add_memory(report: Report, memory: MemorySamples) -> None:
    for name, samples in memory.samples.items():
        if len(samples) >= 8:
            quarter = len(samples) // 4
            early, late = max(samples[quarter : 2 * quarter]), max(samples[-quarter:])
            report.add(f"  memory of {name}: second quarter, last quarter", f"{mebibytes(early)}, {mebibytes(late)}", ratio=early / late, aim="flat: 1.0")


def read_by_adbc(cluster: Cluster, mode: str, report: Report) -> float:
    """Reads all rows with endpoints of that mode; the seconds it took."""
    assert cluster.coordinator is not None
    started, rows, spent = time.perf_counter(), 0, cluster.coordinator.cpu_seconds()
    with cluster.adbc(**{"adbc.flight.sql.rpc.call_header.x-skyflight-endpoints": mode}) as connection:
        with connection.cursor() as cursor, MemorySamples(cluster) as memory:
            cursor.execute(SQL)
            for batch in cursor.fetch_record_batch():
                rows += batch.num_rows
    seconds = time.perf_counter() - started
    spent = cluster.coordinator.cpu_seconds() - spent
    report.add(f"ADBC, {mode}: {rows:,} rows, CPU seconds of the coordinator", f"{rows / seconds:,.0f} rows/s, {spent:.2f}")
    add_memory(report, memory)
    return seconds
