"""Random queries that have one right answer, whichever system gives it. The same seed gives the same query.

A query of the generator is made of relations (tables, sub-queries, entries of WITH) joined in all ways there are, and
a SELECT over them: plain, DISTINCT, with windows, aggregated, grouped, or a set operation. Where an order matters
(LIMIT, windows by row) it is total: it ends in the columns that name a row of every relation.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .random_expressions import TYPES, Expressions, Reference, Scope
from .random_tables import DATABASES, IDENTITY, ROWS, Survey

#: More rows than this are not sent, but counted.
ROWS_SENT = 4_000
#: A join of more rows than this is not made, nor one that has to look at so many pairs.
ROWS_JOINED = 60_000
PAIRS = 4_000_000
#: With how often they are made.
SET_OPERATIONS = {"UNION ALL": 30, "UNION": 25, "INTERSECT": 20, "EXCEPT": 20, "INTERSECT ALL": 3, "EXCEPT ALL": 3}
#: Names that two tables have for the same thing.
SHARED_NAMES = ("objectId", "band", "visit", "filterId")


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
        if self.message is None or error is None:
            return self.message is None and error is None
        return re.search(self.message, error) is not None


#: Defects that are still there: an entry goes when its defect does.
KNOWN_FAILURES = [
    KnownFailure(
        None,
        "a CAST has the name of what it casts, so max(CAST(a AS …)) and max(a) clash where the planner rewrites a projection; "
        "so do the two uses of z in x IN (SELECT DISTINCT y AS z …) OR …",
        "Projections require unique expression names|Schema contains duplicate unqualified field name",
    ),
    KnownFailure("intersect all", "DataFusion's semi join does not count, so it is refused", "INTERSECT ALL is not supported"),
    KnownFailure("except all", "DataFusion's anti join does not count, so it is refused", "EXCEPT ALL is not supported"),
    KnownFailure(
        "offset alone in a sub-query",
        "(SELECT … ORDER BY a OFFSET n) without LIMIT: the planner would drop the sort and keep the offset, so it is refused",
        "ORDER BY with OFFSET and without LIMIT is not supported",
    ),
    KnownFailure(
        "using",
        "a column merged by a right or full join cannot be merged again: the planner would compare the first table's",
        "the column is already .* of a right or full join",
    ),
    KnownFailure(
        "window",
        "PARTITION BY a comparison of a function, such as abs(x) < 7: its order is not recognized",
        r"does not satisfy order requirements|message: Plan: \[",
    ),
]


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


def random_query(survey: Survey, seed: int, number: int) -> Query:
    """Query `number` of the sequence of this seed."""
    return Generator(survey, random.Random(f"{seed} query {number}")).query()


class Generator:
    """Makes one query."""

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

    # The query as a whole.

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
            entries.append(f"{name} AS ({select.sql})")
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
            alone = self.chance(0.05)
            tail += "" if alone else f" LIMIT {self.rng.choice([0, 1, 3, 10, 50, 200])}"
            if alone:
                self.uses("offset alone in a sub-query")
            if alone or self.chance(0.35):
                self.uses("offset")
                tail += f" OFFSET {self.rng.choice([0, 1, 7, 100])}"
        return tail

    # SELECT.

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

    def output(self, sql: str, type: str, digits: str = "exact") -> Output:
        return Output(sql, self.alias("c"), type, digits)

    def plain_outputs(self, scope: Scope, count: int, exact: bool, depth: int = 0) -> list[Output]:
        outputs: list[Output] = []
        for _ in range(count):
            kind = self.rng.random()
            if kind < 0.5:
                column = self.rng.choice(scope.columns)
                bare = column.name and not any(output.name.lower() == column.name.lower() for output in outputs)
                outputs.append(Output(column.sql, column.name, column.type) if bare else self.output(column.sql, column.type))
            elif kind < 0.88 or (exact and kind < 0.95):
                type = self.rng.choice(TYPES)
                outputs.append(self.output(self.expressions.expression(scope, type), type))
            elif kind < 0.95:
                outputs.append(self.output(self.expressions.rounded(scope), "float", "rounded"))
            elif depth > 0:
                sql, type = self.scalar_subquery(scope)
                outputs.append(self.output(sql, type))
            else:
                outputs.append(self.output(f"({self.expressions.predicate(scope, 1, subqueries=False)})", "bool"))
        return outputs

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

    def aggregates(self, scope: Scope, count: int, exact: bool) -> list[Output]:
        return [self.aggregate(scope, exact) for _ in range(count)]

    def aggregate(self, scope: Scope, exact: bool) -> Output:
        rng, make = self.rng, self.expressions
        any_type = rng.choice(scope.columns).type
        plain = "bool" if any_type == "bool" else any_type
        digits = "exact"
        kind = rng.choices(
            ["count(*)", "count", "distinct", "sum", "extreme", "avg", "spread", "sum distinct", "median", "bool", "list"],
            [18, 12, 12, 16, 20, 10, 8, 4, 3, 4, 3],
        )[0]
        if exact and kind in ("avg", "spread"):
            kind = "sum"
        self.uses(f"aggregate {kind}")
        number = rng.choice(["int", "float"])
        match kind:
            case "count(*)":
                sql, type = "count(*)", "int"
            case "count":
                sql, type = f"count({make.expression(scope, plain, 1)})", "int"
            case "distinct":
                sql, type = f"count(DISTINCT {make.expression(scope, plain, 1)})", "int"
            case "sum":
                sql, type = f"sum({make.expression(scope, number, 1)})", number
            case "sum distinct":
                sql, type = f"sum(DISTINCT {make.expression(scope, number, 1)})", number
            case "avg":
                sql, type, digits = f"avg({make.expression(scope, number, 1)})", "float", "rounded"
            case "median":
                sql, type = f"median({make.expression(scope, 'float', 1)})", "float"
            case "spread":
                name = rng.choice(["stddev_samp", "stddev_pop", "var_samp", "var_pop"])
                sql, type, digits = f"{name}(CAST({make.expression(scope, number, 0)} AS DOUBLE))", "float", "loose"
            case "bool":
                sql, type = f"{rng.choice(['bool_and', 'bool_or'])}({make.expression(scope, 'bool', 1)})", "bool"
            case "list":
                text = make.expression(scope, "text", 0)
                sql, type = f"string_agg({text}, ',' ORDER BY {text})", "text"
                if not any(mentions(text, column.sql) for column in scope.columns):
                    sql = "count(*)"
                    type = "int"
            case _:
                type = any_type if any_type != "bool" else "int"
                sql = f"{rng.choice(['min', 'max'])}({make.expression(scope, type, 1)})"
        if self.chance(0.12):
            self.uses("filter")
            sql += f" FILTER (WHERE {make.predicate(scope, 1, subqueries=False)})"
        return self.output(sql, type, digits)

    def windows(self, source: From, scope: Scope) -> list[Output]:
        """Window functions whose values do not depend on how ties are broken."""
        make, rng = self.expressions, self.rng
        outputs = []
        by_row = False
        for _ in range(rng.randint(1, 2)):
            by = rng.choice(scope.columns)
            partition = f"PARTITION BY {make.expression(scope, by.type, 1) if self.chance(0.2) else by.sql} " if self.chance(0.8) else ""
            some = rng.choice(scope.columns)
            loosely = f"ORDER BY {some.sql} {rng.choice(['ASC', 'DESC'])} NULLS {rng.choice(['FIRST', 'LAST'])}"
            totally = f"{loosely}, " + ", ".join(f"{name} NULLS LAST" for name in source.identity)
            type = rng.choice(["int", "float"])
            number = make.expression(scope, type, 1)
            value = rng.choice(scope.columns)
            frame = rng.choice([
                "", " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
                " ROWS BETWEEN 1 FOLLOWING AND 3 FOLLOWING", " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            ])  # fmt: skip
            functions = [
                ("row_number()", totally, "int"),
                ("rank()", loosely, "int"),
                ("dense_rank()", loosely, "int"),
                (f"ntile({rng.randint(1, 5)})", totally, "int"),
                (f"sum({number})", "", type),
                (f"sum({number})", loosely, type),
                (f"sum({number})", totally + frame, type),
                ("count(*)", loosely, "int"),
                (f"count({value.sql})", totally + frame, "int"),
                (f"max({number})", totally + frame, type),
                (f"min({number})", "", type),
                (f"lag({value.sql}{rng.choice(['', ', 2'])})", totally, value.type),
                (f"lead({value.sql})", totally, value.type),
                (f"first_value({value.sql})", totally, value.type),
                (f"last_value({value.sql})", totally + frame, value.type),
            ]  # fmt: skip
            # Of rows that are there twice, two windows could each number another one first.
            function, over, of = rng.choice([one for one in functions if not (by_row and one[1].startswith(totally))])
            by_row |= over.startswith(totally)
            outputs.append(self.output(f"{function} OVER ({partition}{over})", of))
        return outputs

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

    # FROM.

    def scope(self, source: From, depth: int) -> Scope:
        positions = [pair for relation in source.relations for pair in relation.positions()]
        subquery = self.subquery_predicate if depth > 0 else None
        return Scope(source.columns, positions, subquery)

    def where(self, source: From, scope: Scope, depth: int) -> str:
        return self.expressions.predicate(scope, self.rng.randint(0, 3), subqueries=depth > 0)

    def from_clause(self, depth: int) -> From:
        first = self.relation(depth)
        source = From(first.sql, [first], first.rows)
        for _ in range(self.rng.choices([0, 1, 2, 3], [38, 42, 16, 4])[0]):
            self.join(source, self.relation(depth))
        return source

    def relation(self, depth: int) -> Relation:
        kind = self.rng.random()
        if self.common and kind < 0.4:
            entry = self.rng.choice(self.common)
            self.uses("with entry")
            alias = self.alias()
            return self.renamed(entry, f"{entry.sql} {alias}", alias)
        if depth > 0 and kind > 0.86:
            self.uses("derived table")
            select = self.maybe_limited(self.select(depth - 1, exact=True, total=0.2))
            alias = self.alias("d")
            return self.named(f"({select.sql}) {alias}", alias, select)
        names = ["Object", "Source", "ForcedSource", "Filter", "Alert"]
        return self.table(self.rng.choices(names, [36, 36, 16, 10, 2])[0])

    def table(self, name: str) -> Relation:
        alias = self.alias()
        # Now and then a table of another database, cut otherwise.
        database = self.rng.choice(sorted(DATABASES)) if self.chance(0.04) else self.database
        if database != self.database:
            self.uses("another database")
        columns = [
            Reference(f"{alias}.{column.name}", column.type, column.literals, alias, column.name, column.shares)
            for column in self.survey.columns[name]
        ]
        return Relation(f"{database}.{name} {alias}", alias, columns, IDENTITY[name], ROWS[name], name)

    def named(self, sql: str, alias: str, select: Select) -> Relation:
        if select.rows == 1:
            self.uses("total in from")
        columns = [Reference(f"{alias}.{output.name}", output.type, (), alias, output.name) for output in select.outputs]
        return Relation(sql, alias, columns, tuple(output.name for output in select.outputs), select.rows)

    def renamed(self, relation: Relation, sql: str, alias: str) -> Relation:
        columns = [replace(column, sql=f"{alias}.{column.name}", alias=alias) for column in relation.columns]
        return replace(relation, sql=sql, alias=alias, columns=columns)

    def maybe_limited(self, select: Select, probability: float = 0.2) -> Select:
        """The SELECT, or its first rows in a total order."""
        if not self.chance(probability):
            return select
        self.uses("limit in a sub-query")
        return replace(select, sql=select.sql + self.order_and_limit(select, limit=1.0), rows=min(select.rows, 200))

    def join(self, source: From, right: Relation) -> None:
        """Adds a relation to the joined ones, where it does not make too many rows."""
        how = self.rng.choices(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"], [46, 26, 12, 10, 6])[0]
        pairs = source.rows * right.rows
        if how == "CROSS JOIN" and pairs < 12_000:
            self.uses("cross join")
            comma = self.chance(0.5)
            source.sql += f", {right.sql}" if comma and "JOIN" not in source.sql else f" CROSS JOIN {right.sql}"
            source.relations.append(right)
            source.rows = pairs
            return
        how = "JOIN" if how == "CROSS JOIN" else how
        # What came by a comma binds less than JOIN: its columns cannot be named in ON.
        left = [column for column in source.columns if ", " not in source.sql or column.alias == source.relations[-1].alias]
        left = [column for column in left if column.alias or right.find(column.name) is None]
        kind = self.rng.choices(["key", "using", "equal", "unequal", "near"], [55, 10, 22, 8, 5])[0]
        made = None
        if kind == "using" and not source.merged and ", " not in source.sql:
            made = self.using(source, right, how)
        elif kind == "near":
            made = self.near(source, right, how)
        elif kind == "unequal" and how in ("JOIN", "LEFT JOIN"):
            made = self.unequal(left, right)
        if made is None:
            made = (self.key(left, right) if kind != "equal" else None) or self.equal(left, right)
        if made is None:
            return
        kind, condition, matching = made
        # Rows of the heavy hitters come again at the next join.
        rows = pairs * matching * min(len(source.relations), 2)
        if rows > ROWS_JOINED or (kind in ("inequality", "nearness") and pairs > PAIRS):
            if kind == "using":
                source.merged.clear()
            return
        self.uses(f"{how.lower()} on {kind}")
        if not condition.startswith("USING"):
            if self.chance(0.25):
                both = Scope(left + right.columns, right.positions())
                condition += f" AND {self.expressions.predicate(both, 1, subqueries=False)}"
                self.uses("condition in on")
            condition = f"ON {condition}"
        if source.merged and how != "JOIN" and how != "LEFT JOIN":
            how = "LEFT JOIN"
        source.sql += f" {how} {right.sql} {condition}"
        source.relations.append(right)
        if condition.startswith("USING"):
            self.uses("using")
            if self.nested:
                self.uses("using in a sub-query")
        # With a third column of the name, the bare name is ambiguous.
        source.merged = [column for column in source.merged if condition.startswith("USING") or right.find(column.name) is None]
        source.rows = max(rows, source.rows, right.rows)

    def key(self, left: list[Reference], right: Relation) -> tuple[str, str, float] | None:
        theirs = right.find("objectId")
        ours = [column for column in left if column.name == "objectId"]
        if theirs is None or not ours:
            return None
        mine = self.rng.choice(ours)
        sides = [mine.sql, theirs.sql]
        self.rng.shuffle(sides)
        return "the key", f"{sides[0]} = {sides[1]}", mine.matching(theirs)

    def equal(self, left: list[Reference], right: Relation) -> tuple[str, str, float] | None:
        """Any two columns of one type, or expressions of them."""
        theirs = self.rng.choice(right.columns)
        ours = [column for column in left if column.type == theirs.type]
        if not ours:
            return None
        mine = self.rng.choice(ours)
        matching = mine.matching(theirs)
        sides = [mine.sql, theirs.sql]
        if self.chance(0.15):
            sides[0], matching = self.expressions.expression(Scope([mine]), mine.type, 1), max(matching, 0.3)
        return "any columns", f"{sides[0]} = {sides[1]}", matching

    def unequal(self, left: list[Reference], right: Relation) -> tuple[str, str, float] | None:
        theirs = self.rng.choice([column for column in right.columns if column.type != "bool"] or right.columns)
        ours = [column for column in left if column.type == theirs.type]
        if not ours:
            return None
        return "inequality", f"{self.rng.choice(ours).sql} {self.rng.choice(['<', '>=', '<>'])} {theirs.sql}", 0.6

    def near(self, source: From, right: Relation, how: str) -> tuple[str, str, float] | None:
        ours = [pair for relation in source.relations for pair in relation.positions()]
        if not ours or not right.positions() or ", " in source.sql or how not in ("JOIN", "LEFT JOIN") or source.rows > 1_500:
            return None
        (ra, dec), (other_ra, other_dec) = self.rng.choice(ours), right.positions()[0]
        radius = self.rng.choice([0.0012345, 0.0456789, 0.3456789])
        return "nearness", f"separation({ra.sql}, {dec.sql}, {other_ra.sql}, {other_dec.sql}) < {radius}", 0.03

    def using(self, source: From, right: Relation, how: str) -> tuple[str, str, float] | None:
        """USING of a name that one relation on the left has."""
        names = [column.name for column in source.columns]
        shared = [column for column in right.columns if names.count(column.name) == 1 and column.name in SHARED_NAMES]
        if not shared:
            return None
        column = self.rng.choice(shared)
        mine = next(other for other in source.columns if other.name == column.name)
        if mine.type != column.type:
            return None
        source.merged.append(replace(column, sql=column.name, alias="", literals=mine.literals or column.literals))
        return "using", f"USING ({column.name})", mine.matching(column)

    # Sub-queries in expressions.

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
        kind = self.rng.choices(["exists", "in", "correlated in", "scalar", "correlated scalar"], [34, 30, 8, 18, 10])[0]
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


def mentions(sql: str, column: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(column)}(?!\w)", sql) is not None


def spell(outputs: Sequence[Output]) -> str:
    return ", ".join(output.spelled for output in outputs)
