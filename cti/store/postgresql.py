"""The store on PostgreSQL, for several servers that share the work: connections that never keep anybody for long.

Whoever writes locks the one row of the table `store` first, so events are numbered in the order of the commits, and
nobody sees a number before a lesser one. Each transaction also notes its own number under its writer's name
(`writers`): when a connection is lost just as COMMIT was sent, that tells whether it came through.

By psycopg, each connection used by one thread at a time. Small reads are made in the reactor: a question takes some
tenths of a millisecond, and after `ANSWER_SECONDS` without an answer the connection is closed and for a while no
other is tried, so a database that hangs costs the reactor that long now and then, and no more.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any, Final

import psycopg
from psycopg import errors

from cti.store.address import NO_ADDRESS, is_address, without_password
from cti.store.appender import LAST_SEQ, Appender, Written
from cti.store.base import Destinations, StoreError
from cti.store.queries import EVENTS_BETWEEN, Reader, event_of
from cti.store.records import StoredEvent
from cti.store.rows import Execute, Row
from cti.store.schema import migrations, too_new
from cti.store.threaded import CommandStore, ThreadedStore

CONNECT_SECONDS: Final = 5
#: How long the reactor waits for a small read.
ANSWER_SECONDS: Final = 0.1
#: How long threads wait for a page of the log, and the writer for a statement. Half of it the server takes at most.
PAGE_SECONDS: Final = 20.0
WRITE_SECONDS: Final = 5.0
#: An index over a log of years takes its time, and so does waiting for another server that makes it.
MIGRATE_SECONDS: Final = 6 * 3600.0
#: How long after a failure no connection is tried again.
LEFT_ALONE: Final = 1.0
#: For how long it is asked whether a transaction came through whose COMMIT was not answered; and how often.
DOUBT_SECONDS: Final = 5.0
_DOUBT_PAUSE: Final = 0.2
#: Writers that have not written for so long are forgotten.
_WRITERS_KEPT: Final = 90 * 86_400.0
#: What every migration waits for: any number that nobody else uses.
_LOCK: Final = 0x63746953
#: Held by the server that leads.
_LEADER: Final = 0x6374694C

_LOST: Final = (psycopg.OperationalError, psycopg.InterfaceError)
# Of these kinds, but a single statement's own.
_ASKED_TOO_MUCH: Final = (errors.QueryCanceled, errors.LockNotAvailable)
_OTHERS: Final = "SELECT COALESCE(SUM(number), 0) FROM writers WHERE writer <> ?"
_NOTE: Final = (
    "INSERT INTO writers (writer, number, at) VALUES (?, ?, ?)"
    " ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at"
)
_NOTED: Final = "SELECT number FROM writers WHERE writer = ?"


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """Waits for the server for `limit` seconds at most, whatever it is asked."""

    limit: float = WRITE_SECONDS

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        return super().wait(gen, min(interval, self.limit), self.limit if timeout is None else timeout)


def connect(url: str, limit: float) -> _Connection:
    """A connection in autocommit mode. Raises psycopg's errors, and `StoreError` for what is no address."""
    if not is_address(url):
        raise StoreError(f"what `store` names {NO_ADDRESS}")
    connection = _Connection.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        application_name="cordboard",
        options=f"-c statement_timeout={int(limit * 500)} -c lock_timeout={int(limit * 500)}"
        f" -c idle_in_transaction_session_timeout={int(limit * 2000)} -c client_encoding=UTF8"
        # The other side notices, too, that we are gone without a word, and gives our locks to others.
        " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=int(limit * 1000),
    )
    connection.limit = limit
    return connection


def _explain(url: str, error: Exception) -> str:
    """What is wrong, on one line. libpq's texts name host, user and database, and no password of an address."""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    where = without_password(url)
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable) or "wait timeout" in said:
        return f"the database {where} has not answered in time"
    if isinstance(error, errors.DiskFull):
        return f"the disk of the database {where} is full"
    if isinstance(error, errors.InsufficientPrivilege):
        return f"the database {where} allows too little: {said}; its user has to own the schema"
    if isinstance(error, _LOST):
        return f"the database {where} cannot be reached: {said}"
    return f"the database {where} failed: {said}"


_TEXTS: dict[str, str] = {}


