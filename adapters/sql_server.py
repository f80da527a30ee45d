"""PostgreSQL and MariaDB or MySQL behind one blocking connection: asking, writing, checking, interrupting.

For one thread at a time, but for ``interrupt``. What is asked is left to ``sql``, when and in which thread to
``sql_pool``.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from typing import Any, Final, Protocol, cast

import psycopg
import pymysql
from attrs import frozen
from psycopg.rows import dict_row
from pymysql.constants import CLIENT, ER
from pymysql.cursors import SSDictCursor

from adapters.base import (
    AdapterAnswerError,
    AdapterDenied,
    AdapterError,
    AdapterTimeout,
    AdapterUnavailable,
)
from adapters.sql_text import Statement

Row = Mapping[str, Any]
Value = str | int | float | bool | datetime | None
Values = Mapping[str, Value]

#: How long it may take to be connected, and to tell a server that an answer is not wanted any more.
CONNECT_SECONDS: Final = 3
INTERRUPT_SECONDS: Final = 2
#: Characters of one answer, all rows together.
ANSWER_LIMIT: Final = 8_000_000


@frozen
class Access:
    """How a database is reached. ``tls``: the server's certificate is verified, by ``ca_file`` if there is one.

    ``host`` is the directory (PostgreSQL) or the file (MariaDB, MySQL) of a socket if it begins with ``/``.
    ``seconds``: after which the server itself gives a statement up. ``zone``: of times that name none.
    """

    host: str
    port: int
    database: str
    user: str
    password: str
    tls: bool
    ca_file: str | None
    seconds: float
    zone: str


class ConnectionLost(AdapterUnavailable):
    """The connection ended, or there is none; another one may do."""


class ValueRefused(AdapterAnswerError):
    """A value is none that the statement's place for it can take, such as a word where numbers are."""


class Connection(Protocol):
    """One connection. What it raises is an ``AdapterError``; ``usable`` says whether it may be used again."""

    usable: bool

    def rows(self, statement: Statement, values: Values, limit: int) -> Sequence[Row]:
        """What a statement answers that reads, and can do nothing else; more than ``limit`` rows are an error."""

    def writing(self) -> Any:
        """A context manager: a transaction in which ``write`` may be called, undone if anything is raised in it."""

    def write(self, statement: Statement, values: Values) -> tuple[Sequence[Row], int]:
        """The rows of the statement, if it has any, and how many it concerned."""

    def check(self, statement: Statement) -> None:
        """Let the server look at the statement without doing it; the error has its own words."""

    def interrupt(self) -> None:
        """From another thread: make the server stop what it does for this connection, and end it."""

    def close(self) -> None: ...


class PostgresConnection:
    """PostgreSQL, by psycopg; values travel apart from the statement."""

    def __init__(self, access: Access) -> None:
        """Connect. Raises ``AdapterError``."""
        self.usable = True
        verified: dict[str, Any] = {"sslmode": "disable"}
        if access.tls:
            # Also with the system's authorities libpq insists on the name.
            verified = {"sslmode": "verify-full", "sslrootcert": access.ca_file or "system"}
        with _postgres_errors(), _hiding(access.password):
            self._connection: psycopg.Connection[dict[str, Any]] = psycopg.connect(
                host=access.host,
                port=access.port,
                dbname=access.database,
                user=access.user,
                # An empty one would make libpq look into files of whoever runs the server.
                password=access.password or "-",
                passfile=os.devnull,
                connect_timeout=CONNECT_SECONDS,
                application_name="cordboard",
                autocommit=True,
                # Statements that stay prepared do not bear a pgbouncer between us.
                prepare_threshold=None,
                row_factory=dict_row,
                **verified,
            )
            for name, value in (
                ("statement_timeout", f"{access.seconds * 1000:.0f}"),
                ("TimeZone", access.zone),
                ("default_transaction_read_only", "on"),
            ):
                self._connection.execute("select set_config(%s, %s, false)", (name, value))
        self._line = _line(self._connection.fileno())

    def rows(self, statement: Statement, values: Values, limit: int) -> Sequence[Row]:
        with self._errors(), self._connection.cursor() as cursor:
            return _taken(cursor.stream(_for_psycopg(statement), values), limit)

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._errors(), self._connection.transaction():
            self._connection.execute("set transaction read write")
            yield

    def write(self, statement: Statement, values: Values) -> tuple[Sequence[Row], int]:
        with self._errors():
            cursor = self._connection.execute(_for_psycopg(statement), values)
            return (cursor.fetchall() if cursor.description else []), cursor.rowcount

    def check(self, statement: Statement) -> None:
        places = {name: f"${at}" for at, name in enumerate(dict.fromkeys(statement.pieces[1::2]), 1)}
        text = statement.rendered(lambda sql: sql, places.__getitem__)
        try:
            with self._errors():
                self._connection.execute(f"prepare cordboard_check as {text}".encode())
                self._connection.execute("deallocate cordboard_check")
        except AdapterError as error:
            cause = error.__cause__
            if isinstance(cause, psycopg.Error) and cause.diag.message_primary and self.usable:
                # No value was there that it could tell of.
                raise AdapterAnswerError(f"{cause.diag.message_primary} ({cause.sqlstate})") from cause
            raise

    def interrupt(self) -> None:
        self.usable = False
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=INTERRUPT_SECONDS)
        _end(self._line)

    def close(self) -> None:
        self._connection.close()
        self._line.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with _postgres_errors():
                yield
        except ConnectionLost:
            self.usable = False
            raise
        finally:
            if self._connection.closed or self._connection.broken:
                self.usable = False


