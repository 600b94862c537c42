"""Clients in other languages: a program reads requests, a JSON object a line, and answers each with one.

A request has `do` and `session`; `{"error": {"exception", "code", "message"}}` is the answer to one that failed.
"""

from __future__ import annotations

import atexit
import itertools
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from .client import Answer, ClientFailed, Session


class Program:
    """A running program with any number of sessions in it; ended with the tests, by its own id."""

    def __init__(self, command: list[str]) -> None:
        self.log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.sessions = itertools.count(1)
        atexit.register(self.end)

    def ask(self, session: int, do: str, **request: Any) -> dict[str, Any]:
        """Raises `ClientFailed` where the client did."""
        assert self.child.stdin and self.child.stdout
        line = json.dumps({"session": session, "do": do, **request})
        self.child.stdin.write(line.encode() + b"\n")
        self.child.stdin.flush()
        answered = self.child.stdout.readline()
        if not answered:
            self.log.seek(0)
            raise RuntimeError(f"the client's program ended: {self.log.read().decode(errors='replace')[-4000:]}")
        answer = json.loads(answered)
        if error := answer.get("error"):
            raise ClientFailed(error["exception"], error["code"], error["message"])
        return answer

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait(30)


def answer_in(answer: dict[str, Any]) -> Answer:
    return Answer(answer["columns"], [tuple(row) for row in answer["rows"]])


class SpokenSession(Session):
    """A session of a program; how its client connects is its own."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.id = next(program.sessions)

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return self.program.ask(self.id, do, **request)

    def query(self, sql: str) -> Answer:
        return answer_in(self.ask("query", sql=sql))

    def schema(self, sql: str) -> list[str]:
        return self.ask("schema", sql=sql)["columns"]

    def write(self, sql: str) -> int | None:
        return self.ask("update", sql=sql)["count"]

    def count(self, sql: str) -> tuple[int, int]:
        found = self.ask("count", sql=sql)
        return found["rows"], found["sum"]

    def cancel(self, sql: str, after_s: float) -> None:
        ended = self.ask("cancel", sql=sql, after_ms=int(after_s * 1000))["ended"]
        if ended is not None:
            raise ClientFailed(ended["exception"], ended["code"], ended["message"])

    def time(self, sql: str, times: int) -> list[float]:
        return self.ask("time", sql=sql, times=times)["seconds"]

    def close(self) -> None:
        self.ask("close")


class ArrowSession(SpokenSession):
    """A session of a client that takes many rows of parameters, and tables."""

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        return answer_in(self.ask("bind", sql=sql, parameters=[list(parameters)]))

    def bind_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int | None:
        return self.ask("update", sql=sql, parameters=[list(row) for row in rows])["count"]

    def upload(self, database: str, table: str, rows: pa.Table, mode: str) -> int | None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.arrows"
            with pa.ipc.new_stream(file, rows.schema) as writer:
                writer.write_table(rows)
            return self.ask("upload", database=database, table=table, file=str(file), mode=mode)["count"]
