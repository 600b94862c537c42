"""Are two results the same rows? Floats may differ by rounding, because sums are made in another order."""

from __future__ import annotations

import decimal
import math
from typing import Any

import pyarrow as pa

RELATIVE = 1e-9
ABSOLUTE = 1e-9


#: The column that every partitioned table has after its own: where its row lies on the sky.
HEALPIX = "_healpix_29"


def loaded_columns(table: pa.Table) -> pa.Table:
    """A partitioned table as it was loaded, which is all but the last column."""
    assert table.column_names[-1] == HEALPIX, table.column_names
    assert table.column(HEALPIX).null_count == 0
    return table.drop_columns([HEALPIX])


def _plain(value: Any) -> Any:
    """A value whatever type of number or time a system gives for it."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    # pyarrow gives pandas' own type for nanoseconds where pandas is installed.
    if hasattr(value, "to_pydatetime") and value.nanosecond == 0:
        return value.to_pydatetime()
    return value


def rows_of(table: pa.Table) -> list[tuple]:
    """The rows as tuples of plain values."""
    columns = [[_plain(value) for value in column.to_pylist()] for column in table.columns]
    return list(zip(*columns)) if columns else [()] * table.num_rows


def _sort_key(row: tuple) -> tuple:
    # Exact values first, so that floats which differ by rounding do not change the order of rows with different keys.
    exact = tuple((value is None, str(type(value)), value if value is not None else 0) for value in row if not isinstance(value, float))
    floats = tuple(float(f"{value:.6g}") if not math.isnan(value) else math.inf for value in row if isinstance(value, float))
    return exact, floats


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)) and not isinstance(ours, bool):
        if isinstance(ours, float) and math.isnan(ours):
            return isinstance(theirs, float) and math.isnan(theirs)
        if isinstance(ours, int) and isinstance(theirs, int):
            return ours == theirs
        return math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(ours) is type(theirs) and ours == theirs


def assert_same_rows(ours: pa.Table, theirs: pa.Table, ordered: bool = False) -> None:
    """Fails with the first rows that differ. Column names count, without their case."""
    names = [[name.lower() for name in table.column_names] for table in (ours, theirs)]
    assert names[0] == names[1], f"columns {names[0]} instead of {names[1]}"
    assert ours.num_rows == theirs.num_rows, f"{ours.num_rows} rows instead of {theirs.num_rows}"
    left, right = rows_of(ours), rows_of(theirs)
    if not ordered:
        left.sort(key=_sort_key)
        right.sort(key=_sort_key)
    for number, (a, b) in enumerate(zip(left, right)):
        if not all(map(_same, a, b)):
            raise AssertionError(f"row {number} of {len(left)} differs:\n  ours   {a}\n  theirs {b}")
