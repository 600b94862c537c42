"""What random queries are made of: relations, joined relations, outputs and SELECTs."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .random_expressions import Expressions, Reference
from .random_tables import DATABASES, Survey


@dataclass(frozen=True)
class Query:
    """A statement, and how answers to it compare."""

    sql: str
    #: For a LIMIT without an order: the same without the LIMIT, whose rows are those allowed.
    unlimited: str | None
    limit: int | None
    #: Rows come in one order only.
    ordered: bool
    #: Columns computed in ways that lose digits, such as variances.
    loose: frozenset[int]
    uses: Counter[str]


@dataclass(frozen=True)
class Output:
    """A column of a SELECT."""

    sql: str
    name: str
    type: str
    #: "exact", "rounded" or "loose"; only the first may be compared inside a query.
    digits: str = "exact"

    @property
    def spelled(self) -> str:
        bare = self.sql.rsplit(".", 1)[-1]
        return self.sql if bare == self.name else f"{self.sql} AS {self.name}"


@dataclass(frozen=True)
class Select:
    """A SELECT without ORDER BY and LIMIT."""

    sql: str
    outputs: tuple[Output, ...]
    rows: float
    #: What to order by so that the order is total.
    total_order: tuple[str, ...]
    #: What else may be ordered by; with the total order the same for equal rows.
    orderable: tuple[str, ...]


@dataclass
class Relation:
    """What can stand in FROM."""

    sql: str
    alias: str
    columns: list[Reference]
    identity: tuple[str, ...]
    rows: float
    table: str | None = None

    def positions(self) -> list[tuple[Reference, Reference]]:
        by_name = {column.name: column for column in self.columns}
        return [(by_name["ra"], by_name["dec"])] if {"ra", "dec"} <= by_name.keys() else []

    def find(self, name: str) -> Reference | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass
class From:
    """Joined relations."""

    sql: str
    relations: list[Relation]
    rows: float
    #: Columns merged by USING, as they are named after it.
    merged: list[Reference] = field(default_factory=list)

    @property
    def columns(self) -> list[Reference]:
        return self.merged + [column for relation in self.relations for column in relation.columns]

    @property
    def identity(self) -> tuple[str, ...]:
        return tuple(f"{relation.alias}.{name}" for relation in self.relations for name in relation.identity)


class Draws:
    """What all parts of the generator of one query share."""

    def __init__(self, survey: Survey, rng: random.Random) -> None:
        self.survey = survey
        self.rng = rng
        self.used: Counter[str] = Counter()
        self.expressions = Expressions(rng, self.uses)
        self.database = rng.choice(sorted(DATABASES))
        self.aliases = 0
        self.common: list[Relation] = []
        #: How many sub-queries of expressions the place is in.
        self.nested = 0

    def uses(self, construct: str) -> None:
        self.used[construct] += 1

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def alias(self, letter: str = "t") -> str:
        self.aliases += 1
        return f"{letter}{self.aliases}"

    def output(self, sql: str, type: str, digits: str = "exact") -> Output:
        return Output(sql, self.alias("c"), type, digits)


def mentions(sql: str, column: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(column)}(?!\w)", sql) is not None


def spell(outputs: Sequence[Output]) -> str:
    return ", ".join(output.spelled for output in outputs)
