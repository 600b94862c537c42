"""flightsql-dbapi: its DB-API, and its dialect for SQLAlchemy, which is how most people use it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import flightsql
import flightsql.sqlalchemy  # noqa: F401 (registers the dialect)
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy
from flightsql import FlightSQLClient
from flightsql.client import TableRef

from .client import Answer, Client, Place, Session, plain


def _metadata(place: Place) -> dict[str, str]:
    return {"x-skyflight-schema": place.database} if place.database else {}


class DbapiSession(Session):
    def __init__(self, place: Place) -> None:
        roots = {"tls_root_certs": place.ca.read_bytes()} if place.ca else {}
        self.client = FlightSQLClient(
            host=place.host,
            port=place.port,
            insecure=place.ca is None,
            user=place.user,
            password=place.password,
            token=place.token,
            metadata=_metadata(place),
            **roots,
        )
        # The dialect's URL has no place for a certificate to trust: with one, it is handed our client's connections.
        given = {"creator": lambda: flightsql.connect(self.client)} if place.ca else {}
        self.engine = sqlalchemy.create_engine(_sqlalchemy_url(place), **given)
        # The first connection asks GetSqlInfo, and fails where an answer is missing.
        self.engine.connect().close()

    def query(self, sql: str) -> Answer:
        with self.engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(sql))
            return Answer(list(found.keys()), [tuple(map(plain, row)) for row in found])

    def databases(self) -> list[str]:
        return sqlalchemy.inspect(self.engine).get_schema_names()

    def tables(self, database: str) -> dict[str, str]:
        return {name: "TABLE" for name in sqlalchemy.inspect(self.engine).get_table_names(schema=database)}

    def columns(self, database: str, table: str) -> list[str]:
        return [column["name"] for column in sqlalchemy.inspect(self.engine).get_columns(table, schema=database)]

    def keys(self, database: str, child: str) -> list[tuple[str, str, str, str]]:
        imported = self._read(self.client.get_imported_keys(TableRef(db_schema=database, table=child)))
        found = []
        for row in imported.to_pylist():
            constraint = sqlalchemy.inspect(self.engine).get_pk_constraint(row["pk_table_name"], schema=database)
            found.append((row["fk_column_name"], row["pk_table_name"], row["pk_column_name"], *constraint["constrained_columns"]))
        return found

    def _read(self, info: Any) -> pa.Table:
        return self.client.do_get(info.endpoints[0].ticket).read_all()

    def bind(self, sql: str, parameters: Sequence[Any]) -> Answer:
        cursor = flightsql.connect(self.client).cursor()
        cursor.execute(sql, list(parameters))
        columns = [name for name, *_ in cursor.description or []]
        return Answer(columns, [tuple(map(plain, row)) for row in cursor.fetchall()])

    def bind_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int | None:
        flightsql.connect(self.client).cursor().executemany(sql, [list(row) for row in rows])
        return None

    def write(self, sql: str) -> int | None:
        return self.client.execute_update(sql)

    def count(self, sql: str) -> tuple[int, int]:
        rows = total = 0
        for chunk in self.client.do_get(self.client.execute(sql).endpoints[0].ticket):
            rows += chunk.data.num_rows
            total += pc.sum(chunk.data.column(0)).as_py() or 0
        return rows, total

    def time(self, sql: str, times: int) -> list[float]:
        seconds = []
        with self.engine.connect() as connection:
            for _ in range(times):
                started = time.perf_counter()
                connection.execute(sqlalchemy.text(sql)).fetchall()
                seconds.append(time.perf_counter() - started)
        return seconds

    def close(self) -> None:
        self.engine.dispose()
        self.client.close()


def _sqlalchemy_url(place: Place) -> str:
    user = f"{quote(place.user)}:{quote(place.password or '')}@" if place.user else ""
    query = {"feature-sqlalchemy-prepared-statements": "on", "feature-sqlalchemy-primary-keys": "on", **_metadata(place)}
    if place.ca is None:
        query["insecure"] = "true"
    if place.token is not None:
        query["token"] = place.token
    parts = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    return f"datafusion+flightsql://{user}{place.host}:{place.port}?{parts}"


CLIENT = Client(
    "dbapi",
    f"flightsql-dbapi {version('flightsql-dbapi')} with SQLAlchemy {sqlalchemy.__version__}",
    DbapiSession,
    cannot={
        "schema": "it knows columns once it has read rows",
        "upload": "it has no upload; INSERT with parameters works",
        "cancel": "its calls read the whole result and cannot be left",
        "workers": "it reads the first endpoint only; do not ask for `direct` with it",
    },
)
