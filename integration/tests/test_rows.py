"""Everything that was loaded is there, whichever client counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyflight_testing import catalogs, clients
from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows, loaded_columns

Query = Callable[[str, str], pa.Table]


def by_pyarrow(url: str, sql: str) -> pa.Table:
    with clients.FlightSql(url) as flight:
        return flight.query(sql)


CLIENTS: dict[str, Query] = {"pyarrow": by_pyarrow, "adbc": clients.adbc_query, "rust": clients.shell}


@pytest.mark.parametrize("client", CLIENTS)
def test_row_counts(sky: Cluster, suffix: str, client: str) -> None:
    places = {
        "gaia": f"sky_{suffix}.gaia",
        "tycho2": f"sky_{suffix}.tycho2",
        "hipparcos2": f"hip_{suffix}.hipparcos2",
        "rrlyr.object": f"rrlyr_{suffix}.object",
        "rrlyr.source": f"rrlyr_{suffix}.source",
        "ztf.object": f"ztf_{suffix}.object",
        "ztf.source": f"ztf_{suffix}.source",
    }
    found = {}
    for name, table in places.items():
        answer = CLIENTS[client](sky.url, f"SELECT count(*) AS n FROM {table}")
        found[name] = answer.column("n")[0].as_py()
    assert found == catalogs.ROWS


@pytest.mark.parametrize("client", CLIENTS)
def test_every_value_of_a_table(sky: Cluster, data: Path, suffix: str, client: str) -> None:
    """`SELECT *` gives the file's rows and columns, and after them where each row lies."""
    source = pq.read_table(data / "sky/hipparcos2.parquet").sort_by("hip")
    ours = loaded_columns(CLIENTS[client](sky.url, f"SELECT * FROM hip_{suffix}.hipparcos2")).sort_by("hip")
    assert ours.column_names == source.column_names
    for name in source.column_names:
        assert ours.column(name).combine_chunks().equals(source.column(name).combine_chunks()), name


def test_text_and_nulls_of_a_wide_table(sky: Cluster, data: Path, suffix: str) -> None:
    source = pq.read_table(data / "qserv/case01/Object.parquet")
    with sky.flight() as flight:
        ours = loaded_columns(flight.query(f"SELECT * FROM case01_{suffix}.Object"))
    assert ours.num_columns == 228
    assert ours.column_names == source.column_names, "the declared case"
    assert_same_rows(ours, source)


def test_formats_of_the_shell(sky: Cluster, tmp_path: Path) -> None:
    """CSV, JSON and Parquet of one query hold the same rows."""
    sql = "SELECT hip, hpmag, b_v FROM hip_h.hipparcos2 WHERE hpmag < 2 ORDER BY hip"
    expected = sky.shell(sql)
    assert expected.num_rows > 20
    connection = duckdb.connect()
    for format, reader in (("csv", "read_csv"), ("json", "read_json")):
        file = tmp_path / f"rows.{format}"
        file.write_text(sky.shell(sql, format))
        assert_same_rows(connection.sql(f"SELECT * FROM {reader}('{file}')").to_arrow_table(), expected)
    table = sky.shell(sql, "table")
    assert "hpmag" in table and str(expected.column("hip")[0].as_py()) in table
