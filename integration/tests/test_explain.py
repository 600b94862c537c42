"""EXPLAIN tells which chunks are chosen of how many, and what runs where."""

from __future__ import annotations

import re

import pyarrow.parquet as pq
from pathlib import Path

from skyflight_testing.cluster import Cluster


def test_chunks_and_fragment(sky: Cluster, suffix: str) -> None:
    plan = sky.explain(f"SELECT band, count(*) FROM rrlyr_{suffix}.source WHERE mag < 17 GROUP BY band")
    assert re.search(r"\d+ of \d+ chunks on [123] workers", plan["chunks 1"]), plan
    assert "AggregateExec: mode=Partial" in plan["fragment 1"], "the partial aggregate runs beside the chunks"
    assert "AggregateExec: mode=Final" in plan["merge_plan"]


def test_id_lookup_reads_one_chunk(sky: Cluster, data: Path, suffix: str) -> None:
    """A chunk is chosen by what is asked: the object's position, and then that of its children."""
    row = pq.read_table(data / "sky/s82_rrlyr_object.parquet").to_pylist()[7]
    ra, dec = row["ra"] % 360.0, row["dec"]
    sql = (
        f"SELECT s.mjd FROM rrlyr_{suffix}.object o JOIN rrlyr_{suffix}.source s ON o.object_id = s.object_id "
        f"WHERE qserv_areaspec_circle({ra}, {dec}, 0.001)"
    )
    chosen, total = sky.chunks_of(sql)
    assert chosen < total and chosen <= 2, "one leaf for the join, and the circle prunes both tables"
    with sky.flight() as flight:
        rows = flight.query(sql).num_rows
    expected = pq.read_table(data / "sky/s82_rrlyr_source.parquet", filters=[("object_id", "=", row["object_id"])])
    assert rows == expected.num_rows > 0


def test_analyze_counts(sky: Cluster, suffix: str) -> None:
    """EXPLAIN ANALYZE gives counters that can be checked: all rows read once, few sent."""
    with sky.flight() as flight:
        rows = flight.query(f"EXPLAIN ANALYZE SELECT count(*), max(hpmag) FROM hip_{suffix}.hipparcos2 WHERE plx > 10")
    text = {row["plan_type"]: row["plan"] for row in rows.to_pylist()}["analyze"]
    counters = {name: int(value) for name, value in re.findall(r"^(\w+): (\d+)$", text, re.MULTILINE)}
    assert counters["rows"] == 1
    assert counters["chunks_done"] == counters["chunks_planned"] == counters["chunks_total"]
    assert 0 < counters["rows_received"] <= counters["chunks_done"], "at most one partial row a chunk"
    assert 0 < counters["rows_read"] <= 117_955
    assert counters["retries"] == 0
    assert counters["streams"] <= 3, "one stream for each worker, however many chunks"
