"""Opens the store that the configuration names: a file of SQLite's, or the address of a PostgreSQL database.

PostgreSQL's code is loaded where it is used.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from cti.store.base import Destinations, IClaims, IStore, StoreError
from cti.store.queries import Reader
from cti.store.sqlite import BUSY_SECONDS, SqliteStore, open_store_for_command
from cti.store.threaded import CommandStore, FromThread, ThreadedStore

#: A file, or `postgresql://USER:PASSWORD@HOST/DATABASE`.
Place = Path | str


def open_store(
    place: Place,
    *,
    reactor: FromThread,
    destinations: Destinations,
    clock: Callable[[], float],
    observe_commit: Callable[[float], object],
) -> IStore:
    """The store for a server, not started yet."""
    kind: type[ThreadedStore] = SqliteStore
    if isinstance(place, str):
        from cti.store.postgresql import PostgresStore

        kind = PostgresStore
    return kind(place, reactor=reactor, destinations=destinations, clock=clock, observe_commit=observe_commit)


def open_claims(place: Place, reactor: Any) -> IClaims | None:
    """Who of several servers holds an agent; None for a store that has one server."""
    if not isinstance(place, str):
        return None
    from cti.store.claims import Claims

    return Claims(place, reactor)


def open_for_command(place: Place, *, destinations: Destinations, clock: Callable[[], float]) -> CommandStore:
    """Without a reactor, made if it is not there. Raises `StoreError`."""
    if isinstance(place, str):
        from cti.store.postgresql import open_postgres_for_command

        return open_postgres_for_command(place, destinations=destinations, clock=clock)
    return open_store_for_command(place, destinations=destinations, clock=clock)


def open_for_reading(place: Place) -> Reader | None:
    """To read only: it is not made, nor its schema changed. None if there is none yet. Raises `StoreError`."""
    if isinstance(place, str):
        from cti.store.postgresql import open_postgres_for_reading

        return open_postgres_for_reading(place)
    return _open_file(place)


def _open_file(path: Path) -> Reader | None:
    try:
        if path.stat().st_size == 0:
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the database {path} cannot be read: {error.strerror}") from error
    try:
        # rw, because a reader of a write-ahead log takes part in its locking; ro where that is not allowed.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
    except sqlite3.Error as error:
        raise StoreError(f"the database {path} cannot be opened: {error}") from error
    try:
        connection.execute("PRAGMA query_only = ON")
        return Reader(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error | StoreError):
            raise StoreError(f"{path}: {error}") from error
        raise


def schema_of(place: Place) -> int:
    """The number of its schema, 0 where there is none yet. Raises `StoreError`."""
    if isinstance(place, str):
        from cti.store.postgresql import schema_of_postgres

        return schema_of_postgres(place)
    if not place.exists():
        return 0
    try:
        with closing(sqlite3.connect(place, timeout=BUSY_SECONDS)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"the database {place} cannot be read: {error}") from error
    return int(version)
