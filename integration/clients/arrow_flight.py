"""pyarrow.flight: it knows Flight but not Flight SQL, so commands are built by hand, as people do."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight

from skyflight_testing.clients import field, statement

from .client import Answer, Client, Place, Session, answer_of, parameter_batch

TYPES = b"type.googleapis.com/arrow.flight.protocol.sql."


def message(name: bytes, value: bytes = b"") -> bytes:
    """A Flight SQL message in its `Any`."""
    return field(1, TYPES + name) + (field(2, value) if value else b"")


def descriptor(name: bytes, value: bytes = b"") -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(message(name, value))


def fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of a protobuf message by number: integers and bytes are all that Flight SQL's answers hold."""
    found: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value: Any = varint()
        else:
            assert key & 7 == 2, f"wire type {key & 7}"
            size = varint()
            value = data[at : at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found


def count_of(result: bytes | None) -> int | None:
    """The number in a DoPutUpdateResult."""
    return None if result is None else fields(bytes(result)).get(1, [0])[0]


def bearer_token(place: Place, user: str, password: str) -> str:
    """The token that a server hands out for a password."""
    roots = {"tls_root_certs": place.ca.read_bytes()} if place.ca else {}
    with flight.connect(place.url, **roots) as client:
        _, value = client.authenticate_basic_token(user, password)
    return value.decode().removeprefix("Bearer ")


def read(reader: flight.FlightStreamReader) -> pa.Table:
    """All rows. Not by read_all, which takes a call that was cancelled for an interrupt of the whole program."""
    return pa.Table.from_batches([chunk.data for chunk in reader], reader.schema)


class FlightSession(Session):
    def __init__(self, place: Place) -> None:
        roots = {"tls_root_certs": place.ca.read_bytes()} if place.ca else {}
        self.client = flight.connect(place.url, **roots)
        headers: list[tuple[bytes, bytes]] = []
        if place.user is not None:
            headers.append(self.client.authenticate_basic_token(place.user, place.password or ""))
        if place.token is not None:
            headers.append((b"authorization", f"Bearer {place.token}".encode()))
        if place.database is not None:
            headers.append((b"x-skyflight-schema", place.database.encode()))
        self.options = flight.FlightCallOptions(headers=headers, timeout=120)
        # Connecting is lazy: a first call says whether the server takes us.
        list(self.client.list_actions(self.options))

    def open(self, command: flight.FlightDescriptor) -> flight.FlightStreamReader:
        info = self.client.get_flight_info(command, self.options)
        [endpoint] = info.endpoints
        return self.client.do_get(endpoint.ticket, self.options)

    def table(self, name: bytes, value: bytes = b"") -> pa.Table:
        return read(self.open(descriptor(name, value)))

    def query(self, sql: str) -> Answer:
        return answer_of(read(self.open(statement(sql))))

    def databases(self) -> list[str]:
        return self.table(b"CommandGetDbSchemas").column("db_schema_name").to_pylist()

    def tables(self, database: str) -> dict[str, str]:
        found = self.table(b"CommandGetTables", field(2, database.encode()))
        return dict(zip(found.column("table_name").to_pylist(), found.column("table_type").to_pylist()))

    def columns(self, database: str, table: str) -> list[str]:
        wanted = field(2, database.encode()) + field(3, table.encode()) + b"\x28\x01"
        [row] = self.table(b"CommandGetTables", wanted).to_pylist()
        return pa.ipc.read_schema(pa.py_buffer(row["table_schema"])).names

    def keys(self, database: str, child: str) -> list[tuple[str, str, str, str]]:
        imported = self.table(b"CommandGetImportedKeys", field(2, database.encode()) + field(3, child.encode()))
        found = []
        for row in imported.to_pylist():
            of = field(2, database.encode()) + field(3, row["pk_table_name"].encode())
            [primary] = self.table(b"CommandGetPrimaryKeys", of).column("column_name").to_pylist()
            found.append((row["fk_column_name"], row["pk_table_name"], row["pk_column_name"], primary))
        return found

    def schema(self, sql: str) -> list[str]:
        return self.client.get_schema(statement(sql), self.options).schema.names

    def prepared(self, sql: str) -> bytes:
        body = message(b"ActionCreatePreparedStatementRequest", field(1, sql.encode()))
        [result] = self.client.do_action(flight.Action("CreatePreparedStatement", body), self.options)
        [value] = fields(bytes(result.body))[2]
        return fields(value)[1][0]

    def _put(self, command: flight.FlightDescriptor, batch: pa.RecordBatch) -> bytes | None:
        writer, reader = self.client.do_put(command, batch.schema, self.options)
        with writer:
            writer.write_batch(batch)
            writer.done_writing()
            result = reader.read()
        return None if result is None else result.to_pybytes()

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        handle = self.prepared(sql)
        command = descriptor(b"CommandPreparedStatementQuery", field(1, handle))
        result = self._put(command, parameter_batch([parameters]))
        # The server may hand out another handle, which holds the parameters.
        updated = fields(result).get(1) if result else None
        if updated:
            command = descriptor(b"CommandPreparedStatementQuery", field(1, updated[0]))
        return answer_of(read(self.open(command)))

    def bind_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int | None:
        command = descriptor(b"CommandPreparedStatementUpdate", field(1, self.prepared(sql)))
        return count_of(self._put(command, parameter_batch(rows)))

    def write(self, sql: str) -> int | None:
        command = descriptor(b"CommandStatementUpdate", field(1, sql.encode()))
        writer, reader = self.client.do_put(command, pa.schema([]), self.options)
        with writer:
            writer.done_writing()
            return count_of(reader.read())

    def upload(self, database: str, table: str, rows: pa.Table, mode: str) -> int | None:
        absent, present = {"create": (1, 1), "append": (2, 2), "replace": (1, 3), "create_append": (1, 2)}[mode]
        options = bytes([1 << 3, absent, 2 << 3, present])
        value = field(1, options) + field(2, table.encode()) + field(3, database.encode())
        writer, reader = self.client.do_put(descriptor(b"CommandStatementIngest", value), rows.schema, self.options)
        with writer:
            writer.write_table(rows)
            writer.done_writing()
            return count_of(reader.read())

    def count(self, sql: str) -> tuple[int, int]:
        rows = total = 0
        for chunk in self.open(statement(sql)):
            rows += chunk.data.num_rows
            total += pc.sum(chunk.data.column(0)).as_py() or 0
        return rows, total

    def cancel(self, sql: str, after_s: float) -> None:
        reader = self.open(statement(sql))
        stop = threading.Timer(after_s, reader.cancel)
        stop.start()
        read(reader)

    def time(self, sql: str, times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            read(self.open(statement(sql)))
            seconds.append(time.perf_counter() - started)
        return seconds

    def close(self) -> None:
        self.client.close()


CLIENT = Client(
    "pyarrow",
    f"pyarrow.flight {pa.__version__}",
    FlightSession,
    cannot={"workers": "it leaves to its user where to redeem a ticket; the coordinator takes all"},
)
