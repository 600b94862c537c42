"""Each client does what docs/clients.md says it does."""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.memory import MemorySamples
from skyflight_testing.settings import SLOWNESS

from . import small_sky
from .arrow_flight import bearer_token
from .client import Client, ClientFailed, Place, Session, failure_of
from .conftest import PASSWORD, USER
from .small_sky import DATABASE, OBJECTS

# Polars leaves what it could not open to the garbage collector, which says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@contextmanager
def failing() -> Iterator[list[ClientFailed]]:
    """What the block's failure is to the client's user."""
    found: list[ClientFailed] = []
    with pytest.raises(Exception) as raised:
        yield found
    found.append(failure_of(raised.value))


@pytest.mark.capability("connect")
def test_connect(client: Client, place: Place) -> None:
    session = client.open(place)
    assert session.query("SELECT 1 AS one").rows == [(1,)]
    session.close()


@pytest.mark.capability("connect")
def test_nobody_there(client: Client, place: Place) -> None:
    """A wrong port is an error within the client's time, not a wait without end."""
    with failing():
        session = client.open(replace(place, port=1))
        session.query("SELECT 1")


@pytest.mark.capability("database")
def test_database(session: Session) -> None:
    assert session.query("SELECT count(*) AS n FROM copies").rows == [(small_sky.COPIES,)]


@pytest.mark.capability("browse")
def test_browse(session: Session) -> None:
    databases = session.databases()
    assert {DATABASE, "information_schema"} <= set(databases)
    tables = session.tables(DATABASE)
    assert {"object", "source", "copies"} <= set(tables)
    assert tables["object"] == "TABLE"
    assert session.columns(DATABASE, "object")[:6] == small_sky.objects().column_names
    # Patterns: an underscore is any character to those who do not escape it, and names no third table here.
    assert session.columns(DATABASE, "source")[:3] == ["sourceId", "objectId", "flux"]


@pytest.mark.capability("keys")
def test_keys(session: Session) -> None:
    assert session.keys(DATABASE, "source") == [("objectId", "object", "objectId", "objectId")]
    assert session.keys(DATABASE, "copies") == []


#: SQL of a value, and the value as `plain` has it; text where clients spell a value differently is compared loosely.
VALUES = {
    "tinyint": ("CAST(-7 AS TINYINT)", -7),
    "smallint": ("CAST(-30000 AS SMALLINT)", -30000),
    "integer": ("CAST(-2000000000 AS INTEGER)", -2_000_000_000),
    "bigint": ("CAST(9007199254740993 AS BIGINT)", 9_007_199_254_740_993),
    "unsigned_small": ("CAST(60000 AS SMALLINT UNSIGNED)", 60_000),
    "unsigned_big": ("CAST(9007199254740993 AS BIGINT UNSIGNED)", 9_007_199_254_740_993),
    "unsigned": ("CAST(4000000000 AS INTEGER UNSIGNED)", 4_000_000_000),
    "real": ("CAST(0.5 AS REAL)", 0.5),
    "double": ("CAST(0.1 AS DOUBLE)", 0.1),
    "decimal": ("CAST(1234.50 AS DECIMAL(10, 2))", "1234.50"),
    "boolean": ("true", True),
    "text": ("'naïve ★ ''quoted'''", "naïve ★ 'quoted'"),
    "empty": ("''", ""),
    "binary": ("X'00ff10'", "00ff10"),
    "date": ("DATE '2013-12-19'", "2013-12-19"),
    "timestamp": ("TIMESTAMP '2013-12-19 09:12:19.25'", "2013-12-19 09:12:19.25"),
    "no_text": ("CAST(NULL AS VARCHAR)", None),
    "no_bigint": ("CAST(NULL AS BIGINT)", None),
    "no_double": ("CAST(NULL AS DOUBLE)", None),
    "list": ("[1, 2, 3]", [1, 2, 3]),
}


