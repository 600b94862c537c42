"""ADBC in Python: the DB-API of adbc-driver-flightsql."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as dbapi
import adbc_driver_manager
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_flightsql import DatabaseOptions

from .client import Answer, Client, Place, Session, answer_of


def options(place: Place) -> dict[str, str]:
    found: dict[str, str] = {}
    if place.ca:
        found[DatabaseOptions.TLS_ROOT_CERTS.value] = place.ca.read_text()
    if place.user is not None:
        found["username"], found["password"] = place.user, place.password or ""
    if place.token is not None:
        found[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {place.token}"
    if place.endpoints is not None:
        found[f"{DatabaseOptions.RPC_CALL_HEADER_PREFIX.value}x-skyflight-endpoints"] = place.endpoints
    return found


def connect(place: Place):
    """A connection with autocommit, because there are no transactions to commit."""
    connection = dbapi.connect(place.url, db_kwargs=options(place), autocommit=True)
    if place.database is not None:
        connection.adbc_current_db_schema = place.database
    return connection


class AdbcSession(Session):
    def __init__(self, place: Place) -> None:
        self.connection = connect(place)
        # Connecting is lazy unless there is a password: the driver asks what the server is, and lets a failure be.
        self.connection.adbc_get_info()

    def query(self, sql: str) -> Answer:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return answer_of(cursor.fetch_arrow_table())

    def _objects(self, **filters: str) -> list[dict]:
        [catalog] = self.connection.adbc_get_objects(**filters).read_all().to_pylist()
        return catalog["catalog_db_schemas"]

    def databases(self) -> list[str]:
        return [schema["db_schema_name"] for schema in self._objects(depth="db_schemas")]

    def tables(self, database: str) -> dict[str, str]:
        [schema] = self._objects(depth="tables", db_schema_filter=database)
        return {table["table_name"]: table["table_type"] for table in schema["db_schema_tables"]}

    def columns(self, database: str, table: str) -> list[str]:
        return self.connection.adbc_get_table_schema(table, db_schema_filter=database).names

    def schema(self, sql: str) -> list[str]:
        with self.connection.cursor() as cursor:
            return cursor.adbc_execute_schema(sql).names

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return answer_of(cursor.fetch_arrow_table())

    def bind_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int | None:
        with self.connection.cursor() as cursor:
            cursor.executemany(sql, rows)
            return cursor.rowcount

    def write(self, sql: str) -> int | None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
        # The query path tells rows, not how many were changed.
        return None

    def upload(self, database: str, table: str, rows: pa.Table, mode: str) -> int | None:
        with self.connection.cursor() as cursor:
            return cursor.adbc_ingest(table, rows, mode=mode, db_schema_name=database)  # type: ignore[arg-type]

    def count(self, sql: str) -> tuple[int, int]:
        rows = total = 0
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            for batch in cursor.fetch_record_batch():
                rows += batch.num_rows
                total += pc.sum(batch.column(0)).as_py() or 0
        return rows, total

    def cancel(self, sql: str, after_s: float) -> None:
        with self.connection.cursor() as cursor:
            stop = threading.Timer(after_s, cursor.adbc_cancel)
            stop.start()
            cursor.execute(sql)
            cursor.fetchall()

    def time(self, sql: str, times: int) -> list[float]:
        seconds = []
        with self.connection.cursor() as cursor:
            for _ in range(times):
                started = time.perf_counter()
                cursor.execute(sql)
                cursor.fetchall()
                seconds.append(time.perf_counter() - started)
        return seconds

    def close(self) -> None:
        self.connection.close()


CLIENT = Client(
    "adbc",
    f"ADBC, Python {adbc_driver_flightsql.__version__}",
    AdbcSession,
    cannot={"keys": "its GetObjects leaves constraints empty for Flight SQL"},
)

#: The exception of all of ADBC's users.
Error = adbc_driver_manager.Error
