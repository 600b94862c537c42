"""Files of SQL statements with their answers, in the format of SQLite's sqllogictest: reading, running, completing.

What a file may hold is in README.md. `python -m skyflight_testing.slt [FILE …]` asks DuckDB for the answers and writes
them into the files; statements whose answers come from elsewhere keep theirs.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.flight as flight

from .settings import PROJECT
from .slt_survey import oracle

FOLDER = PROJECT / "integration/slt"
#: Reals are written with so many digits, and are the same within this relative difference, or this far from zero.
DIGITS = 12
RELATIVE = 1e-9
ABSOLUTE = 1e-12
#: Says that a text matches a regular expression, as in DuckDB's own files.
REGEX = "<REGEX>:"
#: Comments before a statement that mean something: DuckDB's spelling of it, where else its answer comes from, why it
#: rightly has no rows, and which defect makes it fail.
NOTES = ("duckdb", "from", "no rows", "fails")
SORTS = ("nosort", "rowsort", "valuesort")

#: What a column of each letter may be.
TYPES: dict[str, Callable[[pa.DataType], bool]] = {
    "B": pa.types.is_boolean,
    "I": lambda type: pa.types.is_integer(type) or (pa.types.is_decimal(type) and type.scale == 0),
    "R": lambda type: pa.types.is_floating(type) or pa.types.is_decimal(type),
    "T": lambda type: pa.types.is_string(type) or pa.types.is_large_string(type),
    "D": pa.types.is_date,
    "P": pa.types.is_timestamp,
    "?": pa.types.is_nested,
}

Query = Callable[[str], pa.Table]
Row = list[str]


class BadFile(Exception):
    """The file is not in the format; the text says where and why."""


class Wrong(Exception):
    """The answer is not the one in the file."""


@dataclass
class Record:
    """A statement of a file, and what it must give."""

    #: The file's name and the number of the statement's first line.
    place: str
    #: "ok", "error" or "query".
    kind: str
    sql: str
    notes: dict[str, str]
    #: Of an error: what its message must match.
    message: str = ""
    #: Of a query: a letter for each column.
    types: str = ""
    sort: str = "nosort"
    #: Queries of one label have the same answer.
    label: str | None = None
    rows: list[Row] = field(default_factory=list)
    #: Its lines in the file, up to the answer.
    head: list[str] = field(default_factory=list)

    @property
    def by_duckdb(self) -> bool:
        return self.kind == "query" and "from" not in self.notes


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.slt"))


def parse(file: Path, complete: bool = False) -> list[Record]:
    """The statements of a file. With `complete`, answers may be missing."""
    records: list[Record] = []
    labels: dict[str, Record] = {}
    for place, block in _blocks(file):
        if _is_comment(block):
            continue
        record = _record(place, block, complete)
        first = labels.setdefault(record.label or place, record)
        if not complete and (first.rows, first.sort) != (record.rows, record.sort):
            raise BadFile(f"{place}: another answer than {first.place}, which has the same label")
        records.append(record)
    return records


def _blocks(file: Path) -> Iterator[tuple[str, list[str]]]:
    """What empty lines part, with the file's name and the number of the first line."""
    number = 1
    for block in (text.split("\n") for text in re.split(r"\n\n+", file.read_text().strip("\n"))):
        if number == 1 and not _is_comment(block):
            raise BadFile(f"{file.name}: a file begins with comments that say its subject and where its answers come from")
        yield f"{file.name}:{number}", block
        number += len(block) + 1


def _is_comment(block: list[str]) -> bool:
    return all(line.startswith("#") for line in block)


