"""A small survey for random queries: few rows in many chunks, skewed, with everything that makes joins and nulls hard.

Floats are multiples of 1/1024 and small, so that sums are exact in whatever order they are made: what two systems
give may be compared, grouped and joined on. None is minus zero or not a number, which systems order differently.
"""

from __future__ import annotations

import datetime
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .cluster import Cluster
from .duck import Duck
from .tables import Scheme, Table, child, director, healpix, replicated, stripes

OBJECTS = 400
SOURCES = 1_100
FORCED = 350

#: How the queries' words for types are stored. `small` and `single` behave as `int` and `float` in expressions.
ARROW = {
    "id": pa.int64(),
    "int": pa.int32(),
    "small": pa.int16(),
    "float": pa.float64(),
    "single": pa.float32(),
    "text": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "stamp": pa.timestamp("us"),
}
BEHAVES_AS = {"small": "int", "single": "float"}

#: Columns by table, with their types; nullable unless named in `NEVER_NULL`.
COLUMNS: dict[str, dict[str, str]] = {
    "Object": {
        "objectId": "id", "ra": "float", "dec": "float", "mag": "float", "colour": "single", "flags": "int", "kind": "text",
        "epochs": "small", "variable": "bool", "discovered": "date", "updated": "stamp", "hostId": "id",
    },
    "Source": {
        "sourceId": "id", "objectId": "id", "ra": "float", "dec": "float", "flux": "float", "snr": "single", "band": "text",
        "filterId": "int", "visit": "int", "flags": "int", "good": "bool", "night": "date", "taken": "stamp",
    },
    "ForcedSource": {"objectId": "id", "visit": "int", "band": "text", "flux": "float", "flags": "int", "night": "date"},
    "Alert": {"alertId": "id", "objectId": "id", "score": "float", "label": "text", "flags": "int"},
    "Filter": {"filterId": "int", "band": "text", "wavelength": "float", "wide": "bool"},
}  # fmt: skip
NEVER_NULL = {"sourceId", "alertId", "ra", "dec"}
#: Columns whose values name a row: two rows with the same are the same in every column.
IDENTITY = {
    "Object": ("objectId",),
    "Source": ("sourceId",),
    "ForcedSource": ("objectId", "visit"),
    "Alert": ("alertId",),
    "Filter": ("filterId",),
}
#: How many rows there are, for estimates.
ROWS = {"Object": OBJECTS, "Source": SOURCES, "ForcedSource": FORCED, "Alert": 0, "Filter": 8}

