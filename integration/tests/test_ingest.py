"""Bringing tables in: what is wrong is said with file and line, and nothing half done is ever seen."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyflight_testing.cluster import Cluster, IngestFailed
from skyflight_testing.compare import assert_same_rows, loaded_columns
from skyflight_testing.process import Process
from skyflight_testing.settings import binary
from skyflight_testing.tables import Table, child, director, healpix, stripes

SCHEME = healpix(row_limit=2_000)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("ingest") / "cluster", workers=2) as cluster:
        yield cluster
        assert cluster.panics() == []


def copy(sql: str, file: Path, options: str = "FORMAT parquet") -> Path:
    """Writes the rows of a DuckDB query to a file."""
    duckdb.connect().execute(f"COPY ({sql}) TO '{file}' ({options})")
    return file


def stars(file: Path, name: str = "stars") -> Table:
    return director(name, file, "hip", "ra_j1991", "dec_j1991")


@pytest.fixture(scope="module")
def halves(data: Path, scratch: Path) -> tuple[Path, Path]:
    """Two disjoint parts of Hipparcos, 6,000 and 5,000 rows."""
    source = data / "sky/hipparcos2.parquet"
    first = copy(f"SELECT * FROM '{source}' ORDER BY hip LIMIT 6000", scratch / "first.parquet")
    second = copy(f"SELECT * FROM '{source}' ORDER BY hip LIMIT 5000 OFFSET 6000", scratch / "second.parquet")
    return first, second


def rows(cluster: Cluster, sql: str) -> pa.Table:
    with cluster.flight() as flight:
        return flight.query(sql)


def whole(cluster: Cluster, table: str) -> pa.Table:
    """All rows and the columns that were loaded."""
    return loaded_columns(rows(cluster, f"SELECT * FROM {table}"))


def count(cluster: Cluster, table: str) -> int:
    with cluster.flight() as flight:
        value = flight.value(f"SELECT count(*) FROM {table}")
    assert isinstance(value, int)
    return value


def assert_nothing_else_stored(cluster: Cluster) -> None:
    """The workers hold the files of current snapshots, each on as many workers as the records say, and no other."""
    known = cluster.records(
        "SELECT r.worker_id, f.id, f.kind FROM files f JOIN replicas r ON r.file_id = f.id WHERE f.until_snapshot IS NULL"
    )
    expected: dict[str, set[str]] = {name: set() for name in cluster.workers}
    for worker, file, kind in known:
        expected[worker].add(f"{file}.overlap.parquet" if kind == "overlap" else f"{file}.parquet")
    for name, files in cluster.stored_files().items():
        stored = {Path(file).name for file in files}
        assert stored >= expected[name], f"{name} lacks {sorted(expected[name] - stored)[:5]}"
        old = {f"{file}{ending}" for (file,) in cluster.records("SELECT id FROM files WHERE until_snapshot IS NOT NULL")
               for ending in (".parquet", ".overlap.parquet")}  # fmt: skip
        assert stored - expected[name] <= old, f"{name} has leftovers: {sorted(stored - expected[name] - old)[:5]}"


def test_append_and_replace(cluster: Cluster, halves: tuple[Path, Path]) -> None:
    first, second = halves
    cluster.ingest("growing", [stars(first)], SCHEME)
    assert count(cluster, "growing.stars") == 6_000
    cluster.ingest("growing", [stars(second)], SCHEME, mode="append")
    assert count(cluster, "growing.stars") == 11_000
    expected = pa.concat_tables([pq.read_table(first), pq.read_table(second)])
    assert_same_rows(whole(cluster, "growing.stars"), expected)
    cluster.ingest("growing", [stars(second)], SCHEME, mode="replace")
    assert_same_rows(whole(cluster, "growing.stars"), pq.read_table(second))


def test_children_appended_later_lie_with_their_directors(cluster: Cluster, data: Path, scratch: Path) -> None:
    """Sources that come in two ingests after their objects join as if all had come at once."""
    objects, sources = data / "sky/ztf_bts_object.parquet", data / "sky/ztf_bts_source.parquet"
    parts = [
        copy(f"SELECT * FROM '{sources}' WHERE band {sign} 'g'", scratch / f"ztf{number}.parquet")
        for number, sign in enumerate(["=", "<>"])
    ]
    cluster.ingest("later", [director("object", objects, "object_id")], SCHEME)
    for part in parts:
        cluster.ingest("later", [child("source", part, "object", "object_id")], mode="append")
    sql = """SELECT o.type, s.band, count(*) AS n, min(s.mag) AS peak FROM {o} o LEFT JOIN {s} s
             ON o.object_id = s.object_id GROUP BY o.type, s.band"""
    ours = rows(cluster, sql.format(o="later.object", s="later.source"))
    assert_same_rows(ours, duckdb.connect().sql(sql.format(o=f"'{objects}'", s=f"'{sources}'")).to_arrow_table())


def test_csv(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    """The same rows from text: types are found, quotes and nulls understood."""
    select = f"""SELECT hip, ra_j1991, dec_j1991, CASE WHEN hip % 7 = 0 THEN NULL ELSE hpmag END AS hpmag,
        CASE hip % 3 WHEN 0 THEN 'plain' WHEN 1 THEN 'with, comma' ELSE 'say "étoile"' END AS note, hip % 2 = 0 AS even
        FROM '{data}/sky/hipparcos2.parquet' ORDER BY hip LIMIT 3000"""
    for ending, options in (("csv", "FORMAT csv, HEADER"), ("tsv", "FORMAT csv, HEADER, DELIMITER '\t'")):
        file = copy(select, tmp_path / f"stars.{ending}", options)
        cluster.ingest(f"text_{ending}", [stars(file)], SCHEME)
        assert_same_rows(whole(cluster, f"text_{ending}.stars"), duckdb.connect().sql(select).to_arrow_table())


def test_mysql_dump(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    """Qserv's text as MySQL wrote it: no header, a backslash and N for null; the chunk ids at the end of each line."""
    names = [column["name"] for column in _qserv_columns(data)]
    listed = ", ".join(f'"{name}"' for name in names)
    table = replace(
        director("Object", data / "qserv/test101/data/Object/chunk_7480.txt", "objectId", "ra_PS", "decl_PS"),
        sections=f'[csv]\nheader = false\nescape = "\\\\"\nquote = ""\nencoding = "latin1"\ncolumns = [{listed}]\n',
    )
    cluster.ingest("dump", [table], stripes(85, 12))
    sql = "SELECT objectId, ra_PS, uNumObs FROM {} ORDER BY objectId"
    theirs = duckdb.connect().sql(sql.format(f"'{data}/qserv/case02/Object.parquet'")).to_arrow_table()
    assert_same_rows(rows(cluster, sql.format("dump.Object")), theirs, ordered=True)


