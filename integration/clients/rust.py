"""The Rust client (the crate `client`), in a program that is an example of it."""

from __future__ import annotations

import functools

from . import build
from .client import Client, Place
from .spoken import ArrowSession, Program


@functools.cache
def program() -> Program:
    return Program(build.rust())


class RustSession(ArrowSession):
    def __init__(self, place: Place) -> None:
        super().__init__(program())
        said = {"user": place.user, "password": place.password, "token": place.token, "database": place.database}
        url = f"http{'s' if place.ca else ''}://{place.host}:{place.port}"
        self.ask("connect", url=url, ca=str(place.ca) if place.ca else None, **said)

    def databases(self) -> list[str]:
        return self.ask("databases")["names"]

    def tables(self, database: str) -> dict[str, str]:
        return self.ask("tables", database=database)["tables"]

    def columns(self, database: str, table: str) -> list[str]:
        return self.ask("columns", database=database, table=table)["columns"]

    def keys(self, database: str, child: str) -> list[tuple[str, str, str, str]]:
        return [tuple(key) for key in self.ask("keys", database=database, table=child)["keys"]]

    def cancel(self, sql: str, after_s: float) -> None:
        assert not self.ask("cancel", sql=sql, after_ms=int(after_s * 1000))["in_time"]


CLIENT = Client("rust", "Rust client", RustSession)
