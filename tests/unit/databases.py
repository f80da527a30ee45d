"""A store of either kind for a test: a file of SQLite's, or a database of its own in a PostgreSQL of its module."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import psycopg

from cti.store import postgresql
from cti.store.opening import open_for_command
from cti.store.threaded import CommandStore
from lab.crm.postgresql import Postgres
from lab.ports import a_port

KINDS: Final = ("sqlite", "postgresql")
Place = Path | str

_COUNTER: Final = count(1)


@contextmanager
def a_cluster(directory: Path) -> Iterator[Postgres]:
    """A PostgreSQL whose database `pattern` has the schema, so that those made like it need not be migrated."""
    with a_port() as port, Postgres(directory, port=port) as running:
        with psycopg.connect(running.database("pattern"), autocommit=True) as connection:
            postgresql.migrate(connection)
        yield running


def a_database(running: Postgres) -> str:
    """The address of a new one."""
    return running.database(f"of_a_test_{next(_COUNTER)}", "pattern")


def a_command_store(place: Place, clock: Callable[[], float] = float) -> CommandStore:
    return open_for_command(place, destinations={}, clock=clock)
