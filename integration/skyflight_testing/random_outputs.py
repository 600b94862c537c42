"""What random queries give: columns, aggregates and windows."""

from __future__ import annotations

from .random_expressions import TYPES, Scope
from .random_shapes import Draws, From, Output, mentions


class Outputs(Draws):
    """Makes the columns of a SELECT."""

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
            elif depth > 0 and self.chance(0.4):
                self.uses("sub-query predicate as a value")
                outputs.append(self.output(f"({self.subquery_predicate(scope, False)})", "bool"))
            elif depth > 0:
                sql, type = self.scalar_subquery(scope)
                outputs.append(self.output(sql, type))
            else:
                outputs.append(self.output(f"({self.expressions.predicate(scope, 1, subqueries=False)})", "bool"))
        return outputs

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
