"""What is JDBC's alone: every getter of DatabaseMetaData, the URL, and what its tools read of columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from .client import ClientFailed, Place
from .jdbc import CLIENT, JdbcSession
from .small_sky import DATABASE, objects


@pytest.fixture(scope="module")
def jdbc(place: Place, request: pytest.FixtureRequest) -> Iterator[JdbcSession]:
    request.getfixturevalue("toolchain")(CLIENT)
    session = JdbcSession(place)
    yield session
    session.close()


#: Arguments of those getters that mean nothing without; the others are called with null, 0 and false.
ARGUMENTS: dict[str, list[Any]] = {
    "getPrimaryKeys/3": [None, DATABASE, "object"],
    "getExportedKeys/3": [None, DATABASE, "object"],
    "getImportedKeys/3": [None, DATABASE, "source"],
    "getCrossReference/6": [None, DATABASE, "object", None, DATABASE, "source"],
    "getColumns/4": [None, DATABASE, "object", None],
    "getTables/4": [None, None, "%", ["TABLE", "VIEW"]],
    "getSchemas/2": ["skyflight", "dr%"],
    # java.sql.ResultSet: TYPE_FORWARD_ONLY, CONCUR_READ_ONLY, HOLD_CURSORS_OVER_COMMIT.
    "supportsResultSetType/1": [1003],
    "supportsResultSetConcurrency/2": [1003, 1007],
    "supportsResultSetHoldability/1": [1],
}

#: Getters that this driver leaves to a base class which has not written them: no server is asked.
UNWRITTEN = {
    "deletesAreDetected/1", "insertsAreDetected/1", "updatesAreDetected/1", "ownDeletesAreVisible/1", "ownInsertsAreVisible/1",
    "ownUpdatesAreVisible/1", "othersDeletesAreVisible/1", "othersInsertsAreVisible/1", "othersUpdatesAreVisible/1",
    "supportsResultSetHoldability/1",
}  # fmt: skip

#: What some getters must give.
VALUES = {
    "getDatabaseProductName/0": "Skyflight",
    "getIdentifierQuoteString/0": '"',
    "getSearchStringEscape/0": "\\",
    "getSchemaTerm/0": "database",
    "getCatalogTerm/0": "catalog",
    "getCatalogSeparator/0": ".",
    "isCatalogAtStart/0": True,
    "getDefaultTransactionIsolation/0": 0,
    "supportsTransactions/0": False,
    "supportsSavepoints/0": False,
    "supportsOuterJoins/0": True,
    "supportsGroupBy/0": True,
    "supportsUnionAll/0": True,
    "supportsCorrelatedSubqueries/0": True,
    "supportsSubqueriesInExists/0": True,
    "supportsResultSetType/1": True,
    "supportsResultSetConcurrency/2": True,
    "supportsStoredProcedures/0": False,
    "supportsSelectForUpdate/0": False,
}


def test_every_getter(jdbc: JdbcSession) -> None:
    found = jdbc.ask("getters", arguments=ARGUMENTS)
    assert len(found) > 170, "DatabaseMetaData has as many methods"
    failed = {name: told["error"]["message"] for name, told in found.items() if "error" in told}
    assert set(failed) == UNWRITTEN, failed
    assert all("todo: implement this method" in message for message in failed.values()), failed
    assert {name: found[name]["value"] for name in VALUES} == VALUES

    def column(getter: str, name: str) -> list[Any]:
        at = found[getter]["columns"].index(name)
        return [row[at] for row in found[getter]["rows"]]

    assert column("getCatalogs/0", "TABLE_CAT") == ["skyflight"]
    assert column("getSchemas/2", "TABLE_SCHEM") == [DATABASE]
    assert column("getTableTypes/0", "TABLE_TYPE") == ["TABLE", "VIEW"]
    assert {"object", "source", "copies", "columns"} <= set(column("getTables/4", "TABLE_NAME"))
    assert column("getPrimaryKeys/3", "COLUMN_NAME") == ["objectId"]
    for getter in ("getExportedKeys/3", "getImportedKeys/3", "getCrossReference/6"):
        assert column(getter, "PKTABLE_NAME") == ["object"] and column(getter, "FKTABLE_NAME") == ["source"]
    assert column("getColumns/4", "COLUMN_NAME")[:6] == objects().column_names
    assert column("getColumns/4", "TYPE_NAME")[:6] == ["BIGINT", "DOUBLE", "DOUBLE", "REAL", "VARCHAR", "BOOLEAN"]
    assert column("getColumns/4", "ORDINAL_POSITION") == list(range(1, 8))


def test_answers_without_rows(jdbc: JdbcSession) -> None:
    """This driver learns the columns of a Statement's result from its first row, and before that names them twice."""
    for how in ("query", "execute"):
        assert jdbc.ask(how, sql="SELECT 1 AS one WHERE false") == {"columns": ["one", "one"], "types": ["BIGINT"] * 2, "rows": []}
    assert jdbc.bind("SELECT 1 AS one WHERE false", []).columns == ["one"], "a prepared statement knows them"
    assert jdbc.ask("tables", database="nowhere")["rows"] == []
    assert jdbc.ask("imported", database=DATABASE, table="copies")["rows"] == []


