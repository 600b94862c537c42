"""Tables of users' own: uploads in the modes of ADBC and pyarrow, CREATE, INSERT, DROP, joins with the big tables.

Each test is a user of its own, so that nothing it makes is seen by others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import adbc_driver_manager
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from skyflight_testing import clients
from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.sky import separation, unit_vectors

#: Hipparcos stars that have a Gaia star within 1 arcsec, as the README of the data counts them.
MATCHED = 76_448


@pytest.fixture
def connect(sky: Cluster, request: pytest.FixtureRequest) -> Callable[[], object]:
    """Opens connections of a user named after the test."""
    user = "".join(c if c.isalnum() else "_" for c in request.node.name)
    return lambda: sky.adbc(username=user, password="")


@pytest.fixture
def cursor(connect: Callable) -> Iterator[object]:
    with connect() as connection, connection.cursor() as cursor:
        yield cursor


def rows(cursor: object, sql: str) -> list[tuple]:
    cursor.execute(sql)
    return cursor.fetchall()


def stars(data: Path, count: int | None = None) -> pa.Table:
    table = pq.read_table(data / "sky/hipparcos2.parquet")
    return table if count is None else table.slice(0, count)


def as_director(table: pa.Table, ra: str, dec: str, id: str) -> pa.Table:
    return table.replace_schema_metadata({"skyflight.ra": ra, "skyflight.dec": dec, "skyflight.id": id})


def test_modes_of_adbc(cursor: object, data: Path) -> None:
    list_ = stars(data, 1000)
    with pytest.raises(adbc_driver_manager.Error, match="mydb.list"):
        cursor.adbc_ingest("list", list_, mode="append")
    assert cursor.adbc_ingest("list", list_, mode="create") == 1000
    with pytest.raises(adbc_driver_manager.Error, match="exists already"):
        cursor.adbc_ingest("list", list_, mode="create")
    assert cursor.adbc_ingest("list", list_, mode="append", db_schema_name="mydb") == 1000
    assert cursor.adbc_ingest("list", list_, mode="create_append") == 1000
    assert rows(cursor, "SELECT count(*), count(DISTINCT hip) FROM mydb.list") == [(3000, 1000)]
    assert cursor.adbc_ingest("list", list_.slice(0, 10), mode="replace") == 10
    cursor.execute("SELECT * FROM mydb.list ORDER BY hip")
    assert_same_rows(cursor.fetch_arrow_table(), list_.slice(0, 10))


def test_many_types_come_back_as_they_were(cursor: object) -> None:
    table = pa.table({
        "Id": pa.array([1, 2, None], pa.int32()),
        "flag": pa.array([True, None, False]),
        "name é": pa.array(["a", "", None]),
        "bytes": pa.array([b"\0", None, b""], pa.binary()),
        "half": pa.array([1.5, float("nan"), None], pa.float32()),
        "day": pa.array([0, None, 20000], pa.date32()),
        "seen": pa.array([0, None, 1_700_000_000_000_000], pa.timestamp("us", tz="UTC")),
        "price": pa.array([None, 1, 2], pa.decimal128(10, 2)),
        "list": pa.array([[1, 2], [], None], pa.list_(pa.int64())),
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
    })
    assert cursor.adbc_ingest("types", table, mode="create") == 3
    cursor.execute("SELECT * FROM mydb.types")
    found = cursor.fetch_arrow_table()
    expect = table.set_column(9, "kind", table.column("kind").cast(pa.string()))
    assert found.column_names == expect.column_names
    for name in expect.column_names:
        assert str(found.column(name).to_pylist()) == str(expect.column(name).to_pylist()), name


@pytest.mark.parametrize("kind", ["replicated", "director"])
def test_an_uploaded_list_is_matched(cursor: object, data: Path, suffix: str, kind: str) -> None:
    """All of Hipparcos, uploaded, against Gaia: as many as the reference counts."""
    table = stars(data)
    if kind == "director":
        table = as_director(table, "ra_j1991", "dec_j1991", "hip")
    assert cursor.adbc_ingest("hip", table, mode="create") == table.num_rows
    found = rows(cursor, f"""SELECT count(DISTINCT h.hip) FROM mydb.hip h JOIN sky_{suffix}.gaia g
        ON separation(h.ra_j1991, h.dec_j1991, g.ra, g.dec) < 1.0 / 3600""")
    assert found == [(MATCHED,)]
    joined = rows(cursor, f"""SELECT count(*) FROM mydb.hip h JOIN hip_{suffix}.hipparcos2 o ON h.hip = o.hip
        WHERE h.hpmag = o.hpmag OR (h.hpmag IS NULL AND o.hpmag IS NULL)""")
    assert joined == [(table.num_rows,)]
    if kind == "director":
        chosen = {kind: text for kind, text in rows(cursor, "EXPLAIN SELECT * FROM mydb.hip WHERE hip = 71683")}
        assert any(text.startswith("1 of ") for kind, text in chosen.items() if kind.startswith("chunks")), chosen


def test_a_director_made_by_sql(cursor: object, data: Path, suffix: str) -> None:
    cursor.execute(f"""CREATE TABLE mydb.bright WITH (ra = ra, dec = dec, id = source_id) AS
        SELECT * FROM sky_{suffix}.gaia WHERE phot_g_mean_mag < 6""")
    assert cursor.fetchall() == []
    gaia = pq.read_table(data / "sky/gaia_dr3_g10.parquet")
    bright = gaia.filter(pc.less(gaia.column("phot_g_mean_mag"), 6))
    ids, ra, dec = (bright.column(name).to_numpy() for name in ("source_id", "ra", "dec"))
    assert rows(cursor, "SELECT count(*) FROM mydb.bright") == [(len(ids),)]
    ours = rows(cursor, """SELECT source_id FROM mydb.bright
        WHERE CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', 83, 0, 10)) = 1 ORDER BY 1""")
    distance = separation(unit_vectors(ra, dec), unit_vectors(np.float64(83), np.float64(0)))
    assert [row[0] for row in ours] == sorted(ids[distance < 10]) and len(ours) > 20


