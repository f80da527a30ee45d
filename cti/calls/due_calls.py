"""Calls that were planned are made at their time: by their owner, or by whoever of their groups is idle for longest.

Looks each second. What a call is, and what becomes of one that reached nobody, is `callbacks`'; which hours are kind,
and how long the pauses are, is `calling_times`'.
"""

from collections.abc import Callable, Hashable, Iterator
from heapq import nsmallest
from itertools import chain
from operator import attrgetter
from typing import Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.agents.roster import Roster
from cti.calls.callbacks import CALLS_US, NOT_DIALLED, NOT_MADE, NOT_READY, Callbacks
from cti.calls.calling_times import CallingTimes
from cti.calls.control import Asker, BadTarget, ControlError, NotNow
from cti.calls.log import CallLog
from cti.logs import get_logger
from cti.store.base import StoreError
from cti.store.records import CallbackRecord
from routing.facts import AgentFacts

log = get_logger("cti.calls.due_calls")

#: How many are dealt with at once, of however many are due: each may wait for the store, and for Asterisk.
AT_ONCE: Final = 10
#: Of a group, who are tried in turn: who is ready may have no phone that rings first.
_CANDIDATES: Final = 5
#: Seconds between two times that lost calls are looked for.
_LOST: Final = 30.0


class DueCalls:
    """Makes what is due, one after the other for each agent, or group."""

    def __init__(
        self,
        *,
        callbacks: Callbacks,
        calls: CallLog,
        roster: Roster,
        times: Callable[[], CallingTimes],
        now: Callable[[], float],
    ) -> None:
        self._callbacks = callbacks
        self._calls = calls
        self._roster = roster
        self._times = times
        self._now = now
        # Whose turn it is at each line: who waits for the same agents. And lines that wait, until when.
        self._at_work: set[Hashable] = set()
        self._waiting: dict[Hashable, float] = {}
        self._tidying = False
        self._settled = float("-inf")

    def look(self) -> None:
        """Do what is to be done now."""
        at = self._now()
        if not self._tidying:
            self._tidying = True
            Deferred.fromCoroutine(self._tidy(at)).addErrback(_failed).addBoth(self._tidied)
        # A clock that was set back makes nobody wait for longer than the pause.
        longest = at + self._pause
        self._waiting = {line: until for line, until in self._waiting.items() if at < until <= longest}
        for record in self._callbacks.due():
            if len(self._at_work) >= AT_ONCE:
                break
            line = _line(record)
            if line not in self._at_work and line not in self._waiting:
                self._at_work.add(line)
                Deferred.fromCoroutine(self._take(record, line)).addErrback(_failed).addBoth(self._done, line)

    @property
    def _pause(self) -> float:
        return 60.0 * self._times().settings.put_off

    async def _tidy(self, at: float) -> None:
        await self._callbacks.disown()
        if not 0 <= at - self._settled < _LOST:
            self._settled = at
            await self._callbacks.settle()

    async def _take(self, record: CallbackRecord, line: Hashable) -> None:
        at, times = self._now(), self._times()
        kind = times.planned(record.number, at, record.anyway)
        if kind > at:
            # It has waited for somebody until the evening.
            await self._callbacks.put_off(record.id, kind, record.why)
            return
        # Until it is known better, also should the store fail.
        self._waiting[line] = at + self._pause
        why = await self._call(record)
        if why is None:
            self._waiting.pop(line, None)
        elif why == NOT_DIALLED:
            self._waiting.pop(line, None)
            await self._callbacks.give_up(record.id, why)
        else:
            until = times.put_off(record.number, self._now(), record.anyway)
            await self._callbacks.put_off(record.id, until, why)

    async def _call(self, record: CallbackRecord) -> str | None:
        """None if somebody calls them, else why not, as `callbacks.WHY` has it. Raises `StoreError`."""
        if any(self._calls.from_number(record.number)):
            return CALLS_US
        for agent in nsmallest(_CANDIDATES, self._who(record), key=attrgetter("ease")):
            # The limit of calls in a minute is each agent's own.
            asker = Asker(f"callbacks of {agent.id}", "a planned call", agent.id, own_only=False)
            try:
                await self._callbacks.call(asker, record.id, agent.id)
            except NotNow:
                continue
            except BadTarget:
                return NOT_DIALLED
            except ControlError as error:
                log.warning("a planned call was not made", callback=record.id, why=type(error).__name__)
                return NOT_MADE
            return None
        return NOT_READY

    def _who(self, record: CallbackRecord) -> Iterator[AgentFacts]:
        """The agents who may make it, and are ready; some perhaps twice, which harms nobody."""
        if record.owner is not None:
            members: Iterator[AgentFacts] = iter(())
            named = [record.owner]
        else:
            groups = [self._roster.groups[group] for group in record.groups if group in self._roster.groups]
            members = chain.from_iterable(group.free() for group in groups)
            named = [*record.agents]
        yield from members
        for id in named:
            facts = self._roster.agents.get(id)
            if facts is not None and facts.why_not is None:
                yield facts

    def _done(self, _: object, line: Hashable) -> None:
        self._at_work.discard(line)

    def _tidied(self, _: object) -> None:
        self._tidying = False


def _line(record: CallbackRecord) -> Hashable:
    """What waits for the same agents is made one after the other."""
    return record.owner if record.owner is not None else (tuple(record.groups), tuple(record.agents))


def _failed(failure: Failure) -> None:
    if isinstance(failure.value, StoreError):
        log.error("a planned call could not be written down", why=str(failure.value))
    else:
        log.error("a planned call could not be dealt with", exception=failure.getTraceback())
