"""Data frames and DuckDB: they read what ADBC gives them, each by its own call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.flight as flight

from skyflight_testing.clients import statement

from . import adbc
from .arrow_flight import FlightSession
from .client import Answer, Client, Place, Session, answer_of, plain

_BROWSE = "it reads queries; ask information_schema, or ADBC"
_ADBC = "through the ADBC connection it is given"


class FrameSession(Session):
    """A library that reads from a connection of ADBC."""

    def __init__(self, place: Place) -> None:
        self.connection = adbc.connect(place)

    def time(self, sql: str, times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            self.query(sql)
            seconds.append(time.perf_counter() - started)
        return seconds

    def close(self) -> None:
        self.connection.close()


class PandasSession(FrameSession):
    #: What `mydb` is of who names no user. pandas looks for the table in the list of tables, where aliases are none.
    OWN = "user_local"

    def query(self, sql: str) -> Answer:
        # Arrow's types: pandas' own have no NULL for integers.
        return answer_of(pa.Table.from_pandas(pandas.read_sql(sql, self.connection, dtype_backend="pyarrow")))

    def upload(self, database: str, table: str, rows: pa.Table, mode: str) -> int | None:
        exists = {"create": "fail", "append": "append", "replace": "replace"}[mode]
        database = self.OWN if database == "mydb" else database
        return rows.to_pandas().to_sql(table, self.connection, schema=database, if_exists=exists, index=False)


class PolarsSession(FrameSession):
    def query(self, sql: str) -> Answer:
        frame = polars.read_database(sql, self.connection)
        return Answer(frame.columns, [tuple(map(plain, row)) for row in frame.rows()])

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        frame = polars.read_database(sql, self.connection, execute_options={"parameters": list(parameters)})
        return Answer(frame.columns, [tuple(map(plain, row)) for row in frame.rows()])

    def upload(self, database: str, table: str, rows: pa.Table, mode: str) -> int | None:
        exists = {"create": "fail", "append": "append", "replace": "replace"}[mode]
        frame = polars.from_arrow(rows)
        return frame.write_database(  # type: ignore[union-attr]
            f"{database}.{table}", self.connection, engine="adbc", if_table_exists=exists
        )

    def count(self, sql: str) -> tuple[int, int]:
        rows = total = 0
        for frame in polars.read_database(sql, self.connection, iter_batches=True, batch_size=65_536):
            rows += frame.height
            total += frame.to_series(0).sum()
        return rows, total


class DuckSession(Session):
    """DuckDB over a record batch reader of Flight: its own SQL on top of our rows."""

    def __init__(self, place: Place) -> None:
        self.flight = FlightSession(place)
        self.duck = duckdb.connect()

    def _reader(self, sql: str) -> pa.RecordBatchReader:
        return self.flight.open(statement(sql)).to_reader()

    def query(self, sql: str) -> Answer:
        ours = self._reader(sql)
        found = self.duck.sql("SELECT * FROM ours")
        return Answer(found.columns, [tuple(map(plain, row)) for row in found.fetchall()])

    def count(self, sql: str) -> tuple[int, int]:
        ours = self._reader(sql)
        [row] = self.duck.sql(f'SELECT count(*), sum("{ours.schema.names[0]}") FROM ours').fetchall()
        return row

    def time(self, sql: str, times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            self.query(sql)
            seconds.append(time.perf_counter() - started)
        return seconds

    def close(self) -> None:
        self.flight.close()
        self.duck.close()


PANDAS = Client(
    "pandas",
    f"pandas {pandas.__version__} through ADBC",
    PandasSession,
    cannot={
        "browse": _BROWSE,
        "keys": _BROWSE,
        "schema": "it reads whole results",
        "bind": "it has no parameters with ADBC",
        "bind_many": f"statements that write go {_ADBC}",
        "write": f"statements that write go {_ADBC}",
        "cancel": f"only {_ADBC}",
        "large": "it reads whole results into memory",
    },
)
POLARS = Client(
    "polars",
    f"Polars {polars.__version__} through ADBC",
    PolarsSession,
    cannot={
        "browse": _BROWSE,
        "keys": _BROWSE,
        "schema": "it reads whole results",
        "bind_many": f"statements that write go {_ADBC}",
        "write": f"statements that write go {_ADBC}",
        "cancel": f"only {_ADBC}",
    },
)
DUCK = Client(
    "duckdb",
    f"DuckDB {duckdb.__version__} reading Arrow",
    DuckSession,
    cannot={
        "browse": "it reads the stream that pyarrow.flight opens",
        "keys": "it reads the stream that pyarrow.flight opens",
        "schema": "it reads the stream that pyarrow.flight opens",
        "bind": "pyarrow.flight binds",
        "bind_many": "pyarrow.flight binds",
        "write": "it reads the stream that pyarrow.flight opens",
        "upload": "pyarrow.flight uploads",
        "cancel": "pyarrow.flight cancels",
        "workers": "it reads the stream that pyarrow.flight opens",
    },
)

#: What may go wrong on the way from Flight through DuckDB.
ERRORS = (flight.FlightError, pa.ArrowException, duckdb.Error)
