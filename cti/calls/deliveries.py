"""The outbox for people: what is on its way to whom, what became of it, and what somebody decides of it.

Delivering is `outbox`'s business; the web and the command line show what is told here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
from twisted.internet.defer import Deferred

from cti.calls.outbox import DestinationState
from cti.calls.present import iso
from cti.store.base import DeliveryDetail, OutboxFilter, Unit
from cti.store.records import AttemptRecord, OutboxRecord, StoredEvent

STATES: Final = ("waiting", "delivered", "dead", "dropped")
#: What can be decided, and of deliveries in which states.
DECISIONS: Final[Mapping[str, Sequence[str]]] = {"retry": STATES, "drop": ("waiting", "dead")}
#: Deliveries that one transaction changes: the writer of calls waits for it.
AT_ONCE: Final = 500
#: ... and that one request changes.
MOST: Final = 5000


class IOutboxStore(Protocol):
    """What is needed of a store."""

    def outbox(
        self, where: OutboxFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[OutboxRecord], str | None]]": ...
    def delivery(self, id: int) -> "Deferred[DeliveryDetail | None]": ...
    def count_pending(self) -> "Deferred[Mapping[str, tuple[int, float | None]]]": ...
    def count_dead(self) -> "Deferred[Mapping[str, int]]": ...
    def unit(self) -> Unit: ...
    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]": ...


class IDelivering(Protocol):
    """Of the outbox, what is asked here."""

    def state(self) -> Mapping[str, DestinationState]: ...

    def look(self) -> None:
        """There may be something to deliver that was not due before."""


class Deliveries:
    """Shows and changes what is in the outbox. Raises `StoreError`, and `ValueError` for a cursor that is none."""

    def __init__(self, store: IOutboxStore, outbox: IDelivering, now: Callable[[], float]) -> None:
        self._store = store
        self._outbox = outbox
        self._now = now

    async def page(
        self, where: OutboxFilter, limit: int, cursor: str | None
    ) -> tuple[Sequence[OutboxRecord], str | None]:
        return await self._store.outbox(where, limit, cursor)

    async def one(self, id: int) -> DeliveryDetail | None:
        return await self._store.delivery(id)

    async def destinations(self) -> Sequence[Mapping[str, Any]]:
        """Each that is configured, and each for which something waits all the same."""
        now = self._now()
        waiting, dead = await self._store.count_pending(), await self._store.count_dead()
        states = self._outbox.state()
        rows = []
        for name in sorted({*states, *waiting, *dead}):
            count, oldest = waiting.get(name, (0, None))
            state = states.get(name)
            again = state is not None and state.failures > 0 and state.not_before > now
            rows.append(
                {
                    "name": name,
                    "configured": state is not None,
                    "waiting": count,
                    "oldest_seconds": None if oldest is None else round(max(0.0, now - oldest), 3),
                    "dead": dead.get(name, 0),
                    "failures": 0 if state is None else state.failures,
                    "error": None if state is None else state.error,
                    "next_attempt": iso(state.not_before) if state is not None and again else None,
                }
            )
        return rows

    async def decide(self, decision: str, where: OutboxFilter) -> tuple[int, bool]:
        """Have deliveries tried again (`retry`) or not delivered (`drop`); how many, and whether there are more.

        Of those whose state does not allow it, nothing is changed.
        """
        count, after = 0, None
        while True:
            page, after = await self._store.outbox(where, AT_ONCE, after)
            unit = self._store.unit()
            count += decided(unit, decision, page, self._now())
            await self._store.commit(unit)
            self._outbox.look()
            if after is None or count >= MOST:
                return count, after is not None


def decided(unit: Unit, decision: str, page: Sequence[OutboxRecord], at: float) -> int:
    """Put what is decided of these into the unit; of how many."""
    chosen = [each.id for each in page if each.state in DECISIONS[decision]]
    for id in chosen:
        if decision == "retry":
            unit.retry_delivery(id, at)
        else:
            unit.drop_delivery(id, at)
    return len(chosen)


def delivery_json(record: OutboxRecord) -> dict[str, Any]:
    """A delivery, in the API and for the command line."""
    return {
        "id": record.id,
        "destination": record.destination,
        "seq": record.seq,
        "call": record.call,
        "type": record.type,
        "key": record.key,
        "state": record.state,
        "created": iso(record.created),
        "attempts": record.attempts,
        "due": None if record.due is None else iso(record.due),
        "finished": None if record.finished is None else iso(record.finished),
        "error": record.error,
    }


def attempt_json(attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "at": iso(attempt.at),
        "ms": round(attempt.took * 1000),
        "status": attempt.status,
        "error": attempt.error,
    }


def detail_json(detail: DeliveryDetail) -> dict[str, Any]:
    """The same with what is delivered, and with the delivery log."""
    return {
        **delivery_json(detail.delivery),
        "event": orjson.loads(detail.event.data),
        "log": [attempt_json(attempt) for attempt in detail.attempts],
    }
