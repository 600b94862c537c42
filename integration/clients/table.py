"""docs/clients.md: what each client can do, as the tests have it. `python -m clients.table` writes it anew."""

from __future__ import annotations

from pathlib import Path

from skyflight_testing.settings import PROJECT

from .client import CAPABILITIES
from .registry import CLIENTS

PAGE = PROJECT / "docs" / "clients.md"

HEAD = """\
# What each client can do

Written by `python -m clients.table` in `integration/` from the tests in `integration/clients`, which do each of
these with each client that has a "yes" and compare every answer. A number stands where one cannot; the
reasons are below.
"""

#: What people of a client should know; each is shown by a test.
NOTES = {
    "adbc": "Connect with `autocommit=True`: there are no transactions, and without it the driver warns.",
    "dbapi": "Needs SQLAlchemy 1.4. Dates and NULLs come as pandas has them (`Timestamp`, `nan`).",
    "jdbc": (
        "Needs `--add-opens=java.base/java.nio=ALL-UNNAMED`. It reads no "
        "unsigned integers, so it is given the next wider signed type, and DECIMAL(20, 0) for 64 bits. A Statement's result without rows names its columns twice, "
        "a PreparedStatement's does not. With `catalog` in the URL this driver's `Connection.close` closes the "
        "session twice and reports `Channel shutdown invoked`. `supportsFullOuterJoins` and `supportsConvert(from, to)` "
        "are false whatever a server says."
    ),
    "pandas": (
        "`read_sql(sql, connection)` with a connection of ADBC. `to_sql` looks for the table before it appends or "
        "replaces: give it the database by its own name, `user_<name>`, not as `mydb`."
    ),
    "polars": "`read_database(sql, connection)` with a connection of ADBC.",
    "duckdb": "`duckdb.sql(\"SELECT … FROM reader\")` over a reader of pyarrow.flight.",
}


def page() -> str:
    """The page's text."""
    reasons: list[str] = []

    def cell(client: str, capability: str) -> str:
        reason = CLIENTS[client].cannot.get(capability)
        if reason is None:
            return "yes"
        if reason not in reasons:
            reasons.append(reason)
        return f"– ({reasons.index(reason) + 1})"

    rows = [["", *CLIENTS], ["---"] * (len(CLIENTS) + 1)]
    rows += [[title, *(cell(client, name) for client in CLIENTS)] for name, title in CAPABILITIES.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    why = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
    about = "\n".join(
        f"- **{name}**: {client.title}." + (f" {NOTES[name]}" if name in NOTES else "") for name, client in CLIENTS.items()
    )
    return f"{HEAD}\n{table}\n\n{why}\n\n## The clients\n\n{about}\n"


def write(path: Path = PAGE) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(page())


if __name__ == "__main__":
    write()