def _record(place: str, block: list[str], complete: bool) -> Record:
    notes: dict[str, list[str]] = {}
    start = 0
    while start < len(block) and block[start].startswith("#"):
        note, colon, text = block[start].removeprefix("#").strip().partition(":")
        if colon and note in NOTES:
            notes.setdefault(note, []).append(text.strip())
        start += 1
    words, body = block[start].split(), block[start + 1 :]
    answer = body.index("----") if "----" in body else None
    sql = "\n".join(body if answer is None else body[:answer]).rstrip().removesuffix(";")
    record = Record(place, words[0], sql, {note: " ".join(texts) for note, texts in notes.items()})
    record.head = block if answer is None else block[: start + 1 + answer]
    if not sql:
        raise BadFile(f"{place}: no statement")
    if words[0] == "statement":
        _statement(record, block[start], answer is not None)
    elif words[0] == "query":
        _query(record, words[1:], None if answer is None else body[answer + 1 :], complete)
    else:
        raise BadFile(f"{place}: {words[0]} is neither query nor statement")
    return record


def _statement(record: Record, line: str, answered: bool) -> None:
    found = re.fullmatch(r"statement (?:(ok)|(error) (\S.*))", line)
    if not found or answered:
        raise BadFile(f"{record.place}: write `statement ok` or `statement error <regular expression>`, without an answer")
    record.kind, record.message = found[1] or found[2], found[3] or ""


def _query(record: Record, words: list[str], answer: list[str] | None, complete: bool) -> None:
    if not 1 <= len(words) <= 3 or not set(words[0]) <= TYPES.keys():
        raise BadFile(f"{record.place}: write `query <types> [sort] [label]`, types being of {''.join(TYPES)}")
    record.types = words[0]
    if len(words) > 1:
        record.sort = words[1]
    if len(words) > 2:
        record.label = words[2]
    if record.sort not in SORTS or (record.sort == "valuesort" and len(set(record.types)) > 1):
        raise BadFile(f"{record.place}: the sort is one of {SORTS}, the last for columns of one type")
    record.rows = [line.split("\t") for line in answer or []]
    width = 1 if record.sort == "valuesort" else len(record.types)
    if any(len(row) != width for row in record.rows):
        raise BadFile(f"{record.place}: a row of the answer has not {width} values; they are parted by tabs")
    if complete:
        return
    if answer is None:
        raise BadFile(f"{record.place}: no answer; python -m skyflight_testing.slt asks DuckDB for it")
    if (not record.rows) != ("no rows" in record.notes):
        raise BadFile(f"{record.place}: an answer without rows, and no other, has a comment `# no rows:` that says why")
    if record.sort == "nosort" and len(record.rows) > 1 and not re.search("ORDER BY|EXPLAIN|DESCRIBE", record.sql):
        raise BadFile(f"{record.place}: rows without an order; write rowsort")


def answer(record: Record, table: pa.Table) -> list[Row]:
    """The rows that a system gives to a query, as the file has them."""
    if table.num_columns != len(record.types):
        raise Wrong(f"{table.num_columns} columns instead of {len(record.types)}")
    for letter, column in zip(record.types, table.schema):
        if not TYPES[letter](column.type) and not pa.types.is_null(column.type):
            raise Wrong(f"column {column.name} is {column.type}, which is not {letter}")
    columns = [[_text(letter, value) for value in column.to_pylist()] for letter, column in zip(record.types, table.columns)]
    rows = [list(row) for row in zip(*columns)]
    if record.sort == "valuesort":
        rows = [[value] for row in rows for value in row]
    return rows if record.sort == "nosort" else sorted(rows, key=lambda row: _sort_key(record.types, row))


