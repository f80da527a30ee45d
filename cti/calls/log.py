"""The calls that live now, and the one way by which anything about a call becomes durable."""

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from cti.agents.roster import AgentView
from cti.calls.life import LiveCall, State
from cti.logs import get_logger
from cti.store.base import IStore, StoreError, Unit
from cti.store.records import CallRecord, Key, StoredEvent

log = get_logger("cti.calls")

#: How many ends of calls are kept for another attempt to write them, and how often each is tried: for close to an
#: hour. What is given up is still in AstDB, and gets a shorter record when the store works again.
_ENDS_WAITING: Final = 10_000
_ATTEMPTS: Final = 100
#: Seconds between two attempts, at first and at most.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


#: Calls kept in mind at once; several thousand agents never have as many.
_KEPT = 20_000


class CallLog:
    """All calls between their first question and the end of their last channel.

    @ivar store: where they are written down.
    """

    def __init__(self, store: IStore, clock: Any, ended: Callable[[CallRecord], None]) -> None:
        """`clock` is the reactor's; `ended` is told of each call that is over, once it is durable."""
        self.store = store
        self._clock = clock
        self._ended = ended
        self._on_news: list[Callable[[Unit, LiveCall], None]] = []
        self._agents_also: Callable[[Unit, float, AgentView], None] | None = None
        self._agents_lost: Callable[[Collection[str]], None] | None = None
        self._news: dict[str, tuple[float, AgentView]] = {}
        self._calls: dict[str, LiveCall] = {}
        self._channels: dict[Key, LiveCall] = {}
        self._of_agent: dict[str, set[Key]] = {}
        self._ends_waiting: set[tuple[str, str | None]] = set()

    def on_news(self, also: Callable[[Unit, LiveCall], None]) -> None:
        """Before news of a call are written, `also` may add to them what else becomes true with them."""
        self._on_news.append(also)

    def on_agents(
        self,
        also: Callable[[Unit, float, AgentView], None],
        lost: Callable[[Collection[str]], None],
    ) -> None:
        """What `also` adds becomes true with an agent's news; `lost` hears whose could not be written."""
        self._agents_also, self._agents_lost = also, lost

    def restore(self) -> list[LiveCall]:
        """Take up the calls that were open when the server stopped."""
        restored = [LiveCall.restored(detail) for detail in self.store.open_calls()]
        for call in restored:
            self.keep(call)
        return restored

    def keep(self, call: LiveCall) -> None:
        """Know this call, and all its channels, from now on."""
        self._calls[call.id] = call
        if len(self._calls) > _KEPT:
            # Without AMI nobody says when calls end. The store has them; if one asks again, it is found there.
            oldest = next(iter(self._calls.values()))
            log.warning("more calls are open than are kept in mind; is AMI away?", call=oldest.id)
            self._forget(oldest)
        for key, channel in call.channels.items():
            self._channels[key] = call
            if channel.agent is not None:
                self._of_agent.setdefault(channel.agent, set()).add(key)

    def get(self, id: str) -> LiveCall | None:
        return self._calls.get(id)

    def of_channel(self, pbx: str, uniqueid: str) -> LiveCall | None:
        return self._channels.get((pbx, uniqueid))

    def of_agent(self, agent: str) -> list[LiveCall]:
        """The calls that a living channel of this agent's is part of, oldest first."""
        found = {}
        for key in self._of_agent.get(agent, ()):
            call = self._channels.get(key)
            if call is not None and any(channel.key == key for channel in call.living_of(agent)):
                found[call.id] = call
        return sorted(found.values(), key=lambda call: (call.record.started, call.id))

    def made_by(self, agent: str, parents: Container[str]) -> list[LiveCall]:
        """The consultations that this agent makes about calls of theirs; their own channel is in those."""
        if not self._of_agent.get(agent):
            return []
        return [
            call
            for call in self._calls.values()
            if call.record.parent is not None and call.record.parent in parents and call.record.agent == agent
        ]

    def consulted_from(self, agent: str) -> str | None:
        """The call that a new call of this agent's is a consultation of: they talk in it, or hold it."""
        return next((call.id for call in self.of_agent(agent) if agent in call.talking), None)

    def from_number(self, number: str) -> Iterable[LiveCall]:
        """The calls that this number (E.164) makes now."""
        return [call for call in self._calls.values() if call.record.from_number == number]

    def of_pbx(self, pbx: str) -> Iterable[LiveCall]:
        """The calls that one Asterisk knows of; a copy, so that they may end meanwhile."""
        return [
            call
            for call in self._calls.values()
            if call.record.pbx == pbx or any(channel.pbx == pbx for channel in call.living)
        ]

    def open(self) -> list[LiveCall]:
        """All of them; a copy, so that they may end meanwhile."""
        return list(self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)

    def unit(self) -> Unit:
        return self.store.unit()

    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]":
        """Make it durable and show it: events are on the screens when this fires. Fails with `StoreError`.

        `at_leisure`: nobody waits for it, and it may take a moment longer.
        """
        return self._commit(unit, lambda: self.store.commit(unit, at_leisure=at_leisure))

    def commit_for_caller(self, unit: Unit) -> "Deferred[Sequence[StoredEvent]]":
        """The same for what a caller waits for: not for long, as `IStore.commit_for_caller` says."""
        return self._commit(unit, lambda: self.store.commit_for_caller(unit))

    def _commit(
        self, unit: Unit, write: Callable[[], "Deferred[Sequence[StoredEvent]]"]
    ) -> "Deferred[Sequence[StoredEvent]]":
        told = self._tell_news(unit)
        written = write()
        if told and self._agents_lost is not None:
            written.addErrback(self._told_nobody, told, self._agents_lost)
        return written

    def agent_changed(self, view: AgentView) -> None:
        """An agent's state became another. It is told with whatever is written next, or by itself."""
        if not self._news:
            self._clock.callLater(0, self._write_news)
        self._news[view.id] = self._clock.seconds(), view

    def write(self, call: LiveCall, unit: Unit) -> "Deferred[bool]":
        """Make it durable, and tell whether that worked; nobody has to wait.

        News that could not be written are written once more by the end of the call. The end itself is tried
        again for a long while.
        """
        self._add_to(unit, call)
        if call.over and self._forget(call):
            return Deferred.fromCoroutine(self._write_end(call, unit))
        earlier, call.unwritten = call.unwritten, None
        if earlier is not None:
            # One in the making has no row of the call yet, and a channel of no call would be taken for a logged one.
            earlier.put_call(call.record)
            self.commit(earlier, at_leisure=True).addErrback(self._refused, call, earlier)
        written = self.commit(unit, at_leisure=True)
        return written.addCallbacks(lambda _: True, self._not_written, errbackArgs=(call,))

    def is_ending(self, pbx: str, uniqueid: str) -> bool:
        """Whether the call of this caller's channel is over, and its end not durable yet."""
        return (pbx, uniqueid) in self._ends_waiting

    async def _write_end(self, call: LiveCall, unit: Unit) -> bool:
        key = call.record.pbx, call.record.uniqueid
        self._ends_waiting.add(key)
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    if call.unwritten is not None:
                        # It is not over before its end is written.
                        living = evolve(call.record, state=str(State.ASKED), ended=None, outcome=None)
                        call.unwritten.put_call(living)
                        await self.commit(call.unwritten, at_leisure=True)
                        call.unwritten = None
                    await self.commit(unit, at_leisure=True)
                except StoreError as error:
                    log.error("the end of the call could not be written", call=call.id, why=str(error))
                else:
                    self._ended(call.record)
                    return True
                if len(self._ends_waiting) > _ENDS_WAITING:
                    break
                pause = min(_FIRST_PAUSE * 2.0**attempt, _LONGEST_PAUSE)
                await deferLater(self._clock, pause)
        finally:
            self._ends_waiting.discard(key)
        return False

    async def write_whole(self, call: LiveCall, unit: Unit) -> None:
        """Make a call durable that never lived here. Raises `StoreError`."""
        self._add_to(unit, call)
        await self.commit(unit)
        self._ended(call.record)

    def _add_to(self, unit: Unit, call: LiveCall) -> None:
        for also in self._on_news:
            try:
                also(unit, call)
            except Exception:
                # A fault in what follows from a call must not cost the call.
                log.exception("what follows from a call's news is not written", call=call.id)

    def _refused(self, failure: Failure, call: LiveCall, unit: Unit) -> None:
        self._not_written(failure, call)
        call.unwritten = call.unwritten or unit

    def _write_news(self) -> None:
        if self._news:
            self.commit(self.unit(), at_leisure=True).addErrback(self._news_lost)

    def _tell_news(self, unit: Unit) -> Collection[str]:
        for at, view in self._news.values():
            unit.emit(
                "agent.state",
                at,
                {"agent": view.id, "name": view.name, "state": view.state, "reason": view.reason},
                agents=(view.id,),
            )
            if self._agents_also is not None:
                self._agents_also(unit, at, view)
        told = tuple(self._news)
        self._news.clear()
        return told

    @staticmethod
    def _told_nobody(
        failure: Failure, agents: Collection[str], lost: Callable[[Collection[str]], None]
    ) -> Failure:
        lost(agents)
        return failure

    def _news_lost(self, failure: Failure) -> None:
        _only_store_errors(failure)
        log.error("the agents' news could not be written", why=str(failure.value))

    def _not_written(self, failure: Failure, call: LiveCall) -> bool:
        _only_store_errors(failure)
        log.error("the call's news could not be written", call=call.id, why=str(failure.value))
        return False

    def _forget(self, call: LiveCall) -> bool:
        """Whether it was known until now."""
        for key, channel in call.channels.items():
            if self._channels.get(key) is call:
                del self._channels[key]
            self._drop_agent(channel.agent, key)
        return self._calls.pop(call.id, None) is not None

    def _drop_agent(self, agent: str | None, key: Key) -> None:
        keys = self._of_agent.get(agent or "")
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._of_agent[agent or ""]


def _only_store_errors(failure: Failure) -> None:
    if not isinstance(failure.value, StoreError):
        failure.raiseException()
