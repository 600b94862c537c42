"""The statements of `integration/slt` give the answers that are written there: in one process and on three workers, in
both schemes. And these answers are DuckDB's."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from skyflight_testing import slt, slt_survey
from skyflight_testing.cluster import Cluster
from skyflight_testing.duck import Duck
from skyflight_testing.settings import FULL

#: What a statement runs on: a process that is everything, or a coordinator and its workers.
TOPOLOGIES = {"one process": {"workers": 2, "one_process": True}, "three workers": {"workers": 3}}
#: A debug build takes a minute for each of the four; without `SKYFLIGHT_FULL` each topology and each scheme has its turn.
PAIRS = list(itertools.product(TOPOLOGIES, slt_survey.SCHEMES)) if FULL else list(zip(TOPOLOGIES, slt_survey.SCHEMES))
#: Statements that are asked at a time.
THREADS = 4
#: Fewer statements than this have been lost on the way.
STATEMENTS = 920

FILES = [pytest.param(file, id=file.stem) for file in slt.files()]


@pytest.fixture(scope="module")
def duck() -> Duck:
    return slt_survey.oracle()


@pytest.fixture(scope="module", params=PAIRS, ids=", ".join)
def survey(request: pytest.FixtureRequest, duck: Duck, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    topology, scheme = request.param
    folder = tmp_path_factory.mktemp("slt")
    with Cluster(folder / "cluster", **TOPOLOGIES[topology]) as cluster:
        slt_survey.load(cluster, duck, folder / "files", scheme)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"
        assert all(process.alive() for process in cluster.processes()), "a server died"


@pytest.mark.parametrize("file", FILES)
def test_statements(survey: Cluster, file: Path) -> None:
    records = slt.parse(file)
    with survey.flight(x_skyflight_schema=slt_survey.DEFAULT) as flight:
        failures, known = slt.run(records, flight.query, THREADS)
    for failure in known:
        # Shown by every run, so that it is not forgotten.
        warnings.warn(f"known failure: {failure}", stacklevel=1)
    assert not failures, f"{len(failures)} of {len(records)} wrong:\n\n" + "\n\n".join(failures)


@pytest.mark.parametrize("file", FILES)
def test_answers_are_those_of_duckdb(duck: Duck, file: Path) -> None:
    records = slt.parse(file)
    for record in records:
        if record.by_duckdb:
            try:
                slt.compare(record, slt.answer(record, duck.query(record.notes.get("duckdb", record.sql))))
            except slt.Wrong as wrong:
                pytest.fail(f"{record.place}\n{record.sql}\n{wrong}")


def test_there_are_enough() -> None:
    """Files that nothing finds test nothing."""
    records = [record for file in slt.files() for record in slt.parse(file)]
    assert len(records) >= STATEMENTS
    by_duckdb = sum(record.by_duckdb for record in records)
    assert by_duckdb > 0.8 * len(records), f"of {len(records)} statements DuckDB answers {by_duckdb}"


WRONG = {
    "no head": ("query I\nSELECT 1\n----\n1\n", "begins with comments"),
    "no answer": ("# x\n\nquery I\nSELECT 1\n", "no answer"),
    "no rows": ("# x\n\nquery I\nSELECT 1\n----\n", "no rows"),
    "no rows but rows": ("# x\n\n# no rows: why\nquery I\nSELECT 1\n----\n1\n", "no rows"),
    "width": ("# x\n\nquery II\nSELECT 1, 2\n----\n1 2\n", "parted by tabs"),
    "type": ("# x\n\nquery X\nSELECT 1\n----\n1\n", "types"),
    "order": ("# x\n\nquery I\nSELECT a FROM t\n----\n1\n2\n", "rowsort"),
    "label": ("# x\n\nquery I rowsort a\nSELECT 1\n----\n1\n\nquery I rowsort a\nSELECT 2\n----\n2\n", "same label"),
    "message": ("# x\n\nstatement error\nSELECT 1\n", "regular expression"),
    "word": ("# x\n\nqueri I\nSELECT 1\n----\n1\n", "neither query nor statement"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_reader_is_strict(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    file = tmp_path / "bad.slt"
    file.write_text(text)
    with pytest.raises(slt.BadFile, match=message):
        slt.parse(file)


#: Answers that must not pass for `1 NULL 0.5 x`.
OTHERS = ["SELECT 2, NULL, 0.5, 'x'", "SELECT 1, 0, 0.5, 'x'", "SELECT 1, NULL, 0.500001, 'x'", "SELECT 1, NULL, 0.5, 'X'",
          "SELECT 1, NULL, 0.5", "SELECT 1.0, NULL, 0.5, 'x'", "SELECT 1, NULL, 0.5, 'x' WHERE false",
          "SELECT 1, NULL, 0.5, 'x' FROM range(2)"]  # fmt: skip


def as_clients_raise(duck: Duck, sql: str) -> pa.Table:
    try:
        return duck.query(sql)
    except duckdb.Error as error:
        raise pa.ArrowInvalid(str(error)) from error


def test_the_runner_sees_differences(duck: Duck, tmp_path: Path) -> None:
    """DuckDB in the place of what is tested: right answers pass, and none of the others."""
    for number, sql in enumerate(["SELECT 1, NULL, 0.5, 'x'", "SELECT 1, NULL, 0.50000000000001, 'x'", *OTHERS]):
        file = tmp_path / f"{number}.slt"
        file.write_text(f"# x\n\nquery IIRT\n{sql}\n----\n1\tNULL\t0.5\tx\n\nstatement error (?i)nowhere\nSELECT nowhere\n")
        failures, _ = slt.run(slt.parse(file), lambda sql: as_clients_raise(duck, sql))
        assert len(failures) == (sql in OTHERS), (sql, failures)
