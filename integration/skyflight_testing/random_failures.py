"""Defects that random queries find and that are still there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .random_shapes import Query


@dataclass(frozen=True)
class KnownFailure:
    """A class of queries that Skyflight answers wrongly or not at all, which a run lets pass and counts."""

    #: The construct, as the generator names it in `Query.uses`; none where the error's text says enough.
    construct: str | None
    reason: str
    #: What the error says; none where the answer is wrong.
    message: str | None = None

    def explains(self, query: Query, error: str | None) -> bool:
        if self.construct is not None and self.construct not in query.uses:
            return False


#: Defects that are still there: an entry goes when its defect does.
KNOWN_FAILURES = [
    KnownFailure(
        None,
        "a CAST has the name of what it casts, so max(CAST(a AS …)) and max(a) clash where the planner rewrites a projection; "
        "so do the two uses of z in x IN (SELECT DISTINCT y AS z …) OR …",
        "Projections require unique expression names|Schema contains duplicate unqualified field name",
    ),
    KnownFailure(
        "window",
        "PARTITION BY a comparison of a function, such as abs(x) < 7: its order is not recognized",
        r"does not satisfy order requirements|message: Plan: \[",
    ),
]