def _qserv_columns(data: Path) -> list[dict[str, str]]:
    import json

    return json.loads((data / "qserv/test101/table_Object.json").read_text())["schema"]


GOOD = "id,ra,dec,mag\n1,10.5,20.5,7.1\n2,359.9,-89.0,8.2\n"

#: A line that cannot be used, and what the message must say of it.
BAD_LINES = {
    "no declination": ("3,11.0,,9.1", "position"),
    "declination out of range": ("3,11.0,95.0,9.1", "95|dec"),
    "right ascension out of range": ("3,400.0,5.0,9.1", "400|ra"),
    "not a number": ("3,eleven,5.0,9.1", "eleven"),
    "too few columns": ("3,11.0,5.0", "column|3"),
    "too many columns": ("3,11.0,5.0,9.1,extra", "column|5"),
    "not a position": ("3,nan,5.0,9.1", "(?i)nan|not a number"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_rows_stop_with_file_and_line(cluster: Cluster, tmp_path: Path, name: str) -> None:
    line, message = BAD_LINES[name]
    file = tmp_path / "stars.csv"
    file.write_text(GOOD + line + "\n4,12.0,6.0,9.9\n")
    table = replace(director("stars", file, "id"), sections='[columns.ra]\ntype = "float64"\n[columns.dec]\ntype = "float64"\n')
    database = "bad_" + name.replace(" ", "_")
    with pytest.raises(IngestFailed, match=message) as raised:
        cluster.ingest(database, [table], SCHEME)
    assert "stars.csv" in str(raised.value) and "line 4" in str(raised.value), raised.value
    with cluster.flight() as flight, pytest.raises(pa.ArrowException):
        flight.query(f"SELECT * FROM {database}.stars")
    assert_nothing_else_stored(cluster)


def test_bad_rows_go_to_a_file_where_asked(cluster: Cluster, tmp_path: Path) -> None:
    file, rejects = tmp_path / "stars.csv", tmp_path / "rejects.csv"
    file.write_text(GOOD + "".join(line + "\n" for line, _ in BAD_LINES.values()) + "4,12.0,6.0,9.9\n")
    table = replace(
        director("stars", file, "id"),
        keys=f'rejects = "{rejects}"',
        sections='[columns.ra]\ntype = "float64"\n[columns.dec]\ntype = "float64"\n',
    )
    cluster.ingest("tolerant", [table], SCHEME)
    assert sorted(rows(cluster, "SELECT id FROM tolerant.stars").column(0).to_pylist()) == [1, 2, 4]
    rejected = duckdb.connect().sql(f"SELECT place FROM read_csv('{rejects}') ORDER BY place").fetchall()
    assert [place for (place,) in rejected] == sorted(f"line {4 + n}" for n in range(len(BAD_LINES)))


def test_bad_row_of_parquet(cluster: Cluster, tmp_path: Path) -> None:
    file = copy(
        "SELECT i AS id, 10.0 + i / 100 AS ra, CASE WHEN i = 77 THEN NULL ELSE 5.0 END AS dec FROM range(100) t(i)",
        tmp_path / "stars.parquet",
    )
    with pytest.raises(IngestFailed, match=r"stars\.parquet.*row 78"):
        cluster.ingest("bad_parquet", [director("stars", file, "id")], SCHEME)


def test_unknown_key_and_missing_director(cluster: Cluster, halves: tuple[Path, Path], data: Path) -> None:
    with pytest.raises(IngestFailed, match="sheme"):
        cluster.ingest("wrong", [replace(stars(halves[0]), keys='sheme = "healpix"')], SCHEME)
    source = child("source", data / "sky/ztf_bts_source.parquet", "nobody", "object_id")
    with pytest.raises(IngestFailed, match="nobody"):
        cluster.ingest("wrong", [source])
    with pytest.raises(IngestFailed, match="(?i)workers"):
        cluster.ingest("wrong", [stars(halves[0])], SCHEME, replicas=5)


def test_dry_run_changes_nothing(cluster: Cluster, halves: tuple[Path, Path]) -> None:
    shown = cluster.ingest("imagined", [stars(halves[0])], SCHEME, extra=("--dry-run",))
    assert "hip" in shown and "Int64" in shown, "the types found are shown"
    with cluster.flight() as flight, pytest.raises(pa.ArrowException):
        flight.query("SELECT * FROM imagined.stars")
    assert_nothing_else_stored(cluster)


def kill_when_storing(cluster: Cluster, command: list[str], after_files: int) -> int:
    """kill -9 of an ingest once it has stored some files; how many it had."""
    before = sum(map(len, cluster.stored_files().values()))
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        stored = 0
        while running.poll() is None and stored < after_files:
            time.sleep(0.005)
            stored = sum(map(len, cluster.stored_files().values())) - before
        ended = running.poll()
    finally:
        running.kill()
        running.wait(30)
    assert ended is None, f"the ingest ended (code {ended}) before it could be killed"
    return stored


def test_killed_ingest(cluster: Cluster, data: Path, halves: tuple[Path, Path], tmp_path: Path) -> None:
    """The old snapshot stays as it is, and the next ingest removes what the dead one left."""
    first, second = halves
    cluster.ingest("survivor", [stars(first)], SCHEME)
    # Large enough to be still at work when a few dozen files are stored.
    tycho = data / "sky/tycho2_idx07.parquet"
    others = f"SELECT * EXCLUDE (hip, ra_j1991, dec_j1991) FROM '{first}' LIMIT 1"
    large = copy(
        f"SELECT row AS hip, ra AS ra_j1991, dec AS dec_j1991, o.* FROM '{tycho}', ({others}) o", tmp_path / "large.parquet"
    )
    before = whole(cluster, "survivor.stars")
    for mode, files in (("replace", 1), ("append", 20), ("replace", 60)):
        command = cluster.ingest_command("survivor", [stars(large)], SCHEME, mode=mode)
        stored = kill_when_storing(cluster, command, files)
        assert stored >= files
        assert_same_rows(whole(cluster, "survivor.stars"), before)
    cluster.ingest("survivor", [stars(second)], SCHEME, mode="append")
    assert count(cluster, "survivor.stars") == 11_000
    assert_nothing_else_stored(cluster)


def test_two_ingests_at_once(cluster: Cluster, data: Path, halves: tuple[Path, Path]) -> None:
    """A second ingest into the same database is refused with words while the first goes on."""
    cluster.ingest("busy", [stars(halves[0])], SCHEME)
    command = cluster.ingest_command("busy", [stars(data / "sky/hipparcos2.parquet")], SCHEME, mode="replace")
    before = sum(map(len, cluster.stored_files().values()))
    first = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while first.poll() is None and sum(map(len, cluster.stored_files().values())) <= before:
        time.sleep(0.01)
    with pytest.raises(IngestFailed, match="(?i)busy|another|running|open"):
        cluster.ingest("busy", [stars(halves[1])], SCHEME, mode="append")
    assert first.wait(300) == 0
    assert count(cluster, "busy.stars") == 117_955


def test_queries_during_an_ingest_see_all_or_nothing(cluster: Cluster, data: Path, halves: tuple[Path, Path]) -> None:
    cluster.ingest("moving", [stars(halves[0])], SCHEME)
    command = cluster.ingest_command("moving", [stars(data / "sky/hipparcos2.parquet")], SCHEME, mode="replace")
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seen: list[int] = []
    while running.poll() is None:
        seen.append(count(cluster, "moving.stars"))
    assert running.returncode == 0, running.communicate()[1]
    seen.append(count(cluster, "moving.stars"))
    assert set(seen) <= {6_000, 117_955} and seen == sorted(seen) and seen[-1] == 117_955, sorted(set(seen))
    assert seen[0] == 6_000, "at least one query ran before the commit"


def test_a_ticket_keeps_its_snapshot(cluster: Cluster, halves: tuple[Path, Path]) -> None:
    """What was planned before a replace gives the rows from before it."""
    first, second = halves
    cluster.ingest("kept", [stars(first)], SCHEME)
    with cluster.flight() as flight:
        ticket = flight.info("SELECT hip FROM kept.stars").endpoints[0].ticket.ticket
        cluster.ingest("kept", [stars(second)], SCHEME, mode="replace")
        old = flight.redeem(ticket).read_all()
        assert sorted(old.column(0).to_pylist()) == sorted(pq.read_table(first).column("hip").to_pylist())
        assert flight.value("SELECT count(*) FROM kept.stars") == 5_000


def test_without_a_server_then_served(halves: tuple[Path, Path], tmp_path: Path) -> None:
    """`skyflight ingest` alone, and `skyflight serve` on the same folder afterwards, twice."""
    folder, description = tmp_path / "alone", tmp_path / "stars.toml"
    description.write_text(stars(halves[0]).cut_by(SCHEME).toml())
    command = [str(binary()), "ingest", "--data-dir", str(folder), "--database", "alone", f"{description}={halves[0]}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        serve = ["serve", "--data-dir", str(folder), "--listen", "127.0.0.1:0", "--workers", "2"]
        server = Process("serve", serve, tmp_path / "logs")
        try:
            from skyflight_testing.clients import FlightSql

            with FlightSql(server.url) as flight:
                assert flight.value("SELECT count(*) FROM alone.stars") == 6_000
            assert server.stop() == 0
        finally:
            server.kill()
