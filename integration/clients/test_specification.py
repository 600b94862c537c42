"""Metadata to the letter of the specification (FlightSql.proto): schemas with nullability, order, filters, codes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from skyflight_testing.clients import field
from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import HEALPIX

from .arrow_flight import FlightSession, descriptor
from .client import Place
from .small_sky import DATABASE, objects


def required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


#: The value of GetSqlInfo. The specification's text leaves the members' nullability open: this is Arrow Java's, but for
#: the two lists, which arrow-rs has nullable. No client compares them.
SQL_INFO_VALUE = pa.dense_union(
    [
        required("string_value", pa.string()),
        required("bool_value", pa.bool_()),
        required("bigint_value", pa.int64()),
        required("int32_bitmask", pa.int32()),
        pa.field("string_list", pa.list_(pa.field("item", pa.string()))),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.field("item", pa.int32())))),
    ]
)

TABLES = [
    pa.field("catalog_name", pa.string()),
    pa.field("db_schema_name", pa.string()),
    required("table_name", pa.string()),
    required("table_type", pa.string()),
]
FOREIGN_KEYS = [
    pa.field("pk_catalog_name", pa.string()),
    pa.field("pk_db_schema_name", pa.string()),
    required("pk_table_name", pa.string()),
    required("pk_column_name", pa.string()),
    pa.field("fk_catalog_name", pa.string()),
    pa.field("fk_db_schema_name", pa.string()),
    required("fk_table_name", pa.string()),
    required("fk_column_name", pa.string()),
    required("key_sequence", pa.int32()),
    pa.field("fk_key_name", pa.string()),
    pa.field("pk_key_name", pa.string()),
    required("update_rule", pa.uint8()),
    required("delete_rule", pa.uint8()),
]

OBJECT, SOURCE = (field(2, DATABASE.encode()) + field(3, table) for table in (b"object", b"source"))

#: By command: its own fields, and the columns of the answer.
SCHEMAS: dict[str, tuple[bytes, bytes, list[pa.Field]]] = {
    "catalogs": (b"CommandGetCatalogs", b"", [required("catalog_name", pa.string())]),
    "schemas": (
        b"CommandGetDbSchemas", b"", [pa.field("catalog_name", pa.string()), required("db_schema_name", pa.string())],
    ),
    "tables": (b"CommandGetTables", b"", TABLES),
    "tables with schema": (b"CommandGetTables", b"\x28\x01", [*TABLES, required("table_schema", pa.binary())]),
    "table types": (b"CommandGetTableTypes", b"", [required("table_type", pa.string())]),
    "primary keys": (
        b"CommandGetPrimaryKeys", OBJECT,
        [
            pa.field("catalog_name", pa.string()),
            pa.field("db_schema_name", pa.string()),
            required("table_name", pa.string()),
            required("column_name", pa.string()),
            pa.field("key_name", pa.string()),
            required("key_sequence", pa.int32()),
        ],
    ),
    "exported keys": (b"CommandGetExportedKeys", OBJECT, FOREIGN_KEYS),
    "imported keys": (b"CommandGetImportedKeys", SOURCE, FOREIGN_KEYS),
    "cross reference": (
        b"CommandGetCrossReference",
        b"".join(field(n, v) for n, v in ((2, b"dr1"), (3, b"object"), (5, b"dr1"), (6, b"source"))),
        FOREIGN_KEYS,
    ),
    "sql info": (b"CommandGetSqlInfo", b"", [required("info_name", pa.uint32()), required("value", SQL_INFO_VALUE)]),
    "types": (
        b"CommandGetXdbcTypeInfo", b"",
        [
            required("type_name", pa.string()),
            required("data_type", pa.int32()),
            pa.field("column_size", pa.int32()),
            pa.field("literal_prefix", pa.string()),
            pa.field("literal_suffix", pa.string()),
            pa.field("create_params", pa.list_(required("item", pa.string()))),
            required("nullable", pa.int32()),
            required("case_sensitive", pa.bool_()),
            required("searchable", pa.int32()),
            pa.field("unsigned_attribute", pa.bool_()),
            required("fixed_prec_scale", pa.bool_()),
            pa.field("auto_increment", pa.bool_()),
            pa.field("local_type_name", pa.string()),
            pa.field("minimum_scale", pa.int32()),
            pa.field("maximum_scale", pa.int32()),
            required("sql_data_type", pa.int32()),
            pa.field("datetime_subcode", pa.int32()),
            pa.field("num_prec_radix", pa.int32()),
            pa.field("interval_precision", pa.int32()),
        ],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def flight(place: Place) -> Iterator[FlightSession]:
    session = FlightSession(place)
    yield session
    session.close()


@pytest.mark.parametrize("what", SCHEMAS)
def test_schemas(flight: FlightSession, what: str) -> None:
    """GetSchema, GetFlightInfo and DoGet agree on the specification's schema, and there are rows."""
    name, value, columns = SCHEMAS[what]
    expected = pa.schema(columns)
    info = flight.client.get_flight_info(descriptor(name, value), flight.options)
    [endpoint] = info.endpoints
    table = flight.client.do_get(endpoint.ticket, flight.options).read_all()
    told = flight.client.get_schema(descriptor(name, value), flight.options).schema
    for schema in (told, info.schema, table.schema):
        assert schema.equals(expected, check_metadata=True), f"{schema}\ninstead of\n{expected}"
    assert table.num_rows > 0


