"""A sky small enough for every client and test: made here, so that these tests need no files of anybody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import Table, child, director, healpix, replicated

DATABASE = "dr1"
OBJECTS, SOURCES_OF_EACH = 2_000, 10
#: Rows of the replicated table; joined with all sources it makes a large result without a large load.
COPIES = 500


def objects() -> pa.Table:
    """Objects all over the sky: no two alike, every column a function of the id, a third of the names NULL."""
    rng = np.random.default_rng(7)
    id = np.arange(1, OBJECTS + 1, dtype=np.int64)
    return pa.table(
        {
            "objectId": id,
            "ra": rng.uniform(0.0, 360.0, OBJECTS),
            "dec": np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, OBJECTS))),
            "mag": (id / 8).astype(np.float32),
            "name": pa.array([None if i % 3 == 0 else f"star {i} ★" for i in id]),
            "variable": pa.array(id % 2 == 0),
        }
    )


def sources() -> pa.Table:
    id = np.arange(1, OBJECTS * SOURCES_OF_EACH + 1, dtype=np.int64)
    return pa.table({"sourceId": id, "objectId": (id - 1) // SOURCES_OF_EACH + 1, "flux": id / 4})


def copies() -> pa.Table:
    return pa.table({"copy": np.arange(1, COPIES + 1, dtype=np.int64)})


def load(cluster: Cluster, folder: Path) -> None:
    """Writes the files and ingests them."""
    files = {}
    for name, table in (("object", objects()), ("source", sources()), ("copies", copies())):
        files[name] = folder / f"{name}.parquet"
        pq.write_table(table, files[name])
    tables: list[Table] = [
        director("object", files["object"], "objectId"),
        child("source", files["source"], "object", "objectId", "sourceId"),
        replicated("copies", files["copies"]),
    ]
    cluster.ingest(DATABASE, tables, healpix(row_limit=500))