def test_create_insert_and_drop(cursor: object, sky: Cluster, suffix: str) -> None:
    cursor.execute(f"CREATE TABLE mydb.t AS SELECT hip, hpmag FROM hip_{suffix}.hipparcos2 WHERE hip <= 100")
    made = cursor.rowcount
    assert rows(cursor, "SELECT count(*) FROM mydb.t") == [(made,)] and made > 90
    cursor.execute("INSERT INTO mydb.t (hip) VALUES (-1), (-2)")
    assert cursor.rowcount == 2
    cursor.executemany("INSERT INTO mydb.t VALUES (?, ?)", [(-3 - n, n / 4) for n in range(5_000)])
    assert rows(cursor, "SELECT count(*), count(hpmag), min(hip) FROM mydb.t WHERE hip < 0") == [(5_002, 5_000, -5_002)]
    cursor.execute("INSERT INTO t SELECT hip * 1000, hpmag FROM t WHERE hip > ?", (0,))
    assert rows(cursor, "SELECT count(*) FROM t WHERE hip >= 1000")[0][0] > 90
    cursor.execute("CREATE TABLE IF NOT EXISTS mydb.t AS SELECT 1 AS one")
    assert rows(cursor, "SELECT count(*) FROM mydb.t WHERE hip = -1") == [(1,)]
    cursor.execute("CREATE OR REPLACE TABLE mydb.t AS SELECT 1 AS one")
    assert rows(cursor, "SELECT * FROM mydb.t") == [(1,)]
    cursor.execute("CREATE TABLE empty (a BIGINT, b DOUBLE, c VARCHAR)")
    assert rows(cursor, "SELECT * FROM mydb.empty") == []
    cursor.execute("DROP TABLE mydb.t")
    cursor.execute("DROP TABLE IF EXISTS mydb.t")
    with pytest.raises(adbc_driver_manager.Error, match="no table"):
        cursor.execute("SELECT * FROM mydb.t")


def test_empty_uploads(cursor: object, connect: Callable, sky: Cluster) -> None:
    """ADBC sends nothing at all for an empty table, which is an error that says what to do; a schema is enough."""
    nothing = pa.table({"a": pa.array([], pa.int64())})
    with pytest.raises(adbc_driver_manager.Error):
        cursor.adbc_ingest("nothing", nothing, mode="create")
    with sky.flight() as client:
        user = client.client.authenticate_basic_token("test_empty_uploads", "")
        options = flight.FlightCallOptions(headers=[user])
        writer, _ = client.client.do_put(flight.FlightDescriptor.for_path("mydb", "nothing"), nothing.schema, options)
        writer.close()
    assert rows(cursor, "SELECT * FROM mydb.nothing") == []


