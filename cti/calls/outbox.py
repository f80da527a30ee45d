"""Carries events from the store's outbox to their destinations, at least once and in order per call.

What an attempt is (a webhook, a CRM's API) is a `Sender`'s business; what waits, and behind what, is kept by
the store, so nothing is lost when the server ends at any moment.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from cti.logs import get_logger
from cti.reactors import Clock, DelayedCall
from cti.store.base import IStore, StoreError, Unit
from cti.store.records import AttemptRecord, Delivery, StoredEvent

_log = get_logger(__name__)

CONCURRENT = 8  # calls on their way to one destination
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 600.0
PROBE_PAUSE = 5.0  # between attempts at a destination whose last attempt failed, at most
LONGEST_RETRY_AFTER = 3600.0  # a receiver may not put us off for longer at a time
GIVE_UP_SECONDS = 7 * 86400.0
SEND_SECONDS = 60.0  # an attempt that a sender does not end by itself
DRAIN_SECONDS = 5.0
STORE_PAUSE = 1.0  # before the store is asked again after it failed
LONGEST_ERROR = 500  # characters kept of what went wrong


class DeliveryFailed(Exception):
    """The destination did not take it. The text holds no secrets; it is shown to people.

    `retry_after`: seconds for which the destination wants to be left alone. `status`: what a web server answered.
    """

    def __init__(self, text: str, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.status = status


class DeliveryPostponed(Exception):
    """It has to wait for so many `seconds`, whatever becomes of others: its destination is not at fault."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


class Sender(Protocol):
    """One destination."""

    async def send(self, delivery: Delivery) -> int | None:
        """Hand it over; returns once the destination has taken it, else raises `DeliveryFailed`.

        Raises `DeliveryPostponed` if it is not to be tried now. What is returned is the status of a web server's
        answer, None where none was asked. The same delivery may come again, with the same key, even when it was
        taken before. May be cancelled.
        """


@define(eq=False)
class _Route:
    """One destination, its attempts on their way, and when the next may begin."""

    name: str
    sender: Sender
    on_their_way: "dict[int, Deferred[None]]" = field(factory=dict)
    failures: int = 0  # in a row
    error: str | None = None  # of the last of them
    not_before: float = 0.0
    timer: DelayedCall | None = None
    look: "Deferred[None] | None" = None  # at the store, for what is due
    look_again: bool = False
    ended_meanwhile: set[int] = field(factory=set)


@frozen
class DestinationState:
    """How a destination takes what it is sent: failures in a row, what the last one said, when it is tried again."""

    failures: int
    error: str | None
    not_before: float


