"""What operators see: figures that agree with what was done, and an end that breaks nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from skyflight_testing.tables import director, healpix
from skyflight_testing.watched import Watched


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path / "cluster", coordinator="drain_s = 60") as cluster:
        yield cluster
        assert cluster.panics() == []


def test_figures_agree_with_what_was_done(watched: Watched) -> None:
    assert watched.get("/healthz")[0] == 200 and watched.get("/readyz")[0] == 200
    with watched.adbc() as connection, connection.cursor() as cursor:
        for _ in range(5):
            cursor.execute("SELECT value FROM generate_series(1, 1000)")
            assert len(cursor.fetchall()) == 1000
    with watched.flight() as client, pytest.raises(pa.ArrowException, match="nowhere"):
        client.query("SELECT * FROM nowhere")
    assert watched.figure("skyflight_queries_total", outcome="finished") == 5
    assert watched.figure("skyflight_queries_total", outcome="failed") == 1
    assert watched.figure("skyflight_query_rows_total") == 5000
    assert watched.figure("skyflight_query_bytes_total") > 5000 * 8
    assert watched.figure("skyflight_query_messages_total") >= 5
    assert watched.figure("skyflight_query_seconds_count", phase="executing") == 5
    assert watched.figure("skyflight_query_seconds_bucket", phase="planning", le="3600") == 6
    assert watched.figure("skyflight_queries_running") == 0
    assert watched.figure("skyflight_worker_tasks_running", worker="local-1") == 0
    text = watched.get("/metrics")[1]
    assert "# HELP skyflight_queries_total" in text and 'skyflight_worker_files{worker="local-2"}' in text
    assert watched.get("/elsewhere")[0] == 404


def test_a_server_told_to_stop_ends_what_runs_and_takes_no_more(watched: Watched) -> None:
    rows = 20_000_000
    with watched.flight() as client, watched.flight() as late:
        reader = client.open(f"SELECT value FROM generate_series(1, {rows})")
        seen = reader.read_chunk().data.num_rows
        assert watched.figure("skyflight_queries_running") == 1
        watched.coordinator.child.send_signal(signal.SIGTERM)
        for _ in range(200):
            if watched.get("/readyz")[0] == 503:
                break
        assert watched.get("/readyz")[0] == 503 and watched.get("/healthz")[0] == 200
        with pytest.raises(flight.FlightUnavailableError, match="shutting down"):
            late.value("SELECT 1")
        for chunk in reader:
            seen += chunk.data.num_rows
        assert seen == rows
    assert watched.coordinator.child.wait(30) == 0


def test_a_clients_trace_goes_on_at_the_workers(watched: Watched, tmp_path: Path) -> None:
    stars = tmp_path / "stars.parquet"
    duckdb.connect().execute(f"COPY (SELECT i AS id, i * 1.0 AS ra, 0.5 AS dec FROM range(300) t(i)) TO '{stars}' (FORMAT parquet)")
    watched.ingest("dr1", [director("stars", stars, "id")], healpix(), replicas=1)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    header = f"00-{trace}-00f067aa0ba902b7-01"
    # A task that fails is told with its span.
    with watched.flight(traceparent=header) as client, pytest.raises(pa.ArrowException, match="[Dd]ivide by zero"):
        client.query("SELECT 1 / (id - id) FROM dr1.stars")
    told = [line for line in watched.log_tails().splitlines() if "task failed" in line]
    assert told and all(f"traceparent=00-{trace}-" in line for line in told), told
    assert watched.figure("skyflight_worker_files", worker="local-1") >= 1