class MysqlConnection:
    """MariaDB or MySQL, by PyMySQL. A value is written in hexadecimal, in which nothing can end it."""

    def __init__(self, access: Access) -> None:
        """Connect. Raises ``AdapterError``."""
        self.usable = True
        self._access = access
        with _mysql_errors(), _hiding(access.password):
            self._connection = self._connected(access.seconds + 2)
            with self._connection.cursor() as cursor:
                cursor.execute("select version()")
                ((version,),) = cast(Any, cursor.fetchall())
                if "MariaDB" in version:
                    cursor.execute("set session max_statement_time = %s", (access.seconds,))
                else:
                    cursor.execute("set session max_execution_time = %s", (int(access.seconds * 1000),))
                zone = "+00:00" if access.zone == "UTC" else access.zone
                cursor.execute("set session time_zone = %s", (zone,))
                cursor.execute("set session transaction read only")
        self._line = _line(cast(Any, self._connection)._sock.fileno())

    def _connected(self, seconds: float) -> pymysql.Connection[Any]:
        access = self._access
        local = access.host.startswith("/")
        tls = ssl.create_default_context(cafile=access.ca_file) if access.tls else None
        connection: pymysql.Connection[Any] = pymysql.connect(
            host=None if local else access.host,
            unix_socket=access.host if local else None,
            port=access.port,
            user=access.user,
            password=access.password,
            database=access.database,
            charset="utf8mb4",
            connect_timeout=CONNECT_SECONDS,
            # The server gives up first, and says so.
            read_timeout=seconds,
            write_timeout=seconds,
            autocommit=True,
            local_infile=False,
            # An UPDATE tells whom it found, not only whom it changed.
            client_flag=CLIENT.FOUND_ROWS,
            ssl=tls,
            ssl_disabled=tls is None,
        )
        return connection

    def rows(self, statement: Statement, values: Values, limit: int) -> Sequence[Row]:
        with self._errors():
            cursor = self._connection.cursor(SSDictCursor)
            try:
                cursor.execute(_for_mysql(statement, values))
                rows = _taken(cursor.fetchall_unbuffered(), limit)
            except BaseException as error:
                # The rest of the answer may still be on its way, and PyMySQL's objects would read all of it.
                self.usable = self.usable and not isinstance(error, AdapterAnswerError)
                cast(Any, cursor).connection = None
                if (rest := cast(Any, self._connection)._result) is not None:
                    rest.unbuffered_active = False
                raise
            cursor.close()
            return rows

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._errors():
            self._do("start transaction read write")
            try:
                yield
            except BaseException:
                if self.usable:
                    with suppress(pymysql.Error, OSError):
                        self._connection.rollback()
                raise
            self._connection.commit()

    def write(self, statement: Statement, values: Values) -> tuple[Sequence[Row], int]:
        with self._errors(), self._connection.cursor(SSDictCursor) as cursor:
            cursor.execute(_for_mysql(statement, values))
            rows: Sequence[Row] = list(cursor.fetchall()) if cursor.description else []
            return rows, cursor.rowcount

    def check(self, statement: Statement) -> None:
        text = statement.rendered(lambda sql: sql, lambda _: "?")
        try:
            # Where nothing may be written, nothing that writes can be prepared.
            with self.writing():
                self._do(f"set @cordboard_check = {_literal(text)}")
                self._do("prepare cordboard_check from @cordboard_check")
                self._do("deallocate prepare cordboard_check")
        except AdapterError as error:
            cause = error.__cause__
            if isinstance(cause, pymysql.Error) and len(cause.args) > 1 and self.usable:
                # No value was there that it could tell of.
                raise AdapterAnswerError(f"{cause.args[1]} ({cause.args[0]})") from cause
            raise

    def interrupt(self) -> None:
        self.usable = False
        with suppress(pymysql.Error, OSError):
            other = self._connected(INTERRUPT_SECONDS)
            with other.cursor() as cursor:
                cursor.execute(f"kill connection {cast(Any, self._connection).thread_id():d}")
            other.close()
        _end(self._line)

    def close(self) -> None:
        with suppress(pymysql.Error, OSError):
            if self.usable:
                self._connection.close()
            else:
                # No farewell, and nothing is read any more.
                cast(Any, self._connection)._force_close()
        self._line.close()

    def _do(self, text: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(text)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with _mysql_errors():
                yield
        except ConnectionLost:
            self.usable = False
            raise


def _taken(rows: Iterable[dict[str, Any]], limit: int) -> Sequence[Row]:
    """All rows, if they are not too many or too large; nobody can want everybody at once."""
    taken: list[Row] = []
    size = 0
    for row in rows:
        taken.append(row)
        size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row.values())
        if len(taken) > limit:
            raise AdapterAnswerError(
                f"answers more than {limit} rows; LIMIT :limit at its end would be right"
            )
        if size > ANSWER_LIMIT:
            raise AdapterAnswerError(f"answers more than {ANSWER_LIMIT} characters; ask for fewer columns")
    return taken