class Outbox(Service):
    """Delivers what waits in `store` to `destinations` while it runs and leads.

    `clock` gives seconds since the epoch, `jitter` numbers from 0 to 1 (exclusive), which lengthen each pause
    by up to a half. After a failed attempt a delivery waits 1, 2, 4 ... s, up to `longest_pause`; while a
    destination fails it is probed with one delivery at a time, `probe_pause` apart, whichever is due. A
    delivery older than `give_up` seconds at a failure is dead: logged as an error, kept in the outbox, and its
    call's next one has its turn. `observe` hears of each attempt: at which destination, and whether it was
    `delivered`, `failed`, or given up (`dead`).
    """

    def __init__(
        self,
        store: IStore,
        destinations: Mapping[str, Sender],
        reactor: Clock,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        concurrent: int = CONCURRENT,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
        probe_pause: float = PROBE_PAUSE,
        give_up: float = GIVE_UP_SECONDS,
        drain: float = DRAIN_SECONDS,
        observe: Callable[[str, str], object] | None = None,
    ) -> None:
        self._store = store
        self._routes = {name: _Route(name, sender) for name, sender in destinations.items()}
        self._reactor = reactor
        self._clock = clock
        self._jitter = jitter
        self._concurrent = concurrent
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._probe_pause = probe_pause
        self._give_up = give_up
        self._drain = drain
        self._observe = observe
        self._listening = False
        self._woken: DelayedCall | None = None
        self._draining = False
        self._drained: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if not self._listening:
            self._listening = True
            self._store.on_events(self._events_came)
            # A command may have had something tried again.
            self._store.on_foreign_change(self.look)
            self._store.on_leading(self.look)
        self._wake()

    def use(self, destinations: Mapping[str, Sender], give_up: float) -> None:
        """These are the destinations from now on, and all of them are tried at once.

        What is on its way goes on; what waits for one that is gone, waits in the store.
        """
        for name in self._routes.keys() - destinations.keys():
            self._set_timer(self._routes.pop(name), None)
        for name, sender in destinations.items():
            route = self._routes.setdefault(name, _Route(name, sender))
            route.sender, route.not_before = sender, 0.0
        self._give_up = give_up
        self.look()

    def state(self) -> Mapping[str, DestinationState]:
        """How each destination does at present."""
        return {
            name: DestinationState(route.failures, route.error, route.not_before)
            for name, route in self._routes.items()
        }

    def stopService(self) -> "Deferred[None]":
        """Deliver what can be delivered now, for `drain` seconds at most; the rest waits in the store."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._woken is not None and self._woken.active():
            self._woken.cancel()
        for route in self._routes.values():
            self._set_timer(route, None)
        drained: Deferred[None] = Deferred()
        self._drained = drained
        self._draining = True
        for route in self._routes.values():
            self._send_due(route)
        end = self._reactor.callLater(self._drain, self._stop_attempts)

        def stopped(result: None) -> None:
            if end.active():
                end.cancel()
            return result

        drained.addCallback(stopped)
        self._report_drained()
        return drained

    def _stop_attempts(self) -> None:
        self._draining = False
        for route in self._routes.values():
            if route.look is not None:
                route.look.cancel()
            for attempt in list(route.on_their_way.values()):
                attempt.cancel()

    def _report_drained(self) -> None:
        if self._drained is not None and not any(
            route.on_their_way or route.look for route in self._routes.values()
        ):
            drained, self._drained = self._drained, None
            self._draining = False
            drained.callback(None)

    def _events_came(self, events: Sequence[StoredEvent]) -> None:
        self.look()

    def look(self) -> None:
        """There may be something to deliver that was not due before."""
        # Not at once: several groups may come in one turn, and who committed should go on first.
        if self.running and self._woken is None:
            self._woken = self._reactor.callLater(0, self._wake)

    def _wake(self) -> None:
        self._woken = None
        for route in self._routes.values():
            self._send_due(route)

    def _send_due(self, route: _Route) -> None:
        """Begin as many attempts as are due and allowed, and set the clock for the next ones.

        One look at a time: whoever comes while one is taken has another one taken after it.
        """
        if route.look is not None:
            route.look_again = True
            return
        route.look = look = Deferred.fromCoroutine(self._look_at(route))
        look.addBoth(self._looked, route)

    async def _look_at(self, route: _Route) -> None:
        limit = self._allowed(route)
        now = self._clock()
        if limit <= len(route.on_their_way):
            return  # The end of any attempt comes back here.
        if now < route.not_before:
            self._set_timer(route, route.not_before - now)
            return
        route.ended_meanwhile.clear()
        try:
            found = await maybeDeferred(self._store.due, route.name, now, limit)
            due = await maybeDeferred(self._store.next_due, route.name, now)
        except StoreError as error:
            _log.warning("outbox.store", error=str(error))
            found, due = [], now + STORE_PAUSE
        for delivery in found:
            # What has ended since it was asked for may stand there as it was before.
            known = delivery.id in route.on_their_way or delivery.id in route.ended_meanwhile
            if not known and len(route.on_their_way) < self._allowed(route):
                self._begin(route, delivery)
        if self.running and self._routes.get(route.name) is route:
            self._set_timer(route, None if due is None else due - now)

    def _allowed(self, route: _Route) -> int:
        """How many attempts may be on their way there at present."""
        if self._routes.get(route.name) is not route or (not self.running and not self._draining):
            return 0
        if not self._store.leads:
            # Another server on this database delivers: what comes from two may come twice, and out of order.
            return 0
        if route.failures:
            return 1 if self.running else 0
        return self._concurrent

    def _looked(self, result: object, route: _Route) -> None:
        route.look = None
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            _log.error("outbox.look", destination=route.name, error=repr(result.value))
        if route.look_again:
            route.look_again = False
            self._reactor.callLater(0, self._go_on, route)
        else:
            self._report_drained()

    def _set_timer(self, route: _Route, delay: float | None) -> None:
        if route.timer is not None and route.timer.active():
            route.timer.cancel()
        route.timer = None if delay is None else self._reactor.callLater(delay, self._send_due, route)

    def _begin(self, route: _Route, delivery: Delivery) -> None:
        attempt = Deferred.fromCoroutine(self._attempt(route, delivery))
        route.on_their_way[delivery.id] = attempt
        attempt.addBoth(self._ended, route, delivery)

    def _ended(self, result: object, route: _Route, delivery: Delivery) -> None:
        del route.on_their_way[delivery.id]
        if route.look is not None:
            route.ended_meanwhile.add(delivery.id)
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            _log.error("outbox.broke_off", destination=route.name, key=delivery.key, error=repr(result.value))
        # Later, since an attempt may end while the look that began it goes on.
        self._reactor.callLater(0, self._go_on, route)

    def _go_on(self, route: _Route) -> None:
        self._send_due(route)
        self._report_drained()

    async def _attempt(self, route: _Route, delivery: Delivery) -> None:
        began = self._clock()
        status, retry_after, postponed = None, None, None
        try:
            sending = Deferred.fromCoroutine(route.sender.send(delivery))
            sending.addTimeout(SEND_SECONDS, self._reactor)  # type: ignore[arg-type]
            status = await sending
            error = None
        except DeliveryFailed as failure:
            error, status, retry_after = str(failure)[:LONGEST_ERROR], failure.status, failure.retry_after
        except DeliveryPostponed as later:
            error, postponed = str(later), later.seconds
        except defer.TimeoutError:
            error = f"no end of the attempt within {SEND_SECONDS:g} s"
        except CancelledError:
            raise
        except Exception as broken:  # noqa: BLE001 - an error in a sender must not lose the event
            # Its kind only: the text may hold secrets.
            error = f"the sender broke: {type(broken).__name__}"
        took = round(max(0.0, self._clock() - began), 3)
        attempt = AttemptRecord(delivery.id, delivery.attempts + 1, began, took, status, error)
        if postponed is not None:
            due = self._clock() + postponed
            await self._note(lambda unit: unit.put_failed(attempt, due))
            return
        if error is not None:
            await self._failed(route, delivery, attempt, error, retry_after)
            return
        if route.failures:
            _log.info("outbox.recovered", destination=route.name, after_failures=route.failures)
        route.failures, route.error, route.not_before = 0, None, 0.0
        self._tell(route, "delivered")
        await self._note(lambda unit: unit.put_delivered(attempt))

    async def _failed(
        self, route: _Route, delivery: Delivery, attempt: AttemptRecord, error: str, retry_after: float | None
    ) -> None:
        now = self._clock()
        if not route.failures:
            _log.warning("outbox.failing", destination=route.name, error=error)
        route.failures += 1
        route.error = error
        left_alone = min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)
        pause = max(self._pause(delivery.attempts, self._longest_pause), left_alone)
        probe = max(self._pause(route.failures - 1, self._probe_pause), left_alone)
        route.not_before = max(route.not_before, now + probe)
        dead = now - delivery.created >= self._give_up
        if dead:
            _log.error(
                "outbox.dead",
                destination=route.name,
                key=delivery.key,
                type=delivery.type,
                call=delivery.call,
                attempts=attempt.number,
                error=error,
            )
        self._tell(route, "dead" if dead else "failed")
        await self._note(lambda unit: unit.put_failed(attempt, None if dead else now + pause))

    def _tell(self, route: _Route, outcome: str) -> None:
        if self._observe is not None:
            self._observe(route.name, outcome)

    def _pause(self, failures: int, longest: float) -> float:
        base = min(self._first_pause * 2.0 ** min(failures, 30), longest / 1.5)
        return base * (1 + self._jitter() / 2)

    async def _note(self, write: Callable[[Unit], None]) -> None:
        """Write down what became of an attempt, however long the store cannot.

        Ended before that, the server makes the attempt again when it comes back.
        """
        while True:
            unit = self._store.unit()
            write(unit)
            try:
                await self._store.commit(unit)
                return
            except StoreError as error:
                _log.warning("outbox.store", error=str(error))
            if not self.running:
                return
            await deferLater(self._reactor, STORE_PAUSE)  # type: ignore[arg-type]
