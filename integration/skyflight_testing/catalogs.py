"""The real catalogs as databases: what is ingested, and how the oracles see the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from .duck import Duck
from .sky import Positions
from .tables import Table, child, director, replicated

#: From the README of the data, not from the files.
ROWS = {
    "gaia": 482_176,
    "tycho2": 1_871_011,
    "hipparcos2": 117_955,
    "rrlyr.object": 483,
    "rrlyr.source": 136_196,
    "ztf.object": 2_314,
    "ztf.source": 44_339,
}


@dataclass(frozen=True)
class Database:
    """A database to load, and the columns an ingest changes on the way."""

    name: str
    tables: list[Table]
    #: By table: the select list that makes the source file look like the stored table.
    as_stored: dict[str, str]


def databases(data: Path, suffix: str) -> list[Database]:
    """All of data/sky as four databases, two of which have a child; `suffix` tells schemes apart."""
    sky = data / "sky"
    rrlyr_ra = "* REPLACE (CASE WHEN ra < 0 THEN ra + 360 ELSE ra END AS ra)"
    return [
        Database(
            f"sky_{suffix}",
            [
                director("gaia", sky / "gaia_dr3_g10.parquet", "source_id"),
                director("tycho2", sky / "tycho2_idx07.parquet", "row"),
            ],
            {},
        ),
        Database(
            f"hip_{suffix}",
            [director("hipparcos2", sky / "hipparcos2.parquet", "hip", "ra_j1991", "dec_j1991")],
            {},
        ),
        Database(
            f"rrlyr_{suffix}",
            [
                director("object", sky / "s82_rrlyr_object.parquet", "object_id", wrap_ra=True),
                child("source", sky / "s82_rrlyr_source.parquet", "object", "object_id"),
            ],
            {"object": rrlyr_ra},
        ),
        Database(
            f"ztf_{suffix}",
            [
                director("object", sky / "ztf_bts_object.parquet", "object_id"),
                child("source", sky / "ztf_bts_source.parquet", "object", "object_id"),
            ],
            {},
        ),
    ]


def case01(data: Path) -> list[Table]:
    """Qserv's case01: a director across right ascension 0, a child with orphans, and small tables."""
    case = data / "qserv/case01"
    return [
        director("Object", case / "Object.parquet", "objectId", "ra_PS", "decl_PS"),
        child("Source", case / "Source.parquet", "Object", "objectId", "sourceId", "ra", "decl"),
        replicated("Filter", case / "Filter.parquet"),
        replicated("LeapSeconds", case / "LeapSeconds.parquet"),
        replicated("RefSrcMatch", case / "RefSrcMatch.parquet"),
        replicated("Science_Ccd_Exposure", case / "Science_Ccd_Exposure.parquet"),
    ]


def add_to_duck(duck: Duck, database: str, tables: list[Table], as_stored: dict[str, str] | None = None) -> None:
    """The same tables for the oracle."""
    for table in tables:
        duck.add(database, table.name, table.files, (as_stored or {}).get(table.name, "*"))


def positions(table: Table) -> Positions:
    """Ids and positions of a director, read from its source file."""
    assert table.id and table.ra and table.dec
    rows = pq.read_table(table.files[0], columns=[table.id, table.ra, table.dec])
    id, ra, dec = (rows.column(name).to_numpy() for name in (table.id, table.ra, table.dec))
    return Positions.of(id, np.where(ra < 0, ra + 360.0, ra), dec)
