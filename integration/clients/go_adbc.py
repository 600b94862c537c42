"""The ADBC driver in Go, in a Go program."""

from __future__ import annotations

import functools
from typing import Any

from . import adbc, build
from .client import Client, Place
from .spoken import ArrowSession, Program


@functools.cache
def program() -> Program:
    return Program(build.go())


class GoSession(ArrowSession):
    def __init__(self, place: Place) -> None:
        super().__init__(program())
        self.ask("connect", options={"uri": place.url, **adbc.options(place)})
        if place.database is not None:
            self.ask("option", table="adbc.connection.db_schema", mode=place.database)

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


CLIENT = Client(
    "go", "ADBC, Go 1.12.0", GoSession, cannot={"keys": "its GetObjects leaves constraints empty for Flight SQL"}
)
