"""FROM of random queries: tables, sub-queries and entries of WITH, joined in all ways there are."""

from __future__ import annotations

from dataclasses import replace

from .random_expressions import Reference, Scope
from .random_shapes import Draws, From, Relation, Select
from .random_tables import DATABASES, IDENTITY, ROWS

#: A join of more rows than this is not made, nor one that has to look at so many pairs.
ROWS_JOINED = 60_000
PAIRS = 4_000_000
#: Names that two tables have for the same thing.
SHARED_NAMES = ("objectId", "band", "visit", "filterId")


class Sources(Draws):
    """Makes what a query reads."""

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
        if source.merged and self.chance(0.4):
            kind = "using"
        made = None
        again = bool(source.merged)
        if kind == "using" and ", " not in source.sql:
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
            if kind == "using" and not again:
                source.merged.clear()
            return
        self.uses(f"{how.lower()} on {kind}")
        if not condition.startswith("USING"):
            if self.chance(0.25):
                both = Scope(left + right.columns, right.positions())
                condition += f" AND {self.expressions.predicate(both, 1, subqueries=False)}"
                self.uses("condition in on")
            condition = f"ON {condition}"
        if again and condition.startswith("USING"):
            self.uses("using again")
        elif source.merged and how != "JOIN" and how != "LEFT JOIN":
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
        """USING of a name that one relation on the left has, or that USING merged before."""
        for merged in source.merged:
            column = right.find(merged.name)
            if column is None or column.type != merged.type:
                return None
            return "using", f"USING ({column.name})", max(merged.matching(column), 0.1)
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
