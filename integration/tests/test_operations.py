"""What operators see: figures that agree with what was done, and an end that breaks nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from skyflight_testing import clients
from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import binary
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


def stars_in(folder: Path) -> Path:
    """300 stars along the equator."""
    file = folder / "stars.parquet"
    duckdb.connect().execute(f"COPY (SELECT i AS id, i * 1.0 AS ra, 0.5 AS dec FROM range(300) t(i)) TO '{file}' (FORMAT parquet)")
    return file


def test_a_clients_trace_goes_on_at_the_workers(watched: Watched, tmp_path: Path) -> None:
    stars = stars_in(tmp_path)
    watched.ingest("dr1", [director("stars", stars, "id")], healpix(), replicas=1)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    header = f"00-{trace}-00f067aa0ba902b7-01"
    # A task that fails is told with its span.
    with watched.flight(traceparent=header) as client, pytest.raises(pa.ArrowException, match="[Dd]ivide by zero"):
        client.query("SELECT 1 / (id - id) FROM dr1.stars")
    told = [line for line in watched.log_tails().splitlines() if "task failed" in line]
    assert told and all(f"traceparent=00-{trace}-" in line for line in told), told
    assert watched.figure("skyflight_worker_files", worker="local-1") >= 1


def submitted(client: clients.FlightSql, sql: str) -> str:
    """Submits a job; its id, when it has ended."""
    id = client.query(f"SUBMIT {sql}").column("id")[0].as_py()
    deadline = time.monotonic() + 60
    while client.value(f"SELECT state FROM system.queries WHERE id = '{id}'") in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return id


def test_jobs_are_counted(watched: Watched, tmp_path: Path) -> None:
    watched.ingest("dr1", [director("stars", stars_in(tmp_path), "id")], healpix(), replicas=1)
    with watched.flight() as client:
        chunks = watched.figure("skyflight_query_chunks_total")
        for _ in range(3):
            submitted(client, "SELECT count(*) FROM dr1.stars WHERE dec > 0")
        submitted(client, "SELECT 1 / (id - id) FROM dr1.stars")
    assert watched.figure("skyflight_jobs_total", outcome="finished") == 3
    assert watched.figure("skyflight_jobs_total", outcome="failed") == 1
    assert watched.figure("skyflight_job_seconds_count", phase="running") == 4
    assert watched.figure("skyflight_job_seconds_count", phase="waiting") == 4
    assert watched.figure("skyflight_jobs", state="running") == 0 and watched.figure("skyflight_jobs", state="queued") == 0
    assert watched.figure("skyflight_query_chunks_total") >= chunks + 3


@dataclass(frozen=True)
class Span:
    """A span as a collector was sent it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]


class Collector:
    """An OpenTelemetry collector, an example of the crate `skyflight` beside the binary."""

    def __init__(self, folder: Path) -> None:
        program = binary().parent / "examples" / "collector"
        if not program.is_file():
            pytest.skip(f"no {program}; build it (cargo build -p skyflight --examples)")
        self.output = folder / "spans"
        with self.output.open("wb") as out:
            self.child = subprocess.Popen([str(program)], stdin=subprocess.DEVNULL, stdout=out)
        deadline = time.monotonic() + 20
        while not (found := re.match(r"listening on (http://\S+)\n", self.output.read_text())):
            assert time.monotonic() < deadline and self.child.poll() is None, "the collector did not start"
            time.sleep(0.02)
        self.url = found[1]

    def spans(self) -> list[Span]:
        lines = [line.split("\t") for line in self.output.read_text().splitlines()[1:]]
        return [Span(*head, dict(pair.split("=", 1) for pair in last.split(";"))) for *head, last in lines]

    def end(self) -> None:
        self.child.kill()
        self.child.wait(30)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    collector = Collector(tmp_path)
    yield collector
    collector.end()


def test_spans_of_all_processes_join_the_clients_traces(collector: Collector, tmp_path: Path) -> None:
    """A query and a job, each of a trace of its own: below the client's span theirs, below that the tasks of both workers."""
    traces = {"query": "4bf92f3577b34da6a3ce929d0e0e4736", "job": "0af7651916cd43dd8448eb211c80319c"}
    above = "00f067aa0ba902b7"
    config = f'[operations]\notlp_endpoint = "{collector.url}"\n'
    with Cluster(tmp_path / "cluster", workers=2, config=config) as cluster:
        cluster.ingest("dr1", [director("stars", stars_in(tmp_path), "id")], healpix(row_limit=50), replicas=1)
        sql = "SELECT id FROM dr1.stars WHERE dec > 0"
        with cluster.flight(traceparent=f"00-{traces['query']}-{above}-01") as client:
            assert client.query(sql).num_rows == 300
        with cluster.flight(traceparent=f"00-{traces['job']}-{above}-01") as client:
            id = client.query(f"SUBMIT {sql}").column("id")[0].as_py()
        with cluster.flight() as client:
            while client.value(f"SELECT state FROM system.queries WHERE id = '{id}'") in ("queued", "running"):
                time.sleep(0.05)
        # The last spans leave when a process ends.
        for process in reversed(cluster.processes()):
            assert process.stop() == 0
    spans = collector.spans()
    for kind, trace in traces.items():
        of_trace = [span for span in spans if span.trace == trace]
        [top] = [span for span in of_trace if span.service == "skyflight-coordinator"]
        assert (top.name, top.parent) == (kind, above)
        assert top.attributes["skyflight.outcome"] == "finished" and top.attributes["skyflight.rows"] == "300"
        tasks = [span for span in of_trace if span.service == "skyflight-worker"]
        assert len(tasks) >= 2 and {(task.name, task.parent) for task in tasks} == {("task", top.id)}
        assert len({task.attributes["skyflight.worker"] for task in tasks}) == 2
        assert {task.attributes["skyflight.query_id"] for task in tasks} == {top.attributes["skyflight.query_id"]}
        assert len(of_trace) == 1 + len(tasks)
    assert {span.attributes.get("skyflight.query_id") for span in spans if span.name == "job"} == {id}