def _text(sql: str) -> str:
    """A statement with the marks for parameters that psycopg has."""
    text = _TEXTS.get(sql)
    if text is None:
        text = _TEXTS[sql] = sql.replace("%", "%%").replace("?", "%s")
    return text


def _values(row: Row) -> list[Any]:
    """Parameters as PostgreSQL takes them: no NUL in a text, and no yes or no for a number."""
    return [
        value.replace("\0", "")
        if isinstance(value, str) and "\0" in value
        else int(value)
        if isinstance(value, bool)
        else value
        for value in row
    ]


def migrate(connection: psycopg.Connection[Any], steps: list[tuple[int, str]] | None = None) -> None:
    """Apply what is missing, all of it or none. Of two processes at once, one waits for the other.

    Raises `StoreError` for a database newer than this program, or one that is not ours; psycopg's own errors pass
    through.
    """
    steps = migrations("postgresql") if steps is None else steps
    newest = steps[-1][0]
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        # Making tables for a log of years takes longer than a call may.
        connection.execute("SET LOCAL statement_timeout = 0")
        tables = {
            name
            for (name,) in connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
            )
        }
        if "schema_version" not in tables:
            if tables:
                raise StoreError("there are another program's tables: name a database of its own in `store`")
            connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO schema_version VALUES (0)")
        ((version,),) = connection.execute("SELECT version FROM schema_version").fetchall()
        if version > newest:
            raise StoreError(too_new(version, newest))
        for number, script in steps:
            if number > version:
                # Whole: without parameters, a text may hold many statements.
                connection.execute(script.encode())
                connection.execute("UPDATE schema_version SET version = %s", (number,))


