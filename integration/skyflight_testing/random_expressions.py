"""Random expressions and predicates that mean the same in DataFusion and in DuckDB.

What is left out is left out because the systems differ by dialect, not because it is hard: division of integers and by
zero, ordering of text and numbers mixed, text of floats, minus zero (no negation or product that can make one), dates
plus intervals. Integers stay far from overflow: values are small and factors are small literals.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TYPES = ("id", "int", "float", "text", "bool", "date", "stamp")

#: Literals for columns that have no values.
COMMON: dict[str, tuple[str, ...]] = {
    "id": ("3", "(-7)", "9007199254740993", "5000000700"),
    "int": ("0", "1", "2", "7", "(-3)", "30"),
    "float": ("0.0e0", "0.5e0", "(-1.25e0)", "20.0e0", "300.0e0"),
    "text": ("''", "'r'", "'g'", "'star'", "'Star'", "'é'"),
    "bool": ("true", "false"),
    "date": ("DATE '2020-01-01'", "DATE '2020-02-29'"),
    "stamp": ("TIMESTAMP '2020-03-01 00:00:00'", "TIMESTAMP '2020-02-29 12:30:00'"),
}
PATTERNS = ("'s%'", "'%a%'", "'_'", "'%'", "'g'", "'_é%'", "'%r'", "'S___'", "''", "'%''%'")


@dataclass(frozen=True)
class Reference:
    """A column that can be named here."""

    sql: str
    type: str
    literals: tuple[str, ...] = ()
    #: The alias of its table and its bare name.
    alias: str = ""
    name: str = ""
    #: Share of the rows that each value has, where that is known.
    shares: dict[Any, float] | None = field(default=None, repr=False, compare=False)

    def matching(self, other: Reference) -> float:
        """The share of pairs in which two columns are equal, as far as it can be guessed."""
        if self.shares is None or other.shares is None:
            return 0.05 if self.type == "id" else 0.3
        return sum(share * other.shares.get(value, 0.0) for value, share in self.shares.items())


@dataclass
class Scope:
    """What an expression may refer to, and the sub-queries a predicate may hold."""

    columns: list[Reference]
    #: Right ascension and declination of the same table.
    positions: list[tuple[Reference, Reference]] = field(default_factory=list)
    #: Makes a predicate of a sub-query; none where sub-queries are not wanted. Told whether the predicate is all of
    #: the condition or one of the terms of its AND.
    subquery: Callable[[Scope, bool], str] | None = None

    def of_type(self, type: str) -> list[Reference]:
        return [column for column in self.columns if column.type == type]


class Expressions:
    """Makes expressions of columns in a scope."""

    def __init__(self, rng: random.Random, uses: Callable[[str], None]) -> None:
        self.rng = rng
        #: Told of each construct, so that a run can say what it tested.
        self.uses = uses

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def literal(self, type: str, near: Reference | None = None) -> str:
        """A literal, mostly one of the column's own values."""
        if near is not None and near.literals and self.chance(0.85):
            return self.rng.choice(near.literals)
        return self.rng.choice(COMMON[type])

    def column(self, scope: Scope, type: str) -> Reference | None:
        columns = scope.of_type(type)
        return self.rng.choice(columns) if columns else None

    def expression(self, scope: Scope, type: str, depth: int = 2) -> str:
        """An expression of this type; mostly a column."""
        column = self.column(scope, type)
        if depth <= 0 or self.chance(0.4):
            return column.sql if column and self.chance(0.92) else self.literal(type, column)
        if self.chance(0.25):
            return self.conditional(scope, type, depth - 1)
        made = getattr(self, f"_{type}")(scope, lambda of: self.expression(scope, of, depth - 1))
        return made

    def conditional(self, scope: Scope, type: str, depth: int) -> str:
        """CASE, coalesce, nullif: of any type."""
        one, two = (self.expression(scope, type, depth) for _ in range(2))
        kind = self.rng.randrange(5)
        if kind == 0:
            return f"coalesce({one}, {two})"
        if kind == 1:
            return f"nullif({one}, {self.literal(type, self.column(scope, type))})"
        if kind == 2 and (subject := self.rng.choice(scope.columns)).type != "bool":
            whens = " ".join(f"WHEN {self.literal(subject.type, subject)} THEN {self.expression(scope, type, 0)}" for _ in range(2))
            return f"CASE {subject.sql} {whens} ELSE {one} END"
        condition = self.predicate(scope, 1, subqueries=False)
        return f"CASE WHEN {condition} THEN {one}{f' ELSE {two}' if self.chance(0.7) else ''} END"

    def _id(self, scope: Scope, sub: Callable[[str], str]) -> str:
        # Ids are too large to reckon with.
        return sub("id")

    def _int(self, scope: Scope, sub: Callable[[str], str]) -> str:
        makers = [
            lambda: f"({sub('int')} {self.rng.choice('+-')} {sub('int')})",
            lambda: f"({sub('int')} * {self.rng.choice(['(-3)', '2', '5', '7'])})",
            lambda: f"({sub('int')} % {self.rng.choice([2, 3, 7])})",
            lambda: f"abs({sub('int')})",
            lambda: f"({sub('id')} % {self.rng.choice([2, 5, 10])})",
            lambda: f"CAST(floor({sub('float')} / 16.0e0) AS BIGINT)",
            lambda: f"CAST({sub('bool')} AS INTEGER)",
            lambda: f"length({sub('text')})",
            lambda: f"strpos({sub('text')}, {self.literal('text')})",
            lambda: f"extract({self.rng.choice(['year', 'month', 'day'])} FROM {sub('date')})",
            lambda: f"extract({self.rng.choice(['hour', 'minute', 'doy'])} FROM {sub('stamp')})",
            lambda: f"{self.rng.choice(['greatest', 'least'])}({sub('int')}, {sub('int')})",
        ]
        return self.rng.choice(makers)()

    def _float(self, scope: Scope, sub: Callable[[str], str]) -> str:
        makers = [
            lambda: f"({sub('float')} {self.rng.choice('+-')} {sub('float')})",
            lambda: f"({sub('float')} * {self.rng.choice(['0.5e0', '2.0e0', '1.25e0'])})",
            lambda: f"(0.0e0 - {sub('float')})",
            lambda: f"abs({sub('float')})",
            lambda: f"CAST({sub('int')} AS DOUBLE)",
            lambda: f"floor({sub('float')})",
            lambda: f"{self.rng.choice(['greatest', 'least'])}({sub('float')}, {sub('float')})",
        ]
        return self.rng.choice(makers)()

    def _text(self, scope: Scope, sub: Callable[[str], str]) -> str:
        makers = [
            lambda: f"{self.rng.choice(['upper', 'lower', 'trim'])}({sub('text')})",
            lambda: f"substr({sub('text')}, {self.rng.randint(1, 3)}, {self.rng.randint(0, 3)})",
            lambda: f"({sub('text')} || {sub('text')})",
            lambda: f"CAST({sub('int')} AS VARCHAR)",
            lambda: f"CAST({sub('date')} AS VARCHAR)",
            lambda: f"{self.rng.choice(['left', 'right'])}({sub('text')}, {self.rng.randint(0, 3)})",
            lambda: f"replace({sub('text')}, 'a', {self.literal('text')})",
            lambda: f"concat({sub('text')}, '-', {sub('text')})",
        ]
        return self.rng.choice(makers)()

    def _bool(self, scope: Scope, sub: Callable[[str], str]) -> str:
        return f"({self.predicate(scope, 1, subqueries=False)})"

    def _date(self, scope: Scope, sub: Callable[[str], str]) -> str:
        return f"CAST({sub('stamp')} AS DATE)"

    def _stamp(self, scope: Scope, sub: Callable[[str], str]) -> str:
        if self.chance(0.3):
            return f"CAST({sub('date')} AS TIMESTAMP)"
        return f"date_trunc('{self.rng.choice(['hour', 'day', 'month'])}', {sub('stamp')})"

    def rounded(self, scope: Scope) -> str:
        """A float whose last digits two systems may compute differently: for results only."""
        # In single precision the digits would differ earlier.
        one, two = (f"CAST({self.expression(scope, 'float', 1)} AS DOUBLE)" for _ in range(2))
        makers = [
            f"{one} / (abs({two}) + 1.0e0)",
            f"sqrt(abs({one}))",
            f"ln(abs({one}) + 1.0e0)",
            f"sin(radians({one})) * cos(radians({two}))",
            f"power(abs({one}), 0.3e0)",
        ]
        if scope.positions:
            ra, dec = self.rng.choice(scope.positions)
            makers.append(f"separation({ra.sql}, {dec.sql}, {self._place()})")
        return self.rng.choice(makers)

    def predicate(self, scope: Scope, depth: int = 2, subqueries: bool = True, conjunct: bool = True) -> str:
        """A condition, of three-valued logic."""
        if depth > 0 and self.chance(0.45):
            kind = self.rng.randrange(5)
            conjunct = conjunct and kind in (1, 2)
            one = self.predicate(scope, depth - 1, subqueries, conjunct)
            if kind == 0:
                return f"NOT ({one})"
            word = "AND" if kind < 3 else "OR"
            return f"({one} {word} {self.predicate(scope, depth - 1, subqueries, conjunct)})"
        if subqueries and scope.subquery and self.chance(0.2):
            return scope.subquery(scope, conjunct)
        if scope.positions and self.chance(0.2):
            return self.area(scope)
        return self.simple(scope)

    def simple(self, scope: Scope) -> str:
        """A condition on one or two values."""
        subject = self.rng.choice(scope.columns)
        of = subject.type
        value = subject.sql if self.chance(0.75) else self.expression(scope, of, 1)
        if of == "bool":
            suffixes = ["", " IS TRUE", " IS NOT FALSE", " IS NULL", f" = {self.literal(of)}"]
            return self.rng.choice([f"NOT {value}", *(value + suffix for suffix in suffixes)])
        kind = self.rng.choices(
            ["compare", "other", "between", "in", "null", "like", "distinct", "case"], [40, 12, 14, 14, 8, 12, 4, 4]
        )[0]
        if kind == "like" and of != "text":
            kind = "compare"
        comparison = self.rng.choice(["=", "<>", "<", "<=", ">", ">="])
        negated = "NOT " if self.chance(0.25) else ""
        match kind:
            case "compare":
                other = self.literal(of, subject)
                return f"{value} {comparison} {other}" if self.chance(0.85) else f"{other} {comparison} {value}"
            case "other":
                return f"{value} {comparison} {self.expression(scope, of, 1)}"
            case "between":
                return f"{value} {negated}BETWEEN {self.literal(of, subject)} AND {self.literal(of, subject)}"
            case "in":
                items = [self.literal(of, subject) for _ in range(self.rng.randint(1, 5))] + ["NULL"] * self.chance(0.08)
                return f"{value} {negated}IN ({', '.join(items)})"
            case "null":
                return f"{value} IS {negated}NULL"
            case "like":
                return f"{value} {negated}LIKE {self.rng.choice(PATTERNS)}"
            case "distinct":
                compared = f"{value} IS {negated}DISTINCT FROM {self.expression(scope, of, 0)}"
                return f"({compared})" if self.chance(0.5) else compared
        return f"CASE WHEN {self.simple(scope)} THEN {self.simple(scope)} ELSE {self.simple(scope)} END"

    def area(self, scope: Scope) -> str:
        """A part of the sky, in words from which chunks are chosen."""
        self.uses("area")
        rng = self.rng
        ra, dec = (column.sql for column in rng.choice(scope.positions))
        kind = rng.randrange(7)
        if kind == 0:
            return f"separation({ra}, {dec}, {self._place()}) < {rng.choice([0.1234567, 1.7654321, 12.3456789, 95.4321])}"
        if kind == 1:
            return f"scisql_s2PtInCircle({ra}, {dec}, {self._place()}, {rng.choice([0.2345678, 2.3456789, 34.56789])}) = 1"
        if kind == 2:
            # A third of them across right ascension 0.
            west, width = rng.choice([350.0, 358.5, 0.0, 199.9, rng.uniform(0, 300)]), rng.choice([0.3, 12.5, 59.0])
            south, north = rng.choice([-90, -31, 0, 3.9]), rng.choice([5.1, 60, 90])
            return f"scisql_s2PtInBox({ra}, {dec}, {west}, {south}, {(west + width) % 360}, {north}) = 1"
        if kind == 3:
            return f"({ra} >= {360 - rng.choice([0.25, 1, 30])} OR {ra} <= {rng.choice([0, 0.25, 1, 30])})"
        if kind == 4:
            return f"{dec} {rng.choice(['>', '>=', '='])} {rng.choice([90, 89.75, 89.5, 0, -90, -41.8125])}"
        low, high = sorted([rng.uniform(0, 360), rng.choice([0.5, 60.25, 359.75, 360])])
        south, north = sorted([rng.uniform(-90, 90), rng.choice([-90, -29.75, 0, 6, 90])])
        within = f"{ra} BETWEEN {low:.4f} AND {high:.4f}"
        return within if kind == 5 else f"({within} AND {dec} >= {south:.4f} AND {dec} < {north:.4f})"

    def _place(self) -> str:
        """A position in or beside one of the clusters, or anywhere."""
        rng = self.rng
        places = [(rng.uniform(0, 360), 89.9), (0.05, 5.0), (200.1, -29.9), (rng.uniform(0, 360), rng.uniform(-90, 90))]
        ra, dec = rng.choice(places)
        return f"{ra:.5f}, {dec:.5f}"
