"""A store whose database is asked and written by threads: one writes what the reactor hands it, many units at a time.

A commit's cost is the flush to the disk, so units that arrive during one commit share the next. Small reads are
answered in the reactor, pages of the log by threads. Which database it is, is said by who derives from this.
"""

import os
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

from cti.store.appender import Appender, Subscribers, Written
from cti.store.base import (
    CallbackFilter,
    CallDetail,
    CallFilter,
    DeliveryDetail,
    Destinations,
    OutboxFilter,
    StoreError,
    StoreFull,
    Unit,
)
from cti.store.counts import Count
from cti.store.queries import Reader
from cti.store.records import (
    AgentRecord,
    AskedOnce,
    AuditRecord,
    CallbackRecord,
    CallRecord,
    ChoiceRecord,
    Delivery,
    ErasureRecord,
    GapRecord,
    Json,
    LifeRecord,
    ListedNumber,
    NewcomerRecord,
    OutboxRecord,
    PastCalls,
    PeriodRecord,
    ReservationRecord,
    SessionRecord,
    StoredEvent,
    TokenRecord,
    UserRecord,
    WrapUpRecord,
)
from cti.store.rows import (
    Row,
    RowUnit,
)

T = TypeVar("T")

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


class FromThread(Protocol):
    """Of a reactor, what threads need to report back; and its clock."""

    def callFromThread(self, call: Callable[..., Any], /, *args: Any, **keywords: Any) -> Any: ...

    def callLater(self, delay: float, call: Callable[..., Any], /) -> Any: ...


#: A unit on its way, and who hears of it.
_Waiting = tuple[RowUnit, "Deferred[Sequence[StoredEvent]]"]
_Entry = tuple[list[_Waiting], bool, int]