def test_catalog_in_the_url(place: Place, jdbc: JdbcSession) -> None:
    """The driver makes it a session option, and closes the session at the end."""
    session = JdbcSession(place, catalog="skyflight", schema=DATABASE)
    assert session.query("SELECT count(*) AS n FROM object").rows == [(2_000,)]
    # This driver closes a session that has a catalog twice, the second time on a channel that it has shut down.
    with pytest.raises(ClientFailed, match="Channel shutdown invoked"):
        session.close()
    with pytest.raises(ClientFailed, match="(?i)catalog"):
        JdbcSession(place, catalog="milkyway").query("SELECT 1")


def test_database_in_the_url(place: Place, jdbc: JdbcSession) -> None:
    session = JdbcSession(place, database=DATABASE)
    assert session.query("SELECT count(*) AS n FROM source").rows == [(20_000,)]
    session.close()


def test_parameters_are_described(place: Place, jdbc: JdbcSession) -> None:
    session = JdbcSession(replace(place, database=DATABASE))
    sql = 'SELECT name FROM object WHERE "objectId" = ? AND mag < ? AND name LIKE ?'
    assert session.ask("parameters", sql=sql)["types"] == ["Int(64, true)", "FloatingPoint(DOUBLE)", "Utf8"]
    session.close()


def test_unsigned_integers_are_widened(jdbc: JdbcSession) -> None:
    """This driver reads unsigned integers as signed ones of their width, so it is told wider ones, wherever it looks."""
    sql = (
        "SELECT arrow_cast(255, 'UInt8') AS a, arrow_cast(65535, 'UInt16') AS b, arrow_cast(4294967295, 'UInt32') AS c, "
        "arrow_cast('18446744073709551615', 'UInt64') AS d, [arrow_cast(4294967295, 'UInt32')] AS e"
    )
    largest = (255, 65_535, 4_294_967_295, "18446744073709551615", [4_294_967_295])
    for how in ("query", "execute"):
        told = jdbc.ask(how, sql=sql)
        assert [tuple(row) for row in told["rows"]] == [largest]
        assert told["types"][:4] == ["SMALLINT", "INTEGER", "BIGINT", "DECIMAL"]
    assert jdbc.schema(sql) == ["a", "b", "c", "d", "e"]
    assert jdbc.bind(f"{sql} WHERE ? = 1", [1]).rows == [largest]
    # Columns of a view are counted without a sign.
    found = jdbc.ask("columns", database="information_schema", table="columns")
    at = [found["columns"].index(name) for name in ("COLUMN_NAME", "TYPE_NAME")]
    listed = {row[at[0]]: row[at[1]] for row in found["rows"]}
    ordinal = jdbc.ask("query", sql="SELECT ordinal_position FROM information_schema.columns LIMIT 1")
    assert listed["ordinal_position"] == ordinal["types"][0] == "DECIMAL"


def test_a_job_of_unsigned_integers(jdbc: JdbcSession) -> None:
    """Its rows are of the types that its submitter was told."""
    [[id, *_]] = jdbc.query("SUBMIT SELECT arrow_cast(4294967295, 'UInt32') AS c").rows
    for _ in range(200):
        if jdbc.query(f"SELECT state FROM system.queries WHERE id = '{id}'").rows == [("finished",)]:
            break
    assert jdbc.query(f"SELECT * FROM job('{id}')").rows == [(4_294_967_295,)]


def test_use_says_where_the_database_is_chosen(place: Place, jdbc: JdbcSession) -> None:
    """The driver goes on with the token of its login, so USE must not pretend."""
    with pytest.raises(ClientFailed, match=f"schema={DATABASE} in a JDBC URL"):
        jdbc.ask("execute", sql=f"USE {DATABASE}")
    session = JdbcSession(place, database=DATABASE)
    session.ask("execute", sql=f"USE skyflight.{DATABASE}")
    assert session.query("SELECT count(*) AS n FROM object").rows == [(2_000,)], "it has been the one before"
    session.close()
