"""The store on SQLite: one file, flushed at each commit (`synchronous=FULL`).

What a unit holds is said in `cti.store.rows`, what can be asked in `cti.store.queries`.
"""

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from cti.store.appender import LAST_SEQ, Appender, Written
from cti.store.base import (
    Destinations,
    StoreError,
)
from cti.store.queries import EVENTS_BETWEEN, Reader, event_of
from cti.store.records import (
    StoredEvent,
)
from cti.store.rows import (
    Execute,
)
from cti.store.schema import migrate
from cti.store.threaded import CommandStore, ThreadedStore

BUSY_SECONDS = 2.0  # how long a lock of another process (the command line) is waited for


def connect(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode to a database that may be written to.

    A database that is not there is made, readable by its owner only. Raises `StoreError`.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"cannot make the database {path}: {error.strerror}") from error
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            _enter_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            # What is deleted is to be gone from the file, too.
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise StoreError(_explain(path, error)) from error
    return connection


def _enter_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for its lock here, and two processes may start on a new database at once.
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _explain(path: str, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"the database {path} has been locked by another process for more than {BUSY_SECONDS:g} s"
    if code == sqlite3.SQLITE_FULL:
        return f"the disk that holds {path} is full"
    if code == sqlite3.SQLITE_NOTADB:
        return f"{path} is not a database: name another file in `store`"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"the database {path} cannot be written to ({error}): check who owns it and its directory"
    return f"the database {path} failed: {error}"


class Writer(Appender):
    """The one appender of a process, on SQLite."""

    unit_faults = (
        sqlite3.IntegrityError,
        sqlite3.DataError,
        sqlite3.InterfaceError,
        sqlite3.ProgrammingError,
        OverflowError,
    )

    def __init__(self, path: str, destinations: Destinations, clock: Callable[[], float]) -> None:
        super().__init__(destinations, clock)
        self._path = path
        self._connection = connect(path)
        try:
            migrate(self._connection)
            self._connection.execute(
                "INSERT INTO store (one, id, last_seq) VALUES (1, ?, 0) ON CONFLICT (one) DO NOTHING",
                (secrets.token_hex(8),),
            )
            self._store_id, self._seen = self._connection.execute("SELECT id, last_seq FROM store").fetchone()
            self._version = self._data_version()
        except sqlite3.Error as error:
            self._connection.close()
            raise StoreError(_explain(path, error)) from error
        except StoreError as error:
            self._connection.close()
            raise StoreError(f"{path}: {error}") from error

    def close(self) -> None:
        self._connection.close()

    def explain(self, error: Exception) -> str:
        return _explain(self._path, error) if isinstance(error, sqlite3.Error) else repr(error)

    def _data_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def foreign(self) -> Sequence[StoredEvent] | None:
        """As `Appender.foreign`.

        SQLite changes a connection's `data_version` only when another connection commits, and nobody else
        in this process writes: that is why it is this connection that asks.
        """
        try:
            version = self._data_version()
            if version == self._version:
                return None
            self._version = version
            (last,) = self._connection.execute(LAST_SEQ).fetchone()
            events = self._events(self._seen, last)
            self._seen = last
            return events
        except sqlite3.Error:
            return None  # The next write meets the same trouble and tells somebody who waits for it.

    def probe(self) -> str | None:
        """Write something that changes nothing; what kept it from being written, if anything did."""
        try:
            # One statement is one transaction here, and is flushed to the disk as any other.
            self._connection.execute("UPDATE store SET last_seq = last_seq")
        except sqlite3.Error as error:
            return _explain(self._path, error)
        return None

    def _within(self, work: Callable[[Execute], Written]) -> Written:
        execute = self._connection.cursor().execute
        execute("BEGIN IMMEDIATE")
        try:
            written = work(execute)
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return written

    def _one(self, _execute: Execute, sql: str) -> Any:
        return self._connection.execute(sql).fetchone()[0]

    def _events(self, after: int, last: int) -> list[StoredEvent]:
        return [event_of(row) for row in self._connection.execute(EVENTS_BETWEEN, (after, last))]


class SqliteStore(ThreadedStore):
    """`IStore` in one file."""

    def _open_writer(self) -> Appender:
        return Writer(self._place, self._destinations, self._clock)

    def _open_reader(self, *, at_once: bool) -> Reader:
        return _reader(self._place)


def open_store_for_command(
    path: str | os.PathLike[str], *, destinations: Destinations, clock: Callable[[], float]
) -> CommandStore:
    """Open (or make) the database without a reactor. Raises `StoreError`."""
    writer = Writer(os.fspath(path), destinations, clock)
    try:
        return CommandStore(_reader(os.fspath(path)), writer)
    except BaseException:
        writer.close()
        raise


def _reader(path: str) -> Reader:
    connection = connect(path)
    try:
        connection.execute("PRAGMA query_only = ON")
        return Reader(connection)
    except BaseException:
        connection.close()
        raise
