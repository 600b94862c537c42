"""The Arrow Flight SQL JDBC driver, in a Java program."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from . import build
from .client import Answer, Client, ClientFailed, Place, Session
from .spoken import Program, answer_in


@functools.cache
def program() -> Program:
    return Program(build.jdbc())


def url(place: Place, **properties: str) -> str:
    """The URL, with what the place says as properties; those the driver does not know become headers."""
    said = {"useEncryption": "true" if place.ca else "false", **properties}
    if place.ca:
        said["tlsRootCerts"] = str(place.ca)
    if place.user is not None:
        said["user"], said["password"] = place.user, place.password or ""
    if place.token is not None:
        said["token"] = place.token
    if place.database is not None:
        said["schema"] = place.database
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in said.items())
    return f"jdbc:arrow-flight-sql://{place.host}:{place.port}/?{query}"


class JdbcSession(Session):
    def __init__(self, place: Place, **properties: str) -> None:
        self.program = program()
        self.id = next(self.program.sessions)
        self.ask("connect", url=url(place, **properties))

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return self.program.ask(self.id, do, **request)

    def query(self, sql: str) -> Answer:
        return answer_in(self.ask("query", sql=sql))

    def _column(self, answer: dict[str, Any], name: str) -> list[Any]:
        # Without rows the driver knows no columns.
        at = answer["columns"].index(name) if answer["rows"] else 0
        return [row[at] for row in answer["rows"]]

    def databases(self) -> list[str]:
        return self._column(self.ask("databases"), "TABLE_SCHEM")

    def tables(self, database: str) -> dict[str, str]:
        found = self.ask("tables", database=database)
        return dict(zip(self._column(found, "TABLE_NAME"), self._column(found, "TABLE_TYPE")))

    def columns(self, database: str, table: str) -> list[str]:
        return self._column(self.ask("columns", database=database, table=table), "COLUMN_NAME")

    def keys(self, database: str, child: str) -> list[tuple[str, str, str, str]]:
        found = self.ask("imported", database=database, table=child)
        names = ("FKCOLUMN_NAME", "PKTABLE_NAME", "PKCOLUMN_NAME")
        keys = list(zip(*(self._column(found, name) for name in names)))
        return [(*key, self._column(self.ask("primary", database=database, table=key[1]), "COLUMN_NAME")[0]) for key in keys]

    def schema(self, sql: str) -> list[str]:
        return self.ask("schema", sql=sql)["columns"]

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        return answer_in(self.ask("bind", sql=sql, parameters=list(parameters)))

    def bind_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int | None:
        return self.ask("batch", sql=sql, rows=[list(row) for row in rows])["count"]

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


CLIENT = Client("jdbc", "JDBC driver 18.3.0", JdbcSession, cannot={"upload": "JDBC has no upload; batches of INSERT work"})
