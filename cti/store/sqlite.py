"""The store on SQLite: one thread writes what the reactor hands it, many units to a transaction.

A commit's cost is the flush to the disk (`synchronous=FULL`), so units that arrive during one commit share
the next. Small reads are answered in the reactor, pages of the log by threads. What a unit holds is said in
`cti.store.rows`, what can be asked in `cti.store.queries`.
"""

import os
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Protocol, TypeVar

from attrs import field, frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from cti.store.base import CallbackFilter, CallDetail, CallFilter, StoreError, StoreFull, Unit
from cti.store.queries import Reader, events_between
from cti.store.records import (
    AgentRecord,
    AskedOnce,
    AuditRecord,
    CallbackRecord,
    CallRecord,
    ChoiceRecord,
    Delivery,
    GapRecord,
    Json,
    ListedNumber,
    NewcomerRecord,
    ReservationRecord,
    SessionRecord,
    StoredEvent,
    TokenRecord,
    UserRecord,
    WrapUpRecord,
)
from cti.store.rows import Execute, Row, RowUnit, Statement, alone, inserting, json_text, run_in_groups
from cti.store.schema import migrate

T = TypeVar("T")

BUSY_SECONDS = 2.0  # how long a lock of another process (the command line) is waited for
POLL_SECONDS = 0.25  # how soon a change by another process is noticed
LARGEST_GROUP = 500  # units to a transaction: about 50 ms of writing, so that nobody waits for a huge one
WAITING_UNITS = 20_000
STUCK_SECONDS = 2.0  # a unit that waits for longer says that the disk does not write
PROBE_SECONDS = 1.0  # how soon it is noticed, without anybody's unit, that writing works again
WAITING_READS = 200
READ_THREADS = 2
# A commit of one unit costs four times what a unit adds to a commit of several. So while units come one upon the
# other, within `BUSY_SECONDS_APART` of the last commit, the first waits a moment for those behind it. A caller
# waits for that too, so it begins only where commits would fill most of the time, and is short.
BUSY_SECONDS_APART = 0.002
GATHER_SECONDS = 0.002
# How long a unit that nobody waits for is kept for others. A call has one that a caller waits for, and five or six
# others: together they are a third of the transactions, and the caller's never queues behind another's.
LEISURE_SECONDS = 0.02

# What a single unit can be at fault for; anything else is the database's trouble, and so everybody's.
_UNIT_FAULTS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
)

_LAST_SEQ = "SELECT last_seq FROM store"
_SET_LAST_SEQ = "UPDATE store SET last_seq = ?"
_ADD_EVENT = inserting("events", ["seq", "type", "at", "call", "agents", "body"])
_ADD_EVENT_AGENT = inserting("event_agents", ["agent", "seq"])
_ADD_DELIVERY = inserting("outbox", ["destination", "seq", "lane", "key", "state", "created", "attempts"])
# Behind another one of its lane, a delivery has no due time until that one is done: then `_RELEASE` gives it.
_FIRST_OF_LANE = (
    "UPDATE outbox SET due = created WHERE seq > ? AND state = 'waiting' AND NOT EXISTS"
    " (SELECT 1 FROM outbox AS earlier WHERE earlier.destination = outbox.destination"
    " AND earlier.lane = outbox.lane AND earlier.state = 'waiting' AND earlier.id < outbox.id)"
)
_DONE = alone(
    "outbox",
    "UPDATE outbox SET state = ?, finished = ?, due = NULL, attempts = attempts + 1,"
    " error = COALESCE(?, error) WHERE id = ? AND state = 'waiting'",
)
_RELEASE = alone(
    "outbox",
    "UPDATE outbox SET due = ? WHERE due IS NULL AND id ="
    " (SELECT MIN(waits.id) FROM outbox AS waits JOIN outbox AS done"
    " ON waits.destination = done.destination AND waits.lane = done.lane"
    " WHERE done.id = ? AND waits.state = 'waiting')",
)
_AGAIN = alone(
    "outbox",
    "UPDATE outbox SET due = ?, attempts = attempts + 1, error = ? WHERE id = ? AND state = 'waiting'",
)

Destinations = Mapping[str, frozenset[str]]


class FromThread(Protocol):
    """Of a reactor, what threads need to report back; and its clock."""

    def callFromThread(self, call: Callable[..., Any], /, *args: Any, **keywords: Any) -> Any: ...

    def callLater(self, delay: float, call: Callable[..., Any], /) -> Any: ...


#: A unit on its way, and who hears of it.
_Waiting = tuple[RowUnit, "Deferred[Sequence[StoredEvent]]"]