def same(found: object, expected: object) -> bool:
    """Whether two values are one, however a client spells it."""
    if expected is None:
        # A data frame has no NULL among floats but NaN.
        return found is None or (isinstance(found, float) and math.isnan(found))
    if isinstance(found, str) and isinstance(expected, str):
        if expected.startswith("2013-"):
            return datetime.fromisoformat(found).replace(tzinfo=None) == datetime.fromisoformat(expected)
        if expected == "1234.50":
            return Decimal(found) == Decimal(expected)
    return found == expected and isinstance(found, bool) == isinstance(expected, bool)


#: Values that a client shows otherwise, by client and type; docs/clients.md says why.
OTHERWISE = {("jdbc", "unsigned_big"): "9007199254740993"}


@pytest.mark.capability("query")
def test_types(client: Client, session: Session) -> None:
    """One row of a value of each type."""
    answer = session.query("SELECT " + ", ".join(f"{sql} AS {name}" for name, (sql, _) in VALUES.items()))
    assert answer.columns == list(VALUES)
    [row] = answer.rows
    wrong = {
        name: (found, expected)
        for (name, (_, expected)), found in zip(VALUES.items(), row)
        if not same(found, OTHERWISE.get((client.name, name), expected))
    }
    assert not wrong


@pytest.mark.capability("query")
def test_rows(session: Session) -> None:
    """All rows of a table that lies in chunks on two workers, NULLs among them."""
    answer = session.query('SELECT "objectId", mag, name, variable FROM object ORDER BY "objectId"')
    expected = [tuple(row.values()) for row in small_sky.objects().select(["objectId", "mag", "name", "variable"]).to_pylist()]
    assert answer.columns == ["objectId", "mag", "name", "variable"]
    assert len(answer.rows) == len(expected) == OBJECTS
    assert [pair for pair in zip(answer.rows, expected) if not all(map(same, *pair))] == []


@pytest.mark.capability("query")
def test_no_rows(client: Client, session: Session) -> None:
    """A result without rows still has its columns."""
    for where in ('"objectId" < 0', "name = 'nobody'", "false"):
        answer = session.query(f'SELECT "objectId", name FROM object WHERE {where}')
        # The JDBC driver names the columns of a Statement's result without rows twice; see docs/clients.md.
        times = 2 if client.name == "jdbc" else 1
        assert (answer.columns, answer.rows) == (["objectId", "name"] * times, []), where


@pytest.mark.capability("schema")
def test_schema(session: Session) -> None:
    assert session.schema('SELECT "objectId", mag * 2 AS twice, name FROM object') == ["objectId", "twice", "name"]


#: A message of ours, and what each kind of client calls the failure: exception and code.
MISTAKES = {
    "table": ("SELECT * FROM dr1.objct", "did you mean .*object", "NOT_FOUND"),
    "column": ("SELECT magg FROM dr1.object", "did you mean .*mag", "INVALID_ARGUMENT"),
    "syntax": ("SELEC 1", "(?i)selec", "INVALID_ARGUMENT"),
}

#: By client: the exception for each code, and the code that it carries.
EXCEPTIONS: dict[str, dict[str, tuple[str, str | None]]] = {
    "adbc": {"NOT_FOUND": ("ProgrammingError", "NOT_FOUND"), "INVALID_ARGUMENT": ("ProgrammingError", "INVALID_ARGUMENT")},
    "pandas": {"NOT_FOUND": ("DatabaseError", "NOT_FOUND"), "INVALID_ARGUMENT": ("DatabaseError", "INVALID_ARGUMENT")},
    "polars": {"NOT_FOUND": ("ProgrammingError", "NOT_FOUND"), "INVALID_ARGUMENT": ("ProgrammingError", "INVALID_ARGUMENT")},
    "pyarrow": {"NOT_FOUND": ("ArrowKeyError", None), "INVALID_ARGUMENT": ("ArrowInvalid", None)},
    "duckdb": {"NOT_FOUND": ("ArrowKeyError", None), "INVALID_ARGUMENT": ("ArrowInvalid", None)},
    "dbapi": {"NOT_FOUND": ("ArrowKeyError", None), "INVALID_ARGUMENT": ("ArrowInvalid", None)},
    "jdbc": {"NOT_FOUND": ("SQLException", None), "INVALID_ARGUMENT": ("SQLException", None)},
    "go": {"NOT_FOUND": ("adbc.Error", "Not Found"), "INVALID_ARGUMENT": ("adbc.Error", "Invalid Argument")},
    "rust": {"NOT_FOUND": ("Server", "NotFound"), "INVALID_ARGUMENT": ("Server", "InvalidArgument")},
}