def test_plain_do_put(sky: Cluster, data: Path) -> None:
    """pyarrow.flight alone: a path, a writer, and more of it later."""
    table = stars(data, 2000)
    with sky.flight() as client:
        user = client.client.authenticate_basic_token("test_plain_do_put", "")
        options = flight.FlightCallOptions(headers=[user])
        for part in (table.slice(0, 1500), table.slice(1500)):
            descriptor = flight.FlightDescriptor.for_path("mydb", "stars")
            writer, _ = client.client.do_put(descriptor, part.schema, options)
            writer.write_table(part, max_chunksize=100)
            writer.close()
    with sky.adbc(username="test_plain_do_put", password="") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM mydb.stars ORDER BY hip")
        assert_same_rows(cursor.fetch_arrow_table(), table)


def test_a_failed_upload_leaves_nothing(cursor: object, sky: Cluster, data: Path) -> None:
    files = sky.stored_files()
    bad = as_director(pa.table({"n": [1, 2], "ra": [10.0, 400.0], "dec": [0.0, 0.0]}), "ra", "dec", "n")
    with pytest.raises(adbc_driver_manager.Error, match="row 2"):
        cursor.adbc_ingest("bad", bad, mode="create")
    with pytest.raises(adbc_driver_manager.Error, match="(?i)divide"):
        cursor.execute("CREATE TABLE mydb.bad AS SELECT 1 / (100000 - value) AS x FROM generate_series(1, 200000)")
    with pytest.raises(adbc_driver_manager.Error, match='"wait"'):
        cursor.execute("CREATE TABLE mydb.bad AS SELECT INTERVAL '1 day' AS wait")
    with pytest.raises(adbc_driver_manager.Error, match="no table"):
        cursor.execute("SELECT * FROM mydb.bad")
    assert sky.stored_files() == files
    assert list(sky.folder.rglob("staging/uploads/*")) == []
    assert cursor.adbc_ingest("bad", stars(data, 10), mode="create") == 10


def test_others_see_nothing_of_it(cursor: object, sky: Cluster, data: Path) -> None:
    cursor.adbc_ingest("secret", stars(data, 10), mode="create")
    with sky.adbc(username="somebody_else", password="") as connection, connection.cursor() as other:
        schemas = rows(other, "SELECT DISTINCT schema_name FROM information_schema.schemata")
        assert not any(name.startswith("user_") for (name,) in schemas)
        own = "user_test__others__see__nothing__of__it"
        messages = []
        for database in (own, "user_nobody"):
            with pytest.raises(adbc_driver_manager.Error, match="no database") as refused:
                other.execute(f"SELECT * FROM {database}.secret")
            messages.append(str(refused.value).replace(database, "X"))
        assert messages[0] == messages[1]
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        assert own not in str(objects)
    assert rows(cursor, "SELECT count(*) FROM user_test__others__see__nothing__of__it.secret") == [(10,)]


def test_the_rust_client_makes_a_table(sky: Cluster) -> None:
    clients.shell(sky.url, "CREATE TABLE mydb.by_rust AS SELECT 7 AS n")
    found = clients.shell(sky.url, "SELECT n FROM mydb.by_rust")
    assert found.column("n").to_pylist() == [7]
    clients.shell(sky.url, "DROP TABLE mydb.by_rust")


def test_rows_of_a_job_become_a_table(cursor: object) -> None:
    """SUBMIT writes no table, and says which way leads to one; that way does."""
    sql = "SELECT hip, hpmag FROM hip_h.hipparcos2 WHERE hpmag < 4"
    for write in (f"CREATE TABLE mydb.bright AS {sql}", f"INSERT INTO mydb.bright {sql}"):
        with pytest.raises(adbc_driver_manager.Error, match=r"CREATE TABLE mydb.name AS SELECT \* FROM job"):
            cursor.execute(f"SUBMIT {write}")
    [[id, *_]] = rows(cursor, f"SUBMIT {sql}")
    while rows(cursor, f"SELECT state FROM system.queries WHERE id = '{id}'") != [("finished",)]:
        assert rows(cursor, f"SELECT error FROM system.queries WHERE id = '{id}'") == [(None,)]
    cursor.execute(f"CREATE TABLE mydb.bright AS SELECT * FROM job('{id}')")
    cursor.execute(f"INSERT INTO mydb.bright SELECT hip + 1000000, hpmag FROM job('{id}')")
    expected = rows(cursor, sql)
    assert len(expected) > 300
    found = rows(cursor, "SELECT hip, hpmag FROM mydb.bright")
    assert sorted(found) == sorted(expected + [(hip + 1_000_000, mag) for hip, mag in expected])