def _text(letter: str, value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if letter == "I":
        return str(int(value))
    if isinstance(value, (float, decimal.Decimal)):
        return _real(float(value))
    if isinstance(value, list):
        return "[" + ", ".join(_text("?", item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text('?', item)}" for name, item in value.items()) + "}"
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return str(value) or "(empty)"


def _real(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    # Minus zero is zero, as in comparisons of SQL.
    return f"{value + 0.0:.{DIGITS}g}"


def _sort_key(types: str, row: Row) -> tuple:
    # Exact values first, so that reals which differ by rounding do not change the order of rows with different keys.
    typed = list(zip(types if len(types) == len(row) else types[0], row))
    exact = [value for letter, value in typed if letter != "R"]
    reals = [value if value in ("NULL", "NaN") else f"{float(value):.6g}" for letter, value in typed if letter == "R"]
    return exact, reals


def _same(letter: str, ours: str, expected: str) -> bool:
    if ours == expected:
        return True
    if letter == "R" and "NULL" not in (ours, expected):
        return math.isclose(float(ours), float(expected), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    if letter == "T" and expected.startswith(REGEX):
        return re.search(expected.removeprefix(REGEX), ours, re.DOTALL) is not None
    return False


def check(record: Record, query: Query) -> None:
    """Asks the statement of a system. Raises `Wrong` where it gives anything but what the file says."""
    if record.kind == "error":
        _check_error(record, query)
        return
    try:
        table = query(record.sql)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise Wrong(f"{type(error).__name__}: {error}") from error
    if record.kind == "query":
        compare(record, answer(record, table))


def compare(record: Record, ours: list[Row]) -> None:
    types = record.types if record.sort != "valuesort" else record.types[0]
    for number, (row, expected) in enumerate(zip(ours, record.rows)):
        if not all(map(_same, types, row, expected)):
            raise Wrong(f"row {number} of {len(ours)}:\n  is       {row}\n  must be  {expected}")
    if len(ours) != len(record.rows):
        longer = max(ours, record.rows, key=len)
        raise Wrong(f"{len(ours)} rows instead of {len(record.rows)}; the first without a partner: {longer[min(len(ours), len(record.rows))]}")


#: Errors that are not the user's.
FAULTS = (flight.FlightInternalError, flight.FlightServerError, flight.FlightUnavailableError, flight.FlightTimedOutError)


def _check_error(record: Record, query: Query) -> None:
    try:
        table = query(record.sql)
    except (pa.ArrowException, OSError, KeyError) as error:
        if isinstance(error, FAULTS) or "(query " in str(error):
            raise Wrong(f"a fault of ours and not the user's mistake: {type(error).__name__}: {error}") from error
        if not re.search(record.message, str(error)):
            raise Wrong(f"another error than /{record.message}/: {error}") from error
    else:
        raise Wrong(f"{table.num_rows} rows instead of the error /{record.message}/")


def run(records: list[Record], query: Query, threads: int = 1) -> tuple[list[str], list[str]]:
    """What went wrong, and what failed as the file says it does. A known failure that does not fail is wrong too.

    With several threads as many statements are asked at a time.
    """
    failures, known = [], []
    with ThreadPoolExecutor(threads) as pool:
        for record, problem in zip(records, pool.map(lambda record: _problem(record, query), records)):
            excuse = record.notes.get("fails")
            if problem is None and excuse is not None:
                problem = "it is right now: remove `# fails:`"
            elif problem is not None and excuse is not None:
                known.append(f"{record.place}: {excuse}")
                continue
            if problem is not None:
                failures.append(f"{record.place}\n{record.sql}\n{problem}")
    return failures, known


def _problem(record: Record, query: Query) -> str | None:
    try:
        check(record, query)
    except Wrong as wrong:
        return str(wrong)
    return None


def complete(file: Path, query: Query) -> list[str]:
    """Writes DuckDB's answers into a file; what it could not answer."""
    records = {record.place: record for record in parse(file, complete=True)}
    problems: list[str] = []
    lines: list[str] = []
    for place, block in list(_blocks(file)):
        record = records.get(place)
        if record is not None and record.by_duckdb:
            try:
                rows = answer(record, query(record.notes.get("duckdb", record.sql)))
                block = [*record.head, "----", *("\t".join(row) for row in rows)]
            except (duckdb.Error, Wrong) as error:
                problems.append(f"{place}\n{record.sql}\n{error}")
        lines += [*block, ""]
    file.write_text("\n".join(lines))
    return problems


def main(arguments: list[str]) -> int:
    duck = oracle()
    problems = [problem for file in map(Path, arguments or files()) for problem in complete(file, duck.query)]
    print("\n\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