def _for_psycopg(statement: Statement) -> bytes:
    text = statement.rendered(lambda sql: sql.replace("%", "%%"), lambda name: f"%({name})s")
    return text.encode()


def _for_mysql(statement: Statement, values: Values) -> str:
    return statement.rendered(lambda sql: sql, lambda name: _literal(values[name]))


def _literal(value: Value) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return str(int(value))
        case int() | float():
            return repr(value)
        case datetime():
            return f"_utf8mb4 X'{value.isoformat(sep=' ').encode().hex()}'"
        case str():
            return f"_utf8mb4 X'{value.encode().hex()}'"


# The classes of SQLSTATE whose words tell of the statement and the server, and of no value in it.
_WITHOUT_VALUES: Final = ("08", "26", "28", "3D", "3F", "42", "53", "57", "58", "0A", "25", "55")
_DENIED_STATES: Final = ("28", "42501")


@contextmanager
def _postgres_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise AdapterTimeout("the database gave the statement up: it took too long") from error
    except psycopg.Error as error:
        state = error.sqlstate or ""
        words = error.diag.message_primary or ""
        if not state:
            # Not from the server: libpq's own, which tell of the way there. Another line for each address tried.
            raise ConnectionLost(" ".join(str(error).split())[:300]) from error
        if not state.startswith(_WITHOUT_VALUES):
            words = type(error).__name__
        if state.startswith(_DENIED_STATES):
            raise AdapterDenied(f"the database refuses: {words}") from error
        if state.startswith(("08", "57P", "53")):
            raise ConnectionLost(f"the database says: {words}") from error
        if state.startswith("22"):
            raise ValueRefused(f"the database cannot take a value: {words}") from error
        raise AdapterAnswerError(f"the database says: {words} ({state})") from error


_MYSQL_DENIED: Final = frozenset(
    {
        ER.ACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR,
        ER.TABLEACCESS_DENIED_ERROR,
        ER.COLUMNACCESS_DENIED_ERROR,
        ER.SPECIFIC_ACCESS_DENIED_ERROR,
    }
)
_MYSQL_WITHOUT_VALUES: Final = _MYSQL_DENIED | {
    ER.BAD_DB_ERROR,
    ER.BAD_FIELD_ERROR,
    ER.NO_SUCH_TABLE,
    ER.NON_UNIQ_ERROR,
    ER.UNKNOWN_TIME_ZONE,
    ER.SP_DOES_NOT_EXIST,
    # A statement that writes, among those that read.
    1792,
}
#: MariaDB's and MySQL's word that a statement took longer than it may.
_MYSQL_TIMEOUTS: Final = frozenset({1969, 3024, ER.QUERY_INTERRUPTED})
#: Shut down, killed, too many connections; and PyMySQL's own, from 2000 on.
_MYSQL_LOST: Final = frozenset({ER.CON_COUNT_ERROR, ER.SERVER_SHUTDOWN, ER.NORMAL_SHUTDOWN, 1927})


@contextmanager
def _mysql_errors() -> Iterator[None]:
    try:
        yield
    except pymysql.Error as error:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        words = str(error.args[1]) if len(error.args) > 1 else str(error)
        if code in _MYSQL_TIMEOUTS:
            raise AdapterTimeout("the database gave the statement up: it took too long") from error
        if code in _MYSQL_DENIED:
            raise AdapterDenied(f"the database refuses: {words}") from error
        if code in _MYSQL_LOST or 2000 <= code < 3000 or not code:
            timed_out = "timed out" in words
            if timed_out and code == 2013:
                raise AdapterTimeout("the database did not answer") from error
            raise ConnectionLost(words[:300] or "the connection ended") from error
        if code not in _MYSQL_WITHOUT_VALUES:
            words = type(error).__name__
        if isinstance(error, pymysql.DataError):
            raise ValueRefused(f"the database cannot take a value: {words} ({code})") from error
        raise AdapterAnswerError(f"the database says: {words} ({code})") from error
    except (OSError, EOFError) as error:
        raise ConnectionLost(f"the connection ended: {type(error).__name__}") from error


@contextmanager
def _hiding(password: str) -> Iterator[None]:
    """No server repeats a password; should one do, it is not passed on."""
    try:
        yield
    except AdapterError as error:
        if password and password in str(error):
            raise type(error)(str(error).replace(password, "…")) from None
        raise


def _line(number: int) -> socket.socket:
    """The connection's socket once more: it can be ended by another thread while the driver waits at it."""
    return socket.socket(fileno=os.dup(number))


def _end(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def zoneless(value: datetime | date, zone: Any) -> str:
    """A time as both servers read it, in the zone that the session has."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(zone).replace(tzinfo=None)
    return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