class PostgresWriter(Appender):
    """The one appender of a process, on PostgreSQL. Makes its connection anew when it is lost."""

    unit_faults = (
        psycopg.DataError,
        psycopg.IntegrityError,
        psycopg.ProgrammingError,
        psycopg.NotSupportedError,
        OverflowError,
    )

    def __init__(self, url: str, destinations: Destinations, clock: Callable[[], float]) -> None:
        """Raises `StoreError`."""
        super().__init__(destinations, clock)
        self._url = url
        self._name = secrets.token_hex(8)
        self._number = 0
        self._left_alone_until = 0.0
        self._why = ""
        self._connection: _Connection | None = None
        # The one that holds the leader's lock, which goes with it.
        self._leading: _Connection | None = None
        try:
            with connect(url, MIGRATE_SECONDS) as connection:
                migrate(connection)
            execute = self._execute
            execute(
                "INSERT INTO store (one, id, last_seq) VALUES (1, ?, 0) ON CONFLICT (one) DO NOTHING",
                (secrets.token_hex(8),),
            )
            execute("DELETE FROM writers WHERE at < ?", (clock() - _WRITERS_KEPT,))
            # Behind the row that every writer locks: the database may be about to commit what a process has left that
            # was killed a moment ago, and whoever starts now has to find it.
            stands = execute("SELECT id, last_seq FROM store FOR UPDATE", ()).fetchone()
            self._store_id, self._seen = stands or ("", 0)
            self._others = self._of_others()
        except psycopg.Error as error:
            self.close()
            raise StoreError(_explain(url, error)) from error
        except StoreError as error:
            self.close()
            raise StoreError(f"{without_password(url)}: {error}") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def explain(self, error: Exception) -> str:
        if isinstance(error, psycopg.Error):
            return _explain(self._url, error)
        return str(error) if isinstance(error, StoreError) else repr(error)

    def told(self, error: Exception) -> str:
        # Without the line that shows the record: it holds names and numbers.
        return str(error).partition("\n")[0]

    def _execute(self, sql: str, row: Row) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connected().execute(_text(sql), _values(row))

    def _connected(self) -> _Connection:
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        if time.monotonic() < self._left_alone_until:
            raise psycopg.OperationalError(self._why)
        try:
            connection = self._connection = connect(self._url, WRITE_SECONDS)
        except psycopg.Error as error:
            self._left_alone_until = time.monotonic() + LEFT_ALONE
            self._why = str(error)
            raise
        return connection

    def _lost(self) -> None:
        """Whatever the server does with the connection, it is not ours any more."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def leads(self) -> bool:
        try:
            connection = self._connected()
            if self._leading is not connection:
                has_it = self._one(self._execute, "SELECT pg_try_advisory_lock(?)", (_LEADER,))
                self._leading = connection if has_it else None
        except psycopg.Error:
            self._lost()
            return False
        return self._leading is connection

    def _of_others(self) -> int:
        """A number that grows with each transaction of anybody else."""
        return int(self._one(self._execute, _OTHERS, (self._name,)))

    def foreign(self) -> Sequence[StoredEvent] | None:
        try:
            others = self._of_others()
            if others == self._others:
                return None
            last = self._one(self._execute, LAST_SEQ)
            events = self._events(self._seen, last)
        except psycopg.Error:
            self._lost()
            return None  # The next write meets the same trouble and tells somebody who waits for it.
        self._others, self._seen = others, last
        return events

    def probe(self) -> str | None:
        try:
            self._execute("UPDATE store SET last_seq = last_seq", ())
        except psycopg.Error as error:
            self._lost()
            return self.explain(error)
        return None

    def _within(self, work: Callable[[Execute], Written]) -> Written:
        try:
            return self._tried(work)
        except _ASKED_TOO_MUCH:
            raise
        except _LOST:
            # It may have been lost long ago, as when the database was restarted: once more, with a new one.
            self._lost()
            return self._tried(work)

    def _tried(self, work: Callable[[Execute], Written]) -> Written:
        """Raises psycopg's errors for what is not in the database, `StoreError` where nobody knows that."""
        execute = self._execute
        # Never one that was used before: what has come through of an earlier try must not speak for this one.
        self._number += 1
        written: Written | None = None
        try:
            execute("BEGIN", ())
            execute("SELECT last_seq FROM store FOR UPDATE", ())
            written = work(execute)
            execute(_NOTE, (self._name, self._number, self._clock()))
            execute("COMMIT", ())
        except _LOST:
            self._lost()
            if written is None or not self._came_through():
                raise
        except BaseException:
            self._roll_back()
            raise
        return written

    def _came_through(self) -> bool:
        """Whether the transaction is in whose COMMIT was not answered. Raises `StoreError` if that is not found out.

        It is asked behind the row that every writer locks: the database may be about to commit it yet.
        """
        until = time.monotonic() + DOUBT_SECONDS
        while True:
            try:
                self._execute("BEGIN", ())
                self._execute("SELECT last_seq FROM store FOR UPDATE", ())
                noted = self._execute(_NOTED, (self._name,)).fetchone()
                self._roll_back()
                return noted is not None and noted[0] == self._number
            except psycopg.Error as error:
                self._lost()
                if time.monotonic() >= until:
                    raise StoreError(
                        f"it is not known whether this was written: {self.explain(error)}"
                    ) from error
            time.sleep(_DOUBT_PAUSE)

    def _roll_back(self) -> None:
        try:
            self._execute("ROLLBACK", ())
        except psycopg.Error:
            self._lost()

    def _one(self, execute: Execute, sql: str, row: Row = ()) -> Any:
        found = self._execute(sql, row).fetchone()
        assert found is not None
        return found[0]

    def _events(self, after: int, last: int) -> list[StoredEvent]:
        return [event_of(row) for row in self._execute(EVENTS_BETWEEN, (after, last))]