@frozen
class Written:
    """What became of a group of units: all new events in commit order, and each unit's own or its error.

    `fault` is the database's trouble, if it was not a unit's own.
    """

    events: Sequence[StoredEvent]
    outcomes: Sequence[Sequence[StoredEvent] | StoreError]
    fault: str | None = None


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


class Writer:
    """The one appender: turns units into transactions. Used by one thread at a time; knows no reactor."""

    def __init__(self, path: str, destinations: Destinations, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
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
        subscribers: dict[str, list[str]] = {}
        for destination, types in destinations.items():
            for type in types:
                subscribers.setdefault(type, []).append(destination)
        self._subscribers = subscribers

    def close(self) -> None:
        self._connection.close()

    def _data_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def foreign(self) -> Sequence[StoredEvent] | None:
        """None when nobody else has written since the last time; else the events written by others.

        SQLite changes a connection's `data_version` only when another connection commits, and nobody else
        in this process writes: that is why it is this connection that asks.
        """
        try:
            version = self._data_version()
            if version == self._version:
                return None
            self._version = version
            (last,) = self._connection.execute(_LAST_SEQ).fetchone()
            events = events_between(self._connection, self._seen, last)
            self._seen = last
            return events
        except sqlite3.Error:
            return None  # The next write meets the same trouble and tells somebody who waits for it.

    def write(self, units: Sequence[RowUnit]) -> Written:
        """Make `units` durable in one transaction, except those that are at fault themselves."""
        try:
            try:
                return self._transaction(units, one_by_one=False)
            except _UNIT_FAULTS:
                # Savepoints cost every unit two statements, so they are used only once something is wrong.
                return self._transaction(units, one_by_one=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits is told and the thread lives
            text = _explain(self._path, error) if isinstance(error, sqlite3.Error) else repr(error)
            return Written([], [StoreError(text) for _ in units], text)

    def probe(self) -> str | None:
        """Write something that changes nothing; what kept it from being written, if anything did."""
        try:
            # One statement is one transaction here, and is flushed to the disk as any other.
            self._connection.execute("UPDATE store SET last_seq = last_seq")
        except sqlite3.Error as error:
            return _explain(self._path, error)
        return None

    def _transaction(self, units: Sequence[RowUnit], *, one_by_one: bool) -> Written:
        execute = self._connection.cursor().execute
        execute("BEGIN IMMEDIATE")
        try:
            (before,) = execute(_LAST_SEQ).fetchone()
            news = events_between(self._connection, self._seen, before) if before != self._seen else []
            now = self._clock()
            last = before
            outcomes: list[Sequence[StoredEvent] | StoreError] = []
            if not one_by_one:
                outcomes += self._apply(execute, units, last, now)
                last += sum(len(unit.events) for unit in units)
            else:
                for unit in units:
                    execute("SAVEPOINT unit")
                    try:
                        outcomes += self._apply(execute, [unit], last, now)
                        last += len(unit.events)
                    except _UNIT_FAULTS as error:
                        execute("ROLLBACK TO unit")
                        outcomes.append(StoreError(f"the database refused the record: {error}"))
                    execute("RELEASE unit")
            if last != before:
                execute(_SET_LAST_SEQ, (last,))
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._seen = last
        for outcome in outcomes:
            if not isinstance(outcome, StoreError):
                news += outcome
        return Written(news, outcomes)

    def _apply(
        self, execute: Execute, units: Sequence[RowUnit], last: int, now: float
    ) -> list[Sequence[StoredEvent]]:
        rows: list[tuple[Statement, Row]] = []
        outcomes: list[Sequence[StoredEvent]] = []
        before, deliveries = last, False
        for unit in units:
            rows += unit.rows
            events = []
            for draft in unit.events:
                last += 1
                agents = json_text(draft.agents) if draft.agents else None
                rows.append(
                    (_ADD_EVENT, (last, draft.type, draft.at, draft.call, agents, draft.body.decode()))
                )
                rows += [(_ADD_EVENT_AGENT, (agent, last)) for agent in dict.fromkeys(draft.agents)]
                for destination in self._subscribers.get(draft.type, ()):
                    deliveries = True
                    lane = draft.call or agents or ""
                    key = f"{draft.call or self._store_id}.{last}"
                    rows.append((_ADD_DELIVERY, (destination, last, lane, key, "waiting", now, 0)))
                events.append(draft.numbered(last))
            outcomes.append(events)
        run_in_groups(execute, rows)
        if deliveries:
            execute(_FIRST_OF_LANE, (before,))
        return outcomes


class SqliteStore:
    """`IStore` in one file.

    `destinations` says which types of event each destination of the outbox gets, `clock` gives seconds since
    the epoch and is asked in the writing thread too, `observe_commit` gets for each unit the seconds from `commit`
    until it was durable.

    An event's idempotency key is `CALL.SEQ`, or `STORE.SEQ` for one without a call, STORE being random and
    made with the database: two databases never give out the same key for different events.
    """

    _log = Logger()

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        reactor: FromThread,
        destinations: Destinations,
        clock: Callable[[], float],
        max_waiting: int = WAITING_UNITS,
        observe_commit: Callable[[float], object] | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._reactor = reactor
        self._destinations = destinations
        self._clock = clock
        self._max_waiting = max_waiting
        self._observe_commit = observe_commit
        self._listeners: list[Callable[[Sequence[StoredEvent]], None]] = []
        self._foreign_listeners: list[Callable[[], None]] = []
        # Each entry: units, and whether somebody waits for the last of them.
        self._queue: SimpleQueue[tuple[list[_Waiting], bool] | None] = SimpleQueue()
        self._kept: list[_Waiting] = []
        self._kept_until_later = False
        # When each unit was handed in that is not written yet, in order (monotonic).
        self._handed_in: deque[float] = deque()
        self._fault: str | None = None
        self._reading = 0
        self._idle_readers: SimpleQueue[Reader] = SimpleQueue()
        self._readers: list[Reader] = []
        self._pool = ThreadPool(0, READ_THREADS, "cti-store-read")
        self._open = False
        self._stopped: Deferred[None] = Deferred()

    def start(self) -> None:
        if self._open:
            raise StoreError("the store has been started already")
        writer = Writer(self._path, self._destinations, self._clock)
        try:
            for _ in range(1 + READ_THREADS):
                self._readers.append(_reader(self._path))
        except BaseException:
            for reader in self._readers:
                reader.close()
            writer.close()
            raise
        self._read, *others = self._readers
        for reader in others:
            self._idle_readers.put(reader)
        self._pool.start()
        # A daemon thread, so that a process whose reactor died can end.
        self._thread = Thread(target=self._run, args=(writer,), name="cti-store-write", daemon=True)
        self._open = True
        self._thread.start()

    def stop(self) -> "Deferred[None]":
        if not self._open:
            return defer.succeed(None)
        self._open = False
        self._hand_over(hurried=True)
        self._queue.put(None)
        return self._stopped

    def _close(self) -> None:
        self._thread.join()
        for reader in self._readers:
            reader.interrupt()
        self._pool.stop()
        for reader in self._readers:
            reader.close()
        self._stopped.callback(None)

    def unit(self) -> Unit:
        return RowUnit()

    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]":
        assert isinstance(unit, RowUnit)
        if not self._open:
            return defer.fail(StoreError("the store is not running"))
        waiting = len(self._handed_in)
        if waiting >= self._max_waiting:
            return defer.fail(
                StoreFull(f"{waiting} units wait to be written to {self._path}: the disk is too slow")
            )
        self._handed_in.append(time.monotonic())
        done: Deferred[Sequence[StoredEvent]] = Deferred()
        self._kept.append((unit, done))
        if not at_leisure:
            self._hand_over(hurried=True)
        elif not self._kept_until_later:
            self._kept_until_later = True
            self._reactor.callLater(LEISURE_SECONDS, self._leisure_is_over)
        return done

    def _leisure_is_over(self) -> None:
        self._kept_until_later = False
        self._hand_over(hurried=False)

    def _hand_over(self, *, hurried: bool) -> None:
        if self._kept:
            kept, self._kept = self._kept, []
            self._queue.put((kept, hurried))

    def writing(self) -> str | None:
        if not self._open:
            return "the store is not running"
        if self._fault is not None:
            return self._fault
        waits = time.monotonic() - self._handed_in[0] if self._handed_in else 0.0
        if waits > STUCK_SECONDS:
            return f"a unit has waited for {waits:.1f} s to be written to {self._path}"
        return None

    def on_events(self, listener: Callable[[Sequence[StoredEvent]], None]) -> None:
        self._listeners.append(listener)

    def on_foreign_change(self, listener: Callable[[], None]) -> None:
        self._foreign_listeners.append(listener)

    # In the writing thread.

    def _run(self, writer: Writer) -> None:
        from_thread = self._reactor.callFromThread
        polled = time.monotonic()
        wrote = probed = 0.0
        fault: str | None = None
        running = True
        while running:
            group, hurried, running = self._take(wrote + BUSY_SECONDS_APART)
            if group:
                written = writer.write([unit for unit, _ in group])
                probed = time.monotonic()
                wrote = probed if hurried else wrote
                fault = written.fault
                from_thread(self._deliver, written, [done for _, done in group], probed, hurried)
            elif fault is not None and running and time.monotonic() - probed >= PROBE_SECONDS:
                fault = writer.probe()
                probed = time.monotonic()
                from_thread(self._probed, fault)
            if running and time.monotonic() - polled >= POLL_SECONDS:
                polled = time.monotonic()
                events = writer.foreign()
                if events is not None:
                    from_thread(self._foreign_change, events)
        writer.close()
        # Behind those whom `_deliver` still has to tell.
        from_thread(from_thread, self._close)

    def _take(self, busy_until: float) -> tuple[list[_Waiting], bool, bool]:
        """What waits, at least for a moment; whether somebody waits for it; and whether more may come."""
        group: list[_Waiting] = []
        hurried = False
        try:
            entry = self._queue.get(timeout=POLL_SECONDS)
            if entry is not None and time.monotonic() < busy_until:
                time.sleep(GATHER_SECONDS)
            while entry is not None:
                group += entry[0]
                hurried = hurried or entry[1]
                if len(group) >= LARGEST_GROUP:
                    return group, hurried, True
                entry = self._queue.get_nowait()
        except Empty:
            return group, hurried, True
        return group, hurried, False

    # In the reactor again.

    def _deliver(
        self,
        written: Written,
        waiting: "Sequence[Deferred[Sequence[StoredEvent]]]",
        at: float,
        hurried: bool,
    ) -> None:
        self._fault = written.fault
        handed_in = [self._handed_in.popleft() for _ in waiting]
        self._tell(written.events)
        if not hurried:
            self._settle(written, waiting, handed_in, at)
            return
        # In the next turn of the reactor, when what the listeners wrote has left: of the sockets that can be written
        # to, the kernel names the one first that was read from last, and that may be the one of who waits here.
        self._reactor.callFromThread(self._settle, written, waiting, handed_in, at)

    def _settle(
        self,
        written: Written,
        waiting: "Sequence[Deferred[Sequence[StoredEvent]]]",
        handed_in: Sequence[float],
        at: float,
    ) -> None:
        for done, outcome in zip(waiting, written.outcomes, strict=True):
            if isinstance(outcome, StoreError):
                done.errback(outcome)
            else:
                done.callback(outcome)
        if self._observe_commit is not None:
            for since, outcome in zip(handed_in, written.outcomes, strict=True):
                if not isinstance(outcome, StoreError):
                    self._observe_commit(at - since)

    def _probed(self, fault: str | None) -> None:
        self._fault = fault

    def _foreign_change(self, events: Sequence[StoredEvent]) -> None:
        for listener in self._foreign_listeners:
            with self._log.failuresHandled("a listener to foreign changes failed"):
                listener()
        self._tell(events)

    def _tell(self, events: Sequence[StoredEvent]) -> None:
        if events:
            for listener in self._listeners:
                with self._log.failuresHandled("a listener to events failed"):
                    listener(events)

    # Reading.

    def agents(self) -> Sequence[AgentRecord]:
        return self._read.agents()

    def reservations(self) -> Sequence[ReservationRecord]:
        return self._read.reservations()

    def tokens(self) -> Sequence[TokenRecord]:
        return self._read.tokens()

    def token(self, digest: str) -> TokenRecord | None:
        return self._read.token(digest)

    def asked_once(self, who: str, key: str) -> AskedOnce | None:
        return self._read.asked_once(who, key)

    def users(self) -> Sequence[UserRecord]:
        return self._read.users()

    def user(self, name: str) -> UserRecord | None:
        return self._read.user(name)

    def session(self, digest: str) -> tuple[SessionRecord, UserRecord] | None:
        return self._read.session(digest)

    def key(self, name: str) -> str | None:
        return self._read.key(name)

    def audit(
        self, who: str | None, object: str | None, limit: int, before: int | None
    ) -> "Deferred[tuple[Sequence[tuple[int, AuditRecord]], int | None]]":
        return self._in_thread(lambda reader: reader.audit(who, object, limit, before))

    def heard(self, pbx: str) -> float | None:
        return self._read.heard(pbx)

    def listed_numbers(self) -> Sequence[ListedNumber]:
        return self._read.listed_numbers()

    def chosen_for(self, number: str) -> Sequence[ChoiceRecord]:
        return self._read.chosen_for(number)

    def spoken_with(self, number: str) -> Sequence[Json]:
        return self._read.spoken_with(number)

    def waiting_newcomers(self, limit: int) -> Sequence[NewcomerRecord]:
        return self._read.waiting_newcomers(limit)

    def wrap_ups(self) -> Sequence[tuple[WrapUpRecord, CallDetail | None]]:
        return [(record, self._read.call(record.call)) for record in self._read.wrap_ups()]

    def count_unwritten(self, agent: str) -> int:
        return self._read.count_unwritten(agent)

    def unwritten(
        self, agent: str, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallDetail], str | None]]":
        return self._in_thread(lambda reader: reader.unwritten(agent, limit, after))

    def open_callbacks(self) -> Sequence[CallbackRecord]:
        return self._read.open_callbacks()

    def callbacks(
        self, where: CallbackFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallbackRecord], str | None]]":
        return self._in_thread(lambda reader: reader.callbacks(where, limit, after))

    def callback(self, id: str) -> CallbackRecord | None:
        return self._read.callback(id)

    def open_calls(self) -> Sequence[CallDetail]:
        return self._read.open_calls()

    def call_by_channel(self, pbx: str, uniqueid: str) -> str | None:
        return self._read.call_by_channel(pbx, uniqueid)

    def calls(
        self, where: CallFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallRecord], str | None]]":
        return self._in_thread(lambda reader: reader.calls(where, limit, after))

    def call(self, id: str) -> "Deferred[CallDetail | None]":
        return self._in_thread(lambda reader: reader.call(id))

    def _in_thread(self, question: Callable[[Reader], T]) -> "Deferred[T]":
        if not self._open:
            return defer.fail(StoreError("the store is not running"))
        if self._reading >= WAITING_READS:
            return defer.fail(StoreFull(f"{self._reading} reads of the log wait already: try again later"))

        def ask() -> T:
            reader = self._idle_readers.get()
            try:
                return question(reader)
            finally:
                self._idle_readers.put(reader)

        def asked(answer: Any) -> Any:
            self._reading -= 1
            return answer

        self._reading += 1
        # Of a reactor it uses only `callFromThread`, which a type checker cannot read off a zope interface.
        return deferToThreadPool(self._reactor, self._pool, ask).addBoth(asked)  # type: ignore[arg-type]

    def gaps(
        self, since: float | None, until: float | None, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[GapRecord], str | None]]":
        return self._in_thread(lambda reader: reader.gaps(since, until, limit, after))

    def events_after(self, seq: int, limit: int, agent: str | None = None) -> Sequence[StoredEvent]:
        return self._read.events_after(seq, limit, agent)

    def event_range(self) -> tuple[int, int]:
        return self._read.event_range()

    # The outbox.

    def due(self, destination: str, now: float, limit: int) -> Sequence[Delivery]:
        return self._read.due(destination, now, limit)

    def next_due(self, destination: str, now: float) -> float | None:
        return self._read.next_due(destination, now)

    def delivered(self, delivery: Delivery, at: float) -> "Deferred[None]":
        return self._note((_DONE, ("delivered", at, None, delivery.id)), (_RELEASE, (at, delivery.id)))

    def failed(self, delivery: Delivery, error: str, due: float, *, dead: bool) -> "Deferred[None]":
        if not dead:
            return self._note((_AGAIN, (due, error, delivery.id)))
        now = self._clock()
        return self._note((_DONE, ("dead", now, error, delivery.id)), (_RELEASE, (now, delivery.id)))

    def _note(self, *rows: tuple[Statement, Row]) -> "Deferred[None]":
        return self.commit(RowUnit(rows=list(rows))).addCallback(_done)

    def pending(self) -> Mapping[str, tuple[int, float | None]]:
        return self._read.pending()

    def count_pending(self) -> "Deferred[Mapping[str, tuple[int, float | None]]]":
        return self._in_thread(lambda reader: reader.pending())


@frozen
class CommandStore:
    """The store as a command sees it, for a moment and beside a running server: everything at once.

    `read` answers all questions of `IStore` directly. Use it in a `with` statement.
    """

    read: Reader
    _writer: Writer = field(repr=False)

    def unit(self) -> Unit:
        return RowUnit()

    def commit_now(self, unit: Unit) -> Sequence[StoredEvent]:
        """Make the unit durable. A running server notices within `POLL_SECONDS`. Raises `StoreError`."""
        assert isinstance(unit, RowUnit)
        (outcome,) = self._writer.write([unit]).outcomes
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def close(self) -> None:
        self.read.close()
        self._writer.close()

    def __enter__(self) -> "CommandStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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


def _done(_events: Sequence[StoredEvent]) -> None:
    return None


def _reader(path: str) -> Reader:
    connection = connect(path)
    try:
        connection.execute("PRAGMA query_only = ON")
        return Reader(connection)
    except BaseException:
        connection.close()
        raise
