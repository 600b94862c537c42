"""The Arrow Flight SQL JDBC driver, in a Java program."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from . import build
from .client import Answer, Client, Place
from .spoken import Program, SpokenSession, answer_in


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


class JdbcSession(SpokenSession):
    def __init__(self, place: Place, **properties: str) -> None:
        super().__init__(program())
        self.ask("connect", url=url(place, **properties))

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

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        return answer_in(self.ask("bind", sql=sql, parameters=list(parameters)))

    def bind_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int | None:
        return self.ask("batch", sql=sql, rows=[list(row) for row in rows])["count"]


CLIENT = Client("jdbc", "JDBC driver 18.3.0", JdbcSession, cannot={"upload": "JDBC has no upload; batches of INSERT work"})
