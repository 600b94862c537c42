"""DuckDB on the source files, as the oracle for SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

import duckdb
import pyarrow as pa

# Written out here rather than taken from any library: it must not share a mistake with what it checks.
SEPARATION = """
CREATE MACRO separation(ra1, dec1, ra2, dec2) AS degrees(2 * asin(least(1.0, sqrt(
    power(sin(radians(dec2 - dec1) / 2), 2)
    + cos(radians(dec1)) * cos(radians(dec2)) * power(sin(radians(ra2 - ra1) / 2), 2)))))
"""


class Duck:
    """Databases as schemas, tables as views of Parquet files; `macros` are the sky's functions."""

    def __init__(self, macros: str = SEPARATION) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("SET threads = 2")
        self.connection.execute(macros)

    def add(self, database: str, table: str, files: Iterable[Path], select: str = "*") -> None:
        """Makes `database.table` of files; `select` is what an ingest does to the columns."""
        listed = ", ".join(f"'{file}'" for file in files)
        self.connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{database}"')
        self.connection.execute(f'CREATE VIEW "{database}"."{table}" AS SELECT {select} FROM read_parquet([{listed}])')

    def query(self, sql: str) -> pa.Table:
        return self.connection.sql(sql).to_arrow_table()

    def value(self, sql: str) -> object:
        return self.query(sql).column(0)[0].as_py()
