"""Erasures beside a running server: what it has in memory is forgotten, and calls that go on are waited for.

A command leaves word in the store and does what it can by itself; the server notices as it notices any change of the
store by somebody else. Who is on the phone at that moment is taken out once their call is over and written up.
"""

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.calls.life import mint_call_id
from cti.logs import get_logger
from cti.privacy.erasing import Erasing
from cti.privacy.pages import IErasures
from cti.privacy.traces import Subject
from cti.reactors import Clock, DelayedCall
from cti.store.base import StoreError
from cti.store.records import ErasureRecord

log = get_logger("cti.privacy")

#: Seconds between two looks while something is to be done.
AGAIN: Final = 5.0
#: Seconds before it is tried once more where another server has them on the phone, or something failed.
PATIENCE: Final = 60.0
#: Who left word and has not done it by then is gone.
ABANDONED: Final = 3600.0


class Erasures:
    """Those that are asked for here, and by commands."""

    def __init__(
        self,
        store: IErasures,
        erasing: Callable[[], Erasing],
        forget: Callable[[Subject], None],
        is_live: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        """`forget`: all that is in memory of somebody. `is_live`: of a call's id, whether it is in memory."""
        self._store = store
        self._erasing = erasing
        self._forget = forget
        self._is_live = is_live
        self._clock = clock
        self._running: set[str] = set()
        self._tried: dict[str, float] = {}
        self._timer: DelayedCall | None = None
        self._stopped = False

    async def ask(self, subject: Subject, directory: bool) -> ErasureRecord:
        """Take them out from now on; what was asked for is durable when this returns. Raises `StoreError`."""
        now = self._clock.seconds()
        erasure = ErasureRecord(mint_call_id(now), now, subject=subject.as_json(), directory=directory)
        unit = self._store.unit()
        unit.put_erasure(erasure)
        await self._store.commit(unit)
        self._begin(erasure)
        return erasure

    def look(self) -> None:
        """See what there is to do: at the start, and when another process has written."""
        if self._stopped:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        try:
            waiting = self._store.erasures()
        except StoreError as error:
            log.error("who is to be erased is not known", why=str(error))
            waiting = ()
        self._tried = {each.id: self._tried[each.id] for each in waiting if each.id in self._tried}
        for erasure in waiting:
            if erasure.subject is not None:
                self._forget(Subject.from_json(erasure.subject))
            if self._is_due(erasure):
                self._begin(erasure)
        if waiting:
            self._timer = self._clock.callLater(AGAIN, self.look)

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _is_due(self, erasure: ErasureRecord) -> bool:
        now = self._clock.seconds()
        if now - self._tried.get(erasure.id, float("-inf")) < PATIENCE:
            return False
        if erasure.state == "asked":
            # Whoever asked is doing it.
            return now - erasure.asked >= ABANDONED
        waits = (erasure.report or {}).get("waits", ())
        return not any(self._is_live(call) for call in waits)

    def _begin(self, erasure: ErasureRecord) -> None:
        if erasure.id in self._running:
            return
        self._running.add(erasure.id)
        self._tried[erasure.id] = self._clock.seconds()
        if erasure.subject is not None:
            self._forget(Subject.from_json(erasure.subject))
        doing = Deferred.fromCoroutine(self._erasing().erase(erasure))
        doing.addBoth(self._done, erasure)

    def _done(self, outcome: "ErasureRecord | Failure", erasure: ErasureRecord) -> None:
        self._running.discard(erasure.id)
        if isinstance(outcome, Failure):
            log.error("somebody could not be erased", erasure=erasure.id, exception=outcome.getTraceback())
        elif erasure.subject is not None:
            # Who was looked up meanwhile is in memory again.
            self._forget(Subject.from_json(erasure.subject))
        if not self._stopped and (self._timer is None or not self._timer.active()):
            self._timer = self._clock.callLater(AGAIN, self.look)
