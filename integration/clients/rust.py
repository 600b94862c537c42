"""The Rust client (the crate `client`), in a program that is an example of it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from . import build
from .client import Answer, Client, Place, Session
from .spoken import Program, answer_in


@functools.cache
def program() -> Program:
    return Program(build.rust())


class RustSession(Session):
    def __init__(self, place: Place) -> None:
        self.program = program()
        self.id = next(self.program.sessions)
        said = {"user": place.user, "password": place.password, "token": place.token, "database": place.database}
        url = f"http{'s' if place.ca else ''}://{place.host}:{place.port}"
        self.ask("connect", url=url, ca=str(place.ca) if place.ca else None, **said)

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return self.program.ask(self.id, do, **request)

    def query(self, sql: str) -> Answer:
        return answer_in(self.ask("query", sql=sql))

    def databases(self) -> list[str]:
        return self.ask("databases")["names"]

    def tables(self, database: str) -> dict[str, str]:
        return self.ask("tables", database=database)["tables"]

    def columns(self, database: str, table: str) -> list[str]:
        return self.ask("columns", database=database, table=table)["columns"]

    def keys(self, database: str, child: str) -> list[tuple[str, str, str, str]]:
        return [tuple(key) for key in self.ask("keys", database=database, table=child)["keys"]]

    def schema(self, sql: str) -> list[str]:
        return self.ask("schema", sql=sql)["columns"]

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        return answer_in(self.ask("bind", sql=sql, parameters=[list(parameters)]))

    def bind_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int | None:
        return self.ask("update", sql=sql, parameters=[list(row) for row in rows])["count"]

    def write(self, sql: str) -> int | None:
        return self.ask("update", sql=sql)["count"]

    def upload(self, database: str, table: str, rows: pa.Table, mode: str) -> int | None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.arrows"
            with pa.ipc.new_stream(file, rows.schema) as writer:
                writer.write_table(rows)
            return self.ask("upload", database=database, table=table, file=str(file), mode=mode)["count"]

    def count(self, sql: str) -> tuple[int, int]:
        found = self.ask("count", sql=sql)
        return found["rows"], found["sum"]

    def cancel(self, sql: str, after_s: float) -> None:
        assert not self.ask("cancel", sql=sql, after_ms=int(after_s * 1000))["in_time"]

    def time(self, sql: str, times: int) -> list[float]:
        return self.ask("time", sql=sql, times=times)["seconds"]

    def close(self) -> None:
        self.ask("close")


CLIENT = Client("rust", "Rust client", RustSession)
