"""Parameters of prepared statements, bound by ADBC: the answers of literals, and the chunks of literals."""

from __future__ import annotations

from pathlib import Path

import adbc_driver_manager
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyflight_testing.cluster import Cluster


def test_an_id_finds_its_row(sky: Cluster, data: Path, suffix: str) -> None:
    source = pq.read_table(data / "sky/gaia_dr3_g10.parquet").slice(1000, 50)
    with sky.adbc() as connection, connection.cursor() as cursor:
        for row in source.to_pylist():
            cursor.execute(f"SELECT ra, dec FROM sky_{suffix}.gaia WHERE source_id = ?", (row["source_id"],))
            assert cursor.fetchall() == [(row["ra"], row["dec"])]
        cursor.execute(f"SELECT ra FROM sky_{suffix}.gaia WHERE source_id = $1", (None,))
        assert cursor.fetchall() == []


def test_a_bound_id_touches_one_chunk(sky: Cluster, data: Path, suffix: str) -> None:
    """Values prune like literals: EXPLAIN with the value bound chooses one chunk, and the run does no more."""
    wanted = pq.read_table(data / "sky/gaia_dr3_g10.parquet").column("source_id")[4321].as_py()
    with sky.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN ANALYZE SELECT ra FROM sky_{suffix}.gaia WHERE source_id = ?", (wanted,))
        lines = dict(cursor.fetchall())
        chosen, of, total = [text for kind, text in lines.items() if kind.startswith("chunks")][0].split()[:3]
        assert (chosen, of) == ("1", "of") and int(total) > 40, lines
        assert "chunks_done: 1\n" in lines["analyze"], lines["analyze"]
        assert "rows: 1\n" in lines["analyze"]


def test_a_cone(sky: Cluster, suffix: str) -> None:
    """A cone search with everything bound reads the chunks and gives the rows of one written out."""
    sql = f"SELECT source_id FROM sky_{suffix}.gaia WHERE separation(ra, dec, {{}}, {{}}) < {{}} ORDER BY 1"
    with sky.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(sql.format("?", "?", "?"), (56.75, 24.12, 1.5))
        bound = cursor.fetch_arrow_table()
        cursor.execute(sql.format(56.75, 24.12, 1.5))
        assert bound.num_rows > 50 and bound.equals(cursor.fetch_arrow_table())
        cursor.execute("EXPLAIN " + sql.format("?", "?", "?"), (56.75, 24.12, 1.5))
        of_bound = dict(cursor.fetchall())
        cursor.execute("EXPLAIN " + sql.format(56.75, 24.12, 1.5))
        chunks = {kind: text for kind, text in of_bound.items() if kind.startswith("chunks")}
        assert chunks and chunks.items() <= dict(cursor.fetchall()).items()


def test_many_rows_give_the_rows_of_each(sky: Cluster, suffix: str) -> None:
    hips = pa.record_batch({"0": pa.array([32349, 1, None, 71683])})
    with sky.adbc() as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_sql_query(f"SELECT hip, hpmag FROM hip_{suffix}.hipparcos2 WHERE hip = ?")
        cursor.adbc_statement.prepare()
        cursor.adbc_statement.bind(hips)
        stream, _ = cursor.adbc_statement.execute_query()
        found = pa.RecordBatchReader._import_from_c(stream.address).read_all()
    assert found.column("hip").to_pylist() == [32349, 1, 71683]


@pytest.mark.parametrize(
    ("sql", "values", "expect"),
    [
        ("SELECT hip FROM {} WHERE hip = ?", (), "1 parameters, and no values"),
        ("SELECT hip FROM {} WHERE hip = ?", (1, 2), "1 parameters, but 2 values"),
        ("SELECT hip FROM {} WHERE hip = ?", ("one",), "parameter \\$1 is Int64"),
        ("SELECT hip FROM {} WHERE hip = ?", (1.5,), "fraction"),
        ("SELECT hip FROM {}", (1,), "0 parameters, but 1 values"),
    ],
)
def test_mistakes_are_named(sky: Cluster, sql: str, values: tuple, expect: str) -> None:
    with sky.adbc() as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match=expect):
            cursor.execute(sql.format("hip_h.hipparcos2"), values or None)
            cursor.fetchall()
