"""Thousands of random queries give what DuckDB gives on the same rows, or a clear error."""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from skyflight_testing.clients import FlightSql
from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import rows_of
from skyflight_testing.duck import Duck
from skyflight_testing.random_shapes import Query
from skyflight_testing.random_sql import random_query
from skyflight_testing.random_tables import Survey, make_survey
from skyflight_testing.settings import FULL, SEED

#: One query alone, by its number, as a failure tells it.
ONLY = os.environ.get("SKYFLIGHT_QUERY")
#: How many queries; with another seed they are others, on other rows.
COUNT = int(os.environ.get("SKYFLIGHT_QUERIES", "20000" if FULL else "300"))
#: How many of them again with all rows that meet exchanged between the workers.
SHUFFLED = int(os.environ.get("SKYFLIGHT_SHUFFLED_QUERIES", "5000" if FULL else "200"))
#: After so many failures a run says what they are instead of finding more.
FAILURES_SHOWN = int(os.environ.get("SKYFLIGHT_FAILURES", "5"))

#: Of all queries, so many may be refused with a clear error.
ERRORS_ALLOWED = 0.02

#: Circles and boxes for the oracle, as far as the queries use them: 0 for nulls. And the separation, which is null for nulls.
AREAS = """
CREATE OR REPLACE MACRO separation(ra1, dec1, ra2, dec2) AS CASE WHEN ra1 + dec1 + ra2 + dec2 IS NOT NULL THEN
    degrees(2 * asin(least(1.0, sqrt(power(sin(radians(dec2 - dec1) / 2), 2)
    + cos(radians(dec1)) * cos(radians(dec2)) * power(sin(radians(ra2 - ra1) / 2), 2))))) END;
CREATE MACRO scisql_s2PtInCircle(ra, dec, ra0, dec0, radius) AS coalesce(CAST(separation(ra, dec, ra0, dec0) <= radius AS INTEGER), 0);
CREATE MACRO scisql_s2PtInBox(ra, dec, west, south, east, north) AS coalesce(CAST(dec BETWEEN south AND north AND
    CASE WHEN west <= east THEN ra BETWEEN west AND east ELSE ra >= west OR ra <= east END AS INTEGER), 0);
"""


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return make_survey(tmp_path_factory.mktemp("random") / "files", SEED)


@pytest.fixture(scope="module")
def cluster(survey: Survey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("random") / "cluster") as cluster:
        survey.load(cluster)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"
        assert all(process.alive() for process in cluster.processes()), "a server died"


@pytest.fixture(scope="module")
def duck(survey: Survey) -> Duck:
    oracle = Duck()
    oracle.connection.execute(AREAS)
    survey.add_to(oracle)
    return oracle


@pytest.mark.timeout(7_200 if FULL else 900)
@pytest.mark.parametrize("shuffle", ["auto", "always"])
def test_as_duckdb(cluster: Cluster, duck: Duck, survey: Survey, shuffle: str) -> None:
    count = COUNT if shuffle == "auto" else SHUFFLED
    numbers = [int(ONLY)] if ONLY else range(count)
    failures: list[str] = []
    errors: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    #: The first query of each kind of error.
    examples: dict[str, int] = {}
    #: Queries that the oracle answers as we do once it does not optimize.
    overruled: list[int] = []
    empty = rows = 0
    spent = {"ours": 0.0, "theirs": 0.0}
    with cluster.flight(x_skyflight_shuffle=shuffle) as flight:
        for number in numbers:
            query = random_query(survey, SEED, number)
            uses.update(query.uses.keys())
            theirs = timed(spent, "theirs", lambda: oracle_answer(duck, query, number))
            error, problem, clear = None, None, False
            try:
                ours = timed(spent, "ours", lambda: flight.query(query.sql, timeout_s=60))
                problem = difference(query, ours, theirs)
                if problem is not None and difference(query, ours, plain_answer(duck, query, number)) is None:
                    problem = None
                    overruled.append(number)
                rows, empty = rows + ours.num_rows, empty + (ours.num_rows == 0)
            except (pa.ArrowException, OSError) as raised:
                error = f"{type(raised).__name__}: {raised}"
                clear = is_clear(raised)
            if problem is None and error is None:
                continue
            if error is not None and clear:
                errors[kind_of(error)] += 1
                examples.setdefault(kind_of(error), number)
            else:
                failures.append(report(number, query, problem or f"not a clear error: {error}"))
                if len(failures) >= FAILURES_SHOWN:
                    break
    print(f"\nshuffle {shuffle}: {len(numbers)} queries of seed {SEED}: {rows} rows, {empty} empty answers, seconds {spent}")
    print(f"wrong by the oracle's optimizer: {len(overruled)}", *(f"(query {number})" for number in overruled))
    example = lambda what: f" (query {examples[what]})" if what in examples else ""
    for title, counts in (("clear errors", errors), ("constructs", uses)):
        print(f"{title}: {sum(counts.values())}", *(f"\n  {count:6} {what}{example(what)}" for what, count in counts.most_common()))
    assert not failures, f"{len(failures)} wrong:\n\n" + "\n\n".join(failures)
    if not ONLY:
        assert sum(errors.values()) < ERRORS_ALLOWED * count, "too many queries are refused"
        assert empty < count / 2, "empty answers test too little"
        assert len(overruled) <= 1 + count / 1000, "the oracle is wrong too often to be one"