@pytest.mark.capability("error")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(client: Client, session: Session, mistake: str) -> None:
    """A mistake is the client's own exception with our message, and the session goes on."""
    sql, message, code = MISTAKES[mistake]
    with failing() as found:
        session.query(sql)
    [failed] = found
    assert re.search(message, failed.message), failed.message
    assert (failed.exception, failed.code) == EXCEPTIONS[client.name][code]
    assert session.query("SELECT 2 AS two").rows == [(2,)]


@pytest.mark.capability("error")
def test_failure_while_running(session: Session) -> None:
    """What only a row can show ends the result with an error: never as if it were complete."""
    with failing() as found:
        session.query("SELECT CAST(name AS DOUBLE) FROM object WHERE name IS NOT NULL")
    assert "star" in found[0].message


@pytest.mark.capability("bind")
def test_bind(session: Session) -> None:
    answer = session.bind('SELECT "objectId", name FROM object WHERE "objectId" = ? OR name = ? ORDER BY 1', [4, "star 5 ★"])
    assert answer.rows == [(4, "star 4 ★"), (5, "star 5 ★")]
    answer = session.bind("SELECT count(*) AS n FROM object WHERE mag < ? AND variable = ?", [2.5, True])
    assert answer.rows == [(9,)]


#: Runs for hours: no aggregate of it can be told before its last row.
ENDLESS = "SELECT sum(a.flux * b.flux + c.flux) AS s FROM source a CROSS JOIN source b CROSS JOIN source c"


def cpu_seconds(cluster: Cluster) -> float:
    return sum(process.cpu_seconds() for process in cluster.processes())


@pytest.mark.capability("cancel")
def test_cancel(cluster: Cluster, client: Client, session: Session) -> None:
    """A query that is given up stops on the server, within a second; on a busy machine a little later."""
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            session.cancel(ENDLESS, 1.0)
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    before = cpu_seconds(cluster)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20 * SLOWNESS)
    assert outcome, "the client still waits for the query that it gave up"
    spent = cpu_seconds(cluster) - before
    assert spent > 0.05, f"the query took {spent} s of processors: there was nothing to cancel"
    deadline = time.monotonic() + 1.0 + 3 * SLOWNESS
    while True:
        before = cpu_seconds(cluster)
        time.sleep(1.0)
        if cpu_seconds(cluster) - before < 0.3:
            break
        assert time.monotonic() < deadline, "the server still works for it"
    assert session.query("SELECT 3 AS three").rows == [(3,)], "the session goes on"


#: A result of this many rows of 32 bytes, made beside the chunks from a small table and a replicated one.
LARGE_COPIES = int(os.environ.get("SKYFLIGHT_CLIENT_ROWS", "10000000")) // (OBJECTS * small_sky.SOURCES_OF_EACH)


def read_large(cluster: Cluster, session: Session, about: str) -> str:
    """Every row of a large result arrives, and no server holds more of it than its limits say. Gives the query."""
    assert 0 < LARGE_COPIES <= small_sky.COPIES
    sql = (
        f'SELECT s."sourceId", s."objectId", s.flux, c.copy FROM source s CROSS JOIN copies c '
        f"WHERE c.copy <= {LARGE_COPIES} -- {about}"
    )
    sources = OBJECTS * small_sky.SOURCES_OF_EACH
    before = {process.name: process.memory_bytes() for process in cluster.processes()}
    with MemorySamples(cluster) as memory:
        rows, total = session.count(sql)
    assert rows == sources * LARGE_COPIES
    assert total == LARGE_COPIES * sources * (sources + 1) // 2
    grown = {name: max(samples, default=0) - before[name] for name, samples in memory.samples.items()}
    print(f"{rows:,} rows; memory grew by", {name: f"{bytes / 2**20:.0f} MiB" for name, bytes in grown.items()})
    assert max(grown.values()) < 128 << 20
    return sql


