"""Peers in process: DuckDB, and DataFusion where its package is installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa

try:
    import datafusion
except ImportError:  # The tests' environment has none; the figures then lack that row.
    datafusion = None

#: The angle in degrees as both peers can compute it.
SEPARATION = (
    "degrees(2 * asin(sqrt(power(sin(radians(dec - {dec}) / 2), 2)"
    " + cos(radians(dec)) * cos(radians({dec})) * power(sin(radians(ra - {ra}) / 2), 2))))"
)

Peer = Callable[[str], pa.Table]


def duck(tables: dict[str, list[Path]], threads: int) -> Peer:
    """Runs SQL on tables of these files in DuckDB."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    for name, files in tables.items():
        listed = ", ".join(f"'{file}'" for file in files)
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{listed}])")
    return lambda sql: connection.sql(sql).to_arrow_table()


def fusion(tables: dict[str, list[Path]], threads: int) -> Peer | None:
    """The same in DataFusion, as a user would: listing tables with pruning on."""
    if datafusion is None:
        return None
    config = (
        datafusion.SessionConfig()
        .with_target_partitions(threads)
        .set("datafusion.execution.parquet.pushdown_filters", "true")
        .set("datafusion.sql_parser.enable_ident_normalization", "false")
    )
    context = datafusion.SessionContext(config)
    for name, files in tables.items():
        # Links to the very files: the package takes a folder, not a list.
        folder = files[0].parents[2] / f"linked-{len(files)}-{files[0].stem}"
        if not folder.exists():
            folder.mkdir()
            for file in files:
                (folder / file.name).symlink_to(file)
        context.register_parquet(name, str(folder))
    return lambda sql: context.sql(sql).to_arrow_table()


def peers(files: list[Path], threads: int = 2) -> dict[str, Peer]:
    """All that can be had here, with these files as a table `t` and as many threads."""
    return peers_of({"t": files}, threads)


def peers_of(tables: dict[str, list[Path]], threads: int = 2) -> dict[str, Peer]:
    """The same with tables of any names."""
    found: dict[str, Peer | None] = {"DuckDB": duck(tables, threads), "DataFusion": fusion(tables, threads)}
    return {name: peer for name, peer in found.items() if peer is not None}


def timed(call: Callable[[], object], times: int) -> list[float]:
    """Seconds of each call, sorted."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return sorted(taken)


def percentile(sorted_seconds: list[float], share: float) -> float:
    return sorted_seconds[min(len(sorted_seconds) - 1, int(share * len(sorted_seconds)))]
