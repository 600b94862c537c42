"""Random queries that have one right answer, whichever system gives it. The same seed gives the same query.

A query of the generator is made of relations (tables, sub-queries, entries of WITH) joined in all ways there are, and
a SELECT over them: plain, DISTINCT, with windows, aggregated, grouped, or a set operation. Where an order matters
(LIMIT, windows by row) it is total: it ends in the columns that name a row of every relation.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from .random_expressions import TYPES, Scope
from .random_shapes import From, Output, Query, Select, mentions, spell
from .random_subqueries import Subqueries
from .random_tables import Survey

#: More rows than this are not sent, but counted.
ROWS_SENT = 4_000
#: With how often they are made.
SET_OPERATIONS = {"UNION ALL": 30, "UNION": 25, "INTERSECT": 20, "EXCEPT": 20, "INTERSECT ALL": 12, "EXCEPT ALL": 12}


def random_query(survey: Survey, seed: int, number: int) -> Query:
    """Query `number` of the sequence of this seed."""
    return Generator(survey, random.Random(f"{seed} query {number}")).query()


class Generator(Subqueries):
    """Makes one query."""

    def query(self) -> Query:
        with_clause = self.with_clause() if self.chance(0.12) else ""
        select = self.select(depth=2, exact=False)
        select = self.few_rows(select)
        if "set operation" not in self.used and select.rows and self.chance(0.04):
            return self.limited_freely(with_clause, select)
        tail = ""
        if self.chance(0.3):
            tail = self.order_and_limit(select, limit=0.6)
        loose = frozenset(index for index, output in enumerate(select.outputs) if output.digits == "loose")
        return Query(with_clause + select.sql + tail, None, None, bool(tail), loose, self.used)

    def limited_freely(self, with_clause: str, select: Select) -> Query:
        self.uses("limit without order")
        limit = self.rng.choice([0, 1, 5, 40])
        loose = frozenset(index for index, output in enumerate(select.outputs) if output.digits == "loose")
        return Query(f"{with_clause}{select.sql} LIMIT {limit}", with_clause + select.sql, limit, False, loose, self.used)

    def with_clause(self) -> str:
        self.uses("with")
        entries = []
        for _ in range(self.rng.randint(1, 2)):
            select = self.select(depth=1, exact=True, total=0.2)
            select = self.maybe_limited(select, 1.0 if select.rows > ROWS_SENT else 0.2)
            name = self.alias("w")
            hidden = self.common[0].alias if self.common and self.chance(0.4) else None
            if hidden is None or mentions(select.sql, hidden):
                entries.append(f"{name} AS ({select.sql})")
            else:
                self.uses("with hides with")
                entries.append(f"{name} AS (WITH {hidden} AS ({select.sql}) SELECT * FROM {hidden})")
            self.common.append(self.named(name, name, select))
        return f"WITH {', '.join(entries)} "

    def few_rows(self, select: Select) -> Select:
        """The SELECT itself, or what can be said of its many rows in one."""
        if select.rows <= ROWS_SENT:
            return select
        self.uses("counted")
        alias = self.alias("d")
        outputs = [Output("count(*)", "n", "int")]
        for index, output in enumerate(select.outputs):
            name = f"{alias}.{output.name}"
            outputs.append(Output(f"count({name})", f"n{index}", "int"))
            if output.type in ("int", "float"):
                outputs.append(Output(f"sum({name})", f"s{index}", output.type, output.digits))
            elif output.type in ("text", "date", "stamp", "id"):
                outputs.append(Output(f"max({name})", f"m{index}", output.type))
        return Select(f"SELECT {spell(outputs)} FROM ({select.sql}) {alias}", tuple(outputs), 1, ("n",), ())

    def order_and_limit(self, select: Select, limit: float) -> str:
        if not select.total_order:
            # One row, of values that may differ by rounding.
            return ""
        self.uses("order by")
        orders = self.rng.sample(select.orderable, min(len(select.orderable), self.rng.randint(0, 2)))
        terms = []
        for term in dict.fromkeys([*orders, *select.total_order]):
            terms.append(f"{term}{self.rng.choice(['', ' ASC', ' DESC', ' DESC'])} NULLS {self.rng.choice(['FIRST', 'LAST'])}")
        tail = f" ORDER BY {', '.join(terms)}"
        if self.chance(limit):
            self.uses("limit")
            alone, rows = self.chance(0.1), self.rng.choice([0, 1, 3, 10, 50, 200])
            offset = f" OFFSET {self.rng.choice([0, 1, 7, 100])}" if alone or self.chance(0.35) else ""
            self.uses("offset alone" if alone else "offset" if offset else "limit alone")
            if alone:
                tail += offset
            elif self.chance(0.15):
                self.uses("fetch first")
                tail += f"{offset}{' ROWS' if offset else ''} FETCH FIRST {rows} ROWS ONLY"
            else:
                tail += f" LIMIT {rows}{offset}"
        return tail

    def select(self, depth: int, exact: bool, types: Sequence[str] | None = None, total: float = 1.0) -> Select:
        """A SELECT of some kind. `exact` leaves out what may differ by rounding; `types` says which columns; `total`
        is how often an aggregate without groups is left as it is.
        """
        if types is None and self.chance(0.1) and depth > 0:
            return self.set_operation(depth)
        kind = self.rng.choices(["plain", "distinct", "window", "total", "grouped"], [40, 8, 12, 14, 26])[0]
        if types is not None and kind in ("window", "total"):
            kind = "plain"
        if kind == "total" and not self.chance(total):
            kind = "grouped"
        self.uses(kind)
        source = self.from_clause(depth)
        inner = self.scope(source, depth)
        where = f" WHERE {self.where(source, inner, depth)}" if self.chance(0.7) else ""
        rows = source.rows * (0.4 if where else 1)
        match kind:
            case "total":
                outputs = self.aggregates(inner, self.rng.randint(1, 4), exact)
                names = tuple(output.name for output in outputs if output.digits == "exact")
                return Select(f"SELECT {spell(outputs)} FROM {source.sql}{where}", tuple(outputs), 1, names, ())
            case "grouped":
                return self.grouped(source, inner, where, rows, exact, types)
        if kind == "window":
            outputs = self.plain_outputs(inner, self.rng.randint(1, 3), exact) + self.windows(source, inner)
        elif types is not None:
            outputs = [self.output(self.expressions.expression(inner, type, 1), type) for type in types]
        else:
            outputs = self.plain_outputs(inner, self.rng.randint(1, 5), exact or kind == "distinct", depth)
        if kind == "distinct":
            names = tuple(output.name for output in outputs)
            return Select(f"SELECT DISTINCT {spell(outputs)} FROM {source.sql}{where}", tuple(outputs), rows * 0.7, names, ())
        orderable = tuple(column.sql for column in source.columns)
        # What a window gives to rows that are there twice tells them apart.
        total = source.identity + (tuple(output.name for output in outputs if "OVER (" in output.sql) if kind == "window" else ())
        return Select(f"SELECT {spell(outputs)} FROM {source.sql}{where}", tuple(outputs), rows, total, orderable)

    def grouped(self, source: From, scope: Scope, where: str, rows: float, exact: bool, types: Sequence[str] | None) -> Select:
        if types is not None:
            keys = [self.output(self.group_key(scope, type), type) for type in types]
            aggregates = []
        else:
            some = [self.rng.choice(scope.columns).type for _ in range(self.rng.choice([1, 1, 2, 3]))]
            keys = [self.output(self.group_key(scope, type), type) for type in some]
            aggregates = self.aggregates(scope, self.rng.randint(0, 3), exact)
        distinct = {key.sql: key for key in keys}
        terms = list(distinct)
        if len(terms) > 1 and types is None and self.chance(0.12):
            how = self.rng.choice(["ROLLUP", "CUBE"])
            by = f"{how} ({', '.join(terms)})"
            # The same null key comes from the data and from the set: all outputs make the order total.
            total = tuple(output.name for output in (*keys, *aggregates) if output.digits == "exact")
            aggregates = [aggregate for aggregate in aggregates if aggregate.digits == "exact"]
        else:
            by = ", ".join(terms)
            if len(terms) == len(keys) and self.chance(0.15):
                by = ", ".join(str(index + 1) for index in range(len(keys)))
            total = tuple(key.name for key in keys)
        having = ""
        if self.chance(0.3):
            self.uses("having")
            having = f" HAVING {self.having(scope)}"
        outputs = (*keys, *aggregates)
        sql = f"SELECT {spell(outputs)} FROM {source.sql}{where} GROUP BY {by}{having}"
        orderable = tuple(output.name for output in outputs if output.digits == "exact")
        return Select(sql, outputs, min(rows, 1_500), total, orderable)

    def group_key(self, scope: Scope, type: str) -> str:
        """A column, or an expression that holds one: a bare number would mean a column's place."""
        column = self.expressions.column(scope, type)
        if column is not None and self.chance(0.7):
            return column.sql
        made = self.expressions.expression(scope, type, 1)
        if any(mentions(made, column.sql) for column in scope.columns):
            return made
        other = self.rng.choice(scope.columns)
        return f"CASE WHEN {other.sql} IS NULL THEN {self.expressions.literal(type)} ELSE {made} END"

    def having(self, scope: Scope) -> str:
        aggregate = self.aggregates(scope, 1, exact=True)[0]
        conditions = [f"count(*) {self.rng.choice(['>', '<', '=', '>='])} {self.rng.randint(1, 5)}"]
        if aggregate.type != "bool":
            conditions.append(f"{aggregate.sql} {self.rng.choice(['>', '<=', '<>'])} {self.expressions.literal(aggregate.type)}")
        conditions.append(f"{aggregate.sql} IS NOT NULL")
        return self.rng.choice([self.rng.choice(conditions), f"{conditions[0]} OR {conditions[-1]}"])

    def set_operation(self, depth: int) -> Select:
        types = [self.rng.choice(TYPES) for _ in range(self.rng.randint(1, 3))]
        branches = [self.select(depth - 1, exact=True, types=types) for _ in range(self.rng.choice([2, 2, 3]))]
        sql, rows = branches[0].sql, branches[0].rows
        for branch in branches[1:]:
            operation = self.rng.choices(list(SET_OPERATIONS), list(SET_OPERATIONS.values()))[0]
            self.uses(operation.lower())
            right = branch.sql
            if self.chance(0.15):
                right = f"({self.maybe_limited(branch, 1).sql})"
            sql = f"({sql}) {operation} ({right})" if "(" not in right[:1] else f"({sql}) {operation} {right}"
            rows += branch.rows
        self.uses("set operation")
        outputs = tuple(replace(output, sql=output.name) for output in branches[0].outputs)
        # Ordered by place: names of set operations are those of the first branch, in some systems of the last.
        order = tuple(str(index + 1) for index in range(len(outputs)))
        return Select(sql, outputs, rows, order, ())