class ThreadedStore:
    """`IStore` over a database.

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
        self._place = os.fspath(path)
        self._reactor = reactor
        self._destinations = destinations
        self._clock = clock
        self._max_waiting = max_waiting
        self._observe_commit = observe_commit
        self._listeners: list[Callable[[Sequence[StoredEvent]], None]] = []
        self._foreign_listeners: list[Callable[[], None]] = []
        self._leads = False
        self._leading_listeners: list[Callable[[], None]] = []
        # Each entry: units, whether somebody waits for the last of them, and in which round they were handed in.
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._put_back: _Entry | None = None
        # What was handed in before it was known that the database is in trouble fails with the first of it, so that
        # nothing becomes durable before what came before it. What is handed in afterwards is tried.
        self._round = 0
        self._kept: list[_Waiting] = []
        self._kept_until_later = False
        # When each unit was handed in that is not written yet, in order (monotonic).
        self._handed_in: deque[float] = deque()
        self._fault: str | None = None
        self._reading = 0
        self._idle_readers: SimpleQueue[Reader] = SimpleQueue()
        self._readers: list[Reader] = []
        self._pool = ThreadPool(0, READ_THREADS, "cti-store-read")
        self._writer: Appender | None = None
        self._open = False
        self._stopped: Deferred[None] = Deferred()

    @property
    def place(self) -> str:
        """The database, as people may see it."""
        return self._place

    def start(self) -> None:
        if self._open:
            raise StoreError("the store has been started already")
        self._writer = writer = self._open_writer()
        try:
            self._readers.append(self._open_reader(at_once=True))
            for _ in range(READ_THREADS):
                self._readers.append(self._open_reader(at_once=False))
        except BaseException:
            for reader in self._readers:
                reader.close()
            writer.close()
            raise
        self._read, *others = self._readers
        for reader in others:
            self._idle_readers.put(reader)
        self._pool.start()
        self._leads = writer.leads()
        # A daemon thread, so that a process whose reactor died can end.
        self._thread = Thread(target=self._run, args=(writer,), name="cti-store-write", daemon=True)
        self._open = True
        self._thread.start()

    def _open_writer(self) -> Appender:
        raise NotImplementedError

    def _open_reader(self, *, at_once: bool) -> Reader:
        """`at_once`: the reactor asks, and must not be kept."""
        raise NotImplementedError

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
                StoreFull(f"{waiting} units wait to be written to {self.place}: the disk is too slow")
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

    def commit_for_caller(self, unit: Unit) -> "Deferred[Sequence[StoredEvent]]":
        return self.commit(unit)

    def _leisure_is_over(self) -> None:
        self._kept_until_later = False
        self._hand_over(hurried=False)

    def _hand_over(self, *, hurried: bool) -> None:
        if self._kept:
            kept, self._kept = self._kept, []
            self._queue.put((kept, hurried, self._round))

    def writing(self) -> str | None:
        if not self._open:
            return "the store is not running"
        if self._fault is not None:
            return self._fault
        waits = time.monotonic() - self._handed_in[0] if self._handed_in else 0.0
        if waits > STUCK_SECONDS:
            return f"a unit has waited for {waits:.1f} s to be written to {self.place}"
        return None

    def on_events(self, listener: Callable[[Sequence[StoredEvent]], None]) -> None:
        self._listeners.append(listener)

    def on_foreign_change(self, listener: Callable[[], None]) -> None:
        self._foreign_listeners.append(listener)

    @property
    def leads(self) -> bool:
        return self._leads

    def on_leading(self, listener: Callable[[], None]) -> None:
        self._leading_listeners.append(listener)

    # In the writing thread.

    def _run(self, writer: Appender) -> None:
        from_thread = self._reactor.callFromThread
        polled = time.monotonic()
        wrote = probed = 0.0
        fault: str | None = None
        failed = -1
        leads = self._leads
        running = True
        while running:
            group, hurried, round, running = self._take(wrote + BUSY_SECONDS_APART)
            if group:
                if round > failed:
                    written = writer.write([unit for unit, _ in group])
                else:
                    why = fault or "the database was in trouble"
                    written = Written([], [StoreError(why) for _ in group], why)
                if written.fault is not None:
                    failed = round
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
                if leads != (leads := writer.leads()):
                    from_thread(self._lead, leads)
        writer.close()
        # Behind those whom `_deliver` still has to tell.
        from_thread(from_thread, self._close)

    def _take(self, busy_until: float) -> tuple[list[_Waiting], bool, int, bool]:
        """What waits, at least for a moment; whether somebody does for it; its round; and whether more may come."""
        group: list[_Waiting] = []
        hurried, round = False, 0
        try:
            entry, self._put_back = self._put_back, None
            if entry is None:
                entry = self._queue.get(timeout=POLL_SECONDS)
            if entry is not None:
                round = entry[2]
                if time.monotonic() < busy_until:
                    time.sleep(GATHER_SECONDS)
            while entry is not None:
                if entry[2] != round:
                    self._put_back = entry
                    return group, hurried, round, True
                group += entry[0]
                hurried = hurried or entry[1]
                if len(group) >= LARGEST_GROUP:
                    return group, hurried, round, True
                entry = self._queue.get_nowait()
        except Empty:
            return group, hurried, round, True
        return group, hurried, round, False

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
        if written.fault is not None:
            self._hand_over(hurried=False)
            self._round += 1
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

    def _lead(self, leads: bool) -> None:
        self._leads = leads
        for listener in self._leading_listeners if leads else ():
            with self._log.failuresHandled("a listener to leading failed"):
                listener()

    def _tell(self, events: Sequence[StoredEvent]) -> None:
        if events:
            for listener in self._listeners:
                with self._log.failuresHandled("a listener to events failed"):
                    listener(events)

    # Reading.

    def agents(self) -> Sequence[AgentRecord]:
        return self._read.agents()

    def noted(self, writer: str) -> int:
        return self._read.noted(writer)

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

    def past_calls(
        self, number: str, called: Sequence[str], since: float, before: float, but: str | None = None
    ) -> "Deferred[PastCalls]":
        return self._in_thread(lambda reader: reader.past_calls(number, called, since, before, but))

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

    def read(self, question: Callable[[Reader], T]) -> "Deferred[T]":
        return self._in_thread(question)

    def erasures(self) -> Sequence[ErasureRecord]:
        return self._read.erasures()

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

    def counted(self, count: Count, since: float, until: float) -> "Deferred[Sequence[Row]]":
        return self._in_thread(lambda reader: reader.counted(count, since, until))

    def open_periods(self) -> Sequence[PeriodRecord]:
        return self._read.open_periods()

    def last_life(self) -> LifeRecord | None:
        return self._read.last_life()

    def events_after(self, seq: int, limit: int, agent: str | None = None) -> Sequence[StoredEvent]:
        return self._read.events_after(seq, limit, agent)

    def event_range(self) -> tuple[int, int]:
        return self._read.event_range()

    # The outbox.

    def due(self, destination: str, now: float, limit: int) -> Sequence[Delivery]:
        return self._read.due(destination, now, limit)

    def next_due(self, destination: str, now: float) -> float | None:
        return self._read.next_due(destination, now)

    def outbox(
        self, where: OutboxFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[OutboxRecord], str | None]]":
        return self._in_thread(lambda reader: reader.outbox(where, limit, after))

    def delivery(self, id: int) -> "Deferred[DeliveryDetail | None]":
        return self._in_thread(lambda reader: reader.delivery(id))

    def count_dead(self) -> "Deferred[Mapping[str, int]]":
        return self._in_thread(Reader.dead)

    def subscribe(self, destinations: Destinations) -> None:
        self._destinations = destinations
        if self._writer is not None:
            # The writing thread looks there for each event: from some event on it is these.
            self._writer.subscribers = Subscribers(destinations)

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
    _writer: Appender = field(repr=False)

    def unit(self) -> Unit:
        return RowUnit()

    def commit_now(self, unit: Unit) -> Sequence[StoredEvent]:
        """Make the unit durable. A running server notices within `POLL_SECONDS`. Raises `StoreError`."""
        assert isinstance(unit, RowUnit)
        (outcome,) = self._writer.write([unit]).outcomes
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def commit_together(self, units: Sequence[RowUnit]) -> Sequence[Sequence[StoredEvent] | StoreError]:
        """All of them in one transaction, but for those that the database refuses. Raises `StoreError`."""
        written = self._writer.write(units)
        if written.fault is not None:
            raise StoreError(written.fault)
        return written.outcomes

    def close(self) -> None:
        self.read.close()
        self._writer.close()

    def __enter__(self) -> "CommandStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