def tables(flight: FlightSession, value: bytes) -> list[tuple[str, str, str]]:
    found = flight.table(b"CommandGetTables", value).to_pylist()
    return [(row["db_schema_name"], row["table_name"], row["table_type"]) for row in found]


def test_tables_in_order(flight: FlightSession) -> None:
    found = tables(flight, b"")
    assert found == sorted(found)
    assert [row for row in found if row[0] == DATABASE] == [(DATABASE, name, "TABLE") for name in ("copies", "object", "source")]
    assert ("information_schema", "columns", "VIEW") in found
    assert not [row for row in found if row[1] == "df_settings"], "the configuration is not shown"


def test_tables_are_those_of_information_schema(flight: FlightSession) -> None:
    """The two ways to list tables agree, but for the type's name."""
    listed = flight.query("SELECT table_schema, table_name FROM information_schema.tables WHERE table_name <> 'df_settings'")
    assert sorted((database, table) for database, table, _ in tables(flight, b"")) == sorted(listed.rows)


#: Fields of CommandGetTables, and the tables that pass of those in `dr1` and `information_schema`.
FILTERS: dict[str, tuple[bytes, set[str]]] = {
    "type TABLE": (field(4, b"TABLE"), {"copies", "object", "source"}),
    "type BASE TABLE": (field(4, b"BASE TABLE"), {"copies", "object", "source"}),
    "type table": (field(4, b"table"), {"copies", "object", "source"}),
    "type VIEW": (field(4, b"VIEW"), {"columns", "parameters", "routines", "schemata", "tables", "views"}),
    "both types": (field(4, b"VIEW") + field(4, b"TABLE") + field(3, b"%s"), {"copies", "columns", "parameters", "routines", "tables", "views"}),
    "another type": (field(4, b"GLOBAL TEMPORARY"), set()),
    "any text": (field(2, b"dr%") + field(3, b"%o%"), {"copies", "object", "source"}),
    "any character": (field(3, b"o_ject"), {"object"}),
    "escaped": (field(3, rb"o\_ject"), set()),
    "any case": (field(2, b"DR1") + field(3, b"OBJ%"), {"object"}),
    "escaped schema": (field(2, rb"information\_schema") + field(3, b"col%"), {"columns"}),
    "our catalog": (field(1, b"skyflight") + field(3, b"object"), {"object"}),
    "another catalog": (field(1, b"milkyway"), set()),
    "without catalog": (field(1, b""), set()),
    "without schema": (field(2, b""), set()),
}  # fmt: skip


