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


def test_a_job_with_values(sky: Cluster, suffix: str) -> None:
    """A job keeps the values bound to its statement, and reads the chunks of literals."""
    table = f"hip_{suffix}.hipparcos2"
    with sky.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(f"SUBMIT SELECT hip, hpmag FROM {table} WHERE separation(ra_j1991, dec_j1991, ?, ?) < ?", (56.75, 24.12, 2.0))
        [[id, *_]] = cursor.fetchall()
        for _ in range(600):
            cursor.execute("SELECT state, error, chunks_planned FROM system.queries WHERE id = ?", (id,))
            [[state, error, chunks]] = cursor.fetchall()
            if state not in ("queued", "running"):
                break
        assert (state, error) == ("finished", None)
        assert 1 <= chunks <= 4
        cursor.execute(f"SELECT * FROM job('{id}')")
        found = cursor.fetchall()
        cursor.execute(f"SELECT hip, hpmag FROM {table} WHERE separation(ra_j1991, dec_j1991, 56.75, 24.12) < 2.0")
        assert len(found) > 10 and sorted(found) == sorted(cursor.fetchall())
        with pytest.raises(adbc_driver_manager.Error, match="1 parameters, and no values"):
            cursor.execute(f"SUBMIT SELECT hip FROM {table} WHERE hip = ?")
            cursor.fetchall()


def test_use_says_how_to_choose_a_database(sky: Cluster) -> None:
    with sky.adbc() as connection, connection.cursor() as cursor:
        for statement, said in (
            ("USE hip_h", "adbc_current_db_schema"),
            ("SET SCHEMA 'hip_s'", "write hip_s.table"),
            ("USE milkyway", 'no database "milkyway"'),
            ("USE user_somebody", "user_somebody"),
            ("USE other.hip_h", "is no catalog"),
            ("SET shuffle = never", "x-skyflight-shuffle: never"),
            ("SET timezone = 'UTC'", "SET is not run here"),
        ):
            with pytest.raises(adbc_driver_manager.Error, match=said):
                cursor.execute(statement)
        connection.adbc_current_db_schema = "hip_h"
        connection.adbc_get_info()
        cursor.execute("use skyflight.HIP_H")
        assert cursor.fetchall() == [], "so it is"
        cursor.execute("SELECT count(*) FROM hipparcos2")
        assert cursor.fetchall() == [(117_955,)]


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("scisql_angSep(?, ?, ra_j1991, dec_j1991) < ?", (56.75, 24.12, 1.5)),
        ("DISTANCE(POINT(?, ?), POINT(ra_j1991, dec_j1991)) < ?", (56.75, 24.12, 1.5)),
        ("CONTAINS(POINT('ICRS', ra_j1991, dec_j1991), CIRCLE('ICRS', ?, ?, ?)) = 1", (56.75, 24.12, 1.5)),
        ("ra_j1991 BETWEEN ? AND ? AND dec_j1991 BETWEEN ? AND ?", (55, 58, 23.5, 25)),
        ("separation(?, ?, ?, ?) > ra_j1991 AND hip < ?", (0, 0, 3, 4, 50)),
        ("qserv_areaspec_box(?, ?, ?, ?)", (55, 23, 58, 25)),
        ("healpix_index(?, ra_j1991, dec_j1991) = healpix_index(?, ?, ?)", (5, 5, 56.75, 24.12)),
        ("hip IN (?, ?, ?)", (1, 2, 3)),
        ("abs(dec_j1991 - ?) < ? AND power(ra_j1991 - ?, ?) < ?", (24, 1, 57, 2, 4)),
    ],
)
def test_unknown_arguments_are_what_the_function_takes(sky: Cluster, sql: str, values: tuple) -> None:
    written = sql
    for value in values:
        written = written.replace("?", repr(value), 1)
    with sky.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT hip FROM hip_h.hipparcos2 WHERE {written} ORDER BY hip")
        expected = cursor.fetchall()
        cursor.execute(f"SELECT hip FROM hip_h.hipparcos2 WHERE {sql} ORDER BY hip", values)
        assert expected and cursor.fetchall() == expected