class PostgresReader(Reader):
    """All reads, over a connection that is made when it is needed, and that gives up after `limit` seconds."""

    def __init__(self, url: str, limit: float) -> None:
        self._url = url
        self._limit = limit
        self._there: _Connection | None = None
        self._left_alone_until = 0.0
        self._why = ""
        self._connecting = False
        self._closed = False

    def open(self) -> None:
        """Connect now. Raises `StoreError`."""
        try:
            self._there = connect(self._url, self._limit)
        except psycopg.Error as error:
            raise StoreError(_explain(self._url, error)) from error

    def version(self) -> int:
        """Of the schema; 0 where there is none."""
        if not self._all(
            "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_version'"
        ):
            return 0
        version: int = self._all("SELECT version FROM schema_version")[0][0]
        return version

    def close(self) -> None:
        self._closed = True
        if self._there is not None:
            self._there.close()

    def interrupt(self) -> None:
        connection = self._there
        if connection is not None and not connection.closed:
            connection.cancel()

    def _all(self, sql: str, parameters: Row = ()) -> list[Any]:
        connection = self._there
        fresh = connection is None or connection.closed
        if connection is None or connection.closed:
            connection = self._again()
        try:
            return connection.execute(_text(sql), _values(parameters)).fetchall()
        except psycopg.Error as error:
            in_time = "wait timeout" not in str(error)
            if isinstance(error, _LOST) or not in_time:
                connection.close()
                if self._limit <= ANSWER_SECONDS:
                    self._connect_soon()
                elif in_time and not fresh and not isinstance(error, _ASKED_TOO_MUCH):
                    # It may have been lost long ago, as when the database was restarted.
                    return self._all(sql, parameters)
                self._leave_alone(error)
            raise StoreError(_explain(self._url, error)) from error

    def hurry(self) -> None:
        """From now on the reactor asks, beside all that it does."""
        self._limit = ANSWER_SECONDS
        if self._there is not None:
            self._there.limit = ANSWER_SECONDS

    def _again(self) -> _Connection:
        """A new connection, but not within the second after one that failed."""
        if time.monotonic() < self._left_alone_until or self._closed:
            raise StoreError(self._why or "the store is not running")
        if self._limit > ANSWER_SECONDS:
            try:
                self.open()
            except StoreError as error:
                self._leave_alone(error)
                raise
            assert self._there is not None
            return self._there
        self._connect_soon()
        raise StoreError(f"the database {without_password(self._url)} is being connected to")

    def _connect_soon(self) -> None:
        """Who may not wait has the connection made by a thread."""
        if not self._connecting and not self._closed:
            self._connecting = True
            Thread(target=self._connect_aside, name="cti-store-connect", daemon=True).start()

    def _connect_aside(self) -> None:
        try:
            self.open()
            if self._closed:
                self.close()
        except StoreError as error:
            self._leave_alone(error)
        finally:
            self._connecting = False

    def _leave_alone(self, error: Exception) -> None:
        self._left_alone_until = time.monotonic() + LEFT_ALONE
        self._why = str(error) if isinstance(error, StoreError) else _explain(self._url, error)


class PostgresStore(ThreadedStore):
    """`IStore` in one PostgreSQL database, which other servers may write to, too."""

    @property
    def place(self) -> str:
        return without_password(self._place)

    def _open_writer(self) -> Appender:
        return PostgresWriter(self._place, self._destinations, self._clock)

    def _open_reader(self, *, at_once: bool) -> Reader:
        reader = PostgresReader(self._place, PAGE_SECONDS)
        reader.open()
        if at_once:
            # What a server reads when it starts keeps nobody yet.
            self._reactor.callLater(0, reader.hurry)
        return reader


def open_postgres_for_reading(url: str) -> Reader | None:
    """None while nobody has made the tables. Raises `StoreError`, also for a schema that is not this program's."""
    reader = PostgresReader(url, PAGE_SECONDS)
    reader.open()
    try:
        version = reader.version()
        newest = migrations("postgresql")[-1][0]
        if version > newest:
            raise StoreError(f"{without_password(url)}: {too_new(version, newest)}")
        if 0 < version < newest:
            raise StoreError(
                f"{without_password(url)}: the database has schema {version}, this program {newest};"
                " `cti migrate` brings it up to date"
            )
    except BaseException:
        reader.close()
        raise
    if not version:
        reader.close()
        return None
    return reader


def vacuum(url: str, tables: Sequence[str], *, whole: bool) -> None:
    """Take what was deleted out of these tables; `whole`: write them anew, which locks each. Raises `StoreError`."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
            for table in tables:
                connection.execute(f"VACUUM {'(FULL)' if whole else ''} {table}".encode())
    except psycopg.Error as error:
        raise StoreError(_explain(url, error)) from error


def schema_of_postgres(url: str) -> int:
    """The number of the schema, 0 where there is none yet. Raises `StoreError`."""
    reader = PostgresReader(url, PAGE_SECONDS)
    reader.open()
    try:
        return reader.version()
    finally:
        reader.close()


def open_postgres_for_command(
    url: str, *, destinations: Destinations, clock: Callable[[], float]
) -> CommandStore:
    """Open the database without a reactor, its schema made or brought up to date. Raises `StoreError`."""
    writer = PostgresWriter(url, destinations, clock)
    return CommandStore(PostgresReader(url, PAGE_SECONDS), writer)
