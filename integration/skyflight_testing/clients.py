"""The three clients under test: pyarrow.flight, ADBC, and the Rust client behind `skyflight sql`."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Self

import adbc_driver_flightsql.dbapi as adbc_flightsql
import pyarrow as pa
import pyarrow.flight as flight

from .settings import binary

COMMAND_STATEMENT_QUERY = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field: pyarrow has no Flight SQL, and this is all it takes."""
    size, length = len(value), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + value


def statement(sql: str) -> flight.FlightDescriptor:
    """The descriptor of a Flight SQL statement."""
    command = field(1, COMMAND_STATEMENT_QUERY) + field(2, field(1, sql.encode()))
    return flight.FlightDescriptor.for_command(command)


def grpc(url: str) -> str:
    """`http://host:port` or `https://host:port` as the Flight clients spell it."""
    return url.rstrip("/").replace("https://", "grpc+tls://").replace("http://", "grpc+tcp://")


class FlightSql:
    """Statements over pyarrow.flight. `headers` go with every call.

    Clients of one process share a connection to the same address, unless one wants its own.
    """

    def __init__(self, url: str, own_connection: bool = False, **headers: str) -> None:
        self.client = flight.connect(grpc(url), generic_options=[("grpc.use_local_subchannel_pool", int(own_connection))])
        self.headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    def options(self, timeout_s: float | None = None) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(timeout=timeout_s, headers=self.headers)

    def info(self, sql: str, timeout_s: float | None = 300) -> flight.FlightInfo:
        return self.client.get_flight_info(statement(sql), self.options(timeout_s))

    def open(self, sql: str, timeout_s: float | None = 300) -> flight.FlightStreamReader:
        """The reader of a statement's rows, from its one endpoint."""
        info = self.info(sql, timeout_s)
        assert len(info.endpoints) == 1, f"{len(info.endpoints)} endpoints for a client that follows none"
        return self.redeem(info.endpoints[0].ticket.ticket, timeout_s)

    def redeem(self, ticket: bytes, timeout_s: float | None = 300) -> flight.FlightStreamReader:
        return self.client.do_get(flight.Ticket(ticket), self.options(timeout_s))

    def query(self, sql: str, timeout_s: float | None = 300) -> pa.Table:
        """All rows of a statement. The stream's schema must be the announced one."""
        info = self.info(sql, timeout_s)
        assert len(info.endpoints) == 1
        table = self.redeem(info.endpoints[0].ticket.ticket, timeout_s).read_all()
        assert table.schema.equals(info.schema), f"announced {info.schema}\nsent {table.schema}"
        return table

    def value(self, sql: str) -> object:
        """The one value of a statement that gives one."""
        table = self.query(sql)
        assert table.num_rows == 1 and table.num_columns == 1, table
        return table.column(0)[0].as_py()

    def close(self) -> None:
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def adbc(url: str, **options: str):
    """An ADBC connection (DB-API). Autocommit, because there are no transactions to commit."""
    return adbc_flightsql.connect(grpc(url), db_kwargs=options or None, autocommit=True)


def adbc_query(url: str, sql: str) -> pa.Table:
    """All rows of a statement through ADBC."""
    with adbc(url) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


class ShellFailed(Exception):
    """`skyflight sql` ended with an error; the text is what it printed."""


def shell(url: str, sql: str, format: str = "arrow", timeout_s: float = 300):
    """Runs `skyflight sql -c`: a table for Arrow, else the text."""
    command = [str(binary()), "sql", "--url", url, "-c", sql, "--format", format]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise ShellFailed(done.stderr.decode(errors="replace"))
    if format == "arrow":
        return pa.ipc.open_stream(done.stdout).read_all()
    return done.stdout.decode()