@pytest.mark.capability("large")
def test_large(cluster: Cluster, client: Client, session: Session) -> None:
    read_large(cluster, session, client.name)


@pytest.mark.capability("large", "workers")
def test_large_from_workers(cluster: Cluster, client: Client, place: Place) -> None:
    session = client.open(replace(place, database=DATABASE, endpoints="direct"))
    assert_from_workers(cluster, read_large(cluster, session, f"{client.name} from workers"))
    session.close()


def assert_from_workers(cluster: Cluster, sql: str) -> None:
    """The query was asked once and handed out, and none of its endpoints was served by the coordinator."""
    deadline = time.monotonic() + 10
    while not (records := cluster.records("SELECT id, state FROM queries WHERE sql_text = ?", sql)) and time.monotonic() < deadline:
        time.sleep(0.05)
    [(query_id, state)] = records
    assert state == "direct"
    assert cluster.coordinator is not None
    log = cluster.coordinator.stderr.read_text(errors="replace").splitlines()
    closed = [line for line in log if query_id in line and "query closed" in line]
    assert len(closed) == 1, closed


@pytest.mark.capability("workers")
def test_rows_from_workers(cluster: Cluster, client: Client, place: Place) -> None:
    """The client goes where the endpoints say, and gives the rows of all of them."""
    expected = [tuple(row.values()) for row in small_sky.objects().select(["objectId", "mag", "name"]).to_pylist()]
    session = client.open(replace(place, database=DATABASE, endpoints="direct"))
    sql = f'SELECT "objectId", mag, name FROM object WHERE "objectId" > 0 -- {client.name}'
    answer = session.query(sql)
    assert answer.columns == ["objectId", "mag", "name"]
    assert len(answer.rows) == OBJECTS
    assert [pair for pair in zip(sorted(answer.rows), expected) if not all(map(same, *pair))] == []
    assert_from_workers(cluster, sql)
    # What is merged above the workers has one endpoint whatever is said.
    ordered = session.query('SELECT "objectId" FROM object ORDER BY "objectId" DESC LIMIT 3')
    assert ordered.rows == [(OBJECTS,), (OBJECTS - 1,), (OBJECTS - 2,)]
    session.close()


@pytest.mark.capability("workers", "write")
@pytest.mark.parametrize("server", ["guarded", "secured"])
def test_rows_from_workers_that_are_guarded(request: pytest.FixtureRequest, client: Client, server: str) -> None:
    """A client logs in at a worker as it does at the coordinator, and trusts its certificate."""
    place: Place = request.getfixturevalue(server)
    if server == "guarded":
        place = replace(place, user=USER, password=PASSWORD)
    session = client.open(replace(place, endpoints="direct"))
    table = f"mydb.d_{client.name}"
    session.write(f"CREATE TABLE {table} AS SELECT value, value * 0.5 AS half FROM generate_series(1, 5000)")
    sql = f"SELECT value, half FROM {table} WHERE value > 0 -- {client.name}"
    assert sorted(session.query(sql).rows) == [(value, value / 2) for value in range(1, 5001)]
    assert_from_workers(request.getfixturevalue(f"{server}_cluster"), sql)
    session.write(f"DROP TABLE {table}")
    session.close()


def own_rows(count: int) -> pa.Table:
    """A list that somebody brings: ids of objects, and notes, some of them missing."""
    ids = range(1, count + 1)
    notes = [None if id % 4 == 0 else f"note {id}" for id in ids]
    return pa.table({"objectId": pa.array(ids, pa.int64()), "weight": [id / 2 for id in ids], "note": notes})


