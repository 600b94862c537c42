"""GROUP BY of a million groups over four workers: rows that meet on the workers beside rows that meet on the coordinator."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import director, healpix

from .report import Report, mebibytes

#: The groups meet, and few rows leave: what is measured is the meeting.
SQL = "SELECT count(*) AS groups, sum(n) AS n, max(m) AS m FROM (SELECT k, count(*) AS n, max(mag) AS m FROM d.T GROUP BY k)"
#: All groups leave as well.
ALL = "SELECT k, count(*) AS n, max(mag) AS m FROM d.T GROUP BY k"
RUNS = 5
ROWS_PER_GROUP = 4


def table(folder: Path, groups: int) -> Path:
    """Rows anywhere on the sky, whose group has nothing to do with where they are."""
    rng = np.random.default_rng(1)
    rows = groups * ROWS_PER_GROUP
    file = folder / f"groups-{groups}.parquet"
    if not file.exists():
        columns = {
            "id": rng.permutation(rows).astype(np.int64),
            "ra": rng.uniform(0, 360, rows),
            "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, rows))),
            "k": rng.permutation(rows).astype(np.int64) % groups,
            "mag": rng.uniform(12, 25, rows),
        }
        pq.write_table(pa.table(columns), file)
    return file


def run(folder: Path, objects: int, smoke: bool) -> Report:
    report = Report("GROUP BY of many groups over four workers, by where the rows meet")
    groups = 5_000 if smoke else 1_000_000
    file = table(folder, groups)
    report.note(f"{groups:,} groups of {ROWS_PER_GROUP} rows spread over the sky; medians of {1 if smoke else RUNS} runs")
    report.note("beside: the same query with `shuffle = never`, on the same cluster, in turns")
    report.note("all processes share this machine's processors, so what is gained by more of them shows only as CPU moved away from the coordinator")
    with Cluster(folder / "shuffle", workers=4) as cluster:
        cluster.ingest("d", [director("T", file, "id")], healpix(row_limit=1_000 if smoke else 100_000), replicas=1)
        for what, sql in (("groups met and counted", SQL), ("all groups to the client", ALL)):
            measured: dict[str, list[tuple[float, float, float]]] = {"always": [], "never": []}
            for _ in range(1 if smoke else RUNS):
                for mode, runs in measured.items():
                    runs.append(once(cluster, sql, mode, groups))
            ours, theirs = ([median(part) for part in zip(*measured[mode])] for mode in ("always", "never"))
            for number, part in enumerate(("seconds", "CPU seconds, coordinator", "CPU seconds, workers")):
                report.add(
                    f"{what}: {part}", f"{ours[number]:.2f}", "merged", f"{theirs[number]:.2f}", theirs[number] / max(ours[number], 0.01),
                )  # fmt: skip
        received = {}
        for mode in ("always", "never"):
            with cluster.flight(x_skyflight_shuffle=mode) as client:
                received[mode] = cluster.counters(SQL, client)["bytes_received"]
        report.add(
            "groups met and counted: bytes to the coordinator", mebibytes(received["always"]), "merged", mebibytes(received["never"]),
            received["never"] / max(received["always"], 1),
        )  # fmt: skip
    return report


def once(cluster: Cluster, sql: str, mode: str, groups: int) -> tuple[float, float, float]:
    """Seconds, CPU seconds of the coordinator, CPU seconds of the workers."""
    assert cluster.coordinator is not None
    coordinator = cluster.coordinator.cpu_seconds()
    workers = sum(worker.cpu_seconds() for worker in cluster.workers.values())
    with cluster.flight(x_skyflight_shuffle=mode) as client:
        started = time.perf_counter()
        rows = client.query(sql, timeout_s=None)
        seconds = time.perf_counter() - started
    found = rows.column("groups")[0].as_py() if "groups" in rows.column_names else rows.num_rows
    assert found == groups, f"{found} groups instead of {groups}"
    spent = sum(worker.cpu_seconds() for worker in cluster.workers.values()) - workers
    return seconds, cluster.coordinator.cpu_seconds() - coordinator, spent


def median(values: tuple[float, ...]) -> float:
    return sorted(values)[len(values) // 2]