def timed(spent: dict[str, float], whose: str, work):
    started = time.monotonic()
    try:
        return work()
    finally:
        spent[whose] += time.monotonic() - started


def oracle_answer(duck: Duck, query: Query, number: int) -> pa.Table:
    try:
        return duck.query(query.unlimited or query.sql)
    except duckdb.Error as error:
        raise AssertionError(f"the oracle does not take query {number}, so the generator is wrong: {error}\n{query.sql}") from error


def plain_answer(duck: Duck, query: Query, number: int) -> pa.Table:
    """What the oracle answers without its optimizer, which has faults of its own."""
    duck.connection.execute("PRAGMA disable_optimizer")
    try:
        return oracle_answer(duck, query, number)
    finally:
        duck.connection.execute("PRAGMA enable_optimizer")


def is_clear(error: Exception) -> bool:
    """Invalid argument, exhausted resource and unimplemented are the user's to deal with; nothing else is.

    Nor is a plan that the planner itself finds wrong, whatever its code.
    """
    if re.search(r"does not satisfy|message: Plan: \[|Projections require unique|caused by a bug", str(error)):
        return False
    return isinstance(error, (pa.ArrowInvalid, pa.ArrowNotImplementedError))


def kind_of(error: str) -> str:
    """An error's text without what differs from query to query."""
    text = " ".join(error.split(". Client context")[0].replace("Flight returned ", "").replace("gRPC returned ", "").split())
    text = re.sub(r"\b[a-z]+\d+\b", "x", re.sub(r"\d+(\.\d+)?", "1", re.sub(r'"[^"]*"|\'[^\']*\'', "…", text)))
    return text[:200]


def report(number: int, query: Query, problem: str) -> str:
    alone = f"SKYFLIGHT_SEED={SEED} SKYFLIGHT_QUERY={number} pytest tests/test_random.py"
    return f"query {number} of seed {SEED} (alone: {alone})\n{query.sql}\n{problem}"


def difference(query: Query, ours: pa.Table, theirs: pa.Table) -> str | None:
    """How two answers differ; none where they do not."""
    names = [[name.lower() for name in table.column_names] for table in (ours, theirs)]
    if names[0] != names[1]:
        return f"columns {names[0]} instead of {names[1]}"
    left, right = rows_of(ours), rows_of(theirs)
    if query.limit is not None:
        expected = min(query.limit, len(right))
        if len(left) != expected:
            return f"{len(left)} rows instead of {expected}"
    elif query.ordered:
        if len(left) != len(right):
            return f"{len(left)} rows instead of {len(right)}"
        for place, (a, b) in enumerate(zip(left, right)):
            if not same(query, a, b):
                return f"row {place} of {len(left)} in order:\n  ours   {a}\n  theirs {b}"
        return None
    only_ours, only_theirs = unmatched(query, left, right)
    if not only_ours and (query.limit is not None or not only_theirs):
        return None
    shown = [f"{len(left)} rows, {len(right)} by the oracle"]
    shown += [f"  only ours   ({len(only_ours)}): {row}" for row in only_ours[:4]]
    shown += [f"  only theirs ({len(only_theirs)}): {row}" for row in only_theirs[:4]]
    return "\n".join(shown)


def unmatched(query: Query, left: list[tuple], right: list[tuple]) -> tuple[list[tuple], list[tuple]]:
    """Rows without a partner, as multisets. Equal rows go first; of the rest, those within rounding of each other."""
    left_only, right_only = list((Counter(left) - Counter(right)).elements()), list((Counter(right) - Counter(left)).elements())
    if not left_only or not right_only:
        return left_only, right_only
    # Partners agree in all that is no float, so they are looked for among few.
    by_exact: dict[tuple, list[tuple]] = {}
    for row in right_only:
        by_exact.setdefault(exact_part(row), []).append(row)
    alone = []
    for row in left_only:
        candidates = by_exact.get(exact_part(row), [])
        partner = next((index for index, other in enumerate(candidates) if same(query, row, other)), None)
        if partner is None:
            alone.append(row)
        else:
            candidates.pop(partner)
    return alone, [row for rows in by_exact.values() for row in rows]


def exact_part(row: tuple) -> tuple:
    return tuple(None if isinstance(value, (int, float)) and not isinstance(value, bool) else (value,) for value in row)


def same(query: Query, ours: tuple, theirs: tuple) -> bool:
    for column, (a, b) in enumerate(zip(ours, theirs)):
        if isinstance(a, float) or isinstance(b, float):
            tolerance = 1e-6 if column in query.loose else 1e-9
            if a is None or b is None or isinstance(a, str) or isinstance(b, str):
                return False
            if not math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance):
                return False
        elif a != b or type(a) is not type(b):
            return False
    return True
