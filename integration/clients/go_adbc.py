"""The ADBC driver in Go, in a Go program."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from . import adbc, build
from .client import Answer, Client, ClientFailed, Place, Session
from .spoken import Program, answer_in


@functools.cache
def program() -> Program:
    return Program(build.go())


class GoSession(Session):
    def __init__(self, place: Place) -> None:
        self.program = program()
        self.id = next(self.program.sessions)
        self.ask("connect", options={"uri": place.url, **adbc.options(place)})
        if place.database is not None:
            self.ask("option", table="adbc.connection.db_schema", mode=place.database)

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return self.program.ask(self.id, do, **request)

    def query(self, sql: str) -> Answer:
        return answer_in(self.ask("query", sql=sql))

    def _schemas(self, database: str = "") -> list[dict[str, Any]]:
        [[_, schemas]] = self.ask("objects", database=database)["rows"]
        return schemas

    def databases(self) -> list[str]:
        return [schema["db_schema_name"] for schema in self._schemas()]

    def tables(self, database: str) -> dict[str, str]:
        [schema] = self._schemas(database)
        return {table["table_name"]: table["table_type"] for table in schema["db_schema_tables"]}

    def columns(self, database: str, table: str) -> list[str]:
        return self.ask("table_schema", database=database, table=table)["columns"]

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
        ended = self.ask("cancel", sql=sql, after_ms=int(after_s * 1000))["ended"]
        if ended is not None:
            raise ClientFailed(ended["exception"], ended["code"], ended["message"])

    def time(self, sql: str, times: int) -> list[float]:
        return self.ask("time", sql=sql, times=times)["seconds"]

    def close(self) -> None:
        self.ask("close")


CLIENT = Client(
    "go", "ADBC, Go 1.12.0", GoSession, cannot={"keys": "its GetObjects leaves constraints empty for Flight SQL"}
)