@pytest.mark.capability("write")
def test_write(client: Client, session: Session) -> None:
    """Statements that write run once, whichever way the client sends them."""
    table = f"mydb.w_{client.name}"
    session.write(f'CREATE TABLE {table} AS SELECT "objectId", mag FROM object WHERE "objectId" <= 10')
    count = f'SELECT count(*) AS n, sum("objectId") AS s FROM {table}'
    assert session.query(count).rows == [(10, 55)]
    written = session.write(f'INSERT INTO {table} SELECT "objectId", mag FROM object WHERE "objectId" BETWEEN 11 AND 14')
    assert written in (4, None)
    assert session.query(count).rows == [(14, 105)]
    with failing() as found:
        session.write(f'CREATE TABLE {table} AS SELECT "objectId", mag FROM object')
    assert re.search("(?i)exists", found[0].message), found[0]
    session.write(f"DROP TABLE {table}")
    with failing() as found:
        session.query(count)
    assert re.search(f"(?i)w_{client.name}", found[0].message), found[0]


@pytest.mark.capability("bind_many")
def test_bind_many(client: Client, session: Session) -> None:
    """Each row of parameters is one run of the statement."""
    table = f"mydb.m_{client.name}"
    session.write(f"CREATE TABLE {table} (id BIGINT, x DOUBLE, note VARCHAR)")
    # flightsql-dbapi cannot bind None.
    rows = [(1, 1.5, "one"), (2, 2.5, "two" if client.name == "dbapi" else None), (3, 3.5, "three")]
    written = session.bind_many(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
    assert written in (3, None)
    assert session.query(f"SELECT * FROM {table} ORDER BY id").rows == rows
    session.write(f"DROP TABLE {table}")


@pytest.mark.capability("upload")
def test_upload(client: Client, session: Session) -> None:
    """An uploaded list is a table like any other: it joins with the big ones, and nobody else's is touched."""
    table = f"u_{client.name}"
    joined = f'SELECT count(*) AS n, sum(u.weight) AS w, count(u.note) AS notes FROM mydb.{table} u JOIN object o ON u."objectId" = o."objectId"'
    assert session.upload("mydb", table, own_rows(100), "create") in (100, None)
    assert session.query(joined).rows == [(100, 2525.0, 75)]
    with failing() as found:
        session.upload("mydb", table, own_rows(10), "create")
    # pandas has a text of its own, and our code.
    assert re.search("(?i)exist", f"{found[0].code} {found[0].message}"), found[0]
    assert session.upload("mydb", table, own_rows(20), "append") in (20, None)
    assert session.query(joined).rows == [(120, 2630.0, 90)]
    assert session.upload("mydb", table, own_rows(8), "replace") in (8, None)
    assert session.query(joined).rows == [(8, 18.0, 6)]


@pytest.mark.capability("password")
def test_password(client: Client, guarded: Place) -> None:
    session = client.open(replace(guarded, user=USER, password=PASSWORD))
    assert session.query("SELECT 4 AS four").rows == [(4,)]
    session.close()
    for user, password in ((USER, "wrong"), ("nobody", PASSWORD)):
        with failing() as found:
            client.open(replace(guarded, user=user, password=password)).query("SELECT 5")
        assert re.search("(?i)password|user", found[0].message), found[0]


@pytest.mark.capability("password")
def test_stranger(client: Client, guarded: Place) -> None:
    """Who says nothing gets nothing."""
    with failing():
        client.open(guarded).query("SELECT 6")


@pytest.mark.capability("token")
def test_token(client: Client, guarded: Place) -> None:
    token = bearer_token(guarded, USER, PASSWORD)
    session = client.open(replace(guarded, token=token))
    assert session.query("SELECT 7 AS seven").rows == [(7,)]
    session.close()
    with failing():
        client.open(replace(guarded, token=token[:-4] + "0000")).query("SELECT 8")


@pytest.mark.capability("tls")
def test_tls(client: Client, secured: Place, stranger_ca: Path) -> None:
    """A server is believed for its certificate: with another authority's there is no connection."""
    session = client.open(secured)
    assert session.query("SELECT 9 AS nine").rows == [(9,)]
    session.close()
    with failing():
        client.open(replace(secured, ca=stranger_ca)).query("SELECT 10")
    with failing():
        client.open(replace(secured, ca=None)).query("SELECT 11")
