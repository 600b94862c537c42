"""A cluster of real processes on loopback: one coordinator, some workers, folders of its own."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from . import clients
from .process import Process
from .settings import SLOWNESS, binary
from .tables import Scheme, Table

#: Clusters that run now, for the report of a failed test.
live: list["Cluster"] = []


class IngestFailed(Exception):
    """`skyflight ingest` ended with an error; the text is what it printed."""


class Cluster:
    """A coordinator and workers, each a process of its own; or all in one, which `one_process` asks for.

    As a context manager it ends its own processes, whatever happened to them, and removes its folder unless the
    block failed.
    """

    def __init__(self, folder: Path, workers: int = 3, config: str = "", one_process: bool = False) -> None:
        self.folder = folder
        self.data = folder / "coordinator"
        self.logs = folder / "logs"
        self.data.mkdir(parents=True)
        self.workers: dict[str, Process] = {}
        self.config = folder / "skyflight.toml"
        self.config.write_text(config)
        self.coordinator: Process | None = None
        self.ingests = 0
        live.append(self)
        try:
            if one_process:
                self.start_all_in_one(workers)
            else:
                self.start_coordinator()
                for number in range(1, workers + 1):
                    self.start_worker(f"w{number}")
                self.await_workers(set(self.workers))
        except BaseException:
            self.close()
            raise

    def _configured(self) -> list[str]:
        return ["--config", str(self.config)] if self.config.stat().st_size else []

    def start_all_in_one(self, workers: int) -> None:
        """The coordinator and workers of `skyflight serve`, which is ready when its workers are."""
        arguments = ["serve", "--data-dir", str(self.data), "--listen", "127.0.0.1:0", "--workers", str(workers)]
        self.coordinator = Process("serve", [*arguments, *self._configured()], self.logs)

    def start_coordinator(self, port: int = 0) -> None:
        listen = f"127.0.0.1:{port}"
        arguments = ["coordinator", "--data-dir", str(self.data), "--listen", listen, *self._configured()]
        self.coordinator = Process("coordinator", arguments, self.logs)

    @property
    def url(self) -> str:
        assert self.coordinator is not None
        return self.coordinator.url

    def start_worker(self, name: str, port: int = 0) -> Process:
        """Starts a worker, or starts it again on the files it has."""
        arguments = [
            *["worker", "--data-dir", str(self.worker_folder(name)), "--listen", f"127.0.0.1:{port}"],
            *["--coordinator", self.url, "--cluster-key-file", str(self.data / "cluster.key"), "--id", name],
            *self._configured(),
        ]
        self.workers[name] = Process(name, arguments, self.logs)
        return self.workers[name]

    def worker_folder(self, name: str) -> Path:
        return self.folder / name

    def await_workers(self, names: set[str], within_s: float = 30) -> None:
        """Waits until the coordinator knows each of these workers at the address where it is now."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            known = dict(self.records("SELECT id, address FROM workers"))
            if all(known.get(name, "").rstrip("/") == self.workers[name].url.rstrip("/") for name in names):
                return
            time.sleep(0.05)
        raise TimeoutError(f"of the workers {sorted(names)} the coordinator knows {known}")

    def records(self, sql: str, *parameters: object) -> list[tuple]:
        """Reads the coordinator's catalog store, to look at what no client can see (files, transactions)."""
        store = sqlite3.connect(f"file:{self.data / 'catalog.sqlite'}?mode=ro", uri=True, timeout=10)
        try:
            return store.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError:
            # The store is being made.
            return []
        finally:
            store.close()

    def ingest_command(
        self,
        database: str,
        tables: list[Table],
        scheme: Scheme | None = None,
        replicas: int = 2,
        mode: str | None = None,
        extra: tuple[str, ...] = (),
    ) -> list[str]:
        """The command that brings the tables into the database; writes their descriptions."""
        self.ingests += 1
        described = self.folder / "descriptions" / str(self.ingests)
        described.mkdir(parents=True)
        sources = []
        for table in tables:
            description = described / f"{table.name}.toml"
            description.write_text((table.cut_by(scheme) if scheme else table).toml())
            sources.append(f"{description}={','.join(str(file) for file in table.files)}")
        command = [str(binary()), "ingest", "--data-dir", str(self.data), "--database", database]
        if replicas:
            command += ["--replicas", str(replicas)]
        if mode:
            command += ["--mode", mode]
        return [*command, *extra, *sources]

    def ingest(
        self,
        database: str,
        tables: list[Table],
        scheme: Scheme | None = None,
        replicas: int = 2,
        mode: str | None = None,
        extra: tuple[str, ...] = (),
        within_s: float = 300,
    ) -> str:
        """Brings the tables into the database; what the command printed.

        Raises `IngestFailed` where it ends with another code than 0.
        """
        command = self.ingest_command(database, tables, scheme, replicas, mode, extra)
        started = time.monotonic()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within_s * SLOWNESS, check=False
        )
        print(f"ingest into {database}: {time.monotonic() - started:.1f} s, code {done.returncode}")
        if done.returncode != 0:
            raise IngestFailed(done.stderr + done.stdout)
        return done.stdout + done.stderr

    def stored_files(self) -> dict[str, set[str]]:
        """The chunk files in each worker's folder, as paths below `chunks`."""
        found = {}
        for name in self.workers:
            chunks = self.worker_folder(name) / "chunks"
            found[name] = {str(file.relative_to(chunks)) for file in chunks.rglob("*") if file.is_file()}
        return found

    def flight(self, **options: str) -> clients.FlightSql:
        return clients.FlightSql(self.url, **options)

    def adbc(self, **options: str):
        return clients.adbc(self.url, **options)

    def shell(self, sql: str, format: str = "arrow", **options: float):
        return clients.shell(self.url, sql, format, **options)

    def explain(self, sql: str) -> dict[str, str]:
        """The rows of EXPLAIN, by their kind."""
        with self.flight() as flight:
            return {row["plan_type"]: row["plan"] for row in flight.query(f"EXPLAIN {sql}").to_pylist()}

    def chunks_of(self, sql: str) -> tuple[int, int]:
        """Chunks chosen of chunks in all, as EXPLAIN tells of a query with one leaf."""
        lines = [text for kind, text in self.explain(sql).items() if kind.startswith("chunks")]
        assert len(lines) == 1, lines
        found = re.search(r"(\d+) of (\d+) chunks", lines[0])
        assert found, lines
        return int(found[1]), int(found[2])

    def counters(self, sql: str, client: clients.FlightSql | None = None) -> dict[str, int]:
        """What EXPLAIN ANALYZE counted, asked by `client` where its session matters."""
        if client is None:
            with self.flight() as client:
                return self.counters(sql, client)
        text = {row["plan_type"]: row["plan"] for row in client.query(f"EXPLAIN ANALYZE {sql}").to_pylist()}["analyze"]
        return {name: int(value) for name, value in re.findall(r"^(\w+): (\d+)$", text, re.MULTILINE)}

    def processes(self) -> list[Process]:
        return [p for p in (self.coordinator, *self.workers.values()) if p is not None]

    def log_tails(self) -> str:
        return "\n".join(process.log_tail() for process in self.processes())

    def panics(self) -> list[str]:
        """Lines of any log in which a thread panicked: never right, even where the answer was."""
        lines = (line for log in self.logs.glob("*.err") for line in log.read_text(errors="replace").splitlines())
        return [line for line in lines if re.search(r"panicked at|stack overflow|SIGABRT", line)]

    def close(self) -> None:
        """Ends all processes of the cluster."""
        if self in live:
            live.remove(self)
        for process in reversed(self.processes()):
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
