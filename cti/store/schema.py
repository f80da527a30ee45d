"""Brings a database's schema up to date from the numbered `.sql` files in `migrations/`.

Not by yoyo-migrations: killed in the middle it leaves a lock row behind, and the next start waits 10 s and
then refuses until somebody runs a command of yoyo's; two starts at once waited 0.5 s for each other, and
importing it costs 0.15 to 0.4 s (measured). SQLite's own write lock and `PRAGMA user_version` need neither.
"""

import re
import sqlite3
from collections.abc import Iterator
from importlib.resources import files

from cti.store.base import StoreError


def migrations(database: str = "sqlite") -> list[tuple[int, str]]:
    """(version, SQL) of each migration of a database, in order; versions count from 1 without holes.

    `NNNN-name.sql` is what all databases understand; what only one does, and is done after that, stands in
    `NNNN-name.DATABASE.sql`.
    """
    found: dict[int, list[str]] = {}
    for entry in sorted(
        files("cti.store").joinpath("migrations").iterdir(),
        key=lambda each: (each.name.count("."), each.name),
    ):
        match = re.fullmatch(r"([0-9]{4})-[a-z-]+(?:\.([a-z]+))?\.sql", entry.name)
        if match and match[2] in (None, database):
            found.setdefault(int(match[1]), []).append(entry.read_text(encoding="utf-8"))
    return [(version, "\n".join(scripts)) for version, scripts in sorted(found.items())]


def statements(script: str) -> Iterator[str]:
    """The statements of an SQL script, one by one (`executescript` would commit before the first)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def migrate(connection: sqlite3.Connection, steps: list[tuple[int, str]] | None = None) -> None:
    """Apply what is missing, all of it or none. Of two processes at once, one waits for the other.

    `connection` is in autocommit mode. Raises `StoreError` for a database newer than this program, or one
    that is not ours; sqlite3's own errors pass through.
    """
    steps = migrations() if steps is None else steps
    newest = steps[-1][0]
    if _version(connection) == newest:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > newest:
            raise StoreError(too_new(version, newest))
        if version == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            raise StoreError("the file is another program's database: name one of its own in `store`")
        for number, script in steps:
            if number > version:
                for statement in statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def too_new(version: int, newest: int) -> str:
    """What is said of a schema that this program does not know."""
    return (
        f"the database has schema {version}, this program knows schemas up to {newest}:"
        " run the version of Cordboard that wrote it, or a newer one"
    )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
