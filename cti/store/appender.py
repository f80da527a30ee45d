"""Turns units into transactions, whichever database it is: who numbers the events, and what goes out with each.

What a database is told to begin a transaction, and how its errors are told apart, is said by who derives from this.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.logger import Logger

from cti.store.base import Destinations, RecordRefused, StoreError, Subscription
from cti.store.records import StoredEvent
from cti.store.rows import (
    FIRST_OF_LANE,
    EventDraft,
    Execute,
    Row,
    RowUnit,
    Statement,
    inserting,
    json_text,
    run_in_groups,
)

LAST_SEQ = "SELECT last_seq FROM store"
_SET_LAST_SEQ = "UPDATE store SET last_seq = ?"
_ADD_EVENT = inserting("events", ["seq", "type", "at", "call", "agents", "body"])
_ADD_EVENT_AGENT = inserting("event_agents", ["agent", "seq"])
_ADD_DELIVERY = inserting("outbox", ["destination", "seq", "lane", "key", "state", "created", "attempts"])


@frozen
class Written:
    """What became of a group of units: all new events in commit order, and each unit's own or its error.

    `fault` is the database's trouble, if it was not a unit's own; `last` the number of the newest event.
    """

    events: Sequence[StoredEvent]
    outcomes: Sequence[Sequence[StoredEvent] | StoreError]
    fault: str | None = None
    last: int = 0


class Subscribers:
    """Which destinations an event goes to."""

    _log = Logger()

    def __init__(self, destinations: Destinations) -> None:
        self._by_type: dict[str, list[tuple[str, Subscription]]] = {}
        for name, wanted in destinations.items():
            subscription = wanted if isinstance(wanted, Subscription) else Subscription(wanted)
            for type in subscription.types:
                self._by_type.setdefault(type, []).append((name, subscription))

    def of(self, draft: EventDraft) -> Sequence[str]:
        return [
            name
            for name, subscription in self._by_type.get(draft.type, ())
            if subscription.concerns is None or self._concerns(name, subscription.concerns, draft)
        ]

    def _concerns(self, name: str, concerns: Callable[[bytes], bool], draft: EventDraft) -> bool:
        try:
            return concerns(draft.body)
        except Exception:  # noqa: BLE001 - it must not keep a call from being written
            # Its sender looks at the event once more.
            self._log.failure("the filter of {name} does not understand {type}", name=name, type=draft.type)
            return True


class Appender:
    """The one appender of a process. Used by one thread at a time; knows no reactor."""

    #: What a single unit can be at fault for; anything else is the database's trouble, and so everybody's.
    unit_faults: tuple[type[Exception], ...] = ()

    def __init__(self, destinations: Destinations, clock: Callable[[], float]) -> None:
        self.subscribers = Subscribers(destinations)
        self._clock = clock
        self._store_id = ""
        self._seen = 0

    # What each database does in its own way.

    def close(self) -> None:
        raise NotImplementedError

    def foreign(self) -> Sequence[StoredEvent] | None:
        """None when nobody else has written since the last time; else the events written by others."""
        raise NotImplementedError

    def probe(self) -> str | None:
        """Write something that changes nothing; what kept it from being written, if anything did."""
        raise NotImplementedError

    def leads(self) -> bool:
        """Whether this process does what one of several servers on a database has to do for all of them."""
        return True

    def explain(self, error: Exception) -> str:
        """What went wrong and what would help, for the log; no secrets in it."""
        raise NotImplementedError

    def _within(self, work: Callable[[Execute], "Written"]) -> "Written":
        """Do `work` in one transaction, while nobody else writes; it is handed what executes a statement."""
        raise NotImplementedError

    def _one(self, execute: Execute, sql: str) -> Any:
        """The only value of the only row."""
        raise NotImplementedError

    def _events(self, after: int, last: int) -> list[StoredEvent]:
        """The events numbered above `after` up to `last`."""
        raise NotImplementedError

    # What is the same for all.

    def write(self, units: Sequence[RowUnit]) -> Written:
        """Make `units` durable in one transaction, except those that are at fault themselves."""
        try:
            try:
                return self._transaction(units, one_by_one=False)
            except self.unit_faults:
                # Savepoints cost every unit two statements, so they are used only once something is wrong.
                return self._transaction(units, one_by_one=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits is told and the thread lives
            text = self.explain(error)
            return Written([], [StoreError(text) for _ in units], text)

    def _transaction(self, units: Sequence[RowUnit], *, one_by_one: bool) -> Written:
        def work(execute: Execute) -> Written:
            before = self._one(execute, LAST_SEQ)
            news = self._events(self._seen, before) if before != self._seen else []
            now = self._clock()
            last = before
            outcomes: list[Sequence[StoredEvent] | StoreError] = []
            if not one_by_one:
                outcomes += self._apply(execute, units, last, now)
                last += sum(len(unit.events) for unit in units)
            else:
                for unit in units:
                    execute("SAVEPOINT unit", ())
                    try:
                        outcomes += self._apply(execute, [unit], last, now)
                        last += len(unit.events)
                    except self.unit_faults as error:
                        execute("ROLLBACK TO SAVEPOINT unit", ())
                        outcomes.append(RecordRefused(f"the database refused the record: {self.told(error)}"))
                    execute("RELEASE SAVEPOINT unit", ())
            if last != before:
                execute(_SET_LAST_SEQ, (last,))
            for outcome in outcomes:
                if not isinstance(outcome, StoreError):
                    news += outcome
            return Written(news, outcomes, last=last)

        written = self._within(work)
        self._seen = written.last
        return written

    def told(self, error: Exception) -> str:
        """What the database says of a record that it refuses."""
        return str(error)

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
                for destination in self.subscribers.of(draft):
                    deliveries = True
                    lane = draft.call or agents or ""
                    key = f"{draft.call or self._store_id}.{last}"
                    rows.append((_ADD_DELIVERY, (destination, last, lane, key, "waiting", now, 0)))
                events.append(draft.numbered(last))
            outcomes.append(events)
        run_in_groups(execute, rows)
        if deliveries:
            execute(FIRST_OF_LANE, (before,))
        return outcomes
