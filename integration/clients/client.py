"""What a client is to the tests: a way to connect, and sessions that each do things in that client's own idiom.

A test is written once, in these words, and runs with every client. What a client cannot do by its nature stands in
its `cannot`, with the reason that people read in docs/clients.md.
"""

from __future__ import annotations

import datetime
import decimal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

#: What people do with a client, in the order of the table in docs/clients.md.
CAPABILITIES = {
    "connect": "connect without TLS",
    "tls": "connect with TLS",
    "password": "log in by password",
    "token": "log in by token",
    "database": "choose the database of a session",
    "browse": "list databases, tables, columns",
    "keys": "list primary and foreign keys",
    "query": "query; every type comes out right",
    "schema": "columns of a query without running it",
    "bind": "bind parameters",
    "bind_many": "bind many rows of parameters",
    "write": "CREATE TABLE AS, INSERT, DROP TABLE",
    "upload": "upload a table",
    "cancel": "cancel a running query",
    "error": "errors with the server's message",
    "large": "read a large result, a batch at a time",
    "workers": "read rows straight from the workers",
}


@dataclass(frozen=True)
class Place:
    """Where a server is, and as whom to go there."""

    host: str
    port: int
    #: The certificate that the server's is signed with; TLS is spoken where there is one.
    ca: Path | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    #: The database of unqualified names.
    database: str | None = None
    #: Who is to serve the rows: `single` or `direct`. Left to the server where it is not said.
    endpoints: str | None = None

    @property
    def url(self) -> str:
        """As the C++, Go and Python clients spell it."""
        return f"grpc+{'tls' if self.ca else 'tcp'}://{self.host}:{self.port}"


@dataclass
class Answer:
    """Rows as plain values: see `plain`."""

    columns: list[str]
    rows: list[tuple]


class ClientFailed(Exception):
    """A client's own exception: its class, the code it carries if any, its message."""

    def __init__(self, exception: str, code: str | None, message: str) -> None:
        super().__init__(f"{exception} ({code}): {message}")
        self.exception, self.code, self.message = exception, code, message


class Session(ABC):
    """One connection. A client overrides what it can do; what it leaves stands in its `cannot`."""

    @abstractmethod
    def query(self, sql: str) -> Answer:
        """All rows of a query."""

    @abstractmethod
    def close(self) -> None: ...

    def databases(self) -> list[str]:
        raise NotImplementedError

    def tables(self, database: str) -> dict[str, str]:
        """Tables with their types."""
        raise NotImplementedError

    def columns(self, database: str, table: str) -> list[str]:
        raise NotImplementedError

    def keys(self, database: str, child: str) -> list[tuple[str, str, str, str]]:
        """Of each foreign key of a table: its column, the other table, that one's column, and its primary key."""
        raise NotImplementedError

    def schema(self, sql: str) -> list[str]:
        """Names of the columns that a query would give."""
        raise NotImplementedError

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        """Rows of a query with values for its `?`."""
        raise NotImplementedError

    def bind_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int | None:
        """Runs a statement that writes once for each row of values; how many rows it says to have written."""
        raise NotImplementedError

    def write(self, sql: str) -> int | None:
        """Runs a statement that writes; how many rows it says to have written, where the client tells."""
        raise NotImplementedError

    def upload(self, database: str, table: str, rows: pa.Table, mode: str) -> int | None:
        """Loads rows into a table; `mode` is create, append, replace or create_append."""
        raise NotImplementedError

    def count(self, sql: str) -> tuple[int, int]:
        """Reads all rows and keeps none: how many there are, and the sum of the first column."""
        raise NotImplementedError

    def cancel(self, sql: str, after_s: float) -> None:
        """Starts a query and gives it up after a while, as the client's users would."""
        raise NotImplementedError

    def time(self, sql: str, times: int) -> list[float]:
        """Seconds of each of many runs of a statement, rows read."""
        raise NotImplementedError


@dataclass(frozen=True)
class Client:
    """A client and what it cannot do."""

    name: str
    #: As the table's head says it, with the version.
    title: str
    open: Callable[[Place], Session]
    #: By capability: why this client does not have it.
    cannot: dict[str, str] = field(default_factory=dict)

    def can(self, capability: str) -> bool:
        assert capability in CAPABILITIES and not set(self.cannot) - set(CAPABILITIES)
        return capability not in self.cannot


def plain(value: Any) -> Any:
    """A value as all clients can give it: numbers, text, true and false stay, the rest becomes text."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def answer_of(table: pa.Table) -> Answer:
    columns = [[plain(value) for value in column.to_pylist()] for column in table.columns]
    return Answer(table.column_names, list(zip(*columns)) if columns else [])


def parameter_batch(rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Rows of parameters as Flight SQL binds them: columns "0", "1", …"""
    arrays = [pa.array(values) for values in zip(*rows)]
    return pa.record_batch(arrays, names=[str(number) for number in range(len(arrays))])


def failure_of(error: BaseException) -> ClientFailed:
    """What a user of the client sees of an error: class, code, message."""
    if isinstance(error, ClientFailed):
        return error
    # SQLAlchemy and pandas keep the driver's own below theirs, and show its text in theirs.
    inner: BaseException | None = error
    while inner is not None and not hasattr(inner, "status_code"):
        inner = inner.__cause__
    code = getattr(inner, "status_code", None)
    return ClientFailed(type(error).__name__, None if code is None else code.name, str(error))
