"""The rows that the .slt files ask: as databases of a cluster, and for the oracle."""

from __future__ import annotations

from pathlib import Path

from .cluster import Cluster
from .duck import Duck
from .settings import PROJECT
from .tables import Scheme, Table, child, companion, director, healpix, match, replicated, stripes

FOLDER = PROJECT / "integration/slt"
#: Unqualified names in the files are of this database.
DEFAULT = "survey"

#: By the scheme under test, how the database `survey` is cut, and then `other`.
SCHEMES: dict[str, tuple[Scheme, Scheme]] = {
    "healpix": (healpix(row_limit=25, min_order=0, max_order=10), stripes(count=5, sub_stripes=3)),
    "stripes": (stripes(count=6, sub_stripes=4), healpix(row_limit=15, min_order=1, max_order=10)),
}


def oracle() -> Duck:
    """DuckDB with the rows, the sky's functions, and the order of nulls that Skyflight has."""
    duck = Duck(macros=(FOLDER / "oracle.sql").read_text())
    duck.connection.execute((FOLDER / "survey.sql").read_text())
    duck.connection.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
    duck.connection.execute(f"SET search_path = '{DEFAULT},main'")
    return duck


def load(cluster: Cluster, duck: Duck, folder: Path, scheme: str) -> None:
    """Ingests every table of the oracle, from files that it writes."""
    folder.mkdir(parents=True, exist_ok=True)

    def file(table: str) -> Path:
        path = folder / f"{table}.parquet"
        duck.connection.execute(f"COPY {table} TO '{path}' (FORMAT parquet)")
        return path

    survey: list[Table] = [
        director("Object", file("survey.Object"), "objectId"),
        child("Source", file("survey.Source"), "Object", "objectId", "sourceId", "ra", "dec"),
        child("Forced", file("survey.Forced"), "Object", "objectId"),
        child("Alert", file("survey.Alert"), "Object", "objectId"),
        director("Star", file("survey.Star"), "starId"),
        director("Void", file("survey.Void"), "voidId"),
        companion("Motion", file("survey.Motion"), "Object", "objectId"),
        match("Pair", file("survey.Pair"), ("Object", "objectId"), ("Star", "starId")),
        replicated("Filter", file("survey.Filter")),
    ]
    other = [director("Target", file("other.Target"), "targetId"), child("Spectrum", file("other.Spectrum"), "Target", "targetId")]
    for name, tables, cut in zip(("survey", "other"), (survey, other), SCHEMES[scheme]):
        cluster.ingest(name, tables, cut)