@pytest.mark.parametrize("what", FILTERS)
def test_filters(flight: FlightSession, what: str) -> None:
    value, expected = FILTERS[what]
    found = tables(flight, value)
    ours = {table for database, table, _ in found if database in (DATABASE, "information_schema")}
    assert ours == expected


def test_schemas_by_pattern(flight: FlightSession) -> None:
    def found(value: bytes) -> list[str]:
        return flight.table(b"CommandGetDbSchemas", value).column("db_schema_name").to_pylist()

    assert found(field(2, b"dr_")) == [DATABASE]
    assert found(field(2, rb"dr\_")) == []
    assert found(field(1, b"elsewhere")) == []
    everything = found(b"")
    assert everything == sorted(everything) and {DATABASE, "information_schema"} <= set(everything)


def test_table_types(flight: FlightSession) -> None:
    assert flight.table(b"CommandGetTableTypes").column("table_type").to_pylist() == ["TABLE", "VIEW"]


def test_table_schema_is_what_select_gives(flight: FlightSession) -> None:
    """Names, types and nullability are those of `SELECT *`; the metadata is what JDBC shows as columns."""
    value = field(2, DATABASE.encode()) + field(3, b"object") + b"\x28\x01"
    [row] = flight.table(b"CommandGetTables", value).to_pylist()
    schema = pa.ipc.read_schema(pa.py_buffer(row["table_schema"]))
    selected = flight.client.get_schema(_statement("SELECT * FROM dr1.object"), flight.options).schema
    assert schema.remove_metadata().equals(selected.remove_metadata())
    assert schema.names == [*objects().column_names, HEALPIX]
    assert {name: schema.field(name).metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"] for name in ("objectId", "ra", "mag", "name", "variable")} == {
        "objectId": b"BIGINT", "ra": b"DOUBLE", "mag": b"REAL", "name": b"VARCHAR", "variable": b"BOOLEAN",
    }  # fmt: skip
    for name in schema.names:
        told = schema.field(name).metadata
        assert told[b"ARROW:FLIGHT:SQL:TABLE_NAME"] == b"object" and told[b"ARROW:FLIGHT:SQL:DB_SCHEMA_NAME"] == b"dr1"
        assert told[b"ARROW:FLIGHT:SQL:CATALOG_NAME"] == b"skyflight" and told[b"ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT"] == b"0"


def _statement(sql: str):
    return descriptor(b"CommandStatementQuery", field(1, sql.encode()))


def test_keys(flight: FlightSession) -> None:
    """A child refers to its director, whoever asks from which side; a table without a key has none."""
    [primary] = flight.table(b"CommandGetPrimaryKeys", OBJECT).to_pylist()
    assert (primary["table_name"], primary["column_name"], primary["key_sequence"]) == ("object", "objectId", 1)
    answers = [flight.table(*SCHEMAS[what][:2]).to_pylist() for what in ("exported keys", "imported keys", "cross reference")]
    assert answers[0] == answers[1] == answers[2]
    [[reference]] = answers[:1]
    told = {name: reference[name] for name in ("pk_table_name", "pk_column_name", "fk_table_name", "fk_column_name", "pk_key_name")}
    assert told == {
        "pk_table_name": "object", "pk_column_name": "objectId", "fk_table_name": "source", "fk_column_name": "objectId",
        "pk_key_name": primary["key_name"],
    }  # fmt: skip
    nothing = field(2, DATABASE.encode()) + field(3, b"copies")
    for command in (b"CommandGetPrimaryKeys", b"CommandGetExportedKeys", b"CommandGetImportedKeys"):
        assert flight.table(command, nothing).num_rows == 0
    assert flight.table(b"CommandGetExportedKeys", SOURCE).num_rows == flight.table(b"CommandGetImportedKeys", OBJECT).num_rows == 0


def info(flight: FlightSession, codes: list[int]) -> dict[int, tuple[str, object]]:
    """By code: the union's member and the value."""
    packed = b"".join(bytes([code & 0x7F | 0x80, code >> 7]) if code > 0x7F else bytes([code]) for code in codes)
    found = flight.table(b"CommandGetSqlInfo", field(1, packed) if codes else b"").combine_chunks()
    values = found.column("value").chunk(0)
    members = [values.type.field(number).name for number in values.type.type_codes]
    return {
        code: (members[kind], value.as_py())
        for code, kind, value in zip(found.column("info_name").to_pylist(), values.type_codes.to_pylist(), values)
    }


