"""A match of two catalogs within an arcsecond, end to end from chunk files."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import time
from pathlib import Path

import duckdb

from skyflight_testing.cluster import Cluster
from skyflight_testing.tables import director, healpix

from .peers import datafusion, timed
from .report import Report, milliseconds
from .survey import Survey

try:
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from astropy.table import Table
except ImportError:  # The tests' environment has none; the figures then lack that row.
    SkyCoord = None

OURS = "SELECT count(*) AS n FROM pair.a a JOIN pair.{b} b ON separation(a.ra, a.dec, b.ra, b.dec) < 1.0 / 3600"
NEAREST = (
    "SELECT count(*) AS n FROM (SELECT row_number() OVER (PARTITION BY a.objectId "
    "ORDER BY separation(a.ra, a.dec, b.ra, b.dec)) AS rank "
    "FROM pair.a a JOIN pair.b b ON separation(a.ra, a.dec, b.ra, b.dec) < 10.0 / 3600) x WHERE rank = 1"
)
# Cells of an arcminute in declination and, about as wide, in right ascension; each row of one side
# looks into the nine around its own. Rows nearer to a pole than 0.1 degrees and across RA 0 are lost,
# which the notes count.
CELL = "CAST(floor(dec * 60) AS BIGINT) AS zone, CAST(floor(ra * cos(radians(floor(dec * 60) / 60)) * 60) AS BIGINT) AS cell"
ANGLE = (
    "degrees(2 * asin(sqrt(power(sin(radians(b.dec - a.dec) / 2), 2)"
    " + cos(radians(a.dec)) * cos(radians(b.dec)) * power(sin(radians(b.ra - a.ra) / 2), 2))))"
)
CANDIDATES = (
    "(SELECT ra, dec, z AS zone, CAST(floor(ra * cos(radians(z / 60.0)) * 60) AS BIGINT) + {shift} AS cell FROM "
    "(SELECT ra, dec, CAST(floor(dec * 60) AS BIGINT) + {zone} AS z FROM {b}) s)"
)


def nine_cells(a: str, b: str) -> str:
    """The match as a join of equal cells, for a database that knows no sky."""
    around = " UNION ALL ".join(
        f"SELECT * FROM {CANDIDATES.format(shift=shift, zone=zone, b=b)} c" for zone in (-1, 0, 1) for shift in (-1, 0, 1)
    )
    return (
        f"SELECT count(*) AS n FROM (SELECT ra, dec, {CELL} FROM {a}) a JOIN ({around}) b "
        f"ON a.zone = b.zone AND a.cell = b.cell WHERE {ANGLE} < 1.0 / 3600"
    )


def stilts(files: list[Path]) -> tuple[float, int] | None:
    """Seconds of CPU and pairs of STILTS on FITS files, or nothing where there is none."""
    command = shutil.which("stilts")
    if command is None or SkyCoord is None:
        return None
    for file in files:
        Table(duckdb.sql(f"SELECT ra, dec FROM '{file}'").fetchnumpy()).write(file.with_suffix(".fits"), overwrite=True)
    one, other = (file.with_suffix(".fits") for file in files)
    match = [command, "tmatch2", f"in1={one}", f"in2={other}", "matcher=sky", "params=1", "values1=ra dec",
             "values2=ra dec", "find=all", "progress=none", "omode=count"]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    counted = subprocess.run(match, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, int(re.findall(r"rows:\s*(\d+)", counted)[0])


def run(folder: Path, objects: int, smoke: bool) -> Report:
    report = Report("Match of two catalogs within 1 arcsecond (aim end to end: 8 million rows for each second of CPU)")
    rows = 5_000 if smoke else min(objects, 1_000_000)
    survey = Survey(folder, rows)
    files = {name: folder / f"match-{rows}-{name}.parquet" for name in "abc"}
    listed = ", ".join(f"'{file}'" for file in survey.input_files())
    # The same stars, measured twice: each position within some tenths of an arcsecond of the other. And once elsewhere.
    for number, (name, file) in enumerate(files.items()):
        noise = f"(hash(objectId * 2 + {number}) % 1000 / 1000.0 - 0.5) * 0.6 / 3600"
        dec = f"greatest(-90.0, least(90.0, dec + {noise}))"
        ra = "(ra + 0.05) % 360" if name == "c" else "ra"
        duckdb.sql(f"COPY (SELECT objectId, {ra} AS ra, {dec} AS dec FROM read_parquet([{listed}])) TO '{file}'")
    times = 1 if smoke else 3
    total = sum(duckdb.sql(f"SELECT count(*) FROM '{files[name]}'").fetchall()[0][0] for name in "ab")
    questions = {
        "each row has a match": (OURS.format(b="b"), 1.0),
        "few have": (OURS.format(b="c"), 1.0),
        "the nearest of each": (NEAREST, None),
    }
    ours = found = 0.0
    with Cluster(folder / "match") as cluster:
        scheme = healpix(row_limit=250_000 if not smoke else 1_000)
        cluster.ingest("pair", [director(name, file, "objectId") for name, file in files.items()], scheme, within_s=300)
        with cluster.flight() as client:
            for what, (sql, aim) in questions.items():
                pairs = client.value(sql)
                before = sum(process.cpu_seconds() for process in cluster.processes())
                seconds = timed(lambda: client.query(sql), times)[0]
                cpu = (sum(process.cpu_seconds() for process in cluster.processes()) - before) / times
                speed = total / max(cpu, 1e-3) / 1e6
                report.add(f"{total:,} rows, {what}: {pairs:,}", milliseconds(seconds))
                if aim is None:
                    report.add("  million rows for each CPU second", f"{speed:.1f}")
                else:
                    report.add("  million rows for each CPU second", f"{speed:.1f}", "aim", "8", speed / 8, "1.0")
                if not ours:
                    assert isinstance(pairs, int) and pairs > 0
                    ours, found = seconds, pairs
    report.note("The operator alone: cargo test --release -p skyflight-engine --lib spherical::measure -- --ignored --nocapture")
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    statement = nine_cells(f"'{files['a']}'", f"'{files['b']}'")
    theirs = timed(lambda: connection.sql(statement).fetchall(), times)[0]
    report.add("each row has a match", milliseconds(ours), "DuckDB, nine cells in SQL", milliseconds(theirs), theirs / ours)
    report.note(f"DuckDB finds {connection.sql(statement).fetchall()[0][0]:,} pairs: its cells end at the poles and at RA 0")
    if datafusion is not None:
        context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(2))
        for name, file in files.items():
            context.register_parquet(f"t_{name}", str(file))
        statement = nine_cells("t_a", "t_b")
        theirs = timed(lambda: context.sql(statement).collect(), times)[0]
        report.add("  the same", milliseconds(ours), "DataFusion, nine cells in SQL", milliseconds(theirs), theirs / ours)
    if SkyCoord is not None:
        a, b = (duckdb.sql(f"SELECT ra, dec FROM '{files[name]}'").fetchnumpy() for name in "ab")
        started = time.perf_counter()
        one, other = (SkyCoord(side["ra"], side["dec"], unit="deg") for side in (a, b))
        pairs = len(one.search_around_sky(other, 1 * u.arcsec)[0])
        theirs = time.perf_counter() - started
        report.add("  the same, from memory", milliseconds(ours), "astropy search_around_sky", milliseconds(theirs), theirs / ours)
        report.note(f"astropy finds {pairs:,} pairs; ours {found:,}")
    peer = stilts([files["a"], files["b"]])
    if peer is None:
        report.note("STILTS is not compared with: it needs `apt-get install stilts`, and astropy to write its files")
    else:
        theirs, pairs = peer
        speed = f"{total / theirs / 1e6:.1f}"
        report.add("  million rows for each CPU second, from FITS", "", "STILTS tmatch2, find=all", speed)
        report.note(f"STILTS finds {pairs:,} pairs; ours {found:,}")
    return report
