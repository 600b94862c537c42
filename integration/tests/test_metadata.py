"""What clients can find out about databases, tables and columns, and that names are found in any case."""

from __future__ import annotations

import pyarrow as pa
import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import HEALPIX


def objects(sky: Cluster, **filters: str) -> dict[str, dict[str, dict[str, list[str] | None]]]:
    """ADBC's GetObjects as database → table → columns."""
    with sky.adbc() as connection:
        found = connection.adbc_get_objects(**filters).read_all().to_pylist()
    assert [catalog["catalog_name"] for catalog in found] == ["skyflight"]
    return {
        schema["db_schema_name"]: {
            table["table_name"]: [c["column_name"] for c in table["table_columns"] or []] or None
            for table in schema["db_schema_tables"] or []
        }
        for schema in found[0]["catalog_db_schemas"] or []
    }


def test_objects(sky: Cluster) -> None:
    found = objects(sky, depth="all")
    assert found["sky_h"]["gaia"] == ["source_id", "ra", "dec", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", HEALPIX]
    assert set(found["ztf_s"]) == {"object", "source"}
    assert len(found["case01_h"]["Object"] or []) == 228 + 1
    assert {"sky_s", "hip_h", "hip_s", "rrlyr_h", "rrlyr_s", "ztf_h", "case01_s"} <= set(found)


def test_objects_by_pattern(sky: Cluster) -> None:
    found = objects(sky, depth="tables", db_schema_filter="case01%", table_name_filter="Ref%")
    assert {name: set(tables) for name, tables in found.items() if tables} == {
        "case01_h": {"RefSrcMatch"},
        "case01_s": {"RefSrcMatch"},
    }


def test_table_schema(sky: Cluster) -> None:
    with sky.adbc() as connection:
        schema = connection.adbc_get_table_schema("object", db_schema_filter="ztf_h")
        assert connection.adbc_get_table_types()
        assert "skyflight" in connection.adbc_get_info()["vendor_name"].lower()
    assert {field.name: field.type for field in schema} == {
        "object_id": pa.string(),
        "ra": pa.float64(),
        "dec": pa.float64(),
        "type": pa.string(),
        "redshift": pa.string(),
        HEALPIX: pa.int64(),
    }


def test_schema_without_running(sky: Cluster) -> None:
    """ExecuteSchema says what a query will give."""
    sql = "SELECT hip, avg(plx) OVER () AS p, 'x' AS t FROM hip_h.hipparcos2"
    with sky.adbc() as connection, connection.cursor() as cursor:
        schema = cursor.adbc_execute_schema(sql)
    assert [(f.name, f.type) for f in schema] == [("hip", pa.int64()), ("p", pa.float64()), ("t", pa.string())]


def test_show_and_information_schema(sky: Cluster) -> None:
    with sky.flight() as flight:
        shown = {tuple(map(str, row.values())) for row in flight.query("SHOW TABLES").to_pylist()}
        assert any("sky_h" in row and "gaia" in row for row in shown), shown
        counted = flight.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'hip_s' AND table_name = 'hipparcos2'"
        )
        names = set(counted.column("column_name").to_pylist())
        assert {"hip", "ra_j1991", "b_v"} <= names
        databases = flight.query("SHOW DATABASES").to_pylist()
        assert any("ztf_h" in map(str, row.values()) for row in databases), databases


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT objectId, ra_PS FROM case01_{s}.Object WHERE decl_PS < 0",
        "select OBJECTID, RA_PS from CASE01_{S}.OBJECT where DECL_PS < 0",
        "SELECT o.objectid, o.ra_ps FROM Case01_{s}.object AS O WHERE O.decl_ps < 0",
        'SELECT "objectId", "ra_PS" FROM "case01_{s}"."Object" WHERE "decl_PS" < 0',
        "SELECT objectID, Ra_Ps FROM skyflight.case01_{s}.Object WHERE DECL_ps < 0",
    ],
)
def test_names_in_any_case(sky: Cluster, suffix: str, sql: str) -> None:
    with sky.flight() as flight:
        table = flight.query(sql.format(s=suffix, S=suffix.upper()))
    assert table.column_names == ["objectId", "ra_PS"], "results carry the declared case"
    assert table.num_rows > 10


def test_default_database(sky: Cluster) -> None:
    """A header names the database for unqualified names; without one, an ambiguous name is refused and says so."""
    with sky.flight(x_skyflight_schema="ztf_s") as flight:
        assert flight.value("SELECT count(*) FROM object") == 2_314
    with sky.flight(x_skyflight_schema="rrlyr_h") as flight:
        assert flight.value("SELECT count(*) FROM object") == 483
    with sky.flight() as flight, pytest.raises(pa.ArrowInvalid, match="several databases"):
        flight.query("SELECT count(*) FROM hipparcos2")


def test_session_schema_through_adbc(sky: Cluster) -> None:
    with sky.adbc() as connection:
        connection.adbc_current_db_schema = "rrlyr_s"
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM source")
            assert cursor.fetchone() == (136_196,)


def test_prepared_statement_many_times(sky: Cluster) -> None:
    """The same handle gives the same rows each time."""
    with sky.adbc() as connection, connection.cursor() as cursor:
        for _ in range(5):
            cursor.execute("SELECT count(*) FROM hip_h.hipparcos2 WHERE hpmag < 5")
            first = cursor.fetchone()
            assert first is not None and first[0] > 1_000