STRINGS = {0, 1, 2, 6, 7, 504, 513, 514, 529, 530, 531}
LISTS = {508, 509, 510, 511, 512}
MAPS = {517}
#: Ordinals and bit masks; 562 is one too by the text, but the JDBC driver reads it as a long.
INT32 = {8, 100, 101, 503, 505, 507, 522, 525, 526, 528, 533, 534, 535, 538, 540, 564, 567, 568, 569, 570, 571}
INT64 = {*range(541, 556), *range(557, 563)}
#: All of `enum SqlInfo`.
CODES = {*range(12), 100, 101, *range(500, 577)}


def test_sql_info_is_complete(flight: FlightSession) -> None:
    """An empty list asks for all: each standard code with its type, and no other, which the JDBC driver would not survive."""
    found = info(flight, [])
    assert set(found) == CODES
    booleans = CODES - STRINGS - LISTS - MAPS - INT32 - INT64
    for member, codes in {
        "string_value": STRINGS, "string_list": LISTS, "int32_to_int32_list_map": MAPS, "int32_bitmask": INT32,
        "bigint_value": INT64, "bool_value": booleans,
    }.items():  # fmt: skip
        assert {code for code, (kind, _) in found.items() if kind == member} == codes, member


def test_sql_info_by_code(flight: FlightSession) -> None:
    """What is asked for and no more, in the order of the codes; codes of nobody are left out."""
    assert info(flight, [8, 0, 562]) == {
        0: ("string_value", "Skyflight"),
        8: ("int32_bitmask", 0),
        562: ("bigint_value", 0),
    }
    assert list(info(flight, [504, 3, 9_999])) == [3, 504]


def test_sql_info_tells_what_there_is(flight: FlightSession) -> None:
    """What tools decide by: there is something to write, to upload, to batch and to cancel, and no transaction."""
    told = {code: value for code, (_, value) in info(flight, [3, 8, 9, 10, 11, 502, 563, 572, 573]).items()}
    assert told == {3: False, 8: 0, 9: True, 10: True, 11: False, 502: True, 563: False, 572: True, 573: False}


def test_conversions(flight: FlightSession) -> None:
    """By the numbers of SqlSupportsConvert: VARCHAR (19) and BIGINT (0) become each other, DATE (4) no BIGINT."""
    member, value = info(flight, [517])[517]
    into = dict(value)  # type: ignore[call-overload]
    assert member == "int32_to_int32_list_map"
    assert 0 in into[19] and 19 in into[0] and 0 not in into[4]


def test_functions_that_are_told_exist(flight: FlightSession) -> None:
    """Every function that GetSqlInfo names can be called by that name."""
    told = {name for code in (509, 510, 511, 512) for name in info(flight, [code])[code][1]}  # type: ignore[attr-defined]
    known = flight.query("SELECT DISTINCT routine_name FROM information_schema.routines").rows
    # Written in SQL as words of their own, not as calls.
    spoken = {"coalesce", "nullif"}
    assert told - {name for (name,) in known} - spoken == set()


def test_types_can_be_cast_to(flight: FlightSession, cluster: Cluster) -> None:
    """Every type that GetXdbcTypeInfo names is one to SQL, and the rows are in the specification's order."""
    types = flight.table(b"CommandGetXdbcTypeInfo").to_pylist()
    order = [(row["data_type"], row["type_name"]) for row in types]
    assert order == sorted(order) and len(types) >= 19
    for row in types:
        flight.query(f"SELECT CAST(NULL AS {row['type_name']})")
    # The command may ask for one type alone: 12 is XDBC_VARCHAR.
    assert {row["type_name"] for row in flight.table(b"CommandGetXdbcTypeInfo", b"\x08\x0c").to_pylist()} == {"VARCHAR", "TEXT"}