#: The same rows in each: two ways to cut the sky, and one whose objects partly came after their children.
DATABASES: dict[str, Scheme] = {
    "cells": healpix(row_limit=30, min_order=0, max_order=8, overlap_arcsec=60),
    "striped": stripes(count=6, sub_stripes=3),
    "grown": healpix(row_limit=60, min_order=0, max_order=6, overlap_arcsec=60),
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column as the generator of queries sees it, with some of its values as literals."""

    name: str
    type: str
    literals: tuple[str, ...]
    #: Share of the rows that each value has.
    shares: dict[Any, float]


@dataclass(frozen=True)
class Survey:
    """The tables' files, and their columns with values that occur."""

    tables: dict[str, Table]
    #: The first half of the objects, and the rest.
    objects: tuple[Path, Path]
    columns: dict[str, tuple[Column, ...]]

    def load(self, cluster: Cluster) -> None:
        """Ingests every database."""
        objects, *others = self.tables.values()
        for name, scheme in DATABASES.items():
            if name == "grown":
                first, second = (replace(objects, files=(file,)) for file in self.objects)
                cluster.ingest(name, [first, *others], scheme)
                cluster.ingest(name, [second], scheme, mode="append")
            else:
                cluster.ingest(name, [objects, *others], scheme)

    def add_to(self, duck: Duck) -> None:
        """The same databases for the oracle, in memory: reading the files for each query takes longer than the query."""
        for database in DATABASES:
            duck.connection.execute(f"CREATE SCHEMA {database}")
            for table in self.tables.values():
                listed = ", ".join(f"'{file}'" for file in table.files)
                duck.connection.execute(f"CREATE TABLE {database}.{table.name} AS SELECT * FROM read_parquet([{listed}])")


def make_survey(folder: Path, seed: int) -> Survey:
    """Writes the files; the same for the same seed."""
    rng = random.Random(f"{seed} tables")
    objects = _objects(rng)
    sources = _sources(rng, objects)
    rows = {
        "Object": objects,
        "Source": sources,
        "ForcedSource": _forced(rng, objects),
        "Alert": [],
        "Filter": _filters(rng),
    }
    folder.mkdir(parents=True, exist_ok=True)
    half = len(objects) // 2
    object_files = tuple(_write(folder, f"Object{part}", "Object", some) for part, some in enumerate((objects[:half], objects[half:])))
    # Children in two files: several in one ingest is the usual case.
    source_files = tuple(_write(folder, f"Source{part}", "Source", sources[part::2]) for part in range(2))
    forced, alert, filters = (_write(folder, name, name, rows[name]) for name in ("ForcedSource", "Alert", "Filter"))
    tables = [
        replace(director("Object", object_files[0], "objectId"), files=object_files),
        replace(child("Source", source_files[0], "Object", "objectId", "sourceId", "ra", "dec"), files=source_files),
        child("ForcedSource", forced, "Object", "objectId"),
        child("Alert", alert, "Object", "objectId"),
        replicated("Filter", filters),
    ]
    columns = {name: tuple(_column(rng, name, column, rows[name]) for column in COLUMNS[name]) for name in COLUMNS}
    return Survey({table.name: table for table in tables}, object_files, columns)


def literal(value: Any) -> str:
    """A value as both systems read it, with the same type."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # Without the exponent DuckDB reads a decimal.
        return f"{value!r}e0" if value >= 0 else f"({value!r}e0)"
    if isinstance(value, int):
        return str(value) if value >= 0 else f"({value})"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value.isoformat(' ')}'"
    if isinstance(value, datetime.date):
        return f"DATE '{value.isoformat()}'"
    return "'" + value.replace("'", "''") + "'"


def _objects(rng: random.Random) -> list[Row]:
    ids = [3, 2**53 + 1, -7] + sorted(rng.sample(range(10**6, 10**9), OBJECTS - 3))
    rows = []
    for number, id in enumerate(ids):
        ra, dec = _position(rng, number)
        rows.append({
            "objectId": id,
            "ra": ra,
            "dec": dec,
            "mag": _maybe(rng, 0.1, _grid(rng, 12, 25, 64)),
            "colour": _maybe(rng, 0.3, 0.5 if rng.random() < 0.4 else _grid(rng, -2, 3, 16)),
            "flags": _maybe(rng, 0.1, 1 if rng.random() < 0.7 else rng.randint(-5, 40)),
            "kind": _maybe(rng, 0.15, _choice(rng, {"star": 12, "galaxy": 4, "": 1, "QSO": 2, "Céphéide": 1, "a'b_c": 1, "Star": 1})),
            "epochs": _maybe(rng, 0.2, min(30, int(rng.expovariate(0.4)))),
            "variable": _maybe(rng, 0.3, rng.random() < 0.2),
            "discovered": _maybe(rng, 0.2, _day(rng)),
            "updated": _maybe(rng, 0.5, _moment(rng)),
            "hostId": _maybe(rng, 0.6, rng.choice(ids[:20])),
        })  # fmt: skip
    rng.shuffle(rows)
    return rows


def _position(rng: random.Random, number: int) -> tuple[float, float]:
    """First the awkward points, then two thirds in clusters: at a pole, across RA 0, and in one spot."""
    points = [(0.0, 90.0), (123.0, -90.0), (0.0, 0.0), (359.9990234375, 0.0), (45.0, 0.0), (45.0, 0.0), (180.0, -41.8125)]
    if number < len(points):
        return points[number]
    where = rng.random()
    if where < 0.25:
        return _grid(rng, 0, 359, 1024), 90.0 - _grid(rng, 0, 0.5, 1024)
    if where < 0.5:
        return _grid(rng, -0.5, 0.5, 1024) % 360.0, _grid(rng, 4, 6, 1024)
    if where < 0.65:
        return _grid(rng, 200, 200.25, 1024), _grid(rng, -30, -29.75, 1024)
    return _grid(rng, 0, 359.5, 1024), _grid(rng, -90, 90, 1024)


def _sources(rng: random.Random, objects: list[Row]) -> list[Row]:
    """Half the objects have none and one has a tenth of all. Orphans lie anywhere; some rows are there twice."""
    hosts = rng.sample(objects, len(objects) // 2)
    orphan_ids = [rng.randrange(10**9, 10**10) for _ in range(12)]
    rows = []
    while len(rows) < SOURCES:
        host = hosts[0] if rng.random() < 0.1 else hosts[min(int(rng.expovariate(0.02)), len(hosts) - 1)]
        orphan = rng.random() < 0.06
        ra, dec = _position(rng, OBJECTS) if orphan else (host["ra"], host["dec"])
        rows.append({
            "sourceId": 5_000_000_000 + len(rows) * 7,
            "objectId": _maybe(rng, 0.4, rng.choice(orphan_ids)) if orphan else host["objectId"],
            "ra": ra,
            "dec": dec,
            "flux": _maybe(rng, 0.08, _grid(rng, -10, 500, 32)),
            "snr": _maybe(rng, 0.1, 5.0 if rng.random() < 0.5 else _grid(rng, 0, 60, 8)),
            "band": _maybe(rng, 0.05, _choice(rng, {"r": 12, "g": 6, "i": 3, "z": 1, "y2": 1})),
            "filterId": _maybe(rng, 0.1, 2 if rng.random() < 0.6 else rng.randint(0, 9)),
            "visit": _maybe(rng, 0.03, rng.randint(1, 60)),
            "flags": _maybe(rng, 0.05, 0 if rng.random() < 0.8 else rng.randint(-3, 300)),
            "good": _maybe(rng, 0.1, rng.random() < 0.85),
            "night": _maybe(rng, 0.1, _day(rng)),
            "taken": _maybe(rng, 0.1, _moment(rng)),
        })  # fmt: skip
        if rng.random() < 0.03:
            rows += [rows[-1]] * rng.randint(1, 3)
    rng.shuffle(rows)
    return rows


def _forced(rng: random.Random, objects: list[Row]) -> list[Row]:
    """Few objects, no orphans: with such a child another one may be joined inside the chunks."""
    hosts = rng.sample(objects, 40)
    pairs = {(host["objectId"], rng.randint(1, 60)) for host in rng.choices(hosts, range(1, 41), k=FORCED)}
    return [
        {
            "objectId": id,
            "visit": visit,
            "band": _maybe(rng, 0.1, _choice(rng, {"g": 6, "r": 3, "u": 1})),
            "flux": _maybe(rng, 0.2, 0.0 if rng.random() < 0.3 else _grid(rng, -4, 40, 16)),
            "flags": _maybe(rng, 0.3, rng.choice([0, 0, 0, 1, 7])),
            "night": _maybe(rng, 0.1, _day(rng)),
        }
        for id, visit in sorted(pairs)
    ]


def _filters(rng: random.Random) -> list[Row]:
    """Some bands no source has, one twice, one null."""
    bands = ["g", "r", "i", "z", "u", "r", None, "y2"]
    return [
        {"filterId": number, "band": band, "wavelength": _grid(rng, 300, 1000, 2), "wide": _maybe(rng, 0.3, rng.random() < 0.5)}
        for number, band in enumerate(bands)
    ]


def _grid(rng: random.Random, low: float, high: float, steps: int) -> float:
    """A multiple of 1/steps."""
    return rng.randint(round(low * steps), round(high * steps)) / steps


def _maybe(rng: random.Random, null: float, value: Any) -> Any:
    return None if rng.random() < null else value


def _choice(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _day(rng: random.Random) -> datetime.date:
    return datetime.date(2019, 12, 20) + datetime.timedelta(days=min(int(rng.expovariate(0.05)), 900))


def _moment(rng: random.Random) -> datetime.datetime:
    start = datetime.datetime(2020, 2, 28, 23, 0)
    return start + datetime.timedelta(minutes=30 * rng.randint(0, 200), microseconds=rng.choice([0, 0, 500_000, 1]))


def _write(folder: Path, stem: str, table: str, rows: list[Row]) -> Path:
    fields = [pa.field(name, ARROW[type], nullable=name not in NEVER_NULL) for name, type in COLUMNS[table].items()]
    file = folder / f"{stem}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), file)
    return file


def _column(rng: random.Random, table: str, name: str, rows: list[Row]) -> Column:
    type = BEHAVES_AS.get(COLUMNS[table][name], COLUMNS[table][name])
    values = [row[name] for row in rows if row[name] is not None]
    # Drawn from all rows, so that what is frequent in the table is frequent in predicates.
    some = [literal(value) for value in rng.sample(values, min(len(values), 40))]
    shares = {value: count / len(rows) for value, count in Counter(values).items()}
    return Column(name, type, tuple(some), shares)
