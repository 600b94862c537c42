"""Sub-queries within expressions of random queries."""

from __future__ import annotations

from collections.abc import Sequence

from .random_expressions import Scope
from .random_from import Sources
from .random_outputs import Outputs
from .random_shapes import From


class Subqueries(Sources, Outputs):
    """Makes conditions and values that hold a query."""

    def correlated(self, outer: Scope, kinds: Sequence[str] = ("key", "equal", "unequal")) -> tuple[From, Scope, str] | None:
        """A table and a condition that binds it to the outer query."""
        inner = self.table(self.rng.choices(["Object", "Source", "ForcedSource", "Filter", "Alert"], [25, 40, 20, 10, 5])[0])
        source = From(inner.sql, [inner], inner.rows)
        outside = [column for column in outer.columns if column.alias]
        if not outside:
            return None
        kind = self.rng.choices(kinds, [70, 22, 8][: len(kinds)])[0]
        made = {"key": self.key, "equal": self.equal, "unequal": self.unequal}[kind](outside, inner) or self.equal(outside, inner)
        if made is None:
            return None
        condition = made[1]
        scope = Scope(inner.columns, inner.positions())
        if self.chance(0.5):
            condition += f" AND {self.expressions.predicate(scope, 1, subqueries=False)}"
        return source, scope, condition

    def subquery_predicate(self, outer: Scope, conjunct: bool) -> str:
        """A condition that holds a query; `conjunct` where the condition is a term of WHERE itself."""
        self.nested += 1
        made = self.subquery_condition(outer, conjunct)
        self.nested -= 1
        return made

    def subquery_condition(self, outer: Scope, conjunct: bool) -> str:
        kinds = ["exists", "in", "correlated in", "scalar", "correlated scalar", "row in"]
        kind = self.rng.choices(kinds, [34, 30, 8, 18, 10, 8])[0]
        negated = "NOT " if self.chance(0.4) else ""
        if kind in ("in", "correlated in") and not conjunct and self.chance(0.7):
            kind = "exists"
        if kind == "exists" and (made := self.correlated(outer)):
            source, _, condition = made
            self.uses(f"{negated.lower()}exists")
            return f"{negated}EXISTS (SELECT 1 FROM {source.sql} WHERE {condition})"
        if kind == "correlated in" and (made := self.correlated(outer, ("key", "equal"))):
            source, scope, condition = made
            subject = self.rng.choice(outer.columns)
            if theirs := self.expressions.column(scope, subject.type):
                if not conjunct:
                    self.uses("in below or, not")
                self.uses(f"correlated {negated.lower()}in")
                return f"{subject.sql} {negated}IN (SELECT {theirs.sql} FROM {source.sql} WHERE {condition})"
        if kind == "row in":
            return self.row_in(outer, negated)
        if kind in ("scalar", "correlated scalar"):
            sql, type = self.scalar_subquery(outer, correlated=kind != "scalar")
            value = self.expressions.expression(outer, type, 1)
            return f"{value} {self.rng.choice(['<', '>=', '=', '<>'])} {sql}"
        if not conjunct:
            self.uses("in below or, not")
        subject = self.rng.choice([column for column in outer.columns if column.name.endswith("Id")] or outer.columns)
        select = self.maybe_limited(self.select(self.rng.choice([0, 0, 1]), exact=True, types=[subject.type]), 0.1)
        self.uses(f"{negated.lower()}in")
        return f"{subject.sql} {negated}IN ({select.sql})"

    def row_in(self, outer: Scope, negated: str) -> str:
        """Pairs without nulls, which the oracle takes for values that are equal to each other."""
        columns = [self.rng.choice(outer.columns) for _ in range(2)]
        row = f"({', '.join(column.sql for column in columns)})"
        self.uses(f"row {negated.lower()}in")
        known = " AND ".join(f"{column.sql} IS NOT NULL" for column in columns)
        if self.chance(0.5):
            pair = lambda: f"({', '.join(self.expressions.literal(column.type, column) for column in columns)})"
            listed = ", ".join(pair() for _ in range(self.rng.choice([1, 2, 5])))
        else:
            select = self.select(0, exact=True, types=[column.type for column in columns])
            alias = self.alias("d")
            names = [f"{alias}.{output.name}" for output in select.outputs]
            listed = f"SELECT {', '.join(names)} FROM ({select.sql}) {alias} WHERE " + " AND ".join(f"{name} IS NOT NULL" for name in names)
        return f"({known} AND {row} {negated}IN ({listed}))"

    def scalar_subquery(self, outer: Scope, correlated: bool | None = None) -> tuple[str, str]:
        """A sub-query of one value, and its type."""
        self.nested += 1
        correlated = self.chance(0.6) if correlated is None else correlated
        made = self.correlated(outer, ("key", "equal")) if correlated else None
        if made:
            source, scope, condition = made
            self.uses("correlated scalar sub-query")
        else:
            source = self.from_clause(0)
            scope = self.scope(source, 0)
            condition = self.where(source, scope, 0)
            self.uses("scalar sub-query")
        aggregate = self.aggregate(scope, exact=True)
        self.nested -= 1
        return f"(SELECT {aggregate.sql} FROM {source.sql} WHERE {condition})", aggregate.type
