"""Carries events from the store's outbox to their destinations, at least once and in order per call.

What an attempt is (a webhook, a CRM's API) is a `Sender`'s business; what waits, and behind what, is kept by
the store, so nothing is lost when the server ends at any moment.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import define, field
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from cti.logs import get_logger
from cti.reactors import Clock, DelayedCall
from cti.store.base import IStore, StoreError
from cti.store.records import Delivery, StoredEvent

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

    `retry_after`: seconds for which the destination wants to be left alone.
    """

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Sender(Protocol):
    """One destination."""

    async def send(self, delivery: Delivery) -> None:
        """Hand it over; returns once the destination has taken it, else raises `DeliveryFailed`.

        The same delivery may come again, with the same key, even when it was taken before. May be cancelled.
        """


@define(eq=False)
class _Route:
    """One destination, its attempts on their way, and when the next may begin."""

    name: str
    sender: Sender
    on_their_way: "dict[int, Deferred[None]]" = field(factory=dict)
    failures: int = 0  # in a row
    not_before: float = 0.0
    timer: DelayedCall | None = None


class Outbox(Service):
    """Delivers what waits in `store` to `destinations` while it runs.

    `clock` gives seconds since the epoch, `jitter` numbers from 0 to 1 (exclusive), which lengthen each pause
    by up to a half. After a failed attempt a delivery waits 1, 2, 4 ... s, up to `longest_pause`; while a
    destination fails it is probed with one delivery at a time, `probe_pause` apart, whichever is due. A
    delivery older than `give_up` seconds at a failure is dead: logged as an error, kept in the outbox, and its
    call's next one has its turn.
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
    ) -> None:
        self._store = store
        self._routes = [_Route(name, sender) for name, sender in destinations.items()]
        self._reactor = reactor
        self._clock = clock
        self._jitter = jitter
        self._concurrent = concurrent
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._probe_pause = probe_pause
        self._give_up = give_up
        self._drain = drain
        self._listening = False
        self._woken: DelayedCall | None = None
        self._draining = False
        self._drained: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if not self._listening:
            self._listening = True
            self._store.on_events(self._events_came)
        self._wake()

    def stopService(self) -> "Deferred[None]":
        """Deliver what can be delivered now, for `drain` seconds at most; the rest waits in the store."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._woken is not None and self._woken.active():
            self._woken.cancel()
        for route in self._routes:
            self._set_timer(route, None)
        drained: Deferred[None] = Deferred()
        self._drained = drained
        self._draining = True
        for route in self._routes:
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
        for route in self._routes:
            for attempt in list(route.on_their_way.values()):
                attempt.cancel()

    def _report_drained(self) -> None:
        if self._drained is not None and not any(route.on_their_way for route in self._routes):
            drained, self._drained = self._drained, None
            self._draining = False
            drained.callback(None)

    def _events_came(self, events: Sequence[StoredEvent]) -> None:
        # Not at once: several groups may come in one turn, and who committed should go on first.
        if self.running and self._woken is None:
            self._woken = self._reactor.callLater(0, self._wake)

    def _wake(self) -> None:
        self._woken = None
        for route in self._routes:
            self._send_due(route)

    def _send_due(self, route: _Route) -> None:
        """Begin as many attempts as are due and allowed, and set the clock for the next ones."""
        if not self.running and (not self._draining or route.failures):
            return
        limit = 1 if route.failures else self._concurrent
        free = limit - len(route.on_their_way)
        if free <= 0:
            return  # The end of any attempt comes back here.
        now = self._clock()
        if now < route.not_before:
            self._set_timer(route, route.not_before - now)
            return
        try:
            for delivery in self._store.due(route.name, now, limit):
                if delivery.id not in route.on_their_way and free > 0:
                    free -= 1
                    self._begin(route, delivery)
            due = self._store.next_due(route.name, now)
        except StoreError as error:
            _log.warning("outbox.store", error=str(error))
            due = now + STORE_PAUSE
        if self.running:
            self._set_timer(route, None if due is None else due - now)

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
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            _log.error("outbox.broke_off", destination=route.name, key=delivery.key, error=repr(result.value))
        # Later, since an attempt may end within `_send_due`, which is not made to be entered twice.
        self._reactor.callLater(0, self._go_on, route)

    def _go_on(self, route: _Route) -> None:
        self._send_due(route)
        self._report_drained()

    async def _attempt(self, route: _Route, delivery: Delivery) -> None:
        retry_after = None
        try:
            sending = Deferred.fromCoroutine(route.sender.send(delivery))
            sending.addTimeout(SEND_SECONDS, self._reactor)  # type: ignore[arg-type]
            await sending
        except DeliveryFailed as failure:
            error, retry_after = str(failure), failure.retry_after
        except defer.TimeoutError:
            error = f"no end of the attempt within {SEND_SECONDS:g} s"
        except CancelledError:
            raise
        except Exception as broken:  # noqa: BLE001 - an error in a sender must not lose the event
            # Its kind only: the text may hold secrets.
            error = f"the sender broke: {type(broken).__name__}"
        else:
            if route.failures:
                _log.info("outbox.recovered", destination=route.name, after_failures=route.failures)
            route.failures = 0
            route.not_before = 0.0
            await self._note(lambda: self._store.delivered(delivery, self._clock()))
            return
        await self._failed(route, delivery, error[:LONGEST_ERROR], retry_after)

    async def _failed(self, route: _Route, delivery: Delivery, error: str, retry_after: float | None) -> None:
        now = self._clock()
        if not route.failures:
            _log.warning("outbox.failing", destination=route.name, error=error)
        route.failures += 1
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
                attempts=delivery.attempts + 1,
                error=error,
            )
        await self._note(lambda: self._store.failed(delivery, error, now + pause, dead=dead))

    def _pause(self, failures: int, longest: float) -> float:
        base = min(self._first_pause * 2.0 ** min(failures, 30), longest / 1.5)
        return base * (1 + self._jitter() / 2)

    async def _note(self, write: "Callable[[], Deferred[None]]") -> None:
        """Write down what became of an attempt, however long the store cannot.

        Ended before that, the server makes the attempt again when it comes back.
        """
        while True:
            try:
                await write()
                return
            except StoreError as error:
                _log.warning("outbox.store", error=str(error))
            if not self.running:
                return
            await deferLater(self._reactor, STORE_PAUSE)  # type: ignore[arg-type]
